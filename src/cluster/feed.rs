//! What the watches of pods and Services do to the index.
//!
//! Takes objects as they come; gives records in as few bytes as they take, tells the owners whose pods changed, and
//! queues pods that lack their label.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kubervisor_core::fleet::Workload;
use tokio::time::Instant;

use super::cache::Cache;
use super::index::{Namespace, Pod, Service, State, entry};
use super::labels::{LabelSet, ours};
use super::lists::Feed;
use super::slim::{SlimMeta, SlimPod, SlimPodStatus, SlimService, SlimServiceSpec};
use super::watch::{Failure, Sink};
use crate::api::{Cost, Marks, Override, TrafficLabel, key};

impl State {
    pub(super) fn apply_pod(&mut self, object: SlimPod, list: u32) -> Option<(Arc<str>, Arc<str>)> {
        let finished = matches!(object.status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if finished {
            self.delete_pod(&object.metadata.namespace, &object.metadata.name);
            return None;
        }
        let (namespace, ns) = entry(&mut self.namespaces, &object.metadata.namespace);
        // What settled a write must not be undone by an event, or a list, that is late.
        if let Some(known) = ns.pods.get_mut(object.metadata.name.as_str())
            && known.learned
            && *known.uid == *object.metadata.uid
            && version_of(&object.metadata) < known.version
        {
            known.list = list;
            return None;
        }
        let former = ns.remove(&object.metadata.name);
        let node = object.spec.node_name.as_deref().map(|name| shared(&mut self.nodes, name));
        let pod = Pod { node, ..pod_of(ns, &object, former.as_ref(), list) };
        if let Some(former) = former {
            if former.uid != pod.uid {
                self.assumed.gone(&former.uid);
            }
            if former.labels != pod.labels {
                ns.tell(&former.labels);
            }
        }
        let settled = self.assumed.seen(&pod.uid, pod.version);
        if let Some(at) = settled.and_then(|write| write.acknowledged) {
            self.delays.note(at.elapsed());
        }
        ns.tell(&pod.labels);
        let name: Arc<str> = Arc::from(object.metadata.name);
        let lacks = pod.traffic == TrafficLabel::Absent && !pod.unlabelled_by_hand && !pod.terminating;
        let wanted = lacks && ns.labels_wanted(&pod.labels);
        ns.insert(&name, pod);
        wanted.then_some((namespace, name))
    }

    pub(super) fn delete_pod(&mut self, namespace: &str, name: &str) {
        let Some(ns) = self.namespaces.get_mut(namespace) else { return };
        if let Some(pod) = ns.remove(name) {
            self.assumed.gone(&pod.uid);
            ns.tell(&pod.labels);
        }
    }

    /// Removes pods that the list just completed did not have.
    fn sweep_pods(&mut self, scope: Option<&Arc<str>>, list: u32) {
        let within = |name: &Arc<str>| scope.is_none_or(|scope| scope == name);
        for (_, ns) in self.namespaces.iter_mut().filter(|(name, _)| within(name)) {
            let lost: Vec<_> =
                ns.pods.iter().filter(|(_, p)| p.list != list).map(|(n, _)| Arc::clone(n)).collect();
            for name in lost {
                if let Some(pod) = ns.remove(&name) {
                    self.assumed.gone(&pod.uid);
                    ns.tell(&pod.labels);
                }
            }
        }
        self.nodes.retain(|name| Arc::strong_count(name) > 1);
    }

    fn sweep_services(&mut self, scope: Option<&Arc<str>>, list: u32) {
        let within = |name: &Arc<str>| scope.is_none_or(|scope| scope == name);
        for (_, ns) in self.namespaces.iter_mut().filter(|(name, _)| within(name)) {
            let before = ns.services.len();
            ns.services.retain(|_, s| s.list == list);
            if ns.services.len() != before {
                ns.tell_all();
            }
        }
        self.namespaces.retain(|_, ns| {
            !(ns.pods.is_empty()
                && ns.services.is_empty()
                && ns.governors.is_empty()
                && ns.budgets.is_empty())
        });
    }
}

fn pod_of(ns: &Namespace, object: &SlimPod, former: Option<&Pod>, list: u32) -> Pod {
    let meta = &object.metadata;
    let former = former.filter(|f| *f.uid == *meta.uid);
    let ready_since = ready_since(&object.status);
    let traffic = TrafficLabel::of(meta.labels.get(key::TRAFFIC).map(String::as_str));
    let marks = Marks::read(&meta.labels, &meta.annotations);
    let lost = |f: &Pod| f.unlabelled_by_hand || f.traffic != TrafficLabel::Absent;
    let had_one = marks.as_deref().is_some_and(Marks::had_label);
    Pod {
        uid: former.map_or_else(|| Arc::from(meta.uid.as_str()), |f| Arc::clone(&f.uid)),
        version: version_of(meta),
        labels: former
            .filter(|f| same_labels(&f.labels, meta))
            .map_or_else(|| ns.shared(label_set(meta)), |f| Arc::clone(&f.labels)),
        ready_since: ready_since.unwrap_or_else(|| time(meta.creation_timestamp.as_deref())),
        node: None,
        list,
        traffic,
        wish: wish_of(object, former),
        cost: Cost::of(&meta.annotations),
        workload: workload(meta),
        ready: ready_since.is_some(),
        terminating: meta.deletion_timestamp.is_some(),
        // What this process did not see, the marks tell: we never leave them without a label.
        unlabelled_by_hand: traffic == TrafficLabel::Absent && (former.is_some_and(lost) || had_one),
        learned: false,
        marks,
    }
}

/// Since when it is Ready, or since its latest container started where that is later: a restarted container is new.
/// `None` where it is not Ready.
fn ready_since(status: &SlimPodStatus) -> Option<Timestamp> {
    let ready = status.conditions.iter().find(|c| c.type_ == "Ready").filter(|c| c.status == "True")?;
    let containers = status.container_statuses.iter().chain(&status.init_container_statuses);
    let running = containers.filter_map(|c| c.state.running.as_ref());
    let started = running.map(|running| time(running.started_at.as_deref())).max();
    Some(started.into_iter().fold(time(ready.last_transition_time.as_deref()), Timestamp::max))
}

/// What cannot be read lies ahead: such a pod is too young for everything.
fn time(text: Option<&str>) -> Timestamp {
    text.and_then(|t| t.parse().ok()).unwrap_or(Timestamp::MAX)
}

fn wish_of(object: &SlimPod, former: Option<&Pod>) -> Override {
    let meta = &object.metadata;
    let wish = Override::of(meta.annotations.get(key::OVERRIDE).map(String::as_str));
    if wish == Override::Odd && former.is_none_or(|f| f.wish != wish) {
        tracing::warn!(
            namespace = meta.namespace,
            pod = meta.name,
            "annotation {} is neither Never nor Cut nor Serve: it is ignored",
            key::OVERRIDE
        );
    }
    wish
}

/// One text for all pods that have it.
fn shared(known: &mut BTreeSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = known.get(text) {
        return Arc::clone(known);
    }
    let new: Arc<str> = Arc::from(text);
    known.insert(Arc::clone(&new));
    new
}

fn version_of(meta: &SlimMeta) -> u64 {
    meta.resource_version.parse().unwrap_or(0)
}

fn label_set(meta: &SlimMeta) -> LabelSet {
    let pairs = meta.labels.iter().filter(|(k, _)| !ours(k));
    pairs.map(|(k, v)| (Arc::from(k.as_str()), Arc::from(v.as_str()))).collect()
}

fn same_labels(set: &LabelSet, meta: &SlimMeta) -> bool {
    let pairs = meta.labels.iter().filter(|(k, _)| !ours(k));
    pairs.map(|(k, v)| (k.as_str(), v.as_str())).eq(set.iter().map(|(k, v)| (&**k, &**v)))
}

fn workload(meta: &SlimMeta) -> Workload {
    match meta.owner_references.iter().find(|o| o.controller).map(|o| o.kind.as_str()) {
        None => Workload::Bare,
        Some("StatefulSet") => Workload::StatefulSet,
        // A mirror pod's owner is its node.
        Some("DaemonSet" | "Node") => Workload::DaemonSet,
        Some(_) => Workload::Replaced,
    }
}

impl Cache {
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
}

/// See [`Cache::pods`].
#[derive(Debug)]
pub struct PodSink {
    cache: Arc<Cache>,
    scope: Option<Arc<str>>,
    /// Lists that have begun; objects remember the last one that had them.
    list: u32,
}

impl PodSink {
    pub(super) fn new(cache: Arc<Cache>, scope: Option<Arc<str>>) -> Self {
        Self { cache, scope, list: 0 }
    }

    fn feed<'a>(&self, state: &'a mut State) -> &'a mut Feed {
        state.pods.entry(self.scope.clone()).or_default()
    }
}

impl Sink<SlimPod> for PodSink {
    fn begin(&mut self) {
        self.list += 1;
    }

    fn apply(&mut self, object: SlimPod) {
        let mut state = self.cache.lock();
        if let Some(waiting) = state.apply_pod(object, self.list) {
            let (namespace, name) = waiting;
            state.waiting.entry(namespace).or_default().insert(name);
            self.cache.unlabelled.notify_one();
        }
    }

    fn delete(&mut self, object: SlimPod) {
        let SlimMeta { namespace, name, .. } = &object.metadata;
        self.cache.lock().delete_pod(namespace, name);
    }

    fn end(&mut self) {
        let mut state = self.cache.lock();
        state.sweep_pods(self.scope.as_ref(), self.list);
        self.feed(&mut state).synced = true;
        self.cache.unlabelled.notify_one();
    }

    fn proved(&mut self, at: Instant) {
        self.feed(&mut self.cache.lock()).prove(at);
    }

    fn failed(&mut self, failure: &Failure) {
        self.feed(&mut self.cache.lock()).fail(failure);
        tracing::warn!(resource = "pods", error = %failure, "the watch failed and is tried again");
    }
}

/// See [`Cache::services`].
#[derive(Debug)]
pub struct ServiceSink {
    cache: Arc<Cache>,
    scope: Option<Arc<str>>,
    /// Lists that have begun; objects remember the last one that had them.
    list: u32,
}

impl ServiceSink {
    pub(super) fn new(cache: Arc<Cache>, scope: Option<Arc<str>>) -> Self {
        Self { cache, scope, list: 0 }
    }

    fn feed<'a>(&self, state: &'a mut State) -> &'a mut Feed {
        state.services.entry(self.scope.clone()).or_default()
    }
}

impl Sink<SlimService> for ServiceSink {
    fn begin(&mut self) {
        self.list += 1;
    }

    fn apply(&mut self, object: SlimService) {
        let mut state = self.cache.lock();
        let (namespace, ns) = entry(&mut state.namespaces, &object.metadata.namespace);
        ns.services.insert(
            Arc::from(object.metadata.name.as_str()),
            service_of(&object.metadata, object.spec, self.list),
        );
        ns.tell_service(&object.metadata.name);
        self.cache.queue_labels(&mut state, &namespace);
    }

    fn delete(&mut self, object: SlimService) {
        let mut state = self.cache.lock();
        if let Some(ns) = state.namespaces.get_mut(object.metadata.namespace.as_str()) {
            ns.services.remove(object.metadata.name.as_str());
            ns.tell_service(&object.metadata.name);
        }
    }

    fn end(&mut self) {
        let mut state = self.cache.lock();
        state.sweep_services(self.scope.as_ref(), self.list);
        self.feed(&mut state).synced = true;
        self.cache.unlabelled.notify_one();
    }

    fn proved(&mut self, at: Instant) {
        self.feed(&mut self.cache.lock()).prove(at);
    }

    fn failed(&mut self, failure: &Failure) {
        self.feed(&mut self.cache.lock()).fail(failure);
        tracing::warn!(resource = "services", error = %failure, "the watch failed and is tried again");
    }
}

fn service_of(meta: &SlimMeta, spec: SlimServiceSpec, list: u32) -> Service {
    let policies = [&spec.internal_traffic_policy, &spec.external_traffic_policy];
    let local = policies.into_iter().any(|policy| policy.as_deref() == Some("Local"));
    let mut selector = spec.selector.unwrap_or_default();
    Service {
        uid: Arc::from(meta.uid.as_str()),
        version: version_of(meta),
        managed_by: meta.annotations.get(key::MANAGED_BY).map(|uid| Arc::from(uid.as_str())),
        key: selector.remove(key::TRAFFIC).map(Into::into),
        selector: selector.iter().map(|(k, v)| (Arc::from(k.as_str()), Arc::from(v.as_str()))).collect(),
        local,
        external: spec.type_.as_deref() == Some("ExternalName"),
        list,
    }
}
