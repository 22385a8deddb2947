//! What a detector asks of a Prometheus.

use std::sync::Arc;
use std::time::Duration;

use super::Reader;
use super::access::PROMETHEUS_TIMEOUT;
use crate::api::PromSourceSpec;
use crate::sources::{Access, Endpoint, PromQuestion, Question, confined};

/// Samples older than this (or two periods) say nothing.
const MAX_SAMPLE_AGE: Duration = Duration::from_mins(1);

/// Everything of a question but the query; nothing where a fault was found in it.
pub(super) struct Asks<'r, 'd> {
    reader: &'r mut Reader<'d>,
    at: String,
    endpoint: Option<Endpoint>,
    access: Option<Arc<Access>>,
    timeout: Duration,
    /// The server is the controller's own, which shows it more than this namespace.
    confined: bool,
    pod: Arc<str>,
    namespace: Arc<str>,
    period: Duration,
}

impl<'d> Reader<'d> {
    pub(super) fn asks<'r>(&'r mut self, at: &str, spec: &PromSourceSpec, period: Duration) -> Asks<'r, 'd> {
        let label = |given: &Option<String>, usual: &str| -> Arc<str> {
            Arc::from(given.as_deref().filter(|label| !label.is_empty()).unwrap_or(usual))
        };
        let service = spec.prometheus_service.as_deref().filter(|s| !s.is_empty());
        let endpoint = self.prometheus(&format!("{at}.prometheusService"), service);
        let (timeout, access) = self.goes_along(at, spec, endpoint.as_ref());
        let own = self.defaults.prometheus.as_ref().map(Endpoint::origin);
        let same_server = endpoint.is_some() && endpoint.as_ref().map(Endpoint::origin) == own;
        Asks {
            at: at.to_owned(),
            endpoint,
            access,
            timeout,
            confined: self.defaults.enforce_namespace && same_server,
            pod: label(&spec.pod_name_key, "pod"),
            namespace: label(&spec.pod_namespace_key, "namespace"),
            period,
            reader: self,
        }
    }

    fn prometheus(&mut self, at: &str, service: Option<&str>) -> Option<Endpoint> {
        match (service, &self.defaults.prometheus) {
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

    /// Its time, and what is sent along: what the spec says for its own Prometheus, or the controller's credentials for
    /// the very address that they are for. Path included: another path of that server may be another tenant's.
    fn goes_along(
        &mut self,
        at: &str,
        spec: &PromSourceSpec,
        endpoint: Option<&Endpoint>,
    ) -> (Duration, Option<Arc<Access>>) {
        let named = spec.prometheus_service.as_deref().is_some_and(|s| !s.is_empty());
        match (&spec.prometheus, endpoint) {
            (None, endpoint) => {
                let same = endpoint.is_some() && endpoint == self.defaults.prometheus.as_ref();
                (PROMETHEUS_TIMEOUT, self.defaults.access.clone().filter(|_| same))
            }
            (Some(_), _) if !named => {
                self.errors.push(format!(
                    "{at}.prometheus: only with an own prometheusService; the controller's Prometheus is asked with the \
                     controller's credentials"
                ));
                (PROMETHEUS_TIMEOUT, None)
            }
            (Some(own), Some(endpoint)) => self.access(&format!("{at}.prometheus"), own, endpoint),
            (Some(_), None) => (PROMETHEUS_TIMEOUT, None),
        }
    }
}

impl Asks<'_, '_> {
    /// The detector's own query.
    pub(super) fn value(&mut self, query: Option<&String>, key: Option<Arc<str>>) -> Option<Question> {
        let query = self.reader.required(&format!("{}.promQL", self.at), query, "the query");
        self.question("promQL", query?, key)
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
        (query.and_then(|query| self.question("activityPromQL", Arc::from(query), None)), min)
    }

    fn question(&mut self, field: &str, query: Arc<str>, key: Option<Arc<str>>) -> Option<Question> {
        let query = if self.confined { self.confine(field, &query)? } else { query };
        Some(Question::Prometheus(PromQuestion {
            endpoint: self.endpoint.clone()?,
            access: self.access.clone(),
            query,
            pod_label: Arc::clone(&self.pod),
            namespace_label: Arc::clone(&self.namespace),
            key_label: key,
            lookback: (self.period * 2).max(MAX_SAMPLE_AGE),
            timeout: self.timeout,
        }))
    }

    fn confine(&mut self, field: &str, query: &str) -> Option<Arc<str>> {
        match confined(query, &self.reader.namespace) {
            Ok(query) => Some(Arc::from(query)),
            Err(why) => {
                self.reader.errors.push(format!("{}.{field}: {why}", self.at));
                None
            }
        }
    }
}
