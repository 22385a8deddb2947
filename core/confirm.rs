//! What a breaker remembers of one pod: its last counted verdicts.
//!
//! Takes known verdicts, one by one; says whether the anomaly is confirmed. Only pods with something to remember have
//! a record: one without any is a pod that was healthy.

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::{BreakerPolicy, Confirm};

/// How verdicts of one breaker count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counting {
    confirm: Confirm,
    /// Verdicts closer together may show the same scrape, which must not confirm itself.
    apart: Duration,
    /// An older verdict says nothing of now.
    lasts: Duration,
}

impl Counting {
    pub(crate) fn of(breaker: &BreakerPolicy) -> Self {
        let periods = breaker.evaluation_period.saturating_mul(3);
        let ranges = breaker.range.saturating_mul(2);
        Self {
            confirm: breaker.confirm,
            // Scrapes and answers come a little early or late: without the twentieth every other answer would miss.
            apart: breaker.scrape_interval.saturating_sub(breaker.scrape_interval / 20),
            lasts: periods.max(ranges).max(Duration::from_mins(2)),
        }
    }
}

impl Counting {
    /// Whether an answer asked for at `asked` can show another scrape than one asked for at `last`.
    pub(crate) fn is_new(self, last: Duration, asked: Duration) -> bool {
        asked.saturating_sub(last) >= self.apart
    }
}

/// The last counted verdicts, oldest first: when, and whether anomalous.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Record(VecDeque<(Duration, bool)>);

impl Record {
    /// Takes one known verdict.
    pub(crate) fn note(&mut self, anomalous: bool, counting: Counting, now: Duration) {
        self.0.retain(|(at, _)| now.saturating_sub(*at) <= counting.lasts);
        if self.0.back().is_some_and(|(last, _)| !counting.is_new(*last, now)) {
            return;
        }
        self.0.push_back((now, anomalous));
        while self.0.len() > usize::from(counting.confirm.of) {
            self.0.pop_front();
        }
    }

    /// Anomalous ones among those that still say something.
    pub(crate) fn found(&self, counting: Counting, now: Duration) -> u8 {
        let lasting =
            |(at, anomalous): &&(Duration, bool)| *anomalous && now.saturating_sub(*at) <= counting.lasts;
        u8::try_from(self.0.iter().filter(lasting).count()).unwrap_or(u8::MAX)
    }

    pub(crate) fn confirmed(&self, counting: Counting, now: Duration) -> bool {
        self.found(counting, now) >= counting.confirm.anomalous
    }

    /// Nothing in it that a new record would not say.
    pub(crate) fn empty(&self) -> bool {
        self.0.iter().all(|(_, anomalous)| !anomalous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{breaker, custom};
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn two_of_three(scrape: u64) -> Counting {
        let (confirm, scrape_interval) = (Confirm::USUAL, SECOND * u32::try_from(scrape).unwrap());
        Counting::of(&BreakerPolicy { confirm, scrape_interval, ..breaker("b", custom()) })
    }

    fn confirmed(scrape: u64, verdicts: &[(u64, bool)]) -> bool {
        let (counting, mut record) = (two_of_three(scrape), Record::default());
        let mut last = Duration::ZERO;
        for (second, anomalous) in verdicts {
            last = Duration::from_secs(*second);
            record.note(*anomalous, counting, last);
        }
        record.confirmed(counting, last)
    }

    #[test]
    fn two_of_the_last_three_confirm_and_one_odd_scrape_does_not() {
        assert!(!confirmed(15, &[(0, true)]));
        assert!(confirmed(15, &[(0, true), (15, true)]));
        assert!(confirmed(15, &[(0, true), (15, false), (30, true)]));
        assert!(!confirmed(15, &[(0, true), (15, false), (30, false), (45, true)]));
    }

    #[test]
    fn a_scrape_does_not_confirm_itself() {
        assert!(!confirmed(15, &[(0, true), (5, true), (10, true)]));
        assert!(confirmed(15, &[(0, true), (5, true), (10, true), (15, true)]));
        assert!(confirmed(0, &[(0, true), (1, true)]));
    }

    #[test]
    fn an_old_verdict_no_longer_counts() {
        assert!(confirmed(15, &[(0, true), (120, true)]));
        assert!(!confirmed(15, &[(0, true), (121, true)]));
    }

    proptest! {
        #[test]
        fn a_confirmed_pod_was_anomalous_often_enough_and_far_enough_apart(
            steps in proptest::collection::vec((1_u64..40, any::<bool>()), 1..40),
        ) {
            let mut second = 0;
            let verdicts: Vec<_> = steps.into_iter().map(|(step, bad)| { second += step; (second, bad) }).collect();
            if confirmed(15, &verdicts) {
                let bad: Vec<_> = verdicts.iter().filter(|(at, bad)| *bad && second - at <= 120).collect();
                let apart = bad.iter().any(|(a, _)| bad.iter().any(|(b, _)| a.abs_diff(*b) >= 15));
                prop_assert!(apart, "{verdicts:?}");
            }
        }
    }
}
