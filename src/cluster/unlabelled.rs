//! Pods that wait for their first label.

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

#[cfg(test)]
mod tests {
    use crate::cluster::testing::{orchard, pod};
    use crate::cluster::watch::Sink;

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
}
