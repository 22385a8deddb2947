//! Starts, updates and stops owners as KubervisorServices come and go.
//!
//! Takes the watch of KubervisorServices. An edit reaches the running owner, whose state survives it; a new object of
//! the same name gets a new owner once the old one has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Api, ApiResource, DynamicObject};
use kubervisor_core::policy::Mode;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{Defaults, Identity, KubervisorService, KubervisorServiceStatus, Management, Parsed, parse};
use crate::cluster::call;
use crate::cluster::index::Governor;
use crate::cluster::mandate::Term;
use crate::cluster::registry::Registry;
use crate::cluster::slim::RawKubervisorService;
use crate::cluster::watch::{Failure, Sink};
use crate::owner::{Inbox, Owner, Parts, Spec};

/// An owner that panicked starts again after this: its assertions have seen something that must not be repeated fast.
const RESTART_AFTER: Duration = Duration::from_secs(10);
/// Pause between two tries to read a stored status.
const READ_AGAIN: Duration = Duration::from_secs(2);
/// The map of owners.
pub struct Supervisor {
    parts: Parts,
    defaults: Defaults,
    dry_run: bool,
    registry: Arc<Registry>,
    owners: BTreeMap<(String, String), Entry>,
    /// Owners that were told to end, by the name that a new one may come under.
    ending: BTreeMap<(String, String), JoinHandle<()>>,
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
        Self { parts, defaults, dry_run, registry, owners: BTreeMap::new(), ending: BTreeMap::new(), stop }
    }

    fn spec(&self, object: &RawKubervisorService) -> Spec {
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        let parsed = parse(&object.spec, namespace, &self.defaults).map(|mut parsed| {
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
        let inbox = Inbox {
            spec: receive,
            version: Arc::clone(&version),
            changed,
            stored: stored(&object.status),
            stop: stop.clone(),
        };
        let task = self.parts.tasks.spawn(supervise(id, self.parts.clone(), inbox, before));
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
        let active = |p: &&Arc<Parsed>| p.policy.mode == Mode::Active;
        let parsed = spec.parsed.as_ref().ok().filter(active);
        let (labels, manages) =
            (parsed.is_some(), parsed.is_some_and(|p| p.management == Management::Managed));
        let governor = Governor {
            name: Arc::from(key.1.as_str()),
            service: Arc::clone(service),
            created,
            labels,
            manages,
            changed: Arc::clone(changed),
        };
        self.parts.cache.govern(&key.0, uid, governor);
    }

    fn update(&mut self, key: &(String, String), object: &RawKubervisorService, list: u32) {
        let Some(entry) = self.owners.get_mut(key) else { return };
        entry.list = list;
        entry.version.fetch_max(version_of(object), Ordering::AcqRel);
        // Our own writes of the status come back here too.
        if entry.generation == object.metadata.generation {
            return;
        }
        let spec = self.spec(object);
        let Some(entry) = self.owners.get_mut(key) else { return };
        entry.generation = object.metadata.generation;
        entry.service = service_name(object, &spec, Some(&entry.service));
        let (uid, service) = (entry.uid.clone(), Arc::clone(&entry.service));
        entry.spec.send_replace(spec.clone());
        if let Some(changed) = self.parts.cache.changed(&key.0, &uid) {
            self.govern(key, &uid, object, &service, &spec, &changed);
        }
    }

    /// Returns whether there was one.
    fn end_one(&mut self, key: &(String, String)) -> bool {
        let Some(entry) = self.owners.remove(key) else { return false };
        self.parts.cache.ungovern(&key.0, &entry.uid);
        entry.stop.cancel();
        self.ending.retain(|_, task| !task.is_finished());
        self.ending.insert(key.clone(), entry.task);
        true
    }
}

/// Runs an owner whenever this process may act, and a new one where it panicked: nothing that was planned in that tick
/// has been written.
async fn supervise(id: Identity, parts: Parts, mut inbox: Inbox, before: Option<JoinHandle<()>>) {
    if let Some(before) = before {
        // Two owners of one service would each spend the budget.
        let _ = before.await;
    }
    let _known = parts.registry.doors.know(&id);
    let mut known = true;
    while !inbox.stop.is_cancelled() {
        let stop = inbox.stop.clone();
        let term = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            term = parts.mandate.begun() => term,
        };
        // What others, or the owner before this one, have recorded must count: above all evictions.
        if !(known && term.first) {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = parts.mandate.ended(term) => continue,
                () = read_stored(&id, &parts, &mut inbox) => {}
            }
        }
        known = false;
        if let Err(error) = own(&id, &parts, &inbox, term).await {
            tracing::error!(namespace = %id.namespace, name = %id.name, %error,
                "the owner of this service failed; it starts again in {} s", RESTART_AFTER.as_secs());
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RESTART_AFTER) => {}
            }
        }
    }
}

/// One owner, until it is stopped, panics, or another process may act.
async fn own(id: &Identity, parts: &Parts, inbox: &Inbox, term: Term) -> Result<(), JoinError> {
    let stop = inbox.stop.child_token();
    let inbox = Inbox { stop: stop.clone(), ..inbox.clone() };
    let mut owner = parts.tasks.spawn(Owner::new(id.clone(), parts.clone(), inbox).run());
    tokio::select! {
        biased;
        ended = &mut owner => ended,
        () = parts.mandate.ended(term) => {
            stop.cancel();
            owner.await
        }
    }
}

/// Asks the server itself, until it answers: an older status might have forgotten an eviction.
async fn read_stored(id: &Identity, parts: &Parts, inbox: &mut Inbox) {
    let kind = ApiResource::erase::<KubervisorService>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(parts.client.clone(), &id.namespace, &kind);
    loop {
        let turn = parts.calls.acquire().await;
        match call(api.get(&id.name)).await {
            Ok(object) => {
                let version = object.metadata.resource_version.as_deref().and_then(|v| v.parse().ok());
                inbox.version.fetch_max(version.unwrap_or(0), Ordering::AcqRel);
                inbox.stored = stored(&object.data["status"]);
                return;
            }
            Err(error) => tracing::warn!(namespace = %id.namespace, name = %id.name, %error,
                "the stored status cannot be read; nothing is decided for this service before it is"),
        }
        drop(turn);
        tokio::time::sleep(READ_AGAIN).await;
    }
}

/// A stored status. A word in it that only a newer controller knows must not lose the records of evictions.
fn stored(status: &Value) -> KubervisorServiceStatus {
    serde_json::from_value(status.clone()).unwrap_or_else(|_| KubervisorServiceStatus {
        kills: serde_json::from_value(status["kills"].clone()).unwrap_or_default(),
        ..KubervisorServiceStatus::default()
    })
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
            self.end_one(&key);
            let before = self.ending.remove(&key);
            self.start(key, object, before, list);
            self.registry.resized(self.owners.len());
        }
    }

    fn delete(&mut self, object: &RawKubervisorService) {
        if self.end_one(&key_of(object)) {
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
        supervisor.registry.listed(self.scope.as_ref());
        supervisor.parts.cache.unlabelled.notify_one();
        supervisor.registry.gone.notify_one();
    }

    fn proved(&mut self, at: Instant) {
        self.lock().registry.proved(self.scope.as_ref(), at);
    }

    fn failed(&mut self, failure: &Failure) {
        self.lock().registry.failed(self.scope.as_ref(), failure);
        tracing::warn!(resource = "kubervisorservices", error = %failure, "the watch failed and is tried again");
    }
}
