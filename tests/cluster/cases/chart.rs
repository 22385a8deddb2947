//! The chart, installed by helm, and the shipped binary as its ServiceAccount with nothing else.

use std::collections::BTreeSet;

use http::Method;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use localcluster::{Fault, Rule};
use serde_json::{Value, json};

use super::rights::every_act;
use crate::harness::chart::{Chart, Right};
use crate::harness::trace::Step;
use crate::harness::{Controller, SOON, Shop, eventually, troubled};

#[tokio::test(flavor = "multi_thread")]
async fn installed_for_one_namespace_it_uses_every_right_that_it_asks_for_there_and_no_other() {
    let shop = Shop::open("chart", 9).await;
    let scope = format!("scope.namespaces={{{}}}", shop.namespace);
    uses_every_right(&shop, &[&scope, "crds.install=false"]).await;
}

/// In a cluster of its own: it looks after every namespace.
#[tokio::test(flavor = "multi_thread")]
async fn installed_for_the_cluster_it_uses_every_right_that_it_asks_for_and_no_other() {
    let troubled = troubled().await;
    let shop = Shop::open_in(troubled.cluster, "chart", 9).await;
    let breaker = json!({"name": "named", "customService": "nobody.invalid:80/bad"});
    shop.govern_as("kept", json!({"service": "nobody", "breakers": [breaker]})).await;
    uses_every_right(&shop, &[]).await;
    // With the definition they would all be gone.
    shop.resources().get("kept").await.unwrap();
}

async fn uses_every_right(shop: &Shop, values: &[&str]) {
    // The label is to be written by the controller here.
    let chart = Chart::install(shop, &[values, &["admission.labelPods=false", "lease.duration=3s"]].concat());
    let proxy = shop.proxy().await;
    // What a run in which all goes well has no use for: lists where the server does not stream them, and reads of what
    // became of a write whose answer never came.
    proxy.inject(Rule::new(Fault::Status(422)).query("sendInitialEvents=true"));
    let patch = |fault, path| Rule::new(fault).method(Method::PATCH).path(path);
    proxy.inject(patch(Fault::LoseAnswer, "/status").times(1));
    let controller = Controller::ready(&chart.controller(Some(&proxy.url())).await).await;
    let lost = async {
        // How a label fared is not asked.
        let labelled = async || shop.pod_writes_by(&chart.user).await.iter().any(|w| w.step == Step::Label);
        eventually("a pod is labelled", SOON, labelled).await;
        // More than one: another event of the pod may settle it before the server is asked.
        proxy.inject(patch(Fault::Drop, "/pods/").times(3));
    };
    tokio::join!(every_act(shop, &chart.user), lost);
    drop(controller);
    let granted = chart.granted();
    chart.uninstall().await;
    let used = chart.used().await;
    let sorted = |rights: &BTreeSet<Right>, others: &BTreeSet<Right>| -> Vec<Right> {
        rights.difference(others).cloned().collect()
    };
    let (without_need, in_vain) = (sorted(&granted, &used), sorted(&used, &granted));
    println!(
        "{} rights; granted and not used: {without_need:?}; used and not granted: {in_vain:?}",
        granted.len()
    );
    assert_eq!((without_need, in_vain), (Vec::new(), Vec::new()));
}

/// The chart for the namespace of this shop only.
pub(super) fn installed<'a>(shop: &'a Shop, values: &[&str]) -> Chart<'a> {
    let scope = format!("scope.namespaces={{{}}}", shop.namespace);
    Chart::install(shop, &[&[scope.as_str(), "crds.install=false"], values].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_born_while_no_controller_runs_is_labelled_where_a_service_with_the_key_selects_it_and_only_there()
 {
    let shop = Shop::open("born", 0).await;
    let chart = installed(&shop, &[]);
    if shop.labels_at_birth().await {
        is_labelled_at_birth(&shop).await;
        costs_one_mutation(&shop, &chart).await;
    } else {
        is_labelled_by_the_controller(&shop, &chart).await;
    }
    chart.remove().await;
}

async fn is_labelled_at_birth(shop: &Shop) {
    // The API server learns of a policy by a watch.
    let policy = || async {
        shop.bare_pod_labelled("first", &json!({"app": "pears"})).await;
        let labelled = shop.labelled("yes").await == ["first"];
        shop.delete_pod("first").await;
        labelled
    };
    eventually("the policy acts", SOON, policy).await;
    for (pod, labels) in [
        ("selected", json!({"app": "pears", "more": "yes"})),
        ("stranger", json!({"app": "plums"})),
        ("bare", json!({})),
        ("decided", json!({"app": "pears", "kubervisor/traffic": "no"})),
    ] {
        shop.bare_pod_labelled(pod, &labels).await;
    }
    assert_eq!(shop.labelled("yes").await, ["selected"]);
    assert_eq!(shop.labelled("no").await, ["decided"]);
    shop.serves(1).await;
    // Without the key nothing gates, and with no other key a selector would mean every pod.
    for selector in [json!({"app": "pears"}), json!({"kubervisor/traffic": "yes"})] {
        shop.select(&selector).await;
        let free = || async {
            shop.bare_pod_labelled("next", &json!({"app": "pears"})).await;
            let free = !shop.labelled("yes").await.contains(&"next".to_owned());
            shop.delete_pod("next").await;
            free
        };
        eventually("the policy sees the selector", SOON, free).await;
    }
}

/// A mutation takes milliseconds: one for each Service of a namespace would make births slow for everybody in it.
async fn costs_one_mutation(shop: &Shop, chart: &Chart<'_>) {
    let objects = chart.objects();
    let policy = objects.iter().find(|object| object["kind"] == "MutatingAdmissionPolicy").unwrap();
    let policy = policy["metadata"]["name"].as_str().unwrap();
    let counter = "apiserver_mutating_admission_policy_check_total";
    let mutations = async || shop.server_metric(counter, &[&format!("policy=\"{policy}\"")]).await;
    let with_key = |app: &str| json!({"app": app, "kubervisor/traffic": "yes"});
    for number in 0..40 {
        shop.create_service(&format!("gated-{number}"), &with_key("grapes")).await;
        shop.create_service(&format!("open-{number}"), &json!({"app": "quinces"})).await;
    }
    // A watch is in order: where the last one is seen the others are.
    shop.create_service("last", &with_key("last")).await;
    let seen = || async {
        shop.bare_pod_labelled("last", &json!({"app": "last"})).await;
        let labelled = shop.labelled("yes").await.contains(&"last".to_owned());
        shop.delete_pod("last").await;
        labelled
    };
    eventually("the policy sees every Service", SOON, seen).await;
    // Of one Service, of forty, and of none with the key.
    for (app, cost) in [("last", 1.0), ("grapes", 1.0), ("quinces", 0.0)] {
        let before = mutations().await;
        assert!(before > 0.0);
        shop.bare_pod_labelled(&format!("counted-{app}"), &json!({"app": app})).await;
        assert_eq!((app, mutations().await - before), (app, cost));
    }
}

/// As before 1.36: the chart asks for nothing that is not served, and the template is spoken of.
async fn is_labelled_by_the_controller(shop: &Shop, chart: &Chart<'_>) {
    let kinds = chart.objects();
    let kinds: Vec<_> = kinds.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert!(kinds.contains(&"ValidatingAdmissionPolicy"), "{kinds:?}");
    assert!(!kinds.iter().any(|kind| kind.starts_with("Mutating")), "{kinds:?}");
    shop.bare_pod_labelled("first", &json!({"app": "pears"})).await;
    assert!(shop.labelled("yes").await.is_empty());
    let bare = json!({"spec": {
        "replicas": 1, "template": {"metadata": {"labels": {"kubervisor/traffic": null}}},
    }});
    shop.deployments().patch("pears", &PatchParams::default(), &Patch::Merge(bare)).await.unwrap();
    eventually("there is a pod of it", SOON, || async { shop.pods().await.len() == 2 }).await;
    shop.govern(json!({"breakers": [{"name": "named", "customService": "nobody.invalid:80/bad"}]})).await;
    let _controller = Controller::ready(&chart.controller(None).await).await;
    shop.becomes("TemplateLabelMissing", "True").await;
    shop.serves(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_would_darken_pods_is_refused_or_told_of_as_the_values_say() {
    let shop = Shop::open("dark", 0).await;
    shop.govern(json!({"breakers": [{"name": "named", "customService": "nobody.invalid:80/bad"}]})).await;
    let chart = installed(&shop, &["admission.keyNeedsLabels=Deny"]);
    let services: Api<Service> = shop.services();
    let with_key = async |key: Value| {
        let patch = json!({"spec": {"selector": {"app": "pears", "kubervisor/traffic": key}}});
        let answer = services.patch("pears", &PatchParams::default(), &Patch::Merge(patch)).await;
        answer.map(|service| service.name_any()).map_err(|error| error.to_string())
    };
    let refused = || async {
        with_key(Value::Null).await.unwrap();
        with_key(json!("yes")).await.is_err()
    };
    eventually("the policy acts", SOON, refused).await;
    let said = with_key(json!("yes")).await.unwrap_err();
    assert!(said.contains("LabelsComplete") && said.contains("kubectl kubervisor activate"), "{said}");
    // A controller that runs finds every pod labelled.
    let _controller = Controller::ready(&chart.controller(None).await).await;
    shop.becomes("LabelsComplete", "True").await;
    let accepted = || async { with_key(json!("yes")).await.is_ok() };
    eventually("the policy sees the status", SOON, accepted).await;
    chart.remove().await;
}
