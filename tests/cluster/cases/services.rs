//! Services that come, change and go.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::harness::trace::{PodWrite, Step};
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually, throughout};

/// A shop with one pod cut for longer than the test.
async fn with_one_cut(prefix: &str) -> (Shop, FakeSource, Controller, String) {
    let shop = Shop::open(prefix, 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[1].clone();
    source.name_bad([bad.as_str()]);
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": "4m"});
    shop.govern(json!({"breakers": [breaker]})).await;
    shop.cut_are(&[&bad]).await;
    (shop, source, controller, bad)
}

async fn all_open(shop: &Shop) {
    eventually("no pod is held", SOON, || async { shop.labelled("no").await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_service_is_told_and_its_coming_starts_the_work() {
    let shop = Shop::open("missing", 3).await;
    let source = FakeSource::start(&shop.namespace).await;
    shop.services().delete("pears", &DeleteParams::default()).await.unwrap();
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    shop.state_is("ServiceNotAvailable").await;
    shop.becomes("ServiceNotAvailable", "True").await;
    shop.told("ServiceNotAvailable", "the Service does not exist").await;
    shop.create_service("pears", &json!({"app": "pears", "kubervisor/traffic": "yes"})).await;
    shop.state_is("Running").await;
    shop.becomes("ServiceNotAvailable", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_no_longer_reaches_a_cut_pod_frees_it() {
    let (shop, _source, _controller, _bad) = with_one_cut("moved").await;
    shop.select(&json!({"app": "plums", "kubervisor/traffic": "yes"})).await;
    all_open(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_taken_out_of_the_selector_ends_every_cut_and_put_back_starts_again() {
    let (shop, _source, _controller, bad) = with_one_cut("ungated").await;
    shop.select(&json!({"app": "pears"})).await;
    all_open(&shop).await;
    shop.state_is("NotActivated").await;
    shop.becomes("Activated", "False").await;
    shop.select(&json!({"app": "pears", "kubervisor/traffic": "yes"})).await;
    shop.cut_are(&[&bad]).await;
    shop.told("Deactivated", "no longer holds").await;
    shop.told("Activated", "cuts work").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_removed_by_a_gitops_tool_ends_every_cut_and_put_back_darkens_nobody_but_the_bad_one() {
    let (shop, source, _controller, bad) = with_one_cut("gitops").await;
    // The selector is one field to the server: a forced apply takes out what is not in the tool's file.
    let in_git = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "pears"},
        "spec": {"selector": {"app": "pears"}, "ports": [{"port": 80}]},
    });
    let params = PatchParams::apply("gitops").force();
    shop.services().patch("pears", &params, &Patch::Apply(&in_git)).await.unwrap();
    all_open(&shop).await;
    shop.serves(4).await;
    let answered = source.answers();
    eventually("it is condemned", SOON, || async { source.answers() > answered + 2 }).await;
    assert_eq!(labels(&shop).await, ["yes"; 4], "cut without an effect");
    let (observer, start) = (shop.observer(), std::time::Instant::now());
    eventually("four are seen", SOON, || async { observer.serving().len() == 4 }).await;
    shop.select(&json!({"app": "pears", "kubervisor/traffic": "yes"})).await;
    shop.cut_are(&[&bad]).await;
    eventually("three serve", SOON, || async { observer.serving().len() == 3 }).await;
    assert_eq!(observer.lowest_since(start), 3, "the fewest that served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_value_ends_every_cut_and_the_right_one_starts_again() {
    let (shop, _source, _controller, bad) = with_one_cut("odd-key").await;
    shop.select(&json!({"app": "pears", "kubervisor/traffic": "never"})).await;
    all_open(&shop).await;
    shop.state_is("ServiceNotAvailable").await;
    shop.select(&json!({"app": "pears", "kubervisor/traffic": "yes"})).await;
    shop.cut_are(&[&bad]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_made_again_within_a_minute_keeps_its_cuts_and_one_that_stays_away_frees_them() {
    let (shop, _source, _controller, bad) = with_one_cut("gone").await;
    let service = shop.services().get("pears").await.unwrap();
    shop.services().delete("pears", &DeleteParams::default()).await.unwrap();
    shop.state_is("ServiceNotAvailable").await;
    let selector = json!(service.spec.unwrap().selector);
    shop.create_service("pears", &selector).await;
    shop.state_is("Running").await;
    assert_eq!(shop.labelled("no").await, std::slice::from_ref(&bad));
    shop.services().delete("pears", &DeleteParams::default()).await.unwrap();
    let held = || async { shop.labelled("no").await == [bad.clone()] };
    throughout("it is held for a while", Duration::from_secs(40), held).await;
    all_open(&shop).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_select_nothing_of_their_own_are_refused() {
    let shop = Shop::open("odd-services", 3).await;
    let source = FakeSource::start(&shop.namespace).await;
    source.name_bad(shop.names().await.iter().map(String::as_str));
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(json!({"breakers": [custom_breaker("named", &source)], "limits": {"maxCutRatio": 0}})).await;
    shop.state_is("Running").await;
    for (selector, words) in [
        (json!({"kubervisor/traffic": "yes"}), "every pod of the namespace"),
        (json!({"app": "pears", "kubervisor/traffic": "never"}), "another value"),
    ] {
        shop.select(&selector).await;
        shop.state_is("ServiceNotAvailable").await;
        eventually(words, SOON, || async { shop.condition("ServiceNotAvailable").await.2.contains(words) })
            .await;
    }
    let external = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "abroad"},
        "spec": {"type": "ExternalName", "externalName": "pears.example"},
    });
    let external = serde_json::from_value(external).unwrap();
    shop.services().create(&PostParams::default(), &external).await.unwrap();
    shop.govern(json!({"service": "abroad", "breakers": [custom_breaker("named", &source)]})).await;
    eventually("ExternalName", SOON, || async {
        shop.condition("ServiceNotAvailable").await.2.contains("ExternalName")
    })
    .await;
    assert!(shop.labelled("no").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_born_without_the_label_is_labelled_with_and_without_a_resource() {
    let shop = Shop::open("born", 2).await;
    let _controller = Controller::ready(&shop.controller()).await;
    for name in ["early", "late"] {
        unlabelled(&shop, name).await;
        eventually("it is labelled", SOON, || async {
            shop.labelled("yes").await.contains(&name.to_owned())
        })
        .await;
        let source = FakeSource::start(&shop.namespace).await;
        shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
        shop.becomes("LabelsComplete", "True").await;
    }
}

/// Pods of four kinds in two namespaces, some of each condemned by everybody: in the first, pears and plums have a
/// resource each, figs only a Service with the key, nuts nothing; in the second, nobody has a resource.
#[tokio::test(flavor = "multi_thread")]
async fn every_pod_ever_written_was_selected_by_the_service_of_the_resource_that_wrote_it() {
    let (shop, next_door) = (Shop::open("reach", 0).await, Shop::open("next-door", 0).await);
    let source = FakeSource::start(&shop.namespace).await;
    let kinds = ["pears", "plums", "figs", "nuts"];
    let pods: Vec<_> = kinds.iter().flat_map(|kind| (0..3).map(move |n| format!("{kind}-{n}"))).collect();
    for shop in [&shop, &next_door] {
        for kind in ["plums", "figs"] {
            shop.apply(&json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": kind},
                "spec": {"selector": {"app": kind, "kubervisor/traffic": "yes"}, "ports": [{"port": 80}]},
            }));
        }
        for pod in &pods {
            shop.bare_pod(pod, pod.split('-').next().unwrap()).await;
        }
        shop.serves(3).await;
    }
    unlabelled_of(&shop, "figs-late", "figs").await;
    unlabelled_of(&shop, "nuts-late", "nuts").await;
    let _controller = Controller::ready(&shop.controller_here_and_in(&next_door).await).await;
    // Of those that may be cut, one each: all of them would be a storm.
    let spared = |pod: &str| ["pears-1", "pears-2", "plums-1", "plums-2"].contains(&pod);
    source.name_bad(pods.iter().map(String::as_str).filter(|pod| !spared(pod)));
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] =
        json!({"mode": "retryAndKill", "period": 2, "maxRetryCount": 1, "jitterPercent": 0});
    let spec = |service: &str| json!({"service": service, "breakers": [breaker]});
    shop.govern(spec("pears")).await;
    shop.govern_as("plums", spec("plums")).await;
    let done = || async {
        let writes = shop.pod_writes().await;
        let both = |step| ["pears", "plums"].iter().all(|kind| has(&writes, kind, step));
        both(Step::Cut) && both(Step::Restore) && has(&writes, "figs-late", Step::Label)
    };
    eventually("both have cut and restored", SOON * 2, done).await;
    let writes = shop.pod_writes().await;
    let strange = |w: &&PodWrite| match w.step {
        Step::Label => w.pod != "figs-late",
        Step::Cut | Step::Restore | Step::Pause | Step::Evict | Step::Unread => {
            !(w.pod.starts_with("pears-") || w.pod.starts_with("plums-"))
        }
    };
    assert_eq!(writes.iter().find(strange), None);
    assert_eq!(next_door.pod_writes_by(shop.controller_user()).await, []);
    for record in shop.writes_by(shop.controller_user(), Timestamp::UNIX_EPOCH).await {
        let body = record.request_object.unwrap_or_default();
        let by = body["metadata"]["labels"]["kubervisor/name"].as_str().map(str::to_owned);
        assert!(
            by.is_none_or(|by| record.name.starts_with(&by)),
            "{} was cut by another's: {body}",
            record.name
        );
    }
}

fn has(writes: &[PodWrite], prefix: &str, step: Step) -> bool {
    writes.iter().any(|w| w.accepted() && w.step == step && w.pod.starts_with(prefix))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statefulsets_own_service_is_refused_until_it_is_allowed() {
    let shop = Shop::open("workloads", 3).await;
    let source = FakeSource::start(&shop.namespace).await;
    let bad = shop.names().await;
    source.name_bad([bad[0].as_str()]);
    let _controller = Controller::ready(&shop.controller()).await;
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "press"},
        "spec": {"serviceName": "pears", "replicas": 0, "selector": {"matchLabels": {"app": "press"}},
            "template": {"metadata": {"labels": {"app": "press"}},
                "spec": {"containers": [{"name": "press", "image": "none"}]}}},
    });
    shop.apply(&set);
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    shop.state_is("InitFailed").await;
    let text = shop.condition("InitFailed").await.2;
    assert!(text.contains("governs StatefulSet press"), "{text}");
    let answered = source.answers();
    eventually("it is asked all the same", SOON, || async { source.answers() > answered + 2 }).await;
    assert!(shop.labelled("no").await.is_empty());
    let breakers = json!([custom_breaker("named", &source)]);
    shop.govern(json!({"breakers": breakers, "allowGoverningService": true})).await;
    shop.cut_are(&[&bad[0]]).await;
    shop.becomes("InitFailed", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_that_selects_by_the_key_is_refused_and_cuts_begin_soon_after_it_is_mended() {
    let shop = Shop::open("by-key", 3).await;
    let source = FakeSource::start(&shop.namespace).await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    let labels = json!({"app": "pears", "press": "yes", "kubervisor/traffic": "yes"});
    shop.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "press"},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"nodeName": localcluster::KWOK_NODE, "containers": [{"name": "press", "image": "none"}]}}},
    }));
    shop.serves(4).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    shop.state_is("InitFailed").await;
    let text = shop.condition("InitFailed").await.2;
    assert!(text.contains("press") && text.contains("kubervisor/traffic"), "{text}");
    let answered = source.answers();
    eventually("it is asked all the same", SOON, || async { source.answers() > answered + 2 }).await;
    assert!(shop.labelled("no").await.is_empty());
    shop.deployments().delete("press", &DeleteParams::foreground()).await.unwrap();
    // Half a minute, and the way there and back.
    eventually("it is cut", SOON * 2, || async { shop.labelled("no").await == [bad.clone()] }).await;
    shop.becomes("InitFailed", "False").await;
}

/// The label of each pod, in the order of names; empty where it has none.
async fn labels(shop: &Shop) -> Vec<String> {
    let of = |pod: Pod| pod.labels().get("kubervisor/traffic").cloned().unwrap_or_default();
    shop.pods().await.into_values().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_labelled_before_the_key_is_added_so_that_adding_it_darkens_nobody() {
    let shop = Shop::open("adding", 0).await;
    shop.select(&json!({"app": "pears"})).await;
    for name in ["pear-0", "pear-1", "pear-2"] {
        unlabelled(&shop, name).await;
    }
    shop.serves(3).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    source.name_bad(["pear-1"]);
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    shop.state_is("NotActivated").await;
    eventually("all are labelled", SOON, || async { labels(&shop).await == ["yes"; 3] }).await;
    shop.becomes("LabelsComplete", "True").await;
    let (asked, observer) = (source.answers(), shop.observer());
    eventually("it is condemned", SOON, || async { source.answers() >= asked + 2 }).await;
    assert_eq!(labels(&shop).await, ["yes"; 3], "cut without an effect");
    let start = std::time::Instant::now();
    shop.select(&json!({"app": "pears", "kubervisor/traffic": "yes"})).await;
    shop.cut_are(&["pear-1"]).await;
    assert!(observer.lowest_since(start) >= 2, "more than the one that was cut went dark");
    unlabelled(&shop, "pear-3").await;
    eventually("a later one is labelled", SOON, || async { observer.serving().contains("pear-3") }).await;
}

async fn unlabelled(shop: &Shop, name: &str) {
    unlabelled_of(shop, name, "pears").await;
}

async fn unlabelled_of(shop: &Shop, name: &str, app: &str) {
    shop.bare_pod_labelled(name, &json!({ "app": app })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_selector_governs_nothing_and_its_cut_pods_are_freed() {
    let (shop, _source, _controller, _bad) = with_one_cut("bare").await;
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "by-hand"}, "spec": {"ports": [{"port": 80}]},
    }));
    let spec = shop.resources().get("pears").await.unwrap().spec;
    let mut spec = json!(spec);
    spec["service"] = json!("by-hand");
    shop.govern(spec).await;
    shop.state_is("ServiceNotAvailable").await;
    all_open(&shop).await;
    let writes = shop.pod_writes().await;
    assert_eq!(writes.iter().map(|w| w.step).collect::<Vec<_>>(), [Step::Cut, Step::Restore]);
}
