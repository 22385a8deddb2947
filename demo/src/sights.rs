//! What the director sees of the cluster besides the EndpointSlices: pods, the controller's Events and what it says
//! of itself in the status. Only for the screen and for names; no promise is judged by the controller's own words.

use std::collections::BTreeMap;

use futures::stream::{BoxStream, select_all};
use futures::{StreamExt, future};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::api::DynamicObject;
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};

use crate::follow::follow;

/// What there is to know of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSeen {
    /// The label `kubervisor/traffic`.
    pub traffic: Option<String>,
    /// Since when it is Ready, by its own word.
    pub ready_since: Option<Timestamp>,
    /// When it was made.
    pub made: Option<Timestamp>,
}

/// One thing seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Sight {
    /// All pods that there are now.
    Pods(BTreeMap<String, PodSeen>),
    /// An Event of the controller.
    Told {
        /// What, in a word.
        what: String,
        /// On which pod, where it is on one.
        pod: Option<String>,
        /// The whole sentence.
        note: String,
    },
    /// The controller's status in a few words.
    Status(String),
}

/// Everything seen in the namespace, for ever.
pub fn of(client: &Client, namespace: &str) -> BoxStream<'static, Sight> {
    let all = || watcher::Config::default();
    let pods = follow(Api::<Pod>::namespaced(client.clone(), namespace), all(), pod).map(Sight::Pods);
    let events = watcher(Api::<Event>::namespaced(client.clone(), namespace), all()).default_backoff();
    let told = events.applied_objects().filter_map(|event| future::ready(event.ok().as_ref().and_then(told)));
    let resource = kubervisor_services();
    let services = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource);
    let services = watcher(services, all()).default_backoff().applied_objects();
    let status =
        services.filter_map(|service| future::ready(service.ok().as_ref().map(status).map(Sight::Status)));
    select_all([pods.boxed(), told.boxed(), status.boxed()]).boxed()
}

/// The kind that the controller registers.
pub fn kubervisor_services() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("kubervisor.k8s.io", "v1alpha1", "KubervisorService"))
}

/// Reads a pod.
pub fn pod(pod: &Pod) -> PodSeen {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready" && condition.status == "True");
    PodSeen {
        traffic: pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubervisor/traffic").cloned()),
        ready_since: ready.and_then(|condition| condition.last_transition_time.as_ref()).map(|time| time.0),
        made: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
    }
}

/// An Event on a pod as `cut`, `restored` and so on; others, on the KubervisorService, by their reason. The acts on
/// pods are told on both: once is enough.
fn told(event: &Event) -> Option<Sight> {
    let about = event.regarding.as_ref()?;
    let reason = event.reason.as_deref()?;
    let note = event.note.clone().unwrap_or_default();
    let act = reason.strip_prefix("Pod");
    let (what, pod) = match (about.kind.as_deref()?, act) {
        ("Pod", Some(act)) => (act.to_lowercase(), about.name.clone()),
        ("KubervisorService", None) => (reason.to_owned(), None),
        _ => return None,
    };
    Some(Sight::Told { what, pod, note })
}

/// Such as `Running, floor 5`.
pub fn status(service: &DynamicObject) -> String {
    let status = &service.data["status"];
    let state = status["state"].as_str().unwrap_or("not seen by the controller yet");
    match status["fleet"]["floor"].as_i64() {
        Some(floor) => format!("{state}, floor {floor}"),
        None => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: &str, reason: &str) -> Option<Sight> {
        let event = json!({
            "metadata": { "name": "e" }, "eventTime": null, "reason": reason, "note": "99 % > 30 %",
            "regarding": { "kind": kind, "name": "red" },
        });
        told(&serde_json::from_value(event).expect("an Event"))
    }

    #[test]
    fn an_act_is_told_once_although_its_event_is_on_pod_and_service() {
        let told = |what: &str, pod: Option<&str>| Sight::Told {
            what: what.to_owned(),
            pod: pod.map(str::to_owned),
            note: "99 % > 30 %".to_owned(),
        };
        assert_eq!(event("Pod", "PodCut"), Some(told("cut", Some("red"))));
        assert_eq!(event("KubervisorService", "PodCut"), None);
        assert_eq!(event("KubervisorService", "FloorReached"), Some(told("FloorReached", None)));
        assert_eq!(event("Pod", "Scheduled"), None);
        assert_eq!(event("ReplicaSet", "SuccessfulCreate"), None);
    }

    #[test]
    fn a_status_says_its_state_and_floor() {
        let service = |status| {
            let resource = kubervisor_services();
            DynamicObject::new("checkout", &resource).data(json!({ "status": status }))
        };
        let fleet = json!({ "state": "Running", "fleet": { "floor": 5 } });
        assert_eq!(status(&service(fleet)), "Running, floor 5");
        assert_eq!(status(&service(json!(null))), "not seen by the controller yet");
        assert_eq!(kubervisor_services().plural, "kubervisorservices");
    }

    #[test]
    fn a_pod_is_ready_since_its_condition_says_so() {
        let ready = |status: &str| {
            let pod = json!({
                "metadata": { "labels": { "kubervisor/traffic": "no" } },
                "status": { "conditions": [
                    { "type": "Ready", "status": status, "lastTransitionTime": "2026-01-02T03:04:05Z" },
                ] },
            });
            super::pod(&serde_json::from_value(pod).expect("a Pod"))
        };
        assert_eq!(ready("True").ready_since, "2026-01-02T03:04:05Z".parse().ok());
        assert_eq!(ready("False").ready_since, None);
        assert_eq!(ready("True").traffic.as_deref(), Some("no"));
    }
}
