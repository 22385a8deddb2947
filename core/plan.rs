//! What one tick decided: actions, refusals, and the sums behind them.
//!
//! Values only. `tick` makes them, `kubervisor::cluster::apply` carries the actions out, status, metrics and logs
//! tell the rest.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::budget::{Budget, Limit};
use crate::fleet::{Wish, Workload};
use crate::gates::Gate;
use crate::policy::Confirm;
use crate::suspects::Suspect;
use crate::traffic::{Move, Strikes};
use crate::verdict::Evidence;
use crate::words;

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
    /// Out of traffic because a person asks for it, until the word is taken back.
    KeepOut,
    /// Back into traffic.
    Restore {
        /// Why.
        reason: RestoreReason,
        /// Written where they change: a cut that was no fault of the pod's is no strike.
        strikes: Option<Strikes>,
    },
    /// Strikes that are left after one was forgiven.
    Forgive(Strikes),
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
            Self::Cut(_) | Self::KeepOut => Move::Cut,
            Self::Restore { .. } => Move::Restore,
            Self::Forgive(_) => Move::Forgive,
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
    /// The rest failed under its load.
    Overload,
    /// Its breaker only shows now what it would do.
    DryRun,
    /// A person asks for it.
    Wish,
}

impl RestoreReason {
    words! {
        /// For logs and metrics.
        pub fn as_str(self: &Self) -> WORDS {
            Self::Due => "Due",
            Self::FloorRepair => "FloorRepair",
            Self::LadderHeld => "LadderHeld",
            Self::Overload => "Overload",
            Self::DryRun => "DryRun",
            Self::Wish => "Wish",
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
            Self::Overload => "pods that were healthy failed under the load of those that were cut",
            Self::DryRun => "its breaker is in mode DryRun now",
            Self::Wish => "a person asked for it",
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
    /// Not yet anomalous often enough.
    Unconfirmed {
        /// Anomalous verdicts that count.
        found: u8,
        /// What is asked for.
        confirm: Confirm,
    },
    /// A PodDisruptionBudget has no room.
    Disruption(Arc<str>),
    /// It is the last one that serves on its node, and traffic stays on the node.
    LastOnNode(Arc<str>),
    /// Another Service behind the same key would be empty.
    Neighbour(Arc<str>),
    /// A rollout runs, and as many of its new pods are out as may be cut at once.
    Rollout(u32),
    /// It came back for the floor, and there has not been room for it for two ticks.
    NoRoom,
    /// A person said that it is never cut, or that it serves.
    Wish(Wish),
    /// As many came back a moment ago as are watched at once.
    NoSlot(u32),
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
    /// The pod that was evicted last has no proven successor yet.
    NotReplacedYet,
    /// Nobody would replace it, or its identity would be lost.
    NotReplaced(Workload),
    /// The fleet is below its floor already.
    BelowFloor,
}

impl Why {
    words! {
        /// One word for metrics and logs.
        pub fn as_str(self: &Self) -> WORDS {
            Self::Unconfirmed { .. } => "Unconfirmed",
            Self::Disruption(_) => "PodDisruptionBudget",
            Self::LastOnNode(_) => "LastOnNode",
            Self::Neighbour(_) => "Neighbour",
            Self::Rollout(_) => "Rollout",
            Self::NoRoom => "NoRoom",
            Self::Wish(_) => "Wish",
            Self::NoSlot(_) => "NoSlot",
            Self::NotReplacedYet => "NotReplacedYet",
            Self::FleetTooSmall(_) => "FleetTooSmall",
            Self::InFlight => "InFlight",
            Self::Quiet => "Quiet",
            Self::HoldOff => "HoldOff",
            Self::KillCap(_) => "KillCap",
            Self::KillInFlight => "KillInFlight",
            Self::NotReplaced(_) => "NotReplaced",
            Self::BelowFloor => "BelowFloor",
        } else {
            Self::Gate(gate) => gate.as_str(),
            Self::Limit(limit, _) => limit.as_str(),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gate(gate) => gate.fmt(f),
            Self::Limit(limit, budget) => write!(f, "{} reached: {budget}", limit.as_str()),
            Self::Unconfirmed { found, confirm: Confirm { anomalous, of } } => write!(
                f,
                "found anomalous {found} times; {anomalous} of the last {of} verdicts, a scrape apart, are asked for"
            ),
            Self::Disruption(name) => {
                write!(f, "PodDisruptionBudget {name} has no room for one more pod out of service")
            }
            Self::LastOnNode(node) => {
                write!(f, "it is the last pod that serves on node {node}, and traffic stays on its node")
            }
            Self::Neighbour(service) => {
                write!(f, "Service {service}, behind the same key, would have no pod left")
            }
            Self::Rollout(n) => write!(f, "a rollout runs, and {n} of its new pods are out already"),
            Self::NoRoom => {
                write!(f, "it came back for the floor; it is cut again once there was room for it twice")
            }
            Self::Wish(Wish::Never) => write!(f, "a person said that it is never cut (override Never)"),
            Self::Wish(Wish::Serve) => write!(f, "a person said that it serves (override Serve)"),
            Self::Wish(Wish::Cut) => write!(f, "a person said that it stays out (override Cut)"),
            Self::NoSlot(slots) => write!(f, "{slots} pods that came back are still watched; it is next"),
            Self::NotReplacedYet => {
                write!(f, "the pod that was evicted last has no successor yet that is Ready for long enough")
            }
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
    /// Members with label `no`, ours or a person's, after the actions of the plan.
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
    /// Nothing could be cut of this fleet even if all of it were healthy but one: the sum, in words.
    pub inert: Option<String>,
    /// What people should look at.
    pub remarks: Vec<Remark>,
}

/// Something worth telling people about, which holds nothing and changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Remark {
    /// Anomalous pods have something in common.
    Suspect(Suspect),
    /// A cut pod still gets traffic: connections that were open stay open.
    CutIneffective {
        /// Pod name.
        pod: Arc<str>,
        /// Pod uid.
        uid: Arc<str>,
        /// The breaker that sees it.
        breaker: Arc<str>,
        /// Events within the query's range.
        events: f64,
    },
    /// The breaker lost sight of a pod that is out: its metrics are scraped through the Service.
    MetricsFollowTraffic {
        /// The breaker.
        breaker: Arc<str>,
        /// One such pod.
        pod: Arc<str>,
    },
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
