//! A write of a term of the Lease that is over: refused by the API server itself, by the policy of the chart.

use std::time::Instant;

use futures::future::join_all;
use http::{Method, Request, header};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use localcluster::{Fault, FaultProxy, ProcessSignal, Rule, RuleId};
use serde_json::{Value, json};

use super::chart::installed;
use crate::harness::chart::Chart;
use crate::harness::trace::{PodWrite, Step, of};
use crate::harness::{Controller, FakeSource, Observer, SOON, Shop, custom_breaker, eventually};

const EPOCH: &str = "kubervisor.k8s.io/epoch";

/// Somebody with the controller's own rights, who writes what a controller of some term would.
struct Writer<'a> {
    shop: &'a Shop,
    client: Client,
}

impl Writer<'_> {
    async fn ask(&self, request: http::request::Builder, body: &Value) -> Result<(), String> {
        let request = request.body(body.to_string().into_bytes()).unwrap();
        self.client.request::<Value>(request).await.map(drop).map_err(|error| error.to_string())
    }

    async fn patch(&self, path: &str, mut body: Value, epoch: Value) -> Result<(), String> {
        body["metadata"]["annotations"][EPOCH] = epoch;
        let request = Request::patch(format!("/api/v1/namespaces/{}/{path}", self.shop.namespace));
        self.ask(request.header(header::CONTENT_TYPE, "application/merge-patch+json"), &body).await
    }

    async fn pod(&self, epoch: Value) -> Result<(), String> {
        self.patch("pods/pear-0", json!({"metadata": {"labels": {"kubervisor/traffic": "yes"}}}), epoch).await
    }

    async fn key(&self, key: Value, epoch: Value) -> Result<(), String> {
        self.patch("services/pears", json!({"spec": {"selector": {"kubervisor/traffic": key}}}), epoch).await
    }

    async fn eviction(&self, epoch: Value) -> Result<(), String> {
        let meta = json!({"name": "pear-1", "annotations": {EPOCH: epoch}});
        let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta});
        let request =
            Request::post(format!("/api/v1/namespaces/{}/pods/pear-1/eviction", self.shop.namespace));
        self.ask(request.header(header::CONTENT_TYPE, "application/json"), &body).await
    }
}

/// The API server learns of a policy by a watch.
async fn acts(writer: &Writer<'_>) {
    eventually("the policy acts", SOON, || async { writer.pod(Value::Null).await.is_err() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_a_term_that_is_over_is_refused_to_pods_in_evictions_and_for_a_key_that_goes_in() {
    let shop = Shop::open("fenced", 0).await;
    shop.bare_pods(3).await;
    let chart = installed(&shop, &["admission.keyNeedsLabels=Off"]);
    let controller = Controller::ready(&chart.controller(None).await).await;
    let term = chart.lease().await.spec.unwrap().lease_transitions.unwrap();
    drop(controller);
    let ours = Writer { shop: &shop, client: chart.client().await };
    acts(&ours).await;
    let [over, now, next] = [term - 1, term, term + 1].map(|term| json!(term.to_string()));
    let said = ours.pod(over.clone()).await.unwrap_err();
    let [is, stands] = [format!("of term {}", term - 1), format!("in term {term}")];
    assert!(said.contains(&is) && said.contains(&stands) && said.contains(&shop.namespace), "{said}");
    assert!(ours.pod(Value::Null).await.unwrap_err().contains("of term none"));
    assert!(ours.pod(json!("-1")).await.unwrap_err().contains("of term -1"));
    ours.pod(now.clone()).await.unwrap();
    // Of a holder so new that this API server has not seen its Lease yet.
    ours.pod(next).await.unwrap();
    shop.select(&json!({"app": "pears"})).await;
    assert!(ours.key(json!("yes"), over.clone()).await.unwrap_err().contains(&is));
    ours.key(json!("yes"), now.clone()).await.unwrap();
    // Without the key every pod serves.
    ours.key(Value::Null, Value::Null).await.unwrap();
    assert!(ours.eviction(over).await.unwrap_err().contains(&is));
    ours.eviction(now).await.unwrap();
    // Other people's writes are none of its business.
    Writer { shop: &shop, client: shop.client.clone() }.pod(json!("0")).await.unwrap();
    chart.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_the_api_server_refuses_for_its_term_says_why_and_does_not_press_on() {
    let shop = Shop::open("surpassed", 0).await;
    shop.bare_pods(5).await;
    // So long that its right outlasts the test, as far as it knows.
    let chart = installed(&shop, &["lease.duration=10m", "hooks.release.activeDeadlineSeconds=900"]);
    let source = FakeSource::start(&shop.namespace).await;
    let proxy = shop.proxy().await;
    let controller = Controller::ready(&chart.controller(Some(&proxy.url())).await).await;
    acts(&Writer { shop: &shop, client: chart.client().await }).await;
    proxy.inject(Rule::new(Fault::Hang).path("/leases/"));
    let lease = chart.lease().await;
    let leases: Api<Lease> = Api::namespaced(shop.client.clone(), &shop.namespace);
    let (name, term) = (lease.metadata.name.unwrap(), lease.spec.unwrap().lease_transitions.unwrap());
    let surpassed = Patch::Merge(json!({"spec": {"leaseTransitions": term + 1}}));
    leases.patch(&name, &PatchParams::default(), &surpassed).await.unwrap();
    source.name_bad(["pear-0"]);
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    let tries = || async { of(&shop.pod_writes_by(&chart.user).await, "pear-0").len() };
    let before = tries().await;
    eventually("its cut is refused", SOON, || async { tries().await > before }).await;
    let until = source.answers() + 9;
    eventually("it goes on evaluating", SOON, || async { source.answers() >= until }).await;
    // After 1, 2 and 4 s: one for each tick would be nine.
    let tries = tries().await - before;
    assert!((2..=5).contains(&tries), "{tries} tries in nine evaluations");
    assert!(shop.labelled("no").await.is_empty());
    let log = controller.log();
    let said =
        format!("of term {term} of the Lease {}/{name}, which is in term {}", shop.namespace, term + 1);
    assert!(log.contains(&said) && log.contains("another controller acts now (code 403)"), "{log}");
    drop(controller);
    chart.remove().await;
}

/// Twenty rounds in all, in several shops at once.
const SHOPS: usize = 4;
const ROUNDS: usize = 5;
const PODS: usize = 6;
/// One of them may be out.
const FLOOR: usize = PODS - 1;

/// A controller behind a proxy of its own.
struct Replica {
    controller: Controller,
    proxy: FaultProxy,
}

impl Replica {
    async fn start(chart: &Chart<'_>, shop: &Shop) -> Self {
        let proxy = shop.proxy().await;
        let controller = Controller::ready(&chart.controller(Some(&proxy.url())).await).await;
        Self { controller, proxy }
    }

    async fn leads(&self) -> bool {
        self.controller.metric("kubervisor_leader", &[]).await > 0.5
    }

    /// Its next write to a pod stays on the way.
    fn hold(&self) -> RuleId {
        let write = Rule::new(Fault::Hold).method(Method::PATCH).path("/pods/").times(1);
        self.proxy.inject(write)
    }
}

/// A shop whose pods go bad one after the other, and two controllers of the chart.
struct Stage<'a> {
    shop: &'a Shop,
    chart: Chart<'a>,
    source: FakeSource,
    replicas: [Replica; 2],
    observer: Observer,
    start: Instant,
}

/// What the API server did in the rounds of one shop.
#[derive(Debug, Default)]
struct Tally {
    /// Writes to pods of a term that another had followed by then.
    late: Vec<PodWrite>,
    /// Writes to pods of the term that ran, that the policy refused.
    wrongly: usize,
    /// The fewest pods that served at any moment.
    lowest: usize,
}

impl<'a> Stage<'a> {
    async fn open(shop: &'a Shop, fence: bool) -> Self {
        shop.bare_pods(PODS).await;
        let fence = format!("admission.fence={fence}");
        let values = ["lease.duration=3s", "maxCutsPerMinute=1000", "admission.labelPods=false", &fence];
        let chart = installed(shop, &values);
        let first = Replica::start(&chart, shop).await;
        eventually("the first leads", SOON, || first.leads()).await;
        let replicas = [first, Replica::start(&chart, shop).await];
        if fence.ends_with("true") {
            acts(&Writer { shop, client: chart.client().await }).await;
        }
        let source = FakeSource::start(&shop.namespace).await;
        let mut breaker = custom_breaker("named", &source);
        breaker["minPodsAvailableCount"] = json!(FLOOR);
        breaker["activator"] = json!({"period": 1, "growth": "Constant"});
        let limits = json!({"maxCutRatio": 60, "maxCutsPerPeriod": "60%"});
        shop.govern(json!({"limits": limits, "breakers": [breaker]})).await;
        let observer = shop.observer();
        let stage = Self { shop, chart, source, replicas, observer, start: Instant::now() };
        stage.serve(PODS).await;
        Self { start: Instant::now(), ..stage }
    }

    async fn serve(&self, count: usize) {
        let serve = || async { self.observer.serving().len() == count };
        eventually(&format!("{count} pods serve"), SOON, serve).await;
    }

    /// The leader is stopped for longer than its Lease with a cut on the wire. The other follows and cuts as many as it
    /// may; then that cut arrives, and the one that slept wakes. Returns the term that has begun, and when it did.
    async fn round(&self, number: usize) -> (u64, Timestamp) {
        let (asleep, awake) = (&self.replicas[number % 2], &self.replicas[(number + 1) % 2]);
        let [sent, other] = [2 * number, 2 * number + 1].map(|pod| format!("pear-{}", pod % PODS));
        let held = asleep.hold();
        self.source.name_bad([sent.as_str()]);
        eventually("its cut is on the wire", SOON, || async { asleep.proxy.hits(held) == 1 }).await;
        asleep.controller.signal(ProcessSignal::Freeze);
        self.source.name_bad([other.as_str()]);
        eventually("the other leads", SOON, || awake.leads()).await;
        let cut = || async { !self.observer.serving().contains(&other) };
        eventually("the other cuts", SOON, cut).await;
        let lease = self.chart.lease().await.spec.unwrap();
        asleep.proxy.clear(held);
        eventually("the cut arrives", SOON, || async { !asleep.proxy.answers(held).is_empty() }).await;
        asleep.controller.signal(ProcessSignal::Thaw);
        eventually("who slept knows", SOON, || async { !asleep.leads().await }).await;
        self.source.name_bad([]);
        self.serve(PODS).await;
        (u64::try_from(lease.lease_transitions.unwrap()).unwrap(), lease.acquire_time.unwrap().0)
    }

    async fn rounds(&self) -> Vec<(u64, Timestamp)> {
        let mut terms = Vec::new();
        for number in 0..ROUNDS {
            terms.push(self.round(number).await);
        }
        terms
    }

    async fn end(self, terms: Vec<(u64, Timestamp)>) -> Tally {
        let lowest = self.observer.lowest_since(self.start);
        drop(self.replicas);
        let writes = self.shop.pod_writes_by(&self.chart.user).await;
        let stamped = |write: &PodWrite| write.epoch.is_some() && write.step != Step::Unread;
        let over =
            |write: &PodWrite| terms.iter().any(|(term, at)| write.epoch < Some(*term) && write.time > *at);
        let (late, timely): (Vec<_>, Vec<_>) =
            writes.into_iter().filter(stamped).partition(|write| over(write));
        let wrongly = timely.iter().filter(|write| write.code == 403).count();
        self.chart.remove().await;
        Tally { late, wrongly, lowest }
    }
}

/// Of all stages; helm blocks, so no round may run meanwhile.
async fn open_all(shops: &[Shop], fence: bool) -> Vec<Stage<'_>> {
    let mut stages = Vec::new();
    for shop in shops {
        stages.push(Stage::open(shop, fence).await);
    }
    stages
}

async fn end_all(stages: Vec<Stage<'_>>, terms: Vec<Vec<(u64, Timestamp)>>) -> Vec<Tally> {
    let mut tallies = Vec::new();
    for (stage, terms) in stages.into_iter().zip(terms) {
        tallies.push(stage.end(terms).await);
    }
    tallies
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_cuts_that_arrive_after_a_stop_of_their_sender_for_longer_than_the_lease_none_is_accepted()
{
    let shops = join_all((0..2 * SHOPS).map(|_| Shop::open("slept", 0))).await;
    let (fenced, open) = shops.split_at(SHOPS);
    let (fenced, open) = (open_all(fenced, true).await, open_all(open, false).await);
    let rounds = async |stages: &[Stage<'_>]| join_all(stages.iter().map(Stage::rounds)).await;
    let (with, without) = tokio::join!(rounds(&fenced), rounds(&open));
    let (with, without) = (end_all(fenced, with).await, end_all(open, without).await);
    let arrived = |all: &[Tally]| all.iter().map(|one| one.late.len()).sum::<usize>();
    let accepted = |all: &[Tally]| all.iter().flat_map(|one| &one.late).filter(|w| w.accepted()).count();
    let lowest = |all: &[Tally]| all.iter().map(|one| one.lowest).min().unwrap();
    for (what, all) in [("with the fence", &with), ("without it", &without)] {
        println!(
            "{what}: {} stops; {} writes to pods arrived after their term, {} of them accepted; at the least {} of \
             {PODS} pods served, and {FLOOR} must",
            SHOPS * ROUNDS,
            arrived(all),
            accepted(all),
            lowest(all)
        );
    }
    assert!(arrived(&with) >= SHOPS * ROUNDS, "{with:?}");
    assert_eq!(accepted(&with), 0, "{with:?}");
    assert_eq!(with.iter().map(|one| one.wrongly).sum::<usize>(), 0, "the holder was refused: {with:?}");
    assert!(lowest(&with) >= FLOOR, "{with:?}");
}
