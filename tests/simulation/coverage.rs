//! What the runs reached. Gates, refusals and reasons have their words in the core, from the tables that its own code
//! uses: a new one is in the list here as soon as it is there, and once in the list it must be reached.

use std::collections::BTreeSet;

use kubervisor_core::budget::Limit;
use kubervisor_core::gates::Gate;
use kubervisor_core::plan::{Plan, RestoreReason, What, Why};
use kubervisor_core::words;

words! {
    fn action(what: &What) -> OWN {
        What::Cut(_) => "cut",
        What::KeepOut => "keep out",
        What::Pause { .. } => "pause",
        What::Evict { .. } => "evict",
        What::Forgive(_) => "forgive",
    } else {
        What::Restore { reason, .. } => reason.as_str(),
    }
}

pub fn actions() -> impl Iterator<Item = String> {
    OWN.iter().chain(RestoreReason::WORDS).map(|word| format!("action {word}"))
}

/// Those of gates are counted by gate.
pub fn refusals() -> impl Iterator<Item = String> {
    Limit::WORDS.iter().chain(Why::WORDS).map(|word| format!("refused {word}"))
}

/// What a plan shows that is worth a count. `former`: the gates of the last plan of this service.
pub fn of(plan: &Plan, former: &mut BTreeSet<&'static str>) -> Vec<String> {
    let mut found: Vec<_> = plan.actions.iter().map(|a| format!("action {}", action(&a.what))).collect();
    let refused = plan.refusals.iter().filter(|r| !matches!(r.why, Why::Gate(_)));
    found.extend(refused.map(|r| format!("refused {}", r.why.as_str())));
    let now: BTreeSet<_> = plan.report.gates.iter().map(Gate::as_str).collect();
    found.extend(now.difference(former).map(|g| format!("entered {g}")));
    found.extend(former.difference(&now).map(|g| format!("left {g}")));
    *former = now;
    found
}
