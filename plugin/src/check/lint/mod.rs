//! What is valid and will surprise.
//!
//! Takes the KubervisorServices that were read and everything else of the input; gives findings. Says nothing that
//! depends on what the cluster holds beside it.

mod policy;
mod queries;
pub mod selectors;

use super::finding::Finding;
use super::read::Object;
use super::validate::Policy;

/// Everything that lint sees.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Every object of the input.
    pub objects: &'a [Object],
    /// Those of them that are KubervisorServices.
    pub policies: &'a [Policy<'a>],
}

/// All findings.
#[must_use]
pub fn lint(seen: Seen<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let reached: Vec<_> = seen.policies.iter().map(|policy| selectors::reached(policy, seen)).collect();
    for (number, policy) in seen.policies.iter().enumerate() {
        queries::lint(policy, &mut findings);
        findings.extend(policy::rival(number, seen, &reached));
        policy::lint(policy, seen, &mut findings);
    }
    selectors::lint(seen, &mut findings);
    findings
}
