//! The Services of the input, the workloads behind each, and who names them.
//!
//! Put together once, by label and by name: a repository holds thousands of each, and every rule over them would look
//! through all.

use std::collections::BTreeMap;

use kubervisor::api::key;
use serde_json::Value;

use crate::check::object::Object;
use crate::check::validate::Policy;

/// Workloads whose selector decides which pods are theirs.
const WORKLOADS: [(&str, &str); 5] = [
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("argoproj.io", "Rollout"),
];

/// A Service.
#[derive(Debug)]
pub struct Door<'a> {
    /// As written.
    pub service: &'a Object,
    /// What it selects, traffic key aside.
    pub selector: Vec<(&'a str, &'a str)>,
    /// Whether its selector holds the traffic key.
    pub key: bool,
    /// Workloads whose pods it selects, traffic key aside.
    pub behind: Vec<&'a Object>,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Doors<'a> {
    doors: Vec<Door<'a>>,
    /// By namespace.
    near: BTreeMap<&'a str, Vec<usize>>,
    /// By namespace and name.
    named: BTreeMap<(&'a str, &'a str), usize>,
    /// Doors to a workload: by its namespace, kind and name.
    before: BTreeMap<[&'a str; 3], Vec<usize>>,
    /// By namespace and the Service that they name.
    policies: BTreeMap<(&'a str, &'a str), Vec<&'a Policy<'a>>>,
}

impl<'a> Doors<'a> {
    /// Puts them together.
    #[must_use]
    pub fn new(objects: &'a [Object], policies: &'a [Policy<'a>]) -> Self {
        let mut labelled: BTreeMap<[&str; 3], Vec<&'a Object>> = BTreeMap::new();
        for workload in objects.iter().filter(|object| is_workload(object)) {
            for (key, value) in texts(&workload.value, TEMPLATE) {
                labelled.entry([&workload.namespace, key, value]).or_default().push(workload);
            }
        }
        let mut all = Self::default();
        for service in objects.iter().filter(|object| object.is("", "Service")) {
            let (number, namespace) = (all.doors.len(), service.namespace.as_str());
            let door = Door::new(service, &labelled);
            for workload in &door.behind {
                all.before.entry(identity(workload)).or_default().push(number);
            }
            all.near.entry(namespace).or_default().push(number);
            all.named.entry((namespace, &service.name)).or_insert(number);
            all.doors.push(door);
        }
        for policy in policies {
            let at = (policy.object.namespace.as_str(), policy.service.as_str());
            all.policies.entry(at).or_default().push(policy);
        }
        all
    }

    /// Every one.
    pub fn all(&self) -> &[Door<'a>] {
        &self.doors
    }

    /// Those of a namespace.
    pub fn near(&self, namespace: &str) -> impl Iterator<Item = &Door<'a>> {
        self.near.get(namespace).into_iter().flatten().map(|number| &self.doors[*number])
    }

    /// The one of this name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Door<'a>> {
        self.named.get(&(namespace, name)).map(|number| &self.doors[*number])
    }

    /// Those that lead to a workload.
    pub fn before<'s>(&'s self, workload: &'s Object) -> impl Iterator<Item = &'s Door<'a>> {
        self.before.get(&identity(workload)).into_iter().flatten().map(|number| &self.doors[*number])
    }

    /// KubervisorServices that name this Service.
    pub fn policies<'s>(&'s self, namespace: &'s str, service: &'s str) -> &'s [&'a Policy<'a>] {
        self.policies.get(&(namespace, service)).map(Vec::as_slice).unwrap_or_default()
    }
}

impl<'a> Door<'a> {
    /// `labelled`: workloads by namespace and each label of their template.
    fn new(service: &'a Object, labelled: &BTreeMap<[&str; 3], Vec<&'a Object>>) -> Self {
        let mut selector = texts(&service.value, "/spec/selector");
        selector.retain(|(label, _)| *label != key::TRAFFIC);
        let key = service.value.pointer("/spec/selector").is_some_and(|all| all.get(key::TRAFFIC).is_some());
        let first = selector
            .first()
            .and_then(|(label, value)| labelled.get(&[service.namespace.as_str(), label, value]));
        let selected = |workload: &&&Object| {
            let labels = workload.value.pointer(TEMPLATE);
            selector.iter().all(|(label, value)| labels.is_some_and(|labels| labels[*label] == *value))
        };
        let behind = first.into_iter().flatten().filter(selected).copied().collect();
        Self { service, selector, key, behind }
    }
}

/// Where a workload's pods get their labels.
pub const TEMPLATE: &str = "/spec/template/metadata/labels";

/// Whether it makes pods by a selector of its own.
pub fn is_workload(object: &Object) -> bool {
    WORKLOADS.iter().any(|(group, kind)| object.is(group, kind))
}

/// Texts of a map, such as labels.
pub fn texts<'v>(value: &'v Value, pointer: &str) -> Vec<(&'v str, &'v str)> {
    let map = value.pointer(pointer).and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect()
}

fn identity(workload: &Object) -> [&str; 3] {
    [&workload.namespace, &workload.kind, &workload.name]
}
