//! `valueOutOfRange`: a value beyond a fixed bound.

use crate::verdict::{Evidence, Measured, SEVERITY_MAX};

/// The rule: v < min or v > max.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Lower bound.
    pub min: Option<f64>,
    /// Upper bound.
    pub max: Option<f64>,
    /// Activity below which nothing is said, where an activity query is given.
    pub min_activity: Option<f64>,
}

impl Bounds {
    /// The measure of one value: 1 at a bound, more beyond it and less within, by the distance in parts of the bound or
    /// of the width of the range, whichever is more.
    pub(super) fn measure(&self, value: f64) -> Measured {
        let Self { min, max, .. } = *self;
        let width = max.zip(min).map_or(0.0, |(max, min)| (max - min).abs());
        let above = max.map(|max| (value - max, max.abs().max(width)));
        let below = min.map(|min| (min - value, min.abs().max(width)));
        let margin = |(distance, scale): (f64, f64)| match distance {
            _ if scale > 0.0 => 1.0 + distance / scale,
            beyond if beyond > 0.0 => SEVERITY_MAX,
            _ => 0.0,
        };
        let beyond = [above, below].into_iter().flatten().any(|(distance, _)| distance > 0.0);
        let margin = [above, below].into_iter().flatten().map(margin).fold(0.0, f64::max);
        Measured::new(beyond, margin, Evidence::Bounds { value, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;
    use proptest::prelude::*;

    fn bounds(min: Option<f64>, max: Option<f64>) -> Bounds {
        Bounds { min, max, min_activity: None }
    }

    fn beyond(rule: Bounds, value: f64) -> bool {
        rule.measure(value).beyond
    }

    #[test]
    fn a_value_at_a_bound_is_healthy_and_one_beyond_it_is_not() {
        let both = bounds(Some(3.0), Some(7.0));
        assert!(!beyond(both, 3.0) && !beyond(both, 7.0));
        assert!(beyond(both, 2.999) && beyond(both, 7.001));
        assert!(beyond(bounds(Some(3.0), None), -1e9) && !beyond(bounds(Some(3.0), None), 1e9));
        assert!(beyond(bounds(None, Some(7.0)), 1e9) && !beyond(bounds(None, Some(7.0)), -1e9));
    }

    #[test]
    fn a_bound_of_nothing_makes_any_excess_the_greatest_there_is() {
        let none_lost = bounds(None, Some(0.0));
        assert!((none_lost.measure(0.001).margin - SEVERITY_MAX).abs() < 1e-9);
        assert!(!beyond(none_lost, 0.0));
        assert!((none_lost.measure(0.0).verdict(true)) == Verdict::Healthy);
    }

    #[test]
    fn an_anomalous_pod_is_healthy_again_a_fifth_of_the_bound_within() {
        let rule = bounds(None, Some(200.0));
        let healthy = |value| rule.measure(value).verdict(true) == Verdict::Healthy;
        assert!(!healthy(199.0) && !healthy(160.1) && healthy(159.9));
    }

    #[test]
    fn the_evidence_names_the_value_and_the_bound_that_it_is_beyond() {
        let rule = bounds(Some(3.0), Some(7.0));
        assert_eq!(rule.measure(2.5).evidence.to_string(), "2.5000 < 3.0000");
        assert_eq!(rule.measure(9.0).evidence.to_string(), "9.0000 > 7.0000");
    }

    fn bound() -> impl Strategy<Value = Option<f64>> {
        proptest::option::of(prop_oneof![-1e6_f64..1e6, Just(0.0)])
    }

    proptest! {
        #[test]
        fn a_margin_is_one_or_more_exactly_beyond_the_rule_and_grows_with_the_distance(
            min in bound(), width in 0.0_f64..1e6, above in any::<bool>(), value in -1e7_f64..1e7, further in 0.0_f64..1e6,
        ) {
            let rule = bounds(min, above.then(|| min.unwrap_or(5.0) + width));
            let measured = rule.measure(value);
            let outside = rule.min.is_some_and(|min| value < min) || rule.max.is_some_and(|max| value > max);
            prop_assert_eq!(measured.beyond, outside);
            prop_assert!((0.0..=SEVERITY_MAX).contains(&measured.margin));
            prop_assert!((measured.margin >= 1.0 || !outside) && (measured.margin <= 1.0 || outside));
            let out = if rule.max.is_some_and(|max| value > max) { value + further } else { value - further };
            prop_assert!(!outside || rule.measure(out).margin >= measured.margin);
        }
    }
}
