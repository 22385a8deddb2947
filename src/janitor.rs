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
use crate::cluster::marked::Marked;
use crate::cluster::registry::Registry;
use crate::cluster::release::{free, unheld};
use crate::cluster::{CallError, Clock};
use crate::leftovers::Leftovers;
use crate::metrics::Metrics;

/// Marked pods are looked over this often; nothing is asked of the server while none is without an owner.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// A Service that is deleted and made again within this time loses no state.
const SERVICE_GONE_FOR: Duration = Duration::from_mins(1);
/// A KubervisorService may be created after the key is in the selector.
const OWNERLESS_FOR: Duration = Duration::from_mins(1);
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
    /// Services with the key that no KubervisorService names, by uid: since when, and whether that was told.
    ownerless: BTreeMap<Arc<str>, (Instant, bool)>,
    /// The last pod looked at: the next sweep goes on behind it.
    last: Option<(Arc<str>, Arc<str>)>,
    /// Keys that go before the pods behind them.
    leftovers: Leftovers,
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
                let (mandate, sees) = (self.writer.mandate(), |namespace: &_| self.sees(namespace));
                waiting.leftovers.sweep(&self.cache, &self.client, mandate, sees).await;
                self.sweep(&mut waiting).await;
                self.tell_ownerless(&mut waiting);
            }
        }
    }

    async fn sweep(&self, waiting: &mut Waiting) {
        // A resource of this name in its mark is gone, whoever else reaches the pod now.
        let unowned = |m: &Marked| !m.governed || m.by.is_some() && !m.by_exists;
        let mut stray: Vec<_> = self.cache.marked().into_iter().filter(unowned).collect();
        stray.retain(|m| self.sees(&m.namespace));
        stray.retain(|m| m.behind.as_ref().is_none_or(|service| !waiting.leftovers.goes_first(service)));
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

    /// A gate that nobody looks after is told of once. Its pods go on being labelled.
    fn tell_ownerless(&self, waiting: &mut Waiting) {
        let mut found = self.cache.ownerless();
        found.retain(|(namespace, _, _)| self.sees(namespace));
        waiting.ownerless.retain(|uid, _| found.iter().any(|(_, _, found)| found == uid));
        for (namespace, name, uid) in found {
            let (since, told) = waiting.ownerless.entry(Arc::clone(&uid)).or_insert((Instant::now(), false));
            if *told || since.elapsed() < OWNERLESS_FOR {
                continue;
            }
            *told = true;
            let text = "its selector holds kubervisor/traffic, and no KubervisorService names it: its pods are labelled, \
                        but nobody judges them; create one, or take the key out";
            // Always the same instant: told once for each Service, not once for each start.
            let at = jiff::Timestamp::UNIX_EPOCH;
            let notice = Notice::of_service(&uid, Kind::GateWithoutOwner, at, text.to_owned());
            self.events.tell(&Identity { namespace, name, uid }, notice);
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
                self.metrics.restored(&counted(&pod.namespace, pod.by.as_deref(), pod.by_exists), "Released");
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

/// Under whose name a pod that the janitor freed is counted. One that is gone has been forgotten: a series of its name
/// would stand for ever.
fn counted(namespace: &str, by: Option<&str>, by_exists: bool) -> Identity {
    let (namespace, name) = by.filter(|_| by_exists).map_or(("", ""), |name| (namespace, name));
    Identity { namespace: namespace.into(), name: name.into(), uid: "".into() }
}

/// Namespaces in which a label was refused: when they are looked over again (`None`: now), and the pause after that.
#[derive(Debug, Default)]
struct PutOff(BTreeMap<Arc<str>, (Option<Instant>, Duration)>);

impl PutOff {
    fn earliest(&self) -> Option<Instant> {
        self.0.values().filter_map(|(at, _)| *at).min()
    }

    /// Namespaces whose time has come; it does not come twice.
    fn due(&mut self, now: Instant) -> Vec<Arc<str>> {
        let due = self.0.iter_mut().filter(|(_, (at, _))| at.is_some_and(|at| at <= now));
        due.map(|(namespace, (at, _))| (Arc::clone(namespace), *at = None).0).collect()
    }

    fn waits(&self, namespace: &str) -> bool {
        self.0.get(namespace).is_some_and(|(at, _)| at.is_some())
    }

    /// A pod that changed or went meanwhile comes again by the watch; anything else puts its namespace off, whatever
    /// its other pods got: nobody else would bring that pod up again. 422 may be another pod of the same name, and may
    /// be an admission policy that finds something wrong for a moment.
    fn note(&mut self, results: Vec<(Arc<str>, Result<(), CallError>)>, now: Instant) {
        let former = self.0.clone();
        for (namespace, result) in results {
            let Err(error) = result else { continue };
            if !matches!(error.code(), Some(404 | 409)) {
                let pause = former.get(&namespace).map_or(RETRY.0, |(_, pause)| (*pause * 2).min(RETRY.1));
                tracing::warn!(%namespace, %error, again_in = ?pause, "a pod could not be labelled yet");
                self.0.insert(namespace, (Some(now + pause), pause));
            }
        }
    }

    /// Everything that was due has been tried.
    fn settle(&mut self) {
        self.0.retain(|_, (at, _)| at.is_some());
    }
}

/// Gives every pod of a gated Service its first label, until `stop`.
pub async fn label_pods(cache: Arc<Cache>, writer: Writer, registry: Arc<Registry>, stop: CancellationToken) {
    let mut put_off = PutOff::default();
    loop {
        let earliest = put_off.earliest();
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
            () = again => put_off.due(Instant::now()).iter().for_each(|ns| cache.requeue_labels(ns)),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = writer.mandate().writable() => {}
        }
        label_waiting(&cache, &registry, &writer, &mut put_off, &stop).await;
    }
}

async fn label_waiting(
    cache: &Cache,
    registry: &Registry,
    writer: &Writer,
    put_off: &mut PutOff,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        let mut pods = cache.take_unlabelled(SWEEP_MAX, |namespace| registry.synced_in(namespace));
        if pods.is_empty() {
            break;
        }
        pods.retain(|pod| !put_off.waits(&pod.namespace));
        let labelled = futures::stream::iter(pods)
            .map(|pod| async move {
                let result = writer.label(&pod).await;
                (pod.namespace, result)
            })
            .buffer_unordered(LABELS_AT_ONCE);
        let results: Vec<_> = labelled.collect().await;
        put_off.note(results, Instant::now());
    }
    put_off.settle();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16) -> Result<(), CallError> {
        let status = serde_json::json!({"status": "Failure", "code": code, "message": "", "reason": ""});
        Err(CallError::Refused(Box::new(serde_json::from_value(status).unwrap())))
    }

    fn noted(put_off: &mut PutOff, results: Vec<Result<(), CallError>>, now: Instant) {
        put_off.note(results.into_iter().map(|result| (Arc::from("meadow"), result)).collect(), now);
        put_off.settle();
    }

    #[tokio::test(start_paused = true)]
    async fn a_pod_whose_label_was_refused_is_not_forgotten_for_a_sibling_that_got_its() {
        let (mut put_off, now) = (PutOff::default(), Instant::now());
        noted(&mut put_off, vec![refused(403), Ok(())], now);
        assert!(put_off.waits("meadow"));
        let later = now + RETRY.0;
        assert_eq!((put_off.earliest(), put_off.due(later)), (Some(later), vec![Arc::from("meadow")]));
        assert!(!put_off.waits("meadow"), "it is tried again");
        noted(&mut put_off, vec![Ok(()), refused(403), Ok(())], later);
        assert_eq!(put_off.earliest(), Some(later + RETRY.0 * 2), "the pause does not grow");
    }

    #[tokio::test(start_paused = true)]
    async fn a_label_that_a_policy_calls_invalid_is_tried_again() {
        let (mut put_off, now) = (PutOff::default(), Instant::now());
        noted(&mut put_off, vec![refused(422)], now);
        assert_eq!(put_off.earliest(), Some(now + RETRY.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_pod_that_is_gone_or_changed_when_its_time_comes_is_waited_for_no_more() {
        let (mut put_off, now) = (PutOff::default(), Instant::now());
        for last in [vec![], vec![refused(404)], vec![refused(409)], vec![Ok(())]] {
            noted(&mut put_off, vec![refused(403)], now);
            assert_eq!(put_off.due(now + RETRY.0).len(), 1);
            noted(&mut put_off, last, now + RETRY.0);
            assert_eq!(put_off.earliest(), None);
        }
    }

    #[test]
    fn a_resource_that_is_gone_leaves_no_series_behind_when_its_pods_are_freed() {
        let metrics = Metrics::new();
        metrics.restored(&counted("meadow", Some("pick"), false), "Released");
        assert!(!metrics.text().contains("meadow") && metrics.text().contains("reason=\"Released\""));
        metrics.restored(&counted("meadow", Some("pick"), true), "Released");
        assert!(metrics.text().contains("meadow"));
    }
}
