//! The one shared index of pods and Services.
//!
//! Fed by the watches; read by every owner, the labeller and the janitor. A lock is held for a look-up, never over an
//! await. Pods are grouped by their labels, so that a Service finds its pods by looking at the few distinct label
//! sets of its namespace and not at every pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kubervisor_core::fleet::Workload;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::assumed::{Assumed, Delays};
use super::disruptions::Budget;
use super::feed::{PodSink, ServiceSink};
use super::registry::scope_of;
use crate::api::{Cost, Marks, Override, TrafficLabel, key};

/// Labels of a pod without the ones that we write, sorted by key.
pub type LabelSet = Box<[(Arc<str>, Arc<str>)]>;

/// The shared index.
#[derive(Debug, Default)]
pub struct Cache {
    state: Mutex<State>,
    /// Told when a pod waits for its first label.
    pub unlabelled: Notify,
}

/// What the lock guards.
#[derive(Debug, Default)]
pub struct State {
    pub(super) namespaces: BTreeMap<Arc<str>, Namespace>,
    pub(super) assumed: Assumed,
    pub(super) pods: Feeds,
    pub(super) services: Feeds,
    pub(super) budgets: Feeds,
    /// Names of nodes, each kept once.
    pub(super) nodes: BTreeSet<Arc<str>>,
    /// From the acknowledgement of a write to its event, since somebody last asked.
    pub(super) delays: Delays,
    /// Pods that a Service with the key would reach if they had a label.
    pub(super) waiting: BTreeSet<(Arc<str>, Arc<str>)>,
}

/// The watches of one kind: one for the whole cluster (no namespace), or one for each namespace.
pub(super) type Feeds = BTreeMap<Option<Arc<str>>, Feed>;

/// How one watch stands.
#[derive(Debug, Default)]
pub(super) struct Feed {
    pub(super) synced: bool,
    pub(super) proved: Option<Instant>,
    /// The server does not allow it.
    pub(super) forbidden: bool,
}

/// One namespace.
#[derive(Debug, Default)]
pub struct Namespace {
    pub(super) pods: BTreeMap<Arc<str>, Pod>,
    pub(super) sets: BTreeMap<Arc<LabelSet>, BTreeSet<Arc<str>>>,
    pub(super) services: BTreeMap<Arc<str>, Service>,
    pub(super) budgets: BTreeMap<Arc<str>, Budget>,
    pub(super) governors: BTreeMap<Arc<str>, Governor>,
    /// Pods that carry our mark.
    pub(super) marked: BTreeSet<Arc<str>>,
}

/// A pod, in as few bytes as it takes.
#[derive(Debug)]
pub struct Pod {
    pub(super) uid: Arc<str>,
    pub(super) version: u64,
    pub(super) labels: Arc<LabelSet>,
    /// See [`kubervisor_core::fleet::Member::ready_since`].
    pub(super) ready_since: Timestamp,
    pub(super) marks: Option<Box<Marks>>,
    pub(super) node: Option<Arc<str>>,
    pub(super) list: u32,
    pub(super) traffic: TrafficLabel,
    pub(super) wish: Override,
    pub(super) cost: Cost,
    pub(super) workload: Workload,
    pub(super) ready: bool,
    pub(super) terminating: bool,
    /// It had a traffic label and lost it: a person took it away.
    pub(super) unlabelled_by_hand: bool,
    /// The server was asked for it, and the watch is not there yet. Of all others even a lower version is news: a store
    /// that was restored from a backup has them.
    pub(super) learned: bool,
}

/// A Service.
#[derive(Debug)]
pub struct Service {
    pub(super) uid: Arc<str>,
    /// Without the traffic key, sorted.
    pub(super) selector: LabelSet,
    /// The traffic key's value in the selector.
    pub(super) key: Option<Box<str>>,
    pub(super) external: bool,
    /// Traffic that enters a node stays on it.
    pub(super) local: bool,
    pub(super) list: u32,
}

/// A KubervisorService, as far as other parts must know of it.
#[derive(Debug, Clone)]
pub struct Governor {
    /// Its name.
    pub name: Arc<str>,
    /// The Service that it names.
    pub service: Arc<str>,
    /// Older ones keep the returns where two meet.
    pub created: Timestamp,
    /// Whether its pods are to be labelled before the key is in the selector.
    pub labels: bool,
    /// Told when something about its pods or its Service changed.
    pub changed: Arc<Notify>,
}

impl Namespace {
    /// Pods whose labels match, by name.
    pub(super) fn matching<'a>(
        &'a self,
        selector: &'a LabelSet,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Pod)> {
        let names = self.sets_of(selector).flat_map(|(_, names)| names);
        names.filter_map(|name| Some((name, self.pods.get(name)?)))
    }

    /// Label sets that match, with the names of their pods.
    pub(super) fn sets_of<'a>(
        &'a self,
        selector: &LabelSet,
    ) -> impl Iterator<Item = (&'a LabelSet, &'a BTreeSet<Arc<str>>)> {
        let sets = self.sets.iter().filter(move |(labels, _)| matches(selector, labels));
        sets.map(|(labels, names)| (&**labels, names))
    }

    /// The governors whose Service would reach a pod with these labels.
    pub(super) fn governing<'a>(
        &'a self,
        labels: &'a LabelSet,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Governor)> {
        self.governors
            .iter()
            .filter(|(_, g)| self.services.get(&g.service).is_some_and(|s| s.reaches(labels)))
    }

    pub(super) fn tell(&self, labels: &LabelSet) {
        self.governing(labels).for_each(|(_, g)| g.changed.notify_one());
    }

    /// Those that name the Service. Another one that it now meets finds out with its next evaluation.
    pub(super) fn tell_service(&self, service: &str) {
        self.governors.values().filter(|g| &*g.service == service).for_each(|g| g.changed.notify_one());
    }

    pub(super) fn tell_all(&self) {
        self.governors.values().for_each(|g| g.changed.notify_one());
    }

    /// Whether a pod with these labels gets its traffic label from us.
    pub(super) fn labels_wanted(&self, labels: &LabelSet) -> bool {
        let gated = |s: &Service| s.key.as_deref() == Some(key::YES) && s.reaches(labels);
        self.services.values().any(gated) || self.governing(labels).any(|(_, g)| g.labels)
    }

    pub(super) fn insert(&mut self, name: &Arc<str>, pod: Pod) {
        if let Some(names) = self.sets.get_mut(&pod.labels) {
            names.insert(Arc::clone(name));
        } else {
            self.sets.insert(Arc::clone(&pod.labels), BTreeSet::from([Arc::clone(name)]));
        }
        if pod.held() {
            self.marked.insert(Arc::clone(name));
        }
        self.pods.insert(Arc::clone(name), pod);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Pod> {
        let pod = self.pods.remove(name)?;
        self.marked.remove(name);
        if let Some(names) = self.sets.get_mut(&pod.labels) {
            names.remove(name);
            if names.is_empty() {
                self.sets.remove(&pod.labels);
            }
        }
        Some(pod)
    }

    /// One set for all pods of a template.
    pub(super) fn shared(&self, labels: LabelSet) -> Arc<LabelSet> {
        match self.sets.get_key_value(&labels) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(labels),
        }
    }
}

impl Pod {
    /// Whether it carries our mark and is out, or was opened beside it. The original left breakAt on every pod that
    /// it restored: that alone is no mark on a pod with `yes`.
    pub(super) fn held(&self) -> bool {
        let Some(marks) = &self.marks else { return false };
        match self.traffic {
            TrafficLabel::Yes => self.opened_by_hand(),
            TrafficLabel::No | TrafficLabel::Pause | TrafficLabel::Absent => marks.ours(),
            TrafficLabel::Odd => false,
        }
    }

    /// `yes`, with our cut still written beside it.
    pub(super) fn opened_by_hand(&self) -> bool {
        self.traffic == TrafficLabel::Yes && self.marks.as_ref().is_some_and(|m| m.name.is_some())
    }
}

impl Service {
    /// Whether it would reach a pod with these labels, traffic key aside. With another key than ours it is reached by
    /// nothing that we write, and governs nobody.
    pub(super) fn reaches(&self, labels: &LabelSet) -> bool {
        let ours = self.key.as_deref().is_none_or(|key| key == key::YES);
        ours && !self.external && !self.selector.is_empty() && matches(&self.selector, labels)
    }
}

/// Whether `labels` has every pair of `selector`. Both are sorted by key.
fn matches(selector: &LabelSet, labels: &LabelSet) -> bool {
    selector
        .iter()
        .all(|(k, v)| labels.binary_search_by(|(have, _)| have.cmp(k)).is_ok_and(|i| labels[i].1 == *v))
}

impl Cache {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves the index as consistent as it was: every change is made whole under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the watches that are about to start: nothing is synced before each of them has delivered a list.
    pub fn expect(&self, scopes: &[Option<Arc<str>>]) {
        let mut state = self.lock();
        let feeds = || scopes.iter().map(|scope| (scope.clone(), Feed::default())).collect::<Feeds>();
        (state.pods, state.services, state.budgets) = (feeds(), feeds(), feeds());
    }

    /// Where the watch of pods of one namespace, or of all, delivers.
    #[must_use]
    pub fn pods(self: &Arc<Self>, scope: Option<Arc<str>>) -> PodSink {
        PodSink::new(Arc::clone(self), scope)
    }

    /// Where the watch of Services of one namespace, or of all, delivers.
    #[must_use]
    pub fn services(self: &Arc<Self>, scope: Option<Arc<str>>) -> ServiceSink {
        ServiceSink::new(Arc::clone(self), scope)
    }

    /// Whether every list has been complete once. Before that nothing may be decided.
    #[must_use]
    pub fn synced(&self) -> bool {
        let state = self.lock();
        let whole = |feeds: &Feeds| !feeds.is_empty() && feeds.values().all(|feed| feed.synced);
        whole(&state.pods) && whole(&state.services)
    }

    /// Whether the watch of pods of one namespace, or of all, has delivered a complete list.
    #[must_use]
    pub fn pods_synced(&self, scope: Option<&Arc<str>>) -> bool {
        self.lock().pods.get(&scope.cloned()).is_some_and(|feed| feed.synced)
    }

    /// Whether the lists that tell of this namespace have been complete once.
    #[must_use]
    pub fn synced_in(&self, namespace: &str) -> bool {
        let state = self.lock();
        let whole = |feeds: &Feeds| scope_of(feeds, namespace).is_some_and(|feed| feed.synced);
        whole(&state.pods) && whole(&state.services)
    }

    /// Time since the server last answered for pods and for Services of this namespace.
    #[must_use]
    pub fn view_ages_in(&self, namespace: &str) -> [(&'static str, Option<Duration>); 2] {
        let state = self.lock();
        let age = |feeds: &Feeds| scope_of(feeds, namespace)?.proved.map(|at| at.elapsed());
        [("pods", age(&state.pods)), ("services", age(&state.services))]
    }

    /// Time since the server last answered for pods and for Services, of the watch that is the furthest behind.
    #[must_use]
    pub fn view_ages(&self) -> [(&'static str, Option<Duration>); 2] {
        let state = self.lock();
        let age = |feeds: &Feeds| {
            let proofs: Option<Vec<_>> = feeds.values().map(|feed| feed.proved).collect();
            proofs.and_then(|proofs| proofs.into_iter().min()).map(|at| at.elapsed())
        };
        [("pods", age(&state.pods)), ("services", age(&state.services))]
    }

    /// The server acknowledged a write. Its event may have been faster.
    pub fn acknowledged(&self, uid: &str) {
        let mut state = self.lock();
        if !state.assumed.acknowledge(uid, Some(Instant::now())) {
            state.delays.note(Duration::ZERO);
        }
    }

    /// From the acknowledgement of each write to its event in the watch, since the last call.
    #[must_use]
    pub fn take_delays(&self) -> Vec<Duration> {
        self.lock().delays.take()
    }

    /// Pods in the index, and writes of ours not yet seen.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        let state = self.lock();
        (state.namespaces.values().map(|n| n.pods.len()).sum(), state.assumed.len())
    }

    /// Takes note of a KubervisorService, by its uid, or of what changed about it.
    pub fn govern(&self, namespace: &str, uid: &str, governor: Governor) {
        let mut state = self.lock();
        let ns = state.namespaces.entry(Arc::from(namespace)).or_default();
        ns.governors.insert(Arc::from(uid), governor);
        ns.tell_all();
        self.queue_labels(&mut state, namespace);
    }

    /// Members of all services, those of two counted twice.
    #[must_use]
    pub fn members(&self) -> u32 {
        let state = self.lock();
        let of = |ns: &Namespace| -> usize {
            let services = ns.governors.values().filter_map(|g| ns.services.get(&g.service));
            services.map(|service| ns.matching(&service.selector).count()).sum()
        };
        u32::try_from(state.namespaces.values().map(of).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Pods that carry our mark and were cut after `from`, up to `to`.
    #[must_use]
    pub fn cut_between(&self, from: Timestamp, to: Timestamp) -> u32 {
        let state = self.lock();
        let cut_at = |pod: &Pod| pod.marks.as_ref().and_then(|marks| marks.break_at.flatten());
        let of = |ns: &Namespace| {
            let pods = ns.marked.iter().filter_map(|name| ns.pods.get(name));
            pods.filter(|pod| cut_at(pod).is_some_and(|at| from < at && at <= to)).count()
        };
        u32::try_from(state.namespaces.values().map(of).sum::<usize>()).unwrap_or(u32::MAX)
    }

    /// Services whose selector holds the traffic key: namespace and name.
    #[must_use]
    pub fn gated(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let state = self.lock();
        let of = |(namespace, ns): (&Arc<str>, &Namespace)| {
            let gated = ns.services.iter().filter(|(_, s)| s.key.is_some());
            gated.map(|(name, _)| (Arc::clone(namespace), Arc::clone(name))).collect::<Vec<_>>()
        };
        state.namespaces.iter().flat_map(of).collect()
    }

    /// Services whose selector sends traffic to `yes` and that no KubervisorService names: namespace, name, uid.
    #[must_use]
    pub fn ownerless(&self) -> Vec<(Arc<str>, Arc<str>, Arc<str>)> {
        let state = self.lock();
        let of = |(namespace, ns): (&Arc<str>, &Namespace)| {
            let named: BTreeSet<_> = ns.governors.values().map(|g| &g.service).collect();
            let gated = ns.services.iter().filter(|(_, s)| s.key.as_deref() == Some(key::YES));
            let ownerless = gated.filter(|(name, _)| !named.contains(name));
            ownerless
                .map(|(name, s)| (Arc::clone(namespace), Arc::clone(name), Arc::clone(&s.uid)))
                .collect::<Vec<_>>()
        };
        state.namespaces.iter().flat_map(of).collect()
    }

    /// Where changes of a KubervisorService's pods are told.
    #[must_use]
    pub fn changed(&self, namespace: &str, uid: &str) -> Option<Arc<Notify>> {
        let state = self.lock();
        let governor = state.namespaces.get(namespace)?.governors.get(uid)?;
        Some(Arc::clone(&governor.changed))
    }

    /// Whether a KubervisorService is known, by its uid.
    #[must_use]
    pub fn governs(&self, namespace: &str, uid: &str) -> bool {
        self.lock().namespaces.get(namespace).is_some_and(|ns| ns.governors.contains_key(uid))
    }

    /// Forgets a KubervisorService.
    pub fn ungovern(&self, namespace: &str, uid: &str) {
        let mut state = self.lock();
        if let Some(ns) = state.namespaces.get_mut(namespace) {
            ns.governors.remove(uid);
            ns.tell_all();
        }
    }

    /// Takes the next pods that wait for their first label, at most `most`: namespace, name, uid, version.
    pub fn take_unlabelled(&self, most: usize) -> Vec<Unlabelled> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some((namespace, name)) = state.waiting.pop_first() else { break };
            let Some(ns) = state.namespaces.get(&namespace) else { continue };
            let Some(pod) = ns.pods.get(&name) else { continue };
            if pod.traffic == TrafficLabel::Absent && !pod.terminating && ns.labels_wanted(&pod.labels) {
                taken.push(Unlabelled { namespace, name, uid: Arc::clone(&pod.uid), version: pod.version });
            }
        }
        taken
    }

    /// Looks for unlabelled pods of a namespace again: a Service or its governor changed, or a write failed.
    pub fn requeue_labels(&self, namespace: &str) {
        self.queue_labels(&mut self.lock(), namespace);
    }

    pub(super) fn queue_labels(&self, state: &mut State, namespace: &str) {
        let Some((namespace, ns)) = state.namespaces.get_key_value(namespace) else { return };
        let lacks =
            |pod: &Pod| pod.traffic == TrafficLabel::Absent && !pod.unlabelled_by_hand && !pod.terminating;
        let found: Vec<_> = ns
            .sets
            .iter()
            .filter(|(labels, _)| ns.labels_wanted(labels))
            .flat_map(|(_, names)| names)
            .filter(|name| ns.pods.get(*name).is_some_and(lacks))
            .map(|name| (Arc::clone(namespace), Arc::clone(name)))
            .collect();
        if !found.is_empty() {
            state.waiting.extend(found);
            self.unlabelled.notify_one();
        }
    }
}

/// A pod without a traffic label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlabelled {
    #[allow(missing_docs)]
    pub namespace: Arc<str>,
    #[allow(missing_docs)]
    pub name: Arc<str>,
    #[allow(missing_docs)]
    pub uid: Arc<str>,
    /// resourceVersion.
    pub version: u64,
}
