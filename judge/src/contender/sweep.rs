//! What Envoy and gRPC A50 share: counts of an interval, statistics over hosts, and times out that grow.

use crate::world::{Tally, World};

/// Seconds between two sweeps, first time out and longest time out: the default of both.
pub const INTERVAL: u32 = 10;
const BASE: u32 = 30;
const LONGEST: u32 = 300;

/// A host as a proxy or a client sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Host {
    /// Good answers since the last sweep.
    pub good: u32,
    /// Errors since the last sweep.
    pub bad: u32,
    /// When it was taken out.
    pub out_since: Option<u32>,
    /// When it came back.
    pub back_at: u32,
    /// Multiplies the time out.
    pub times: u32,
}

impl Host {
    /// Counts the answers of a second.
    pub fn count(&mut self, last: &Tally) {
        self.good += last.good;
        self.bad += last.bad;
    }

    /// The counts since the last sweep, which start afresh.
    pub fn take(&mut self) -> Counts {
        let counts = Counts { good: self.good, bad: self.bad };
        (self.good, self.bad) = (0, 0);
        counts
    }

    /// Takes it out.
    pub fn remove(&mut self, now: u32) {
        self.out_since = Some(now);
        self.times += 1;
    }

    /// Whether its time out is over: base × times, at most the longest.
    #[must_use]
    pub fn due(&self, now: u32) -> bool {
        self.out_since.is_some_and(|since| now - since >= (BASE * self.times).min(LONGEST))
    }
}

/// Answers of one host within an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Good ones.
    pub good: u32,
    /// Errors.
    pub bad: u32,
}

impl Counts {
    /// All.
    #[must_use]
    pub fn volume(self) -> u32 {
        self.good + self.bad
    }

    /// Percent of good ones; there must be some answer.
    #[must_use]
    pub fn success(self) -> f64 {
        f64::from(self.good) * 100.0 / f64::from(self.volume())
    }
}

/// mean − factor × σ of success rates, σ over the population.
#[must_use]
pub fn success_threshold(rates: &[f64], factor: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "hosts of a fleet")]
    let n = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / n;
    let variance = rates.iter().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / n;
    mean - factor * variance.sqrt()
}

/// Hosts that live now, by ordinal.
#[must_use]
pub fn living(world: &World<'_>) -> Vec<usize> {
    world.alive().map(|pod| pod as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_dead_host_of_four_is_below_no_threshold_and_one_of_five_is() {
        // [C] of the published factor 1.9: k of n are found only while sqrt((n - k) / k) > 1.9.
        assert!(success_threshold(&[100.0, 100.0, 100.0, 0.0], 1.9) < 0.0);
        let five = success_threshold(&[100.0, 100.0, 100.0, 100.0, 0.0], 1.9);
        assert!((five - 4.0).abs() < 1e-9, "{five}");
    }

    #[test]
    fn a_host_that_is_nearly_perfect_is_below_the_threshold_of_perfect_ones() {
        let threshold = success_threshold(&[100.0, 100.0, 100.0, 100.0, 99.9], 1.9);
        assert!((threshold - 99.904).abs() < 1e-9, "{threshold}");
    }

    #[test]
    fn the_time_out_grows_by_thirty_seconds_up_to_five_minutes() {
        let out = |times| Host { out_since: Some(100), times, ..Host::default() };
        assert_eq!([129, 130].map(|now| out(1).due(now)), [false, true]);
        assert_eq!([159, 160].map(|now| out(2).due(now)), [false, true]);
        assert_eq!([399, 400].map(|now| out(50).due(now)), [false, true]);
    }
}
