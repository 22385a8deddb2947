//! What is valid and will surprise.
//!
//! Takes the KubervisorServices that were read and everything else of the input; gives findings. Says nothing that
//! depends on what the cluster holds beside it.

pub mod doors;
mod policy;
mod queries;
mod selectors;

use super::finding::Finding;
use super::object::Object;
use super::validate::Policy;
use doors::Doors;

/// Everything that lint sees.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Every object of the input.
    pub objects: &'a [Object],
    /// Those of them that are KubervisorServices.
    pub policies: &'a [Policy<'a>],
    /// Services among them, and what is before and behind each.
    pub doors: &'a Doors<'a>,
}

/// All findings.
#[must_use]
pub fn lint(seen: Seen<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for policy in seen.policies {
        queries::lint(policy, &mut findings);
        policy::lint(policy, seen, &mut findings);
    }
    selectors::lint(seen, &mut findings);
    findings
}
