//! Every metric, declared once. Label values come from enums, namespaces and names; never a pod's name.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kubervisor_core::gates::Gate;
use kubervisor_core::plan::Report;
use kubervisor_core::traffic::Move;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::api::Identity;
use crate::sources::{Asked, Observer};

type Float = Gauge<f64, AtomicU64>;

/// Handles to all metrics; cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    pods: Family<PodState, Gauge>,
    floor: Family<Service, Gauge>,
    headroom: Family<Service, Gauge>,
    inert: Family<Service, Gauge>,
    held: Family<Held, Gauge>,
    verdicts: Family<Verdicts, Gauge>,
    last_tick: Family<Service, Float>,
    cuts: Tracked<Cuts>,
    restores: Tracked<Reason>,
    pauses: Tracked<Service>,
    evictions: Tracked<Evictions>,
    refusals: Tracked<Reason>,
    evaluations: Tracked<Evaluations>,
    late_losses: Tracked<Service>,
    ineffective_cuts: Tracked<Service>,
    evaluation_seconds: Histogram,
    query_seconds: Histogram,
    queries: Family<Queries, Counter>,
    apply_seconds: Family<Applied, Histogram>,
    reaction_seconds: Histogram,
    view_age: Family<Resource, Float>,
    watch_delay: Family<Resource, Histogram>,
    assumed: Gauge,
    leader: Gauge,
    events_dropped: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Service {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PodState {
    namespace: String,
    name: String,
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Held {
    namespace: String,
    name: String,
    gate: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Verdicts {
    namespace: String,
    name: String,
    breaker: String,
    verdict: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Cuts {
    namespace: String,
    name: String,
    breaker: String,
    enforced: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Reason {
    namespace: String,
    name: String,
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Evictions {
    namespace: String,
    name: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, PartialOrd, Ord, EncodeLabelSet)]
struct Evaluations {
    namespace: String,
    name: String,
    breaker: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Queries {
    source: &'static str,
    outcome: &'static str,
    shared: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Applied {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Resource {
    resource: &'static str,
}

/// Counters by service: a service that is gone takes its series along, so that short-lived namespaces leave nothing.
struct Tracked<L> {
    family: Family<L, Counter>,
    known: Mutex<BTreeMap<Service, BTreeSet<L>>>,
}

impl<L: Clone + Hash + Eq + Ord> Default for Tracked<L> {
    fn default() -> Self {
        Self { family: Family::default(), known: Mutex::default() }
    }
}

impl<L: Clone + Hash + Eq + Ord> Tracked<L> {
    fn inc(&self, id: &Identity, labels: L) {
        self.add(id, labels, 1);
    }

    fn add(&self, id: &Identity, labels: L, count: u64) {
        self.family.get_or_create(&labels).inc_by(count);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(service(id)).or_default().insert(labels);
    }

    fn forget(&self, service: &Service) {
        let gone = self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
        for labels in gone.into_iter().flatten() {
            self.family.remove(&labels);
        }
    }
}

fn histogram() -> Histogram {
    // 1 ms to 16 s: a bare PATCH takes 10 ms, a question may take 30 s.
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own: two controllers in one process (a test) do not meet.
    #[must_use]
    pub fn new() -> Self {
        let mut inner = Inner {
            registry: Registry::with_prefix("kubervisor"),
            pods: Family::default(),
            floor: Family::default(),
            headroom: Family::default(),
            inert: Family::default(),
            held: Family::default(),
            verdicts: Family::default(),
            last_tick: Family::default(),
            cuts: Tracked::default(),
            restores: Tracked::default(),
            pauses: Tracked::default(),
            evictions: Tracked::default(),
            refusals: Tracked::default(),
            evaluations: Tracked::default(),
            late_losses: Tracked::default(),
            ineffective_cuts: Tracked::default(),
            evaluation_seconds: Histogram::new(exponential_buckets(0.000_01, 4.0, 10)),
            query_seconds: histogram(),
            queries: Family::default(),
            apply_seconds: Family::new_with_constructor(histogram),
            reaction_seconds: histogram(),
            view_age: Family::default(),
            watch_delay: Family::new_with_constructor(histogram),
            assumed: Gauge::default(),
            leader: Gauge::default(),
            events_dropped: Counter::default(),
        };
        inner.register_gauges();
        inner.register_counters();
        inner.register_times();
        Self(Arc::new(inner))
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }

    /// A service is decided on from now on. What happens so seldom that one is worth an alert begins at 0: of a series whose
    /// first sample is a 1 Prometheus knows no increase.
    pub fn begins(&self, id: &Identity) {
        let Service { namespace, name } = service(id);
        self.0.evictions.add(id, Evictions { namespace, name, outcome: "Refused" }, 0);
        self.0.ineffective_cuts.add(id, service(id), 0);
    }

    /// How one write to a pod ended.
    pub fn applied(&self, step: Move, outcome: &'static str, took: Duration) {
        let labels = Applied { action: step.as_str(), outcome };
        self.0.apply_seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// From the answer of a source to the acknowledged cut.
    pub fn reacted(&self, took: Duration) {
        self.0.reaction_seconds.observe(took.as_secs_f64());
    }

    /// An evaluation of one breaker.
    pub fn evaluated(&self, id: &Identity, breaker: &str, outcome: &'static str) {
        let Service { namespace, name } = service(id);
        let labels = Evaluations { namespace, name, breaker: breaker.into(), outcome };
        self.0.evaluations.inc(id, labels);
    }

    /// A cut: carried out, or only shown.
    pub fn cut(&self, id: &Identity, breaker: &str, enforced: bool) {
        let Service { namespace, name } = service(id);
        let enforced = if enforced { "true" } else { "false" };
        self.0.cuts.inc(id, Cuts { namespace, name, breaker: breaker.into(), enforced });
    }

    /// A pod went back.
    pub fn restored(&self, id: &Identity, reason: &'static str) {
        self.0.restores.inc(id, reason_of(id, reason));
    }

    /// A pod was paused.
    pub fn paused(&self, id: &Identity) {
        self.0.pauses.inc(id, service(id));
    }

    /// An eviction was asked for.
    pub fn evicted(&self, id: &Identity, outcome: &'static str) {
        let Service { namespace, name } = service(id);
        self.0.evictions.inc(id, Evictions { namespace, name, outcome });
    }

    /// A step was wanted and not taken.
    pub fn refused(&self, id: &Identity, reason: &'static str) {
        self.0.refusals.inc(id, reason_of(id, reason));
    }

    /// A decision took this long, from the view to the plan.
    pub fn decided(&self, took: Duration) {
        self.0.evaluation_seconds.observe(took.as_secs_f64());
    }

    /// A pod is told of that is cut and still gets traffic.
    pub fn ineffective_cut(&self, id: &Identity) {
        self.0.ineffective_cuts.inc(id, service(id));
    }

    /// A fleet was found below its floor, for a reason that is not ours.
    pub fn late_loss(&self, id: &Identity) {
        self.0.late_losses.inc(id, service(id));
    }

    /// An Event found the queue full.
    pub fn event_dropped(&self) {
        self.0.events_dropped.inc();
    }

    /// From the acknowledgement of a write of ours to its event.
    pub fn watch_delays(&self, resource: &'static str, delays: &[Duration]) {
        let histogram = self.0.watch_delay.get_or_create(&Resource { resource });
        delays.iter().for_each(|delay| histogram.observe(delay.as_secs_f64()));
    }

    /// Whether this process may act.
    pub fn leader(&self, leads: bool) {
        self.0.leader.set(leads.into());
    }

    /// Writes in flight, and seconds since the server last answered for a kind.
    pub fn view(&self, ages: &[(&'static str, Option<Duration>)], assumed: usize) {
        for (resource, age) in ages {
            let age = age.map_or(f64::INFINITY, |age| age.as_secs_f64());
            self.0.view_age.get_or_create(&Resource { resource }).set(age);
        }
        self.0.assumed.set(i64::try_from(assumed).unwrap_or(i64::MAX));
    }

    /// The sums of a tick.
    pub fn ticked(&self, id: &Identity, report: &Report, at: jiff::Timestamp) {
        let inner = &self.0;
        let Service { namespace, name } = service(id);
        let states = [
            ("serving", report.budget.serving),
            ("cut", report.cut),
            ("paused", report.paused),
            ("not_ready", report.not_ready),
            ("unknown", report.unknown),
        ];
        for (state, count) in states {
            let labels = PodState { namespace: namespace.clone(), name: name.clone(), state };
            inner.pods.get_or_create(&labels).set(count.into());
        }
        inner.floor.get_or_create(&service(id)).set(report.budget.floor.into());
        inner.headroom.get_or_create(&service(id)).set(report.budget.headroom().0.into());
        inner.inert.get_or_create(&service(id)).set(i64::from(report.inert.is_some()));
        for &gate in Gate::WORDS {
            let on = report.gates.iter().any(|g| g.as_str() == gate);
            let labels = Held { namespace: namespace.clone(), name: name.clone(), gate };
            inner.held.get_or_create(&labels).set(i64::from(on));
        }
        for breaker in &report.breakers {
            let counts = [
                ("healthy", breaker.healthy),
                ("anomalous", breaker.anomalous),
                ("unknown", breaker.unknown),
            ];
            for (verdict, count) in counts {
                let labels = Verdicts {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    breaker: breaker.name.to_string(),
                    verdict,
                };
                inner.verdicts.get_or_create(&labels).set(count.into());
            }
        }
        #[allow(clippy::cast_precision_loss)] // milliseconds of the next centuries fit a double
        inner.last_tick.get_or_create(&service(id)).set(at.as_millisecond() as f64 / 1_000.0);
    }

    /// A KubervisorService is gone, and with it all that was counted of it.
    pub fn forget(&self, id: &Identity, breakers: &[Arc<str>]) {
        self.idle(id, breakers);
        let (inner, service) = (&self.0, service(id));
        inner.cuts.forget(&service);
        inner.restores.forget(&service);
        inner.pauses.forget(&service);
        inner.evictions.forget(&service);
        inner.refusals.forget(&service);
        inner.evaluations.forget(&service);
        inner.late_losses.forget(&service);
        inner.ineffective_cuts.forget(&service);
    }

    /// Nothing is decided for it: its gauges must not go on standing at their last value.
    pub fn idle(&self, id: &Identity, breakers: &[Arc<str>]) {
        let Service { namespace, name } = service(id);
        for state in ["serving", "cut", "paused", "not_ready", "unknown"] {
            let labels = PodState { namespace: namespace.clone(), name: name.clone(), state };
            self.0.pods.remove(&labels);
        }
        for &gate in Gate::WORDS {
            self.0.held.remove(&Held { namespace: namespace.clone(), name: name.clone(), gate });
        }
        for breaker in breakers {
            for verdict in ["healthy", "anomalous", "unknown"] {
                self.0.verdicts.remove(&Verdicts {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    breaker: breaker.to_string(),
                    verdict,
                });
            }
        }
        self.0.floor.remove(&service(id));
        self.0.headroom.remove(&service(id));
        self.0.inert.remove(&service(id));
        self.0.last_tick.remove(&service(id));
    }
}

impl Observer for Metrics {
    fn asked(&self, asked: &Asked) {
        let shared = if asked.shared { "true" } else { "false" };
        self.0.queries.get_or_create(&Queries { source: asked.source, outcome: asked.outcome, shared }).inc();
        if !asked.shared {
            self.0.query_seconds.observe(asked.took.as_secs_f64());
        }
    }
}

/// Values of the label `gate`.
fn service(id: &Identity) -> Service {
    Service { namespace: id.namespace.to_string(), name: id.name.to_string() }
}

fn reason_of(id: &Identity, reason: &'static str) -> Reason {
    let Service { namespace, name } = service(id);
    Reason { namespace, name, reason }
}

impl Inner {
    fn register_gauges(&mut self) {
        let r = &mut self.registry;
        r.register("pods", "Pods of a service by state", self.pods.clone());
        r.register("floor", "Pods that must serve", self.floor.clone());
        r.register("headroom", "Cuts still allowed", self.headroom.clone());
        r.register("inert", "1 where nothing could be cut even if one pod were bad", self.inert.clone());
        r.register("held", "1 while the gate holds actions", self.held.clone());
        r.register("verdicts", "Pods by the last verdict of a breaker", self.verdicts.clone());
        r.register_with_unit(
            "last_tick_timestamp",
            "When a service was last decided on",
            Unit::Seconds,
            self.last_tick.clone(),
        );
        r.register_with_unit(
            "view_age",
            "Time since the API server last answered for a kind",
            Unit::Seconds,
            self.view_age.clone(),
        );
        r.register("assumed_writes", "Own writes that the watch has not shown yet", self.assumed.clone());
        r.register("leader", "1 while this process may act", self.leader.clone());
        r.register("build", "What runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
    }

    fn register_counters(&mut self) {
        let r = &mut self.registry;
        r.register("cuts", "Pods taken out of traffic, or shown by a dry run", self.cuts.family.clone());
        r.register("restores", "Pods put back into traffic", self.restores.family.clone());
        r.register("pauses", "Pods kept out for investigation", self.pauses.family.clone());
        r.register("evictions", "Evictions asked for", self.evictions.family.clone());
        r.register("refusals", "Steps that were wanted and not taken", self.refusals.family.clone());
        r.register("evaluations", "Answers of sources by outcome", self.evaluations.family.clone());
        r.register(
            "late_losses",
            "Times that a fleet was found below its floor",
            self.late_losses.family.clone(),
        );
        r.register(
            "ineffective_cuts",
            "Pods that are cut and still get traffic",
            self.ineffective_cuts.family.clone(),
        );
        r.register("queries", "Questions to sources", self.queries.clone());
        r.register("events_dropped", "Events that found the queue full", self.events_dropped.clone());
    }

    fn register_times(&mut self) {
        let r = &mut self.registry;
        r.register_with_unit(
            "evaluation",
            "Time that a decision took, from the view to the plan",
            Unit::Seconds,
            self.evaluation_seconds.clone(),
        );
        r.register_with_unit("query", "Time that a source took", Unit::Seconds, self.query_seconds.clone());
        r.register_with_unit("apply", "Time that a write took", Unit::Seconds, self.apply_seconds.clone());
        r.register_with_unit(
            "watch_delay",
            "From the acknowledgement of a write of ours to its event",
            Unit::Seconds,
            self.watch_delay.clone(),
        );
        r.register_with_unit(
            "reaction",
            "From the answer of the source to the acknowledged cut",
            Unit::Seconds,
            self.reaction_seconds.clone(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_documentation() {
        let metrics = Metrics::new();
        let took = Duration::from_millis(3);
        metrics.asked(&Asked { source: "prometheus", outcome: "ok", shared: false, took });
        let text = metrics.text();
        for name in ["kubervisor_queries_total", "kubervisor_query_seconds", "kubervisor_reaction_seconds"] {
            assert!(text.contains(name), "{name} is missing in:\n{text}");
        }
    }

    #[test]
    fn a_fleet_of_which_nothing_could_be_cut_shows_until_it_is_no_longer_decided_on() {
        let id = Identity { namespace: "shop".into(), name: "pears".into(), uid: "1".into() };
        let metrics = Metrics::new();
        let mut report = crate::cluster::testing::report();
        let inert =
            || metrics.text().lines().find(|line| line.starts_with("kubervisor_inert{")).map(str::to_owned);
        for (sum, value) in [(Some("N = 1".to_owned()), " 1"), (None, " 0")] {
            report.inert = sum;
            metrics.ticked(&id, &report, jiff::Timestamp::UNIX_EPOCH);
            assert!(inert().is_some_and(|line| line.ends_with(value)), "{:?}", inert());
        }
        metrics.idle(&id, &[]);
        assert_eq!(inert(), None);
    }

    #[test]
    fn what_an_alert_asks_the_increase_of_is_there_before_the_first_and_goes_with_its_service() {
        let id = Identity { namespace: "shop".into(), name: "pears".into(), uid: "1".into() };
        let metrics = Metrics::new();
        let series = || {
            let text = metrics.text();
            let ours = text.lines().filter(|line| line.contains("name=\"pears\""));
            ours.map(|line| line.split('{').next().unwrap_or_default().to_owned() + &line[line.len() - 2..])
                .collect::<Vec<_>>()
        };
        metrics.begins(&id);
        assert_eq!(series(), ["kubervisor_evictions_total 0", "kubervisor_ineffective_cuts_total 0"]);
        metrics.ineffective_cut(&id);
        assert_eq!(series(), ["kubervisor_evictions_total 0", "kubervisor_ineffective_cuts_total 1"]);
        metrics.forget(&id, &[]);
        assert_eq!(series(), Vec::<String>::new());
    }
}
