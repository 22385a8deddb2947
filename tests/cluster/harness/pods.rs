//! Pods as a test wants them: bare ones, and what happens to pods from outside.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use localcluster::{FaultProxy, KWOK_NODE};
use serde_json::{Value, json};

use super::Shop;
use super::shop::NAME;

impl Shop {
    /// As many bare pods behind the Service, named `pear-0` and so on: nothing replaces them when they go.
    pub async fn bare_pods(&self, count: usize) -> Vec<String> {
        let names: Vec<_> = (0..count).map(|number| format!("pear-{number}")).collect();
        for name in &names {
            self.bare_pod(name, NAME).await;
        }
        self.serves(count).await;
        names
    }

    /// As many pods of a StatefulSet behind the Service, named `pear-0` and so on: a new one has the name of the old.
    pub async fn kept_pods(&self, count: usize) -> Vec<String> {
        let labels = json!({"app": NAME, "kubervisor/traffic": "yes", "kept": "yes"});
        self.apply(&json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "pear"},
            "spec": {
                "serviceName": "cellar", "replicas": count, "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": {"kept": "yes"}},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "nodeName": KWOK_NODE,
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "shop", "image": "none"}],
                }},
            },
        }));
        self.serves(count).await;
        (0..count).map(|number| format!("pear-{number}")).collect()
    }

    /// Waits until a name is another pod's than the one of this uid.
    pub async fn reborn(&self, name: &str, than: &str) {
        let new = || async {
            let now = self.pods_api().get_opt(name).await.unwrap();
            now.and_then(|pod| pod.metadata.uid).is_some_and(|uid| uid != than)
        };
        super::eventually("another pod has its name", super::SOON, new).await;
    }

    /// The uid of a pod.
    pub async fn uid(&self, name: &str) -> String {
        self.pods_api().get(name).await.unwrap().metadata.uid.unwrap()
    }

    /// A bare pod of this app, in traffic.
    pub async fn bare_pod(&self, name: &str, app: &str) {
        self.bare_pod_labelled(name, &json!({"app": app, "kubervisor/traffic": "yes"})).await;
    }

    /// A bare pod with these labels.
    pub async fn bare_pod_labelled(&self, name: &str, labels: &Value) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
            "spec": {
                "nodeName": KWOK_NODE,
                "automountServiceAccountToken": false,
                "containers": [{"name": "shop", "image": "none"}],
            },
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods_api().create(&PostParams::default(), &pod).await.unwrap();
    }

    /// Whether the API server can give a new pod its label by a policy: since 1.36.
    pub async fn labels_at_birth(&self) -> bool {
        let served = self.client.list_api_group_resources("admissionregistration.k8s.io/v1").await.unwrap();
        served.resources.iter().any(|resource| resource.name == "mutatingadmissionpolicies")
    }

    /// Deletes a pod without grace: it is gone when this returns.
    pub async fn delete_pod(&self, name: &str) {
        self.pods_api().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// Lets a pod fail its readiness from now on.
    pub async fn unready(&self, name: &str) {
        self.readiness(name, "False", Timestamp::now()).await;
    }

    /// A pod is Ready since then.
    pub async fn ready_since(&self, name: &str, since: Timestamp) {
        self.readiness(name, "True", since).await;
    }

    async fn readiness(&self, name: &str, status: &str, since: Timestamp) {
        let condition = json!({"type": "Ready", "status": status, "lastTransitionTime": since});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.pods_api().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// A fault proxy of this test's own, for [`Shop::controller_at`].
    pub async fn proxy(&self) -> FaultProxy {
        FaultProxy::start(self.cluster).await.unwrap()
    }
}
