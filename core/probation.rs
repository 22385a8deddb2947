//! A pod that is back: settle, then probation.
//!
//! ```text
//!   restored --> settling ------------------> on probation ---------------> trusted
//!                (its verdicts are of before)   | 3 healthy, or 5 min without a verdict
//!                                               | one anomalous verdict
//!                                               v
//!                                            cut again, with one strike more
//! ```
//! Takes the times of the cut and the return, and verdicts; says which of the three it is. The time of the return
//! stands on the pod; the rest may be lost, which only makes a cut later.

use std::time::Duration;

use crate::policy::BreakerPolicy;

/// Healthy verdicts that end a probation.
const HEALTHY: u8 = 3;
/// A pod of which nothing was heard for this long after it settled is on probation no more: unproven.
const UNPROVEN: Duration = Duration::from_mins(5);
/// A slot for returns is held at most this long beyond the query's range.
const SLOT: Duration = Duration::from_mins(2);

/// One return, by the clock that cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Returned {
    /// When.
    at: Duration,
    /// When the cut before it was made, where that is remembered.
    cut_at: Option<Duration>,
    /// Healthy verdicts that counted.
    healthy: u8,
    /// The last verdict that counted.
    heard: Option<Duration>,
    over: bool,
}

impl Returned {
    pub(crate) fn new(at: Duration, cut_at: Option<Duration>) -> Self {
        Self { at, cut_at: cut_at.filter(|cut| *cut <= at), healthy: 0, heard: None, over: false }
    }

    /// It came back long ago.
    pub(crate) fn trust(&mut self) {
        self.over = true;
    }

    /// From when on verdicts of `breaker` count: two scrapes have seen the pod serve, and nothing of before the cut is
    /// left in the query's window. A cut that is not remembered ended just now, as far as anybody knows.
    pub(crate) fn settled_at(&self, breaker: &BreakerPolicy) -> Duration {
        let scrapes = breaker.scrape_interval.saturating_mul(2).saturating_add(breaker.evaluation_period);
        let window = self.cut_at.unwrap_or(self.at).saturating_add(breaker.shortest_cut());
        self.at.saturating_add(scrapes).max(window)
    }

    pub(crate) fn settles(&self, breaker: &BreakerPolicy, now: Duration) -> bool {
        now < self.settled_at(breaker)
    }

    /// Whether one anomalous verdict of `breaker` is enough.
    pub(crate) fn on_probation(&self, breaker: &BreakerPolicy, now: Duration) -> bool {
        let heard = self.heard.unwrap_or_default().max(self.settled_at(breaker));
        !self.over && now.saturating_sub(heard) < UNPROVEN
    }

    /// A known verdict after the pod settled. Those closer together than a scrape count once.
    pub(crate) fn hear(&mut self, healthy: bool, breaker: &BreakerPolicy, now: Duration) {
        let apart = breaker.scrape_interval.saturating_sub(breaker.scrape_interval / 20);
        let soon = self.heard.is_some_and(|heard| now.saturating_sub(heard) < apart);
        if self.over || (soon && healthy) {
            return;
        }
        self.heard = Some(now);
        self.healthy = if healthy { self.healthy.saturating_add(1) } else { 0 };
        self.over = self.healthy >= HEALTHY;
    }

    /// Whether it holds one of the slots for returns, where the longest range is `range`.
    pub(crate) fn holds_slot(&self, range: Duration, now: Duration) -> bool {
        !self.over && now.saturating_sub(self.at) < range.saturating_add(SLOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{breaker, custom};

    const SECOND: Duration = Duration::from_secs(1);

    /// Asked every 2 s, scraped every 5 s, looking back 30 s.
    fn rule() -> BreakerPolicy {
        let (scrape_interval, range) = (SECOND * 5, SECOND * 30);
        BreakerPolicy { scrape_interval, range, ..breaker("b", custom()) }
    }

    #[test]
    fn verdicts_count_once_two_scrapes_saw_it_serve_and_the_window_is_clean() {
        assert_eq!(Returned::new(SECOND * 100, Some(SECOND * 10)).settled_at(&rule()), SECOND * 112);
        assert_eq!(Returned::new(SECOND * 100, Some(SECOND * 90)).settled_at(&rule()), SECOND * 127);
        assert_eq!(
            Returned::new(SECOND * 100, None).settled_at(&rule()),
            SECOND * 137,
            "a cut that is forgotten"
        );
    }

    #[test]
    fn three_healthy_verdicts_end_a_probation_and_one_scrape_counts_once() {
        let mut back = Returned::new(SECOND * 100, Some(SECOND * 10));
        for second in [112, 113, 114, 117] {
            back.hear(true, &rule(), SECOND * second);
        }
        assert!(back.on_probation(&rule(), SECOND * 117));
        back.hear(true, &rule(), SECOND * 122);
        assert!(!back.on_probation(&rule(), SECOND * 122));
        assert!(!back.holds_slot(SECOND * 30, SECOND * 122));
    }

    #[test]
    fn five_minutes_without_a_word_end_it_too_and_its_slot_sooner() {
        let back = Returned::new(SECOND * 100, Some(SECOND * 10));
        assert!(back.holds_slot(SECOND * 30, SECOND * 249) && !back.holds_slot(SECOND * 30, SECOND * 250));
        assert!(back.on_probation(&rule(), SECOND * 411) && !back.on_probation(&rule(), SECOND * 412));
    }

    #[test]
    fn an_anomalous_verdict_starts_the_count_again() {
        let mut back = Returned::new(SECOND * 100, Some(SECOND * 10));
        for (second, healthy) in [(112, true), (117, true), (122, false), (127, true), (132, true)] {
            back.hear(healthy, &rule(), SECOND * second);
        }
        assert!(back.on_probation(&rule(), SECOND * 132));
    }
}
