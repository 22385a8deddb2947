//! Pods that no owner looks after: those whose KubervisorService is gone, and those that still lack their label.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Client;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::apply::Writer;
use crate::cluster::cache::Cache;
use crate::cluster::release::{free, unheld};
use crate::cluster::snapshot::Marked;
use crate::supervisor::Registry;

/// Marked pods are looked over this often; nothing is asked of the server while none is without an owner.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// A Service that is deleted and made again within this time loses no state.
const SERVICE_GONE_FOR: Duration = Duration::from_mins(1);
/// Pods looked after in one sweep.
const SWEEP_MAX: usize = 200;
/// Labels written at once, and the pause after one that failed.
const LABELS_AT_ONCE: usize = 4;
const LABEL_RETRY: Duration = Duration::from_secs(5);

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
    /// Wall time.
    pub wall: fn() -> jiff::Timestamp,
}

impl Janitor {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        // Since when a marked pod's Service is not there.
        let mut missing: BTreeMap<Arc<str>, Instant> = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.registry.gone.notified() => {}
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
            if self.cache.synced() && self.registry.synced() && !self.registry.suspect() {
                self.sweep(&mut missing).await;
            }
        }
    }

    async fn sweep(&self, missing: &mut BTreeMap<Arc<str>, Instant>) {
        let stray: Vec<_> = self.cache.marked().into_iter().filter(|m| !m.governed).collect();
        missing.retain(|uid, _| stray.iter().any(|m| m.service_missing && m.uid == *uid));
        for pod in stray.iter().filter(|m| !m.in_flight).take(SWEEP_MAX) {
            if let Some(why) = self.reason(pod, missing).await {
                free(&self.writer, pod, why, (self.wall)()).await;
            }
        }
    }

    /// Why a pod may be freed; `None` where it may not, or not yet.
    async fn reason(&self, pod: &Marked, missing: &mut BTreeMap<Arc<str>, Instant>) -> Option<&'static str> {
        if pod.service_missing {
            let since = *missing.entry(Arc::clone(&pod.uid)).or_insert_with(Instant::now);
            return (since.elapsed() >= SERVICE_GONE_FOR).then_some("its Service is gone");
        }
        if pod.by_exists {
            return Some("its Service no longer selects it");
        }
        match unheld(&self.client, pod).await {
            Ok(true) => Some("its KubervisorService is gone"),
            Ok(false) => None,
            Err(error) => {
                tracing::warn!(namespace = %pod.namespace, pod = %pod.name, %error,
                    "cannot prove that its KubervisorService is gone; the pod is left as it is");
                None
            }
        }
    }
}

/// Gives every pod of a gated Service its first label, until `stop`.
pub async fn label_pods(cache: Arc<Cache>, writer: Writer, registry: Arc<Registry>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = cache.unlabelled.notified() => {}
        }
        while !(cache.synced() && registry.synced()) {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
        }
        label_waiting(&cache, &writer, &stop).await;
    }
}

async fn label_waiting(cache: &Arc<Cache>, writer: &Writer, stop: &CancellationToken) {
    while !stop.is_cancelled() {
        let pods = cache.take_unlabelled(SWEEP_MAX);
        if pods.is_empty() {
            return;
        }
        let labelled = futures::stream::iter(pods)
            .map(|pod| async move {
                let result = writer.label(&pod).await;
                (pod, result)
            })
            .buffer_unordered(LABELS_AT_ONCE);
        let results: Vec<_> = labelled.collect().await;
        for (pod, result) in results {
            let Err(error) = result else { continue };
            tracing::warn!(namespace = %pod.namespace, pod = %pod.name, %error, "could not be labelled yet");
            let (cache, namespace) = (Arc::clone(cache), pod.namespace);
            tokio::spawn(async move {
                tokio::time::sleep(LABEL_RETRY).await;
                cache.requeue_labels(&namespace);
            });
        }
    }
}
