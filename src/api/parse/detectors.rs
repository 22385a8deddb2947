//! The one detector of a breaker: its rule for the core, and what it asks of a source.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::detector::{Detector, Deviation, Direction as CoreDirection, Discrete, Lists};

use super::Reader;
use crate::api::{BreakerSpec, ContinuousValueDeviationSpec, Direction, DiscreteValueOutOfListSpec};
use crate::sources::{CustomQuestion, Endpoint, PromQuestion, Question};

/// Time that a custom service has; the original's.
const CUSTOM_TIMEOUT: Duration = Duration::from_secs(1);
/// Time that Prometheus has.
const PROMETHEUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Samples older than this (or two periods) say nothing.
const MAX_SAMPLE_AGE: Duration = Duration::from_mins(1);

impl Reader<'_> {
    pub(super) fn detector(
        &mut self,
        at: &str,
        spec: &BreakerSpec,
        period: Duration,
    ) -> Option<(Detector, Question)> {
        let custom = spec.custom_service.as_deref().filter(|s| !s.is_empty());
        match (&spec.discrete_value_out_of_list, &spec.continuous_value_deviation, custom) {
            (Some(discrete), None, None) => {
                self.discrete(&format!("{at}.discreteValueOutOfList"), discrete, period)
            }
            (None, Some(deviation), None) => {
                self.deviation(&format!("{at}.continuousValueDeviation"), deviation, period)
            }
            (None, None, Some(service)) => {
                let timeout =
                    self.timeout(&format!("{at}.customServiceTimeout"), spec.custom_service_timeout.as_ref());
                let timeout = timeout.unwrap_or(CUSTOM_TIMEOUT);
                let endpoint =
                    self.endpoint(&format!("{at}.customService"), Endpoint::parse_page(service))?;
                Some((Detector::Custom, Question::Custom(CustomQuestion { endpoint, timeout })))
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
        let direction = spec.direction.map_or(CoreDirection::Both, direction);
        Some((Detector::Deviation(Deviation { max_percent, direction }), question))
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
}

/// The fields that all PromQL detectors share.
struct Asks<'a> {
    at: &'a str,
    service: Option<&'a str>,
    query: Option<&'a String>,
    pod: Option<&'a str>,
}

fn direction(direction: Direction) -> CoreDirection {
    match direction {
        Direction::Both => CoreDirection::Both,
        Direction::Above => CoreDirection::Above,
        Direction::Below => CoreDirection::Below,
    }
}
