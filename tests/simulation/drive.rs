//! One run: the production controller on the model cluster, second by second, under tokio's paused time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kube::Client;
use kubervisor::api::Defaults;
use kubervisor::cluster::Clock;
use kubervisor::cluster::brake::{Brake, CutsPerMinute};
use kubervisor::cluster::cache::Cache;
use kubervisor::cluster::election::{Election, Timing};
use kubervisor::cluster::lease::{Candidate, Place};
use kubervisor::cluster::mandate::Mandate;
use kubervisor::cluster::registry::Registry;
use kubervisor::cluster::scope::Scope;
use kubervisor::metrics::Metrics;
use kubervisor::owner::Decide;
use kubervisor::turn::{Outside, Turn};
use kubervisor_core::gates::Gate;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cluster::stamp;
use super::coverage;
use super::judge::Violation;
use super::script::{Event, Script};
use super::sim::{Shared, Sim, Wire};
use super::source::Sources;
use super::wire::Plug;

/// In a calm world the last of what was bad leaves the longest window within this time.
const CLEAN: Duration = Duration::from_secs(240);
/// New cuts are held for ten minutes after an overload, and for five after the brake.
const OUTLASTS: Duration = Duration::from_secs(660);
/// As by default.
const LEASE: Duration = Duration::from_secs(15);
/// Whatever happens, a run ends.
const DEADLINE: Duration = Duration::from_secs(7_200);

/// How a run ended.
pub struct Outcome {
    pub violations: Vec<Violation>,
    pub counts: BTreeMap<String, u64>,
    pub hash: u64,
    pub lines: Vec<String>,
    pub simulated: Duration,
}

thread_local! {
    static PANICKED: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic of any part is a violation, and no text on the terminal.
pub fn catch_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let inside = tokio::runtime::Handle::try_current().is_ok();
            if inside {
                PANICKED.with(|cell| cell.replace(Some(info.to_string())));
            } else {
                usual(info);
            }
        }));
    });
}

/// Runs a script to its end. `decide` stands in the place of the core's tick.
pub fn run(script: &Script, decide: &Decide) -> Outcome {
    catch_panics();
    PANICKED.with(|cell| cell.replace(None));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.unwrap();
    runtime.block_on(drive(Arc::new(script.clone()), Arc::clone(decide)))
}

/// One process of the controller.
struct Process {
    who: usize,
    /// Starts, and later ends, everything of it.
    stop: CancellationToken,
}

/// A place for a process: what runs there, or when the next one starts.
struct Replica {
    process: Option<Process>,
    back: Option<Duration>,
    back_after: Duration,
}

struct Stage {
    shared: Shared,
    decide: Decide,
    replicas: Vec<Replica>,
}

async fn drive(script: Arc<Script>, decide: Decide) -> Outcome {
    let shared = Shared::new(Arc::clone(&script));
    let replica = |i: u64| Replica {
        process: None,
        back: Some(Duration::from_secs(i * 7)),
        back_after: Duration::ZERO,
    };
    let replicas = (0..script.controllers as u64).map(replica).collect();
    let mut stage = Stage { shared: shared.clone(), decide, replicas };
    let mut events = script.events.iter().peekable();
    let started = shared.lock().started;
    let mut second = 0;
    loop {
        let at = Duration::from_secs(second);
        tokio::time::sleep_until(started + at).await;
        while let Some((_, event)) = events.next_if(|(due, _)| *due <= at) {
            stage.happen(event);
        }
        (0..stage.replicas.len()).for_each(|i| stage.go_on(i, at));
        stage.second(at, &script);
        if stage.over(at, &script) || at > DEADLINE {
            break;
        }
        second += 1;
    }
    let mut sim = shared.lock();
    Outcome {
        violations: std::mem::take(&mut sim.judge.violations),
        counts: std::mem::take(&mut sim.counts),
        hash: sim.trace.hash,
        lines: std::mem::take(&mut sim.trace.lines),
        simulated: sim.now(),
    }
}

impl Stage {
    fn second(&self, at: Duration, script: &Script) {
        let mut sim = self.shared.lock();
        let sim = &mut *sim;
        if at == script.calm_from {
            sim.cluster.heal();
            sim.cluster.unsay(&mut sim.store, at);
            sim.tell("calm: everything heals, and nothing goes wrong any more");
        }
        sim.cluster.step(&mut sim.store, at);
        sim.check_second();
        if let Some(text) = PANICKED.with(RefCell::take) {
            sim.violate("no panic", text);
        }
    }

    fn happen(&mut self, event: &Event) {
        let mut sim = self.shared.lock();
        let sim = &mut *sim;
        let now = sim.now();
        let Some(hit) = sim.cluster.happen(event, &mut sim.store, now) else { return };
        sim.count(event.name());
        sim.tell(&format!("{}: {hit}", event.name()));
        match event {
            Event::Jump { .. } => sim.judge.jumped = Some(now),
            Event::Kill { after, carried_out, back_after } => {
                // Whoever acted last is the one that matters.
                let running = self.replicas.iter_mut().filter(|r| r.process.is_some());
                let wrote = |r: &&mut Replica| r.process.as_ref().map(|p| sim.wires[p.who].wrote);
                let Some(replica) = running.max_by_key(wrote) else { return };
                replica.back_after = *back_after;
                if let Some(process) = &replica.process {
                    sim.wires[process.who].dies = Some((*after, *carried_out));
                }
            }
            _ => {}
        }
    }

    /// Starts a controller where none runs, and notices a death.
    fn go_on(&mut self, index: usize, at: Duration) {
        let dead = |process: &mut Process| self.shared.lock().wires[process.who].dead;
        let replica = &mut self.replicas[index];
        if let Some(process) = replica.process.take_if(dead) {
            // Its tasks end by themselves; what they send goes nowhere.
            process.stop.cancel();
            replica.back = Some(at + replica.back_after);
        }
        if replica.back.is_some_and(|back| back <= at) {
            replica.back = None;
            self.replicas[index].process = Some(self.start(at));
        }
    }

    /// As `kubervisor run` does: first it stands for the Lease, then everything starts.
    fn start(&self, at: Duration) -> Process {
        let (who, cuts_per_minute) = {
            let mut sim = self.shared.lock();
            sim.wires.push(Wire { started: at, ..Wire::default() });
            let who = sim.wires.len() - 1;
            sim.tell(&format!("[{who}] starts"));
            (who, CutsPerMinute::parse(sim.script.cuts_per_minute).unwrap_or_default())
        };
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let (clock, plug) = (self.shared.clone(), Plug { shared: self.shared.clone(), who });
        let (client, metrics) = (Client::new(plug, "kubervisor"), Metrics::new());
        let wall: Clock = Arc::new(move || wall(&clock));
        let mandate = Mandate::none(Arc::new(move || began.elapsed()));
        let place = Place { namespace: "kubervisor".into(), name: "kubervisor".into() };
        let election = Election::new(format!("controller-{who}"), Timing { duration: LEASE }, false);
        let candidate =
            Candidate::new(&client, place, election, mandate.clone(), Arc::clone(&wall), metrics.clone());
        let turn = Turn {
            outside: Outside {
                client,
                source: Arc::new(Sources { shared: self.shared.clone(), who }),
                wall,
                decide: watched(&self.shared, who, &self.decide),
            },
            cache: Arc::new(Cache::default()),
            registry: Arc::new(Registry::default()),
            mandate,
            brake: Brake::new(cuts_per_minute),
            metrics,
            defaults: Defaults::default(),
            dry_run: false,
            stop: stop.clone(),
        };
        tokio::spawn(live(candidate, turn, stop.clone()));
        Process { who, stop }
    }

    /// Whether the calm at the end has lasted long enough, with everybody in traffic.
    fn over(&self, at: Duration, script: &Script) -> bool {
        let mut sim = self.shared.lock();
        let calm_from = script.calm_from;
        if at < calm_from + Duration::from_secs(120) {
            return false;
        }
        let dark = sim.dark();
        if at > calm_from + CLEAN + sim.after_calm() + sim.rest() {
            let text = if dark.is_empty() { "writes do not end".into() } else { dark.join(", ") };
            sim.violate("G4 nobody dark", text);
            return true;
        }
        dark.is_empty()
            && sim.judge.last_write.max(calm_from) + sim.rest() < at
            && self.replicas.iter().all(|r| r.process.is_some())
    }
}

impl Sim {
    /// How long everything stands still at the end: gates that outlast what they were for are seen to end.
    fn rest(&self) -> Duration {
        let outlasting =
            [Gate::Overload { until: jiff::Timestamp::UNIX_EPOCH }, Gate::ClusterStorm { limit: 0 }];
        let was = |gate: &Gate| self.counts.contains_key(&format!("entered {}", gate.as_str()));
        if outlasting.iter().any(was) { self.script.rest.max(OUTLASTS) } else { self.script.rest }
    }
}

/// The life of a process, until it is killed.
async fn live(candidate: Candidate, turn: Turn, stop: CancellationToken) {
    let mut campaign = candidate.start();
    campaign.first_look().await;
    let running = turn.start(&Scope::Cluster);
    stop.cancelled().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    running.end(deadline).await;
    campaign.end(false, deadline).await;
}

/// The controller's wall clock.
fn wall(shared: &Shared) -> jiff::Timestamp {
    let sim = shared.lock();
    let now = sim.now();
    let broken = jiff::SignedDuration::from_nanos(now.subsec_nanos().into());
    stamp(now) + broken + jiff::SignedDuration::from_secs(sim.cluster.skew)
}

/// Counts what a tick decided. Changes nothing.
fn watched(shared: &Shared, who: usize, decide: &Decide) -> Decide {
    let (shared, decide) = (shared.clone(), Arc::clone(decide));
    let gates: Mutex<BTreeMap<u64, BTreeSet<&'static str>>> = Mutex::default();
    Arc::new(move |input, memory| {
        let plan = decide(input, memory);
        let mut sim = shared.lock();
        let mut gates = gates.lock().unwrap_or_else(PoisonError::into_inner);
        let former = gates.entry(input.seed).or_default();
        let known = former.clone();
        for what in coverage::of(&plan, former) {
            sim.count(&what);
        }
        if *former != known {
            sim.tell(&format!("[{who}] is held by: {}", Vec::from_iter(former.iter().copied()).join(", ")));
        }
        if !plan.actions.is_empty() {
            let acts: Vec<_> =
                plan.actions.iter().map(|a| format!("{} {}", a.what.step().as_str(), a.pod)).collect();
            sim.tell(&format!("[{who}] decides: {}", acts.join(", ")));
        }
        plan
    })
}
