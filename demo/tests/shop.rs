//! The load generator and the demo's questions, on a real control plane and a real Prometheus, without a controller.

use std::time::Duration;

use anyhow::Context;
use demo::endpoints::Endpoints;
use demo::shop::{NAMESPACE, SERVICE, Shop};
use incidents::{Behaviour, Episode, Pods, Seed};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use localcluster::{Prometheus, PrometheusOptions, ScrapeTarget, until};
use serde_json::{Value, json};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(30);

async fn open() -> Shop {
    let shop = Shop::open(Seed::new(7), |_| ()).await.expect("an open shop");
    shop.curtain.rise();
    shop
}

/// Flips the traffic label as a controller would, and waits for the EndpointSlices to say so.
async fn flip(shop: &mut Shop, pod: &str, traffic: &str) -> Endpoints {
    let label = json!({ "metadata": { "labels": { "kubervisor/traffic": traffic } } });
    let pods = Api::<Pod>::namespaced(shop.client.clone(), NAMESPACE);
    pods.patch(pod, &PatchParams::default(), &Patch::Merge(label)).await.expect("a new label");
    let change = async {
        loop {
            let (_, endpoints) = shop.changes.recv().await.expect("a load generator that goes on");
            if endpoints.iter().any(|name| name == pod) == (traffic == "yes") {
                break endpoints;
            }
        }
    };
    timeout(LIMIT, change).await.expect("a change of the EndpointSlices")
}

/// Waits until this many requests more were sent, in all or to one pod.
async fn requests(shop: &Shop, pod: Option<&str>, more: u64) {
    let count = || {
        let workload = shop.workload.lock();
        pod.map_or(workload.clients().requests, |pod| workload.pods()[pod].counters.answered())
    };
    let goal = count() + more;
    let reached =
        || async { Ok(if count() >= goal { Ok(()) } else { Err(format!("{} of {goal}", count())) }) };
    until("load", LIMIT, reached).await.expect("load");
}

fn answered(shop: &Shop, pod: &str) -> u64 {
    shop.workload.lock().pods()[pod].counters.answered()
}

#[tokio::test(flavor = "multi_thread")]
async fn load_follows_the_endpoint_slices() {
    let mut shop = open().await;
    let pod = shop.workload.lock().pods().keys().next().expect("ten pods").clone();
    requests(&shop, Some(&pod), 20).await;

    let left = flip(&mut shop, &pod, "no").await;
    // One batch may be under way.
    requests(&shop, None, 10).await;
    let at_the_cut = answered(&shop, &pod);
    requests(&shop, None, 400).await;
    assert_eq!((left.len(), answered(&shop, &pod)), (9, at_the_cut));

    let back = flip(&mut shop, &pod, "yes").await;
    requests(&shop, Some(&pod), 20).await;
    assert_eq!(back.len(), 10);
    let errors = shop.workload.lock().clients().since(demo::workload::Clients::default());
    assert!(errors.ratio() < 0.02, "a label that moves costs no request: {errors:?}");
}

/// The questions of the demo's policy, by breaker.
fn question(policy: &str, breaker: &str) -> String {
    let policy: Value = serde_yaml_ng::from_str(policy).expect("YAML");
    let breakers = policy["spec"]["breakers"].as_array().expect("breakers");
    let breaker = breakers.iter().find(|entry| entry["name"] == breaker).expect("the breaker");
    let detectors = ["discreteValueOutOfList", "continuousValueDeviation"];
    let asks = detectors.iter().find_map(|detector| breaker[*detector]["promQL"].as_str());
    asks.expect("a query").to_owned()
}

/// Pod and `code` (empty where the series has none) with the value of each series.
async fn ask(prometheus: &Prometheus, question: &str) -> anyhow::Result<Vec<(String, String, f64)>> {
    let answer = prometheus.query(question).await?;
    let label = |series: &Value, name: &str| series["metric"][name].as_str().unwrap_or_default().to_owned();
    let read = |series: &Value| {
        assert_eq!(series["metric"]["namespace"], NAMESPACE);
        let value = series["value"][1].as_str().context("a value")?.parse()?;
        Ok((label(series, "pod"), label(series, "code"), value))
    };
    answer["result"].as_array().context("a vector")?.iter().map(read).collect()
}

fn befall(shop: &Shop, pod: u32, behaviour: Behaviour) {
    let from = shop.curtain.at().expect("a risen curtain");
    shop.workload.lock().befall(Episode { pods: Pods::One(pod), from, until: None, behaviour });
}

async fn watched(shop: &Shop) -> Prometheus {
    let targets = vec![ScrapeTarget::new(SERVICE, shop.metrics.clone())];
    Prometheus::start(PrometheusOptions { targets, ..PrometheusOptions::default() })
        .await
        .expect("a Prometheus")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_asks_what_tells_ill_pods_from_well_ones() {
    let mut shop = open().await;
    let prometheus = watched(&shop).await;
    let names: Vec<String> = shop.workload.lock().pods().keys().cloned().collect();
    let (failing, cheap, cut) = (&names[2], &names[7], &names[0]);
    befall(&shop, 2, Behaviour::Failing { share: 0.9 });
    befall(&shop, 7, Behaviour::MisPriced { factor: 0.5 });
    flip(&mut shop, cut, "no").await;
    let policy = include_str!("../manifests/policy.yaml");

    let (errors, prices) = (question(policy, "error-rate"), question(policy, "prices"));
    until("answers that tell them apart", LIMIT, || async {
        let bad = shares(&ask(&prometheus, &errors).await?, &names);
        let off = ask(&prometheus, &prices).await?;
        let off =
            |pod: &String| off.iter().find(|(name, ..)| name == pod).map_or(f64::NAN, |(.., value)| *value);
        let others = names.iter().filter(|pod| ![failing, cheap, cut].contains(pod));
        let apart = bad[failing] > 0.8
            && off(cheap) < 0.6
            && off(cut).is_nan()
            && others.clone().all(|pod| bad[pod] < 0.1 && (0.95..1.15).contains(&off(pod)));
        Ok(if apart {
            Ok(())
        } else {
            Err(format!("{bad:?}, prices {:?}", others.map(off).collect::<Vec<_>>()))
        })
    })
    .await
    .expect("ill pods stand out");
    let pages = prometheus.await_value("count(price_count)", LIMIT).await.expect("pages");
    assert_eq!(pages, 10.0, "the cut pod's page is scraped too");
}

/// Each pod's share of errors among its answers of the window.
fn shares(answer: &[(String, String, f64)], names: &[String]) -> std::collections::BTreeMap<String, f64> {
    let count = |pod: &String, code: &str| {
        let series = answer.iter().filter(|(name, of, _)| name == pod && of == code);
        series.map(|(.., value)| *value).sum::<f64>()
    };
    let share = |pod: &String| {
        let (bad, good) = (count(pod, "500"), count(pod, "200"));
        if bad + good == 0.0 { 0.0 } else { bad / (bad + good) }
    };
    names.iter().map(|pod| (pod.clone(), share(pod))).collect()
}

#[test]
fn both_policies_ask_the_same_questions() {
    let [first, last] =
        [include_str!("../manifests/policy.yaml"), include_str!("../manifests/last-act.yaml")];
    for breaker in ["error-rate", "prices"] {
        assert_eq!(question(first, breaker), question(last, breaker));
    }
}
