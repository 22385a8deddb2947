//! The faults of the original (2018), each a test that fails if it comes back. A test has the name of the fault; what
//! runs is the whole controller, on a small API server in memory and under a clock that is moved.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

mod stage;

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use kubervisor::api::{Defaults, parse};
use kubervisor::sources::{Secret, Secrets, Source, SourceError, SourceOptions, Sources, Unread};
use kubervisor_core::gates::Gate;
use serde_json::{Value, json};
use stage::{
    Server, Stage, merge, one_orchard, orchard, pod, pod_path, resource_path, service, service_path,
};
use tokio::net::TcpListener;
use wiremock::matchers::header;
use wiremock::{Mock, MockServer, ResponseTemplate};

const TEN: [&str; 10] =
    ["pear-0", "pear-1", "pear-2", "pear-3", "pear-4", "pear-5", "pear-6", "pear-7", "pear-8", "pear-9"];

/// A cut that does not end while the story lasts.
fn long_cuts() -> Value {
    json!({"activator": {"period": 3_000, "maxPeriod": 3_000}})
}

#[tokio::test(start_paused = true)]
async fn floor_over_what_is_left_ten_five_two_one() {
    let stage = one_orchard(10, &json!({"minPodsAvailableRatio": 50}));
    stage.bad(&TEN);
    assert_eq!(stage.most_out(10, 120).await, 5);
}

#[tokio::test(start_paused = true)]
async fn floor_per_breaker() {
    let stage = one_orchard(10, &json!({"minPodsAvailableCount": 8}));
    let first = stage.server.get(&resource_path("orchard"))["spec"]["breakers"][0].clone();
    let mut second = first.clone();
    merge(&mut second, &json!({"name": "latency", "customService": "source.test/latency"}));
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"breakers": [first, second]}}));
    stage.page("errors", &TEN[..5]).page("latency", &TEN[5..]);
    assert_eq!(stage.most_out(10, 60).await, 2);
    assert!(stage.asked("latency") > 5 && stage.asked("errors") > 5);
}

#[tokio::test(start_paused = true)]
async fn cache_lag_spends_twice() {
    let stage = one_orchard(10, &json!({"minPodsAvailableCount": 8, "activator": {"period": 300}}));
    stage.pass(2).await;
    stage.server.lag(Duration::from_secs(30));
    stage.bad(&TEN);
    assert_eq!(stage.most_out(10, 120).await, 2);
}

#[tokio::test(start_paused = true)]
async fn full_object_put() {
    let stage = one_orchard(5, &json!({}));
    let before = stage.server.get(&pod_path("orchard", 3));
    stage.bad(&["pear-3"]).pass(12).await;
    assert_eq!(stage.out(5), [3]);
    stage.bad(&[]).pass(120).await;
    assert!(stage.out(5).is_empty());
    for asked in stage.server.pod_writes() {
        assert_eq!((asked.method, asked.media.as_str()), (Method::PATCH, "application/merge-patch+json"));
        let mut rest = asked.body.clone();
        let meta = rest["metadata"].as_object_mut().unwrap();
        assert_eq!(
            (meta.remove("uid").unwrap(), meta.remove("resourceVersion").is_some()),
            (json!("uid-orchard-3"), true)
        );
        let ours = ["kubervisor", "breaker/", "controller.kubernetes.io/pod-deletion-cost"];
        for part in ["labels", "annotations"] {
            let keys = meta.remove(part).unwrap_or_default();
            let known = |key: &String| ours.iter().any(|prefix| key.starts_with(prefix));
            assert!(keys.as_object().unwrap().keys().all(known), "{keys}");
        }
        assert_eq!(rest, json!({"metadata": {}}), "nothing else is written");
    }
    let after = stage.server.get(&pod_path("orchard", 3));
    assert_eq!((&after["spec"], &after["status"]), (&before["spec"], &before["status"]));
    assert_eq!(after["metadata"]["annotations"]["theirs"], "kept");
}

#[tokio::test(start_paused = true)]
async fn unfiltered_custom_service() {
    let stage = one_orchard(5, &long_cuts());
    let mut stranger = pod("orchard", 77);
    stranger["metadata"]["labels"]["app"] = json!("plum");
    stage.server.put(&pod_path("orchard", 77), stranger);
    stage.bad(&["pear-77", "no-such-pod", "", "pear-3"]).pass(60).await;
    assert_eq!((stage.out(5), stage.label("orchard", 77)), (vec![3], "yes".into()));
    let writes = stage.server.pod_writes();
    assert!(writes.iter().all(|asked| asked.path == pod_path("orchard", 3)), "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn counts_cast_to_unsigned() {
    let stage = one_orchard(4, &json!({"minPodsAvailableCount": 9}));
    stage.bad(&TEN).pass(60).await;
    assert!(stage.server.pod_writes().is_empty());
    assert_eq!(stage.last_plan().report.budget.headroom().0, 0, "4 - 9 is no budget");
}

#[tokio::test(start_paused = true)]
async fn map_order_chooses() {
    for rotated in 0..10 {
        let server = Server::default();
        orchard(&server, "orchard", 0, &json!({"minPodsAvailableCount": 7, "activator": {"period": 300}}));
        (0..10)
            .map(|i| (i * 3 + rotated) % 10)
            .for_each(|i| server.put(&pod_path("orchard", i), pod("orchard", i)));
        let stage = Stage::start(&server);
        let mut named = TEN;
        named.rotate_left(rotated);
        stage.bad(&named).pass(20).await;
        assert_eq!(stage.out(10), [0, 1, 2], "{rotated}");
    }
}

#[tokio::test(start_paused = true)]
async fn strikes_that_never_decay_and_no_jitter() {
    let stage = one_orchard(10, &json!({"activator": {"period": 60, "maxPeriod": 120}}));
    stage.bad(&TEN[..5]).pass(10).await;
    let annotation =
        |key: &str, i| stage.server.get(&pod_path("orchard", i))["metadata"]["annotations"][key].clone();
    let due: std::collections::BTreeSet<_> =
        (0..5).map(|i| annotation("kubervisor.k8s.io/restore-at", i).to_string()).collect();
    assert_eq!((stage.out(10).len(), due.len()), (5, 5), "cut together and due together: {due:?}");
    let strikes = |i| annotation("kubervisor.k8s.io/strikes", i);
    assert_eq!(strikes(0), r#"{"errors":1}"#);
    stage.bad(&[]).pass(900).await;
    assert_eq!((stage.out(10), strikes(0), strikes(4)), (vec![], Value::Null, Value::Null));
}

#[tokio::test(start_paused = true)]
async fn direct_delete() {
    let stage = one_orchard(5, &json!({"activator": {"mode": "retryAndKill", "maxRetryCount": 0}}));
    stage.server.refuse_evictions();
    stage.bad(&["pear-3"]).pass(60).await;
    let writes = stage.server.pod_writes();
    let evictions: Vec<_> = writes.iter().filter(|asked| asked.path.ends_with("/eviction")).collect();
    let wanted = &evictions[0].body["deleteOptions"]["preconditions"];
    assert_eq!((&evictions[0].method, &wanted["uid"]), (&Method::POST, &json!("uid-orchard-3")));
    assert!(writes.iter().all(|asked| asked.method != Method::DELETE));
    assert_eq!(stage.out(5), [3], "refused, it stays as it is");
}

#[tokio::test(start_paused = true)]
async fn inverted_counters() {
    let stage = one_orchard(10, &long_cuts());
    stage.bad(&["pear-3"]).pass(120).await;
    let text = stage.metrics.text();
    for (state, count) in [("serving", 9), ("cut", 1), ("paused", 0), ("not_ready", 0)] {
        let line =
            format!("kubervisor_pods{{namespace=\"orchard\",name=\"pick\",state=\"{state}\"}} {count}");
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    let counts = stage.server.get(&resource_path("orchard"))["status"]["podCount"].clone();
    let count = |what: &str| counts[what].as_u64();
    let [managed, cut, paused] = ["nbPodsManaged", "nbPodsBreaked", "nbPodsPaused"].map(count);
    assert_eq!((managed, cut, paused), (Some(10), Some(1), Some(0)), "{counts}");
}

#[tokio::test(start_paused = true)]
async fn deletion_leaves_pods_dark() {
    let stage = one_orchard(5, &long_cuts());
    stage.bad(&["pear-3"]).pass(12).await;
    assert_eq!(stage.out(5), [3]);
    stage.server.delete(&resource_path("orchard"));
    stage.pass(10).await;
    assert!(stage.out(5).is_empty());
    let pod = stage.server.get(&pod_path("orchard", 3));
    assert_eq!(pod["metadata"]["labels"]["kubervisor/name"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn dry_run_and_activation_promised_only() {
    let stage = one_orchard(5, &long_cuts());
    let open = service("orchard", &json!({"app": "pear"}));
    stage.server.put(&service_path("orchard"), open);
    stage.bad(&["pear-3"]).pass(60).await;
    assert!(
        stage.server.pod_writes().is_empty() && stage.last_plan().report.gates.contains(&Gate::NotActivated)
    );
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"mode": "DryRun"}}));
    let gated = service("orchard", &json!({"app": "pear", "kubervisor/traffic": "yes"}));
    stage.server.put(&service_path("orchard"), gated);
    stage.pass(120).await;
    assert!(stage.server.pod_writes().is_empty());
    let status = &stage.server.get(&resource_path("orchard"))["status"];
    assert_eq!(status["breakers"][0]["wouldCut"], json!(["pear-3"]), "{status}");
    stage.server.edit(&resource_path("orchard"), &json!({"spec": {"mode": null}}));
    stage.pass(30).await;
    assert_eq!(stage.out(5), [3]);
}

/// The one Secret that there is.
struct Vault;

impl Secrets for Vault {
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Secret, Unread>> {
        let data = [("token".to_owned(), b"t0ken".to_vec()), ("ca.crt".to_owned(), CA.to_vec())].into();
        let host = Some("127.0.0.1".to_owned());
        let known = (namespace, name) == ("orchard", "prom");
        async move { if known { Ok(Secret { allowed: true, host, data }) } else { Err(Unread::Missing) } }
            .boxed()
    }
}

const CA: &[u8] = include_bytes!("fixtures/tls/ca.crt");

async fn ask(address: &str, own: &Value) -> Result<usize, SourceError> {
    let rule = json!({"promQL": "pears", "max": 3, "prometheusService": address, "prometheus": own});
    let spec = json!({"service": "pears", "breakers": [{"name": "errors", "valueOutOfRange": rule}]});
    let parsed = parse(&spec, "orchard", &Defaults::default()).unwrap();
    let options =
        SourceOptions { allow_loopback: true, secrets: Arc::new(Vault), ..SourceOptions::default() };
    let answer = Sources::new(options).unwrap().ask(&parsed.asked[0].question, 1).await;
    answer.map(|answer| answer.samples.partial.into())
}

#[tokio::test]
async fn no_timeouts_no_auth_no_tls() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let late = ask(&silent, &json!({"timeout": "50ms"})).await;
    assert_eq!(late, Err(SourceError::Timeout(Duration::from_millis(50))));

    let locked = MockServer::start().await;
    let body = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    let with_token = Mock::given(header("authorization", "Bearer t0ken"));
    with_token.respond_with(ResponseTemplate::new(200).set_body_string(body)).mount(&locked).await;
    let token = json!({"bearerTokenSecretRef": {"name": "prom"}});
    assert_eq!(ask(&locked.uri(), &token).await, Ok(0));
    assert!(ask(&locked.uri(), &json!({})).await.is_err(), "without the token there is nothing");

    let plain = locked.uri().replace("http://", "https://");
    let tls = json!({"bearerTokenSecretRef": {"name": "prom"}, "tls": {"caSecretRef": {"name": "prom"}}});
    let asked_before = locked.received_requests().await.unwrap().len();
    assert!(ask(&plain, &tls).await.is_err(), "no token goes to a server that speaks no TLS");
    assert_eq!(locked.received_requests().await.unwrap().len(), asked_before);
}

#[tokio::test(start_paused = true)]
async fn name_without_namespace() {
    let stage = one_orchard(5, &long_cuts());
    stage.bad(&["meadow/pear-3"]).pass(60).await;
    assert!(stage.asked("errors") > 5 && stage.server.pod_writes().is_empty());
    stage.bad(&["orchard/pear-3"]).pass(12).await;
    assert_eq!(stage.out(5), [3]);
}

#[tokio::test(start_paused = true)]
async fn restart_of_a_breaker_on_every_edit() {
    let mut rule = long_cuts();
    merge(&mut rule, &json!({"evaluationPeriod": 20, "confirm": {"anomalous": 2, "of": 3}}));
    let stage = one_orchard(5, &rule);
    stage.bad(&["pear-3"]);
    for second in 0..20 {
        let limits = json!({"spec": {"limits": {"maxAnomalousRatio": 60 + second}}});
        stage.server.edit(&resource_path("orchard"), &limits);
        stage.pass(3).await;
    }
    assert_eq!(stage.asked("errors"), 3, "every 20 s, whatever else is edited meanwhile");
    assert_eq!(stage.out(5), [3], "two answers confirm it, an edit between them or not");
}

#[tokio::test(start_paused = true)]
async fn all_pods_looked_at_each_second() {
    let stage = one_orchard(10, &json!({"evaluationPeriod": 60}));
    stage.pass(60).await;
    let before = stage.ticks();
    stage.pass(600).await;
    let ticks = stage.ticks() - before;
    assert!(ticks <= 75, "{ticks} ticks in 600 s, for 10 answers and a look every 10 s");
    assert!(stage.server.pod_writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn cut_pod_without_its_name_label_is_set_back_to_yes() {
    let server = Server::default();
    orchard(&server, "orchard", 5, &json!({}));
    server.edit(&resource_path("orchard"), &json!({"spec": {"defaultActivator": {"period": 100}}}));
    let mut cut = pod("orchard", 3);
    cut["metadata"]["labels"]["kubervisor/traffic"] = json!("no");
    cut["metadata"]["annotations"] =
        json!({"breaker/breakAt": "2023-11-14T22:13:10Z", "breaker/retryCount": "1"});
    server.put(&pod_path("orchard", 3), cut);
    let stage = Stage::start(&server);
    stage.pass(60).await;
    assert_eq!(stage.out(5), [3], "cut 10 s before the start, for 100 s");
    stage.pass(90).await;
    assert!(stage.out(5).is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_odd_label_value_aborts_the_evaluation() {
    let stage = one_orchard(6, &long_cuts());
    stage
        .server
        .edit(&pod_path("orchard", 1), &json!({"metadata": {"labels": {"kubervisor/traffic": "maybe"}}}));
    stage.bad(&["pear-1", "pear-3"]).pass(60).await;
    assert_eq!((stage.label("orchard", 1), stage.label("orchard", 3)), ("maybe".into(), "no".into()));
}

#[tokio::test(start_paused = true)]
async fn same_named_resources_in_two_namespaces_strip_each_others_labels() {
    let stage = one_orchard(5, &long_cuts());
    orchard(&stage.server, "meadow", 5, &long_cuts());
    stage.bad(&["orchard/pear-3", "meadow/pear-3"]).pass(30).await;
    let marks = |namespace: &str| stage.server.get(&pod_path(namespace, 3))["metadata"]["labels"].clone();
    assert_eq!([&marks("orchard")["kubervisor/name"], &marks("meadow")["kubervisor/name"]], ["pick", "pick"]);
    let before = marks("orchard");
    stage.server.delete(&resource_path("meadow"));
    stage.pass(60).await;
    assert_eq!((stage.label("meadow", 3), marks("orchard")), ("yes".into(), before));
}

#[tokio::test(start_paused = true)]
async fn pod_name_as_a_metric_label() {
    let stage = one_orchard(5, &json!({"minPodsAvailableCount": 4}));
    stage.bad(&TEN).pass(120).await;
    let text = stage.metrics.text();
    for counted in ["kubervisor_cuts_total{", "kubervisor_refusals_total{", "kubervisor_restores_total{"] {
        assert!(text.contains(counted), "{counted} is not in\n{text}");
    }
    assert!(!text.contains("pear-") && !text.contains("uid-"), "{text}");
}
