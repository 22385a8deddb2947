//! What one tick decided: actions, refusals, and the sums behind them.
//!
//! Values only. `tick` makes them, `kubervisor::cluster::apply` carries the actions out, status, metrics and logs
//! tell the rest.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::budget::{Budget, Limit};
use crate::fleet::Workload;
use crate::gates::Gate;
use crate::traffic::{Move, Strikes};
use crate::verdict::Evidence;

/// An eviction that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The pod's uid.
    pub uid: Arc<str>,
    /// When it was recorded, before it was sent.
    pub at: Timestamp,
}

/// What is to be done, what is not and why, and the sums behind it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// At most one for each pod.
    pub actions: Vec<Action>,
    /// Steps that were wanted and not taken.
    pub refusals: Vec<Refusal>,
    /// For status and metrics.
    pub report: Report,
    /// When the next tick is needed at the latest, on the monotonic clock.
    pub next_due: Option<Duration>,
}

/// One step with one pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Pod name.
    pub pod: Arc<str>,
    /// Pod uid: precondition.
    pub uid: Arc<str>,
    /// The version that was judged: precondition.
    pub resource_version: u64,
    /// The step.
    pub what: What,
}

/// The step of an [`Action`], with what is stored on the pod.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Out of traffic.
    Cut(CutOrder),
    /// Back into traffic.
    Restore(RestoreReason),
    /// Out for people to look at.
    Pause {
        /// The breaker that cut it.
        breaker: Option<Arc<str>>,
        /// Its strikes.
        strikes: u32,
    },
    /// Out for good.
    Evict {
        /// The breaker that cut it.
        breaker: Option<Arc<str>>,
        /// Its strikes.
        strikes: u32,
    },
}

impl What {
    /// The move in the drawing of [`crate::traffic`].
    #[must_use]
    pub fn step(&self) -> Move {
        match self {
            Self::Cut(_) => Move::Cut,
            Self::Restore(_) => Move::Restore,
            Self::Pause { .. } => Move::Pause,
            Self::Evict { .. } => Move::Evict,
        }
    }
}

/// A cut, complete: nothing is drawn or computed after this.
#[derive(Debug, Clone, PartialEq)]
pub struct CutOrder {
    /// Who wants it.
    pub breaker: Arc<str>,
    /// The numbers.
    pub evidence: Evidence,
    /// How far beyond the rule.
    pub severity: f64,
    /// With this cut.
    pub strikes: Strikes,
    /// Wall time of the decision.
    pub at: Timestamp,
    /// When it ends.
    pub restore_at: Timestamp,
    /// The sums after it, for people.
    pub budget: Budget,
}

/// Why a pod goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestoreReason {
    /// Its time is over.
    Due,
    /// Others were lost, and it is needed for the floor.
    FloorRepair,
    /// Its retries are used up, but nothing was allowed to end it for as long as a cut may last.
    LadderHeld,
}

impl RestoreReason {
    /// For logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "Due",
            Self::FloorRepair => "FloorRepair",
            Self::LadderHeld => "LadderHeld",
        }
    }
}

impl fmt::Display for RestoreReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Due => "its time is over",
            Self::FloorRepair => "others were lost and it is needed for the floor",
            Self::LadderHeld => {
                "its retries are used up, but its eviction was held for as long as a cut may last"
            }
        })
    }
}

/// A step that was wanted and not taken.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Pod name.
    pub pod: Arc<str>,
    /// What was wanted.
    pub step: Move,
    /// By which breaker, where one wanted it.
    pub breaker: Option<Arc<str>>,
    /// Why not.
    pub why: Why,
}

/// Why a step was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// A gate holds it.
    Gate(Gate),
    /// The budget is spent.
    Limit(Limit, Budget),
    /// Too few pods for this rule.
    FleetTooSmall(u32),
    /// A write of ours to this pod is not yet seen.
    InFlight,
    /// A person put it back a moment ago.
    Quiet,
    /// The API server refused the last write; the next try comes later.
    HoldOff,
    /// As many evictions within the hour as the policy allows.
    KillCap(u32),
    /// Another eviction of this service is not finished.
    KillInFlight,
    /// Nobody would replace it, or its identity would be lost.
    NotReplaced(Workload),
    /// The fleet is below its floor already.
    BelowFloor,
}

impl Why {
    /// One word for metrics and logs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Gate(gate) => gate.as_str(),
            Self::Limit(limit, _) => limit.as_str(),
            Self::FleetTooSmall(_) => "FleetTooSmall",
            Self::InFlight => "InFlight",
            Self::Quiet => "Quiet",
            Self::HoldOff => "HoldOff",
            Self::KillCap(_) => "KillCap",
            Self::KillInFlight => "KillInFlight",
            Self::NotReplaced(_) => "NotReplaced",
            Self::BelowFloor => "BelowFloor",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate(gate) => gate.fmt(f),
            Self::Limit(limit, budget) => write!(f, "{} reached: {budget}", limit.as_str()),
            Self::FleetTooSmall(n) => write!(f, "a fleet of {n} is too small for this rule"),
            Self::InFlight => write!(f, "an earlier write to this pod is not confirmed yet"),
            Self::Quiet => write!(f, "a person put it back less than a period ago"),
            Self::HoldOff => write!(f, "the last write to this pod was refused; the next try comes later"),
            Self::KillCap(n) => write!(f, "{n} evictions within the last hour"),
            Self::KillInFlight => write!(f, "another eviction of this service is not finished"),
            Self::NotReplaced(Workload::Bare) => write!(f, "nothing would replace a bare pod"),
            Self::NotReplaced(workload) => write!(f, "pods of a {workload:?} are not evicted"),
            Self::BelowFloor => write!(f, "the fleet serves below its floor"),
        }
    }
}

/// The sums of a tick.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Pods of the service.
    pub members: u32,
    /// After the actions of the plan.
    pub budget: Budget,
    /// Members with label `no`, ours or a person's.
    pub cut: u32,
    /// Members with label `pause`.
    pub paused: u32,
    /// Members that are not Ready.
    pub not_ready: u32,
    /// Members without a readable traffic label.
    pub unknown: u32,
    /// Every breaker of the policy, with its last verdicts.
    pub breakers: Vec<BreakerReport>,
    /// Everything that holds, per breaker ones included.
    pub gates: Vec<Gate>,
    /// A cut was refused because of the floor.
    pub floor_reached: bool,
}

/// The last verdicts of one breaker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BreakerReport {
    /// Its name.
    pub name: Arc<str>,
    /// Members.
    pub healthy: u32,
    /// Members.
    pub anomalous: u32,
    /// Members.
    pub unknown: u32,
    /// Pods that a dry run would have cut, at most [`WOULD_CUT_MAX`].
    pub would_cut: Vec<Arc<str>>,
}

/// Names that a status shows at most.
pub const WOULD_CUT_MAX: usize = 10;
