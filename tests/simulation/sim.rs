//! Everything of one run behind one lock: the store, the cluster, what each controller has seen, and who judges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::chance::Chance;
use super::cluster::Cluster;
use super::judge::Judge;
use super::object::Kind;
use super::script::{Fault, Script, What};
use super::seen::Seen;
use super::store::Store;
use super::trace::Trace;

/// What a lost event leaves behind is found with the next full list, 12 minutes later at most.
pub const LISTED_AGAIN: Duration = Duration::from_secs(750);

/// One controller, from its start to its end.
#[derive(Default)]
pub struct Wire {
    pub seen: Seen,
    /// Nothing that it sends arrives any more.
    pub dead: bool,
    pub died: Option<Instant>,
    /// It dies when it has sent so many more writes to pods; whether the last one is carried out.
    pub dies: Option<(u64, bool)>,
    pub started: Duration,
    /// Since when the Lease is its.
    pub holds: Option<Duration>,
    /// When it last sent a write to a pod.
    pub wrote: Duration,
    /// Requests on their way.
    pub open: u64,
    pub requests: u64,
}

/// The run.
pub struct Sim {
    pub script: Arc<Script>,
    pub chance: Chance,
    pub started: Instant,
    pub store: Store,
    pub cluster: Cluster,
    pub wires: Vec<Wire>,
    pub judge: Judge,
    pub trace: Trace,
    pub counts: BTreeMap<String, u64>,
    pub asked: u64,
}

/// Shared by the wire, the watches, the source and the driver; never held over an await.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Sim>>);

impl Shared {
    pub fn new(script: Arc<Script>) -> Self {
        let mut store = Store::default();
        let cluster = Cluster::new(&script, &mut store);
        Self(Arc::new(Mutex::new(Sim {
            chance: Chance(script.seed ^ 0xa5a5),
            script,
            started: Instant::now(),
            store,
            cluster,
            wires: Vec::new(),
            judge: Judge::default(),
            trace: Trace::default(),
            counts: BTreeMap::new(),
            asked: 0,
        })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Sim> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sim {
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn tell(&mut self, text: &str) {
        let at = self.now();
        self.trace.tell(at, text);
    }

    pub fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    /// The first fault at work now that `fits` and takes this chance.
    pub fn fault(&mut self, key: u64, fits: impl Fn(What) -> bool) -> Option<What> {
        let now = self.now();
        let script = Arc::clone(&self.script);
        let takes = |(i, fault): &(usize, &Fault)| {
            fault.covers(now)
                && fits(fault.what)
                && self.chance.happens(fault.percent, "fault", key, *i as u64)
        };
        let (_, fault) = script.faults.iter().enumerate().find(takes)?;
        self.count(fault.what.name());
        Some(fault.what)
    }

    /// How much later events of this kind come that were made at `at`.
    pub fn lag(&self, kind: Kind, at: Duration) -> Duration {
        let of = |fault: &Fault| match fault.what {
            What::Lag(of, by) if of == kind && fault.covers(at) => by,
            _ => Duration::ZERO,
        };
        self.script.faults.iter().map(of).max().unwrap_or_default()
    }

    /// Since when nothing has gone wrong on the wire.
    pub fn wire_calm_for(&self) -> Duration {
        let now = self.now();
        let ends = self.script.faults.iter().filter(|f| f.what.on_the_wire() && f.from <= now);
        let last = ends.map(|f| f.until).max().unwrap_or_default();
        let lost = self.script.faults.iter().filter(|f| matches!(f.what, What::Lose(_)) && f.from <= now);
        let lost = lost.map(|f| f.until + LISTED_AGAIN).max().unwrap_or_default();
        now.saturating_sub(last.max(lost))
    }
}
