//! The questions of the manifest: as PromQL, and what Prometheus would answer from the scrapes at hand.
//!
//! Takes the manifest with `$CODES`, `$LATENCY` and `$PRICES` in place of its queries; gives it whole. A question and
//! its text stand side by side here, since nothing else keeps them the same.

use serde_json::Value;

use crate::case::Case;
use crate::scrapes::Counters;
use crate::world::World;

/// As shipped with this crate.
const MANIFEST: &str = include_str!("../../manifest.yaml");
/// The shortest look back: shorter ones see too few events.
const SHORTEST_RANGE: u32 = 60;
/// Scrapes that a window should hold: with fewer, one that is missed leaves no increase.
const SCRAPES: u32 = 4;

/// What a breaker asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Answers by code, of each pod.
    Codes,
    /// The mean latency of each pod, over that of all.
    Latency,
    /// The mean price of each pod, over that of all.
    Prices,
}

/// One series of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Series {
    /// Whose, by ordinal.
    pub pod: u32,
    /// The label `code`.
    pub code: Option<&'static str>,
    /// Its value.
    pub value: f64,
}

/// How far the queries look back.
#[must_use]
pub fn range(scrape: u32) -> u32 {
    (scrape * SCRAPES).max(SHORTEST_RANGE)
}

/// The manifest for a case.
///
/// # Errors
/// Where it is no YAML.
pub fn manifest(case: &Case) -> anyhow::Result<Value> {
    Ok(serde_yaml_ng::from_str(&manifest_text(case.scrape))?)
}

/// The manifest for a scrape interval, as text.
#[must_use]
pub fn manifest_text(scrape: u32) -> String {
    let range = range(scrape);
    let with = |text: String, question: Question| {
        text.replace(&format!("${}", question.mark()), &question.promql(range))
    };
    [Question::Codes, Question::Latency, Question::Prices]
        .into_iter()
        .fold(MANIFEST.replace("$RANGE", &range.to_string()).replace("$SCRAPE", &scrape.to_string()), with)
}

impl Question {
    /// The question that the breaker of this name asks.
    ///
    /// # Errors
    /// Where the manifest has a breaker that nobody can answer here.
    pub fn of(breaker: &str) -> anyhow::Result<Self> {
        match breaker {
            "errors" => Ok(Self::Codes),
            "latency" => Ok(Self::Latency),
            "prices" => Ok(Self::Prices),
            _ => anyhow::bail!("manifest.yaml: no question is known for the breaker {breaker}; add one"),
        }
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Codes => "CODES",
            Self::Latency => "LATENCY",
            Self::Prices => "PRICES",
        }
    }

    /// As the manifest has it.
    #[must_use]
    pub fn promql(self, range: u32) -> String {
        let ratio = |sum: &str, count: &str| {
            let of = |by: &str, counter: &str| format!("sum{by} (increase({counter}[{range}s]))");
            let each = [sum, count].map(|counter| of(" by (namespace, pod)", counter));
            let all = [sum, count].map(|counter| of("", counter));
            format!("({} / {}) / scalar({} / {})", each[0], each[1], all[0], all[1])
        };
        match self {
            Self::Codes => format!("sum by (code, namespace, pod) (increase(http_requests_total[{range}s]))"),
            Self::Latency => {
                ratio("http_request_duration_seconds_sum", "http_request_duration_seconds_count")
            }
            Self::Prices => ratio("price_sum", "price_count"),
        }
    }

    /// The answer at the world's second. Series of pods that are gone stay as long as the window holds their scrapes.
    #[must_use]
    pub fn answer(self, world: &World<'_>, range: u32) -> Vec<Series> {
        match self {
            Self::Codes => codes(world, range),
            Self::Latency => ratios(world, range, |c| c.latency_sum, |c| c.good + c.bad),
            Self::Prices => ratios(world, range, |c| c.price_sum, |c| c.price_count),
        }
    }
}

fn codes(world: &World<'_>, range: u32) -> Vec<Series> {
    let mut series = Vec::new();
    for (pod, known) in (0_u32..).zip(&world.pods) {
        let increase = |read: fn(&Counters) -> f64| known.scrapes.increase(world.second, range, read);
        let both = [("200", increase(|c| c.good)), ("500", increase(|c| c.bad))];
        let found = both.into_iter().filter_map(|(code, value)| Some((code, value?)));
        series.extend(found.map(|(code, value)| Series { pod, code: Some(code), value }));
    }
    series
}

/// Each pod's sum / count over that of all. A pod without events is 0 / 0: not a number, as in PromQL.
fn ratios(
    world: &World<'_>,
    range: u32,
    sum: fn(&Counters) -> f64,
    count: fn(&Counters) -> f64,
) -> Vec<Series> {
    let of = |(pod, known): (u32, &crate::world::Pod)| {
        let increase = |read| known.scrapes.increase(world.second, range, read);
        Some((pod, increase(sum)?, increase(count)?))
    };
    let known: Vec<_> = (0_u32..).zip(&world.pods).filter_map(of).collect();
    let total = known.iter().fold((0.0, 0.0), |(s, c), (_, sum, count)| (s + sum, c + count));
    let mean = total.0 / total.1;
    known.into_iter().map(|(pod, sum, count)| Series { pod, code: None, value: sum / count / mean }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::file::parse;

    #[test]
    fn the_manifest_asks_what_is_answered_and_looks_back_four_scrapes() {
        let text = manifest_text(30);
        assert!(!text.contains('$'), "{text}");
        assert!(text.contains("increase(http_requests_total[120s])"), "{text}");
        assert_eq!([5, 15, 60].map(range), [60, 60, 240]);
    }

    #[test]
    fn answers_are_what_the_pods_did() {
        let text = "title: figs\nfleet: [4]\nscrapeSeconds: [5]\nseconds: 200\n\
                    load: {requestsPerSecondPerPod: 50}\nusual: {errorShare: 0}\nepisodes:\n\
                    - {pods: {count: 1}, from: 0, until: 200, do: {errorShare: 0.5, latencyFactor: 4, valueFactor: 3}, bad: true}";
        let case = Case::new(Arc::new(parse("figs", text).unwrap()), 4, 5);
        let odd = (0..4).find(|pod| case.state(*pod, 0).bad).unwrap();
        let mut world = World::new(&case, true);
        let mut out = [false; 4];
        out[(odd as usize + 1) % 4] = true;
        (0..150).for_each(|_| {
            world.scrape();
            world.serve(&out);
        });
        let of = |question: Question, pod: u32| {
            let found = question.answer(&world, 60).into_iter();
            found.filter(|s| s.pod == pod && s.code != Some("200")).map(|s| s.value).next_back().unwrap()
        };
        // A third of 200 a second for 60 s, half of it errors.
        assert!((1_850.0..2_150.0).contains(&of(Question::Codes, odd)), "{}", of(Question::Codes, odd));
        // Means of all: (1 + 1 + 4) / 3 and, since errors tell no price, (1 + 1 + 3 × 0.5) / 2.5.
        assert!((1.95..2.05).contains(&of(Question::Latency, odd)), "{}", of(Question::Latency, odd));
        assert!((2.08..2.2).contains(&of(Question::Prices, odd)), "{}", of(Question::Prices, odd));
        let idle = (odd + 1) % 4;
        assert_eq!(of(Question::Codes, idle), 0.0);
        assert!(of(Question::Latency, idle).is_nan());
    }
}
