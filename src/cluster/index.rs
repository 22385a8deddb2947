//! What the shared index holds: pods grouped by the labels of their template, so that a Service finds its pods by
//! looking at the few distinct sets of its namespace and not at every pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use kubervisor_core::fleet::Workload;
use tokio::sync::Notify;

use super::assumed::{Assumed, Delays};
use super::budget::Budget;
use super::keyhole::Keyhole;
use super::labels::{LabelSet, matches};
use super::lists::{Feeds, scope_of};
use crate::api::{Cost, Marks, Override, TrafficLabel, key};

/// Stands for a traffic label that is kept as odd: no label may have this value, so it is there and equals none.
const ODD: &str = "?";

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
    /// Pods that a Service with the key would reach if they had a label, by namespace.
    pub(super) waiting: BTreeMap<Arc<str>, BTreeSet<Arc<str>>>,
}

impl State {
    /// See [`super::cache::Cache::synced_in`].
    pub(super) fn synced_in(&self, namespace: &str) -> bool {
        let whole = |feeds| scope_of(feeds, namespace).is_some_and(|feed| feed.synced);
        whole(&self.pods) && whole(&self.services)
    }
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
    pub(super) version: u64,
    /// Without the traffic key, sorted.
    pub(super) selector: LabelSet,
    /// The traffic key's value in the selector.
    pub(super) key: Option<Arc<str>>,
    /// Uid of the KubervisorService that answers for the key.
    pub(super) managed_by: Option<Arc<str>>,
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
    /// Whether it adds the key itself.
    pub manages: bool,
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

    /// Whether the key of this Service was added by a KubervisorService that no longer looks after it, and no other
    /// one is about to.
    pub(super) fn left_over(&self, name: &str, service: &Service) -> bool {
        let looks_after = |(uid, g): (&Arc<str>, &Governor)| {
            *g.service == *name && (g.manages || service.managed_by.as_ref() == Some(uid))
        };
        service.managed_by.is_some() && !self.governors.iter().any(looks_after)
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

    /// The value of a label that we write.
    pub(super) fn mark(&self, label: &str) -> Option<&str> {
        match label {
            key::TRAFFIC if self.traffic == TrafficLabel::Odd => Some(ODD),
            key::TRAFFIC => self.traffic.value(),
            key::NAME => self.marks.as_ref()?.name.as_deref(),
            _ => self.marks.as_ref()?.strategy.as_deref(),
        }
    }
}

impl Service {
    pub(super) fn keyhole(&self, namespace: &Arc<str>, name: &Arc<str>) -> Keyhole {
        Keyhole {
            namespace: Arc::clone(namespace),
            name: Arc::clone(name),
            uid: Arc::clone(&self.uid),
            version: self.version,
            key: self.key.clone(),
            managed_by: self.managed_by.clone(),
        }
    }

    /// Whether it would reach a pod with these labels, traffic key aside. With another key than ours it is reached by
    /// nothing that we write, and governs nobody.
    pub(super) fn reaches(&self, labels: &LabelSet) -> bool {
        let ours = self.key.as_deref().is_none_or(|key| key == key::YES);
        ours && !self.external && !self.selector.is_empty() && matches(&self.selector, labels)
    }
}

/// A namespace by its name, made where it is new; the name is kept once.
pub(super) fn entry<'a>(
    namespaces: &'a mut BTreeMap<Arc<str>, Namespace>,
    name: &str,
) -> (Arc<str>, &'a mut Namespace) {
    let name = match namespaces.get_key_value(name) {
        Some((known, _)) => Arc::clone(known),
        None => Arc::from(name),
    };
    let ns = namespaces.entry(Arc::clone(&name)).or_default();
    (name, ns)
}
