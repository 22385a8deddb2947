//! Starts, updates and stops owners as KubervisorServices come and go.
//!
//! Takes the watch of KubervisorServices. An edit reaches the running owner, whose state survives it; a new object of
//! the same name gets a new owner once the old one has ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kubervisor_core::policy::Mode;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{Defaults, KubervisorServiceStatus, parse};
use crate::cluster::apply::Identity;
use crate::cluster::cache::Governor;
use crate::cluster::slim::RawKubervisorService;
use crate::cluster::watch::Sink;
use crate::owner::{Inbox, Owner, Parts, Spec};

/// An owner that panicked starts again after this: its assertions have seen something that must not be repeated fast.
const RESTART_AFTER: Duration = Duration::from_secs(10);
/// From this many resources on, losing more than half within a minute is taken for a fault of the view.
const MANY: usize = 10;
/// That minute, and how long nobody is freed after it.
const SHRINK_WINDOW: Duration = Duration::from_mins(1);

/// What others may know of the set of KubervisorServices.
#[derive(Debug, Default)]
pub struct Registry {
    state: Mutex<RegistryState>,
    /// Told when a KubervisorService is gone.
    pub gone: Notify,
}

#[derive(Debug, Default)]
struct RegistryState {
    /// The watches, by namespace or for all; whether each has delivered a list, and when it last answered.
    feeds: BTreeMap<Option<Arc<str>>, (bool, Option<Instant>)>,
    /// Sizes of the last minute, newest last.
    sizes: VecDeque<(Instant, usize)>,
    suspect_until: Option<Instant>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the watches that are about to start.
    pub fn expect(&self, scopes: &[Option<Arc<str>>]) {
        self.lock().feeds = scopes.iter().map(|scope| (scope.clone(), (false, None))).collect();
    }

    /// Whether every list has been complete once.
    #[must_use]
    pub fn synced(&self) -> bool {
        let state = self.lock();
        !state.feeds.is_empty() && state.feeds.values().all(|(synced, _)| *synced)
    }

    /// Time since the server last answered for this kind, of the watch that is the furthest behind.
    #[must_use]
    pub fn view_age(&self) -> Option<Duration> {
        let proofs: Option<Vec<_>> = self.lock().feeds.values().map(|(_, proved)| *proved).collect();
        proofs?.into_iter().min().map(|at| at.elapsed())
    }

    /// Whether more than half of many resources vanished within a minute: a view to wait for, not to act on.
    #[must_use]
    pub fn suspect(&self) -> bool {
        self.lock().suspect_until.is_some_and(|until| until > Instant::now())
    }

    fn feed(&self, scope: Option<&Arc<str>>, change: impl FnOnce(&mut (bool, Option<Instant>))) {
        change(self.lock().feeds.entry(scope.cloned()).or_default());
    }

    fn resized(&self, size: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        state.sizes.retain(|(at, _)| now.duration_since(*at) < SHRINK_WINDOW);
        let largest = state.sizes.iter().map(|(_, n)| *n).max().unwrap_or(0);
        if largest >= MANY && size * 2 < largest {
            state.suspect_until = Some(now + SHRINK_WINDOW);
        }
        // One entry for each size: many deletions in a row stay bounded by what there was.
        if state.sizes.back().is_none_or(|(_, n)| *n != size) {
            state.sizes.push_back((now, size));
        }
    }
}

/// The map of owners.
pub struct Supervisor {
    parts: Parts,
    defaults: Defaults,
    dry_run: bool,
    registry: Arc<Registry>,
    owners: BTreeMap<(String, String), Entry>,
    stop: CancellationToken,
}

struct Entry {
    uid: String,
    generation: Option<i64>,
    service: Arc<str>,
    spec: watch::Sender<Spec>,
    version: Arc<AtomicU64>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    list: u32,
}

impl Supervisor {
    /// `dry_run` makes every KubervisorService one of mode DryRun.
    #[must_use]
    pub fn new(
        parts: Parts,
        defaults: Defaults,
        dry_run: bool,
        registry: Arc<Registry>,
        stop: CancellationToken,
    ) -> Self {
        Self { parts, defaults, dry_run, registry, owners: BTreeMap::new(), stop }
    }

    fn spec(&self, object: &RawKubervisorService) -> Spec {
        let parsed = parse(&object.spec, &self.defaults).map(|mut parsed| {
            if self.dry_run && parsed.policy.mode == Mode::Active {
                parsed.policy.mode = Mode::DryRun;
            }
            Arc::new(parsed)
        });
        Spec { generation: object.metadata.generation, parsed: parsed.map_err(Into::into) }
    }

    fn start(
        &mut self,
        key: (String, String),
        object: &RawKubervisorService,
        before: Option<JoinHandle<()>>,
        list: u32,
    ) {
        let meta = &object.metadata;
        let uid = meta.uid.clone().unwrap_or_default();
        let spec = self.spec(object);
        let (send, receive) = watch::channel(spec.clone());
        let version = Arc::new(AtomicU64::new(version_of(object)));
        let changed = Arc::new(Notify::new());
        let stop = self.stop.child_token();
        let service = service_name(object, &spec, None);
        self.govern(&key, &uid, object, &service, &spec, &changed);
        let id = Identity {
            namespace: Arc::from(key.0.as_str()),
            name: Arc::from(key.1.as_str()),
            uid: Arc::from(uid.as_str()),
        };
        let stored = serde_json::from_value::<KubervisorServiceStatus>(object.status.clone());
        let inbox = Inbox {
            spec: receive,
            version: Arc::clone(&version),
            changed,
            stored: stored.unwrap_or_default(),
            stop: stop.clone(),
        };
        let task = tokio::spawn(supervise(id, self.parts.clone(), inbox, before));
        let generation = meta.generation;
        self.owners.insert(key, Entry { uid, generation, service, spec: send, version, stop, task, list });
    }

    fn govern(
        &self,
        key: &(String, String),
        uid: &str,
        object: &RawKubervisorService,
        service: &Arc<str>,
        spec: &Spec,
        changed: &Arc<Notify>,
    ) {
        let created = object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |t| t.0);
        let labels = spec.parsed.as_ref().is_ok_and(|p| p.policy.mode == Mode::Active);
        let governor = Governor {
            name: Arc::from(key.1.as_str()),
            service: Arc::clone(service),
            created,
            labels,
            changed: Arc::clone(changed),
        };
        self.parts.cache.govern(&key.0, uid, governor);
    }

    fn update(&mut self, key: &(String, String), object: &RawKubervisorService, list: u32) {
        let spec = self.spec(object);
        let Some(entry) = self.owners.get_mut(key) else { return };
        entry.list = list;
        entry.version.fetch_max(version_of(object), Ordering::AcqRel);
        if entry.generation == object.metadata.generation {
            return;
        }
        entry.generation = object.metadata.generation;
        entry.service = service_name(object, &spec, Some(&entry.service));
        let (uid, service) = (entry.uid.clone(), Arc::clone(&entry.service));
        entry.spec.send_replace(spec.clone());
        if let Some(changed) = self.parts.cache.changed(&key.0, &uid) {
            self.govern(key, &uid, object, &service, &spec, &changed);
        }
    }

    fn end_one(&mut self, key: &(String, String)) -> Option<JoinHandle<()>> {
        let entry = self.owners.remove(key)?;
        self.parts.cache.ungovern(&key.0, &entry.uid);
        entry.stop.cancel();
        Some(entry.task)
    }
}

/// Runs an owner, and a new one where it panicked: nothing that was planned in that tick has been written.
async fn supervise(id: Identity, parts: Parts, inbox: Inbox, before: Option<JoinHandle<()>>) {
    if let Some(before) = before {
        // Two owners of one service would each spend the budget.
        let _ = before.await;
    }
    loop {
        let owner = Owner::new(id.clone(), parts.clone(), inbox.clone());
        let ended = tokio::spawn(owner.run()).await;
        let Err(error) = ended else { return };
        tracing::error!(namespace = %id.namespace, name = %id.name, %error,
            "the owner of this service failed; it starts again in {} s", RESTART_AFTER.as_secs());
        tokio::select! {
            biased;
            () = inbox.stop.cancelled() => return,
            () = tokio::time::sleep(RESTART_AFTER) => {}
        }
    }
}

/// The Service that an object governs. A spec that cannot be read keeps the last one, so that its pods are still its.
fn service_name(object: &RawKubervisorService, spec: &Spec, last: Option<&Arc<str>>) -> Arc<str> {
    match (&spec.parsed, object.spec.get("service").and_then(|s| s.as_str()), last) {
        (Ok(parsed), _, _) => Arc::clone(&parsed.service),
        (Err(_), _, Some(last)) => Arc::clone(last),
        (Err(_), Some(raw), None) => Arc::from(raw),
        (Err(_), None, None) => Arc::from(""),
    }
}

fn version_of(object: &RawKubervisorService) -> u64 {
    object.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0)
}

fn key_of(object: &RawKubervisorService) -> (String, String) {
    let meta = &object.metadata;
    (meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default())
}

/// Where the watch of one namespace, or of all, delivers.
pub struct SupervisorSink {
    supervisor: Arc<Mutex<Supervisor>>,
    scope: Option<Arc<str>>,
    /// Lists that have begun; owners remember the last one that had them.
    list: u32,
}

impl SupervisorSink {
    /// Several watches may deliver to one supervisor.
    #[must_use]
    pub fn new(supervisor: Arc<Mutex<Supervisor>>, scope: Option<Arc<str>>) -> Self {
        Self { supervisor, scope, list: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Supervisor> {
        self.supervisor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervisor {
    fn apply(&mut self, object: &RawKubervisorService, list: u32) {
        let key = key_of(object);
        let same = self.owners.get(&key).is_some_and(|e| Some(&e.uid) == object.metadata.uid.as_ref());
        // An object that is being deleted holds nothing any more, whatever finalizer keeps it.
        if object.metadata.deletion_timestamp.is_some() {
            self.delete(object);
        } else if same {
            self.update(&key, object, list);
        } else {
            let before = self.end_one(&key);
            self.start(key, object, before, list);
            self.registry.resized(self.owners.len());
        }
    }

    fn delete(&mut self, object: &RawKubervisorService) {
        if self.end_one(&key_of(object)).is_some() {
            self.registry.resized(self.owners.len());
            self.registry.gone.notify_one();
        }
    }

    /// Ends the owners that a complete list of `scope` did not have.
    fn sweep(&mut self, scope: Option<&str>, list: u32) {
        let within = |namespace: &str| scope.is_none_or(|scope| scope == namespace);
        let lost = self.owners.iter().filter(|((ns, _), e)| within(ns) && e.list != list);
        let lost: Vec<_> = lost.map(|(key, _)| key.clone()).collect();
        for key in &lost {
            self.end_one(key);
        }
        self.registry.resized(self.owners.len());
    }
}

impl Sink<RawKubervisorService> for SupervisorSink {
    fn begin(&mut self) {
        self.list += 1;
    }

    fn apply(&mut self, object: RawKubervisorService) {
        self.lock().apply(&object, self.list);
    }

    fn delete(&mut self, object: RawKubervisorService) {
        self.lock().delete(&object);
    }

    fn end(&mut self) {
        let mut supervisor = self.lock();
        supervisor.sweep(self.scope.as_deref(), self.list);
        supervisor.registry.feed(self.scope.as_ref(), |feed| feed.0 = true);
        supervisor.registry.gone.notify_one();
    }

    fn proved(&mut self, at: Instant) {
        self.lock().registry.feed(self.scope.as_ref(), |feed| feed.1 = Some(at));
    }

    fn failed(&mut self, error: &str) {
        tracing::warn!(resource = "kubervisorservices", error, "the watch failed and is tried again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn losing_more_than_half_of_many_within_a_minute_is_suspect_for_a_minute() {
        let registry = Registry::default();
        registry.resized(20);
        registry.resized(11);
        assert!(!registry.suspect());
        registry.resized(9);
        assert!(registry.suspect());
        tokio::time::advance(SHRINK_WINDOW).await;
        assert!(!registry.suspect());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_resources_may_all_go_at_once() {
        let registry = Registry::default();
        registry.resized(3);
        registry.resized(0);
        assert!(!registry.suspect());
    }
}
