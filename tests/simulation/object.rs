//! Objects of the model API server, with what the checkers must know of them. Read here anew from the JSON, by code
//! that shares nothing with the controller's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

/// Kinds that are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Pods,
    Services,
    Resources,
    ReplicaSets,
    StatefulSets,
    DaemonSets,
    Budgets,
    Nodes,
    Leases,
    Events,
}

impl Kind {
    /// As in a path.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Services => "services",
            Self::Resources => "kubervisorservices",
            Self::ReplicaSets => "replicasets",
            Self::StatefulSets => "statefulsets",
            Self::DaemonSets => "daemonsets",
            Self::Budgets => "poddisruptionbudgets",
            Self::Nodes => "nodes",
            Self::Leases => "leases",
            Self::Events => "events",
        }
    }

    /// The kind of that path segment.
    pub fn of(plural: &str) -> Option<Self> {
        let all = [
            Self::Pods,
            Self::Services,
            Self::Resources,
            Self::ReplicaSets,
            Self::StatefulSets,
            Self::DaemonSets,
            Self::Budgets,
            Self::Nodes,
            Self::Leases,
            Self::Events,
        ];
        all.into_iter().find(|kind| kind.plural() == plural)
    }
}

/// Namespace and name.
pub type Name = (String, String);

/// A stored object at one version.
#[derive(Debug)]
pub struct Object {
    pub kind: Kind,
    pub name: Name,
    pub uid: String,
    pub version: u64,
    pub value: Value,
    pub labels: BTreeMap<String, String>,
    pub notes: BTreeMap<String, String>,
    pub terminating: bool,
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Object {
    pub fn new(kind: Kind, value: Value) -> Arc<Self> {
        let meta = &value["metadata"];
        Arc::new(Self {
            kind,
            name: (text(&meta["namespace"]), text(&meta["name"])),
            uid: text(&meta["uid"]),
            version: meta["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0),
            labels: texts(&meta["labels"]),
            notes: texts(&meta["annotations"]),
            terminating: meta["deletionTimestamp"].is_string(),
            value,
        })
    }

    /// Of a pod: condition Ready.
    pub fn ready(&self) -> bool {
        let conditions = self.value["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    }

    /// Of a pod: when condition Ready came last.
    pub fn ready_since(&self) -> Option<&str> {
        let conditions = self.value["status"]["conditions"].as_array()?;
        conditions.iter().find(|c| c["type"] == "Ready")?["lastTransitionTime"].as_str()
    }

    /// Of a pod: it will never run again.
    pub fn finished(&self) -> bool {
        matches!(self.value["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
    }

    /// Of a pod: the kind of its controller.
    pub fn owner(&self) -> Option<&str> {
        let owners = self.value["metadata"]["ownerReferences"].as_array()?;
        owners.iter().find(|o| o["controller"] == true)?["kind"].as_str()
    }

    /// Of a pod: the traffic label.
    pub fn traffic(&self) -> Option<&str> {
        self.labels.get("kubervisor/traffic").map(String::as_str)
    }

    /// Of a pod: a cut of ours that is to end by itself.
    pub fn timed_cut(&self) -> bool {
        self.traffic() == Some("no") && self.cut_at().is_some()
    }

    /// Of a pod: breakAt, unless a restore is younger.
    fn cut_at(&self) -> Option<&String> {
        let at = self.notes.get("breaker/breakAt")?;
        let time = |text: &String| text.parse::<jiff::Timestamp>().ok();
        let restored = self.notes.get("kubervisor.k8s.io/restored-at").and_then(time);
        let ended = time(at).zip(restored).is_some_and(|(at, restored)| restored > at);
        (!ended).then_some(at)
    }

    /// Of a pod: it carries our mark.
    pub fn marked(&self) -> bool {
        self.labels.contains_key("kubervisor/name") || self.notes.contains_key("breaker/breakAt")
    }

    /// Of a pod: what a person said of it.
    pub fn wish(&self) -> Option<&str> {
        self.notes.get("kubervisor.k8s.io/override").map(String::as_str)
    }

    /// Of a pod: strikes as written.
    pub fn strikes(&self) -> u64 {
        let own = self.notes.get("kubervisor.k8s.io/strikes");
        let own = own.and_then(|text| serde_json::from_str::<BTreeMap<String, u64>>(text).ok());
        let original = self.notes.get("breaker/retryCount").and_then(|text| text.parse().ok());
        own.map(|by_breaker| by_breaker.values().sum()).or(original).unwrap_or(0)
    }

    /// Of a Service: its selector without the traffic key, and the key's value. `None` where it selects no pods.
    pub fn selector(&self) -> Option<(BTreeMap<String, String>, Option<String>)> {
        let mut selector = texts(&self.value["spec"]["selector"]);
        let key = selector.remove("kubervisor/traffic");
        let external = self.value["spec"]["type"] == "ExternalName";
        (!external && !selector.is_empty()).then_some((selector, key))
    }

    /// Of a Service: it would reach this pod, traffic key aside.
    pub fn selects(&self, pod: &Self) -> bool {
        pod.name.0 == self.name.0
            && self.selector().is_some_and(|(want, _)| want.iter().all(|(k, v)| pod.labels.get(k) == Some(v)))
    }

    /// Of a Service: it sends traffic to this pod if that is Ready.
    pub fn reaches(&self, pod: &Self) -> bool {
        self.selects(pod)
            && self.selector().and_then(|(_, key)| key).is_none_or(|key| pod.traffic() == Some(key.as_str()))
    }

    /// Of a Service: its selector holds the key, with the value that lets pods serve.
    pub fn gated(&self) -> bool {
        self.selector().is_some_and(|(_, key)| key.as_deref() == Some("yes"))
    }
}
