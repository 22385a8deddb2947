//! A spec as written to what the controller works with: the core's policy and the sources' questions.
//!
//! Finds every fault at once. Takes the raw JSON, because a stored object may be older than any schema of ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::detector::{Detector, Deviation, Direction, Discrete, Lists};
use kubervisor_core::policy::{
    ActivatorMode as CoreMode, ActivatorPolicy, BreakerPolicy, Confirm, CutsPerPeriod, FloorPolicy, Limits,
    MAX_CUT_PERCENT, Mode as CoreServiceMode, SCRAPE_INTERVAL, ServicePolicy,
};
use serde_json::Value;

use super::{
    ActivatorMode, ActivatorSpec, BreakerSpec, ContinuousValueDeviationSpec, CutsPerPeriodSpec,
    DiscreteValueOutOfListSpec, KubervisorServiceSpec, LimitsSpec, Mode,
};
use crate::sources::{CustomQuestion, Endpoint, EndpointError, PromQuestion, Question, range_of};

/// Periods below this are taken as this: no scrape is faster, and every evaluation costs a query.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);
/// Time that a custom service has; the original's.
const CUSTOM_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that Prometheus has.
const PROMETHEUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Samples older than this (or two periods) say nothing.
const MAX_SAMPLE_AGE: Duration = Duration::from_mins(1);
/// Ranges of queries: a cut is never shorter than the range, and must end in bounded time.
const LONGEST_RANGE: Duration = Duration::from_hours(24);
/// Breakers in a spec.
const BREAKERS_MAX: usize = 16;

/// What a spec may leave to the controller.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `--prometheus-url`.
    pub prometheus: Option<Endpoint>,
}

/// A valid spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Name of the Service.
    pub service: Arc<str>,
    /// For the core.
    pub policy: ServicePolicy,
    /// For the sources, in the order of the breakers.
    pub asked: Vec<Asked>,
    /// What was changed or not understood, a sentence each.
    pub notes: Vec<String>,
}

/// What one breaker asks, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The breaker's name.
    pub breaker: Arc<str>,
    /// Time between two questions.
    pub period: Duration,
    /// The question.
    pub question: Question,
}

/// Reads a spec.
///
/// # Errors
/// Every fault of it, each a sentence that names its field.
pub fn parse(spec: &Value, defaults: &Defaults) -> Result<Parsed, Vec<String>> {
    let spec: KubervisorServiceSpec =
        serde_json::from_value(spec.clone()).map_err(|e| vec![format!("spec: {e}")])?;
    let mut reader = Reader { defaults, errors: Vec::new(), notes: Vec::new() };
    let parsed = reader.service(&spec);
    if reader.errors.is_empty() { Ok(Parsed { notes: reader.notes, ..parsed }) } else { Err(reader.errors) }
}

/// Collects faults while it reads; what it returns is used only if there were none.
struct Reader<'a> {
    defaults: &'a Defaults,
    errors: Vec<String>,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn service(&mut self, spec: &KubervisorServiceSpec) -> Parsed {
        if !dns_label(&spec.service) {
            self.errors.push("spec.service: name a Service of this namespace".into());
        }
        if spec.breakers.is_empty() || spec.breakers.len() > BREAKERS_MAX {
            self.errors.push(format!("spec.breakers: give 1 to {BREAKERS_MAX} breakers"));
        }
        let mut names = BTreeSet::new();
        for breaker in &spec.breakers {
            if !names.insert(&breaker.name) {
                self.errors.push(format!("spec.breakers: the name {:?} is used twice", breaker.name));
            }
        }
        let none = ActivatorSpec::default();
        let default = spec.default_activator.as_ref().unwrap_or(&none);
        let read: Vec<_> = spec.breakers.iter().map(|b| self.breaker(b, default)).collect();
        let (breakers, asked): (Vec<_>, Vec<_>) = read.into_iter().flatten().unzip();
        Parsed {
            service: Arc::from(spec.service.as_str()),
            policy: ServicePolicy {
                mode: mode(spec.mode),
                limits: self.limits(spec.limits.as_ref()),
                breakers,
                default_activator: self.activator("spec.defaultActivator", &none, default),
                holds: Vec::new(),
                kill_stateful_set_pods: false,
            },
            asked,
            notes: Vec::new(),
        }
    }

    fn breaker(&mut self, spec: &BreakerSpec, default: &ActivatorSpec) -> Option<(BreakerPolicy, Asked)> {
        let at = format!("spec.breakers[{}]", spec.name);
        if !label_value(&spec.name) {
            self.errors.push(format!(
                "{at}.name: 1 to 63 letters, digits, - _ or ., since it becomes a label value"
            ));
        }
        let period = self.period(&at, spec);
        let none = ActivatorSpec::default();
        let own = spec.activator.as_ref().unwrap_or(&none);
        let activator = self.activator(&format!("{at}.activator"), default, own);
        let floor = FloorPolicy {
            count: self.count(
                &format!("{at}.minPodsAvailableCount"),
                spec.min_pods_available_count,
                1_000_000,
            ),
            percent: self.count(&format!("{at}.minPodsAvailableRatio"), spec.min_pods_available_ratio, 100),
        };
        // Last: without a detector there is nothing to return, and every other fault has been found by now.
        let (detector, question) = self.detector(&at, spec, period)?;
        let (range, scrape_interval) = match &question {
            Question::Prometheus(q) => (self.range(&at, q), SCRAPE_INTERVAL),
            Question::Custom(_) => (Duration::ZERO, Duration::ZERO),
        };
        let policy = BreakerPolicy {
            name: Arc::from(spec.name.as_str()),
            evaluation_period: period,
            scrape_interval,
            range,
            floor,
            detector,
            confirm: Confirm::ONCE,
            enforced: true,
            activator,
        };
        let asked = Asked { breaker: Arc::clone(&policy.name), period, question };
        Some((policy, asked))
    }

    fn period(&mut self, at: &str, spec: &BreakerSpec) -> Duration {
        let asked = self.duration(&format!("{at}.evaluationPeriod"), spec.evaluation_period.as_ref());
        let period = asked.unwrap_or(Duration::from_secs(5));
        if period > LONGEST_RANGE {
            self.errors.push(format!(
                "{at}.evaluationPeriod: longer than a day, and a cut lasts as long; shorten it"
            ));
        }
        if period < SHORTEST_PERIOD {
            self.notes.push(format!("{at}.evaluationPeriod: less than 1 s is taken as 1 s"));
        }
        period.max(SHORTEST_PERIOD)
    }

    fn range(&mut self, at: &str, question: &PromQuestion) -> Duration {
        let read = range_of(&question.query, question.lookback);
        if !read.understood {
            self.notes.push(format!(
                "{at}.promQL: its range could not be read here and is taken as 5 minutes; cuts last at least that long"
            ));
        }
        if read.range > LONGEST_RANGE {
            self.errors.push(format!(
                "{at}.promQL: looks back more than a day, and a cut would last as long; shorten it"
            ));
        }
        read.range
    }

    fn detector(&mut self, at: &str, spec: &BreakerSpec, period: Duration) -> Option<(Detector, Question)> {
        let custom = spec.custom_service.as_deref().filter(|s| !s.is_empty());
        match (&spec.discrete_value_out_of_list, &spec.continuous_value_deviation, custom) {
            (Some(discrete), None, None) => {
                self.discrete(&format!("{at}.discreteValueOutOfList"), discrete, period)
            }
            (None, Some(deviation), None) => {
                self.deviation(&format!("{at}.continuousValueDeviation"), deviation, period)
            }
            (None, None, Some(service)) => {
                let endpoint =
                    self.endpoint(&format!("{at}.customService"), Endpoint::parse_page(service))?;
                Some((
                    Detector::Custom,
                    Question::Custom(CustomQuestion { endpoint, timeout: CUSTOM_TIMEOUT }),
                ))
            }
            _ => {
                self.errors.push(format!(
                    "{at}: give exactly one of discreteValueOutOfList, continuousValueDeviation and customService"
                ));
                None
            }
        }
    }

    fn discrete(
        &mut self,
        at: &str,
        spec: &DiscreteValueOutOfListSpec,
        period: Duration,
    ) -> Option<(Detector, Question)> {
        let key = self.required(&format!("{at}.key"), spec.key.as_ref(), "the label that holds the value");
        let lists = self.lists(at, spec);
        let tolerance = self.count(&format!("{at}.tolerance"), spec.tolerance, 100).unwrap_or(50);
        let min_activity =
            self.count(&format!("{at}.minActivity"), spec.min_activity, 1_000_000_000).unwrap_or(2);
        let asks = Asks {
            at,
            service: spec.prometheus_service.as_deref(),
            query: spec.prom_ql.as_ref(),
            pod: spec.pod_name_key.as_deref(),
        };
        let question = self.prometheus(&asks, key.clone(), period);
        let rule = Discrete { lists: lists?, tolerance: tolerance.into(), min_activity: min_activity.into() };
        key.and(Some((Detector::Discrete(rule), question?)))
    }

    fn deviation(
        &mut self,
        at: &str,
        spec: &ContinuousValueDeviationSpec,
        period: Duration,
    ) -> Option<(Detector, Question)> {
        let max_percent = spec.max_deviation_percent.unwrap_or(75.0);
        if !max_percent.is_finite() || max_percent < 0.0 {
            self.errors
                .push(format!("{at}.maxDeviationPercent: {max_percent} is not a percentage of 0 or more"));
        }
        let asks = Asks {
            at,
            service: spec.prometheus_service.as_deref(),
            query: spec.prom_ql.as_ref(),
            pod: spec.pod_name_key.as_deref(),
        };
        let question = self.prometheus(&asks, None, period)?;
        Some((Detector::Deviation(Deviation { max_percent, direction: Direction::Both }), question))
    }

    fn prometheus(&mut self, asks: &Asks<'_>, key: Option<Arc<str>>, period: Duration) -> Option<Question> {
        let query = self.required(&format!("{}.promQL", asks.at), asks.query, "the query");
        let field = format!("{}.prometheusService", asks.at);
        let endpoint = match (asks.service.filter(|s| !s.is_empty()), &self.defaults.prometheus) {
            (Some(service), _) => self.endpoint(&field, Endpoint::parse(service)),
            (None, Some(default)) => Some(default.clone()),
            (None, None) => {
                self.errors.push(format!(
                    "{field}: name a Prometheus; the controller has no default (--prometheus-url)"
                ));
                None
            }
        };
        let pod = asks.pod.filter(|p| !p.is_empty()).unwrap_or("pod");
        Some(Question::Prometheus(PromQuestion {
            endpoint: endpoint?,
            query: query?,
            pod_label: Arc::from(pod),
            key_label: key,
            lookback: (period * 2).max(MAX_SAMPLE_AGE),
            timeout: PROMETHEUS_TIMEOUT,
        }))
    }

    fn lists(&mut self, at: &str, spec: &DiscreteValueOutOfListSpec) -> Option<Lists> {
        let set = |values: &Option<Vec<String>>| -> BTreeSet<Arc<str>> {
            values.iter().flatten().map(|v| Arc::from(v.as_str())).collect()
        };
        let (good, bad) = (set(&spec.good_values), set(&spec.bad_values));
        match (good.is_empty(), bad.is_empty()) {
            (true, true) => {
                self.errors.push(format!("{at}: give goodValues, badValues or both"));
                None
            }
            (false, true) => Some(Lists::Good(good)),
            (true, false) => Some(Lists::Bad(bad)),
            (false, false) => Some(Lists::Both { good, bad }),
        }
    }

    fn activator(&mut self, at: &str, default: &ActivatorSpec, own: &ActivatorSpec) -> ActivatorPolicy {
        let mode = match own.mode.or(default.mode).unwrap_or(ActivatorMode::Periodic) {
            ActivatorMode::Periodic => CoreMode::Periodic,
            ActivatorMode::RetryAndKill => CoreMode::RetryAndKill,
            ActivatorMode::RetryAndPause => CoreMode::RetryAndPause,
        };
        let period = own.period.as_ref().or(default.period.as_ref());
        let period = self.duration(&format!("{at}.period"), period).unwrap_or(Duration::from_secs(10));
        let count = |own: Option<i64>, default: Option<i64>| own.or(default);
        let retries = count(own.max_retry_count, default.max_retry_count);
        let retries = self.count(&format!("{at}.maxRetryCount"), retries, 1_000).unwrap_or(3);
        let pauses = count(own.max_pause_count, default.max_pause_count);
        let max_pause_count = self.count(&format!("{at}.maxPauseCount"), pauses, 1_000).unwrap_or(1);
        ActivatorPolicy { max_pause_count, ..ActivatorPolicy::new(mode, period, retries) }
    }

    fn limits(&mut self, spec: Option<&LimitsSpec>) -> Limits {
        let Some(spec) = spec else { return Limits::default() };
        let ratio = self.count("spec.limits.maxCutRatio", spec.max_cut_ratio, 100);
        let at = "spec.limits.maxCutsPerPeriod";
        let cuts_per_period = match &spec.max_cuts_per_period {
            None => Limits::default().cuts_per_period,
            Some(CutsPerPeriodSpec::Count(n)) => {
                CutsPerPeriod::Count(self.count(at, Some(*n), 1_000_000).unwrap_or(0))
            }
            Some(CutsPerPeriodSpec::Share(text)) => CutsPerPeriod::Percent(self.percent(at, text)),
        };
        Limits {
            max_cut_percent: ratio.unwrap_or(MAX_CUT_PERCENT),
            cuts_per_period,
            // Not yet in the schema: off.
            max_anomalous_percent: 100,
            min_coverage_percent: 0,
            ..Limits::default()
        }
    }

    fn percent(&mut self, at: &str, text: &str) -> u32 {
        let read = text.strip_suffix('%').and_then(|n| n.parse::<u32>().ok()).filter(|n| *n <= 100);
        read.unwrap_or_else(|| {
            self.errors.push(format!("{at}: {text:?} is not a share; write a number of pods or \"10%\""));
            0
        })
    }

    fn count(&mut self, at: &str, value: Option<i64>, most: u32) -> Option<u32> {
        let value = value?;
        let read = u32::try_from(value).ok().filter(|n| *n <= most);
        if read.is_none() {
            self.errors.push(format!("{at}: {value} is not within 0 and {most}"));
        }
        read
    }

    fn duration(&mut self, at: &str, value: Option<&super::Duration>) -> Option<Duration> {
        match value?.length() {
            Ok(length) => Some(length),
            Err(error) => {
                self.errors.push(format!("{at}: {error}"));
                None
            }
        }
    }

    fn endpoint(&mut self, at: &str, read: Result<Endpoint, EndpointError>) -> Option<Endpoint> {
        match read {
            Ok(endpoint) => Some(endpoint),
            Err(error) => {
                self.errors.push(format!("{at}: {error}"));
                None
            }
        }
    }

    fn required(&mut self, at: &str, value: Option<&String>, what: &str) -> Option<Arc<str>> {
        let value = value.map(|v| v.trim()).filter(|v| !v.is_empty());
        if value.is_none() {
            self.errors.push(format!("{at}: empty; give {what}"));
        }
        value.map(Arc::from)
    }
}

/// The fields that all PromQL detectors share.
struct Asks<'a> {
    at: &'a str,
    service: Option<&'a str>,
    query: Option<&'a String>,
    pod: Option<&'a str>,
}

/// What Kubernetes takes as a label's value, without the empty one.
fn label_value(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63 && text.chars().all(inner) && outer(text.chars().next()) && outer(text.chars().last())
}

fn dns_label(text: &str) -> bool {
    label_value(text) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn mode(mode: Option<Mode>) -> CoreServiceMode {
    match mode {
        None | Some(Mode::Active) => CoreServiceMode::Active,
        Some(Mode::DryRun) => CoreServiceMode::DryRun,
        Some(Mode::Disabled) => CoreServiceMode::Disabled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn breaker(detector: &Value) -> Value {
        let mut spec = json!({"service": "orchard", "breakers": [{"name": "pears"}]});
        for (field, value) in detector.as_object().unwrap() {
            spec["breakers"][0][field] = value.clone();
        }
        spec
    }

    fn discrete() -> Value {
        breaker(&json!({"discreteValueOutOfList": {
            "prometheusService": "prom.test:9090", "promQL": "sum by (code, pod) (increase(x[3m]))",
            "key": "code", "goodValues": ["200"],
        }}))
    }

    fn errors(spec: &Value) -> Vec<String> {
        parse(spec, &Defaults::default()).unwrap_err()
    }

    #[test]
    fn absent_fields_take_the_documented_defaults() {
        let parsed = parse(&discrete(), &Defaults::default()).unwrap();
        let breaker = &parsed.policy.breakers[0];
        assert_eq!(breaker.evaluation_period, Duration::from_secs(5));
        assert_eq!(breaker.range, Duration::from_mins(3));
        assert_eq!(breaker.floor, FloorPolicy::default());
        assert_eq!(breaker.activator, ActivatorPolicy::default());
        assert_eq!(parsed.policy.limits, Limits::default());
        let Detector::Discrete(rule) = &breaker.detector else { panic!("{breaker:?}") };
        assert!((rule.tolerance, rule.min_activity) == (50.0, 2.0));
    }

    #[test]
    fn explicit_nulls_are_as_good_as_absent() {
        let mut spec = discrete();
        for field in ["activator", "customService", "minPodsAvailableRatio", "continuousValueDeviation"] {
            spec["breakers"][0][field] = Value::Null;
        }
        spec["breakers"][0]["discreteValueOutOfList"]["badValues"] = Value::Null;
        assert_eq!(parse(&spec, &Defaults::default()), parse(&discrete(), &Defaults::default()));
    }

    #[test]
    fn every_fault_is_told_at_once() {
        let mut spec =
            breaker(&json!({"discreteValueOutOfList": {"promQL": null}, "minPodsAvailableRatio": 101}));
        spec["defaultActivator"] = json!({"period": true});
        spec["limits"] = json!({"maxCutsPerPeriod": "ten%"});
        let told = errors(&spec).join("\n");
        for field in
            ["promQL", "key", "goodValues", "prometheusService", "Ratio", "period", "maxCutsPerPeriod"]
        {
            assert!(told.contains(field), "{field} is missing in:\n{told}");
        }
    }

    #[test]
    fn no_detector_and_two_detectors_are_refused() {
        assert!(errors(&breaker(&json!({})))[0].contains("exactly one"));
        assert!(
            errors(&breaker(&json!({"customService": "a:1/x", "continuousValueDeviation": {}})))[0]
                .contains("exactly one")
        );
    }

    #[test]
    fn a_period_below_a_second_is_taken_as_one_with_a_note() {
        let mut spec = discrete();
        spec["breakers"][0]["evaluationPeriod"] = json!(0.05);
        let parsed = parse(&spec, &Defaults::default()).unwrap();
        assert_eq!(parsed.asked[0].period, Duration::from_secs(1));
        assert!(parsed.notes[0].contains("taken as 1 s"));
    }

    #[test]
    fn a_query_that_looks_back_for_years_is_refused() {
        let mut spec = discrete();
        spec["breakers"][0]["discreteValueOutOfList"]["promQL"] = json!("sum by (pod) (increase(x[1000y]))");
        assert!(errors(&spec)[0].contains("more than a day"));
    }

    #[test]
    fn an_activator_overrides_the_default_field_by_field() {
        let mut spec = discrete();
        spec["defaultActivator"] = json!({"mode": "retryAndKill", "period": "20s", "maxRetryCount": 7});
        spec["breakers"][0]["activator"] = json!({"period": 1.5});
        let activator = parse(&spec, &Defaults::default()).unwrap().policy.breakers[0].activator;
        assert_eq!(activator.mode, CoreMode::RetryAndKill);
        assert_eq!((activator.period, activator.max_retry_count), (Duration::from_millis(1_500), 7));
    }
}
