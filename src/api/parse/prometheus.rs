//! What a detector asks of a Prometheus.

use std::sync::Arc;
use std::time::Duration;

use super::Reader;
use crate::api::PromSourceSpec;
use crate::sources::{Endpoint, PromQuestion, Question};

/// Time that Prometheus has.
const PROMETHEUS_TIMEOUT: Duration = Duration::from_secs(5);
/// Samples older than this (or two periods) say nothing.
const MAX_SAMPLE_AGE: Duration = Duration::from_mins(1);

/// Everything of a question but the query; nothing where a fault was found in it.
pub(super) struct Asks<'r, 'd> {
    reader: &'r mut Reader<'d>,
    at: String,
    endpoint: Option<Endpoint>,
    pod: Arc<str>,
    namespace: Arc<str>,
    period: Duration,
}

impl<'d> Reader<'d> {
    pub(super) fn asks<'r>(&'r mut self, at: &str, spec: &PromSourceSpec, period: Duration) -> Asks<'r, 'd> {
        let label = |given: &Option<String>, usual: &str| -> Arc<str> {
            Arc::from(given.as_deref().filter(|label| !label.is_empty()).unwrap_or(usual))
        };
        let endpoint =
            self.prometheus(&format!("{at}.prometheusService"), spec.prometheus_service.as_deref());
        Asks {
            at: at.to_owned(),
            endpoint,
            pod: label(&spec.pod_name_key, "pod"),
            namespace: label(&spec.pod_namespace_key, "namespace"),
            period,
            reader: self,
        }
    }

    fn prometheus(&mut self, at: &str, service: Option<&str>) -> Option<Endpoint> {
        match (service.filter(|s| !s.is_empty()), &self.defaults.prometheus) {
            (Some(service), _) => self.endpoint(at, Endpoint::parse(service)),
            (None, Some(default)) => Some(default.clone()),
            (None, None) => {
                self.errors.push(format!(
                    "{at}: name a Prometheus; the controller has no default (--prometheus-url)"
                ));
                None
            }
        }
    }
}

impl Asks<'_, '_> {
    /// The detector's own query.
    pub(super) fn value(&mut self, query: Option<&String>, key: Option<Arc<str>>) -> Option<Question> {
        let query = self.reader.required(&format!("{}.promQL", self.at), query, "the query");
        self.question(query?, key)
    }

    /// The query that says how busy the pods are, and what is too little. Both or neither.
    pub(super) fn activity(
        &mut self,
        query: Option<&String>,
        min: Option<f64>,
    ) -> (Option<Question>, Option<f64>) {
        let query = query.map(|q| q.trim()).filter(|q| !q.is_empty());
        let min = self.reader.number(&self.at, "minActivity", min, 0.0);
        if query.is_some() != min.is_some() {
            self.reader
                .errors
                .push(format!("{}: give both activityPromQL and minActivity, or neither", self.at));
        }
        (query.and_then(|query| self.question(Arc::from(query), None)), min)
    }

    fn question(&self, query: Arc<str>, key: Option<Arc<str>>) -> Option<Question> {
        Some(Question::Prometheus(PromQuestion {
            endpoint: self.endpoint.clone()?,
            query,
            pod_label: Arc::clone(&self.pod),
            namespace_label: Arc::clone(&self.namespace),
            key_label: key,
            lookback: (self.period * 2).max(MAX_SAMPLE_AGE),
            timeout: PROMETHEUS_TIMEOUT,
        }))
    }
}
