//! What the runs reached. The names of gates, refusals and reasons come from exhaustive matches: a new one does not
//! compile here before it is named, and once named it must be reached.

use std::collections::BTreeSet;

use kubervisor_core::budget::Limit;
use kubervisor_core::gates::Gate;
use kubervisor_core::plan::{Plan, RestoreReason, What, Why};

/// The word of a gate; of those below.
fn gate(gate: &Gate) -> &'static str {
    match gate {
        Gate::StaleView { .. }
        | Gate::Conflict { .. }
        | Gate::InvalidSpec
        | Gate::Unchecked { .. }
        | Gate::NotActivated
        | Gate::DryRun
        | Gate::Held { .. }
        | Gate::Lease { .. }
        | Gate::Storm { .. }
        | Gate::ClusterStorm { .. }
        | Gate::Overload { .. }
        | Gate::LowCoverage { .. }
        | Gate::Blind { .. } => gate.as_str(),
    }
}

pub const GATES: [&str; 13] = Gate::WORDS;

/// The word of a refusal; those of gates are counted by gate.
fn refusal(why: &Why) -> Option<&'static str> {
    match why {
        Why::Gate(_) => None,
        Why::Limit(Limit::Floor | Limit::MaxCutRatio | Limit::MaxCutsPerPeriod, _)
        | Why::Unconfirmed { .. }
        | Why::Disruption(_)
        | Why::LastOnNode(_)
        | Why::Neighbour(_)
        | Why::Rollout(_)
        | Why::NoRoom
        | Why::Wish(_)
        | Why::NoSlot(_)
        | Why::FleetTooSmall(_)
        | Why::InFlight
        | Why::Quiet
        | Why::HoldOff
        | Why::KillCap(_)
        | Why::KillInFlight
        | Why::NotReplacedYet
        | Why::NotReplaced(_)
        | Why::BelowFloor => Some(why.as_str()),
    }
}

pub const REFUSALS: [&str; 20] = [
    "floor",
    "maxCutRatio",
    "maxCutsPerPeriod",
    "Unconfirmed",
    "PodDisruptionBudget",
    "LastOnNode",
    "Neighbour",
    "Rollout",
    "NoRoom",
    "Wish",
    "NoSlot",
    "FleetTooSmall",
    "InFlight",
    "Quiet",
    "HoldOff",
    "KillCap",
    "KillInFlight",
    "NotReplacedYet",
    "NotReplaced",
    "BelowFloor",
];

/// The word of an action; of those below.
fn action(what: &What) -> &'static str {
    match what {
        What::Cut(_) => "cut",
        What::KeepOut => "keep out",
        What::Restore { reason, .. } => match reason {
            RestoreReason::Due => "restore: due",
            RestoreReason::FloorRepair => "restore: floor repair",
            RestoreReason::LadderHeld => "restore: ladder held",
            RestoreReason::Overload => "restore: overload",
            RestoreReason::DryRun => "restore: dry run",
            RestoreReason::Wish => "restore: wish",
        },
        What::Pause { .. } => "pause",
        What::Evict { .. } => "evict",
        What::Forgive(_) => "forgive",
    }
}

pub const ACTIONS: [&str; 11] = [
    "cut",
    "keep out",
    "restore: due",
    "restore: floor repair",
    "restore: ladder held",
    "restore: overload",
    "restore: dry run",
    "restore: wish",
    "pause",
    "evict",
    "forgive",
];

/// What a plan shows that is worth a count. `former`: the gates of the last plan of this service.
pub fn of(plan: &Plan, former: &mut BTreeSet<&'static str>) -> Vec<String> {
    let mut found: Vec<_> = plan.actions.iter().map(|a| format!("action {}", action(&a.what))).collect();
    let refused = plan.refusals.iter().filter_map(|r| refusal(&r.why));
    found.extend(refused.map(|i| format!("refused {i}")));
    let now: BTreeSet<_> = plan.report.gates.iter().map(|g| gate(g)).collect();
    found.extend(now.difference(former).map(|g| format!("entered {g}")));
    found.extend(former.difference(&now).map(|g| format!("left {g}")));
    *former = now;
    found
}
