//! The brake over all services together.

use std::time::Duration;

use kube::api::{Patch, PatchParams, PostParams};
use localcluster::KWOK_NODE;
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted};
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually, throughout};

/// Services with four pods each, of which one is bad: none passes a limit of its own.
const SERVICES: usize = 9;
/// A tenth of the 36 members is less, and less than five are not meant.
const ALLOWED: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn many_small_services_that_go_bad_at_once_lose_no_more_pods_than_the_brake_allows_and_each_says_so() {
    let shop = Shop::open("brake", 0).await;
    let source = FakeSource::start(&shop.namespace).await;
    for i in 0..SERVICES {
        build_stall(&shop, &source, i).await;
    }
    let mut args = shop.controller();
    args.args.retain(|arg| !arg.starts_with("--max-cuts-per-minute"));
    let controller = Controller::ready(&args).await;
    let running =
        || async { states(&shop).await.iter().filter(|state| *state == "Running").count() == SERVICES };
    eventually("all are looked after", SOON, running).await;
    let bad: Vec<String> = (0..SERVICES).map(|i| format!("stall-{i}-0")).collect();
    source.name_bad(bad.iter().map(String::as_str));
    eventually("as many are cut as may be", SOON, || async { shop.labelled("no").await.len() == ALLOWED })
        .await;
    let held = || async { states(&shop).await.iter().filter(|state| *state == "Held").count() == SERVICES };
    eventually("every service says that it is held", SOON, held).await;
    let no_more = || async { accepted(&shop.pod_writes().await, Step::Cut) == ALLOWED };
    throughout("nobody else is cut", Duration::from_secs(10), no_more).await;
    let refused = ["reason=\"ClusterStorm\"", &shop.namespace];
    assert!(controller.metric("kubervisor_refusals_total", &refused).await >= 4.0);
    let gates = ["gate=\"ClusterStorm\"", &shop.namespace];
    assert!((controller.metric("kubervisor_held", &gates).await - 9.0).abs() < 0.1);
    shop.told("Held", "more than 5 cuts within a minute were wanted over all services").await;
    // A return is never held.
    source.name_bad([]);
    shop.cut_are(&[]).await;
}

async fn states(shop: &Shop) -> Vec<String> {
    let list = shop.resources().list(&Default::default()).await.unwrap();
    let state = |status: Value| status["state"].as_str().unwrap_or_default().to_owned();
    list.items.into_iter().map(|object| state(json!(object.status))).collect()
}

/// A Service, its pods and its KubervisorService.
async fn build_stall(shop: &Shop, source: &FakeSource, i: usize) {
    let name = format!("stall-{i}");
    let labels = json!({"stall": name, "kubervisor/traffic": "yes"});
    for p in 0..4 {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-{p}"), "labels": labels},
            "spec": {"nodeName": KWOK_NODE, "automountServiceAccountToken": false,
                "containers": [{"name": "stall", "image": "none"}]},
        });
        let pod = serde_json::from_value(pod).unwrap();
        shop.pods_api().create(&PostParams::default(), &pod).await.unwrap();
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": labels, "ports": [{"port": 80}]}});
    let service = serde_json::from_value(service).unwrap();
    shop.services().create(&PostParams::default(), &service).await.unwrap();
    let resource = json!({
        "apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService", "metadata": {"name": name},
        "spec": {"service": name, "breakers": [custom_breaker("named", source)]},
    });
    shop.resources().patch(&name, &PatchParams::apply("test"), &Patch::Apply(&resource)).await.unwrap();
}
