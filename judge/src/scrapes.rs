//! What Prometheus has of a pod, and what `increase` makes of it.
//!
//! Takes counters as they stood at each scrape; gives the increase over a window as Prometheus computes it, its
//! extrapolation to the window's ends included.

use std::collections::VecDeque;

/// What a scrape reads: counters since the pod's start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    /// `http_requests_total{code="200"}`
    pub good: f64,
    /// `http_requests_total{code="500"}`
    pub bad: f64,
    /// `http_request_duration_seconds_sum`
    pub latency_sum: f64,
    /// `price_sum`
    pub price_sum: f64,
    /// `price_count`
    pub price_count: f64,
}

/// The scrapes of one pod, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Scrapes {
    kept: VecDeque<(u32, Counters)>,
}

impl Scrapes {
    /// One more, at this second. `keep`: seconds that are looked back at most.
    pub fn push(&mut self, second: u32, counters: Counters, keep: u32) {
        self.kept.push_back((second, counters));
        while self.kept.front().is_some_and(|(at, _)| at + keep < second) {
            self.kept.pop_front();
        }
    }

    /// `increase(counter[range])` at `now`; `None` with fewer than two samples in the window, which is open on the
    /// left. `read` names the counter.
    #[must_use]
    pub fn increase(&self, now: u32, range: u32, read: impl Fn(&Counters) -> f64) -> Option<f64> {
        let from = self.kept.partition_point(|(at, _)| at + range <= now);
        let samples: Vec<_> = self.kept.range(from..).map(|(at, c)| (f64::from(*at), read(c))).collect();
        increase(&samples, f64::from(now) - f64::from(range), f64::from(now))
    }
}

/// Prometheus' `extrapolatedRate` for a counter that is not a rate (promql/functions.go of Prometheus 3): the raw
/// increase is stretched over the window, but by half a scrape interval at most at an end where the next sample is
/// more than 1.1 intervals away, and not to before the counter was 0. Samples are (second, value).
#[must_use]
pub fn increase(samples: &[(f64, f64)], start: f64, end: f64) -> Option<f64> {
    let [(first_at, first), .., (last_at, last)] = samples else { return None };
    let resets: f64 = samples.windows(2).filter(|w| w[1].1 < w[0].1).map(|w| w[0].1).sum();
    let raw = last - first + resets;
    let sampled = last_at - first_at;
    #[expect(clippy::cast_precision_loss, reason = "a window has a few thousand samples at most")]
    let between = sampled / (samples.len() - 1) as f64;
    let reach = |gap: f64| if gap >= between * 1.1 { between / 2.0 } else { gap };
    let mut before = reach(first_at - start);
    if raw > 0.0 && *first >= 0.0 {
        before = before.min(sampled * (first / raw));
    }
    Some(raw * (sampled + before + reach(end - last_at)) / sampled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(samples: &[(u32, f64)]) -> Scrapes {
        let mut scrapes = Scrapes::default();
        samples.iter().for_each(|(at, good)| {
            scrapes.push(*at, Counters { good: *good, ..Counters::default() }, 1_000);
        });
        scrapes
    }

    /// See `examples/record_increase.rs`.
    #[test]
    fn a_real_prometheus_gives_the_same_increase_for_every_recorded_window() {
        #[derive(serde::Deserialize)]
        struct Window {
            series: String,
            range: f64,
            end: f64,
            samples: Vec<(f64, f64)>,
            increase: Option<f64>,
        }
        let windows: Vec<Window> = serde_json::from_str(include_str!("../fixtures/increase.json")).unwrap();
        assert!(windows.len() > 50);
        for Window { series, range, end, samples, increase: expected } in windows {
            let found = increase(&samples, end - range, end);
            let far = |(a, b): (f64, f64)| (a - b).abs() > 1e-6 * b.abs().max(1.0);
            assert!(
                found.is_some() == expected.is_some() && !found.zip(expected).is_some_and(far),
                "{series}[{range}] at {end}: {found:?}, and Prometheus says {expected:?}"
            );
        }
    }

    #[test]
    fn an_even_counter_gives_what_it_counts_in_the_window() {
        let every_15 = counted(&[(7, 70.0), (22, 220.0), (37, 370.0), (52, 520.0), (67, 670.0)]);
        let increase = every_15.increase(70, 60, |c| c.good).unwrap();
        assert!((increase - 600.0).abs() < 1e-9, "{increase}");
    }

    #[test]
    fn one_sample_is_no_increase_and_the_window_is_open_on_the_left() {
        let two = counted(&[(10, 5.0), (70, 9.0)]);
        assert_eq!(two.increase(70, 60, |c| c.good), None);
        assert!(two.increase(70, 61, |c| c.good).is_some());
    }

    #[test]
    fn a_reset_counts_what_came_after_it() {
        let reset = [(0.0, 90.0), (10.0, 100.0), (20.0, 4.0)];
        // 10 before the reset and 4 after it, no gap to stretch over.
        assert_eq!(increase(&reset, 0.0, 20.0), Some(14.0));
    }
}
