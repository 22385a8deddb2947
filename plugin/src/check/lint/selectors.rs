//! Rules over everything that selects pods by the traffic key, or makes pods behind a Service that does.

use std::sync::Arc;

use kubervisor::api::key;
use kubervisor::cluster::label_selector::Selector;
use kubervisor::cluster::labels::LabelSet;
use serde_json::Value;

use super::Seen;
use super::doors::{Door, TEMPLATE, is_workload, texts};
use crate::check::finding::Finding;
use crate::check::object::Object;
use crate::check::rules::Rule;
use crate::check::validate::Policy;

/// What else selects pods: the kind, where in it the selectors are, and what a cut does to it.
const OTHERS: [(&str, &[&str], &str); 5] = [
    (
        "PodDisruptionBudget",
        &["/spec/selector"],
        "a pod that is cut leaves the budget: it counts as lost, so drains are refused while pods are cut, and the pod itself \
         is not protected",
    ),
    (
        "NetworkPolicy",
        &["/spec/podSelector", "/spec/ingress", "/spec/egress"],
        "a pod that is cut comes under other rules: its open connections, probes or scrapes may be refused, and what was closed \
         may be open",
    ),
    (
        "PodMonitor",
        &["/spec/selector"],
        "a pod that is cut is no longer scraped, and nothing tells when it is well",
    ),
    (
        "ServiceMonitor",
        &["/spec/selector"],
        "it selects Services by their labels, and kubervisor/traffic is a label of pods",
    ),
    (
        "VMPodScrape",
        &["/spec/selector"],
        "a pod that is cut is no longer scraped, and nothing tells when it is well",
    ),
];

/// Looks at all of them.
pub fn lint(seen: Seen<'_>, findings: &mut Vec<Finding>) {
    for object in seen.objects {
        if is_workload(object) {
            workload(object, seen, findings);
        } else {
            findings.extend(other(object));
        }
        if object.is("monitoring.coreos.com", "ServiceMonitor") {
            findings.extend(monitor(object, seen));
        }
    }
    for door in seen.doors.all() {
        service(door, seen, findings);
    }
}

fn workload(object: &Object, seen: Seen<'_>, findings: &mut Vec<Finding>) {
    if object.value.pointer("/spec/selector").is_some_and(names_key) {
        let reason = "a pod that is cut leaves its workload and is replaced at once";
        findings.push(Finding::of(Rule::KeyInWorkloadSelector, object, reason).at("spec.selector"));
    }
    let gate = seen.doors.before(object).find(|door| door.key);
    let label = object.value.pointer(TEMPLATE).and_then(|labels| labels.get(key::TRAFFIC));
    // Without its quotes it has a finding of its own.
    let serves = label.is_some_and(|label| label == key::YES || label == true);
    if let Some(door) = gate.filter(|_| !serves) {
        let now = label.map(|label| format!(" (it is {label})")).unwrap_or_default();
        let reason = format!(
            "new pods lack kubervisor/traffic: \"yes\"{now}, and Service {} selects by it: they get no traffic until the \
             controller labels them",
            door.service.name
        );
        findings
            .push(Finding::of(Rule::TemplateLacksLabel, object, reason).at("spec.template.metadata.labels"));
    }
    if object.kind == "StatefulSet" {
        findings.extend(governed(object, seen));
    }
}

/// The KubervisorService over the Service that gives a StatefulSet's pods their names.
fn governed(object: &Object, seen: Seen<'_>) -> Option<Finding> {
    let name = object.value.pointer("/spec/serviceName").and_then(Value::as_str)?;
    let allows = |policy: &&&Policy<'_>| {
        policy.object.value.pointer("/spec/allowGoverningService").is_some_and(|allowed| allowed == true)
    };
    let policy = seen.doors.policies(&object.namespace, name).iter().find(|policy| !allows(policy))?;
    let reason = format!("Service {name} governs {} and gives its pods their names", object.subject());
    Some(Finding::of(Rule::GoverningService, policy.object, reason).at("spec.service"))
}

fn service(door: &Door<'_>, seen: Seen<'_>, findings: &mut Vec<Finding>) {
    let object = door.service;
    let named = |door: &Door<'_>| !seen.doors.policies(&object.namespace, &door.service.name).is_empty();
    if !door.key || named(door) {
        return;
    }
    // It is another door to pods that are looked after.
    let twin = seen.doors.near(&object.namespace).filter(|other| named(other)).find(|other| {
        let same = |workload: &&Object| door.behind.iter().any(|own| std::ptr::eq(*own, *workload));
        other.selector == door.selector || other.behind.iter().any(same)
    });
    findings.push(match twin {
        Some(twin) => {
            let reason = format!(
                "it selects the pods of Service {} by kubervisor/traffic too: a pod that is cut there leaves this one as well, \
                 and none is cut that is its last",
                twin.service.name
            );
            Finding::of(Rule::KeyInOtherSelector, object, reason).at("spec.selector")
        }
        None => {
            let reason = "it selects by kubervisor/traffic and no KubervisorService here names it: pods without the label are dark";
            Finding::of(Rule::KeyWithoutOwner, object, reason).at("spec.selector")
        }
    });
}

fn other(object: &Object) -> Option<Finding> {
    let (_, pointers, effect) = OTHERS.iter().find(|(kind, ..)| object.kind == *kind)?;
    let pointer = pointers.iter().find(|pointer| object.value.pointer(pointer).is_some_and(names_key))?;
    let field = pointer.trim_start_matches('/').replace('/', ".");
    Some(Finding::of(Rule::KeyInOtherSelector, object, *effect).at(field))
}

/// Whether a selector anywhere in it names the traffic key.
fn names_key(value: &Value) -> bool {
    match value {
        Value::Object(map) => {
            map.contains_key(key::TRAFFIC)
                || map.get("key").is_some_and(|key| key == key::TRAFFIC)
                || map.values().any(names_key)
        }
        Value::Array(items) => items.iter().any(names_key),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A ServiceMonitor finds its targets in the EndpointSlices of a Service: what is cut is no target any more.
fn monitor(object: &Object, seen: Seen<'_>) -> Option<Finding> {
    let raw = object.value.pointer("/spec/selector")?;
    let selector = Selector::read(serde_json::from_value(raw.clone()).ok()?);
    let namespaces = object.value.pointer("/spec/namespaceSelector");
    let any = namespaces.is_some_and(|within| within["any"] == true);
    let named = namespaces.and_then(|within| within["matchNames"].as_array());
    let within = |service: &Object| match named {
        _ if any => true,
        Some(names) => names.iter().any(|name| *name == service.namespace),
        None => service.namespace == object.namespace,
    };
    let scraped = |door: &&Door<'_>| {
        let mut labels: Vec<(Arc<str>, Arc<str>)> = texts(&door.service.value, "/metadata/labels")
            .into_iter()
            .map(|(key, value)| (Arc::from(key), Arc::from(value)))
            .collect();
        labels.sort();
        let labels: LabelSet = labels.into();
        door.key && within(door.service) && selector.may_match(&labels)
    };
    let service = seen.doors.all().iter().find(scraped)?.service;
    let reason = format!(
        "it scrapes through {}, whose selector holds kubervisor/traffic: a pod that is cut is no longer scraped, and nothing \
         tells when it is well",
        service.subject()
    );
    Some(Finding::of(Rule::MetricsFollowTraffic, object, reason).at("spec.selector"))
}

#[cfg(test)]
mod tests {
    use crate::check::testing::{checked, rules};

    const SHOP: &str = "
apiVersion: kubervisor.k8s.io/v1alpha1
kind: KubervisorService
metadata: {name: checkout, namespace: shop}
spec:
  service: checkout
  breakers: [{name: b, minPodsAvailableRatio: 50, customService: 'judge.shop:80/'}]
---
apiVersion: v1
kind: Service
metadata: {name: checkout, namespace: shop, labels: {app: checkout}}
spec: {selector: {app: checkout, kubervisor/traffic: 'yes'}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: checkout, namespace: shop}
spec:
  selector: {matchLabels: {app: checkout}}
  template: {metadata: {labels: {app: checkout, kubervisor/traffic: 'yes'}}}
";

    /// What is found in the shop with one more object of its namespace.
    fn with(api: &str, kind: &str, spec: &str) -> Vec<&'static str> {
        rules(&format!(
            "{SHOP}---\napiVersion: {api}\nkind: {kind}\nmetadata: {{name: more, namespace: shop}}\nspec: {spec}\n"
        ))
    }

    #[test]
    fn a_good_shop_breaks_no_rule() {
        assert_eq!(rules(SHOP), [""; 0]);
    }

    #[test]
    fn key_in_workload_selector() {
        let labels = SHOP.replace(
            "matchLabels: {app: checkout}",
            "matchLabels: {app: checkout, kubervisor/traffic: 'yes'}",
        );
        assert_eq!(rules(&labels), ["key-in-workload-selector"]);
        let expression = "matchExpressions: [{key: kubervisor/traffic, operator: Exists}]";
        assert_eq!(
            rules(&SHOP.replace("matchLabels: {app: checkout}", expression)),
            ["key-in-workload-selector"]
        );
    }

    #[test]
    fn key_in_other_selector() {
        let key = "{matchLabels: {app: checkout, kubervisor/traffic: 'yes'}}";
        for (api, kind, spec) in [
            ("policy/v1", "PodDisruptionBudget", format!("{{minAvailable: 1, selector: {key}}}")),
            ("networking.k8s.io/v1", "NetworkPolicy", format!("{{podSelector: {key}}}")),
            (
                "networking.k8s.io/v1",
                "NetworkPolicy",
                format!("{{podSelector: {{}}, ingress: [{{from: [{{podSelector: {key}}}]}}]}}"),
            ),
            ("monitoring.coreos.com/v1", "PodMonitor", format!("{{selector: {key}}}")),
            ("monitoring.coreos.com/v1", "ServiceMonitor", format!("{{selector: {key}}}")),
            ("v1", "Service", "{selector: {app: checkout, kubervisor/traffic: 'yes'}}".to_owned()),
        ] {
            let found = with(api, kind, &spec);
            assert!(found.contains(&"key-in-other-selector"), "{kind}: {found:?}");
            assert_eq!(
                with(api, kind, &spec.replace(", kubervisor/traffic: 'yes'", "")).len(),
                usize::from(kind == "ServiceMonitor"),
                "{kind}"
            );
        }
    }

    #[test]
    fn template_lacks_label() {
        let without =
            SHOP.replace("labels: {app: checkout, kubervisor/traffic: 'yes'}", "labels: {app: checkout}");
        assert_eq!(rules(&without), ["template-lacks-label"]);
        let other = SHOP.replace(
            "labels: {app: checkout, kubervisor/traffic: 'yes'}",
            "labels: {app: checkout, kubervisor/traffic: 'no'}",
        );
        assert!(checked(&other).findings[0].reason.contains("(it is \"no\")"));
        assert_eq!(
            rules(&without.replace(
                "selector: {app: checkout, kubervisor/traffic: 'yes'}",
                "selector: {app: pear, kubervisor/traffic: 'yes'}"
            )),
            [""; 0]
        );
    }

    #[test]
    fn key_without_owner() {
        assert_eq!(
            with("v1", "Service", "{selector: {app: basket, kubervisor/traffic: 'yes'}}"),
            ["key-without-owner"]
        );
        assert_eq!(with("v1", "Service", "{selector: {app: basket}}"), [""; 0]);
    }

    #[test]
    fn governing_service() {
        let stateful = SHOP
            .replace("kind: Deployment", "kind: StatefulSet")
            .replace("  template:", "  serviceName: checkout\n  template:");
        assert_eq!(rules(&stateful), ["governing-service"]);
        assert_eq!(rules(&stateful.replace("serviceName: checkout", "serviceName: peers")), [""; 0]);
        let allowed =
            stateful.replace("  service: checkout", "  service: checkout\n  allowGoverningService: true");
        assert_eq!(rules(&allowed), [""; 0]);
    }

    #[test]
    fn metrics_follow_traffic() {
        let monitor = |spec| with("monitoring.coreos.com/v1", "ServiceMonitor", spec);
        assert_eq!(monitor("{selector: {matchLabels: {app: checkout}}}"), ["metrics-follow-traffic"]);
        assert_eq!(monitor("{selector: {matchLabels: {app: basket}}}"), [""; 0]);
        assert_eq!(monitor("{selector: {}, namespaceSelector: {matchNames: [bank]}}"), [""; 0]);
    }

    #[test]
    fn unquoted_yes() {
        for plain in ["yes", "Yes", "on"] {
            let found = rules(&SHOP.replace(
                "labels: {app: checkout, kubervisor/traffic: 'yes'}",
                &format!("labels: {{app: checkout, kubervisor/traffic: {plain}}}"),
            ));
            assert!(found.contains(&"unquoted-yes"), "{plain}: {found:?}");
        }
        let shown = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  a: |\n    kubervisor/traffic: yes\n";
        assert_eq!(rules(shown), [""; 0]);
    }
}
