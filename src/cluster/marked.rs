//! Pods that carry our mark: whose they are, and whether anybody looks after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use kubervisor_core::fleet::Wish;

use super::cache::Cache;
use super::index::{Governor, Namespace, Pod, Service, State};

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
    /// Uid of a Service that reaches it through a key that is left over: that goes first.
    pub behind: Option<Arc<str>>,
}

pub(super) fn marked(
    state: &State,
    namespace: &Arc<str>,
    ns: &Namespace,
    name: &Arc<str>,
    pod: &Pod,
) -> Marked {
    let by = pod.marks.as_ref().and_then(|m| m.name.clone());
    let owner = by.as_ref().and_then(|by| ns.governors.values().find(|g| g.name == *by));
    let lost = |g: &Governor| !ns.services.contains_key(&g.service);
    let service_missing = match &by {
        Some(_) => owner.is_some_and(lost),
        None => ns.governors.values().any(lost),
    };
    let leaves = |(name, service): &(&Arc<str>, &Service)| {
        service.key.is_some() && service.reaches(&pod.labels) && ns.left_over(name, service)
    };
    Marked {
        behind: ns.services.iter().find(leaves).map(|(_, service)| Arc::clone(&service.uid)),
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

impl Cache {
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

    /// Pods of each namespace on which a person's word Cut stands.
    #[must_use]
    pub fn said_cut(&self) -> BTreeMap<Arc<str>, Vec<Arc<str>>> {
        let state = self.lock();
        let mut found = BTreeMap::new();
        for (namespace, ns) in &state.namespaces {
            let said =
                ns.pods.iter().filter(|(_, pod)| pod.wish.wish() == Some(Wish::Cut) && !pod.terminating);
            let names: Vec<_> = said.map(|(name, _)| Arc::clone(name)).collect();
            if !names.is_empty() {
                found.insert(Arc::clone(namespace), names);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::cluster::testing::{governor, orchard, pod, service};
    use crate::cluster::watch::Sink;
    use serde_json::json;

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
    fn pods_that_a_person_wants_out_are_named_but_not_those_that_go_away() {
        let cache = orchard(1);
        let said = |name: &str, going: bool| {
            let mut said = pod(name, 8, "yes");
            said.metadata.annotations.insert("kubervisor.k8s.io/override".into(), "Cut".into());
            said.metadata.deletion_timestamp = going.then(|| "2018-09-12T08:00:00Z".into());
            cache.pods(None).apply(said);
        };
        assert!(cache.said_cut().is_empty());
        said("pear-0", false);
        said("pear-1", true);
        let named: Vec<_> = cache.said_cut().into_values().flatten().collect();
        assert_eq!(named, ["pear-0".into()]);
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
}
