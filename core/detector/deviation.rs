//! `continuousValueDeviation`: a ratio to the fleet's mean, by the user's query, that lies too far from 1.
//!
//! The mean alone drags: one pod of ten at ten times the rest puts the nine good ones at -47 %. So the ratio is
//! centred again on the median of the peers, and both must be beyond the limit on the same side.

use crate::detector::{Direction, Peer};
use crate::verdict::{Evidence, Measure, Measured, Unknown, multiple};

/// Pods without which nothing is normal, the judged one included.
pub const MIN_PEERS: usize = 3;

/// The rule: |v − 1| and |v / median − 1| above the maximum, on the same side, in the direction that is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// Percent; may pass 100.
    pub max_percent: f64,
    /// Which side is anomalous.
    pub direction: Direction,
}

impl Deviation {
    /// Measures in the order of `values`.
    pub(super) fn judge(&self, values: &[Result<Peer, Unknown>]) -> Vec<Measure> {
        let mut peers: Vec<f64> = values.iter().flatten().filter(|p| p.serving).map(|p| p.value).collect();
        let normal = median(&mut peers).filter(|_| peers.len() >= MIN_PEERS);
        let agreed = normal.is_none_or(|normal| self.majority_agrees(&peers, normal));
        let one = |value: &Result<Peer, Unknown>| match ((*value)?, normal) {
            (_, None) => Err(Unknown::TooFewPeers),
            (_, Some(_)) if !agreed => Err(Unknown::NoMajority),
            (peer, Some(normal)) => self.weigh(peer.value, normal),
        };
        values.iter().map(one).collect()
    }

    /// Of two pods at one value and two at another, the median lies where no pod is, and all four would be odd.
    fn majority_agrees(&self, peers: &[f64], median: f64) -> bool {
        let near = |v: &&f64| (*v / median - 1.0).abs() * 100.0 <= self.max_percent;
        median <= 0.0 || peers.iter().filter(near).count() * 2 > peers.len()
    }

    fn weigh(&self, value: f64, median: f64) -> Measure {
        // Without a positive median "ratio to the median" has no meaning, and a negative ratio to a mean has none.
        if value < 0.0 || median <= 0.0 {
            return Err(Unknown::Negative);
        }
        let from_mean = (value - 1.0) * 100.0;
        let from_median = (value / median - 1.0) * 100.0;
        let sided = match self.direction {
            Direction::Both => from_mean.signum() == from_median.signum(),
            Direction::Above => from_mean > 0.0 && from_median > 0.0,
            Direction::Below => from_mean < 0.0 && from_median < 0.0,
        };
        let least = if sided { from_mean.abs().min(from_median.abs()) } else { 0.0 };
        let evidence = Evidence::Deviation { from_mean, from_median, median, max: self.max_percent };
        Ok(Measured::new(least > self.max_percent, multiple(least, self.max_percent), evidence))
    }
}

/// The middle value, or the mean of the two in the middle.
pub(super) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 { Some(upper) } else { Some(f64::midpoint(values[middle - 1], upper)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ratios_to_mean(values: &[f64]) -> Vec<Result<Peer, Unknown>> {
        #[allow(clippy::cast_precision_loss)]
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|v| Ok(Peer { value: v / mean, serving: true })).collect()
    }

    fn rule(max_percent: f64) -> Deviation {
        Deviation { max_percent, direction: Direction::Both }
    }

    fn anomalous(max_percent: f64, values: &[f64]) -> Vec<usize> {
        let measures = rule(max_percent).judge(&ratios_to_mean(values));
        (0..values.len()).filter(|i| measures[*i].is_ok_and(|m| m.beyond)).collect()
    }

    #[test]
    fn one_pod_of_ten_at_ten_times_the_price_is_found_and_no_good_one() {
        let mut values = [100.0; 10];
        values[7] = 1_000.0;
        assert_eq!(anomalous(30.0, &values), [7]);
    }

    #[test]
    fn one_pod_of_four_at_zero_is_found_and_no_good_one() {
        assert_eq!(anomalous(30.0, &[100.0, 0.0, 100.0, 100.0]), [1]);
    }

    #[test]
    fn half_the_price_is_found_at_thirty_percent_and_two_of_four_are_held() {
        assert_eq!(anomalous(30.0, &[100.0, 50.0, 100.0, 100.0, 100.0]), [1]);
        assert!(anomalous(75.0, &[1_000.0, 1_000.0, 100.0, 100.0]).is_empty());
    }

    #[test]
    fn two_pods_have_no_normal() {
        let measures = rule(30.0).judge(&ratios_to_mean(&[1.0, 100.0]));
        assert!(measures.iter().all(|m| *m == Err(Unknown::TooFewPeers)));
    }

    #[test]
    fn a_fleet_at_zero_or_below_is_unknown() {
        let values: Vec<_> = [0.0, 0.0, 0.0, -1.0].map(|value| Ok(Peer { value, serving: true })).into();
        assert!(rule(30.0).judge(&values).iter().all(|m| *m == Err(Unknown::Negative)));
    }

    #[test]
    fn only_the_side_that_is_asked_for_is_anomalous() {
        let values = ratios_to_mean(&[100.0, 10.0, 100.0, 100.0, 300.0]);
        let odd = |direction| {
            let measures = Deviation { max_percent: 40.0, direction }.judge(&values);
            (0..5).filter(|i| measures[*i].is_ok_and(|m| m.beyond)).collect::<Vec<_>>()
        };
        assert_eq!(odd(Direction::Both), [1, 4]);
        assert_eq!(odd(Direction::Above), [4]);
        assert_eq!(odd(Direction::Below), [1]);
    }

    proptest! {
        #[test]
        fn every_cut_satisfies_the_original_rule_too(values in proptest::collection::vec(0.01_f64..1e6, 3..30), max in 1.0_f64..200.0) {
            let ratios = ratios_to_mean(&values);
            for (ratio, measure) in ratios.iter().zip(rule(max).judge(&ratios)) {
                if let (Ok(peer), Ok(Measured { beyond: true, margin, .. })) = (ratio, measure) {
                    prop_assert!((peer.value - 1.0).abs() * 100.0 > max && margin >= 1.0);
                }
            }
        }

        #[test]
        fn a_fleet_that_agrees_has_no_odd_pod(value in 0.01_f64..1e6, n in 3_usize..30) {
            prop_assert!(anomalous(1.0, &vec![value; n]).is_empty());
        }
    }
}
