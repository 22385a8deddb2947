//! The key in the Service's selector, and who answers for it.

use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::shop::NAME;
use super::{SOON, Shop, eventually};

const MARK: &str = "kubervisor.k8s.io/selector-managed-by";

/// A write to a Service or to a pod of this namespace, as the API server took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStep {
    /// The key goes in.
    Add,
    /// The key goes out.
    Take,
    /// A pod gets its first label, or goes back.
    Yes,
}

impl Shop {
    /// What the Service selects.
    pub async fn selector(&self) -> Value {
        json!(self.services().get(NAME).await.unwrap().spec.unwrap().selector)
    }

    /// The uid of the KubervisorService that answers for the key.
    pub async fn key_owner(&self) -> Option<String> {
        self.services().get(NAME).await.unwrap().annotations().get(MARK).cloned()
    }

    /// Waits until the selector holds the key, or does not, and the mark with it.
    pub async fn key_is(&self, there: bool) {
        let what = if there { "the key is there, and marked" } else { "key and mark are gone" };
        eventually(what, SOON, || async {
            let key = self.selector().await["kubervisor/traffic"] == "yes";
            (key, self.key_owner().await.is_some()) == (there, there)
        })
        .await;
    }

    /// As a GitOps tool does that has no key in its file: a forced apply of the whole selector.
    pub async fn applied_by(&self, tool: &str) {
        let in_git = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME},
            "spec": {"selector": {"app": NAME}, "ports": [{"port": 80}]},
        });
        let params = PatchParams::apply(tool).force();
        self.services().patch(NAME, &params, &Patch::Apply(&in_git)).await.unwrap();
    }

    /// Accepted writes by this user to the Service's key, and to labels of pods, in the order of arrival.
    pub async fn key_steps(&self, user: &str) -> Vec<KeyStep> {
        let mut steps = Vec::new();
        for record in self.writes_by(user, jiff::Timestamp::UNIX_EPOCH).await {
            let body = record.request_object.unwrap_or_default();
            let key = body["spec"]["selector"].get("kubervisor/traffic");
            let label = &body["metadata"]["labels"]["kubervisor/traffic"];
            match (record.resource.as_str(), key) {
                _ if record.code >= 300 => {}
                ("services", Some(Value::Null)) => steps.push(KeyStep::Take),
                ("services", Some(_)) => steps.push(KeyStep::Add),
                ("pods", _) if *label == "yes" => steps.push(KeyStep::Yes),
                _ => {}
            }
        }
        steps
    }
}
