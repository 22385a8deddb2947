//! Cache and writes in flight to the fleet of one KubervisorService, at one instant.
//!
//! Also the two questions that are asked under the same lock as they are answered: may this write be sent now, and
//! which pods are ours to give back.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubervisor_core::elsewhere::Elsewhere;
use kubervisor_core::fleet::{Fleet, Member, Neighbour};
use kubervisor_core::plan::{Action, Why};
use kubervisor_core::policy::Limits;
use kubervisor_core::traffic::{Move, Traffic};

use super::cache::{Cache, Governor, LabelSet, Namespace, Pod, Service, State};
use super::disruptions;
use super::mandate::Withheld;
use super::slim::SlimPod;
use crate::api::{Cost, TrafficLabel, key, traffic};

/// What one KubervisorService sees.
#[derive(Debug)]
pub struct View {
    /// How its Service stands.
    pub service: ServiceView,
    /// Its pods; empty without a usable Service.
    pub fleet: Fleet,
    /// Another KubervisorService that governs some of the same pods: the oldest.
    pub conflict: Option<Arc<str>>,
    /// Members that an older KubervisorService reaches too, by uid: their returns are its.
    pub elders: BTreeSet<Arc<str>>,
    /// Members whose label is missing.
    pub unlabelled: usize,
    /// Why each cut member is out, in words, by pod name.
    pub why: Vec<(Arc<str>, Box<str>)>,
    /// Members that carry our mark.
    pub marked: Vec<Marked>,
    /// What the Service selects, traffic key aside.
    pub selector: Vec<(String, String)>,
}

impl View {
    fn without_pods(service: ServiceView) -> Self {
        Self {
            service,
            fleet: Fleet::default(),
            conflict: None,
            elders: BTreeSet::new(),
            unlabelled: 0,
            why: vec![],
            marked: vec![],
            selector: vec![],
        }
    }
}

/// A Service, as far as it can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceView {
    /// There is none of that name.
    Missing,
    /// It selects no pods of this cluster.
    External,
    /// It has no selector, or nothing is left of it without the traffic key: it would govern the whole namespace.
    NoSelector,
    /// Its traffic key has another value than `yes`.
    OddKey,
    /// It selects pods. `activated`: its selector holds the traffic key.
    Usable {
        /// Cuts have an effect.
        activated: bool,
    },
}

impl ServiceView {
    /// Why it cannot be used, and what to do.
    #[must_use]
    pub fn fault(self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("the Service does not exist: create it, or correct spec.service"),
            Self::External => {
                Some("the Service is of type ExternalName and has no pods: name one with a selector")
            }
            Self::NoSelector => Some(
                "the Service's selector is empty, traffic key aside: it would govern every pod of the namespace",
            ),
            Self::OddKey => Some(
                "the Service's selector holds kubervisor/traffic with another value than \"yes\": correct it",
            ),
            Self::Usable { .. } => None,
        }
    }

    fn of(service: Option<&Service>) -> Self {
        match service {
            None => Self::Missing,
            Some(s) if s.external => Self::External,
            Some(s) if s.selector.is_empty() => Self::NoSelector,
            Some(s) if s.key.as_deref().is_some_and(|k| k != key::YES) => Self::OddKey,
            Some(s) => Self::Usable { activated: s.key.is_some() },
        }
    }
}

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
    /// What the KubervisorService `uid` sees now; `None` where it is not governed here.
    #[must_use]
    pub fn view(&self, namespace: &str, uid: &str) -> Option<View> {
        let state = self.lock();
        let ns = state.namespaces.get(namespace)?;
        let governor = ns.governors.get(uid)?;
        let service = ns.services.get(&governor.service);
        let seen = ServiceView::of(service);
        let Some(service) = service.filter(|_| seen.fault().is_none()) else {
            return Some(View::without_pods(seen));
        };
        let fleet = fleet(&state, ns, namespace, &governor.service, service);
        let unlabelled = fleet.members.iter().filter(|m| m.traffic == Traffic::Unlabelled).count();
        let why = |(name, pod): (&Arc<str>, &Pod)| {
            pod.marks.as_ref()?.why.clone().map(|why| (Arc::clone(name), why))
        };
        let why = ns.matching(&service.selector).filter_map(why).collect();
        let (namespace, _) = state.namespaces.get_key_value(namespace)?;
        let held = ns.matching(&service.selector).filter(|(name, _)| ns.marked.contains(*name));
        let marked = held.map(|(name, pod)| marked(&state, namespace, ns, name, pod)).collect();
        let conflict = conflict(ns, uid, governor, service);
        let elders = if conflict.is_some() { elders(ns, uid, governor, service) } else { BTreeSet::new() };
        let selector = service.selector.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Some(View { service: seen, fleet, conflict, elders, unlabelled, why, marked, selector })
    }

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

    /// Pods that carry our mark, with what is known of who governs them.
    #[must_use]
    pub fn marked(&self) -> Vec<Marked> {
        let state = self.lock();
        let mut found = Vec::new();
        for (namespace, ns) in &state.namespaces {
            for name in &ns.marked {
                let Some(pod) = ns.pods.get(name) else { continue };
                found.push(marked(&state, namespace, ns, name, pod));
            }
        }
        found
    }
}

/// A pod that carries our mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
    /// resourceVersion.
    pub version: u64,
    /// A KubervisorService whose Service reaches it: its owner looks after it.
    pub governed: bool,
    /// The name in its mark.
    pub by: Option<Arc<str>>,
    /// There is a KubervisorService of that name.
    pub by_exists: bool,
    /// That one's Service is not there at all. Where the mark has no name: the Service of any in the namespace.
    pub service_missing: bool,
    /// A write of ours is under way.
    pub in_flight: bool,
    /// In traffic, with our marks still on it: a person put it back.
    pub opened_by_hand: bool,
}

fn marked(state: &State, namespace: &Arc<str>, ns: &Namespace, name: &Arc<str>, pod: &Pod) -> Marked {
    let by = pod.marks.as_ref().and_then(|m| m.name.clone());
    let owner = by.as_ref().and_then(|by| ns.governors.values().find(|g| g.name == *by));
    let lost = |g: &Governor| !ns.services.contains_key(&g.service);
    let service_missing = match &by {
        Some(_) => owner.is_some_and(lost),
        None => ns.governors.values().any(lost),
    };
    Marked {
        namespace: Arc::clone(namespace),
        name: Arc::clone(name),
        uid: Arc::clone(&pod.uid),
        version: pod.version,
        governed: ns.governing(&pod.labels).next().is_some(),
        by_exists: owner.is_some(),
        service_missing,
        in_flight: state.assumed.of(&pod.uid).is_some(),
        opened_by_hand: pod.opened_by_hand(),
        by,
    }
}

fn fleet(state: &State, ns: &Namespace, namespace: &str, name: &str, service: &Service) -> Fleet {
    let members = members(state, ns, service);
    let within = Within::new(ns, service, &members);
    let disruptions = disruptions::over(state, &within);
    let neighbours = neighbours(state, &within, name);
    Fleet { namespace: Arc::from(namespace), local: service.local, disruptions, neighbours, members }
}

/// Sorted by name.
fn members(state: &State, ns: &Namespace, service: &Service) -> Vec<Member> {
    let pods = ns.matching(&service.selector);
    let mut members: Vec<_> = pods.map(|(name, pod)| member(state, service, name, pod)).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn member(state: &State, service: &Service, name: &Arc<str>, pod: &Pod) -> Member {
    Member {
        name: Arc::clone(name),
        uid: Arc::clone(&pod.uid),
        resource_version: pod.version,
        ready: pod.ready,
        terminating: pod.terminating,
        reached: service.key.as_deref().is_none_or(|k| pod.traffic.value() == Some(k)),
        traffic: traffic_of(pod),
        strikes: pod.marks.as_ref().map(|m| m.strikes.clone()).unwrap_or_default(),
        ready_since: pod.ready_since,
        workload: pod.workload,
        node: pod.node.clone(),
        zone: label(&pod.labels, key::ZONE),
        revision: key::REVISIONS.iter().find_map(|key| label(&pod.labels, key)),
        restored_at: pod.marks.as_ref().and_then(|m| m.restored_at),
        wish: pod.wish.wish(),
        in_flight: state.assumed.of(&pod.uid).map(|write| write.step),
    }
}

/// The members of a fleet by their label sets, for rules of others that select some of them.
pub(super) struct Within<'a> {
    pub(super) ns: &'a Namespace,
    members: &'a [Member],
    sets: Vec<(&'a LabelSet, &'a BTreeSet<Arc<str>>)>,
}

impl<'a> Within<'a> {
    fn new(ns: &'a Namespace, service: &Service, members: &'a [Member]) -> Self {
        Self { ns, members, sets: ns.sets_of(&service.selector).collect() }
    }

    /// Positions of the members that have such labels and are such pods, rising. Most rules of others select none of
    /// the few label sets, so that no pod is looked at.
    pub(super) fn positions(
        &self,
        labels: impl Fn(&LabelSet) -> bool,
        takes: impl Fn(&Pod) -> bool,
    ) -> Vec<u32> {
        let sets = self.sets.iter().filter(|(set, _)| labels(set));
        let names = sets.flat_map(|(_, names)| names.iter());
        let taken = names.filter(|name| self.ns.pods.get(*name).is_some_and(&takes));
        let position = |name| self.members.binary_search_by(|m| m.name.cmp(name)).ok();
        let mut found: Vec<_> = taken.filter_map(position).filter_map(|at| u32::try_from(at).ok()).collect();
        found.sort_unstable();
        found
    }
}

/// Other Services behind the same gate: those that send traffic to `yes`.
fn neighbours(state: &State, within: &Within<'_>, own: &str) -> Vec<Neighbour> {
    let gated = |(name, s): &(&Arc<str>, &Service)| &***name != own && s.key.as_deref() == Some(key::YES);
    let of = |(name, service): (&Arc<str>, &Service)| {
        let members = within.positions(|labels| service.reaches(labels), |_| true);
        let serves = |(name, pod): &(&Arc<str>, &Pod)| member(state, service, name, pod).serving();
        (!members.is_empty()).then(|| Neighbour {
            service: Arc::clone(name),
            serving: u32::try_from(within.ns.matching(&service.selector).filter(serves).count())
                .unwrap_or(u32::MAX),
            members,
        })
    };
    within.ns.services.iter().filter(gated).filter_map(of).collect()
}

/// Ready, and yet kept from traffic: who counts Ready pods counts it.
pub(super) fn is_ready_and_out(state: &State, pod: &Pod) -> bool {
    let marked = match traffic_of(pod) {
        Traffic::Cut(_) | Traffic::KeptOut | Traffic::CutByHand | Traffic::Paused => true,
        Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_) | Traffic::Odd => false,
    };
    let in_flight = || state.assumed.of(&pod.uid).is_some_and(|write| write.step.spends());
    pod.ready && !pod.terminating && (marked || in_flight())
}

fn label(labels: &LabelSet, key: &str) -> Option<Arc<str>> {
    labels.binary_search_by(|(have, _)| (**have).cmp(key)).ok().map(|at| Arc::clone(&labels[at].1))
}

fn traffic_of(pod: &Pod) -> Traffic {
    match pod.traffic {
        TrafficLabel::Absent if pod.unlabelled_by_hand => Traffic::CutByHand,
        label => traffic(label, pod.marks.as_deref()),
    }
}

/// The oldest other governor that reaches one of these pods.
fn conflict(ns: &Namespace, uid: &str, own: &Governor, service: &Service) -> Option<Arc<str>> {
    let others = ns.governors.iter().filter(|(other, _)| &***other != uid);
    let meets = |(_, other): &(&Arc<str>, &Governor)| {
        other.service == own.service
            || ns.services.get(&other.service).is_some_and(|theirs| {
                ns.matching(&service.selector).any(|(_, pod)| theirs.reaches(&pod.labels))
            })
    };
    let (_, other) = others.filter(meets).min_by_key(|(uid, g)| (g.created, Arc::clone(uid)))?;
    Some(Arc::clone(&other.name))
}

/// Pod by pod: two resources may meet in some of their pods only, and the others have nobody else who returns them.
fn elders(ns: &Namespace, uid: &str, own: &Governor, service: &Service) -> BTreeSet<Arc<str>> {
    let older = |(other, g): (&Arc<str>, &Governor)| (g.created, &**other) < (own.created, uid);
    let yields = |pod: &Pod| ns.governing(&pod.labels).any(older);
    let pods = ns.matching(&service.selector).map(|(_, pod)| pod).filter(|pod| yields(pod));
    pods.map(|pod| Arc::clone(&pod.uid)).collect()
}

/// What a cut in flight does to the sums, for the tests of this file.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{floor_of, governor, orchard, pod, service};
    use crate::cluster::watch::Sink;
    use kubervisor_core::fleet::Wish;
    use kubervisor_core::plan::{RestoreReason, What};
    use serde_json::{Value, json};
    use std::time::Duration;

    fn pause(name: &str, version: u64) -> Action {
        Action {
            pod: name.into(),
            uid: format!("uid-of-{name}").into(),
            resource_version: version,
            what: What::Pause { breaker: None, strikes: 1 },
        }
    }

    #[test]
    fn a_write_that_would_break_the_floor_of_the_view_at_hand_is_not_sent() {
        let cache = orchard(3);
        let send = |name| cache.begin("orchard", "k1", &pause(name, 7), &floor_of!(2));
        assert_eq!(send("pear-0"), Ok(()));
        assert_eq!(send("pear-1"), Err(NotSent::Floor { serving: 1, floor: 2 }));
        cache.refused("uid-of-pear-0");
        assert_eq!(send("pear-1"), Ok(()));
    }

    #[test]
    fn a_write_decided_on_another_version_or_another_pod_is_not_sent() {
        let cache = orchard(3);
        assert_eq!(cache.begin("orchard", "k1", &pause("pear-0", 6), &floor_of!(1)), Err(NotSent::Changed));
        assert_eq!(cache.begin("orchard", "k1", &pause("plum-0", 7), &floor_of!(1)), Err(NotSent::Changed));
    }

    #[test]
    fn a_restore_needs_no_floor_and_a_second_write_waits_for_the_first() {
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
    fn a_service_without_the_key_reaches_every_ready_pod_whatever_its_label() {
        let cache = orchard(2);
        cache.pods(None).apply(pod("pear-0", 8, "no"));
        assert_eq!(cache.view("orchard", "k1").unwrap().fleet.count(Member::serving), 1);
        cache.services(None).apply(service("pears", &json!({"app": "pear"})));
        let view = cache.view("orchard", "k1").unwrap();
        assert_eq!(view.service, ServiceView::Usable { activated: false });
        assert_eq!(view.fleet.count(Member::serving), 2);
    }

    #[test]
    fn a_selector_that_is_only_the_key_governs_nothing() {
        let cache = orchard(2);
        cache.services(None).apply(service("pears", &json!({"kubervisor/traffic": "yes"})));
        let view = cache.view("orchard", "k1").unwrap();
        assert_eq!(view.service, ServiceView::NoSelector);
        assert!(view.fleet.members.is_empty());
    }

    #[test]
    fn of_two_governors_of_one_pod_the_younger_yields() {
        let cache = orchard(2);
        cache.services(None).apply(service("all", &json!({"app": "pear"})));
        cache.govern("orchard", "k2", governor("later", "all", 6));
        let seen = |uid| cache.view("orchard", uid).unwrap();
        assert_eq!((seen("k1").conflict.as_deref(), seen("k1").elders.len()), (Some("later"), 0));
        assert_eq!((seen("k2").conflict.as_deref(), seen("k2").elders.len()), (Some("pick"), 2));
    }

    #[test]
    fn every_pod_of_a_chain_of_conflicts_has_exactly_one_who_returns_it() {
        let cache = orchard(0);
        for (name, labels) in [("a", ["x", ""]), ("b", ["x", "y"]), ("c", ["", "y"]), ("d", ["", "z"])] {
            let mut born = pod(name, 7, "no");
            born.metadata.labels.remove("app");
            let named = labels.iter().filter(|label| !label.is_empty());
            born.metadata.labels.extend(named.map(|label| ((*label).to_owned(), "1".to_owned())));
            cache.pods(None).apply(born);
        }
        for (at, label) in [(5, "x"), (6, "y"), (7, "z")] {
            cache.services(None).apply(service(label, &json!({label: "1", "kubervisor/traffic": "yes"})));
            cache.govern("orchard", label, governor(label, label, at));
        }
        let returned = |uid| {
            let view = cache.view("orchard", uid).unwrap();
            let own = view.fleet.members.iter().filter(|m| !view.elders.contains(&m.uid));
            own.map(|m| m.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!([returned("x"), returned("y"), returned("z")], [vec!["a", "b"], vec!["c"], vec!["d"]]);
    }

    #[test]
    fn a_service_whose_key_has_another_value_governs_nobody() {
        let cache = orchard(1);
        let governed = || {
            let mut cut = pod("pear-0", 8, "no");
            cut.metadata.annotations.insert("breaker/breakAt".into(), "2018-09-12T08:00:00Z".into());
            cache.pods(None).apply(cut);
            cache.marked()[0].governed
        };
        assert!(governed());
        cache.services(None).apply(service("pears", &json!({"app": "pear", "kubervisor/traffic": "never"})));
        assert!(!governed());
    }

    #[test]
    fn a_mark_without_a_name_waits_for_any_service_that_is_missing() {
        let cache = orchard(0);
        let mut cut = pod("plum-0", 8, "no");
        cut.metadata.labels.insert("app".into(), "plum".into());
        cut.metadata.annotations.insert("breaker/breakAt".into(), "2018-09-12T08:00:00Z".into());
        cache.pods(None).apply(cut);
        assert!(!cache.marked()[0].service_missing);
        cache.govern("orchard", "k2", governor("other", "not-there", 6));
        assert!(cache.marked()[0].service_missing);
    }

    #[test]
    fn same_named_resources_in_two_namespaces_do_not_meet() {
        let cache = orchard(2);
        let mut elsewhere = pod("pear-0", 7, "yes");
        elsewhere.metadata.namespace = "meadow".into();
        cache.pods(None).apply(elsewhere);
        assert_eq!(cache.view("orchard", "k1").unwrap().fleet.members.len(), 2);
        assert!(cache.view("meadow", "k1").is_none());
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

    #[test]
    fn a_label_taken_away_by_hand_is_a_cut_by_hand() {
        let cache = orchard(1);
        let mut bare = pod("pear-0", 8, "yes");
        bare.metadata.labels.remove("kubervisor/traffic");
        cache.pods(None).apply(bare);
        assert_eq!(cache.view("orchard", "k1").unwrap().fleet.members[0].traffic, Traffic::CutByHand);
        assert!(cache.take_unlabelled(9).is_empty());
    }

    #[test]
    fn a_new_pod_of_a_gated_service_waits_for_its_label_with_or_without_a_governor() {
        let cache = orchard(1);
        cache.ungovern("orchard", "k1");
        let mut born = pod("pear-9", 8, "yes");
        born.metadata.labels.remove("kubervisor/traffic");
        cache.pods(None).apply(born);
        let names: Vec<_> = cache.take_unlabelled(9).into_iter().map(|u| u.name.to_string()).collect();
        assert_eq!(names, ["pear-9"]);
    }

    /// The only member of an orchard whose pod has these parts on top of its usual ones.
    fn member_with(metadata: &Value, rest: &Value) -> Member {
        let mut raw = json!({
            "metadata": {"name": "pear-0", "namespace": "orchard", "uid": "u", "resourceVersion": "8",
                "creationTimestamp": "2026-03-01T08:00:00Z", "labels": {"app": "pear"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T08:00:30Z"},
            ]},
        });
        merge(&mut raw["metadata"], metadata);
        merge(&mut raw, rest);
        let cache = orchard(0);
        cache.pods(None).apply(serde_json::from_value(raw).unwrap());
        cache.view("orchard", "k1").unwrap().fleet.members.remove(0)
    }

    fn merge(into: &mut Value, more: &Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                more.iter().for_each(|(k, v)| merge(into.entry(k.clone()).or_insert(Value::Null), v));
            }
            (into, more) => *into = more.clone(),
        }
    }

    fn ready_since(status: &Value) -> String {
        member_with(&json!({}), &json!({"status": status})).ready_since.to_string()
    }

    fn running(since: &str) -> Value {
        json!({"state": {"running": {"startedAt": since}}})
    }

    #[test]
    fn a_member_knows_its_node_zone_and_revision() {
        let labels =
            json!({"labels": {"topology.kubernetes.io/zone": "east-3", "pod-template-hash": "7d9f"}});
        let member = member_with(&labels, &json!({"spec": {"nodeName": "tree-4"}}));
        let known = [member.node, member.zone, member.revision].map(|text| text.unwrap().to_string());
        assert_eq!(known, ["tree-4", "east-3", "7d9f"]);
        let of_a_set = member_with(&json!({"labels": {"controller-revision-hash": "press-6c"}}), &json!({}));
        assert_eq!(of_a_set.revision.as_deref(), Some("press-6c"));
        assert_eq!((of_a_set.node, of_a_set.zone), (None, None));
    }

    #[test]
    fn a_restarted_container_makes_the_pod_new_and_one_that_is_older_does_not() {
        let restarted =
            json!({"containerStatuses": [running("2026-03-01T08:00:10Z"), running("2026-03-01T09:00:00Z")]});
        assert_eq!(ready_since(&restarted), "2026-03-01T09:00:00Z");
        let sidecar = json!({"initContainerStatuses": [running("2026-03-01T09:30:00Z")]});
        assert_eq!(ready_since(&sidecar), "2026-03-01T09:30:00Z");
        let usual =
            json!({"containerStatuses": [running("2026-03-01T08:00:10Z"), {"state": {"waiting": {}}}]});
        assert_eq!(ready_since(&usual), "2026-03-01T08:00:30Z");
    }

    #[test]
    fn a_member_that_is_not_ready_counts_from_its_birth_and_a_time_that_cannot_be_read_is_too_young() {
        let unready = json!({"conditions": [{"type": "Ready", "status": "False",
            "lastTransitionTime": "2026-03-01T10:00:00Z"}]});
        assert_eq!(ready_since(&unready), "2026-03-01T08:00:00Z");
        let garbage = json!({"containerStatuses": [running("a while ago")]});
        assert_eq!(ready_since(&garbage), jiff::Timestamp::MAX.to_string());
    }

    #[test]
    fn a_persons_word_about_a_pod_is_read_and_another_word_is_none() {
        let wish = |word: &str| {
            member_with(&json!({"annotations": {"kubervisor.k8s.io/override": word}}), &json!({})).wish
        };
        assert_eq!(wish("Serve"), Some(Wish::Serve));
        assert_eq!(wish("serve, please"), None);
    }

    #[test]
    fn a_service_whose_traffic_stays_on_a_node_is_local_either_way() {
        for policy in ["internalTrafficPolicy", "externalTrafficPolicy"] {
            let cache = orchard(1);
            assert!(!cache.view("orchard", "k1").unwrap().fleet.local);
            let spec = json!({"selector": {"app": "pear"}, policy: "Local"});
            let meta = json!({"name": "pears", "namespace": "orchard", "resourceVersion": "2"});
            cache
                .services(None)
                .apply(serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap());
            assert!(cache.view("orchard", "k1").unwrap().fleet.local, "{policy}");
        }
    }

    #[test]
    fn other_services_behind_the_gate_are_neighbours_and_those_beside_it_are_not() {
        let cache = orchard(3);
        let mut ripe = pod("pear-1", 8, "yes");
        ripe.metadata.labels.insert("ripe".into(), "true".into());
        cache.pods(None).apply(ripe.clone());
        for (name, label) in [("plum-0", "yes"), ("plum-1", "no")] {
            let mut plum = pod(name, 8, label);
            plum.metadata.labels = [("app", "plum"), ("ripe", "true"), ("kubervisor/traffic", label)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
            cache.pods(None).apply(plum);
        }
        let gated = json!({"ripe": "true", "kubervisor/traffic": "yes"});
        cache.services(None).apply(service("jam", &gated));
        cache.services(None).apply(service("all", &json!({"app": "pear"})));
        cache.services(None).apply(service("dark", &json!({"app": "pear", "kubervisor/traffic": "no"})));
        cache.services(None).apply(service("nuts", &json!({"app": "nut", "kubervisor/traffic": "yes"})));
        let neighbours = || cache.view("orchard", "k1").unwrap().fleet.neighbours;
        assert_eq!(neighbours(), [Neighbour { service: "jam".into(), serving: 2, members: vec![1] }]);
        cache.begin("orchard", "k1", &pause("pear-1", 8), &floor_of!(1)).unwrap();
        assert_eq!(neighbours()[0].serving, 1, "a cut in flight counts");
    }
}
