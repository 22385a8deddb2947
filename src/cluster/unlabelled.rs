//! Pods that wait for their first label.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::cache::Cache;
use super::index::{Pod, State};
use crate::api::TrafficLabel;

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

impl Cache {
    /// Takes the next pods that wait for their first label, at most `most`, of namespaces whose lists are complete, here
    /// and for `known`. The others go on waiting: a scope that is never listed must not hold up the rest.
    pub fn take_unlabelled(&self, most: usize, known: impl Fn(&str) -> bool) -> Vec<Unlabelled> {
        let mut state = self.lock();
        let mut waiting = std::mem::take(&mut state.waiting);
        let mut taken = Vec::new();
        for (namespace, names) in &mut waiting {
            if taken.len() < most && state.synced_in(namespace) && known(namespace) {
                state.take_in(namespace, names, most, &mut taken);
            }
        }
        waiting.retain(|_, names| !names.is_empty());
        state.waiting = waiting;
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
            .cloned()
            .collect();
        if !found.is_empty() {
            let namespace = Arc::clone(namespace);
            state.waiting.entry(namespace).or_default().extend(found);
            self.unlabelled.notify_one();
        }
    }
}

impl State {
    /// Those of one namespace that still lack it.
    fn take_in(
        &self,
        namespace: &Arc<str>,
        names: &mut BTreeSet<Arc<str>>,
        most: usize,
        taken: &mut Vec<Unlabelled>,
    ) {
        while taken.len() < most {
            let Some(name) = names.pop_first() else { break };
            let Some(ns) = self.namespaces.get(namespace) else { continue };
            let Some(pod) = ns.pods.get(&name) else { continue };
            if pod.traffic == TrafficLabel::Absent && !pod.terminating && ns.labels_wanted(&pod.labels) {
                let (namespace, uid) = (Arc::clone(namespace), Arc::clone(&pod.uid));
                taken.push(Unlabelled { namespace, name, uid, version: pod.version });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::cluster::cache::Cache;
    use crate::cluster::testing::{listed, orchard, pod};
    use crate::cluster::watch::Sink;

    fn bear(cache: &Arc<Cache>, name: &str) {
        let mut born = pod(name, 8, "yes");
        born.metadata.labels.remove("kubervisor/traffic");
        cache.pods(None).apply(born);
    }

    fn taken(cache: &Cache, known: bool) -> Vec<String> {
        let taken = cache.take_unlabelled(9, |_| known);
        taken.into_iter().map(|u| u.name.to_string()).collect()
    }

    #[test]
    fn a_new_pod_of_a_gated_service_waits_for_its_label_with_or_without_a_governor() {
        let cache = orchard(1);
        cache.ungovern("orchard", "k1");
        bear(&cache, "pear-9");
        listed(&cache);
        assert_eq!(taken(&cache, true), ["pear-9"]);
    }

    #[test]
    fn a_pod_waits_while_its_own_namespace_is_not_listed_and_is_not_forgotten() {
        let cache = orchard(1);
        cache.expect(&[Some("orchard".into()), Some("meadow".into())]);
        bear(&cache, "pear-9");
        assert!(taken(&cache, true).is_empty());
        cache.pods(Some("orchard".into())).end();
        cache.services(Some("orchard".into())).end();
        assert!(taken(&cache, false).is_empty(), "nobody knows who governs it");
    }
}
