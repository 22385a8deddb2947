//! Actions to writes, and how each ended.
//!
//! The only place that writes to pods, with `release`'s and the labeller's writes going through it. Tests the floor
//! once more under the cache's lock and asks for the right to act, right before a write is sent. A refusal is final for this decision: the next
//! tick decides again on what the watch shows then. A write whose answer never came stays assumed until the watch
//! settles it, and is fenced.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jiff::Timestamp;
use kube::Client;
use kubervisor_core::plan::{Action, What};
use kubervisor_core::policy::Limits;
use kubervisor_core::traffic::Move;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::brake::{Brake, Braked, Counts};
use super::cache::Cache;
use super::mandate::{Mandate, Withheld};
use super::slim::SlimPod;
use super::unlabelled::Unlabelled;
use super::writes::{Demands, NotSent};
use super::{CallError, FIELD_MANAGER, call};
use crate::api::{
    Cost, Identity, cut_patch, forgive_patch, keep_out_patch, key, open_patch, pause_patch, priced,
    restore_patch,
};
use crate::metrics::Metrics;

/// Writes to pods on their way at once. More buys a third more throughput for many times the latency: the server is
/// bound by its processor, and the worst pod should go first.
const WRITES_AT_ONCE: usize = 4;
/// First and longest pause between two tries to settle a write whose answer never came.
const SETTLE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// An acknowledged write that the watch has not shown for this long is asked for.
const UNSEEN: Duration = Duration::from_secs(5);
/// A write that takes longer no longer counts among those under way: 30 times a usual one.
const SLOW: Duration = Duration::from_millis(300);
/// How long a step waits for its turn.
const SPEND_PATIENCE: Duration = Duration::from_secs(1);
const RETURN_PATIENCE: Duration = Duration::from_secs(30);

/// Writes to pods.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    cache: Arc<Cache>,
    mandate: Mandate,
    brake: Brake,
    slots: Arc<Semaphore>,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
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
    pub fn new(
        client: Client,
        cache: Arc<Cache>,
        mandate: Mandate,
        brake: Brake,
        metrics: Metrics,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(WRITES_AT_ONCE));
        Self { client, cache, mandate, brake, slots, metrics, tasks, stop }
    }

    /// The right to act that it asks for.
    #[must_use]
    pub fn mandate(&self) -> &Mandate {
        &self.mandate
    }

    /// The brake over all services.
    #[must_use]
    pub fn brake(&self) -> &Brake {
        &self.brake
    }

    /// The epoch to stamp, where a write of this kind may be sent at this moment.
    fn allowed(&self, namespace: &str, step: Option<Move>) -> Result<Option<u64>, Withheld> {
        if step.is_some_and(Move::spends) {
            self.mandate.may_spend(namespace)
        } else {
            self.mandate.may_write()
        }
    }

    /// Carries out one action of a plan. `now` is stored on the pod.
    pub async fn act(&self, id: &Identity, action: &Action, demands: Demands<'_>, now: Timestamp) -> Outcome {
        let step = action.what.step();
        let body = match &action.what {
            What::Cut(order) => cut_patch(&id.name, order),
            What::KeepOut => keep_out_patch(&id.name),
            What::Restore { strikes, .. } => restore_patch(now, strikes.as_ref()),
            What::Forgive(strikes) => forgive_patch(strikes),
            What::Pause { .. } => pause_patch(),
            What::Evict { .. } => eviction(&id.namespace, action),
        };
        let slot = match self.slot(step).await {
            Ok(slot) => slot,
            Err(why) => return Outcome::NotSent(why),
        };
        if let Err(why) = self.allowed(&id.namespace, Some(step)) {
            return Outcome::NotSent(NotSent::Withheld(why));
        }
        if let Err(why) = self.cache.begin(&id.namespace, &id.uid, action, &demands) {
            return Outcome::NotSent(why);
        }
        let counts = RecentCuts { cache: &self.cache, now };
        if step == Move::Cut && self.brake.spend(&counts, Instant::now()) == Err(Braked) {
            self.cache.refused(&action.uid);
            return Outcome::NotSent(NotSent::ClusterStorm);
        }
        let pod = PodAddress {
            namespace: &id.namespace,
            name: &action.pod,
            uid: &action.uid,
            version: action.resource_version,
        };
        self.send(&pod, step, body, now, slot).await
    }

    /// A place among the writes under way. What takes traffic away does not wait for long: its evidence would be old.
    /// After the end there is none: somebody else may be looking after the pods by now.
    async fn slot(&self, step: Move) -> Result<SemaphorePermit<'_>, NotSent> {
        let patience = if step.spends() { SPEND_PATIENCE } else { RETURN_PATIENCE };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(NotSent::Ending),
            slot = tokio::time::timeout(patience, self.slots.acquire()) => match slot {
                Ok(Ok(slot)) => Ok(slot),
                Ok(Err(_)) | Err(_) => Err(NotSent::Late),
            },
        }
    }

    /// Gives a pod back: its KubervisorService no longer holds it, whatever the fleet looks like.
    pub async fn free(&self, pod: &PodAddress<'_>, now: Timestamp) -> Outcome {
        let action = Action {
            pod: Arc::clone(pod.name),
            uid: Arc::clone(pod.uid),
            resource_version: pod.version,
            what: What::Restore { reason: kubervisor_core::plan::RestoreReason::Due, strikes: None },
        };
        let slot = match self.slot(Move::Restore).await {
            Ok(slot) => slot,
            Err(why) => return Outcome::NotSent(why),
        };
        if let Err(why) = self.allowed(pod.namespace, Some(Move::Restore)) {
            return Outcome::NotSent(NotSent::Withheld(why));
        }
        let nothing = Demands { floor: &|_| 0, limits: &Limits::default() };
        if let Err(why) = self.cache.begin(pod.namespace, "", &action, &nothing) {
            return Outcome::NotSent(why);
        }
        self.send(pod, Move::Restore, restore_patch(now, None), now, slot).await
    }

    /// Gives a pod that has no traffic label its first one.
    ///
    /// # Errors
    /// What the server said.
    pub async fn label(&self, pod: &Unlabelled) -> Result<(), CallError> {
        let slot = match self.slot(Move::Restore).await {
            Ok(slot) => slot,
            Err(NotSent::Ending) => return Err(CallError::NotSent("the controller ends".into())),
            Err(_) => return Err(CallError::NotSent("too many writes are under way".into())),
        };
        let pod =
            PodAddress { namespace: &pod.namespace, name: &pod.name, uid: &pod.uid, version: pod.version };
        self.request_in(slot, &pod, None, &open_patch()).await
    }

    async fn send(
        &self,
        pod: &PodAddress<'_>,
        step: Move,
        body: Value,
        now: Timestamp,
        slot: SemaphorePermit<'_>,
    ) -> Outcome {
        let started = std::time::Instant::now();
        let cost = self.cache.cost(pod.namespace, pod.name);
        let body = priced(body, step, cost);
        let outcome = match self.request_in(slot, pod, Some(step), &body).await {
            Ok(()) => {
                self.cache.acknowledged(pod.uid);
                self.settle(pod, None);
                Outcome::Done
            }
            Err(error) if error.definite() || step == Move::Evict && error.many_budgets() => {
                self.cache.refused(pod.uid);
                Outcome::Refused(error)
            }
            Err(error) => {
                self.cache.doubt(pod.uid);
                self.settle(pod, Some(Fence::against(step, body, cost, now)));
                Outcome::Unknown(error)
            }
        };
        self.metrics.applied(step, outcome.as_str(), started.elapsed());
        outcome
    }

    /// A write that takes long gives its place back: one namespace whose writes hang must not hold up all others.
    async fn request_in(
        &self,
        slot: SemaphorePermit<'_>,
        pod: &PodAddress<'_>,
        step: Option<Move>,
        body: &Value,
    ) -> Result<(), CallError> {
        let mut request = std::pin::pin!(self.request(pod, step, body));
        if let Ok(answer) = tokio::time::timeout(SLOW, &mut request).await {
            return answer;
        }
        drop(slot);
        request.await
    }

    async fn request(&self, pod: &PodAddress<'_>, step: Option<Move>, body: &Value) -> Result<(), CallError> {
        // As late as can be: the process may have been stopped for an hour since the decision.
        let epoch =
            self.allowed(pod.namespace, step).map_err(|why| CallError::NotSent(why.as_str().into()))?;
        let request = match step {
            Some(Move::Evict) => pod.post_eviction(body, epoch),
            Some(Move::Cut | Move::Restore | Move::Pause | Move::Forgive) | None => pod.patch(body, epoch),
        };
        let request = request.map_err(|e| CallError::NotSent(e.to_string()))?;
        call(self.client.request::<Acknowledged>(request)).await.map(|_| ())
    }

    /// Sees to it that a write does not stay assumed for ever: the watch shows nearly every one within milliseconds;
    /// for the rest, the server is asked itself.
    fn settle(&self, pod: &PodAddress<'_>, fence: Option<Fence>) {
        let (this, owned) = (self.clone(), pod.owned());
        self.tasks.spawn(async move {
            let mut pause = if fence.is_some() { SETTLE_PAUSE.0 } else { UNSEEN };
            loop {
                tokio::select! {
                    biased;
                    () = this.stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
                if !this.cache.in_flight(&owned.uid, owned.version) {
                    return;
                }
                this.settle_once(&owned, fence.as_ref()).await;
                pause = (pause * 2).min(SETTLE_PAUSE.1);
            }
        });
    }

    async fn settle_once(&self, owned: &OwnedPod, fence: Option<&Fence>) {
        let pod = owned.borrowed();
        if let Some(fence) = fence {
            match self.request(&pod, Some(fence.step), &fence.body).await {
                Ok(()) => {
                    tracing::info!(namespace = %owned.namespace, pod = %owned.name, step = fence.step.as_str(),
                    "a write of unknown fate is settled by another on the same version");
                }
                Err(error) => tracing::debug!(namespace = %owned.namespace, pod = %owned.name, %error,
                    "a write of unknown fate is not settled by another one"),
            }
        }
        let Ok(request) = Request::get(pod.path()).body(Vec::new()) else { return };
        match call(self.client.request::<SlimPod>(request)).await {
            Ok(now) => self.cache.learn(now),
            Err(error) if error.code() == Some(404) => self.cache.learn_gone(&owned.namespace, &owned.uid),
            Err(error) => {
                tracing::debug!(namespace = %owned.namespace, pod = %owned.name, %error, "cannot be read now");
            }
        }
    }
}

/// What the brake asks of the view.
struct RecentCuts<'a> {
    cache: &'a Cache,
    now: Timestamp,
}

impl Counts for RecentCuts<'_> {
    fn members(&self) -> u32 {
        self.cache.members()
    }

    fn recent_cuts(&self) -> u32 {
        let from = self.now - jiff::SignedDuration::from_mins(1);
        self.cache.cut_between(from, self.now)
    }
}

/// A write on the same version as one that may still be carried out: only one of the two can succeed.
struct Fence {
    step: Move,
    body: Value,
}

impl Fence {
    /// A cut or an eviction of unknown fate is undone rather than sent again: in doubt, the pod keeps its traffic.
    fn against(step: Move, body: Value, cost: Cost, now: Timestamp) -> Self {
        let restore = || priced(restore_patch(now, None), Move::Restore, cost);
        match step {
            Move::Cut | Move::Evict => Self { step: Move::Restore, body: restore() },
            Move::Restore | Move::Pause | Move::Forgive => Self { step, body },
        }
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

    /// A narrow merge patch. A pod that changed since has another version, one that was created since under the same
    /// name has another uid too: neither is written (409).
    fn patch(&self, body: &Value, epoch: Option<u64>) -> Result<Request<Vec<u8>>, http::Error> {
        let mut body = body.clone();
        // Without a Lease none: the one of an earlier write would tell of a writer that was another.
        body["metadata"]["annotations"][key::EPOCH] = json!(epoch.map(|epoch| epoch.to_string()));
        body["metadata"]["uid"] = json!(&**self.uid);
        body["metadata"]["resourceVersion"] = json!(self.version.to_string());
        Request::patch(format!("{}?fieldManager={FIELD_MANAGER}", self.path()))
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .header(http::header::ACCEPT, METADATA_ONLY)
            .body(body.to_string().into_bytes())
    }

    fn post_eviction(&self, body: &Value, epoch: Option<u64>) -> Result<Request<Vec<u8>>, http::Error> {
        let mut body = body.clone();
        // Kept nowhere: for whoever decides on the admission of it.
        if let Some(epoch) = epoch {
            body["metadata"]["annotations"] = json!({ key::EPOCH: epoch.to_string() });
        }
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

/// On exactly the version that was judged, so that a late one cannot be carried out after the pod changed.
fn eviction(namespace: &str, action: &Action) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": &*action.pod, "namespace": namespace },
        "deleteOptions": { "preconditions": {
            "uid": &*action.uid,
            "resourceVersion": action.resource_version.to_string(),
        } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::brake::CutsPerMinute;
    use crate::cluster::testing::{floor_of, orchard};

    /// A writer over an orchard of three whose API server nobody serves.
    fn writer(mandate: Mandate, brake: Brake) -> (Writer, CancellationToken) {
        // Fails where somebody else was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let nobody = kube::Config::new(http::Uri::from_static("http://127.0.0.1:1"));
        let (client, stop) = (Client::try_from(nobody).unwrap(), CancellationToken::new());
        let (metrics, tasks) = (Metrics::new(), TaskTracker::new());
        (Writer::new(client, orchard(3), mandate, brake, metrics, tasks, stop.clone()), stop)
    }

    async fn keep_out(writer: &Writer) -> Outcome {
        let id = Identity { namespace: "orchard".into(), name: "pick".into(), uid: "k1".into() };
        let (pod, uid) = ("pear-0".into(), "uid-of-pear-0".into());
        let action = Action { pod, uid, resource_version: 7, what: What::KeepOut };
        writer.act(&id, &action, floor_of!(0), Timestamp::UNIX_EPOCH).await
    }

    #[tokio::test]
    async fn not_sent_for_ending_however_much_of_a_plan_is_left() {
        let (writer, stop) = writer(Mandate::unlimited(), Brake::default());
        stop.cancel();
        let act = keep_out(&writer).await;
        assert!(matches!(act, Outcome::NotSent(NotSent::Ending)), "{act:?}");
        let [namespace, name, uid] = ["orchard", "pear-0", "uid-of-pear-0"].map(Arc::from);
        let address = PodAddress { namespace: &namespace, name: &name, uid: &uid, version: 7 };
        let free = writer.free(&address, Timestamp::UNIX_EPOCH).await;
        assert!(matches!(free, Outcome::NotSent(NotSent::Ending)), "{free:?}");
    }

    #[tokio::test]
    async fn not_sent_for_withheld_without_the_right_to_act() {
        let (writer, _stop) = writer(Mandate::none(Arc::new(|| Duration::ZERO)), Brake::default());
        let act = keep_out(&writer).await;
        assert!(matches!(act, Outcome::NotSent(NotSent::Withheld(Withheld::NotHeld))), "{act:?}");
    }

    #[tokio::test]
    async fn not_sent_for_cluster_storm_and_not_counted_as_under_way() {
        let none = Brake::new(CutsPerMinute::parse("0").unwrap());
        let (writer, _stop) = writer(Mandate::unlimited(), none);
        let act = keep_out(&writer).await;
        assert!(matches!(act, Outcome::NotSent(NotSent::ClusterStorm)), "{act:?}");
        assert!(!writer.cache.in_flight("uid-of-pear-0", 7));
    }

    #[tokio::test(start_paused = true)]
    async fn not_sent_for_late_when_no_turn_comes_within_a_second() {
        let (writer, _stop) = writer(Mandate::unlimited(), Brake::default());
        let all = u32::try_from(WRITES_AT_ONCE).unwrap();
        let _under_way = Arc::clone(&writer.slots).acquire_many_owned(all).await.unwrap();
        let began = Instant::now();
        let act = keep_out(&writer).await;
        assert!(matches!(act, Outcome::NotSent(NotSent::Late)), "{act:?}");
        assert_eq!(began.elapsed(), SPEND_PATIENCE);
    }
}
