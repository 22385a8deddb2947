//! SIGKILL at the worst moments. A single controller, without a Lease: its successor begins at once, and knows only
//! what was stored.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use http::Method;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use localcluster::{Fault, FaultProxy, Rule};
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted, most_out};
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually};

async fn alone(shop: &Shop, proxy: &FaultProxy) -> Controller {
    let mut args = shop.controller_at(Some(&proxy.url()));
    args.args.push("--leader-elect=false".to_owned());
    Controller::start(&args).await
}

/// Nothing but the floor limits the cuts.
fn unlimited(source: &FakeSource, activator: Value) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = activator;
    let limits = json!({"maxCutRatio": 100, "maxCutsPerPeriod": "100%", "minPodAge": 1});
    json!({"limits": limits, "breakers": [breaker]})
}

const SIGKILLS: usize = 20;
const CAP: usize = 3;

/// The youngest of so many pods became Ready a second after the last record: in the same second, nobody could tell that
/// it came after it.
async fn starts_slowly(shop: &Shop, pods: usize) {
    eventually("it is replaced", SOON, || async { shop.names().await.len() == pods }).await;
    let kills = shop.status().await["kills"].as_array().unwrap().clone();
    let at = kills.iter().filter_map(|kill| kill["at"].as_str()?.parse::<Timestamp>().ok()).max().unwrap();
    let young = |pod: &Pod| pod.creation_timestamp().map(|time| time.0);
    let pod = shop.pods().await.into_values().max_by_key(young).unwrap().name_any();
    let observer = shop.observer();
    eventually("its successor serves", SOON, || async { observer.serving().contains(&pod) }).await;
    shop.ready_since(&pod, at + SignedDuration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_twenty_times_between_the_record_of_an_eviction_and_the_eviction_it_never_evicts_more_than_the_cap()
 {
    let shop = Shop::open("kill-record", 7).await;
    let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
    source.name_bad(shop.names().await[1..].iter().map(String::as_str));
    let ladder = json!({"mode": "retryAndKill", "period": 1, "maxRetryCount": 0, "maxKillsPerHour": CAP});
    shop.govern(unlimited(&source, ladder)).await;
    let evicted = async || accepted(&shop.pod_writes().await, Step::Evict);
    for round in 0..SIGKILLS {
        // Now and then it is carried out, and only the answer is lost.
        let lost = round % 7 == 6;
        let fault = if lost { Fault::LoseAnswer } else { Fault::Hang };
        let before = evicted().await;
        let held = proxy.inject(Rule::new(fault).method(Method::POST).path("/eviction"));
        let controller = alone(&shop, &proxy).await;
        let sent = async || proxy.hits(held) > 0 && evicted().await == before + usize::from(lost);
        eventually(&format!("eviction {round} is on its way"), SOON, sent).await;
        controller.kill();
        proxy.clear(held);
        if lost {
            starts_slowly(&shop, 7).await;
        }
        let records = shop.status().await["kills"].as_array().unwrap().len();
        assert_eq!(records, before + 1, "round {round}: the record comes first, once for each pod");
    }
    let controller = alone(&shop, &proxy).await;
    eventually("the cap is used up", SOON, async || evicted().await == CAP).await;
    let refused = [shop.namespace.as_str(), "reason=\"KillCap\""];
    eventually("the next is refused", SOON, async || {
        controller.metric("kubervisor_refusals_total", &refused).await >= 3.0
    })
    .await;
    let writes = shop.pod_writes().await;
    let evictions: Vec<_> = writes.iter().filter(|w| w.step == Step::Evict && w.accepted()).collect();
    let pods: BTreeSet<_> = evictions.iter().map(|w| &w.pod).collect();
    println!("{SIGKILLS} SIGKILLs, {} evictions of {} pods, cap {CAP}", evictions.len(), pods.len());
    assert_eq!((evictions.len(), pods.len()), (CAP, CAP), "{evictions:?}");
}

/// A write that is held, and at which it is killed: the one after so many of its kind. Two cuts come first, then returns
/// and cuts in turns.
const HELD: [(&str, u64); 11] = [
    ("/pods/", 0),
    ("/pods/", 1),
    ("/pods/", 2),
    ("/pods/", 3),
    ("/pods/", 4),
    ("/status", 0),
    ("/status", 1),
    ("/events", 0),
    ("/events", 1),
    ("/events", 2),
    ("/events", 5),
];

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_any_two_writes_it_never_breaks_the_floor_and_loses_no_pod() {
    let stories = HELD.map(|(path, passed)| killed_at(path, passed).boxed_local());
    let ended = futures::stream::iter(stories).buffer_unordered(4).count().await;
    assert_eq!(ended, HELD.len());
}

async fn killed_at(path: &str, passed: u64) {
    let shop = Shop::open("kill-between", 0).await;
    shop.bare_pods(5).await;
    let (source, proxy) = (FakeSource::start(&shop.namespace).await, shop.proxy().await);
    source.name_bad(["pear-0", "pear-1"]);
    let mut spec = unlimited(&source, json!({"period": 1, "growth": "Constant", "jitterPercent": 0}));
    spec["breakers"][0]["minPodsAvailableCount"] = json!(3);
    shop.govern(spec).await;
    let (observer, start) = (shop.observer(), Instant::now());
    eventually("all are seen", SOON, || async { observer.serving().len() == 5 }).await;
    let method = if path == "/events" { Method::POST } else { Method::PATCH };
    let write = |fault| Rule::new(fault).method(method.clone()).path(path);
    proxy.inject(write(Fault::Delay(Duration::ZERO)).times(passed));
    let held = proxy.inject(write(Fault::Hang));
    let controller = alone(&shop, &proxy).await;
    eventually(&format!("the write of {path} after {passed}"), SOON, || async { proxy.hits(held) > 0 }).await;
    controller.kill();
    proxy.clear_all();
    // One more than there is room for.
    source.name_bad(["pear-0", "pear-1", "pear-2"]);
    let _controller = alone(&shop, &proxy).await;
    let two_out = || async { shop.labelled("no").await.len() == 2 };
    eventually("as many are out as may be", SOON, two_out).await;
    let asked = source.answers();
    eventually("it is asked again and again", SOON, || async { source.answers() >= asked + 4 }).await;
    source.name_bad([]);
    eventually("everybody serves", SOON, || async { observer.serving().len() == 5 }).await;
    shop.none_is_out().await;
    let writes = shop.pod_writes().await;
    assert_eq!(most_out(&writes), 2, "killed at {path} {passed}: {writes:?}");
    assert_eq!(observer.lowest_since(start), 3, "the fewest that served; killed at {path} {passed}");
}
