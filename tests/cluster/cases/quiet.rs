//! Nothing changes, nothing is written.

use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kubervisor::api::KubervisorService;
use serde_json::{Value, json};

use crate::harness::{Controller, FakeSource, Shop, counts, custom_breaker, discrete_breaker, eventually};

/// Services beside each other, with two pods each.
const SERVICES: usize = 50;
/// Nothing may be written for this long.
const QUIET: Duration = Duration::from_mins(1);
/// A status counts as settled when nothing was written for this long: counts go out once a minute at most.
const SETTLED: Duration = Duration::from_secs(62);

#[tokio::test(flavor = "multi_thread")]
async fn fifty_services_in_which_nothing_changes_cause_no_write_for_a_minute() {
    let shop = Shop::open("quiet", 2).await;
    let source = FakeSource::start(&shop.namespace).await;
    let pods: Vec<String> =
        (0..SERVICES).flat_map(|i| (0..2).map(move |p| format!("stall-{i}-{p}"))).collect();
    source.answer(crate::harness::Fake::Counts(counts(pods.iter().map(String::as_str), &[])));
    for i in 0..SERVICES {
        build_stall(&shop, &source, i).await;
    }
    let _controller = Controller::ready(&shop.controller()).await;
    let running = || async {
        let list = resources(&shop).list(&Default::default()).await.unwrap();
        list.items.iter().filter(|k| k.status.as_ref().is_some_and(|s| s.state.is_some())).count() == SERVICES
    };
    eventually("every status is written", Duration::from_mins(2), running).await;
    let last_write =
        || async { shop.writes_by("controller", Timestamp::UNIX_EPOCH).await.last().map(|w| w.time) };
    let settled = || async {
        last_write().await.is_some_and(|at| Timestamp::now().duration_since(at).unsigned_abs() > SETTLED)
    };
    eventually("nothing is left to tell", Duration::from_mins(4), settled).await;
    let (asked, since) = (source.answers(), Timestamp::now());
    tokio::time::sleep(QUIET).await;
    let writes = shop.writes_by("controller", since).await;
    assert!(writes.is_empty(), "written although nothing changed: {writes:?}");
    let answers = source.answers() - asked;
    println!("{answers} answers and 0 writes in {} s for {SERVICES} services", QUIET.as_secs());
    assert!(answers > 12, "it was evaluating all the while");
}

fn resources(shop: &Shop) -> Api<KubervisorService> {
    Api::namespaced(shop.client.clone(), &shop.namespace)
}

/// A Service, its two pods and its KubervisorService. Every second one asks the custom service.
async fn build_stall(shop: &Shop, source: &FakeSource, i: usize) {
    let name = format!("stall-{i}");
    let labels = json!({"stall": name, "kubervisor/traffic": "yes"});
    for p in 0..2 {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("{name}-{p}"), "labels": labels},
            "spec": {"nodeName": localcluster::KWOK_NODE, "automountServiceAccountToken": false,
                "containers": [{"name": "stall", "image": "none"}]},
        });
        shop.pods_api().create(&PostParams::default(), &read(pod)).await.unwrap();
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": labels, "ports": [{"port": 80}]}});
    shop.services().create(&PostParams::default(), &read(service)).await.unwrap();
    let mut breaker = if i.is_multiple_of(2) {
        custom_breaker("named", source)
    } else {
        discrete_breaker("errors", source)
    };
    breaker["evaluationPeriod"] = json!(5);
    let resource = json!({
        "apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService", "metadata": {"name": name},
        "spec": {"service": name, "breakers": [breaker]},
    });
    let params = PatchParams::apply("test");
    resources(shop).patch(&name, &params, &Patch::Apply(&resource)).await.unwrap();
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}
