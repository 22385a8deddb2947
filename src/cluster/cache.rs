//! The one shared index of pods and Services, and what is asked of it as a whole.
//!
//! Fed by the watches (`feed`, `disruptions`); read by every owner, the labeller and the janitor. A lock is held for a
//! look-up, never over an await.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::index::{Governor, Namespace, Pod, State};
use super::keyhole::Keyhole;
use super::lists::{Feed, Feeds, List, lists_of, scope_of};
use crate::api::key;

/// The shared index.
#[derive(Debug, Default)]
pub struct Cache {
    state: Mutex<State>,
    /// Told when a pod waits for its first label, and when a list that such a pod may wait for is complete.
    pub unlabelled: Notify,
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
        self.lock().synced_in(namespace)
    }

    /// How far the first list of pods and of Services has come in every scope.
    #[must_use]
    pub fn lists(&self) -> Vec<List> {
        let state = self.lock();
        [lists_of("pods", &state.pods), lists_of("services", &state.services)].concat()
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

    /// Services whose selector holds the traffic key.
    #[must_use]
    pub fn gated(&self) -> Vec<Keyhole> {
        let state = self.lock();
        let of = |(namespace, ns): (&Arc<str>, &Namespace)| {
            let gated = ns.services.iter().filter(|(_, s)| s.key.is_some());
            gated.map(|(name, s)| s.keyhole(namespace, name)).collect::<Vec<_>>()
        };
        state.namespaces.iter().flat_map(of).collect()
    }

    /// Services with the mark of a KubervisorService that does not look after them.
    #[must_use]
    pub fn left_over(&self) -> Vec<Keyhole> {
        let state = self.lock();
        let of = |(namespace, ns): (&Arc<str>, &Namespace)| {
            let left = ns.services.iter().filter(|(name, s)| ns.left_over(name, s));
            left.map(|(name, s)| s.keyhole(namespace, name)).collect::<Vec<_>>()
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
}
