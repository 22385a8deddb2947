//! What people are told of beside the acts: read back through the API.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use localcluster::{KWOK_NODE, NODE};
use serde_json::{Value, json};

use crate::harness::{Controller, Fake, FakeSource, SOON, Shop, counts, discrete_breaker, eventually};

/// A cut pod's silence is a finding only after this long.
const SILENCE: Duration = Duration::from_mins(1);

/// Nothing but the floor limits the cuts, which last longer than the test.
fn spec(source: &FakeSource) -> Value {
    json!({
        "limits": {"maxCutRatio": 100, "maxCutsPerPeriod": "100%"}, "defaultActivator": {"period": "4m"},
        "breakers": [discrete_breaker("errors", source)],
    })
}

/// Kinds of the objects that Events of this reason are about.
async fn regarding(shop: &Shop, reason: &str) -> BTreeSet<String> {
    let api: Api<Event> = Api::namespaced(shop.client.clone(), &shop.namespace);
    let events = api.list(&ListParams::default()).await.unwrap().items.into_iter();
    let ours = events.filter(|event| event.reason.as_deref() == Some(reason));
    ours.filter_map(|event| event.regarding?.kind).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_pod_that_still_gets_traffic_and_one_that_nobody_sees_any_more_are_told_of() {
    let shop = Shop::open("leaking", 0).await;
    let pods = shop.bare_pods(5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    source.errors_of(pods.iter().map(String::as_str), &["pear-0", "pear-1"]);
    shop.govern(spec(&source)).await;
    shop.cut_are(&["pear-0", "pear-1"]).await;
    shop.told("CutIneffective", "still sees 200 events of it although it is cut").await;
    let both = ["KubervisorService".to_owned(), "Pod".to_owned()].into();
    let told = || async { regarding(&shop, "CutIneffective").await == both };
    eventually("it is told of both", SOON, told).await;
    let counted = controller.metric("kubervisor_ineffective_cuts_total", &[&shop.namespace]).await;
    assert!(counted >= 1.0, "{counted}");
    // As where the scrape goes through the gated Service.
    source.answer(Fake::Counts(counts(pods[1..].iter().map(String::as_str), &["pear-1"])));
    let lost = || async {
        let events = shop.events().await;
        events.iter().any(|(reason, note)| reason == "MetricsFollowTraffic" && note.contains("pear-0"))
    };
    eventually("the lost one is named", SILENCE + SOON, lost).await;
    shop.told("MetricsFollowTraffic", "scrape the pods (PodMonitor) and not through the Service").await;
}

/// A pod of this revision, on this node of this zone.
async fn planted(shop: &Shop, name: &str, [revision, node, zone]: [&str; 3]) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {
            "app": "pears", "kubervisor/traffic": "yes",
            "pod-template-hash": revision, "topology.kubernetes.io/zone": zone,
        }},
        "spec": {"nodeName": node, "automountServiceAccountToken": false,
            "containers": [{"name": "shop", "image": "none"}]},
    });
    let pod = serde_json::from_value(pod).unwrap();
    shop.pods_api().create(&PostParams::default(), &pod).await.unwrap();
    if node == NODE {
        // Nobody plays the kubelet there.
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": Timestamp::now()});
        let address = json!([{"ip": "10.1.2.3"}]);
        let status =
            json!({"phase": "Running", "conditions": [ready], "podIP": "10.1.2.3", "podIPs": address});
        let patch = Patch::Strategic(json!({ "status": status }));
        shop.pods_api().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_bad_pods_share_is_named_revision_node_and_zone() {
    let shop = Shop::open("suspects", 0).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    for name in ["pear-0", "pear-1", "pear-2"] {
        planted(&shop, name, ["of-may", KWOK_NODE, "east"]).await;
    }
    for name in ["pear-3", "pear-4"] {
        planted(&shop, name, ["of-june", NODE, "west"]).await;
    }
    shop.serves(5).await;
    let all: Vec<_> = shop.pods().await.into_values().map(|pod| pod.name_any()).collect();
    source.errors_of(all.iter().map(String::as_str), &["pear-3", "pear-4"]);
    shop.govern(spec(&source)).await;
    shop.told("SuspectRevision", "2 anomalous pods, and no healthy one, share revision of-june").await;
    shop.told("SuspectNode", &format!("share node {NODE}")).await;
    shop.told("SuspectZone", "share zone west").await;
    assert_eq!(regarding(&shop, "SuspectZone").await, ["KubervisorService".to_owned()].into());
    let words = shop.events().await;
    assert!(!words.iter().any(|(_, note)| note.contains("of-may") || note.contains("east")), "{words:?}");
}
