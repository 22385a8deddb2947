//! Workloads that a cut would break.
//!
//! Asked when a spec or its Service changes, never in the way of a tick. Two things are looked for: a workload whose
//! own selector holds the traffic key would lose every pod that is cut and make another in its place; and the
//! Service that governs a StatefulSet gives its pods their names, so that a cut breaks the members' view of each
//! other.

use std::collections::BTreeMap;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde_json::Value;

use super::{CallError, call};
use crate::api::key;

/// Kinds whose selector decides which pods are theirs. A Deployment's stands on its ReplicaSets too.
const KINDS: [(&str, &str); 3] =
    [("ReplicaSet", "replicasets"), ("StatefulSet", "statefulsets"), ("DaemonSet", "daemonsets")];
/// Workloads in a page.
const PAGE: u32 = 500;

/// A workload, as far as it matters.
#[derive(Debug, Clone, Deserialize)]
pub struct SlimWorkload {
    metadata: Named,
    #[serde(default)]
    spec: SlimWorkloadSpec,
}

#[derive(Debug, Clone, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimWorkloadSpec {
    #[serde(default)]
    selector: Value,
    #[serde(default)]
    service_name: Option<String>,
    #[serde(default)]
    template: Template,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Template {
    #[serde(default)]
    metadata: TemplateMeta,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct TemplateMeta {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<SlimWorkload>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(rename = "continue", default)]
    continue_: Option<String>,
}

/// Why pods of `service`, which selects `selector` (traffic key aside), must not be cut: a sentence for each workload.
///
/// # Errors
/// The server did not answer or did not allow it: nothing is known.
pub async fn faults(
    client: &Client,
    namespace: &str,
    service: &str,
    selector: &[(String, String)],
) -> Result<Vec<String>, CallError> {
    let mut found = Vec::new();
    for (kind, plural) in KINDS {
        let request = Request::new(format!("/apis/apps/v1/namespaces/{namespace}/{plural}"));
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = request.list(&params).map_err(|e| CallError::Unknown(e.to_string()))?;
            let page: Page = call(client.request(page)).await?;
            found.extend(page.items.iter().filter_map(|w| fault(kind, w, service, selector)));
            match page.metadata.continue_.filter(|c| !c.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(found)
}

fn fault(
    kind: &str,
    workload: &SlimWorkload,
    service: &str,
    selector: &[(String, String)],
) -> Option<String> {
    let (name, spec) = (&workload.metadata.name, &workload.spec);
    if kind == "StatefulSet" && spec.service_name.as_deref() == Some(service) {
        return Some(format!(
            "spec.service: Service {service} governs StatefulSet {name} and gives its pods their names; name another \
             Service over the same pods"
        ));
    }
    let labels = &spec.template.metadata.labels;
    let reached = selector.iter().all(|(k, v)| labels.get(k) == Some(v));
    let holds = holds_key(&spec.selector);
    (reached && holds).then(|| {
        format!(
            "{kind} {name} selects its pods by {}: a pod that is cut would be replaced at once; take the key out of \
             the workload's own selector",
            key::TRAFFIC
        )
    })
}

fn holds_key(selector: &Value) -> bool {
    let labels = selector["matchLabels"].as_object().is_some_and(|labels| labels.contains_key(key::TRAFFIC));
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    labels || expressions.any(|e| e["key"] == key::TRAFFIC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(kind: &str, spec: &Value) -> Option<String> {
        let workload = serde_json::from_value(json!({"metadata": {"name": "press"}, "spec": spec})).unwrap();
        fault(kind, &workload, "juice", &[("app".to_owned(), "pear".to_owned())])
    }

    fn template(app: &str) -> Value {
        json!({"metadata": {"labels": {"app": app, "kubervisor/traffic": "yes"}}})
    }

    #[test]
    fn a_workload_that_selects_by_the_traffic_key_is_found_in_both_forms() {
        let labels = json!({"matchLabels": {"app": "pear", "kubervisor/traffic": "yes"}});
        let expressions = json!({"matchExpressions": [{"key": "kubervisor/traffic", "operator": "Exists"}]});
        for selector in [labels, expressions] {
            let text =
                told("ReplicaSet", &json!({"selector": selector, "template": template("pear")})).unwrap();
            assert!(text.contains("press") && text.contains("would be replaced"), "{text}");
        }
    }

    #[test]
    fn other_peoples_workloads_and_ordinary_ones_are_no_fault() {
        let holds = json!({"matchLabels": {"kubervisor/traffic": "yes"}});
        assert_eq!(told("ReplicaSet", &json!({"selector": holds, "template": template("plum")})), None);
        let plain = json!({"matchLabels": {"app": "pear"}});
        assert_eq!(told("ReplicaSet", &json!({"selector": plain, "template": template("pear")})), None);
    }

    #[test]
    fn the_service_that_governs_a_statefulset_is_found() {
        assert!(told("StatefulSet", &json!({"serviceName": "juice"})).unwrap().contains("governs"));
        assert_eq!(told("StatefulSet", &json!({"serviceName": "other"})), None);
    }
}
