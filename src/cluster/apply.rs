//! Actions to writes, and how each ended.
//!
//! The only place that writes to pods, with `release`'s and the labeller's writes going through it. Tests the floor
//! once more under the cache's lock, right before a write is sent. A refusal is final for this decision: the next
//! tick decides again on what the watch shows then. A write whose answer never came stays assumed until the watch
//! settles it, and is fenced.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jiff::Timestamp;
use kube::Client;
use kubervisor_core::plan::{Action, What};
use kubervisor_core::traffic::Move;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::cache::{Cache, Unlabelled};
use super::snapshot::NotSent;
use super::{CallError, FIELD_MANAGER, call};
use crate::api::{cut_patch, open_patch, pause_patch, restore_patch};
use crate::metrics::Metrics;

/// Writes to pods on their way at once. More buys a third more throughput for many times the latency: the server is
/// bound by its processor, and the worst pod should go first.
const WRITES_AT_ONCE: usize = 4;
/// First and longest pause between two tries to settle a write whose answer never came.
const FENCE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Writes to pods.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    cache: Arc<Cache>,
    slots: Arc<Semaphore>,
    metrics: Metrics,
    stop: CancellationToken,
}

/// For whom a plan is carried out.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name of the KubervisorService.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
}

/// How an action ended.
#[derive(Debug)]
pub enum Outcome {
    /// The server acknowledged it.
    Done,
    /// It was not sent.
    NotSent(NotSent),
    /// The server refused it.
    Refused(CallError),
    /// Nobody knows; it is assumed until the watch tells.
    Unknown(CallError),
}

impl Outcome {
    /// For metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "Done",
            Self::NotSent(_) => "NotSent",
            Self::Refused(_) => "Refused",
            Self::Unknown(_) => "Unknown",
        }
    }
}

/// The part of an answer that is read. Its version would settle nothing: only the watch does.
#[derive(Deserialize)]
struct Acknowledged {}

impl Writer {
    /// `client` must not retry by itself: a refused eviction would be tried for minutes.
    #[must_use]
    pub fn new(client: Client, cache: Arc<Cache>, metrics: Metrics, stop: CancellationToken) -> Self {
        Self { client, cache, slots: Arc::new(Semaphore::new(WRITES_AT_ONCE)), metrics, stop }
    }

    /// Carries out one action of a plan. `floor` gives the floor for a fleet of a size, `now` is stored on the pod.
    pub async fn act(
        &self,
        id: &Identity,
        action: &Action,
        floor: &(dyn Fn(u32) -> u32 + Sync),
        now: Timestamp,
    ) -> Outcome {
        let step = action.what.step();
        let body = match &action.what {
            What::Cut(order) => cut_patch(&id.name, order),
            What::Restore(_) => restore_patch(now),
            What::Pause { .. } => pause_patch(),
            What::Evict { .. } => eviction(&id.namespace, &action.pod, &action.uid),
        };
        let Ok(_slot) = self.slots.acquire().await else { return Outcome::NotSent(NotSent::Changed) };
        if let Err(why) = self.cache.begin(&id.namespace, &id.uid, action, floor) {
            return Outcome::NotSent(why);
        }
        let pod = PodAddress {
            namespace: &id.namespace,
            name: &action.pod,
            uid: &action.uid,
            version: action.resource_version,
        };
        self.send(&pod, step, body, now).await
    }

    /// Gives a pod back: its KubervisorService no longer holds it, whatever the fleet looks like.
    pub async fn free(&self, pod: &PodAddress<'_>, now: Timestamp) -> Outcome {
        let action = Action {
            pod: Arc::clone(pod.name),
            uid: Arc::clone(pod.uid),
            resource_version: pod.version,
            what: What::Restore(kubervisor_core::plan::RestoreReason::Due),
        };
        let Ok(_slot) = self.slots.acquire().await else { return Outcome::NotSent(NotSent::Changed) };
        if let Err(why) = self.cache.begin(pod.namespace, "", &action, &|_| 0) {
            return Outcome::NotSent(why);
        }
        self.send(pod, Move::Restore, restore_patch(now), now).await
    }

    /// Gives a pod that has no traffic label its first one.
    ///
    /// # Errors
    /// What the server said.
    pub async fn label(&self, pod: &Unlabelled) -> Result<(), CallError> {
        let Ok(_slot) = self.slots.acquire().await else { return Ok(()) };
        let pod =
            PodAddress { namespace: &pod.namespace, name: &pod.name, uid: &pod.uid, version: pod.version };
        self.request(&pod, None, &open_patch()).await
    }

    async fn send(&self, pod: &PodAddress<'_>, step: Move, body: Value, now: Timestamp) -> Outcome {
        let started = std::time::Instant::now();
        let outcome = match self.request(pod, Some(step), &body).await {
            Ok(()) => Outcome::Done,
            Err(error) if error.definite() => {
                self.cache.refused(pod.uid);
                Outcome::Refused(error)
            }
            Err(error) => {
                self.fence(pod, step, body, now);
                Outcome::Unknown(error)
            }
        };
        self.metrics.applied(step, &outcome, started.elapsed());
        outcome
    }

    async fn request(&self, pod: &PodAddress<'_>, step: Option<Move>, body: &Value) -> Result<(), CallError> {
        let request = match step {
            Some(Move::Evict) => pod.post_eviction(body),
            Some(Move::Cut | Move::Restore | Move::Pause) | None => pod.patch(body),
        };
        let request = request.map_err(|e| CallError::Unknown(e.to_string()))?;
        call(self.client.request::<Acknowledged>(request)).await.map(|_| ())
    }

    /// Settles a write that may still be carried out: another write on the same version, of which only one can
    /// succeed. A cut of unknown fate is undone rather than sent again: in doubt, the pod keeps its traffic.
    fn fence(&self, pod: &PodAddress<'_>, step: Move, body: Value, now: Timestamp) {
        let (this, owned) = (self.clone(), pod.owned());
        let body = if step == Move::Cut { restore_patch(now) } else { body };
        tokio::spawn(async move {
            let mut pause = FENCE_PAUSE.0;
            while this.cache.in_flight(&owned.uid) {
                tokio::select! {
                    biased;
                    () = this.stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(FENCE_PAUSE.1),
                }
                if !this.cache.in_flight(&owned.uid) {
                    return;
                }
                let pod = owned.borrowed();
                if let Err(error) = this.request(&pod, Some(step), &body).await {
                    tracing::debug!(pod = %owned.name, %error, "a write of unknown fate is not settled yet");
                }
            }
        });
    }
}

/// A pod as the address of a write, with its preconditions.
#[derive(Debug, Clone, Copy)]
pub struct PodAddress<'a> {
    #[allow(missing_docs)]
    pub namespace: &'a Arc<str>,
    #[allow(missing_docs)]
    pub name: &'a Arc<str>,
    #[allow(missing_docs)]
    pub uid: &'a Arc<str>,
    /// resourceVersion.
    pub version: u64,
}

struct OwnedPod {
    namespace: Arc<str>,
    name: Arc<str>,
    uid: Arc<str>,
    version: u64,
}

impl OwnedPod {
    fn borrowed(&self) -> PodAddress<'_> {
        PodAddress { namespace: &self.namespace, name: &self.name, uid: &self.uid, version: self.version }
    }
}

impl PodAddress<'_> {
    fn owned(&self) -> OwnedPod {
        OwnedPod {
            namespace: Arc::clone(self.namespace),
            name: Arc::clone(self.name),
            uid: Arc::clone(self.uid),
            version: self.version,
        }
    }

    /// A narrow merge patch. A pod of the same name that was created since has another uid (422), one that changed
    /// since has another version (409): neither is written.
    fn patch(&self, body: &Value) -> Result<Request<Vec<u8>>, http::Error> {
        let mut body = body.clone();
        body["metadata"]["uid"] = json!(&**self.uid);
        body["metadata"]["resourceVersion"] = json!(self.version.to_string());
        Request::patch(format!("{}?fieldManager={FIELD_MANAGER}", self.path()))
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .header(http::header::ACCEPT, METADATA_ONLY)
            .body(body.to_string().into_bytes())
    }

    fn post_eviction(&self, body: &Value) -> Result<Request<Vec<u8>>, http::Error> {
        Request::post(format!("{}/eviction", self.path()))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes())
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

/// The answer to a patch is the whole pod; nothing of it is read, so it is asked for without spec and status.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

fn eviction(namespace: &str, name: &str, uid: &str) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": name, "namespace": namespace },
        "deleteOptions": { "preconditions": { "uid": uid } },
    })
}
