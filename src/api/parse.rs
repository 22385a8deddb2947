//! A spec as written to what the controller works with: the core's policy and the sources' questions.
//!
//! Finds every fault at once. Takes the raw JSON, because a stored object may be older than any schema of ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::policy::{
    BreakerPolicy, Confirm, FloorPolicy, Mode as CoreServiceMode, SCRAPE_INTERVAL, ServicePolicy,
};
use serde_json::Value;

use super::{ActivatorSpec, BreakerSpec, ConfirmSpec, KubervisorServiceSpec, Management, Mode};
use crate::sources::{Access, Endpoint, PromQuestion, Question, range_of};
use detectors::Ruled;
use fields::{dns_label, label_value};

pub(crate) mod access;
mod detectors;
mod fields;
mod limits;
mod prometheus;

/// Periods below this are taken as this: no scrape is faster, and every evaluation costs a query.
const SHORTEST_PERIOD: Duration = Duration::from_secs(1);
/// Ranges of queries: a cut is never shorter than the range, and must end in bounded time.
const LONGEST_RANGE: Duration = Duration::from_hours(24);
/// Breakers in a spec.
const BREAKERS_MAX: usize = 16;

/// What a spec may leave to the controller.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `--prometheus-url`.
    pub prometheus: Option<Endpoint>,
    /// The controller's own credentials, for exactly that address.
    pub access: Option<Arc<Access>>,
    /// Queries to that server see the KubervisorService's own namespace only.
    pub enforce_namespace: bool,
}

/// A valid spec.
#[derive(Debug, Clone, PartialEq)]
pub struct Parsed {
    /// Name of the Service.
    pub service: Arc<str>,
    /// Whether that Service may be the one that governs a StatefulSet.
    pub allow_governing_service: bool,
    /// Who adds the key to its selector.
    pub management: Management,
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
    /// How busy the pods are: a second question, asked together with the first; an evaluation takes both answers.
    pub activity: Option<Question>,
}

/// Reads a spec of this namespace.
///
/// # Errors
/// Every fault of it, each a sentence that names its field.
pub fn parse(spec: &Value, namespace: &str, defaults: &Defaults) -> Result<Parsed, Vec<String>> {
    let spec: KubervisorServiceSpec =
        serde_json::from_value(spec.clone()).map_err(|e| vec![format!("spec: {e}")])?;
    let mut reader =
        Reader { defaults, namespace: Arc::from(namespace), errors: Vec::new(), notes: Vec::new() };
    let parsed = reader.service(&spec);
    if reader.errors.is_empty() { Ok(Parsed { notes: reader.notes, ..parsed }) } else { Err(reader.errors) }
}

/// Collects faults while it reads; what it returns is used only if there were none.
struct Reader<'a> {
    defaults: &'a Defaults,
    namespace: Arc<str>,
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
            allow_governing_service: spec.allow_governing_service.unwrap_or(false),
            management: spec.selector_management.unwrap_or_default(),
            policy: ServicePolicy {
                mode: mode(spec.mode),
                limits: self.limits(spec.limits.as_ref()),
                breakers,
                default_activator: self.activator("spec.defaultActivator", &none, default),
                holds: self.holds(spec.holds.as_ref()),
                kill_stateful_set_pods: spec.kill_stateful_set_pods.unwrap_or(false),
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
        let confirm = self.confirm(&format!("{at}.confirm"), spec.confirm.as_ref());
        let scrape_interval = self.short(&format!("{at}.scrapeInterval"), spec.scrape_interval.as_ref());
        // Last: without a detector there is nothing to return, and every other fault has been found by now.
        let Ruled { detector, question, activity } = self.detector(&at, spec, period)?;
        let (range, usual) = match &question {
            Question::Prometheus(q) => (self.range(&at, q), SCRAPE_INTERVAL),
            // Each answer is new.
            Question::Custom(_) => (Duration::ZERO, Duration::ZERO),
        };
        let policy = BreakerPolicy {
            name: Arc::from(spec.name.as_str()),
            evaluation_period: period,
            scrape_interval: scrape_interval.unwrap_or(usual),
            range,
            floor,
            detector,
            confirm,
            enforced: spec.mode.is_none(),
            activator,
        };
        let asked = Asked { breaker: Arc::clone(&policy.name), period, question, activity };
        Some((policy, asked))
    }

    fn period(&mut self, at: &str, spec: &BreakerSpec) -> Duration {
        let asked = self.short(&format!("{at}.evaluationPeriod"), spec.evaluation_period.as_ref());
        let period = asked.unwrap_or(Duration::from_secs(5));
        if period < SHORTEST_PERIOD {
            self.notes.push(format!("{at}.evaluationPeriod: less than 1 s is taken as 1 s"));
        }
        period.max(SHORTEST_PERIOD)
    }

    fn confirm(&mut self, at: &str, spec: Option<&ConfirmSpec>) -> Confirm {
        let Some(ConfirmSpec { anomalous, of }) = spec else { return Confirm::USUAL };
        let within = |n: &i64, most: u8| u8::try_from(*n).ok().filter(|n| (1..=most).contains(n));
        let of = within(of, Confirm::MOST);
        match (of.and_then(|of| within(anomalous, of)), of) {
            (Some(anomalous), Some(of)) => Confirm { anomalous, of },
            _ => {
                let most = Confirm::MOST;
                self.errors.push(format!("{at}: `of` is 1 to {most}, and `anomalous` is 1 to `of`"));
                Confirm::USUAL
            }
        }
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
}

fn mode(mode: Option<Mode>) -> CoreServiceMode {
    match mode {
        None | Some(Mode::Active) => CoreServiceMode::Active,
        Some(Mode::DryRun) => CoreServiceMode::DryRun,
        Some(Mode::Disabled) => CoreServiceMode::Disabled,
    }
}

#[cfg(test)]
mod tests;
