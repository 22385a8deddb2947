//! Holds the Lease, by the rules of `election`.
//!
//! Takes the place of the Lease and a clock; gives and takes the `Mandate`. Writes nothing but the Lease. Every write
//! to it names the version that it replaces, so that of two candidates one is refused.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::election::{Election, Next, Order, RELEASED, Record, Timing};
use super::mandate::{Given, Mandate};
use super::{CallError, Clock, FIELD_MANAGER, call, call_within};
use crate::metrics::Metrics;

/// Annotation: why everything but returns is held.
pub const FREEZE: &str = "kubervisor.k8s.io/freeze";

/// Where the Lease is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    #[allow(missing_docs)]
    pub namespace: String,
    #[allow(missing_docs)]
    pub name: String,
}

/// One candidate for the Lease.
pub struct Candidate {
    api: Api<Lease>,
    place: Place,
    election: Election,
    mandate: Mandate,
    wall: Clock,
    metrics: Metrics,
    /// Our own last write, while nothing speaks against it.
    written: Option<Record>,
    told: Word,
}

/// What was said last: only a change is news.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Nothing,
    Holds(u64),
    Waits(String, Duration),
    Trouble(String),
}

/// A candidate that runs.
pub struct Campaign {
    first_look: Option<oneshot::Receiver<()>>,
    task: JoinHandle<Candidate>,
    stop: CancellationToken,
}

impl Candidate {
    /// `client` must not retry by itself.
    #[must_use]
    pub fn new(
        client: &Client,
        place: Place,
        election: Election,
        mandate: Mandate,
        wall: Clock,
        metrics: Metrics,
    ) -> Self {
        let api = Api::namespaced(client.clone(), &place.namespace);
        Self { api, place, election, mandate, wall, metrics, written: None, told: Word::Nothing }
    }

    /// Starts to look after the Lease.
    #[must_use]
    pub fn start(self) -> Campaign {
        let (looked, first_look) = oneshot::channel();
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.run(looked, stop.clone()));
        Campaign { first_look: Some(first_look), task, stop }
    }

    async fn run(mut self, looked: oneshot::Sender<()>, stop: CancellationToken) -> Self {
        let mut looked = Some(looked);
        loop {
            let pause = self.turn().await;
            self.metrics.leader(self.mandate.may_write().is_ok());
            // Nobody may listen.
            let _ = looked.take().map(|looked| looked.send(()));
            tokio::select! {
                biased;
                () = stop.cancelled() => return self,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One look or one write. Returns the pause until the next.
    async fn turn(&mut self) -> Duration {
        let next = match self.written.take() {
            Some(record) => self.election.looked(Some(&record), self.mandate.now()),
            None => match self.look().await {
                Ok(found) => {
                    let next = self.election.looked(found.as_ref(), self.mandate.now());
                    if !self.election.holds() {
                        self.mandate.take();
                    }
                    next
                }
                Err(error) => return self.trouble("be read", &error),
            },
        };
        match next {
            Next::Wait => {
                let (holder, patience) = self.election.other().unwrap_or_default();
                self.tell(Word::Waits(holder.to_owned(), patience));
                self.election.next_look(self.mandate.now())
            }
            Next::Write(order) => self.write(&order).await,
        }
    }

    async fn look(&self) -> Result<Option<Record>, CallError> {
        let found = self.within(self.api.get_opt(&self.place.name)).await?;
        Ok(found.map(record))
    }

    async fn write(&mut self, order: &Order) -> Duration {
        // From before it is sent: a renewal counts from the earliest moment at which others may have seen it.
        let start = self.mandate.now();
        let answer = match &order.base {
            None => self.within(self.api.create(&PostParams::default(), &self.new_lease(order))).await,
            Some(base) => self.patch(base, self.claim(order)).await,
        };
        match answer {
            Ok(lease) => {
                let record = record(lease);
                self.election.accepted(order);
                let timing = self.election.timing();
                self.mandate.give(Given {
                    epoch: order.epoch,
                    first: order.first,
                    until: start + timing.valid_for(),
                    cuts_from: order.cuts_from,
                    frozen: record.freeze.as_deref().map(Arc::from),
                });
                self.written = Some(record);
                self.tell(Word::Holds(order.epoch));
                timing.renew_every().saturating_sub(self.mandate.now().saturating_sub(start))
            }
            // Somebody was faster, or made a note on it: the next look tells.
            Err(error) if matches!(error.code(), Some(404 | 409)) => self.election.timing().look_every(),
            Err(error) => self.trouble("be written", &error),
        }
    }

    fn trouble(&mut self, what: &str, error: &CallError) -> Duration {
        self.tell(Word::Trouble(format!("cannot {what}: {error}")));
        self.election.timing().look_every()
    }

    fn tell(&mut self, word: Word) {
        if self.told == word {
            return;
        }
        let Place { namespace, name } = &self.place;
        let identity = self.election.identity();
        match &word {
            Word::Nothing => {}
            Word::Holds(epoch) if self.told == Word::Holds(*epoch) => {}
            Word::Holds(epoch) => {
                let wait = self.mandate.cuts_from().saturating_sub(self.mandate.now());
                tracing::info!(namespace, name, identity, epoch, cuts_in = ?wait, "we hold the Lease: we act");
            }
            Word::Waits(holder, patience) => {
                tracing::info!(
                    namespace,
                    name,
                    identity,
                    holder,
                    until_silent_for = ?patience,
                    "another controller holds the Lease: we wait"
                );
            }
            Word::Trouble(text) => tracing::warn!(
                namespace,
                name,
                identity,
                "the Lease {text}; without it nothing is done: it takes the rights to get, create and patch leases \
                 there, or --leader-elect=false where no other controller runs"
            ),
        }
        self.told = word;
    }

    async fn patch(&self, base: &str, mut body: Value) -> Result<Lease, CallError> {
        body["metadata"]["resourceVersion"] = json!(base);
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        self.within(self.api.patch(&self.place.name, &params, &Patch::Merge(body))).await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
        call_within(self.election.timing().call_within(), call).await
    }

    /// A merge patch: what other programs and people note on the Lease stays.
    fn claim(&self, order: &Order) -> Value {
        let now = MicroTime((self.wall)());
        let mut spec = json!({
            "holderIdentity": self.election.identity(),
            "leaseDurationSeconds": self.seconds(),
            "leaseTransitions": order.epoch,
            "renewTime": now,
        });
        if !self.election.holds() {
            spec["acquireTime"] = json!(now);
        }
        json!({ "spec": spec })
    }

    fn new_lease(&self, order: &Order) -> Lease {
        let now = MicroTime((self.wall)());
        Lease {
            metadata: ObjectMeta { name: Some(self.place.name.clone()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.election.identity().to_owned()),
                lease_duration_seconds: Some(self.seconds()),
                lease_transitions: i32::try_from(order.epoch).ok(),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }

    fn seconds(&self) -> i32 {
        whole_seconds(self.election.timing().duration)
    }

    /// Gives the Lease up, so that a successor need not wait. Only where it need not: our own wait is over, so that no
    /// write of our predecessor is under way either.
    async fn give_up(&mut self) {
        let may = self.election.holds() && self.mandate.may_write().is_ok() && self.mandate.wait_is_over();
        // Nothing is written from here on.
        self.mandate.take();
        if !may {
            return;
        }
        let spec = json!({
            "holderIdentity": "", "leaseDurationSeconds": RELEASED.as_secs(), "renewTime": MicroTime((self.wall)()),
        });
        let Ok(Some(base)) = self.own().await else { return };
        match self.patch(&base, json!({ "spec": spec })).await {
            Ok(_) => tracing::info!("the Lease is given up: a successor may act at once"),
            Err(error) => {
                tracing::info!(%error, "the Lease could not be given up: a successor waits until it expires");
            }
        }
    }

    /// The version of the Lease, where it is ours.
    async fn own(&mut self) -> Result<Option<String>, CallError> {
        let found = match self.written.take() {
            Some(record) => Some(record),
            None => self.look().await?,
        };
        Ok(found.filter(|found| found.holder == self.election.identity()).map(|found| found.version))
    }

    /// A last sign of life that is good for `keep`.
    async fn keep(&mut self, keep: Duration) -> anyhow::Result<()> {
        // Nothing is written from here on.
        self.mandate.take();
        let seconds = self.seconds().max(whole_seconds(keep));
        for _ in 0..KEEP_TRIES {
            let base = self.own().await.context("the Lease could not be read")?;
            let base = base.context("another controller took the Lease, and may have acted")?;
            let spec = json!({"leaseDurationSeconds": seconds, "renewTime": MicroTime((self.wall)())});
            match self.patch(&base, json!({ "spec": spec })).await {
                Ok(_) => {
                    tracing::info!(seconds, "the Lease is kept: no controller acts for so long");
                    return Ok(());
                }
                // Somebody made a note on it.
                Err(error) if error.code() == Some(409) => {}
                Err(error) => return Err(error).context("the Lease could not be written"),
            }
        }
        anyhow::bail!("the Lease is written by others all the time")
    }
}

/// Times that a last write to the Lease is tried again behind somebody else's.
const KEEP_TRIES: u32 = 5;

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1_000)).unwrap_or(i32::MAX)
}

impl Campaign {
    /// Waits until the Lease has been looked at once: a controller that is alone holds it then, and reads nothing twice.
    pub async fn first_look(&mut self) {
        if let Some(looked) = self.first_look.take() {
            let _ = looked.await;
        }
    }

    /// Blocks until it has ended by itself, which is a fault.
    pub async fn broken(&mut self) -> String {
        match (&mut self.task).await {
            Ok(_) => "the campaign for the Lease ended".into(),
            Err(error) => error.to_string(),
        }
    }

    /// Ends it. `clean`: every write of ours has ended, and how is known; the Lease is given up then, else it expires.
    pub async fn end(self, clean: bool, deadline: Instant) {
        self.stop.cancel();
        let ends = async {
            if let (Ok(mut candidate), true) = (self.task.await, clean) {
                candidate.give_up().await;
            }
        };
        if tokio::time::timeout_at(deadline, ends).await.is_err() {
            tracing::info!("no time was left to give the Lease up: a successor waits until it expires");
        }
    }

    /// Ends it, with every write of ours at its end, and leaves the Lease to expire after `keep` only.
    ///
    /// # Errors
    /// Somebody may act sooner.
    pub async fn keep(self, keep: Timing) -> anyhow::Result<()> {
        self.stop.cancel();
        let mut candidate = self.task.await.context("the campaign for the Lease ended")?;
        let kept = candidate.keep(keep.duration).await;
        kept.context("every pod is given back, but no controller is kept from acting")
    }
}

/// What the Lease says; `None` where there is none.
///
/// # Errors
/// What the server said.
pub async fn read(client: &Client, place: &Place) -> Result<Option<Record>, CallError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), &place.namespace);
    Ok(call(api.get_opt(&place.name)).await?.map(record))
}

/// Whether it may be taken: the right to patch it, asked for by a patch of nothing that is not kept.
///
/// # Errors
/// What the server said.
pub async fn may_take(client: &Client, place: &Place) -> Result<(), CallError> {
    let api: Api<Lease> = Api::namespaced(client.clone(), &place.namespace);
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    call(api.patch(&place.name, &params, &Patch::Merge(json!({})))).await.map(drop)
}

pub(super) fn record(lease: Lease) -> Record {
    let spec = lease.spec.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
    Record {
        version: lease.metadata.resource_version.unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(seconds),
        epoch: spec.lease_transitions.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
        freeze: lease.metadata.annotations.and_then(|mut all| all.remove(FREEZE)),
    }
}

/// The clock of the machine that goes on while it sleeps or a process is stopped.
#[must_use]
pub fn boot_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// A name that no other process ever has: the host's, for people, and a random part.
#[must_use]
pub fn identity() -> String {
    use std::hash::{BuildHasher, RandomState};
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = || RandomState::new().hash_one(std::process::id());
    format!("{}_{:016x}", host.trim(), random() ^ random().rotate_left(32))
}

impl Timing {
    /// With a duration of at least three seconds: less is lost to a slow answer.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text).map_err(|e| e.to_string())?;
        let allowed = Duration::from_secs(3)..=Duration::from_mins(10);
        let fault = || "must be between 3s and 10m".to_owned();
        allowed.contains(&duration).then_some(Self { duration }).ok_or_else(fault)
    }
}
