//! People's hands on labels, and what the original left on pods.

use serde_json::{Value, json};

use crate::harness::trace::Step;
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually, throughout};

/// A shop whose custom service condemns the first pod, which is cut.
async fn with_one_cut(prefix: &str) -> (Shop, FakeSource, Controller, String) {
    let shop = Shop::open(prefix, 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": 20});
    shop.govern(json!({"breakers": [breaker]})).await;
    shop.cut_are(&[&bad]).await;
    (shop, source, controller, bad)
}

fn marks(pod: &k8s_openapi::api::core::v1::Pod) -> Value {
    json!({"labels": pod.metadata.labels, "annotations": pod.metadata.annotations})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_opens_a_cut_pod_is_obeyed_for_a_period_and_the_marks_are_tidied() {
    let (shop, source, _controller, bad) = with_one_cut("opened").await;
    shop.mark(&bad, json!({"kubervisor/traffic": "yes"}), json!({})).await;
    let tidy = || async {
        let marks = marks(&shop.pods().await[&bad]).to_string();
        !marks.contains("breaker/breakAt") && !marks.contains("kubervisor/name")
    };
    eventually("our marks are gone", SOON, tidy).await;
    let answered = source.answers();
    let quiet = || async { shop.labelled("no").await.is_empty() };
    throughout("it stays open", std::time::Duration::from_secs(8), quiet).await;
    assert!(source.answers() > answered + 3, "it was condemned all the while");
    eventually("after the period it is cut again", SOON, || async { !shop.labelled("no").await.is_empty() })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_by_hand_and_a_label_taken_away_are_never_undone() {
    let (shop, _source, _controller, bad) = with_one_cut("byhand").await;
    let others: Vec<_> = shop.names().await.into_iter().filter(|name| *name != bad).collect();
    shop.mark(&others[0], json!({"kubervisor/traffic": "no"}), json!({})).await;
    shop.mark(&others[1], json!({"kubervisor/traffic": null}), json!({})).await;
    // The timed cut of the first pod ends and comes again meanwhile: ticks and restores do run.
    let kept = || async {
        let pods = shop.pods().await;
        let label =
            |name: &String| pods[name].metadata.labels.as_ref().unwrap().get("kubervisor/traffic").cloned();
        label(&others[0]).as_deref() == Some("no") && label(&others[1]).is_none()
    };
    throughout("both stay as the person left them", std::time::Duration::from_secs(30), kept).await;
    let rows = shop.status().await["cut"].to_string();
    assert!(rows.contains("cut by hand"), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_an_odd_label_is_left_alone_and_the_others_go_on() {
    let (shop, source, _controller, bad) = with_one_cut("odd").await;
    let others: Vec<_> = shop.names().await.into_iter().filter(|name| *name != bad).collect();
    shop.mark(&others[0], json!({"kubervisor/traffic": "maybe"}), json!({})).await;
    // Two of four are out now; one more cut is within nobody's limit, so the first has to come back for it.
    source.name_bad([others[0].as_str(), others[1].as_str()]);
    shop.cut_are(&[&others[1]]).await;
    let odd = shop.pods().await.remove(&others[0]).unwrap();
    assert_eq!(odd.metadata.labels.unwrap()["kubervisor/traffic"], "maybe");
    eventually("it is counted as unknown", SOON * 3, || async {
        shop.status().await["podCount"]["nbPodsUnknown"] == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_the_original_left_half_broken_come_back_in_bounded_time() {
    let shop = Shop::open("original", 5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let names = shop.names().await;
    let cut = json!({"kubervisor/traffic": "no"});
    let named =
        json!({"kubervisor/traffic": "no", "kubervisor/name": "pears", "kubervisor/strategy": "named"});
    shop.mark(
        &names[0],
        cut.clone(),
        json!({"breaker/breakAt": "2018-09-12T08:00:00Z", "breaker/retryCount": "2"}),
    )
    .await;
    shop.mark(&names[1], cut.clone(), json!({"breaker/breakAt": "yesterday"})).await;
    shop.mark(
        &names[2],
        named,
        json!({"breaker/breakAt": "2099-01-01T00:00:00Z", "breaker/retryCount": "x"}),
    )
    .await;
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": 2, "maxRetryCount": 1});
    // Before the controller looks: it frees a pod whose mark names a resource that is not there.
    shop.govern(json!({"breakers": [breaker]})).await;
    let _controller = Controller::ready(&shop.controller()).await;
    // The garbage and the overdue one at once; the one from the future within the longest cut, 300 s: it is ended by
    // deleting the resource, which must free it too.
    shop.cut_are(&[&names[2]]).await;
    shop.delete_resource().await;
    eventually("the third is freed", SOON, || async { shop.labelled("no").await.is_empty() }).await;
    let first = shop.pods().await.remove(&names[0]).unwrap().metadata.annotations.unwrap();
    assert_eq!(first["breaker/retryCount"], "2", "its strikes are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_the_original_cut_for_nobody_known_is_freed_although_another_resource_is_there() {
    let (shop, _source, _controller, _bad) = with_one_cut("nobodys").await;
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "plums"},
        "spec": {"selector": {"app": "plums", "kubervisor/traffic": "yes"}, "ports": [{"port": 80}]},
    }));
    shop.bare_pod("plum-0", "plums").await;
    let breaks = json!({"breaker/breakAt": "2018-09-12T08:00:00Z"});
    shop.mark("plum-0", json!({"kubervisor/traffic": "no"}), breaks).await;
    let freed = || async { shop.mark_of("plum-0", "kubervisor/traffic").await.as_deref() == Some("yes") };
    eventually("it is freed", SOON, freed).await;
    let steps: Vec<_> = shop.pod_writes().await.into_iter().map(|w| (w.pod, w.step)).collect();
    assert!(steps.contains(&("plum-0".to_owned(), Step::Restore)), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_left_on_serving_and_paused_pods_changes_nothing_and_a_bad_one_is_cut() {
    let shop = Shop::open("left-over", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let names = shop.names().await;
    let left = json!({"breaker/breakAt": "2018-09-12T08:00:00Z", "breaker/retryCount": "1"});
    // It never took breakAt away at a restore, and it paused without a word.
    shop.mark(&names[0], json!({}), left.clone()).await;
    shop.mark(&names[1], json!({}), left.clone()).await;
    shop.mark(&names[3], json!({"kubervisor/traffic": "pause"}), left).await;
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": "4m"});
    shop.govern(json!({"limits": {"maxCutRatio": 50}, "breakers": [breaker]})).await;
    // Not before: without any resource a mark of the original is nobody's, and the pod is given back.
    let _controller = Controller::ready(&shop.controller()).await;
    eventually("it is judged", SOON, || async { source.answers() >= 4 }).await;
    assert_eq!(shop.pod_writes().await, []);
    source.name_bad([names[1].as_str()]);
    shop.cut_are(&[&names[1]]).await;
    assert_eq!(shop.labelled("pause").await, [names[3].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_time_that_is_garbage_or_long_past_brings_the_pod_back_at_once() {
    let shop = Shop::open("garbage", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let names = shop.names().await;
    let cut = json!({"kubervisor/traffic": "no", "kubervisor/name": "pears", "kubervisor/strategy": "named"});
    for (pod, time) in names.iter().zip(["tomorrow, perhaps", "2018-09-12T08:00:01Z"]) {
        let times = json!({"breaker/breakAt": "2018-09-12T08:00:00Z", "kubervisor.k8s.io/restore-at": time});
        shop.mark(pod, cut.clone(), times).await;
    }
    let _controller = Controller::ready(&shop.controller()).await;
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": "4m"});
    shop.govern(json!({"breakers": [breaker]})).await;
    shop.none_is_out().await;
}

const OVERRIDE: &str = "kubervisor.k8s.io/override";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_which_a_person_says_never_is_not_cut_until_that_is_taken_back() {
    let shop = Shop::open("never", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[0].clone();
    shop.mark(&bad, json!({}), json!({ OVERRIDE: "Never" })).await;
    source.name_bad([bad.as_str()]);
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    let refused = [&*shop.namespace, "reason=\"Wish\""];
    let refusals = || async { controller.metric("kubervisor_refusals_total", &refused).await };
    eventually("the cut is refused", SOON, || async { refusals().await >= 4.0 }).await;
    assert_eq!(shop.pod_writes().await, []);
    shop.mark(&bad, json!({}), json!({ OVERRIDE: null })).await;
    shop.cut_are(&[&bad]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_a_person_wants_out_is_kept_out_and_is_back_once_that_is_taken_back() {
    let shop = Shop::open("wanted", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let pod = shop.names().await[1].clone();
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": 1, "maxPeriod": 2});
    shop.govern(json!({"breakers": [breaker]})).await;
    eventually("it is judged", SOON, || async { source.answers() >= 2 }).await;
    shop.mark(&pod, json!({}), json!({ OVERRIDE: "Cut" })).await;
    shop.cut_are(&[&pod]).await;
    let out = || async { shop.labelled("no").await == [pod.clone()] };
    throughout("it stays out for longer than any cut lasts", std::time::Duration::from_secs(6), out).await;
    shop.told("PodCut", "a person asked for it").await;
    shop.mark(&pod, json!({}), json!({ OVERRIDE: null })).await;
    shop.none_is_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_a_person_wants_to_serve_is_back_at_once_forgiven_and_not_cut_again() {
    let (shop, source, _controller, bad) = with_one_cut("serve").await;
    assert!(shop.mark_of(&bad, "kubervisor.k8s.io/strikes").await.is_some());
    shop.mark(&bad, json!({}), json!({ OVERRIDE: "Serve" })).await;
    shop.none_is_out().await;
    let answered = source.answers();
    eventually("it is condemned again and again", SOON, || async { source.answers() > answered + 5 }).await;
    assert!(shop.labelled("no").await.is_empty());
    let strikes = || async { shop.mark_of(&bad, "breaker/retryCount").await };
    eventually("its strikes are forgiven", SOON, || async {
        strikes().await.is_none_or(|count| count == "0")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floor_that_only_pods_kept_out_by_people_could_mend_is_told_and_nobody_is_put_back() {
    let shop = Shop::open("kept-out", 0).await;
    shop.bare_pods(5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let mut breaker = custom_breaker("named", &source);
    breaker["minPodsAvailableCount"] = json!(4);
    shop.govern(json!({"breakers": [breaker]})).await;
    eventually("it evaluates", SOON, || async { source.answers() > 0 }).await;
    for (pod, label) in [("pear-0", "no"), ("pear-1", "pause")] {
        shop.mark(pod, json!({"kubervisor/traffic": label}), json!({})).await;
    }
    shop.told("BelowFloor", "pear-0 (cut by hand), pear-1 (paused)").await;
    assert_eq!(
        (shop.labelled("no").await, shop.labelled("pause").await),
        (vec!["pear-0".into()], vec!["pear-1".into()])
    );
}
