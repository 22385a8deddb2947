//! Rules, and `judge`: samples of a fleet to one measure a member.
//!
//! Takes a fleet, the samples of one answer and the rule; gives measures in the order of the members. Reads no
//! earlier answer: what a pod was before is the memory's. What cannot be measured is `Unknown`, with its reason.

mod deviation;
mod discrete;
mod outlier;
mod range;

pub use deviation::Deviation;
pub use discrete::{Discrete, Lists};
pub use outlier::Outlier;
pub use range::Bounds;

use crate::fleet::{Fleet, Member};
use crate::sample::{Reading, Row, Samples};
use crate::verdict::{Evidence, Measure, Measured, Unknown};

/// The rule of a breaker.
#[derive(Debug, Clone, PartialEq)]
pub enum Detector {
    /// `discreteValueOutOfList`: too large a share of bad events.
    Discrete(Discrete),
    /// `continuousValueDeviation`: too far from the rest of the fleet.
    Deviation(Deviation),
    /// `fleetOutlier`: too many spreads away from the middle of the fleet.
    Outlier(Outlier),
    /// `valueOutOfRange`: beyond a fixed bound.
    Range(Bounds),
    /// `customService`: an outside service names the bad pods.
    Custom,
}

/// Which side of normal is anomalous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Either.
    Both,
    /// Too much.
    Above,
    /// Too little.
    Below,
}

impl Detector {
    /// Whether it compares pods with each other, so that it needs peers and pods past their warm-up.
    #[must_use]
    pub fn relative(&self) -> bool {
        match self {
            Self::Deviation(_) | Self::Outlier(_) => true,
            Self::Discrete(_) | Self::Range(_) | Self::Custom => false,
        }
    }

    /// As the spec names it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Discrete(_) => "discreteValueOutOfList",
            Self::Deviation(_) => "continuousValueDeviation",
            Self::Outlier(_) => "fleetOutlier",
            Self::Range(_) => "valueOutOfRange",
            Self::Custom => "customService",
        }
    }

    /// What a pod must show to be anomalous, in words.
    #[must_use]
    pub fn threshold(&self) -> String {
        let side = |direction| match direction {
            Direction::Both => "",
            Direction::Above => " above",
            Direction::Below => " below",
        };
        match self {
            Self::Discrete(rule) => format!("bad > {} % of {} or more", rule.tolerance, rule.min_activity),
            Self::Deviation(rule) => {
                format!(
                    "> {} %{} the mean and the median",
                    rule.max_percent,
                    match rule.direction {
                        Direction::Both => " from",
                        Direction::Above | Direction::Below => side(rule.direction),
                    }
                )
            }
            Self::Outlier(rule) => format!(
                "> {} spreads{}, {} and {} times away from the median",
                rule.max_score,
                side(rule.direction),
                rule.min_delta,
                rule.min_ratio
            ),
            Self::Range(rule) => match (rule.min, rule.max) {
                (Some(min), Some(max)) => format!("< {min} or > {max}"),
                (Some(min), None) => format!("< {min}"),
                (None, Some(max)) => format!("> {max}"),
                (None, None) => "none".to_owned(),
            },
            Self::Custom => "named by the custom service".to_owned(),
        }
    }
}

/// One answer: what was asked of each pod, and how busy each was, where that is asked too.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The measured values.
    pub samples: &'a Samples,
    /// Activity, where the detector has an activity query.
    pub activity: Option<&'a Samples>,
}

impl Asked<'_> {
    /// Whether a source warned that its answer may be incomplete.
    fn partial(&self) -> bool {
        self.samples.partial || self.activity.is_some_and(|activity| activity.partial)
    }
}

/// One measure for each member, in their order. `warm`: whether a member has been Ready for long enough to be
/// compared.
#[must_use]
pub fn judge(
    fleet: &Fleet,
    asked: Asked<'_>,
    rule: &Detector,
    warm: &dyn Fn(&Member) -> bool,
) -> Vec<Measure> {
    let of = |m: &Member| asked.samples.of(&fleet.namespace, &m.name);
    let active = |m: &Member, min| active(fleet, m, asked.activity, min);
    let compared = |min: Option<f64>| -> Vec<_> {
        let one = |m| active(m, min).and_then(|()| comparable(m, of(m), warm(m)));
        fleet.members.iter().map(one).collect()
    };
    let measures = match rule {
        Detector::Discrete(rule) => fleet.members.iter().map(|m| rule.judge(of(m))).collect(),
        Detector::Deviation(rule) => rule.judge(&compared(None)),
        Detector::Outlier(rule) => rule.judge(&compared(rule.min_activity)),
        Detector::Range(rule) => {
            let value = |m| active(m, rule.min_activity).and_then(|()| single(of(m)));
            fleet.members.iter().map(|m| value(m).map(|v| rule.measure(v))).collect()
        }
        Detector::Custom => fleet.members.iter().map(|m| Ok(named(of(m)))).collect(),
    };
    if asked.partial() { measures.into_iter().map(doubted).collect() } else { measures }
}

/// A partial answer may show faults that the missing part would explain; what it shows as healthy stays healthy.
fn doubted(measure: Measure) -> Measure {
    match measure {
        Ok(Measured { beyond: true, .. }) => Err(Unknown::PartialAnswer),
        // Nor does it keep a pod anomalous that is back within the rule.
        Ok(measured) => Ok(Measured { margin: 0.0, ..measured }),
        unknown @ Err(_) => unknown,
    }
}

/// Whether the pod was busy enough to be judged, where that is asked.
fn active(
    fleet: &Fleet,
    member: &Member,
    activity: Option<&Samples>,
    min: Option<f64>,
) -> Result<(), Unknown> {
    let Some((min, activity)) = min.zip(activity) else { return Ok(()) };
    match single(activity.of(&fleet.namespace, &member.name)) {
        Ok(value) if value >= min => Ok(()),
        Ok(_) | Err(Unknown::NoSeries) => Err(Unknown::TooLittle),
        Err(why) => Err(why),
    }
}

/// The value of a member that may be compared, with whether it is a peer: one that serves.
fn comparable(member: &Member, rows: &[Row], warm: bool) -> Result<Peer, Unknown> {
    let value = single(rows)?;
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

fn named(rows: &[Row]) -> Measured {
    let named = !rows.is_empty();
    Measured::new(named, f64::from(u8::from(named)), Evidence::Named)
}

#[cfg(test)]
mod tests;
