//! Workloads behind a Service: those that a cut would break, and what their owners should know.
//!
//! Asked when a spec or its Service changes, never in the way of a tick. Faults: a workload whose own selector holds
//! the traffic key would lose every pod that is cut and make another in its place; and the Service that governs a
//! StatefulSet gives its pods their names, so that a cut breaks the members' view of each other. Remarks: a template
//! without the label, and an autoscaler, which counts cut pods among those that bear the load.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
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
#[serde(rename_all = "camelCase")]
struct Named {
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    owner_references: Vec<Maker>,
}

/// Who makes new pods behind a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Maker {
    /// Such as `Deployment`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Such as `apps/v1`.
    #[serde(default)]
    pub api_version: String,
    /// Its uid.
    #[serde(default)]
    pub uid: String,
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// An object of the same namespace.
#[derive(Debug, Clone, Deserialize)]
struct Target {
    kind: String,
    name: String,
}

/// A HorizontalPodAutoscaler, as far as it matters.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimAutoscaler {
    metadata: Named,
    spec: SlimAutoscalerSpec,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimAutoscalerSpec {
    scale_target_ref: Target,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SlimWorkloadSpec {
    #[serde(default)]
    selector: Value,
    #[serde(default)]
    service_name: Option<String>,
    /// A DaemonSet has none.
    #[serde(default)]
    replicas: Option<u32>,
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
struct Page<T> {
    metadata: PageMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PageMeta {
    #[serde(rename = "continue", default)]
    continue_: Option<String>,
}

/// What was found behind a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// Why its pods must not be cut: a sentence for each workload.
    pub faults: Vec<String>,
    /// Workloads whose new pods have no traffic label of their own.
    pub unlabelled: Vec<String>,
    /// HorizontalPodAutoscalers over its workloads; none where they may not be listed.
    pub autoscalers: Vec<String>,
    /// Who makes its new pods.
    pub makers: BTreeSet<Maker>,
}

/// Looks at what is behind `service`, which selects `selector` (traffic key aside).
///
/// # Errors
/// The server did not answer or did not allow it: nothing is known.
pub async fn look(
    client: &Client,
    namespace: &str,
    service: Option<&str>,
    selector: &[(String, String)],
) -> Result<Looked, CallError> {
    let mut found = Looked::default();
    for (kind, plural) in KINDS {
        let path = format!("/apis/apps/v1/namespaces/{namespace}/{plural}");
        for workload in list::<SlimWorkload>(client, &path).await? {
            found.faults.extend(fault(kind, &workload, service, selector));
            if let Some(owner) = living(kind, &workload, selector) {
                let label = workload.spec.template.metadata.labels.get(key::TRAFFIC);
                if label.is_none_or(|value| value != key::YES)
                    && !found.unlabelled.contains(&owner.to_string())
                {
                    found.unlabelled.push(owner.to_string());
                }
                found.makers.insert(owner);
            }
        }
    }
    // A remark only: who may not list them goes without it.
    let path = format!("/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers");
    let makers = &found.makers;
    let autoscalers = if makers.is_empty() { vec![] } else { list(client, &path).await.unwrap_or_default() };
    found.autoscalers = over(autoscalers, makers);
    Ok(found)
}

async fn list<T: DeserializeOwned + Clone + 'static>(
    client: &Client,
    path: &str,
) -> Result<Vec<T>, CallError> {
    let request = Request::new(path);
    let mut params = ListParams::default().limit(PAGE);
    let mut items = Vec::new();
    loop {
        let page = request.list(&params).map_err(|e| CallError::Unknown(e.to_string()))?;
        let page: Page<T> = call(client.request(page)).await?;
        items.extend(page.items);
        match page.metadata.continue_.filter(|c| !c.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(items),
        }
    }
}

fn over(autoscalers: Vec<SlimAutoscaler>, makers: &BTreeSet<Maker>) -> Vec<String> {
    let ours = |target: &Target| makers.iter().any(|m| m.kind == target.kind && m.name == target.name);
    let ours = autoscalers.into_iter().filter(|a| ours(&a.spec.scale_target_ref));
    ours.map(|a| a.metadata.name).collect()
}

/// Who makes new pods of this workload's template behind the Service; `None` where nobody does. A former revision of a
/// Deployment is a ReplicaSet with 0 replicas.
fn living(kind: &str, workload: &SlimWorkload, selector: &[(String, String)]) -> Option<Maker> {
    let labels = &workload.spec.template.metadata.labels;
    let reached = !selector.is_empty() && selector.iter().all(|(k, v)| labels.get(k) == Some(v));
    let alive = reached && workload.spec.replicas != Some(0);
    let own = || Maker {
        kind: kind.to_owned(),
        name: workload.metadata.name.clone(),
        api_version: "apps/v1".to_owned(),
        uid: workload.metadata.uid.clone(),
    };
    alive.then(|| workload.metadata.owner_references.first().cloned().unwrap_or_else(own))
}

fn fault(
    kind: &str,
    workload: &SlimWorkload,
    service: Option<&str>,
    selector: &[(String, String)],
) -> Option<String> {
    let (name, spec) = (&workload.metadata.name, &workload.spec);
    if let Some(service) =
        service.filter(|s| kind == "StatefulSet" && spec.service_name.as_deref() == Some(*s))
    {
        return Some(format!(
            "spec.service: Service {service} governs StatefulSet {name} and gives its pods their names; name another \
             Service over the same pods, or set allowGoverningService"
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
        fault(kind, &workload, Some("juice"), &[("app".to_owned(), "pear".to_owned())])
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
        let workload = json!({"metadata": {"name": "press"}, "spec": {"serviceName": "juice"}});
        let workload = serde_json::from_value(workload).unwrap();
        assert_eq!(fault("StatefulSet", &workload, None, &[]), None, "where it is allowed nobody looks");
    }

    fn made_by(kind: &str, meta: &Value, spec: &Value) -> Option<String> {
        let mut workload = json!({"metadata": {"name": "press"}, "spec": spec});
        workload["metadata"]["ownerReferences"] = meta.clone();
        let workload = serde_json::from_value(workload).unwrap();
        living(kind, &workload, &[("app".to_owned(), "pear".to_owned())]).map(|owner| owner.to_string())
    }

    #[test]
    fn new_pods_come_from_the_deployment_of_a_living_replicaset_or_from_the_workload_itself() {
        let deployment = json!([{"kind": "Deployment", "name": "mill"}]);
        let spec = |replicas: Value| json!({"replicas": replicas, "template": template("pear")});
        assert_eq!(made_by("ReplicaSet", &deployment, &spec(json!(2))).as_deref(), Some("Deployment mill"));
        assert_eq!(made_by("ReplicaSet", &deployment, &spec(json!(0))), None);
        assert_eq!(made_by("DaemonSet", &json!([]), &spec(Value::Null)).as_deref(), Some("DaemonSet press"));
        assert_eq!(made_by("DaemonSet", &json!([]), &json!({"template": template("plum")})), None);
    }

    #[test]
    fn only_an_autoscaler_of_one_of_these_owners_counts() {
        let scaler = |name, kind| -> SlimAutoscaler {
            let target = json!({"apiVersion": "apps/v1", "kind": kind, "name": "mill"});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": {"scaleTargetRef": target}}))
                .unwrap()
        };
        let mill = json!({"kind": "Deployment", "name": "mill", "uid": "m"});
        let owners = BTreeSet::from([serde_json::from_value(mill).unwrap()]);
        assert_eq!(
            over(vec![scaler("more", "Deployment"), scaler("other", "StatefulSet")], &owners),
            ["more"]
        );
    }
}
