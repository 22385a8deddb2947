//! Rules, and `judge`: samples of a fleet to one verdict a member.
//!
//! Takes a fleet, the samples of one answer and the rule; gives verdicts in the order of the members. Reads no
//! earlier answer. What cannot be judged is `Unknown`, with its reason.

mod deviation;
mod discrete;

pub use deviation::Deviation;
pub use discrete::{Discrete, Lists};

use std::collections::BTreeSet;
use std::time::Duration;

use crate::fleet::{Fleet, Member};
use crate::policy::{BreakerPolicy, MIN_POD_AGE};
use crate::sample::{Reading, Row, Samples};
use crate::verdict::{Evidence, Unknown, Verdict};

/// The rule of a breaker.
#[derive(Debug, Clone, PartialEq)]
pub enum Detector {
    /// `discreteValueOutOfList`: too large a share of bad events.
    Discrete(Discrete),
    /// `continuousValueDeviation`: too far from the rest of the fleet.
    Deviation(Deviation),
    /// `customService`: an outside service names the bad pods.
    Custom,
}

impl Detector {
    /// Whether it compares pods with each other, so that it needs peers and pods past their warm-up.
    #[must_use]
    pub fn relative(&self) -> bool {
        match self {
            Self::Deviation(_) => true,
            Self::Discrete(_) | Self::Custom => false,
        }
    }
}

/// One verdict for each member, in their order. `ready_for`: how long a member has been Ready, by a clock that cannot
/// be moved.
#[must_use]
pub fn judge(
    fleet: &Fleet,
    samples: &Samples,
    breaker: &BreakerPolicy,
    ready_for: &dyn Fn(&Member) -> Duration,
) -> Vec<Verdict> {
    let verdicts = match &breaker.detector {
        Detector::Discrete(rule) => {
            fleet.members.iter().map(|m| rule.judge(samples.of(&fleet.namespace, &m.name))).collect()
        }
        Detector::Deviation(rule) => {
            let old_enough = MIN_POD_AGE.max(breaker.range.saturating_add(breaker.scrape_interval));
            let value = |m: &Member| comparable(fleet, m, samples, m.ready && ready_for(m) >= old_enough);
            let values: Vec<_> = fleet.members.iter().map(value).collect();
            rule.judge(&values)
        }
        Detector::Custom => named(fleet, samples),
    };
    if samples.partial { verdicts.into_iter().map(doubted).collect() } else { verdicts }
}

/// A partial answer may show faults that the missing part would explain; what it shows as healthy stays healthy.
fn doubted(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Anomalous { .. } => Verdict::Unknown(Unknown::PartialAnswer),
        kept @ (Verdict::Healthy | Verdict::Unknown(_)) => kept,
    }
}

/// The value of a member that may be compared, with whether it is a peer: one that serves.
fn comparable(fleet: &Fleet, member: &Member, samples: &Samples, warm: bool) -> Result<Peer, Unknown> {
    let value = single(samples.of(&fleet.namespace, &member.name))?;
    if !warm {
        return Err(Unknown::TooYoung);
    }
    Ok(Peer { value, serving: member.serving() })
}

/// A value that may be compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Peer {
    /// As measured.
    pub value: f64,
    /// Whether the pod serves: only then is it part of what is normal.
    pub serving: bool,
}

/// The one number of a pod.
fn single(rows: &[Row]) -> Result<f64, Unknown> {
    match rows {
        [] => Err(Unknown::NoSeries),
        [row] => number(row.reading),
        _ => Err(Unknown::AmbiguousSeries),
    }
}

fn number(reading: Reading) -> Result<f64, Unknown> {
    match reading {
        Reading::Number(value) => Ok(value),
        Reading::NotANumber => Err(Unknown::NotANumber),
        Reading::Infinite => Err(Unknown::Infinite),
        Reading::Histogram => Err(Unknown::Histogram),
    }
}

fn named(fleet: &Fleet, samples: &Samples) -> Vec<Verdict> {
    let judge = |m: &Member| match samples.of(&fleet.namespace, &m.name) {
        [] => Verdict::Healthy,
        _ => Verdict::anomalous(1.0, Evidence::Named),
    };
    fleet.members.iter().map(judge).collect()
}

/// Members that an answer names and the fleet does not have: an outside service may not reach beyond the fleet.
#[must_use]
pub fn foreign<'a>(fleet: &Fleet, rows: impl Iterator<Item = (Option<&'a str>, &'a str)>) -> usize {
    let own: BTreeSet<&str> = fleet.members.iter().map(|m| &*m.name).collect();
    rows.filter(|(ns, pod)| ns.is_some_and(|ns| ns != &*fleet.namespace) || !own.contains(pod)).count()
}
