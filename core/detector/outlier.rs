//! `fleetOutlier`: a value that lies too many spreads away from the middle of the fleet.
//!
//! Middle and spread are the median and the median of the distances from it: just under half of the fleet may be
//! bad before they move. Mean and standard deviation are moved by the very pods that they should find: at 1.9
//! deviations they find nobody once 21.7 % are bad alike.

use crate::detector::deviation::{MIN_PEERS, median};
use crate::detector::{Direction, Peer};
use crate::verdict::{Evidence, Measure, Measured, Unknown, multiple};

/// Makes the median distance of normally spread values their standard deviation: 1 / Φ⁻¹(3/4).
const NORMAL: f64 = 1.4826;
/// Share of the median that is the least spread: in a fleet that agrees to the last digit, 99.9 among 100 is no
/// outlier.
const LEAST_SPREAD: f64 = 0.05;

/// The rule: (value − median) / spread beyond the greatest score in the direction that is asked for, **and** far from
/// the median by a distance, **and** by a ratio.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlier {
    /// Which side is anomalous.
    pub direction: Direction,
    /// Spreads from the median that are tolerated.
    pub max_score: f64,
    /// Ratio to the median below which nothing is said, where both have one sign; at least 1.
    pub min_ratio: f64,
    /// Distance from the median, in the value's unit, below which nothing is said; above 0.
    pub min_delta: f64,
    /// Activity below which nothing is said, where an activity query is given.
    pub min_activity: Option<f64>,
}

/// What is normal.
#[derive(Debug, Clone, Copy)]
struct Normal {
    median: f64,
    spread: f64,
}

impl Outlier {
    /// Measures in the order of `values`.
    pub(super) fn judge(&self, values: &[Result<Peer, Unknown>]) -> Vec<Measure> {
        let peers: Vec<f64> = values.iter().flatten().filter(|p| p.serving).map(|p| p.value).collect();
        let normal = self.normal(peers);
        let one = |value: &Result<Peer, Unknown>| match ((*value)?, normal) {
            (_, None) => Err(Unknown::TooFewPeers),
            (peer, Some(normal)) => self.weigh(peer.value, normal),
        };
        values.iter().map(one).collect()
    }

    fn normal(&self, mut peers: Vec<f64>) -> Option<Normal> {
        let middle = median(&mut peers).filter(|_| peers.len() >= MIN_PEERS)?;
        let mut distances: Vec<f64> = peers.iter().map(|v| (v - middle).abs()).collect();
        let spread = median(&mut distances)? * NORMAL;
        Some(Normal { median: middle, spread: spread.max(middle.abs() * LEAST_SPREAD).max(self.min_delta) })
    }

    fn weigh(&self, value: f64, Normal { median, spread }: Normal) -> Measure {
        let distance = value - median;
        let score = distance / spread;
        // Values near the end of what a double holds: their distance is none.
        if !score.is_finite() {
            return Err(Unknown::Infinite);
        }
        let sided = match self.direction {
            Direction::Both => true,
            Direction::Above => distance > 0.0,
            Direction::Below => distance < 0.0,
        };
        let ratio = ratio(value, median);
        let beyond = sided
            && score.abs() > self.max_score
            && distance.abs() >= self.min_delta
            && ratio >= self.min_ratio;
        let least = multiple(score.abs(), self.max_score)
            .min(multiple(distance.abs(), self.min_delta))
            .min(multiple(ratio, self.min_ratio));
        let evidence = Evidence::Outlier { value, median, score, max_score: self.max_score };
        Ok(Measured::new(beyond, if sided { least } else { 0.0 }, evidence))
    }
}

/// How many times the greater of two values of one sign is the smaller one. Across zero there is no ratio, and the
/// other conditions speak alone.
fn ratio(a: f64, b: f64) -> f64 {
    let (small, great) = (a.abs().min(b.abs()), a.abs().max(b.abs()));
    if small > 0.0 && (a > 0.0) == (b > 0.0) { great / small } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::SEVERITY_MAX;
    use proptest::prelude::*;

    const RULE: Outlier = Outlier {
        direction: Direction::Both,
        max_score: 3.5,
        min_ratio: 1.5,
        min_delta: 0.02,
        min_activity: None,
    };

    fn peers(values: &[f64]) -> Vec<Result<Peer, Unknown>> {
        values.iter().map(|value| Ok(Peer { value: *value, serving: true })).collect()
    }

    fn found(rule: Outlier, values: &[f64]) -> Vec<usize> {
        let measures = rule.judge(&peers(values));
        (0..values.len()).filter(|i| measures[*i].is_ok_and(|m| m.beyond)).collect()
    }

    #[test]
    fn two_dead_of_six_one_of_four_and_one_of_three_are_found() {
        assert_eq!(found(RULE, &[97.0, 104.0, 0.0, 99.0, 0.0, 102.0]), [2, 4]);
        assert_eq!(found(RULE, &[97.0, 104.0, 99.0, 0.0]), [3]);
        assert_eq!(found(RULE, &[0.0, 104.0, 99.0]), [0]);
    }

    #[test]
    fn just_under_half_of_a_fleet_is_found_and_half_of_it_is_not() {
        let fleet = |slow: usize| -> Vec<f64> {
            (0..20_u8).map(|i| if usize::from(i) < slow { 900.0 } else { 100.0 + f64::from(i) }).collect()
        };
        assert_eq!(found(RULE, &fleet(9)).len(), 9);
        assert!(found(RULE, &fleet(10)).is_empty());
    }

    #[test]
    fn a_fleet_that_agrees_to_the_last_digit_has_no_outlier_within_a_fraction_of_it() {
        assert!(found(RULE, &[100.0, 100.0, 99.9, 100.0, 100.0]).is_empty());
        assert_eq!(found(RULE, &[100.0, 100.0, 300.0, 100.0, 100.0]), [2]);
    }

    #[test]
    fn among_pods_at_zero_only_the_least_distance_decides() {
        assert!(found(RULE, &[0.0, 0.0, 0.001, 0.0]).is_empty());
        assert_eq!(found(RULE, &[0.0, 0.0, 0.5, 0.0]), [2]);
    }

    #[test]
    fn a_noisy_fleet_tolerates_what_a_calm_one_does_not() {
        assert_eq!(found(RULE, &[10.0, 10.2, 9.9, 10.1, 19.0]), [4]);
        assert!(found(RULE, &[4.0, 16.0, 7.0, 13.0, 19.0]).is_empty());
    }

    #[test]
    fn many_spreads_that_are_no_great_ratio_are_no_outlier() {
        assert!(found(RULE, &[100.0, 100.0, 140.0, 100.0, 100.0]).is_empty());
        assert_eq!(found(Outlier { min_ratio: 1.2, ..RULE }, &[100.0, 100.0, 140.0, 100.0, 100.0]), [2]);
    }

    #[test]
    fn only_the_side_that_is_asked_for_is_anomalous() {
        let values = [100.0, 100.0, 900.0, 100.0, 1.0];
        assert_eq!(found(RULE, &values), [2, 4]);
        assert_eq!(found(Outlier { direction: Direction::Above, ..RULE }, &values), [2]);
        assert_eq!(found(Outlier { direction: Direction::Below, ..RULE }, &values), [4]);
    }

    #[test]
    fn below_zero_the_ratio_is_that_of_the_sizes_and_across_zero_there_is_none() {
        assert_eq!(found(RULE, &[-10.0, -10.0, -40.0, -10.0]), [2]);
        assert_eq!(found(RULE, &[-10.0, -10.0, -2.0, -10.0]), [2]);
        assert_eq!(found(RULE, &[1.0, 1.0, -1.2, 1.0]), [2]);
    }

    #[test]
    fn two_pods_have_no_normal_and_one_that_does_not_serve_is_judged_by_the_others() {
        let two = RULE.judge(&peers(&[1.0, 900.0]));
        assert!(two.iter().all(|m| *m == Err(Unknown::TooFewPeers)));
        let mut values = peers(&[1.0, 1.0, 1.0, 900.0, 900.0, 900.0]);
        for value in values[3..].iter_mut().flatten() {
            value.serving = false;
        }
        let measures = RULE.judge(&values);
        assert!(measures[..3].iter().all(|m| m.is_ok_and(|m| !m.beyond)));
        assert!(measures[3..].iter().all(|m| m.is_ok_and(|m| m.beyond)));
    }

    #[test]
    fn values_at_the_end_of_all_numbers_are_unknown_and_not_normal() {
        let measures = RULE.judge(&peers(&[f64::MAX, f64::MIN, f64::MAX, f64::MAX]));
        assert_eq!(measures[1], Err(Unknown::Infinite));
    }

    #[test]
    fn the_evidence_names_the_value_the_middle_and_the_score() {
        let measures = RULE.judge(&peers(&[0.1, 0.1, 0.75, 0.1]));
        let text = measures[2].unwrap().evidence.to_string();
        assert!(
            text.starts_with("0.7500 where the fleet's middle is 0.1000, +32.5 spreads away, >"),
            "{text}"
        );
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(prop_oneof![-1e3_f64..1e3, Just(0.0), 0.0_f64..1.0], 3..40)
    }

    proptest! {
        #[test]
        fn fewer_than_half_of_the_peers_are_ever_found(values in values()) {
            prop_assert!(found(RULE, &values).len() * 2 < values.len());
        }

        #[test]
        fn what_is_found_keeps_every_condition_and_has_a_margin_of_one_or_more(values in values()) {
            for measure in RULE.judge(&peers(&values)) {
                let Ok(Measured { beyond, margin, evidence: Evidence::Outlier { value, median, score, .. } }) = measure
                else { continue };
                prop_assert!((0.0..=SEVERITY_MAX).contains(&margin));
                if beyond {
                    prop_assert!(margin >= 1.0 && score.abs() > 3.5);
                    prop_assert!((value - median).abs() >= RULE.min_delta);
                    prop_assert!(ratio(value, median) >= 1.5);
                }
            }
        }

        #[test]
        fn another_unit_changes_nothing(values in values(), power in -8_i32..8) {
            let unit = 2.0_f64.powi(power);
            let scaled: Vec<_> = values.iter().map(|v| v * unit).collect();
            let rule = Outlier { min_delta: RULE.min_delta * unit, ..RULE };
            prop_assert_eq!(found(rule, &scaled), found(RULE, &values));
        }

        #[test]
        fn the_other_side_of_the_mirror_is_the_other_direction(values in values()) {
            let mirrored: Vec<_> = values.iter().map(|v| -v).collect();
            let (above, below) = (Direction::Above, Direction::Below);
            prop_assert_eq!(
                found(Outlier { direction: above, ..RULE }, &values),
                found(Outlier { direction: below, ..RULE }, &mirrored)
            );
        }

        #[test]
        fn the_order_of_the_pods_does_not_matter(values in values()) {
            let n = values.len();
            let turned: Vec<_> = values.iter().rev().copied().collect();
            let mut back: Vec<_> = found(RULE, &turned).iter().map(|i| n - 1 - i).collect();
            back.reverse();
            prop_assert_eq!(back, found(RULE, &values));
        }

        #[test]
        fn a_fleet_that_agrees_has_no_outlier(value in -1e6_f64..1e6, n in 3_usize..30) {
            prop_assert!(found(RULE, &vec![value; n]).is_empty());
        }
    }
}
