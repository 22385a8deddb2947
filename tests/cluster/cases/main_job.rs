//! Bad pods leave traffic, and come back.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, discrete_breaker, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pod_is_cut_with_its_reason_and_restored_at_its_stored_time() {
    let shop = Shop::open("cut", 5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    let bad = names[2].as_str();
    source.errors_of(names.iter().map(String::as_str), &[bad]);
    shop.govern(json!({"breakers": [discrete_breaker("errors", &source)]})).await;
    shop.cut_are(&[bad]).await;
    let observer = shop.observer();
    eventually("the address is gone", SOON, || async { !observer.serving().contains(bad) }).await;
    let pod = shop.pods().await.remove(bad).unwrap();
    let annotations = pod.metadata.annotations.unwrap();
    assert!(annotations["kubervisor.k8s.io/evidence"].contains("bad 100 % > 50 % of 200"), "{annotations:?}");
    let due: jiff::Timestamp = annotations["kubervisor.k8s.io/restore-at"].parse().unwrap();
    source.errors_of(names.iter().map(String::as_str), &[]);
    eventually("it is back", SOON * 2, || async { observer.serving().contains(bad) }).await;
    let early = due.duration_since(jiff::Timestamp::now());
    assert!(early <= jiff::SignedDuration::ZERO, "restored {early:?} before its time");
    shop.told("PodCut", "of 5: 4 serve").await;
    shop.told("PodRestored", "its time is over").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cut_is_sent_in_the_tick_of_the_answer_that_first_held_the_bad_value() {
    let shop = Shop::open("tick", 5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    let observer = shop.observer();
    shop.serves(5).await;
    let mut breaker = custom_breaker("named", &source);
    breaker["evaluationPeriod"] = json!(2);
    shop.govern(json!({"breakers": [breaker]})).await;
    eventually("answers are given", SOON, || async { source.answers() > 0 }).await;
    let start = Instant::now();
    source.name_bad([names[0].as_str()]);
    eventually("it is gone", SOON, || async { observer.gone_at(&names[0], start).is_some() }).await;
    let gone = observer.gone_at(&names[0], start).unwrap();
    let (first, answers) = source.bad_answers_before(gone);
    assert_eq!(answers, 1, "more than one answer held the bad value before it was acted on");
    let took = gone.duration_since(first.unwrap());
    println!("answer to address gone: {:.1} ms", took.as_secs_f64() * 1e3);
    println!("bare PATCH to address gone: {:.1} ms", bare_patch(&shop, &names[1]).await.as_secs_f64() * 1e3);
}

/// The same flip by nothing but a PATCH, on another pod.
async fn bare_patch(shop: &Shop, pod: &str) -> Duration {
    let observer = shop.observer();
    shop.serves(4).await;
    eventually("it is seen", SOON, || async { observer.serving().contains(pod) }).await;
    let start = Instant::now();
    shop.mark(pod, json!({"kubervisor/traffic": "no"}), json!({})).await;
    eventually("it is gone", SOON, || async { observer.gone_at(pod, start).is_some() }).await;
    observer.gone_at(pod, start).unwrap().duration_since(start)
}
