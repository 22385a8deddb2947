//! One KubervisorService: the only task that plans and writes for it.
//!
//! Its breaker task asks the sources and hands over answers, never proposals. Everything else makes a tick due; the
//! tick decides on the fleet as it stands, and its plan is carried out before the next one. State survives an edit of
//! the spec: the task goes on, only breakers that changed are asked afresh.

mod act;
mod ages;
mod breaker;
mod checked;
mod doubts;
mod explain;
mod fates;
mod gates;
mod kills;
mod selector;
mod tell;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kube::Client;
use kubervisor_core::Now;
use kubervisor_core::backoff::hash;
use kubervisor_core::explain::Refused;
use kubervisor_core::memory::Memory;
use kubervisor_core::plan::{Plan, Report, What};
use kubervisor_core::policy::{Mode, ServicePolicy};
use kubervisor_core::shadow::Shadow;
use kubervisor_core::tick::{Answer, Input};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::breaker::Answers;
use self::breaker::{Answered, Asking};
use self::checked::Checked;
pub use self::doubts::doubt_of;
use self::fates::Fates;
use self::kills::Kills;
use self::selector::Keeper;
use crate::api::{Identity, KubervisorServiceStatus, Parsed};
use crate::cluster::Clock;
use crate::cluster::apply::Writer;
use crate::cluster::cache::Cache;
use crate::cluster::doors::Door;
use crate::cluster::events::Events;
use crate::cluster::mandate::Mandate;
use crate::cluster::registry::Registry;
use crate::cluster::selector::KeyWriter;
use crate::cluster::snapshot::View;
use crate::cluster::status_writer::StatusWriter;
use crate::metrics::Metrics;
use crate::sources::{Source, SourceError};

/// A change of the fleet makes a tick due, at most this often.
const FLEET_TICKS_EVERY: Duration = Duration::from_secs(1);
/// Without any other reason a tick still runs this often: gates end by time.
const IDLE_TICK: Duration = Duration::from_secs(10);
/// One decision: [`mod@kubervisor_core::tick`], or what a test puts in its place.
pub type Decide = Arc<dyn Fn(&Input<'_>, &mut Memory) -> Plan + Send + Sync>;

/// What all owners share.
#[derive(Clone)]
pub struct Parts {
    /// For status; it does not retry by itself.
    pub client: Client,
    /// The shared index.
    pub cache: Arc<Cache>,
    /// Writes to pods.
    pub writer: Writer,
    /// The right to act; the writer asks for it too.
    pub mandate: Mandate,
    /// The set of KubervisorServices.
    pub registry: Arc<Registry>,
    /// Everything that is spawned, so that the end can wait for it.
    pub tasks: TaskTracker,
    /// Few status writes, and few look-ups of workloads, at once: thousands of services start together.
    pub calls: Arc<Semaphore>,
    /// Where samples come from.
    pub source: Arc<dyn Source>,
    /// Where notices are told.
    pub events: Events,
    /// Counts and times.
    pub metrics: Metrics,
    /// Wall time.
    pub wall: Clock,
    /// How a tick decides.
    pub decide: Decide,
    /// Second 0 of the monotonic clock.
    pub started: Instant,
}

impl Parts {
    /// The instant, on both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { wall: (self.wall)(), mono: self.started.elapsed() }
    }
}

/// A spec as the supervisor hands it over.
#[derive(Debug, Clone)]
pub struct Spec {
    /// metadata.generation
    pub generation: Option<i64>,
    /// The spec, or every fault of it.
    pub parsed: Result<Arc<Parsed>, Arc<[String]>>,
}

/// Where an owner hears of its object.
#[derive(Clone)]
pub struct Inbox {
    /// The spec, whenever its generation changes.
    pub spec: watch::Receiver<Spec>,
    /// The object's version, whenever it changes.
    pub version: Arc<AtomicU64>,
    /// Something about its pods or its Service changed.
    pub changed: Arc<Notify>,
    /// The status as it was stored at start.
    pub stored: KubervisorServiceStatus,
    /// End.
    pub stop: CancellationToken,
}

/// The task of one KubervisorService.
pub struct Owner {
    id: Identity,
    parts: Parts,
    inbox: Inbox,
    asking: Asking,
    checked: Checked,
    /// The last valid policy: it ends cuts also while the spec is refused.
    policy: ServicePolicy,
    spec: Spec,
    memory: Memory,
    /// What is only shown.
    shadow: Shadow,
    status: StatusWriter,
    kills: Kills,
    /// Steps whose answer never came.
    fates: Fates,
    /// The key in the Service's selector, where it is ours to add.
    keeper: Keeper,
    recent: VecDeque<String>,
    failing: BTreeMap<Arc<str>, SourceError>,
    seed: u64,
    /// Specs taken so far.
    specs: u64,
    /// What every answer of a source left to doubt, by breaker.
    doubts: BTreeMap<Arc<str>, &'static str>,
    /// Breakers whose samples may be older than asked for.
    unbounded: ages::Unbounded,
    /// The last tick found fewer serving than the floor.
    short: bool,
    /// When this owner started.
    since: Instant,
    /// Seen at the last tick, for notices of changes.
    last: tell::Last,
    report: Option<Report>,
    /// What the last answers wanted in vain, for whoever asks why; and what the dry run did.
    refused: Refused,
    shown_refused: Refused,
    /// Where it is asked.
    door: Door,
}

impl Owner {
    /// A new owner, which has not looked at anything yet.
    #[must_use]
    pub fn new(id: Identity, parts: Parts, inbox: Inbox) -> Self {
        let spec = inbox.spec.borrow().clone();
        let stored_size = inbox.stored.fleet.as_ref().map_or(0, |f| u32::try_from(f.members).unwrap_or(0));
        let kills = Kills::stored(&inbox.stored.kills, parts.now().mono);
        Self {
            asking: Asking::new(parts.clone()),
            door: parts.registry.doors.open(&id),
            refused: Refused::default(),
            shown_refused: Refused::default(),
            checked: Checked::new(),
            specs: 0,
            policy: ServicePolicy::returns_only(),
            memory: Memory::resumed(stored_size, held_by(&inbox.stored), parts.now()),
            shadow: Shadow::default(),
            status: StatusWriter::new(
                parts.client.clone(),
                Arc::clone(&parts.calls),
                parts.mandate.clone(),
                &id,
                inbox.stored.clone(),
            ),
            kills,
            keeper: Keeper::new(KeyWriter::new(parts.client.clone(), parts.mandate.clone()), &inbox.stored),
            fates: Fates::default(),
            recent: inbox.stored.recent.iter().cloned().collect(),
            failing: BTreeMap::new(),
            doubts: BTreeMap::new(),
            unbounded: BTreeMap::new(),
            short: false,
            since: Instant::now(),
            seed: hash(0, id.uid.as_bytes()),
            last: tell::Last::default(),
            report: None,
            spec,
            id,
            parts,
            inbox,
        }
    }

    /// Runs until it is stopped. What it has cut stays cut: whoever deletes the resource frees its pods.
    pub async fn run(mut self) {
        self.take_spec();
        self.parts.metrics.begins(&self.id);
        let (stop, changed) = (self.inbox.stop.clone(), Arc::clone(&self.inbox.changed));
        let mut fleet_changed = true;
        let mut last_tick = Instant::now().checked_sub(FLEET_TICKS_EVERY).unwrap_or_else(Instant::now);
        let mut due = Instant::now();
        loop {
            let wake = if fleet_changed { due.min(last_tick + FLEET_TICKS_EVERY) } else { due };
            let answers = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // Before the answers: where a turn outlasts a period there is always one, and a person's word must not
                // wait behind it. It takes the answers along, so that edits do not hold those up either.
                Ok(()) = self.inbox.spec.changed() => { self.take_spec(); self.asking.drain(None) }
                Some(answer) = self.asking.next() => self.asking.drain(Some(answer)),
                () = tokio::time::sleep_until(wake) => Vec::new(),
                () = changed.notified() => { fleet_changed = true; continue }
                // Last, and one after each turn: who asks often holds up no decision, and is not starved by them.
                Some(question) = self.door.questions.recv() => { self.answer(question); continue }
            };
            // Before the first complete lists nothing is known, and nothing is decided.
            // The fleet stays due meanwhile, but each look counts as one: else this would spin until then.
            last_tick = Instant::now();
            if !self.parts.cache.synced_in(&self.id.namespace) {
                due = last_tick + FLEET_TICKS_EVERY;
                continue;
            }
            fleet_changed = false;
            due = last_tick + self.turn(&answers).await;
            self.answer_one();
        }
        self.parts.metrics.forget(&self.id, &self.breaker_names());
    }

    fn breaker_names(&self) -> Vec<Arc<str>> {
        self.policy.breakers.iter().map(|b| Arc::clone(&b.name)).collect()
    }

    fn take_spec(&mut self) {
        self.spec = self.inbox.spec.borrow_and_update().clone();
        self.specs += 1;
        let Ok(parsed) = &self.spec.parsed else {
            // What is known of the breakers stays: a slip of the pen and its correction are no edit of theirs.
            self.asking.stop();
            return;
        };
        for changed in self.asking.follow(&parsed.asked) {
            self.failing.remove(&changed);
            self.memory.forget_breaker(&changed);
            self.shadow.forget_breaker(&changed);
        }
        for breaker in &parsed.policy.breakers {
            let former = self.policy.breaker(&breaker.name);
            if former.is_some_and(|f| f.detector != breaker.detector) {
                self.memory.forget_breaker(&breaker.name);
                self.shadow.forget_breaker(&breaker.name);
            }
        }
        // What a breaker that is gone could not do must not hold the others.
        self.failing.retain(|name, _| parsed.asked.iter().any(|a| a.breaker == *name));
        self.doubts.retain(|name, _| parsed.asked.iter().any(|a| a.breaker == *name));
        // The gauges of breakers that are gone; the next tick sets the others again.
        self.parts.metrics.idle(&self.id, &self.breaker_names());
        self.policy = parsed.policy.clone();
        self.unbounded.clear();
        self.bound_ages();
        if self.policy.mode == Mode::Disabled {
            self.asking.stop();
            self.asking.forget();
        }
    }

    /// One tick with everything around it. Returns the time until the next one is due.
    async fn turn(&mut self, answers: &[Answered]) -> Duration {
        let Some(view) = self.parts.cache.view(&self.id.namespace, &self.id.uid) else { return IDLE_TICK };
        self.tell_fates(&view);
        self.note_sources(answers, &view);
        if let Ok(parsed) = &self.spec.parsed {
            let service = Some(&parsed.service).filter(|_| !parsed.allow_governing_service);
            self.checked.look(&self.parts, &self.id, service, &view.selector, self.specs);
        }
        let now = self.parts.now();
        self.kills.forget_old(now.mono);
        let mut next = IDLE_TICK;
        let mut news = false;
        // Without the Lease it goes on judging, so that its memory is whole when it has it again, and does nothing.
        let acts = self.parts.mandate.may_write().is_ok();
        if self.evaluates(&view) {
            let mut plan = self.decide(&view, answers, now);
            self.count_refusals(&plan, !answers.is_empty());
            // The oldest one that reaches a pod keeps its returns, and nobody else acts on it.
            plan.actions.retain(|action| !view.elders.contains(&action.uid));
            if !acts {
                plan.actions.clear();
            }
            news |= self.carry_out(&plan, answers, now).await;
            if let Some(due) = plan.next_due {
                next = next.min(due.saturating_sub(self.parts.now().mono));
            }
            self.report = Some(plan.report);
        } else {
            self.report = None;
            self.parts.metrics.idle(&self.id, &self.breaker_names());
        }
        if acts {
            news |= self.keep_key(&view, now).await;
            news |= self.free_unheld(&view, now).await;
        }
        // What was done shows in the next view, and what was not done is decided again on it.
        if news {
            next = next.min(FLEET_TICKS_EVERY);
        }
        self.tell(&view, now);
        if !acts {
            return FLEET_TICKS_EVERY;
        }
        next.min(self.write_status(&view).await).max(Duration::from_millis(10))
    }

    fn evaluates(&self, view: &View) -> bool {
        view.service.fault().is_none() && self.policy.mode != Mode::Disabled
    }

    fn note_sources(&mut self, answers: &[Answered], view: &View) {
        for answered in answers {
            let outcome = match &answered.result {
                Ok(answers) => {
                    self.failing.remove(&answered.breaker);
                    self.doubt(&answered.breaker, answers, view)
                }
                Err(error) => {
                    self.failing.insert(Arc::clone(&answered.breaker), error.clone());
                    error.as_str()
                }
            };
            self.parts.metrics.evaluated(&self.id, &answered.breaker, outcome);
        }
        if !answers.is_empty() {
            self.bound_ages();
        }
    }

    /// What an answer that came leaves to be desired; the word for its outcome.
    fn doubt(&mut self, breaker: &Arc<str>, answers: &Answers, view: &View) -> &'static str {
        let answer = &answers.values;
        let detector = self.policy.breaker(breaker).map(|b| &b.detector);
        let Some((word, text)) = doubt_of(detector, answers, view) else {
            self.doubts.remove(breaker);
            return "Ok";
        };
        if self.doubts.insert(Arc::clone(breaker), text).is_none() {
            tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, %breaker,
                warnings = ?answer.warnings, dropped = answer.dropped, "{text}");
        }
        word
    }

    fn decide(&mut self, view: &View, answers: &[Answered], now: Now) -> Plan {
        let gates = self.gates(view);
        let answers: Vec<_> = answers
            .iter()
            .map(|a| Answer {
                breaker: &a.breaker,
                asked: a.result.as_ref().map_or(now.mono, |answers| ago(answers.asked_at(), now)),
                samples: a.result.as_ref().ok().map(|answers| &answers.values.samples),
                activity: a.result.as_ref().ok().and_then(|a| a.activity.as_ref()).map(|a| &a.samples),
            })
            .collect();
        let input = Input {
            fleet: &view.fleet,
            answers: &answers,
            policy: &self.policy,
            gates: &gates,
            kills: &self.kills.records(),
            now,
            seed: self.seed,
        };
        let started = std::time::Instant::now();
        let mut plan = (self.parts.decide)(&input, &mut self.memory);
        self.refused.note(&plan, input.answers);
        if self.policy.has_shadow() {
            let shown = self.shadow.tick(&input, &self.policy);
            self.shown_refused.note(&shown, input.answers);
            self.show(&mut plan, &shown);
        }
        self.parts.metrics.decided(started.elapsed());
        let short = plan.report.budget.shortfall() > 0;
        if short && !std::mem::replace(&mut self.short, short) {
            self.parts.metrics.late_loss(&self.id);
        }
        self.short = short;
        self.parts.metrics.ticked(&self.id, &plan.report, now.wall);
        plan
    }

    /// What a dry run would do stands beside what is done, and is never carried out.
    fn show(&self, plan: &mut Plan, shown: &Plan) {
        let dry = |name: &str| {
            self.policy.mode == Mode::DryRun || self.policy.breaker(name).is_some_and(|b| !b.enforced)
        };
        for action in &shown.actions {
            if let What::Cut(order) = &action.what
                && dry(&order.breaker)
            {
                self.parts.metrics.cut(&self.id, &order.breaker, false);
                tracing::info!(namespace = %self.id.namespace, name = %self.id.name, pod = %action.pod,
                    breaker = %order.breaker, evidence = %order.evidence, "dry run: it would be cut; {}", order.budget);
            }
        }
        for report in plan.report.breakers.iter_mut().filter(|b| dry(&b.name)) {
            if let Some(shown) = shown.report.breakers.iter().find(|b| b.name == report.name) {
                report.clone_from(shown);
            }
        }
    }

    /// The server itself says that a query is wrong: as good as a fault of the spec. A query that is only tried, by a
    /// breaker in dry run beside others, stops none of them.
    fn refused_queries(&self) -> impl Iterator<Item = (&Arc<str>, &SourceError)> {
        let carried_out = |name: &str| self.policy.breaker(name).is_none_or(|b| b.enforced);
        self.failing.iter().filter(move |(name, error)| error.permanent() && carried_out(name))
    }

    /// Where the object stood when it was last seen or written.
    fn version(&self) -> u64 {
        self.inbox.version.load(Ordering::Acquire)
    }
}

/// When that was, by the clock that cannot be moved.
fn ago(at: Instant, now: Now) -> Duration {
    now.mono.saturating_sub(at.elapsed())
}

/// The first gate that held when this status was written.
fn held_by(stored: &KubervisorServiceStatus) -> Option<&str> {
    let held = stored.conditions.iter().find(|c| c.type_ == "Held" && c.status == "True")?;
    held.reason.as_deref()
}
