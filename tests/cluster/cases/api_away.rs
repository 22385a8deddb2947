//! What the controller sees of the cluster is old, or nothing, or no longer a kind: it acts on nothing that it does not
//! know, and finds the truth again.

use std::time::{Duration, Instant};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use kubervisor::api::{KubervisorService, crd};
use localcluster::{Fault, Rule};
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted, most_out};
use crate::harness::{
    Controller, FakeSource, SOON, Shop, custom_breaker, eventually, serve_crd, throughout, troubled,
};

/// A view unproven for this long is stale.
const STALE_AFTER: Duration = Duration::from_mins(1);

fn named(source: &FakeSource) -> Value {
    custom_breaker("named", source)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_away_for_half_a_minute_costs_no_more_than_was_allowed_and_keeps_nobody_out() {
    let troubled = troubled().await;
    let shop = Shop::open_in(troubled.cluster, "away", 0).await;
    shop.bare_pods(6).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    source.name_bad(["pear-0"]);
    let mut breaker = named(&source);
    breaker["activator"] = json!({"period": 15});
    shop.govern(json!({"breakers": [breaker]})).await;
    shop.cut_are(&["pear-0"]).await;
    let (observer, start) = (shop.observer(), Instant::now());
    eventually("five serve", SOON, || async { observer.serving().len() == 5 }).await;
    troubled.cluster.stop_apiserver().await.unwrap();
    // Wanted while nobody can be asked; two of six may be out, and one is.
    source.name_bad(["pear-1", "pear-2"]);
    let lives = || async { controller.metrics().await.contains("kubervisor_view_age_seconds") };
    throughout("the controller lives", Duration::from_secs(30), lives).await;
    troubled.cluster.start_apiserver().await.unwrap();
    let due = || async { !shop.labelled("no").await.contains(&"pear-0".to_owned()) };
    eventually("what was due meanwhile is back", SOON * 2, due).await;
    eventually("the next tick acts", SOON, || async { !shop.labelled("no").await.is_empty() }).await;
    source.name_bad([]);
    eventually("everybody serves", SOON * 4, || async { observer.serving().len() == 6 }).await;
    let writes = shop.pod_writes().await;
    assert!(most_out(&writes) <= 2, "{writes:?}");
    assert!(observer.lowest_since(start) >= 4, "the fewest that served");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_watch_that_swallows_events_the_floor_holds_and_the_server_is_asked_for_the_truth() {
    let shop = Shop::open("swallow", 0).await;
    let pods = shop.bare_pods(6).await;
    let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
    let controller = Controller::ready(&shop.controller_at(Some(&proxy.url()))).await;
    let mut breaker = named(&source);
    breaker["minPodsAvailableRatio"] = json!(50);
    let limits = json!({"maxCutRatio": 100, "maxCutsPerPeriod": "100%"});
    shop.govern(json!({"limits": limits, "breakers": [breaker]})).await;
    shop.state_is("Running").await;
    let (observer, start) = (shop.observer(), Instant::now());
    let swallowed = proxy.inject(Rule::new(Fault::SwallowWatch).path("/pods"));
    source.name_bad(pods.iter().map(String::as_str));
    eventually("three are cut", SOON, || async { shop.labelled("no").await.len() == 3 }).await;
    // Longer than a cut lasts: some come back and are cut again, on what the server itself says.
    let until = source.answers() + 15;
    eventually("it goes on evaluating", SOON, || async { source.answers() >= until }).await;
    assert!(proxy.hits(swallowed) >= 3);
    source.name_bad([]);
    let back = || async { shop.labelled("yes").await.len() == 6 };
    eventually("everybody is back although the watch is silent", SOON * 2, back).await;
    let settled = || async { controller.metric("kubervisor_assumed_writes", &[]).await == 0.0 };
    eventually("nothing is assumed any more", SOON, settled).await;
    proxy.clear(swallowed);
    assert_eq!(most_out(&shop.pod_writes().await), 3);
    eventually("everybody serves", SOON, || async { observer.serving().len() == 6 }).await;
    assert_eq!(observer.lowest_since(start), 3, "the fewest that served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_unproven_for_a_minute_holds_cuts_says_so_and_acts_again_once_it_is_proven() {
    let shop = Shop::open("stale", 0).await;
    shop.bare_pods(5).await;
    let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
    let _controller = Controller::ready(&shop.controller_at(Some(&proxy.url()))).await;
    shop.govern(json!({"breakers": [named(&source)]})).await;
    shop.state_is("Running").await;
    // New watches first, or the one that is broken off would be renewed.
    proxy.inject(Rule::new(Fault::Drop).path("/pods").watch(true));
    let broken = proxy.inject(Rule::new(Fault::CutWatch).path("/pods").times(1));
    eventually("the watch is broken off", SOON, || async { proxy.hits(broken) == 1 }).await;
    eventually("the view is stale", STALE_AFTER + SOON, || async { shop.status().await["state"] == "Held" })
        .await;
    let (_, reason, told) = shop.condition("Held").await;
    assert_eq!(reason, "StaleView");
    assert!(told.contains("the view of pods is unproven"), "{told}");
    source.name_bad(["pear-0"]);
    let until = source.answers() + 5;
    eventually("it goes on evaluating", SOON, || async { source.answers() >= until }).await;
    assert_eq!(shop.pod_writes().await, []);
    proxy.clear_all();
    shop.cut_are(&["pear-0"]).await;
    shop.state_is("Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_deleted_and_made_again_is_followed_by_the_running_controller() {
    let troubled = troubled().await;
    let shop = Shop::open_in(troubled.cluster, "unserved", 0).await;
    shop.bare_pods(5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(json!({"breakers": [named(&source)]})).await;
    source.name_bad(["pear-0"]);
    shop.cut_are(&["pear-0"]).await;
    delete_crd(&shop.client).await;
    let before = shop.pod_writes().await;
    source.name_bad(["pear-1"]);
    let uncut = || async { accepted(&shop.pod_writes().await, Step::Cut) == accepted(&before, Step::Cut) };
    throughout("nobody is cut for a resource that is gone", Duration::from_secs(5), uncut).await;
    serve_crd(&shop.client).await;
    shop.govern(json!({"breakers": [named(&source)]})).await;
    shop.cut_are(&["pear-1"]).await;
    source.name_bad([]);
    shop.cut_are(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_is_not_served_frees_nobody_and_one_that_is_served_and_empty_does() {
    let troubled = troubled().await;
    let shop = Shop::open_in(troubled.cluster, "unproven", 0).await;
    shop.bare_pods(2).await;
    delete_crd(&shop.client).await;
    cut_for_a_resource_that_is_gone(&shop).await;
    let controller = Controller::start(&shop.controller()).await;
    let asked = || async { controller.log().matches("resource=\"kubervisorservices\"").count() >= 4 };
    eventually("it has asked for a list again and again", SOON, asked).await;
    stays_cut(&shop).await;
    serve_crd(&shop.client).await;
    shop.cut_are(&[]).await;
    // The same once a list has been complete: now the server is asked for the one resource.
    delete_crd(&shop.client).await;
    cut_for_a_resource_that_is_gone(&shop).await;
    eventually("it has asked for proof", SOON, || async { controller.log().contains("cannot prove") }).await;
    stays_cut(&shop).await;
    serve_crd(&shop.client).await;
    shop.cut_are(&[]).await;
}

async fn cut_for_a_resource_that_is_gone(shop: &Shop) {
    let labels =
        json!({"kubervisor/traffic": "no", "kubervisor/name": "pears", "kubervisor/strategy": "named"});
    shop.mark("pear-0", labels, json!({"breaker/breakAt": jiff::Timestamp::now()})).await;
}

/// For longer than two sweeps of the janitor.
async fn stays_cut(shop: &Shop) {
    let cut = || async { shop.labelled("no").await == ["pear-0"] };
    throughout("it stays cut", Duration::from_secs(11), cut).await;
}

/// Returns when the kind is no longer served.
async fn delete_crd(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.delete(&crd().name_any(), &DeleteParams::default()).await.unwrap();
    let served: Api<KubervisorService> = Api::all(client.clone());
    let gone = || async {
        let asked = served.list(&ListParams::default()).await;
        matches!(asked, Err(kube::Error::Api(status)) if status.code == 404)
    };
    eventually("the kind is not served", SOON, gone).await;
}
