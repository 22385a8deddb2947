//! Others' rules over the same pods: disruption budgets, scale-ins, drains.

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{EvictParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted};
use crate::harness::{Controller, FakeSource, Observer, SOON, Shop, custom_breaker, eventually, throughout};

const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

fn with_activator(source: &FakeSource, activator: Value) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = activator;
    json!({"limits": {"maxCutRatio": 100, "maxCutsPerPeriod": "100%"}, "breakers": [breaker]})
}

/// A budget over all pods of the shop, once its controller has counted them.
async fn budget(shop: &Shop, min_available: &Value) {
    shop.apply(&json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "press"},
        "spec": {"minAvailable": min_available, "selector": {"matchLabels": {"app": "pears"}}},
    }));
    let api: Api<PodDisruptionBudget> = Api::namespaced(shop.client.clone(), &shop.namespace);
    eventually("the budget is counted", SOON, || async {
        let status = api.get("press").await.unwrap().status;
        status.is_some_and(|status| status.observed_generation.is_some() && status.expected_pods > 0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_that_a_budget_refuses_leaves_the_pod_cut_and_is_told() {
    let shop = Shop::open("refused", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    let ladder = json!({"mode": "retryAndKill", "period": 8, "maxPeriod": 120, "maxRetryCount": 0});
    shop.govern(with_activator(&source, ladder)).await;
    shop.cut_are(&[&bad]).await;
    budget(&shop, &json!("100%")).await;
    shop.told("EvictionRefused", "it stays cut and is tried again later").await;
    let still = || async { shop.labelled("no").await == [bad.clone()] };
    throughout("it stays cut", std::time::Duration::from_secs(5), still).await;
    let writes = shop.pod_writes().await;
    let refused = writes.iter().filter(|w| w.step == Step::Evict && w.code == 429).count();
    assert!((1..=4).contains(&refused), "{writes:?}");
    assert_eq!((accepted(&writes, Step::Evict), accepted(&writes, Step::Cut)), (0, 1), "{writes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_one_serving_pod_after_the_other_while_two_are_cut_is_made_up_for_in_the_first_tick_after_each()
 {
    let drain = Drain::begin("drain").await;
    drain.takes(&["pear-4"]).await;
    drain.takes(&["pear-3"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_two_serving_pods_at_once_while_two_are_cut_is_made_up_for_in_the_first_tick_after() {
    let drain = Drain::begin("drain-both").await;
    drain.takes(&["pear-4", "pear-3"]).await;
}

/// Five bare pods of which three must serve, and two are cut for long: there is nothing to spare.
struct Drain {
    shop: Shop,
    observer: Observer,
    _source: FakeSource,
    _controller: Controller,
}

impl Drain {
    async fn begin(prefix: &str) -> Self {
        let shop = Shop::open(prefix, 0).await;
        shop.bare_pods(5).await;
        let source = FakeSource::start(&shop.namespace).await;
        let controller = Controller::ready(&shop.controller()).await;
        source.name_bad(["pear-0", "pear-1"]);
        let mut spec = with_activator(&source, json!({"period": 300}));
        spec["breakers"][0]["minPodsAvailableCount"] = json!(3);
        // No answer makes the tick due that is waited for.
        spec["breakers"][0]["evaluationPeriod"] = json!(30);
        shop.govern(spec).await;
        shop.cut_are(&["pear-0", "pear-1"]).await;
        let observer = shop.observer();
        eventually("three serve", SOON, || async { observer.serving().len() == 3 }).await;
        Self { shop, observer, _source: source, _controller: controller }
    }

    /// By the eviction API; as many others are back at once, and nobody else is touched.
    async fn takes(&self, pods: &[&str]) {
        let restores = async || {
            let writes = self.shop.pod_writes().await;
            writes.into_iter().filter(|w| w.step == Step::Restore).collect::<Vec<_>>()
        };
        let (before, lost) = (restores().await.len(), Timestamp::now());
        for pod in pods {
            self.shop.pods_api().evict(pod, &EvictParams::default()).await.unwrap();
        }
        let back = || async {
            let serving = self.observer.serving();
            serving.len() == 3 && pods.iter().all(|pod| !serving.contains(*pod))
        };
        eventually("three serve again", SOON, back).await;
        let restored = restores().await.split_off(before);
        assert_eq!(restored.len(), pods.len(), "{restored:?}");
        for write in restored {
            let took = write.time.duration_since(lost);
            // Much less than until the next answer, and much more than until the next tick on a loaded machine.
            assert!(took < jiff::SignedDuration::from_secs(10), "repaired only after {took:?}");
        }
        let told = "others were lost and it is needed for the floor";
        self.shop.told("PodRestored", told).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_pod_is_the_cheapest_to_delete_until_it_is_back_and_a_foreign_cost_stays() {
    let shop = Shop::open("cost", 5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    shop.mark(&names[1], json!({}), json!({ COST: "77" })).await;
    source.name_bad([names[0].as_str(), names[1].as_str()]);
    shop.govern(with_activator(&source, json!({"period": 6}))).await;
    shop.cut_are(&[&names[0], &names[1]]).await;
    let costs = || async { [shop.mark_of(&names[0], COST).await, shop.mark_of(&names[1], COST).await] };
    assert_eq!(costs().await, [Some("-1000".to_owned()), Some("77".to_owned())]);
    source.name_bad([]);
    shop.none_is_out().await;
    assert_eq!(costs().await, [None, Some("77".to_owned())]);
}

/// The way that a ReplicaSet shrinks is the reason for the cost.
#[tokio::test(flavor = "multi_thread")]
async fn a_scale_in_takes_the_cut_pod_and_no_serving_one_first() {
    let shop = Shop::open("shrink", 5).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[2].clone();
    source.name_bad([bad.as_str()]);
    shop.govern(with_activator(&source, json!({"period": 300}))).await;
    shop.cut_are(&[&bad]).await;
    let patch = Patch::Merge(json!({"spec": {"replicas": 4}}));
    shop.deployments().patch("pears", &PatchParams::default(), &patch).await.unwrap();
    eventually("it shrinks", SOON, || async { shop.names().await.len() == 4 }).await;
    assert!(!shop.names().await.contains(&bad));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_over_a_fleet_with_two_of_five_cut_is_told_to_be_misled() {
    let shop = Shop::open("scaled", 5).await;
    let source = FakeSource::start(&shop.namespace).await;
    shop.apply(&json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "more"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "pears"},
            "minReplicas": 5, "maxReplicas": 9,
        },
    }));
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(with_activator(&source, json!({"period": 300}))).await;
    shop.becomes("HpaDiluted", "False").await;
    let names = shop.names().await;
    source.name_bad([names[0].as_str(), names[1].as_str()]);
    shop.cut_are(&[&names[0], &names[1]]).await;
    shop.becomes("HpaDiluted", "True").await;
    let told = shop.condition("HpaDiluted").await.2;
    assert!(told.contains("2 of 5 pods are out, and HorizontalPodAutoscaler more counts them"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_without_the_label_is_named() {
    let shop = Shop::open("template", 2).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(with_activator(&source, json!({"period": 300}))).await;
    shop.becomes("TemplateLabelMissing", "False").await;
    let bare = json!({"spec": {"template": {"metadata": {"labels": {"kubervisor/traffic": null}}}}});
    shop.deployments().patch("pears", &PatchParams::default(), &Patch::Merge(bare)).await.unwrap();
    // It is looked at again when the spec changes.
    shop.govern(with_activator(&source, json!({"period": 299}))).await;
    shop.becomes("TemplateLabelMissing", "True").await;
    let told = shop.condition("TemplateLabelMissing").await.2;
    assert!(told.contains("the pod template of Deployment pears lacks the label"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_no_resource_looks_after_is_told_once_and_its_pods_go_on_being_labelled() {
    let shop = Shop::open("ownerless", 1).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.bare_pod_labelled("born", &json!({"app": "pears"})).await;
    eventually("it is labelled", SOON, || async { shop.labelled("yes").await.contains(&"born".to_owned()) })
        .await;
    let told = || async {
        let events = shop.events().await;
        events
            .iter()
            .filter(|(reason, note)| reason == "GateWithoutOwner" && note.contains("no KubervisorService"))
            .count()
    };
    eventually("it is told", std::time::Duration::from_secs(90), || async { told().await == 1 }).await;
    shop.told("GateWithoutOwner", "its pods are labelled").await;
    let once = || async { told().await == 1 };
    throughout("it is not told again", std::time::Duration::from_secs(12), once).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_without_room_refuses_the_cut_and_one_with_room_for_one_allows_one() {
    let shop = Shop::open("room", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    budget(&shop, &json!(4)).await;
    let controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    source.name_bad([names[0].as_str(), names[1].as_str()]);
    shop.govern(with_activator(&source, json!({"period": 300}))).await;
    let refused = [&*shop.namespace, "reason=\"PodDisruptionBudget\""];
    let refusals = || async { controller.metric("kubervisor_refusals_total", &refused).await };
    eventually("cuts are refused", SOON, || async { refusals().await >= 4.0 }).await;
    assert_eq!(shop.pod_writes().await, []);
    budget(&shop, &json!(3)).await;
    eventually("one is cut", SOON, || async { shop.labelled("no").await.len() == 1 }).await;
    let one = || async { shop.labelled("no").await.len() == 1 };
    throughout("it stays at one", std::time::Duration::from_secs(6), one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_pod_of_another_service_behind_the_key_is_not_cut_and_the_next_best_is() {
    let shop = Shop::open("two", 7).await;
    let source = FakeSource::start(&shop.namespace).await;
    let names = shop.names().await;
    for name in &names[..2] {
        shop.mark(name, json!({"ripe": "true"}), json!({})).await;
    }
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "jam"},
        "spec": {"selector": {"ripe": "true", "kubervisor/traffic": "yes"}, "ports": [{"port": 80}]},
    }));
    let controller = Controller::ready(&shop.controller()).await;
    source.name_bad([names[0].as_str(), names[1].as_str(), names[2].as_str()]);
    // Three of seven are no storm.
    shop.govern(with_activator(&source, json!({"period": 300}))).await;
    eventually("two are cut", SOON, || async { shop.labelled("no").await.len() == 2 }).await;
    let refused = [&*shop.namespace, "reason=\"Neighbour\""];
    eventually("the third is refused", SOON, || async {
        controller.metric("kubervisor_refusals_total", &refused).await >= 3.0
    })
    .await;
    let cut = shop.labelled("no").await;
    assert!(cut.contains(&names[2]), "{cut:?}");
    assert_eq!(cut.iter().filter(|name| names[..2].contains(name)).count(), 1, "jam keeps one: {cut:?}");
}
