//! Pods that workloads make anew: in a rollout, while nobody looks, under an old name.

use std::time::Instant;

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted, of};
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually};

fn returning(source: &FakeSource, activator: Value) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = activator;
    json!({"breakers": [breaker]})
}

/// Whose custom service names the first pod, which is cut for longer than the test.
async fn with_one_cut(prefix: &str) -> (Shop, FakeSource, Controller, String) {
    let shop = Shop::open(prefix, 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller().brief()).await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    shop.govern(returning(&source, json!({"period": "4m"}))).await;
    shop.cut_are(&[&bad]).await;
    (shop, source, controller, bad)
}

/// Changes the Deployment.
async fn edit(shop: &Shop, spec: Value) {
    let patch = Patch::Merge(json!({ "spec": spec }));
    shop.deployments().patch("pears", &PatchParams::default(), &patch).await.unwrap();
}

/// The template of somebody who never heard of the label.
fn without_the_label() -> Value {
    json!({"metadata": {"labels": {"kubervisor/traffic": null}, "annotations": {"sown": "anew"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_resource_is_deleted_every_pod_of_a_rollout_serves() {
    let (shop, _source, _controller, _bad) = with_one_cut("rollout").await;
    let first = shop.names().await;
    shop.delete_resource().await;
    shop.none_is_out().await;
    edit(&shop, json!({"template": without_the_label()})).await;
    let observer = shop.observer();
    let renewed = || async {
        let serving = observer.serving();
        serving.len() == 4 && first.iter().all(|old| !serving.contains(old))
    };
    eventually("four new ones serve", SOON * 2, renewed).await;
    let rolled_out = || async {
        let names = shop.names().await;
        names.len() == 4 && shop.labelled("yes").await == names
    };
    eventually("all are new and labelled", SOON, rolled_out).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_born_while_no_controller_runs_serve_at_once_with_the_label_and_without_it_after_the_next_start()
{
    let (shop, _source, controller, bad) = with_one_cut("born-alone").await;
    let (first, before) = (shop.names().await, shop.pod_writes().await.len());
    controller.kill();
    let (observer, start) = (shop.observer(), Instant::now());
    edit(&shop, json!({"replicas": 6})).await;
    eventually("two more serve", SOON, || async { observer.serving().len() == 5 }).await;
    shop.bare_pod_labelled("dark", &json!({"app": "pears"})).await;
    eventually("it is there", SOON, || async { shop.names().await.contains(&"dark".to_owned()) }).await;
    let _controller = Controller::ready(&shop.controller().brief()).await;
    eventually("it serves", SOON, || async { observer.serving().contains("dark") }).await;
    let in_force = || async { shop.status().await["fleet"]["members"] == 7 };
    eventually("all seven are looked after", SOON, in_force).await;
    assert_eq!(shop.labelled("no").await, [bad]);
    assert!(observer.lowest_since(start) >= 3, "the fewest that served");
    let writes = shop.pod_writes().await.split_off(before);
    let steps: Vec<_> = writes.iter().map(|w| (w.pod.as_str(), w.step)).collect();
    assert_eq!(steps, [("dark", Step::Label)], "of {first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statefulsets_pod_that_was_evicted_comes_back_under_its_old_name_and_is_another_pod() {
    let shop = Shop::open("old-name", 0).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.kept_pods(4).await;
    let old = shop.uid("pear-1").await;
    source.name_bad(["pear-1"]);
    let mut spec = returning(&source, json!({"mode": "retryAndKill", "period": 5, "maxRetryCount": 1}));
    spec["killStatefulSetPods"] = json!(true);
    shop.govern(spec).await;
    let cut_twice = async || accepted(&shop.pod_writes().await, Step::Cut) == 2;
    eventually("it is cut twice", SOON, cut_twice).await;
    // Its retries are used up: it is evicted at its time. The next one is named by nobody.
    source.name_bad([]);
    shop.reborn("pear-1", &old).await;
    shop.serves(4).await;
    let asked = source.answers();
    eventually("it is judged", SOON, || async { source.answers() >= asked + 5 }).await;
    let writes = shop.pod_writes().await;
    let steps: Vec<_> = of(&writes, "pear-1").iter().map(|w| w.step).collect();
    assert_eq!(steps, [Step::Cut, Step::Restore, Step::Cut, Step::Evict]);
    assert_eq!(shop.mark_of("pear-1", "breaker/retryCount").await, None, "it has the strikes of another");
    assert_eq!(shop.status().await["kills"][0]["uid"], json!(old));
}
