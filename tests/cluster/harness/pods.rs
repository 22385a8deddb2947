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

    /// Deletes a pod without grace: it is gone when this returns.
    pub async fn delete_pod(&self, name: &str) {
        self.pods_api().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    /// Lets a pod fail its readiness from now on.
    pub async fn unready(&self, name: &str) {
        let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": Timestamp::now()});
        let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
        self.pods_api().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// A fault proxy of this test's own, for [`Shop::controller_at`].
    pub async fn proxy(&self) -> FaultProxy {
        FaultProxy::start(self.cluster).await.unwrap()
    }
}
