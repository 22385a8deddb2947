//! The questions of the manifest: as PromQL, and what Prometheus would answer from the scrapes at hand.
//!
//! Takes the manifest with marks such as `$CODES` in place of its queries; gives it whole. A question and its text
//! stand side by side here, and a query of the manifest is known by its text, so that no breaker is answered what it
//! did not ask.

use serde_json::Value;

use crate::case::Case;
use crate::scrapes::Counters;
use crate::world::{Pod, World};

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
    /// All answers of each pod.
    Activity,
    /// Share of errors in the answers of each pod.
    ErrorShare,
    /// Mean latency of each pod, in seconds.
    Latency,
    /// Mean price of each pod.
    Price,
    /// Mean latency of each pod, over that of all.
    LatencyToMean,
    /// Mean price of each pod, over that of all.
    PriceToMean,
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

/// A counter: how PromQL names it, and where a scrape has it.
type Counter = (&'static str, fn(&Counters) -> f64);

const ALL_ANSWERS: Counter = ("http_requests_total", |c| c.good + c.bad);
const ERRORS: Counter = ("http_requests_total{code=\"500\"}", |c| c.bad);
const LATENCY_SUM: Counter = ("http_request_duration_seconds_sum", |c| c.latency_sum);
const LATENCY_COUNT: Counter = ("http_request_duration_seconds_count", |c| c.good + c.bad);
const PRICE_SUM: Counter = ("price_sum", |c| c.price_sum);
const PRICE_COUNT: Counter = ("price_count", |c| c.price_count);

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
    let with = |text: String, question: Question| text.replace(question.mark(), &question.promql(range));
    Question::ALL.into_iter().fold(MANIFEST.replace("$SCRAPE", &scrape.to_string()), with)
}

impl Question {
    const ALL: [Self; 7] = [
        Self::Codes,
        Self::Activity,
        Self::ErrorShare,
        Self::Latency,
        Self::Price,
        Self::LatencyToMean,
        Self::PriceToMean,
    ];

    /// The question that a query of the manifest is.
    ///
    /// # Errors
    /// Where nobody can answer it here.
    pub fn of(query: &str, range: u32) -> anyhow::Result<Self> {
        let found = Self::ALL.into_iter().find(|question| question.promql(range) == query);
        found.ok_or_else(|| {
            anyhow::anyhow!("manifest.yaml: no answer is known to {query}; add it to contender/question.rs")
        })
    }

    fn mark(self) -> &'static str {
        match self {
            Self::Codes => "$CODES",
            Self::Activity => "$ACTIVITY",
            Self::ErrorShare => "$ERROR_SHARE",
            Self::Latency => "$LATENCY",
            Self::Price => "$PRICE",
            Self::LatencyToMean => "$RATIO_OF_LATENCY",
            Self::PriceToMean => "$RATIO_OF_PRICE",
        }
    }

    /// As the manifest has it.
    #[must_use]
    pub fn promql(self, range: u32) -> String {
        let of = |by: &str, (counter, _): Counter| format!("sum{by} (increase({counter}[{range}s]))");
        let each = |counter| of(" by (namespace, pod)", counter);
        let mean = |sum, count| format!("{} / {}", each(sum), each(count));
        let to_mean =
            |sum, count| format!("({}) / scalar({} / {})", mean(sum, count), of("", sum), of("", count));
        match self {
            Self::Codes => of(" by (code, namespace, pod)", ALL_ANSWERS),
            Self::Activity => each(ALL_ANSWERS),
            Self::ErrorShare => mean(ERRORS, ALL_ANSWERS),
            Self::Latency => mean(LATENCY_SUM, LATENCY_COUNT),
            Self::Price => mean(PRICE_SUM, PRICE_COUNT),
            Self::LatencyToMean => to_mean(LATENCY_SUM, LATENCY_COUNT),
            Self::PriceToMean => to_mean(PRICE_SUM, PRICE_COUNT),
        }
    }

    /// The answer at the world's second. Series of pods that are gone stay as long as the window holds their scrapes.
    #[must_use]
    pub fn answer(self, world: &World<'_>, range: u32) -> Vec<Series> {
        let means = |sum, count| means(world, range, sum, count).0;
        let to_mean = |sum, count| {
            let (each, all) = self::means(world, range, sum, count);
            each.into_iter().map(|one| Series { value: one.value / all, ..one }).collect()
        };
        match self {
            Self::Codes => codes(world, range),
            Self::Activity => increases(world, range, ALL_ANSWERS),
            Self::ErrorShare => means(ERRORS, ALL_ANSWERS),
            Self::Latency => means(LATENCY_SUM, LATENCY_COUNT),
            Self::Price => means(PRICE_SUM, PRICE_COUNT),
            Self::LatencyToMean => to_mean(LATENCY_SUM, LATENCY_COUNT),
            Self::PriceToMean => to_mean(PRICE_SUM, PRICE_COUNT),
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

/// Summed over the codes: all series of a pod are scraped at once, so that it does not matter what is summed first.
fn increases(world: &World<'_>, range: u32, (_, read): Counter) -> Vec<Series> {
    let of = |(pod, known): (u32, &Pod)| {
        let value = known.scrapes.increase(world.second, range, read)?;
        Some(Series { pod, code: None, value })
    };
    (0_u32..).zip(&world.pods).filter_map(of).collect()
}

/// Each pod's sum / count, and that of all. A pod without events is 0 / 0: not a number, as in PromQL.
fn means(world: &World<'_>, range: u32, sum: Counter, count: Counter) -> (Vec<Series>, f64) {
    let [sums, counts] = [sum, count].map(|counter| increases(world, range, counter));
    let total = |of: &[Series]| of.iter().map(|one| one.value).sum::<f64>();
    let all = total(&sums) / total(&counts);
    let each = sums.into_iter().zip(counts).map(|(s, c)| Series { value: s.value / c.value, ..s });
    (each.collect(), all)
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
        assert_eq!(Question::of(&Question::Price.promql(9), 9).unwrap(), Question::Price);
        assert!(Question::of("up", 9).unwrap_err().to_string().contains("no answer is known to up"));
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
        let near = |question, expected: f64| {
            let found = of(question, odd);
            assert!((found / expected - 1.0).abs() < 0.05, "{question:?}: {found}, not {expected}");
        };
        // A third of 200 a second for 60 s, half of it errors; latencies are 30 ms in the mean.
        near(Question::Codes, 2_000.0);
        near(Question::Activity, 4_000.0);
        near(Question::ErrorShare, 0.5);
        near(Question::Latency, 0.12);
        near(Question::Price, 300.0);
        // Means of all: (1 + 1 + 4) / 3 and, since errors tell no price, (1 + 1 + 3 × 0.5) / 2.5.
        near(Question::LatencyToMean, 2.0);
        near(Question::PriceToMean, 3.0 / 1.4);
        let idle = (odd + 1) % 4;
        assert_eq!((of(Question::Codes, idle), of(Question::Activity, idle)), (0.0, 0.0));
        assert!(of(Question::Latency, idle).is_nan() && of(Question::PriceToMean, idle).is_nan());
    }
}
