//! `fleetOutlier`: a value that lies too many spreads away from the middle of the fleet.

use crate::detector::{Direction, Peer};
use crate::verdict::{Measure, Unknown};

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// Which side is anomalous.
    pub direction: Direction,
    /// Spreads from the median that are tolerated.
    pub max_score: f64,
    /// Ratio to the median that is tolerated, where both have one sign.
    pub min_ratio: f64,
    /// Distance from the median, in the value's unit, that is always tolerated.
    pub min_delta: f64,
    /// Activity below which nothing is said, where an activity query is given.
    pub min_activity: Option<f64>,
}

impl Outlier {
    /// Measures in the order of `values`.
    pub(super) fn judge(&self, values: &[Result<Peer, Unknown>]) -> Vec<Measure> {
        values.iter().map(|value| value.and(Err(Unknown::TooFewPeers))).collect()
    }
}
