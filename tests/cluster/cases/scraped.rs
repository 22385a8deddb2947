//! A real Prometheus that scrapes an exporter for each pod: dead ones, its own death, its first scrapes, and a manifest
//! of the original over it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::trace::{PodWrite, Step, of};
use crate::harness::{
    Behaviour, Controller, Orchard, SOON, Shop, WELL, breaker, eventually, price_by_the_mean, throughout,
};

/// `maxSampleAge` of a breaker that is evaluated twice within it.
const MAX_SAMPLE_AGE: Duration = Duration::from_mins(1);
/// Prometheus is away for so long.
const AWAY: Duration = Duration::from_mins(1);
/// Four times the usual price.
const DEAR: Behaviour = Behaviour { price: 28.0, ..WELL };
const FREE: Behaviour = Behaviour { price: 0.0, ..WELL };

/// Nothing but the floor limits the cuts, which last longer than the test, and pods are compared from early on.
fn unlimited(breakers: &[Value]) -> Value {
    json!({
        "limits": {"maxCutRatio": 100, "maxCutsPerPeriod": "100%", "minPodAge": 1},
        "breakers": breakers, "defaultActivator": {"period": "9m"},
    })
}

/// Verdicts and evaluations of one shop, by the controller's metrics.
struct Told<'a> {
    shop: &'a Shop,
    controller: &'a Controller,
}

impl Told<'_> {
    /// How many pods this breaker calls so.
    async fn verdicts(&self, breaker: &str, verdict: &str) -> f64 {
        let labels = [format!("breaker=\"{breaker}\""), format!("verdict=\"{verdict}\"")];
        self.sum("kubervisor_verdicts", &labels).await
    }

    async fn sum(&self, name: &str, labels: &[String]) -> f64 {
        let mut all = vec![self.shop.namespace.as_str()];
        all.extend(labels.iter().map(String::as_str));
        self.controller.metric(name, &all).await
    }

    /// Waits for so many more answers of this outcome.
    async fn evaluates(&self, outcome: &str, times: f64) {
        let label = [format!("outcome=\"{outcome}\"")];
        let until = self.sum("kubervisor_evaluations_total", &label).await + times;
        let more = || async { self.sum("kubervisor_evaluations_total", &label).await >= until };
        eventually(&format!("{times} more answers of outcome {outcome}"), SOON, more).await;
    }

    async fn all_are(&self, breaker: &str, verdict: &str, pods: f64) {
        let all = || async { self.verdicts(breaker, verdict).await >= pods };
        eventually(&format!("{pods} are {verdict} to {breaker}"), SOON, all).await;
    }
}

/// A mean over two pods, of which one is the dear one, makes the other look cheap: cut on that, a good pod would be out.
#[tokio::test(flavor = "multi_thread")]
async fn prometheus_killed_for_a_minute_in_mid_incident_cuts_nobody_on_its_first_scrapes_and_frees_nobody_early()
 {
    let shop = Shop::open("killed-prom", 6).await;
    let orchard = Orchard::grow(&shop).await;
    let controller = Controller::ready(&shop.controller()).await;
    let told = Told { shop: &shop, controller: &controller };
    let names = shop.names().await;
    let (dear, free, next) = (&names[0], &names[5], &names[1]);
    let rule = json!({"scrapeInterval": 1, "continuousValueDeviation": {
        "prometheusService": orchard.address(), "podNamekey": "pod", "maxDeviationPercent": 40,
        "promQL": price_by_the_mean("5s"),
    }});
    shop.govern(unlimited(&[breaker("price", &rule)])).await;
    told.all_are("price", "healthy", 6.0).await;
    orchard.behaves(dear, DEAR);
    orchard.behaves(free, FREE);
    shop.cut_are(&[dear, free]).await;
    let dear_until = shop.restore_at(dear).await;

    orchard.prometheus.stop().await.unwrap();
    let killed = Instant::now();
    let free_until = shop.due_in(free, 15).await;
    orchard.behaves(free, WELL);
    orchard.behaves(next, DEAR);
    told.all_are("price", "unknown", 6.0).await;
    shop.becomes("Failed", "True").await;
    assert_eq!(shop.condition("Held").await.1, "Blind");
    shop.cut_are(&[dear]).await;
    let only_dear = || async { shop.labelled("no").await == [dear.clone()] };
    throughout("the other stays cut", AWAY.saturating_sub(killed.elapsed()), only_dear).await;

    // Of its first scrapes, those of the dear pod and of one good pod succeed.
    for pod in [next, &names[3], &names[4], free] {
        orchard.silence(pod, true);
    }
    orchard.prometheus.start_again().await.unwrap();
    told.evaluates("Ok", 5.0).await;
    let sees_few = || async { shop.condition("Held").await.1 == "LowCoverage" };
    eventually("it says that it sees too few", SOON, sees_few).await;
    assert!(only_dear().await, "cut on the first scrapes");
    for pod in &names {
        orchard.silence(pod, false);
    }
    // While half of them are seen again, two of three may be beyond the rule: a storm, which ends after a minute of calm.
    shop.cut_are_within(SOON * 2, &[dear, next]).await;
    shop.becomes("Failed", "False").await;
    assert_eq!(shop.restore_at(dear).await, dear_until);
    let writes = shop.pod_writes().await;
    let steps = |pod| of(&writes, pod).iter().map(|w| w.step).collect::<Vec<_>>();
    assert_eq!((steps(dear), steps(next)), (vec![Step::Cut], vec![Step::Cut]), "{writes:?}");
    assert_eq!(steps(free), [Step::Cut, Step::Restore], "{writes:?}");
    assert!(of(&writes, free)[1].time >= free_until, "restored before its time");
    assert_eq!(writes.len(), 4, "{writes:?}");
}

/// `live` goes stale with its target. `handed-on` has times of its own, which Prometheus would go on showing for five
/// minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_exporter_died_is_unknown_within_max_sample_age_and_not_cut_for_what_it_showed_before() {
    let shop = Shop::open("dead-exporter", 4).await;
    let orchard = Orchard::grow(&shop).await;
    let controller = Controller::ready(&shop.controller()).await;
    let told = Told { shop: &shop, controller: &controller };
    let bad = shop.names().await[2].clone();
    let over = |name: &str, series: &str| {
        let rule =
            json!({"prometheusService": orchard.address(), "podNamekey": "pod", "max": 20, "promQL": series});
        let two = json!({"anomalous": 2, "of": 3});
        breaker(name, &json!({"scrapeInterval": 1, "confirm": two, "valueOutOfRange": rule}))
    };
    let spec = unlimited(&[over("live", "price"), over("handed-on", "price_handed_on")]);
    let mut held = spec.clone();
    held["holds"] = json!([{"reason": "the pear fair"}]);
    shop.govern(held).await;
    orchard.behaves(&bad, DEAR);
    for breaker in ["live", "handed-on"] {
        told.all_are(breaker, "anomalous", 1.0).await;
        told.all_are(breaker, "healthy", 3.0).await;
    }
    let refused =
        || async { told.sum("kubervisor_refusals_total", &["reason=\"Held\"".into()]).await >= 4.0 };
    eventually("it would be cut, but for the hold", SOON, refused).await;

    orchard.silence(&bad, true);
    told.all_are("live", "unknown", 1.0).await;
    let unknown = || async { told.verdicts("handed-on", "unknown").await >= 1.0 };
    eventually("its last sample is too old", MAX_SAMPLE_AGE + SOON, unknown).await;
    shop.govern(spec).await;
    shop.becomes("Held", "False").await;
    told.evaluates("Ok", 10.0).await;
    assert_eq!(shop.pod_writes().await, [], "on evidence from before its exporter died");

    orchard.behaves(&bad, WELL);
    orchard.silence(&bad, false);
    for breaker in ["live", "handed-on"] {
        told.all_are(breaker, "healthy", 4.0).await;
    }
    told.evaluates("Ok", 10.0).await;
    assert_eq!(shop.pod_writes().await, [], "it is back, and well");
    orchard.behaves(&bad, DEAR);
    shop.cut_are(&[&bad]).await;
}

/// As one would have written it in 2018: nothing in it is younger.
fn of_2018(prometheus: &str) -> Value {
    json!({
        "apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService",
        "metadata": {"creationTimestamp": null, "name": "pears"},
        "spec": {
            "service": "pears",
            "breakers": [{
                "name": "price",
                "evaluationPeriod": 2,
                "minPodsAvailableRatio": 50,
                "continuousValueDeviation": {
                    "prometheusService": prometheus,
                    "promQL": price_by_the_mean("6s"),
                    "podNamekey": "pod",
                    "maxDeviationPercent": 30,
                },
                "activator": null,
            }],
            "defaultActivator": {"mode": "retryAndKill", "period": 5, "maxRetryCount": 1},
        },
        "status": {},
    })
}

/// By the mean alone the three good pods stand at +33 %.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_the_original_over_four_pods_of_which_one_asks_nothing_cuts_retries_and_evicts_exactly_that_one()
 {
    let shop = Shop::open("demo-2018", 4).await;
    let orchard = Orchard::grow(&shop).await;
    let first = shop.names().await;
    let free = &first[1];
    orchard.behaves(free, FREE);
    let _controller = Controller::ready(&shop.controller()).await;
    shop.apply(&of_2018(&orchard.address()));
    let (observer, start) = (shop.observer(), Instant::now());
    eventually("four serve", SOON, || async { observer.serving().len() == 4 }).await;
    let steps = async || {
        let writes = shop.pod_writes().await;
        of(&writes, free).iter().map(|w| (w.step, w.code)).collect::<Vec<_>>()
    };
    // Nobody is compared before half a minute, two scrapes of 15 s must agree, and the query's window and a scrape
    // pass before it is back.
    for story in [
        vec![(Step::Cut, 200)],
        vec![(Step::Cut, 200), (Step::Restore, 200)],
        vec![(Step::Cut, 200), (Step::Restore, 200), (Step::Cut, 200)],
        vec![(Step::Cut, 200), (Step::Restore, 200), (Step::Cut, 200), (Step::Evict, 201)],
    ] {
        eventually(&format!("{story:?}"), SOON * 3, || async { steps().await == story }).await;
    }
    shop.told("PodEvicted", "after 2 cuts by price").await;
    eventually("another stands in for it", SOON, || async { observer.serving().len() == 4 }).await;
    let names = shop.names().await;
    let new = names.iter().find(|name| !first.contains(name)).unwrap();
    assert!(!names.contains(free), "{names:?}");
    orchard.joins(new).await;
    let priced = format!("rate(price_sum_total{{pod=\"{new}\"}}[6s])");
    orchard.prometheus.await_value(&priced, SOON).await.unwrap();
    let writes = shop.pod_writes().await;
    assert_eq!(writes.iter().filter(|w| w.pod != *free).collect::<Vec<_>>(), Vec::<&PodWrite>::new());
    assert_eq!(observer.lowest_since(start), 3, "the fewest that served");
    assert_eq!(shop.status().await["kills"].as_array().unwrap().len(), 1);
}

/// The counters of a name do not tell whose they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_statefulsets_new_pod_is_not_cut_for_what_the_old_one_of_its_name_did() {
    let shop = Shop::open("old-counters", 0).await;
    shop.kept_pods(4).await;
    let orchard = Orchard::grow(&shop).await;
    let controller = Controller::ready(&shop.controller()).await;
    let told = Told { shop: &shop, controller: &controller };
    let old = shop.uid("pear-2").await;
    let rule = json!({"scrapeInterval": 1, "discreteValueOutOfList": {
        "prometheusService": orchard.address(), "key": "code", "podNamekey": "pod", "goodValues": ["200"],
        "promQL": "sum by (code, namespace, pod) (increase(answers_total[20s]))",
    }, "activator": {"mode": "retryAndKill", "period": 1, "maxRetryCount": 0}});
    let mut spec = unlimited(&[breaker("errors", &rule)]);
    spec["killStatefulSetPods"] = json!(true);
    shop.govern(spec).await;
    told.all_are("errors", "healthy", 4.0).await;
    orchard.behaves("pear-2", Behaviour { good: 0, bad: 4, ..WELL });
    shop.cut_are(&["pear-2"]).await;
    // It is evicted once the query's window has passed, in which it goes on failing.
    eventually("it is evicted", SOON * 2, || async {
        !shop.status().await["kills"].as_array().unwrap().is_empty()
    })
    .await;
    orchard.behaves("pear-2", WELL);
    shop.reborn("pear-2", &old).await;
    let before = shop.pod_writes().await;
    shop.serves(4).await;
    told.all_are("errors", "healthy", 4.0).await;
    assert_eq!(shop.pod_writes().await, before, "cut for what another pod did");
    orchard.behaves("pear-2", Behaviour { good: 0, bad: 4, ..WELL });
    shop.cut_are(&["pear-2"]).await;
}
