//! `discreteValueOutOfList`: the share of events whose key is a bad value.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::detector::number;
use crate::sample::Row;
use crate::verdict::{Evidence, Measure, Measured, Unknown, multiple};

/// The rule: bad / (good + bad) above the tolerance, on enough events to be sure of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Discrete {
    /// Which values are bad.
    pub lists: Lists,
    /// Percent of bad events that is tolerated.
    pub tolerance: f64,
    /// Events below which nothing is said.
    pub min_activity: f64,
}

/// `goodValues` and `badValues`, of which at least one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lists {
    /// Whatever is not good is bad.
    Good(BTreeSet<Arc<str>>),
    /// Whatever is not bad is good.
    Bad(BTreeSet<Arc<str>>),
    /// A value in neither list counts nowhere.
    Both {
        /// Good values.
        good: BTreeSet<Arc<str>>,
        /// Bad values; they win where a value stands in both.
        bad: BTreeSet<Arc<str>>,
    },
}

impl Lists {
    /// Whether the value stands in one of the lists.
    fn names(&self, value: &str) -> bool {
        match self {
            Self::Good(list) | Self::Bad(list) => list.contains(value),
            Self::Both { good, bad } => good.contains(value) || bad.contains(value),
        }
    }

    /// `Some(true)` bad, `Some(false)` good, `None` neither. A series without the key has the empty value.
    fn is_bad(&self, value: &str) -> Option<bool> {
        match self {
            Self::Good(good) => Some(!good.contains(value)),
            Self::Bad(bad) => Some(bad.contains(value)),
            Self::Both { bad, .. } if bad.contains(value) => Some(true),
            Self::Both { good, .. } => good.contains(value).then_some(false),
        }
    }
}

impl Discrete {
    /// The measure of one pod from its rows, sorted by key.
    pub(super) fn judge(&self, rows: &[Row]) -> Measure {
        let (good, bad) = self.counts(rows)?;
        self.weigh(good, bad)
    }

    /// Whether the series lacks the key, and nobody said what that means: it would be neither good nor bad, but simply
    /// not in the list, and a query that aggregates the key away would condemn every pod.
    #[must_use]
    pub fn lacks_key(&self, row: &Row) -> bool {
        row.key.as_deref().is_none_or(str::is_empty) && !self.lists.names("")
    }

    fn counts(&self, rows: &[Row]) -> Result<(f64, f64), Unknown> {
        if rows.is_empty() {
            return Err(Unknown::NoSeries);
        }
        if rows.windows(2).any(|pair| pair[0].key == pair[1].key) {
            return Err(Unknown::AmbiguousSeries);
        }
        if rows.iter().any(|row| self.lacks_key(row)) {
            return Err(Unknown::NoKey);
        }
        let (mut good, mut bad) = (0.0, 0.0);
        for row in rows {
            let count = number(row.reading)?;
            if count < 0.0 {
                return Err(Unknown::Negative);
            }
            match self.lists.is_bad(row.key.as_deref().unwrap_or_default()) {
                Some(true) => bad += count,
                Some(false) => good += count,
                None => {}
            }
        }
        Ok((good, bad))
    }

    fn weigh(&self, good: f64, bad: f64) -> Measure {
        let events = good + bad;
        // Not `events < min`: an idle pod with minActivity 0 has no share at all.
        if events <= 0.0 || events < self.min_activity || !events.is_finite() {
            return Err(Unknown::TooLittle);
        }
        let percent = bad / events * 100.0;
        let beyond = percent > self.tolerance;
        if beyond && wilson_lower_bound(bad, events) * 100.0 <= self.tolerance {
            return Err(Unknown::TooLittle);
        }
        let evidence = Evidence::BadShare { percent, tolerance: self.tolerance, events };
        Ok(Measured::new(beyond, multiple(percent, self.tolerance), evidence))
    }
}

/// Lower end of the Wilson score interval at 95 % for `hits` of `tries` (E. B. Wilson, 1927): with few events the
/// true share may be far below the observed one. 2 of 2 gives 0.34, 4 of 4 gives 0.51.
fn wilson_lower_bound(hits: f64, tries: f64) -> f64 {
    const Z: f64 = 1.959_963_984_540_054;
    let z2 = Z * Z;
    let share = hits / tries;
    let centre = share + z2 / (2.0 * tries);
    let spread = Z * ((share * (1.0 - share) + z2 / (4.0 * tries)) / tries).sqrt();
    (centre - spread) / (1.0 + z2 / tries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Reading;
    use crate::verdict::{SEVERITY_MAX, Verdict};
    use proptest::prelude::*;

    fn set(values: &[&str]) -> BTreeSet<Arc<str>> {
        values.iter().map(|v| Arc::from(*v)).collect()
    }

    fn rule(lists: Lists) -> Discrete {
        Discrete { lists, tolerance: 50.0, min_activity: 2.0 }
    }

    fn rows(counts: &[(&str, f64)]) -> Vec<Row> {
        let row = |(key, value): &(&str, f64)| Row {
            namespace: None,
            pod: "p".into(),
            key: Some((*key).into()),
            reading: Reading::of(*value),
        };
        counts.iter().map(row).collect()
    }

    fn verdict(counts: &[(&str, f64)]) -> Verdict {
        Verdict::of(rule(Lists::Good(set(&["200", "201"]))).judge(&rows(counts)), false)
    }

    #[test]
    fn a_share_above_the_tolerance_is_anomalous_and_says_so() {
        let Verdict::Anomalous { severity, evidence } = verdict(&[("200", 158.0), ("500", 254.0)]) else {
            panic!("a pod with 62 % errors of 412 was not anomalous");
        };
        assert_eq!(evidence.to_string(), "bad 62 % > 50 % of 412");
        assert!((1.2..1.3).contains(&severity));
    }

    #[test]
    fn exactly_the_tolerance_is_healthy() {
        assert_eq!(verdict(&[("200", 50.0), ("500", 50.0)]), Verdict::Healthy);
    }

    #[test]
    fn two_errors_of_two_are_no_proof_and_four_of_four_are() {
        assert_eq!(verdict(&[("500", 2.0)]), Verdict::Unknown(Unknown::TooLittle));
        assert!(matches!(verdict(&[("500", 4.0)]), Verdict::Anomalous { .. }));
    }

    #[test]
    fn one_error_of_one_request_and_an_idle_pod_are_unknown() {
        assert_eq!(verdict(&[("500", 1.0)]), Verdict::Unknown(Unknown::TooLittle));
        assert_eq!(verdict(&[("200", 0.0), ("500", 0.0)]), Verdict::Unknown(Unknown::TooLittle));
    }

    #[test]
    fn counts_that_are_no_counts_are_unknown() {
        assert_eq!(verdict(&[("200", 9.0), ("500", -4.0)]), Verdict::Unknown(Unknown::Negative));
        assert_eq!(verdict(&[("200", 9.0), ("500", f64::NAN)]), Verdict::Unknown(Unknown::NotANumber));
        assert_eq!(verdict(&[("500", f64::INFINITY)]), Verdict::Unknown(Unknown::Infinite));
        assert_eq!(verdict(&[]), Verdict::Unknown(Unknown::NoSeries));
        assert_eq!(verdict(&[("500", 9.0), ("500", 9.0)]), Verdict::Unknown(Unknown::AmbiguousSeries));
    }

    #[test]
    fn a_value_in_neither_list_counts_nowhere() {
        let both = rule(Lists::Both { good: set(&["200"]), bad: set(&["500"]) });
        let beyond = |rule: &Discrete, counts: &[_]| rule.judge(&rows(counts)).unwrap().beyond;
        assert!(!beyond(&both, &[("200", 10.0), ("404", 900.0), ("500", 1.0)]));
        let bad = rule(Lists::Bad(set(&["500"])));
        assert!(!beyond(&bad, &[("404", 900.0), ("500", 20.0)]));
    }

    #[test]
    fn a_series_without_the_key_is_unknown_and_condemns_nobody() {
        let bare = || rows(&[("", 90.0)]);
        let mut absent = bare();
        absent[0].key = None;
        let lists = [
            Lists::Good(set(&["200"])),
            Lists::Bad(set(&["500"])),
            Lists::Both { good: set(&["200"]), bad: set(&["500"]) },
        ];
        for lists in lists {
            assert_eq!(rule(lists.clone()).judge(&bare()), Err(Unknown::NoKey));
            assert_eq!(rule(lists.clone()).judge(&absent), Err(Unknown::NoKey));
            assert_eq!(rule(lists).judge(&rows(&[("", 1.0), ("200", 90.0)])), Err(Unknown::NoKey));
        }
        let named = |lists| rule(lists).judge(&bare()).unwrap().beyond;
        assert!(named(Lists::Bad(set(&[""]))) && !named(Lists::Good(set(&[""]))));
    }

    proptest! {
        #[test]
        fn the_bound_lies_below_the_share_and_rises_with_the_evidence(hits in 0_u32..500, misses in 0_u32..500) {
            prop_assume!(hits + misses > 0);
            let (h, n) = (f64::from(hits), f64::from(hits + misses));
            let bound = wilson_lower_bound(h, n);
            prop_assert!(bound <= h / n + 1e-9 && bound >= -1e-9);
            prop_assert!(wilson_lower_bound(h * 10.0, n * 10.0) >= bound - 1e-9);
        }

        #[test]
        fn a_severity_is_finite_and_at_least_one(bad in 0.0_f64..1e9, good in 0.0_f64..1e9, tolerance in 0.0_f64..100.0) {
            let rule = Discrete { lists: Lists::Bad(set(&["bad"])), tolerance, min_activity: 2.0 };
            if let Ok(Measured { beyond: true, margin, .. }) = rule.judge(&rows(&[("bad", bad), ("good", good)])) {
                prop_assert!((1.0..=SEVERITY_MAX).contains(&margin));
                prop_assert!(bad / (bad + good) * 100.0 > tolerance);
            }
        }
    }
}
