//! Writes on their way: may this one be sent now, and what became of it.
//!
//! The test and the note of a write are one step under the lock: no answer of the watch and no other write can come
//! between what was counted and what is sent.

use kubervisor_core::elsewhere::Elsewhere;
use kubervisor_core::fleet::{Fleet, Member};
use kubervisor_core::plan::{Action, Why};
use kubervisor_core::policy::Limits;
use kubervisor_core::traffic::Move;

use super::cache::Cache;
use super::mandate::Withheld;
use super::slim::SlimPod;
use super::snapshot::fleet;
use crate::api::Cost;

/// Why a write was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotSent {
    /// The pod is gone, is another one, or has changed since the decision.
    Changed,
    /// A write of ours to this pod is not settled yet.
    InFlight,
    /// Too many writes were under way for too long; the decision is old by now.
    Late,
    /// The controller ends, or begins anew with another scope.
    Ending,
    /// Not exactly one KubervisorService governs it.
    Contested,
    /// This process may not act, or not so.
    Withheld(Withheld),
    /// A disruption budget, a node or another Service cannot spare the pod any more.
    Elsewhere(Why),
    /// As many cuts over all services as there may be within a minute.
    ClusterStorm,
    /// The fleet as it stands now has too few serving pods.
    Floor {
        /// Members that would serve.
        serving: u32,
        /// Members that must.
        floor: u32,
    },
}

/// What must hold after a write that takes traffic away, tested once more as it is sent.
#[derive(Clone, Copy)]
pub struct Demands<'a> {
    /// The floor for a fleet of a size.
    pub floor: &'a (dyn Fn(u32) -> u32 + Sync),
    /// Of the policy.
    pub limits: &'a Limits,
}

impl Demands<'_> {
    fn allow(&self, fleet: &Fleet, action: &Action) -> Result<(), NotSent> {
        let member = fleet.member(&action.uid).ok_or(NotSent::Changed)?;
        let serving = fleet.count(Member::serving) - u32::from(member.serving());
        let floor = (self.floor)(fleet.size());
        if serving < floor {
            return Err(NotSent::Floor { serving, floor });
        }
        // What is out already is counted there: only a cut takes more. Another owner may have spent the same since the
        // decision, where a disruption budget lies over the pods of both.
        let refusal = match action.what.step() {
            Move::Cut => Elsewhere::of(fleet, self.limits).refusal(member),
            Move::Restore | Move::Pause | Move::Evict | Move::Forgive => None,
        };
        refusal.map_or(Ok(()), |why| Err(NotSent::Elsewhere(why)))
    }
}

impl Cache {
    /// Takes note of a write and lets it be sent, or says why not.
    ///
    /// The test and the note are one step under the lock: no answer of the watch and no other write can come
    /// between what was counted and what is sent.
    ///
    /// # Errors
    /// Why the write must not be sent; nothing is noted then.
    pub fn begin(
        &self,
        namespace: &str,
        governor: &str,
        action: &Action,
        demands: &Demands<'_>,
    ) -> Result<(), NotSent> {
        let mut state = self.lock();
        let step = action.what.step();
        let ns = state.namespaces.get(namespace).ok_or(NotSent::Changed)?;
        let pod = ns.pods.get(&action.pod).ok_or(NotSent::Changed)?;
        if pod.uid != action.uid || pod.version != action.resource_version || pod.version == 0 {
            return Err(NotSent::Changed);
        }
        if state.assumed.of(&action.uid).is_some() {
            return Err(NotSent::InFlight);
        }
        if step.spends() {
            let mut governing = ns.governing(&pod.labels);
            if !(governing.next().is_some_and(|(uid, _)| **uid == *governor) && governing.next().is_none()) {
                return Err(NotSent::Contested);
            }
            let named = &ns.governors.get(governor).ok_or(NotSent::Changed)?.service;
            let service = ns.services.get(named).ok_or(NotSent::Changed)?;
            demands.allow(&fleet(&state, ns, namespace, named, service), action)?;
        }
        let begun = state.assumed.begin(&action.uid, step, action.resource_version);
        if begun { Ok(()) } else { Err(NotSent::InFlight) }
    }

    /// The server said for sure that a write was not carried out.
    pub fn refused(&self, uid: &str) {
        self.lock().assumed.refused(uid);
    }

    /// Nobody knows how a write ended.
    pub fn doubt(&self, uid: &str) {
        self.lock().assumed.doubt(uid);
    }

    /// Writes of which nobody knows how they ended: they may be carried out yet.
    #[must_use]
    pub fn doubtful(&self) -> usize {
        self.lock().assumed.doubtful()
    }

    /// What the server itself said of a pod, where it is newer than what the watch has shown.
    pub fn learn(&self, pod: SlimPod) {
        let mut state = self.lock();
        let (namespace, name) = (pod.metadata.namespace.clone(), pod.metadata.name.clone());
        let known = state.namespaces.get(namespace.as_str()).and_then(|ns| ns.pods.get(name.as_str()));
        let version: u64 = pod.metadata.resource_version.parse().unwrap_or(0);
        let Some(list) = known.filter(|known| known.version < version).map(|known| known.list) else {
            return;
        };
        // What the server was asked for says nothing of the watch.
        state.assumed.acknowledge(&pod.metadata.uid, None);
        state.apply_pod(pod, list);
        let learned =
            state.namespaces.get_mut(namespace.as_str()).and_then(|ns| ns.pods.get_mut(name.as_str()));
        learned.into_iter().for_each(|pod| pod.learned = true);
    }

    /// The server itself has no such pod any more.
    pub fn learn_gone(&self, namespace: &str, uid: &str) {
        let mut state = self.lock();
        let found = state.namespaces.get(namespace).and_then(|ns| {
            ns.pods.iter().find(|(_, pod)| *pod.uid == *uid).map(|(name, _)| name.to_string())
        });
        if let Some(name) = found {
            state.delete_pod(namespace, &name);
        }
        state.assumed.gone(uid);
    }

    /// Whose deletion cost a pod carries. For a write that has begun: should the pod change meanwhile, the server refuses
    /// it for the version that it was decided on.
    #[must_use]
    pub fn cost(&self, namespace: &str, pod: &str) -> Cost {
        let state = self.lock();
        let pod = state.namespaces.get(namespace).and_then(|ns| ns.pods.get(pod));
        pod.map(|pod| pod.cost).unwrap_or_default()
    }

    /// Whether the write that was decided on this version is still unsettled; a later one to the same pod is not it.
    #[must_use]
    pub fn in_flight(&self, uid: &str, base: u64) -> bool {
        self.lock().assumed.of(uid).is_some_and(|write| write.base == base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{floor_of, governor, orchard, pause, pod, service};
    use crate::cluster::watch::Sink;
    use kubervisor_core::plan::{RestoreReason, What};
    use serde_json::json;
    use std::time::Duration;

    #[test]
    fn not_sent_for_floor_of_the_view_at_hand() {
        let cache = orchard(3);
        let send = |name| cache.begin("orchard", "k1", &pause(name, 7), &floor_of!(2));
        assert_eq!(send("pear-0"), Ok(()));
        assert_eq!(send("pear-1"), Err(NotSent::Floor { serving: 1, floor: 2 }));
        cache.refused("uid-of-pear-0");
        assert_eq!(send("pear-1"), Ok(()));
    }

    #[test]
    fn not_sent_for_changed_decided_on_another_version_or_another_pod() {
        let cache = orchard(3);
        assert_eq!(cache.begin("orchard", "k1", &pause("pear-0", 6), &floor_of!(1)), Err(NotSent::Changed));
        assert_eq!(cache.begin("orchard", "k1", &pause("plum-0", 7), &floor_of!(1)), Err(NotSent::Changed));
    }

    #[test]
    fn not_sent_for_in_flight_a_second_write_waits_for_the_first_and_a_restore_needs_no_floor() {
        let cache = orchard(1);
        let restore = Action {
            what: What::Restore { reason: RestoreReason::Due, strikes: None },
            ..pause("pear-0", 7)
        };
        assert_eq!(cache.begin("orchard", "k1", &restore, &floor_of!(99)), Ok(()));
        assert_eq!(cache.begin("orchard", "k1", &restore, &floor_of!(99)), Err(NotSent::InFlight));
        cache.pods(None).apply(pod("pear-0", 8, "yes"));
        assert!(!cache.in_flight("uid-of-pear-0", 7));
    }

    #[test]
    fn not_sent_for_contested_once_a_second_governor_reaches_the_pod() {
        let cache = orchard(3);
        cache.services(None).apply(service("all", &json!({"app": "pear"})));
        cache.govern("orchard", "k2", governor("later", "all", 6));
        for governor in ["k1", "k2"] {
            let sent = cache.begin("orchard", governor, &pause("pear-0", 7), &floor_of!(0));
            assert_eq!(sent, Err(NotSent::Contested), "{governor}");
        }
    }

    #[test]
    fn an_event_that_is_late_does_not_undo_what_the_server_said_meanwhile() {
        let cache = orchard(2);
        assert_eq!(cache.begin("orchard", "k1", &pause("pear-0", 7), &floor_of!(1)), Ok(()));
        cache.learn(pod("pear-0", 9, "pause"));
        assert!(!cache.in_flight("uid-of-pear-0", 7));
        let serving = || cache.view("orchard", "k1").unwrap().fleet.count(Member::serving);
        cache.pods(None).apply(pod("pear-0", 8, "yes"));
        assert_eq!(serving(), 1);
        cache.pods(None).apply(pod("pear-0", 9, "pause"));
        cache.pods(None).apply(pod("pear-0", 3, "yes"));
        assert_eq!(serving(), 2, "the store went back");
    }

    #[tokio::test(start_paused = true)]
    async fn the_watch_is_timed_from_the_acknowledgement_to_the_event_and_not_by_what_was_asked_for() {
        let cache = orchard(3);
        let begin = |name| assert_eq!(cache.begin("orchard", "k1", &pause(name, 7), &floor_of!(0)), Ok(()));
        begin("pear-0");
        cache.acknowledged("uid-of-pear-0");
        tokio::time::advance(Duration::from_secs(3)).await;
        cache.pods(None).apply(pod("pear-0", 8, "pause"));
        begin("pear-1");
        cache.pods(None).apply(pod("pear-1", 8, "pause"));
        cache.acknowledged("uid-of-pear-1");
        begin("pear-2");
        cache.acknowledged("uid-of-pear-2");
        cache.learn(pod("pear-2", 8, "pause"));
        assert_eq!(cache.take_delays(), [Duration::from_secs(3), Duration::ZERO]);
        assert!(cache.take_delays().is_empty());
    }

    #[test]
    fn a_relist_drops_what_vanished_meanwhile_and_settles_its_writes() {
        let cache = orchard(2);
        cache.begin("orchard", "k1", &pause("pear-0", 7), &floor_of!(1)).unwrap();
        let mut sink = cache.pods(None);
        sink.begin();
        sink.apply(pod("pear-1", 7, "yes"));
        assert_eq!(cache.view("orchard", "k1").unwrap().fleet.members.len(), 2);
        sink.end();
        assert_eq!(cache.view("orchard", "k1").unwrap().fleet.members.len(), 1);
        assert!(!cache.in_flight("uid-of-pear-0", 7));
    }
}
