//! Which KubervisorServices govern a pod: those that name a Service that selects it, traffic key aside.

use kube::api::ListParams;
use kubervisor::api::key;
use serde_json::Value;

use crate::again::Again;
use crate::fail::Ask;
use crate::objects::{list, name, pages, text};
use crate::reach::Cluster;

/// All of them, from a list of each kind.
///
/// # Errors
/// The server's refusal.
pub async fn governors(cluster: &Cluster, pod: &Value) -> anyhow::Result<Vec<Value>> {
    let all = list(&cluster.client, Some(&cluster.namespace), None).await?;
    let services = services(cluster).await?;
    let selects = |object: &Value| {
        let named = text(object, "/spec/service");
        services.iter().any(|service| name(service) == named && selects(service, pod))
    };
    Ok(all.into_iter().filter(|object| selects(object)).collect())
}

async fn services(cluster: &Cluster) -> anyhow::Result<Vec<Value>> {
    let namespace = Some(cluster.namespace.as_str());
    let ask = Ask { verb: "list", resource: "services", name: "", namespace };
    let path = format!("/api/v1/namespaces/{}/services", cluster.namespace);
    pages(&cluster.client, ask, &path, ListParams::default()).await
}

/// What is said of a pod that none governs: also where a Service with the key leaves it in the dark.
pub async fn nobody(cluster: &Cluster, pod: &Value) -> anyhow::Error {
    // Only to say more: without an answer the first half is told.
    let services = services(cluster).await.unwrap_or_default();
    anyhow::anyhow!(
        "no KubervisorService in namespace {:?} governs pod {}: none names a Service that selects it{}",
        cluster.namespace,
        name(pod),
        dark(&services, pod, &cluster.again).unwrap_or_default()
    )
}

/// Services that would reach the pod if it had the label, and how it gets traffic again.
fn dark(services: &[Value], pod: &Value, again: &Again) -> Option<String> {
    let label = pod["metadata"]["labels"][key::TRAFFIC].as_str();
    let shut = |service: &&Value| {
        let wanted = service["spec"]["selector"][key::TRAFFIC].as_str();
        wanted == Some(key::YES) && label != wanted && selects(service, pod)
    };
    let shut: Vec<_> = services.iter().filter(shut).map(name).collect();
    let first = shut.first()?;
    let has = label.map(|label| format!(", which is {label:?} on it")).unwrap_or_default();
    Some(format!(
        "; Service {} does not reach it for want of the label {}=yes{has}: `{}` gives it the label, `{}` \
         opens the Service to all its pods",
        shut.join(", "),
        key::TRAFFIC,
        again.command(&["restore", name(pod)]),
        again.command(&["deactivate", &format!("service/{first}")])
    ))
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

    fn dark(services: &[Value], pod: &Value) -> Option<String> {
        super::dark(services, pod, &Again::default())
    }

    #[test]
    fn a_pod_that_is_cut_is_still_governed_and_an_empty_selector_governs_nothing() {
        let service = |selector: Value| json!({"metadata": {"name": "s"}, "spec": {"selector": selector}});
        let cut = json!({"metadata": {"labels": {"app": "pear", "kubervisor/traffic": "no"}}});
        assert!(selects(&service(json!({"app": "pear", "kubervisor/traffic": "yes"})), &cut));
        assert!(!selects(&service(json!({"app": "plum"})), &cut));
        assert!(!selects(&service(json!({"kubervisor/traffic": "yes"})), &cut));
        assert!(!selects(&json!({"spec": {}}), &cut));
    }

    #[test]
    fn a_pod_that_only_the_key_keeps_out_is_told_which_service_and_what_to_do() {
        let service =
            |name: &str, selector: Value| json!({"metadata": {"name": name}, "spec": {"selector": selector}});
        let gated = json!({"app": "pear", "kubervisor/traffic": "yes"});
        let services = [
            service("juice", gated),
            service("open", json!({"app": "pear"})),
            service("plums", json!({"app": "plum", "kubervisor/traffic": "yes"})),
        ];
        let pod = |labels: Value| json!({"metadata": {"name": "pear-0", "labels": labels}});
        let said = dark(&services, &pod(json!({"app": "pear"}))).unwrap();
        assert!(
            said.starts_with(
                "; Service juice does not reach it for want of the label kubervisor/traffic=yes:"
            )
        );
        assert!(said.contains("restore pear-0`") && said.contains("deactivate service/juice`"), "{said}");
        let said = dark(&services, &pod(json!({"app": "pear", "kubervisor/traffic": "no"}))).unwrap();
        assert!(said.contains("which is \"no\" on it"), "{said}");
        assert_eq!(dark(&services, &pod(json!({"app": "pear", "kubervisor/traffic": "yes"}))), None);
        assert_eq!(dark(&services[1..2], &pod(json!({"app": "pear"}))), None);
    }
}
