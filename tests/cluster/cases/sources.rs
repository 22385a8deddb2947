//! A source that fails, in every way it can: nobody is cut for it, it is told, and returns go on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted, of};
use crate::harness::{
    Behaviour, Controller, Fake, FakeSource, Orchard, SOON, Shop, WELL, breaker, counts, custom_breaker,
    discrete_breaker, eventually, price_by_the_mean,
};

/// Nothing but the floor limits the cuts: what is not cut is not cut for want of evidence.
fn unlimited(breaker: &Value) -> Value {
    json!({"limits": {"maxCutRatio": 100, "maxCutsPerPeriod": "100%"}, "breakers": [breaker]})
}

/// One pod was cut on good evidence. From now on another one is bad in truth.
struct Incident {
    shop: Shop,
    source: FakeSource,
    controller: Controller,
    names: Vec<String>,
}

/// How a fault shows in the breaker's counts.
enum Shows {
    /// As an evaluation of this outcome; the breaker's error in the status says these words.
    Outcome(&'static str, &'static str),
    /// As an answer of this outcome that says nothing of this many pods; the breaker's error says these words.
    Unknown(&'static str, f64, &'static str),
}

impl Incident {
    async fn begin(prefix: &str) -> Self {
        let shop = Shop::open(prefix, 4).await;
        let source = FakeSource::start(&shop.namespace).await;
        let controller = Controller::ready(&shop.controller()).await;
        let names = shop.names().await;
        let this = Self { shop, source, controller, names };
        this.source.answer(Fake::Counts(this.truth(this.cut())));
        let mut spec = unlimited(&discrete_breaker("errors", &this.source));
        // A cut ends when the test says so.
        spec["defaultActivator"] = json!({"period": "9m"});
        this.shop.govern(spec).await;
        this.shop.cut_are(&[this.cut()]).await;
        this
    }

    fn cut(&self) -> &str {
        &self.names[0]
    }

    fn next(&self) -> &str {
        &self.names[3]
    }

    fn truth(&self, bad: &str) -> BTreeMap<String, (f64, f64)> {
        counts(self.names.iter().map(String::as_str), &[bad])
    }

    async fn metric(&self, name: &str, label: &str) -> f64 {
        self.controller.metric(name, &[&self.shop.namespace, "breaker=\"errors\"", label]).await
    }

    /// The fault is there already. It lasts `evaluations` long, the cut ends meanwhile, and nobody else is cut; then
    /// good evidence is back, and shows that somebody would have been.
    async fn is_sat_out(&self, shows: Shows, evaluations: f64) {
        self.is_told(&shows, evaluations).await;
        let due = self.shop.due_in(self.cut(), 2).await;
        self.shop.none_is_out().await;
        self.is_told(&shows, evaluations).await;
        let writes = self.shop.pod_writes().await;
        assert_eq!(accepted(&writes, Step::Cut), 1, "{writes:?}");
        let back = of(&writes, self.cut()).into_iter().find(|w| w.step == Step::Restore).unwrap().time;
        let late = back.duration_since(due);
        assert!(late >= SignedDuration::ZERO && late < SignedDuration::from_secs(5), "{late:?} late");
        let told = format!("{}{:?}", self.shop.status().await, self.shop.events().await);
        assert!(!told.contains("s3cret"), "the server's own words: {told}");
        self.source.answer(Fake::Counts(self.truth(self.next())));
    }

    async fn is_mended(&self) {
        self.shop.cut_are(&[self.next()]).await;
        self.shop.becomes("Failed", "False").await;
        self.shop.becomes("Ready", "True").await;
    }

    /// Waits for so many more evaluations that show it, and for the words.
    async fn is_told(&self, shows: &Shows, evaluations: f64) {
        let (outcome, unknown, words) = match shows {
            Shows::Outcome(outcome, words) => (*outcome, 4.0, *words),
            Shows::Unknown(outcome, pods, words) => (*outcome, *pods, *words),
        };
        let label = format!("outcome=\"{outcome}\"");
        let evaluated = || self.metric("kubervisor_evaluations_total", &label);
        let before = evaluated().await;
        let more = || async { evaluated().await >= before + evaluations };
        eventually(&format!("{evaluations} more of {label}"), SOON, more).await;
        let verdicts = self.metric("kubervisor_verdicts", "verdict=\"unknown\"").await;
        assert!(verdicts >= unknown, "{verdicts} pods are unknown, not {unknown}");
        let error = || async { self.shop.status().await["breakers"][0]["error"].to_string().contains(words) };
        eventually(&format!("the breaker's error says {words:?}"), SOON, error).await;
        if let Shows::Outcome(..) = shows {
            self.shop.becomes("Failed", "True").await;
            self.shop.becomes("Ready", "False").await;
        }
    }
}

/// The whole story for an answer that is no evidence.
async fn nobody_is_cut_for(prefix: &str, fault: impl FnOnce(&Incident) -> Fake, shows: Shows) {
    let incident = Incident::begin(prefix).await;
    incident.source.answer(fault(&incident));
    incident.is_sat_out(shows, 3.0).await;
    incident.is_mended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_while_the_source_refuses_connections() {
    let incident = Incident::begin("refused").await;
    incident.source.stop().await;
    incident.is_sat_out(Shows::Outcome("Refused", "refuses connections"), 3.0).await;
    incident.source.start_again().await;
    incident.is_mended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_while_the_source_is_slow() {
    let incident = Incident::begin("slow").await;
    incident.source.answer(Fake::Slow(Duration::from_secs(6)));
    incident.is_sat_out(Shows::Outcome("Timeout", "no answer within 5 s"), 1.0).await;
    incident.is_mended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_while_the_source_answers_500() {
    nobody_is_cut_for("s500", |_| Fake::Status(500), Shows::Outcome("Status", "status 500")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_a_page_for_people() {
    nobody_is_cut_for("html", |_| Fake::Html, Shows::Outcome("NotJson", "not JSON")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_an_answer_that_ends_in_the_middle() {
    nobody_is_cut_for("torn", |_| Fake::Truncated, Shows::Outcome("Truncated", "ends in the middle")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_an_answer_that_is_too_large() {
    nobody_is_cut_for("huge", |_| Fake::Huge, Shows::Outcome("TooLarge", "larger than")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_ten_megabytes_about_other_pods() {
    let row = |n: u32| {
        format!(
            r#"{{"metric":{{"code":"500","namespace":"far-away","pod":"plum-{n:07}-of-another-orchard-beyond-the-hill"}},"value":[1,"9"]}}"#
        )
    };
    let rows = (0..95_000).map(row).collect::<Vec<_>>().join(",");
    let body = format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{rows}]}}}}"#);
    assert!(body.len() > 10_000_000);
    nobody_is_cut_for(
        "ten-mb",
        |_| Fake::Body(Arc::from(body)),
        Shows::Unknown("NoMember", 4.0, "no series names a pod of this Service"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_what_a_redirect_points_at() {
    let fault = |incident: &Incident| Fake::Redirect(incident.truth(incident.next()));
    nobody_is_cut_for("redirect", fault, Shows::Outcome("Redirect", "never followed")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_an_empty_answer_which_holds_the_breaker() {
    let incident = Incident::begin("empty").await;
    incident.source.answer(Fake::Empty);
    incident.is_told(&Shows::Unknown("Empty", 4.0, "no series"), 2.0).await;
    incident.shop.becomes("Held", "True").await;
    assert_eq!(incident.shop.condition("Held").await.1, "Blind");
    incident.is_sat_out(Shows::Unknown("Empty", 4.0, "no series"), 2.0).await;
    incident.is_mended().await;
    incident.shop.becomes("Held", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_values_that_are_no_numbers() {
    nobody_is_cut_for("nan", |_| Fake::EveryValue("NaN"), Shows::Unknown("Ok", 4.0, "")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_a_scalar() {
    nobody_is_cut_for("scalar", |_| Fake::Scalar, Shows::Outcome("WrongType", "a scalar and not")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_an_answer_that_warns_of_being_incomplete() {
    let fault = |incident: &Incident| Fake::Warned(incident.truth(incident.next()));
    nobody_is_cut_for("warned", fault, Shows::Unknown("Partial", 1.0, "incomplete")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_the_source_cannot_read_is_a_fault_of_the_spec_until_it_can() {
    let incident = Incident::begin("bad-data").await;
    incident.source.answer(Fake::BadData);
    incident.shop.state_is("InitFailed").await;
    let told = incident.shop.condition("InitFailed").await.2;
    assert!(told.contains("spec.breakers[errors]") && told.contains("mend promQL"), "{told}");
    incident.is_sat_out(Shows::Outcome("BadQuery", "400 bad_data"), 2.0).await;
    incident.is_mended().await;
    incident.shop.state_is("Running").await;
    incident.shop.becomes("InitFailed", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_cut_for_series_from_which_the_key_was_aggregated_away() {
    let keyless = |incident: &Incident| {
        let row = |pod: &String| json!({"metric": {"pod": pod, "namespace": incident.shop.namespace}, "value": [1, "90"]});
        let rows: Vec<_> = incident.names.iter().map(row).collect();
        let answer = json!({"status": "success", "data": {"resultType": "vector", "result": rows}});
        Fake::Body(Arc::from(answer.to_string()))
    };
    nobody_is_cut_for("keyless", keyless, Shows::Unknown("NoKey", 4.0, "lack the label named in key")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_fails_every_second_time_is_not_a_write_every_time() {
    for (prefix, fault, word) in
        [("flaps", Fake::Status(500), "Held"), ("flips", Fake::BadData, "InitFailed")]
    {
        let incident = Incident::begin(prefix).await;
        let well = Fake::Counts(incident.truth("nobody"));
        incident.source.answer(well.clone());
        incident.shop.due_in(incident.cut(), 1).await;
        incident.shop.none_is_out().await;
        incident.source.answer(Fake::Turns(Box::new([fault, well])));
        incident.shop.becomes("Failed", "True").await;
        let (start, since, asked) = (Instant::now(), Timestamp::now(), incident.source.answers());
        let many = || async { incident.source.answers() >= asked + 20 };
        eventually("twenty answers, ten of them failures", SOON * 2, many).await;
        let writes = incident.shop.writes_by(incident.shop.controller_user(), since).await;
        // One for the change, then one in five seconds at most, while the audit log was waited for too.
        let most = 2 + start.elapsed().as_secs() / 5;
        let statuses = writes.iter().filter(|w| w.subresource == "status").count() as u64;
        assert!((1..=most).contains(&statuses), "{statuses} writes of the status, and not 1 to {most}");
        let events = incident.shop.events().await;
        let told = events.iter().filter(|(reason, _)| reason == word).count();
        // On the KubervisorService, once for each word.
        assert!(told <= 1, "{told} Events {word}: {events:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_source_takes_older_samples_than_asked_for_cuts_outlast_them_and_it_is_told() {
    let shop = Shop::open("ages", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    source.errors_of(names.iter().map(String::as_str), &[]);
    let mut instant = discrete_breaker("instant", &source);
    instant["discreteValueOutOfList"]["promQL"] = json!("requests_of_this_minute");
    let quiet = FakeSource::start(&shop.namespace).await;
    quiet.errors_of(names.iter().map(String::as_str), &[]);
    shop.govern(json!({"breakers": [instant, discrete_breaker("ranged", &quiet)]})).await;
    let told = || async { shop.condition("Ready").await.2.contains("instant: sample age up to 5m") };
    eventually("it is told", SOON, told).await;
    assert!(!shop.condition("Ready").await.2.contains("ranged: sample age"));
    source.errors_of(names.iter().map(String::as_str), &[&names[0]]);
    shop.cut_are(&[&names[0]]).await;
    let left = shop.restore_at(&names[0]).await.duration_since(Timestamp::now());
    assert!(left.as_secs() > 280, "only {left} are left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_service_that_is_away_or_names_strangers_cuts_nobody() {
    let shop = Shop::open("custom", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    shop.bare_pod("plum-0", "plums").await;
    source.name_bad(["plum-0", "nobody-of-that-name"]);
    shop.govern(unlimited(&custom_breaker("named", &source))).await;
    let evaluated = async |outcome: &str| {
        let label = format!("outcome=\"{outcome}\"");
        controller.metric("kubervisor_evaluations_total", &[&shop.namespace, &label]).await
    };
    eventually("strangers are named", SOON, || async { evaluated("Ok").await >= 3.0 }).await;
    source.stop().await;
    source.name_bad([names[1].as_str()]);
    eventually("it is refused", SOON, || async { evaluated("Refused").await >= 3.0 }).await;
    shop.becomes("Failed", "True").await;
    assert_eq!(shop.pod_writes().await, []);
    source.start_again().await;
    shop.cut_are(&[&names[1]]).await;
    shop.becomes("Failed", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_resources_that_ask_the_same_share_one_query_a_period_and_both_act_on_it() {
    let shop = Shop::open("shared", 3).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    for pod in ["plum-0", "plum-1", "plum-2"] {
        shop.bare_pod(pod, "plums").await;
    }
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "plums"},
        "spec": {"selector": {"app": "plums", "kubervisor/traffic": "yes"}, "ports": [{"port": 80}]},
    }));
    let names = shop.names().await;
    source.errors_of(names.iter().map(String::as_str), &[]);
    let spec = |service: &str| json!({"service": service, "breakers": [discrete_breaker("errors", &source)]});
    shop.govern(spec("pears")).await;
    shop.govern_as("plums", spec("plums")).await;
    let evaluated = async |name: &str| {
        let label = format!("name=\"{name}\"");
        controller.metric("kubervisor_evaluations_total", &[&shop.namespace, &label]).await
    };
    let both = async || (evaluated("pears").await, evaluated("plums").await);
    eventually("both have begun", SOON, || async { both().await.1 >= 2.0 }).await;
    let (before, (pears, plums)) = (source.answers(), both().await);
    let ten = || async { both().await.0 >= pears + 10.0 && both().await.1 >= plums + 10.0 };
    eventually("ten periods pass", SOON, ten).await;
    let queries = source.answers() - before;
    assert!((10..=13).contains(&queries), "{queries} queries for ten periods of two resources");
    assert!(controller.metric("kubervisor_queries_total", &["shared=\"true\""]).await >= 10.0);
    source.errors_of(names.iter().map(String::as_str), &[&names[0], "plum-1"]);
    shop.cut_are(&[&names[0], "plum-1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_real_prometheus_bad_pods_are_cut_and_restored_and_nobody_is_cut_while_it_is_away() {
    let shop = Shop::open("real", 4).await;
    let orchard = Orchard::grow(&shop).await;
    let controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    let rule = json!({"discreteValueOutOfList": {
        "prometheusService": orchard.address(), "key": "code", "podNamekey": "pod", "goodValues": ["200"],
        "promQL": "sum by (code, namespace, pod) (increase(answers_total[5s]))",
    }});
    shop.govern(unlimited(&breaker("errors", &rule))).await;
    let verdicts = async |verdict: &str| {
        let label = format!("verdict=\"{verdict}\"");
        controller.metric("kubervisor_verdicts", &[&shop.namespace, &label]).await
    };
    eventually("all are found healthy", SOON, || async { verdicts("healthy").await >= 4.0 }).await;
    let failing = Behaviour { good: 0, bad: 4, ..WELL };
    orchard.behaves(&names[0], failing);
    shop.cut_are(&[&names[0]]).await;
    shop.told("PodCut", "bad ").await;
    orchard.prometheus.stop().await.unwrap();
    orchard.behaves(&names[0], WELL);
    orchard.behaves(&names[1], failing);
    shop.becomes("Failed", "True").await;
    let due = shop.restore_at(&names[0]).await;
    shop.none_is_out().await;
    let writes = shop.pod_writes().await;
    let steps: Vec<_> = writes.iter().map(|w| (w.pod.as_str(), w.step)).collect();
    assert_eq!(steps, [(names[0].as_str(), Step::Cut), (names[0].as_str(), Step::Restore)]);
    assert!(writes[1].time >= due, "restored before its time");
    orchard.prometheus.start_again().await.unwrap();
    shop.cut_are(&[&names[1]]).await;
    shop.becomes("Failed", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_real_prometheus_a_busy_pod_far_from_the_middle_is_cut_and_an_idle_one_is_not() {
    let shop = Shop::open("middle", 5).await;
    let orchard = Orchard::grow(&shop).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let names = shop.names().await;
    let rule = json!({"fleetOutlier": {
        "prometheusService": orchard.address(), "minDelta": 2,
        "promQL": "sum by (namespace, pod) (rate(price_sum_total[5s])) \
            / sum by (namespace, pod) (rate(answers_total{code=\"200\"}[5s]))",
        "activityPromQL": "sum by (namespace, pod) (increase(answers_total[5s]))", "minActivity": 50,
    }});
    orchard.behaves(&names[1], Behaviour { good: 1, price: 90.0, ..WELL });
    orchard.behaves(&names[4], Behaviour { price: 90.0, ..WELL });
    shop.govern(unlimited(&breaker("price", &rule))).await;
    // No pod is compared before it is Ready for half a minute.
    eventually("it is cut", SOON * 2, || async { shop.labelled("no").await == [names[4].clone()] }).await;
    shop.told("PodCut", "where the fleet's middle is 7.0").await;
    let alone = async || shop.labelled("no").await.iter().all(|pod| *pod == names[4]);
    crate::harness::throughout("the idle one serves", Duration::from_secs(5), alone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_real_prometheus_a_pod_with_half_the_price_is_cut_and_restored_once_it_is_mended() {
    let shop = Shop::open("price", 4).await;
    let orchard = Orchard::grow(&shop).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let odd = shop.names().await[2].clone();
    let rule = json!({"continuousValueDeviation": {
        "prometheusService": orchard.address(), "podNamekey": "pod", "maxDeviationPercent": 40,
        "promQL": price_by_the_mean("5s"),
    }});
    orchard.behaves(&odd, Behaviour { price: 3.5, ..WELL });
    shop.govern(unlimited(&breaker("price", &rule))).await;
    // No pod is compared before it is Ready for half a minute.
    eventually("it is cut", SOON * 2, || async { shop.labelled("no").await == [odd.clone()] }).await;
    orchard.behaves(&odd, WELL);
    shop.told("PodCut", "from the median").await;
    eventually("it is back", SOON * 2, || async { shop.labelled("no").await.is_empty() }).await;
    let again = async || shop.labelled("no").await.is_empty();
    crate::harness::throughout("it stays", Duration::from_secs(5), again).await;
    assert_eq!(accepted(&shop.pod_writes().await, Step::Cut), 1);
}
