//! Specs: what is refused, what an edit keeps, what the original's manifests mean, and modes.

use std::time::Duration;

use http::Request;
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use kubervisor::api::State;
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted};
use crate::harness::{
    Controller, FakeSource, SOON, Shop, breaker, custom_breaker, discrete_breaker, eventually, throughout,
};

/// Manifests in the form of the original.
const FERRY: &str = include_str!("../../fixtures/original/ferry.yaml");
const LIGHTHOUSE: &str = include_str!("../../fixtures/original/lighthouse.json");

/// A shop of four, the source that its only breaker asks, and a controller.
async fn stage(prefix: &str) -> (Shop, FakeSource, Controller) {
    let shop = Shop::open(prefix, 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    (shop, source, controller)
}

/// Nothing but the floor limits the cuts, which last longer than the test unless it says otherwise.
fn valid(source: &FakeSource) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = json!({"period": "4m"});
    json!({"limits": {"maxCutRatio": 100, "maxCutsPerPeriod": "100%"}, "breakers": [breaker]})
}

fn with(spec: &Value, field: &str, value: Value) -> Value {
    let mut spec = spec.clone();
    spec[field] = value;
    spec
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_edit_is_refused_with_every_fault_returns_go_on_and_a_mended_one_runs() {
    let (shop, source, _controller) = stage("invalid").await;
    let names = shop.names().await;
    source.name_bad([names[0].as_str()]);
    shop.govern(valid(&source)).await;
    shop.cut_are(&[&names[0]]).await;
    let faulty = json!({"promQL": " ", "key": "", "goodValues": []});
    shop.govern(json!({"breakers": [breaker("errors", &json!({"discreteValueOutOfList": faulty}))]})).await;
    shop.state_is("InitFailed").await;
    let told = shop.condition("InitFailed").await.2;
    for fault in
        [".promQL: empty", ".key: empty", "goodValues, badValues or both", ".prometheusService: name a"]
    {
        assert!(told.contains(fault), "{fault} is not in {told}");
    }
    shop.told("InitFailed", ".promQL: empty").await;
    source.name_bad([names[1].as_str()]);
    let due = shop.due_in(&names[0], 2).await;
    shop.none_is_out().await;
    assert!(Timestamp::now() >= due);
    assert_eq!(accepted(&shop.pod_writes().await, Step::Cut), 1);
    shop.govern(valid(&source)).await;
    shop.cut_are(&[&names[1]]).await;
    shop.state_is("Running").await;
    shop.becomes("InitFailed", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_that_was_never_valid_still_ends_the_cuts_of_an_earlier_one() {
    let (shop, _source, _controller) = stage("never-valid").await;
    let bad = shop.names().await[0].clone();
    let nothing = json!({"discreteValueOutOfList": {}});
    shop.govern(json!({"breakers": [breaker("errors", &nothing)]})).await;
    shop.state_is("InitFailed").await;
    let due = Timestamp::now() + SignedDuration::from_secs(4);
    shop.as_cut(&bad, "of-the-earlier-spec", due).await;
    shop.none_is_out().await;
    assert!(Timestamp::now() >= due, "before its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_keeps_strikes_and_cuts_as_they_are() {
    let (shop, source, _controller) = stage("edited").await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    let mut spec = valid(&source);
    spec["breakers"][0]["activator"] = json!({"period": 1});
    shop.govern(spec.clone()).await;
    let strikes = async || shop.mark_of(&bad, "breaker/retryCount").await.unwrap_or_default();
    eventually("the third strike", SOON, || async { strikes().await == "3" }).await;
    shop.cut_are(&[&bad]).await;
    shop.due_in(&bad, 60).await;
    let before = (strikes().await, shop.restore_at(&bad).await);
    let breakers = json!([spec["breakers"][0], custom_breaker("another", &source)]);
    shop.govern(with(&with(&spec, "breakers", breakers), "limits", json!({"maxCutRatio": 50}))).await;
    let observed = || async { shop.status().await["breakers"].as_array().is_some_and(|b| b.len() == 2) };
    eventually("the edit is in force", SOON, observed).await;
    shop.cut_are(&[&bad]).await;
    assert_eq!((strikes().await, shop.restore_at(&bad).await), before);
    let cut = shop.status().await["cut"][0].clone();
    assert_eq!((&cut["breaker"], &cut["strikes"]), (&json!("named"), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_leaves_an_unchanged_breaker_its_verdicts_and_asks_a_changed_one_afresh() {
    let (shop, source, controller) = stage("unchanged").await;
    let mut breaker = custom_breaker("slow", &source);
    breaker["evaluationPeriod"] = json!(9);
    shop.govern(json!({"breakers": [breaker.clone()]})).await;
    let healthy = async || {
        let labels = [shop.namespace.as_str(), "breaker=\"slow\"", "verdict=\"healthy\""];
        controller.metric("kubervisor_verdicts", &labels).await
    };
    let judged = || async { healthy().await >= 4.0 };
    eventually("it has judged", SOON, judged).await;
    breaker["minPodsAvailableRatio"] = json!(50);
    shop.govern(json!({"breakers": [breaker.clone(), custom_breaker("new", &source)]})).await;
    eventually("the floor is the new one", SOON, || async { shop.status().await["fleet"]["floor"] == 2 })
        .await;
    throughout("its verdicts stand", Duration::from_secs(2), judged).await;
    breaker["evaluationPeriod"] = json!(600);
    shop.govern(json!({"breakers": [breaker]})).await;
    eventually("its verdicts are void", SOON, || async { healthy().await < 1.0 }).await;
}

/// What the API server says of a KubervisorService; `None` if it would take it.
async fn refusal(shop: &Shop, name: &str, spec: &Value) -> Option<String> {
    let object = object(name, spec);
    let path = format!("/apis/kubervisor.k8s.io/v1alpha1/namespaces/{}/kubervisorservices", shop.namespace);
    let request = Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .unwrap();
    shop.client.request::<Value>(request).await.err().map(|error| error.to_string())
}

fn object(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService",
        "metadata": {"name": name}, "spec": spec})
}

fn discrete(field: &str, value: Value) -> Value {
    let mut rule = json!({"promQL": "q", "key": "code", "goodValues": ["200"], "prometheusService": "p:1"});
    rule[field] = value;
    json!({"service": "pears", "breakers": [{"name": "errors", "discreteValueOutOfList": rule}]})
}

fn custom(fields: &Value) -> Value {
    let mut breaker = json!({"name": "named", "customService": "orchard:8080/bad"});
    for (field, value) in fields.as_object().unwrap() {
        breaker[field] = value.clone();
    }
    json!({"service": "pears", "breakers": [breaker]})
}

fn limited(limits: Value) -> Value {
    with(&custom(&json!({})), "limits", limits)
}

fn named(names: impl Iterator<Item = String>) -> Value {
    let breakers: Vec<_> = names.map(|n| json!({"name": n, "customService": "orchard:8080/bad"})).collect();
    json!({"service": "pears", "breakers": breakers})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_meant_is_refused_by_the_api_server_with_the_fields_name() {
    let shop = Shop::open("refusals", 0).await;
    let long = "p".repeat(64);
    let both = custom(&json!({"continuousValueDeviation": {"promQL": "q"}}));
    let many: Vec<_> = (0..65).map(|n| n.to_string()).collect();
    for (field, spec) in [
        ("exactly one detector", json!({"service": "pears", "breakers": [{"name": "none"}]})),
        ("exactly one detector", both),
        ("spec.breakers[1]: Duplicate value", named(["a".into(), "a".into()].into_iter())),
        ("spec.breakers: Invalid value", named(std::iter::empty())),
        ("spec.breakers: Too many", named((0..17).map(|n| format!("b{n}")))),
        ("spec.service", json!({"breakers": [{"name": "a", "customService": "orchard:8080/bad"}]})),
        ("spec.service", with(&custom(&json!({})), "service", json!(long))),
        ("spec.service", with(&custom(&json!({})), "service", json!("Not_A_Service"))),
        ("spec.breakers[0].name", named(std::iter::once(long.clone()))),
        ("spec.breakers[0].name", named(std::iter::once("no spaces".into()))),
        ("spec.breakers[0].minPodsAvailableRatio", custom(&json!({"minPodsAvailableRatio": 101}))),
        ("spec.breakers[0].minPodsAvailableRatio", custom(&json!({"minPodsAvailableRatio": 0.5}))),
        ("spec.breakers[0].minPodsAvailableCount", custom(&json!({"minPodsAvailableCount": -1}))),
        ("spec.breakers[0].discreteValueOutOfList.tolerance", discrete("tolerance", json!(101))),
        ("spec.breakers[0].discreteValueOutOfList.promQL", discrete("promQL", json!("q".repeat(4097)))),
        ("spec.breakers[0].discreteValueOutOfList.goodValues", discrete("goodValues", json!(many))),
        ("spec.breakers[0].activator.mode", custom(&json!({"activator": {"mode": "retryAndHope"}}))),
        ("spec.limits.maxCutRatio", limited(json!({"maxCutRatio": 101}))),
        ("spec.limits.maxCutsPerPeriod", limited(json!({"maxCutsPerPeriod": "110%"}))),
        ("spec.limits.maxCutsPerPeriod", limited(json!({"maxCutsPerPeriod": -1}))),
        ("spec.mode", with(&custom(&json!({})), "mode", json!("Sometimes"))),
    ] {
        let said = refusal(&shop, "orchard", &spec).await.unwrap_or_else(|| panic!("accepted: {spec}"));
        assert!(said.contains(field), "{field} is not in {said}");
    }
    let said = refusal(&shop, &long, &custom(&json!({}))).await.unwrap();
    assert!(said.contains("metadata.name: at most 63"), "{said}");
    assert_eq!(refusal(&shop, "orchard", &custom(&json!({}))).await, None, "the rest of them is in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn words_and_numbers_beyond_their_bounds_are_refused_in_every_part_of_a_breaker() {
    let shop = Shop::open("bounds", 0).await;
    let confirm = |anomalous: i64, of: i64| custom(&json!({"confirm": {"anomalous": anomalous, "of": of}}));
    let activator = |field: &str, value: Value| custom(&json!({"activator": {field: value}}));
    let ruled =
        |rule: &str, fields: Value| json!({"service": "pears", "breakers": [{"name": "slow", rule: fields}]});
    let outlier = |fields: Value| ruled("fleetOutlier", fields);
    let range = |fields: Value| ruled("valueOutOfRange", fields);
    for (field, spec) in [
        ("confirm: anomalous is more than of", confirm(3, 2)),
        ("spec.breakers[0].confirm.of", confirm(1, 11)),
        ("spec.breakers[0].confirm.anomalous", confirm(0, 1)),
        ("spec.breakers[0].confirm.of", custom(&json!({"confirm": {"anomalous": 1}}))),
        ("spec.breakers[0].scrapeInterval", custom(&json!({"scrapeInterval": "soon"}))),
        ("spec.breakers[0].activator.growth", activator("growth", json!("Quick"))),
        ("spec.breakers[0].activator.jitterPercent", activator("jitterPercent", json!(101))),
        ("spec.breakers[0].activator.maxKillsPerHour", activator("maxKillsPerHour", json!(61))),
        ("spec.breakers[0].activator.maxPeriod", activator("maxPeriod", json!([1]))),
        ("minDelta: give one of more than 0", outlier(json!({"promQL": "q"}))),
        ("minDelta: give one of more than 0", outlier(json!({"minDelta": 0}))),
        ("give both activityPromQL and minActivity", outlier(json!({"minDelta": 2, "minActivity": 1}))),
        ("spec.breakers[0].fleetOutlier.minRatio", outlier(json!({"minDelta": 2, "minRatio": 0.5}))),
        ("spec.breakers[0].fleetOutlier.direction", outlier(json!({"minDelta": 2, "direction": "Sideways"}))),
        ("prometheus: only with an own prometheusService", range(json!({"max": 2, "prometheus": {}}))),
        (
            "not both",
            range(json!({"max": 2, "prometheusService": "p:1", "prometheus": {
            "bearerTokenSecretRef": {"name": "a"}, "basicAuthSecretRef": {"name": "b"}}})),
        ),
        ("give min, max or both", range(json!({"promQL": "q"}))),
        ("min is more than max", range(json!({"min": 3, "max": 2.5}))),
        ("give both activityPromQL and minActivity", range(json!({"max": 2, "activityPromQL": "q"}))),
        ("spec.breakers[0].valueOutOfRange.promQL", range(json!({"max": 2, "promQL": "q".repeat(4097)}))),
    ] {
        let said = refusal(&shop, "orchard", &spec).await.unwrap_or_else(|| panic!("accepted: {spec}"));
        assert!(said.contains(field), "{field} is not in {said}");
    }
    let busy =
        json!({"max": 2, "min": null, "activityPromQL": "q", "minActivity": 1, "podNamespaceKey": null});
    for good in
        [confirm(10, 10), outlier(json!({"minDelta": 2})), outlier(json!({"minDelta": 0.5})), range(busy)]
    {
        assert_eq!(refusal(&shop, "orchard", &good).await, None, "{good}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holds_and_limits_beyond_their_bounds_are_refused_and_nulls_in_their_place_are_not() {
    let shop = Shop::open("limits", 0).await;
    let top = |field: &str, value: Value| with(&custom(&json!({})), field, value);
    let hold = |n: usize| json!({"reason": format!("sale {n}")});
    let many: Vec<_> = (0..17).map(hold).collect();
    for (field, spec) in [
        ("spec.holds: Too many", top("holds", json!(many))),
        ("spec.holds[0].reason", top("holds", json!([{"until": "2026-11-27T18:00:00Z"}]))),
        ("spec.limits.maxAnomalousRatio", limited(json!({"maxAnomalousRatio": 101}))),
        ("spec.limits.minCoverageRatio", limited(json!({"minCoverageRatio": -1}))),
        ("spec.limits.minPodAge", limited(json!({"minPodAge": "young"}))),
        ("spec.limits.podDisruptionBudgets", limited(json!({"podDisruptionBudgets": "Sometimes"}))),
        ("spec.breakers[0].mode", custom(&json!({"mode": "Disabled"}))),
        ("spec.killStatefulSetPods", top("killStatefulSetPods", json!("yes"))),
        ("spec.allowGoverningService", top("allowGoverningService", json!(1))),
    ] {
        let said = refusal(&shop, "orchard", &spec).await.unwrap_or_else(|| panic!("accepted: {spec}"));
        assert!(said.contains(field), "{field} is not in {said}");
    }
    let mut nulls =
        top("limits", json!({"maxAnomalousRatio": null, "minCoverageRatio": null, "minPodAge": null}));
    for field in ["holds", "killStatefulSetPods", "allowGoverningService"] {
        nulls[field] = json!(null);
    }
    for field in ["confirm", "scrapeInterval", "fleetOutlier", "valueOutOfRange", "customServiceTimeout"] {
        nulls["breakers"][0][field] = json!(null);
    }
    assert_eq!(refusal(&shop, "orchard", &nulls).await, None);
    assert_eq!(refusal(&shop, "orchard", &top("holds", json!([hold(1)]))).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duration_is_a_number_of_seconds_or_a_text_with_units_and_nothing_else() {
    let shop = Shop::open("durations", 0).await;
    for good in [json!(5), json!(0.5), json!(0), json!("500ms"), json!("2m30s"), json!("1h 5m"), json!(null)]
    {
        let spec = custom(&json!({"evaluationPeriod": good, "activator": {"period": good}}));
        assert_eq!(refusal(&shop, "orchard", &spec).await, None, "{good}");
    }
    let bad = [
        json!("soon"),
        json!(""),
        json!("5"),
        json!("5 parsecs"),
        json!("1y"),
        json!("2 months"),
        json!("-5s"),
        json!(-1),
        json!(1e9),
        json!([1]),
        json!({"seconds": 5}),
        json!("1s".repeat(17)),
    ];
    for bad in bad {
        for (field, spec) in [
            ("spec.breakers[0].evaluationPeriod", custom(&json!({"evaluationPeriod": bad}))),
            ("spec.breakers[0].activator.period", custom(&json!({"activator": {"period": bad}}))),
            (
                "spec.defaultActivator.period",
                with(&custom(&json!({})), "defaultActivator", json!({"period": bad})),
            ),
        ] {
            let said = refusal(&shop, "orchard", &spec).await.unwrap_or_else(|| panic!("accepted: {bad}"));
            assert!(said.contains(field), "{field} is not in {said}");
        }
    }
}

/// An original's manifest, in this namespace.
fn original(text: &str, shop: &Shop) -> Value {
    let mut manifest: Value = serde_yaml_ng::from_str(text).unwrap();
    manifest["metadata"]["namespace"] = json!(shop.namespace);
    manifest
}

/// With every field null that the original's tools printed so.
fn all_nulls(service: &str) -> Value {
    let rule = json!({"prometheusService": null, "promQL": null, "key": null, "podNamekey": null,
        "goodValues": null, "badValues": null, "tolerance": null, "minActivity": null});
    let breaker = json!({"name": "empty", "evaluationPeriod": null, "minPodsAvailableRatio": null,
        "minPodsAvailableCount": null, "customService": null, "continuousValueDeviation": null,
        "discreteValueOutOfList": rule, "activator": null});
    let mut object =
        object("nulls", &json!({"service": service, "breakers": [breaker], "defaultActivator": null}));
    object["metadata"]["creationTimestamp"] = json!(null);
    object["status"] = json!({"conditions": null, "podCount": null});
    object
}

fn kubectl(shop: &Shop, words: &[&str], manifest: &Value) {
    let words = [&["-n", &shop.namespace], words].concat();
    let done = shop.cluster.kubectl("admin", &words, Some(&manifest.to_string())).unwrap();
    assert!(done.status.success(), "{words:?} {manifest}: {}", String::from_utf8_lossy(&done.stderr));
}

/// As scripts of that time did: read the version, send the whole object.
async fn put(shop: &Shop, manifest: &Value, subresource: &str) -> Value {
    let name = manifest["metadata"]["name"].as_str().unwrap();
    let mut object = manifest.clone();
    object["metadata"]["resourceVersion"] =
        json!(shop.resources().get(name).await.unwrap().metadata.resource_version);
    let base = format!("/apis/kubervisor.k8s.io/v1alpha1/namespaces/{}/kubervisorservices", shop.namespace);
    let request = Request::put(format!("{base}/{name}{subresource}"))
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .unwrap();
    shop.client.request(request).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_in_every_field_are_accepted_by_every_way_of_applying_them() {
    let shop = Shop::open("nulls-all", 0).await;
    let manifest = all_nulls("pears");
    kubectl(&shop, &["apply", "-f", "-"], &manifest);
    kubectl(&shop, &["apply", "-f", "-"], &manifest);
    let put = put(&shop, &manifest, "").await;
    assert_eq!(put["spec"]["breakers"][0]["name"], "empty");
    shop.resources().delete("nulls", &DeleteParams::default()).await.unwrap();
    kubectl(&shop, &["apply", "--server-side", "-f", "-"], &manifest);
    kubectl(&shop, &["replace", "-f", "-"], &manifest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_the_original_stored_keeps_validating() {
    let shop = Shop::open("old-status", 0).await;
    let stored = original(LIGHTHOUSE, &shop);
    kubectl(&shop, &["apply", "-f", "-"], &stored);
    let kept = put(&shop, &stored, "/status").await;
    let types = |object: &Value| {
        let conditions = object["status"]["conditions"].as_array().unwrap();
        conditions.iter().map(|c| c["type"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(types(&kept), types(&stored), "{kept}");
    assert_eq!(kept["status"]["podCount"]["nbPodsManaged"], 8);
    kubectl(&shop, &["apply", "--server-side", "--force-conflicts", "-f", "-"], &stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_of_an_original_manifest_are_refused_by_the_controller_by_name() {
    let (shop, _source, _controller) = stage("nulls").await;
    let mut manifest = all_nulls("pears");
    manifest["metadata"]["name"] = json!("pears");
    kubectl(&shop, &["apply", "-f", "-"], &manifest);
    shop.state_is("InitFailed").await;
    let told = shop.condition("InitFailed").await.2;
    for fault in [".promQL: empty", ".key: empty", ".prometheusService: name a", "goodValues, badValues"] {
        assert!(told.contains(fault), "{fault} is not in {told}");
    }
    shop.becomes("Running", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_in_the_originals_form_cuts_and_restores() {
    let (shop, source, _controller) = stage("old-form").await;
    let bad = shop.names().await[0].clone();
    let mut manifest = original(FERRY, &shop);
    manifest["metadata"]["name"] = json!("pears");
    manifest["spec"]["service"] = json!("pears");
    manifest["spec"]["breakers"][0]["customService"] = json!(source.custom());
    manifest["spec"]["breakers"][0]["activator"] =
        json!({"period": 1.5, "mode": null, "maxRetryCount": null});
    source.name_bad([bad.as_str()]);
    kubectl(&shop, &["apply", "-f", "-"], &manifest);
    shop.cut_are(&[&bad]).await;
    source.name_bad([]);
    shop.none_is_out().await;
    shop.state_is("Running").await;
    let ready = || async { shop.condition("Ready").await.2.contains("less than 1 s is taken as 1 s") };
    eventually("the short period is noted", SOON, ready).await;
}

/// Waits until a dry run shows that it would cut this pod.
async fn would_cut(shop: &Shop, pod: &str) {
    let shown = || async { shop.status().await["breakers"][0]["wouldCut"] == json!([pod]) };
    eventually("wouldCut names it", SOON, shown).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mode_dry_run_shows_what_it_would_cut_and_writes_no_pod() {
    let (shop, source, controller) = stage("dry").await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    shop.govern(with(&valid(&source), "mode", json!("DryRun"))).await;
    would_cut(&shop, &bad).await;
    shop.state_is("DryRun").await;
    let (asked, shown) = (source.answers(), [shop.namespace.as_str(), "enforced=\"false\""]);
    eventually("three more answers", SOON, || async { source.answers() >= asked + 3 }).await;
    assert!(controller.metric("kubervisor_cuts_total", &shown).await >= 1.0);
    assert_eq!(shop.pod_writes().await, []);
    shop.becomes("Ready", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_active_resource_set_to_dry_run_gives_its_pods_back_and_then_only_shows() {
    let (shop, source, _controller) = stage("to-dry").await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    shop.govern(valid(&source)).await;
    shop.cut_are(&[&bad]).await;
    shop.govern(with(&valid(&source), "mode", json!("DryRun"))).await;
    shop.none_is_out().await;
    would_cut(&shop, &bad).await;
    let writes = shop.pod_writes().await;
    assert_eq!(writes.iter().map(|w| w.step).collect::<Vec<_>>(), [Step::Cut, Step::Restore]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disabled_resource_gives_its_pods_back_and_asks_nobody_until_it_is_enabled() {
    let (shop, source, _controller) = stage("disabled").await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    shop.govern(valid(&source)).await;
    shop.cut_are(&[&bad]).await;
    shop.govern(with(&valid(&source), "mode", json!("Disabled"))).await;
    shop.none_is_out().await;
    shop.state_is("Disabled").await;
    let asked = source.answers();
    let silent = || async { source.answers() <= asked + 1 && shop.labelled("no").await.is_empty() };
    throughout("nobody is asked", Duration::from_secs(4), silent).await;
    shop.govern(valid(&source)).await;
    shop.cut_are(&[&bad]).await;
    shop.state_is("Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_in_dry_run_gives_cut_pods_back_and_writes_nothing_else_to_any_pod() {
    let shop = Shop::open("run-dry", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let names = shop.names().await;
    shop.as_cut(&names[3], "named", Timestamp::now() + SignedDuration::from_mins(4)).await;
    shop.mark(&names[2], json!({"kubervisor/traffic": null}), json!({})).await;
    source.name_bad([names[0].as_str()]);
    let mut args = shop.controller();
    args.args.push("--dry-run".to_owned());
    let _controller = Controller::ready(&args).await;
    shop.govern(valid(&source)).await;
    would_cut(&shop, &names[0]).await;
    shop.state_is("DryRun").await;
    shop.none_is_out().await;
    let asked = source.answers();
    eventually("three more answers", SOON, || async { source.answers() >= asked + 3 }).await;
    let writes = shop.pod_writes().await;
    let done: Vec<_> = writes.iter().map(|w| (w.pod.as_str(), w.step)).collect();
    assert_eq!(done, [(names[3].as_str(), Step::Restore)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_resources_over_one_pod_the_older_keeps_the_returns_and_neither_cuts() {
    let (shop, source, _controller) = stage("conflict").await;
    let names = shop.names().await;
    source.name_bad([names[0].as_str()]);
    shop.govern(valid(&source)).await;
    shop.cut_are(&[&names[0]]).await;
    shop.govern_as("younger", valid(&source)).await;
    shop.state_is("Conflict").await;
    source.name_bad([names[1].as_str()]);
    let asked = source.answers();
    eventually("both are answered", SOON, || async { source.answers() >= asked + 3 }).await;
    let due = shop.due_in(&names[0], 2).await;
    shop.none_is_out().await;
    assert!(Timestamp::now() >= due, "before its time");
    let younger = shop.resources().get("younger").await.unwrap().status.unwrap();
    assert_eq!(younger.state, Some(State::Conflict));
    assert_eq!(accepted(&shop.pod_writes().await, Step::Cut), 1);
    shop.resources().delete("younger", &DeleteParams::default()).await.unwrap();
    shop.cut_are(&[&names[1]]).await;
    shop.state_is("Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_only_the_younger_of_two_resources_reaches_come_back_by_it_disabled_or_not() {
    let (shop, source, _controller) = stage("overlap").await;
    let named = FakeSource::start(&shop.namespace).await;
    shop.govern(valid(&source)).await;
    shop.state_is("Running").await;
    for (name, app) in [("plum-0", "plums"), ("plum-1", "plums"), ("plum-2", "plums")] {
        shop.bare_pod_labelled(name, &fruit(app)).await;
    }
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "fruits"},
        "spec": {"selector": {"fruit": "yes", "kubervisor/traffic": "yes"}, "ports": [{"port": 80}]},
    }));
    let younger = with(&valid(&named), "service", json!("fruits"));
    named.name_bad(["plum-0", "plum-1"]);
    shop.govern_as("younger", younger.clone()).await;
    shop.cut_are(&["plum-0", "plum-1"]).await;
    shop.bare_pod_labelled("pear-of-both", &fruit("pears")).await;
    shop.state_is("Conflict").await;
    let due = shop.due_in("plum-0", 2).await;
    shop.cut_are(&["plum-1"]).await;
    assert!(Timestamp::now() >= due, "before its time");
    shop.govern_as("younger", with(&younger, "mode", json!("Disabled"))).await;
    shop.none_is_out().await;
    let state = || async { shop.resources().get("younger").await.unwrap().status.unwrap().state };
    eventually("it is disabled", SOON, || async { state().await == Some(State::Disabled) }).await;
}

/// Labels of a pod of this app that the Service `fruits` selects too.
fn fruit(app: &str) -> Value {
    json!({"app": app, "fruit": "yes", "kubervisor/traffic": "yes"})
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_and_pods_of_the_same_names_in_two_namespaces_do_not_meet() {
    let (here, there) = (Shop::open("here", 0).await, Shop::open("there", 0).await);
    let (source, quiet) =
        (FakeSource::start(&here.namespace).await, FakeSource::start(&there.namespace).await);
    let names = here.bare_pods(3).await;
    there.bare_pods(3).await;
    let controller = Controller::ready(&here.controller_here_and_in(&there).await).await;
    source.name_bad([names[1].as_str()]);
    // Two namespaces in one answer: rows name theirs.
    quiet.errors_of(names.iter().map(String::as_str), &[]);
    here.govern(valid(&source)).await;
    there.govern(json!({"breakers": [discrete_breaker("named", &quiet)]})).await;
    here.cut_are(&[&names[1]]).await;
    there.state_is("Running").await;
    there.delete_resource().await;
    let forgotten = || async { controller.metric("kubervisor_floor", &[&there.namespace]).await < 1.0 };
    eventually("the other one is forgotten", SOON, forgotten).await;
    let kept = || async { here.labelled("no").await == names[1..2] };
    // Longer than the janitor's period.
    throughout("the cut of this one stays", Duration::from_secs(7), kept).await;
    assert_eq!(there.pod_writes_by(here.controller_user()).await, []);
}
