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
/// Statuses count as settled after this long: counts go out a minute after the first at the latest.
const SETTLED: Duration = Duration::from_secs(90);

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
    // Two answers in five seconds, for all services together.
    let until = source.answers() + 2 * usize::try_from(SETTLED.as_secs()).unwrap() / 5;
    eventually("nothing is left to tell", Duration::from_mins(4), || async { source.answers() >= until })
        .await;
    let (asked, since) = (source.answers(), Timestamp::now());
    tokio::time::sleep(QUIET).await;
    let mut writes = shop.writes_by(shop.controller_user(), since).await;
    // One small object for the whole controller, five times in its duration of 15 s.
    let renewals = writes.extract_if(.., |write| write.resource == "leases").count();
    assert!((15..=25).contains(&renewals), "{renewals} renewals of the Lease");
    assert!(writes.is_empty(), "written although nothing changed: {writes:?}");
    let reads = reads(&shop, since);
    assert!(reads.iter().all(|(verb, _)| verb == "watch"), "asked although nothing changed: {reads:?}");
    let answers = source.answers() - asked;
    println!(
        "{answers} answers, 0 writes and {} watches renewed in {} s for {SERVICES} services",
        reads.len(),
        QUIET.as_secs()
    );
    assert!(answers > 12, "it was evaluating all the while");
}

/// Verb and resource of everything that was asked in the namespace, but for the Lease.
fn reads(shop: &Shop, since: Timestamp) -> Vec<(String, String)> {
    let records = shop.cluster.audit().within(&shop.namespace).all_by(shop.controller_user(), since).unwrap();
    let others = records.into_iter().filter(|record| record.resource != "leases");
    others.map(|record| (record.verb, record.resource)).collect()
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
