//! Which KubervisorServices govern a pod: those that name a Service that selects it, traffic key aside.

use kube::api::ListParams;
use kubervisor::api::key;
use serde_json::Value;

use crate::fail::Ask;
use crate::objects::{list, name, pages, text};
use crate::reach::Cluster;

/// All of them, from a list of each kind.
///
/// # Errors
/// The server's refusal.
pub async fn governors(cluster: &Cluster, pod: &Value) -> anyhow::Result<Vec<Value>> {
    let namespace = Some(cluster.namespace.as_str());
    let ask = Ask { verb: "list", resource: "services", name: "", namespace };
    let path = format!("/api/v1/namespaces/{}/services", cluster.namespace);
    let all = list(&cluster.client, namespace, None).await?;
    let services = pages(&cluster.client, ask, &path, ListParams::default()).await?;
    let selects = |object: &Value| {
        let named = text(object, "/spec/service");
        services.iter().any(|service| name(service) == named && selects(service, pod))
    };
    Ok(all.into_iter().filter(|object| selects(object)).collect())
}

/// What is said of a pod that none governs.
pub fn nobody(cluster: &Cluster, pod: &Value) -> anyhow::Error {
    anyhow::anyhow!(
        "no KubervisorService in namespace {:?} governs pod {}: none names a Service that selects it",
        cluster.namespace,
        name(pod)
    )
}

fn selects(service: &Value, pod: &Value) -> bool {
    let Some(selector) = service.pointer("/spec/selector").and_then(Value::as_object) else { return false };
    let none = serde_json::Map::new();
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object).unwrap_or(&none);
    let mut wanted = selector.iter().filter(|(label, _)| *label != key::TRAFFIC).peekable();
    // A selector of nothing but the key would be every pod: the controller takes it for none.
    wanted.peek().is_some() && wanted.all(|(label, value)| labels.get(label) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_that_is_cut_is_still_governed_and_an_empty_selector_governs_nothing() {
        let service = |selector: Value| json!({"metadata": {"name": "s"}, "spec": {"selector": selector}});
        let cut = json!({"metadata": {"labels": {"app": "pear", "kubervisor/traffic": "no"}}});
        assert!(selects(&service(json!({"app": "pear", "kubervisor/traffic": "yes"})), &cut));
        assert!(!selects(&service(json!({"app": "plum"})), &cut));
        assert!(!selects(&service(json!({"kubervisor/traffic": "yes"})), &cut));
        assert!(!selects(&json!({"spec": {}}), &cut));
    }
}
