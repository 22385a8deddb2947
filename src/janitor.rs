//! Pods that no owner looks after: those whose KubervisorService is gone, and those that still lack their label.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use kubervisor_core::notice::{Kind, Notice};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::Identity;
use crate::cluster::apply::{Outcome, Writer};
use crate::cluster::cache::Cache;
use crate::cluster::events::Events;
use crate::cluster::registry::Registry;
use crate::cluster::release::{free, unheld};
use crate::cluster::snapshot::Marked;
use crate::cluster::{CallError, Clock};
use crate::metrics::Metrics;

/// Marked pods are looked over this often; nothing is asked of the server while none is without an owner.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// A Service that is deleted and made again within this time loses no state.
const SERVICE_GONE_FOR: Duration = Duration::from_mins(1);
/// Pods freed in one sweep; the next one goes on behind them.
const SWEEP_MAX: usize = 200;
/// A view older than this proves nothing of what is not in it.
const VIEW_MAX: Duration = Duration::from_mins(1);
/// Labels written at once.
const LABELS_AT_ONCE: usize = 4;
/// First and longest pause after a write that failed.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

/// Frees pods that nothing holds.
pub struct Janitor {
    /// For proofs.
    pub client: Client,
    /// The shared index.
    pub cache: Arc<Cache>,
    /// Writes to pods.
    pub writer: Writer,
    /// The set of KubervisorServices.
    pub registry: Arc<Registry>,
    /// Where it tells of what it freed.
    pub events: Events,
    /// Counts.
    pub metrics: Metrics,
    /// Wall time.
    pub wall: Clock,
}

/// What a janitor remembers of pods that it could not free yet.
#[derive(Default)]
struct Waiting {
    /// Since when a marked pod's Service is not there.
    missing: BTreeMap<Arc<str>, Instant>,
    /// When a refused pod is tried again, and the pause after that.
    refused: BTreeMap<Arc<str>, (Instant, Duration)>,
    /// The last pod looked at: the next sweep goes on behind it.
    last: Option<(Arc<str>, Arc<str>)>,
}

/// What the server said in this sweep of who holds a pod: one question for each name in a mark.
type Proofs = BTreeMap<(Arc<str>, Option<Arc<str>>), bool>;

impl Janitor {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut waiting = Waiting::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.registry.gone.notified() => {}
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
            if !self.registry.suspect() && self.writer.mandate().may_write().is_ok() {
                self.sweep(&mut waiting).await;
            }
        }
    }

    async fn sweep(&self, waiting: &mut Waiting) {
        // A resource of this name in its mark is gone, whoever else reaches the pod now.
        let unowned = |m: &Marked| !m.governed || m.by.is_some() && !m.by_exists;
        let mut stray: Vec<_> = self.cache.marked().into_iter().filter(unowned).collect();
        stray.retain(|m| self.sees(&m.namespace));
        let present = |uid: &Arc<str>| stray.iter().any(|m| m.uid == *uid);
        waiting.missing.retain(|uid, _| present(uid));
        waiting.refused.retain(|uid, _| present(uid));
        let behind = stray.partition_point(|m| {
            waiting.last.as_ref().is_some_and(|last| (&m.namespace, &m.name) <= (&last.0, &last.1))
        });
        stray.rotate_left(behind);
        let mut proofs = Proofs::new();
        for pod in stray.iter().filter(|m| !m.in_flight).take(SWEEP_MAX) {
            waiting.last = Some((Arc::clone(&pod.namespace), Arc::clone(&pod.name)));
            let held_off = waiting.refused.get(&pod.uid).is_some_and(|(until, _)| *until > Instant::now());
            if held_off {
                continue;
            }
            if let Some(why) = self.reason(pod, waiting, &mut proofs).await {
                self.free(pod, why, waiting).await;
            }
        }
    }

    /// Whether what is not in the view is not there: its lists were complete, and it is proved alive.
    fn sees(&self, namespace: &str) -> bool {
        let [(_, pods), (_, services)] = self.cache.view_ages_in(namespace);
        let ages = [pods, services, self.registry.view_age(namespace)];
        let fresh = ages.into_iter().all(|age| age.is_some_and(|age| age < VIEW_MAX));
        fresh && self.cache.synced_in(namespace) && self.registry.synced_in(namespace)
    }

    /// Why a pod may be freed; `None` where it may not, or not yet.
    async fn reason(&self, pod: &Marked, waiting: &mut Waiting, proofs: &mut Proofs) -> Option<&'static str> {
        if pod.service_missing {
            let since = *waiting.missing.entry(Arc::clone(&pod.uid)).or_insert_with(Instant::now);
            if since.elapsed() < SERVICE_GONE_FOR {
                return None;
            }
        }
        match (pod.by_exists, pod.service_missing) {
            (true, true) => return Some("its Service is gone"),
            (true, false) => return Some("its Service no longer selects it"),
            (false, _) => {}
        }
        let question = (Arc::clone(&pod.namespace), pod.by.clone());
        if !proofs.contains_key(&question) {
            let known = |uid: &str| self.cache.governs(&pod.namespace, uid);
            let proved = unheld(&self.client, pod, &known).await.unwrap_or_else(|error| {
                tracing::warn!(namespace = %pod.namespace, pod = %pod.name, %error,
                    "cannot prove that its KubervisorService is gone; the pod is left as it is");
                false
            });
            proofs.insert(question.clone(), proved);
        }
        let why = if pod.by.is_some() {
            "its KubervisorService is gone"
        } else {
            "no KubervisorService reaches it"
        };
        proofs.get(&question).is_some_and(|proved| *proved).then_some(why)
    }

    async fn free(&self, pod: &Marked, why: &str, waiting: &mut Waiting) {
        let now = (self.wall)();
        match free(&self.writer, pod, now).await {
            Outcome::Done => {
                waiting.refused.remove(&pod.uid);
                let name = pod.by.clone().unwrap_or_default();
                let id = Identity { namespace: Arc::clone(&pod.namespace), name, uid: Arc::from("") };
                self.metrics.restored(&id, "Released");
                let text = format!("restored: {why}");
                self.events.tell(&id, Notice::of_pod(&pod.name, &pod.uid, Kind::PodRestored, now, text));
            }
            Outcome::Refused(_) => {
                let pause =
                    waiting.refused.get(&pod.uid).map_or(RETRY.0, |(_, pause)| (*pause * 2).min(RETRY.1));
                waiting.refused.insert(Arc::clone(&pod.uid), (Instant::now() + pause, pause));
            }
            Outcome::NotSent(_) | Outcome::Unknown(_) => {}
        }
    }
}

/// Gives every pod of a gated Service its first label, until `stop`.
pub async fn label_pods(cache: Arc<Cache>, writer: Writer, registry: Arc<Registry>, stop: CancellationToken) {
    // Namespaces in which a label was refused: when they are looked over again, and the pause after that.
    let mut refused: BTreeMap<Arc<str>, (Instant, Duration)> = BTreeMap::new();
    loop {
        let earliest = refused.values().map(|(at, _)| *at).min();
        let again = async {
            match earliest {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = cache.unlabelled.notified() => {}
            () = again => {
                let now = Instant::now();
                let due = refused.iter().filter(|(_, (at, _))| *at <= now).map(|(ns, _)| Arc::clone(ns));
                due.collect::<Vec<_>>().iter().for_each(|ns| cache.requeue_labels(ns));
            }
        }
        while !(cache.synced() && registry.synced()) {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = writer.mandate().writable() => {}
        }
        label_waiting(&cache, &writer, &mut refused, &stop).await;
    }
}

async fn label_waiting(
    cache: &Cache,
    writer: &Writer,
    refused: &mut BTreeMap<Arc<str>, (Instant, Duration)>,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        let mut pods = cache.take_unlabelled(SWEEP_MAX);
        if pods.is_empty() {
            return;
        }
        pods.retain(|pod| refused.get(&pod.namespace).is_none_or(|(at, _)| *at <= Instant::now()));
        let labelled = futures::stream::iter(pods)
            .map(|pod| async move {
                let result = writer.label(&pod).await;
                (pod.namespace, result)
            })
            .buffer_unordered(LABELS_AT_ONCE);
        let results: Vec<_> = labelled.collect().await;
        note_labels(results, refused);
    }
}

/// A pod that changed or went meanwhile comes again by the watch; anything else puts its namespace off.
fn note_labels(
    results: Vec<(Arc<str>, Result<(), CallError>)>,
    refused: &mut BTreeMap<Arc<str>, (Instant, Duration)>,
) {
    let former = refused.clone();
    for (namespace, result) in results {
        match result {
            Ok(()) => {
                refused.remove(&namespace);
            }
            Err(error) if matches!(error.code(), Some(404 | 409 | 422)) => {}
            Err(error) => {
                let pause = former.get(&namespace).map_or(RETRY.0, |(_, pause)| (*pause * 2).min(RETRY.1));
                tracing::warn!(%namespace, %error, again_in = ?pause, "a pod could not be labelled yet");
                refused.insert(namespace, (Instant::now() + pause, pause));
            }
        }
    }
}
