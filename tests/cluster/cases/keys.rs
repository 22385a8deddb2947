//! The key in a Service's selector, where the controller owns it: never before the labels, never after them, and never
//! against somebody else's will. A client that follows the EndpointSlices finds somebody to talk to at every moment.

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::keys::KeyStep;
use crate::harness::rights::{documented_rules, documented_rules_without};
use crate::harness::{Controller, FakeSource, Observer, SOON, Shop, custom_breaker, eventually, throughout};

/// Bare pods behind a Service without the key; none of them has the label.
async fn open(prefix: &str, pods: usize) -> (Shop, FakeSource) {
    let shop = Shop::open(prefix, 0).await;
    shop.select(&json!({"app": "pears"})).await;
    for number in 0..pods {
        shop.bare_pod_labelled(&format!("pear-{number}"), &json!({"app": "pears"})).await;
    }
    shop.serves(pods).await;
    let source = FakeSource::start(&shop.namespace).await;
    (shop, source)
}

fn managed(source: &FakeSource, more: &Value) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = json!({"period": "4m"});
    let mut spec = json!({"breakers": [breaker], "selectorManagement": "Managed"});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

/// From now on.
async fn observe(shop: &Shop, serving: usize) -> (Observer, Instant) {
    let observer = shop.observer();
    eventually("they are seen", SOON, || async { observer.serving().len() == serving }).await;
    (observer, Instant::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_adds_the_key_behind_every_label_and_takes_it_out_before_any_return() {
    let (shop, source) = open("managed", 4).await;
    let (observer, start) = observe(&shop, 4).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(managed(&source, &json!({}))).await;
    shop.key_is(true).await;
    assert_eq!(shop.key_owner().await, shop.resources().get("pears").await.unwrap().metadata.uid);
    let steps = shop.key_steps(shop.controller_user()).await;
    assert_eq!(steps, [vec![KeyStep::Yes; 4], vec![KeyStep::Add]].concat());
    shop.becomes("Activated", "True").await;
    shop.state_is("Running").await;
    assert_eq!(observer.lowest_since(start), 4, "while the key was added");
    source.name_bad(["pear-1"]);
    shop.cut_are(&["pear-1"]).await;
    for off in [json!({"mode": "Disabled"}), json!({"selectorManagement": "Manual"})] {
        let before = shop.key_steps(shop.controller_user()).await.len();
        shop.govern(managed(&source, &off)).await;
        shop.key_is(false).await;
        shop.cut_are(&[]).await;
        assert_eq!(shop.key_steps(shop.controller_user()).await[before..], [KeyStep::Take, KeyStep::Yes]);
        shop.serves(4).await;
        shop.govern(managed(&source, &json!({}))).await;
        shop.key_is(true).await;
        shop.cut_are(&["pear-1"]).await;
    }
    assert_eq!(observer.lowest_since(start), 3, "the fewest that served at any moment");
}

#[tokio::test(flavor = "multi_thread")]
async fn managed_waits_for_the_floor_and_says_so_and_a_dry_run_adds_nothing() {
    let (shop, source) = open("short", 3).await;
    let mut floor = managed(&source, &json!({"mode": "DryRun"}));
    floor["breakers"][0]["minPodsAvailableCount"] = json!(4);
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(floor.clone()).await;
    shop.becomes("LabelsComplete", "False").await;
    floor["mode"] = json!("Active");
    shop.govern(floor.clone()).await;
    eventually("it says what it waits for", SOON, || async {
        shop.condition("Activated")
            .await
            .2
            .contains("3 pods carry the label and are Ready, and the floor is 4")
    })
    .await;
    floor["mode"] = json!("DryRun");
    shop.govern(floor.clone()).await;
    shop.bare_pod_labelled("pear-3", &json!({"app": "pears", "kubervisor/traffic": "yes"})).await;
    shop.serves(4).await;
    shop.state_is("DryRun").await;
    throughout("no key in a dry run", Duration::from_secs(5), || async { shop.key_owner().await.is_none() })
        .await;
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    floor["mode"] = json!("Active");
    shop.govern(floor).await;
    shop.key_is(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_deleted_while_the_controller_was_away_leaves_no_key_and_no_cut_behind() {
    let (shop, source) = open("left-over", 4).await;
    let controller = Controller::ready(&shop.controller()).await;
    shop.govern(managed(&source, &json!({}))).await;
    shop.key_is(true).await;
    source.name_bad(["pear-2"]);
    shop.cut_are(&["pear-2"]).await;
    let (observer, start) = observe(&shop, 3).await;
    controller.kill();
    shop.delete_resource().await;
    let before = shop.key_steps(shop.controller_user()).await.len();
    let _controller = Controller::ready(&shop.controller()).await;
    // The Lease of the one that was killed has to end first.
    eventually("the key is gone", SOON * 2, || async { shop.key_owner().await.is_none() }).await;
    shop.key_is(false).await;
    shop.cut_are(&[]).await;
    shop.serves(4).await;
    assert_eq!(shop.key_steps(shop.controller_user()).await[before..], [KeyStep::Take, KeyStep::Yes]);
    assert_eq!(observer.lowest_since(start), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_somebody_removes_twice_is_not_fought_over_until_the_spec_changes() {
    let (shop, source) = open("contested", 3).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(managed(&source, &json!({}))).await;
    shop.becomes("SelectorContested", "False").await;
    shop.key_is(true).await;
    let (observer, start) = observe(&shop, 3).await;
    shop.applied_by("gitops").await;
    eventually("once is a slip", SOON, || async {
        shop.key_steps(shop.controller_user()).await.iter().filter(|s| **s == KeyStep::Add).count() == 2
    })
    .await;
    shop.applied_by("gitops").await;
    shop.becomes("SelectorContested", "True").await;
    let (_, _, message) = shop.condition("SelectorContested").await;
    assert!(message.contains("\"gitops\"") && message.contains("Manual"), "{message}");
    shop.told("SelectorContested", "gitops").await;
    let stays = || async { shop.selector().await == json!({"app": "pears"}) };
    throughout("nobody fights", Duration::from_secs(6), stays).await;
    shop.govern(managed(&source, &json!({"limits": {"maxCutRatio": 40}}))).await;
    shop.key_is(true).await;
    shop.becomes("SelectorContested", "False").await;
    assert_eq!(observer.lowest_since(start), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_patch_services_managed_says_so_and_pods_go_back_all_the_same() {
    let (shop, source) = open("no-right", 3).await;
    let account = shop.account().await;
    shop.allow(&account, &documented_rules_without("patch", "services")).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let _controller = Controller::ready(&shop.controller_as(&account, &[&namespace])).await;
    shop.govern(managed(&source, &json!({}))).await;
    eventually("it names what it lacks", SOON, || async {
        shop.condition("Activated").await.2.contains("cannot patch resource \"services\"")
    })
    .await;
    shop.allow(&account, &documented_rules()).await;
    shop.key_is(true).await;
    source.name_bad(["pear-0"]);
    shop.cut_are(&["pear-0"]).await;
    shop.allow(&account, &documented_rules_without("patch", "services")).await;
    shop.govern(managed(&source, &json!({"mode": "Disabled"}))).await;
    eventually("it goes back", SOON, || async { shop.labelled("no").await.is_empty() }).await;
    shop.serves(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_ever_meets_an_empty_service_while_keys_come_and_go() {
    let (shop, source) = open("flowing", 5).await;
    let (observer, start) = observe(&shop, 5).await;
    let controller = Controller::ready(&shop.controller()).await;
    source.name_bad(["pear-0"]);
    for round in 0..3 {
        shop.govern(managed(&source, &json!({}))).await;
        shop.key_is(true).await;
        shop.cut_are(&["pear-0"]).await;
        eventually("it is out", SOON, || async { observer.serving().len() == 4 }).await;
        match round {
            0 => shop.govern(managed(&source, &json!({"selectorManagement": "Manual"}))).await,
            1 => shop.govern(managed(&source, &json!({"mode": "Disabled"}))).await,
            _ => shop.delete_resource().await,
        }
        shop.key_is(false).await;
        shop.cut_are(&[]).await;
        shop.serves(5).await;
    }
    shop.govern(managed(&source, &json!({}))).await;
    shop.key_is(true).await;
    shop.cut_are(&["pear-0"]).await;
    controller.kill();
    let before = shop.key_steps("admin").await.len();
    // The key that a controller added goes also without --open-selectors, and the others with it.
    let (succeeded, said) = shop.release(&[]).await;
    assert!(succeeded, "{said}");
    shop.key_is(false).await;
    assert_eq!(shop.key_steps("admin").await[before..], [KeyStep::Take, KeyStep::Yes]);
    let key = Patch::Merge(json!({"spec": {"selector": {"kubervisor/traffic": "yes"}}}));
    shop.services().patch("pears", &PatchParams::default(), &key).await.unwrap();
    let (succeeded, said) = shop.release(&["--open-selectors"]).await;
    assert!(succeeded, "{said}");
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    shop.serves(5).await;
    assert!(observer.lowest_since(start) >= 4, "{} served", observer.lowest_since(start));
}
