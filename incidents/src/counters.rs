//! What a pod counts about its own answers: the raw material of every detector.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Answer;

/// Monotone counters of one pod, as its metrics page would show them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    requests: BTreeMap<u16, u64>,
    price_sum: f64,
    price_count: u64,
    latency_sum: Duration,
}

impl Counters {
    /// Counters that show these codes from the start, at 0. Without that the first errors of a pod are lost:
    /// Prometheus' `increase` does not see a counter's step from absent to n.
    pub fn with_codes(codes: impl IntoIterator<Item = u16>) -> Self {
        Self { requests: codes.into_iter().map(|code| (code, 0)).collect(), ..Self::default() }
    }

    /// Counts an answer.
    pub fn record(&mut self, answer: &Answer) {
        let Answer { code, price, latency } = *answer;
        *self.requests.entry(code).or_default() += 1;
        self.latency_sum += latency;
        if let Some(price) = price {
            self.price_sum += price;
            self.price_count += 1;
        }
    }

    /// Answers so far by HTTP status, in the order of the codes.
    pub const fn requests(&self) -> &BTreeMap<u16, u64> {
        &self.requests
    }

    /// Answers so far, errors included.
    pub fn answered(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Answers so far with a status of 500 or more.
    pub fn errors(&self) -> u64 {
        self.requests.range(500..).map(|(_, count)| count).sum()
    }

    /// Sum of the prices told so far, in units of money.
    pub const fn price_sum(&self) -> f64 {
        self.price_sum
    }

    /// How many prices were told so far.
    pub const fn price_count(&self) -> u64 {
        self.price_count
    }

    /// Sum of the latencies so far.
    pub const fn latency_sum(&self) -> Duration {
        self.latency_sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, price: Option<f64>) -> Answer {
        Answer { code, price, latency: Duration::from_millis(3) }
    }

    #[test]
    fn an_error_counts_as_an_answer_without_a_price() {
        let mut counters = Counters::with_codes([200, 500]);
        counters.record(&answer(500, None));
        counters.record(&answer(200, Some(17.5)));
        assert_eq!((counters.answered(), counters.errors(), counters.price_count()), (2, 1, 1));
        assert_eq!(counters.price_sum(), 17.5);
        assert_eq!(counters.latency_sum(), Duration::from_millis(6));
    }

    #[test]
    fn known_codes_show_before_the_first_answer() {
        assert_eq!(Counters::with_codes([500, 200]).requests(), &BTreeMap::from([(200, 0), (500, 0)]));
    }
}
