//! `check` beside a real API server: both refuse the same manifests, and drop the same fields.

use serde_json::{Value, json};

use crate::harness::Shop;
use crate::person::Person;

/// A change of a good spec, at a pointer below it; null takes the field out.
fn changes() -> Vec<(&'static str, Value)> {
    let long = |length: usize| json!("p".repeat(length));
    vec![
        ("", json!({})),
        ("/service", Value::Null),
        ("/service", json!(7)),
        ("/service", json!("Pears")),
        ("/service", long(64)),
        ("/mode", json!("Sometimes")),
        ("/mode", json!("DryRun")),
        ("/breakers", json!([])),
        ("/breakers", json!({})),
        ("/breakers/0/name", Value::Null),
        ("/breakers/0/name", json!("errors")),
        ("/breakers/0/name", long(64)),
        ("/breakers/0/evaluationPeriod", json!("5s")),
        ("/breakers/0/evaluationPeriod", json!("5 parsecs")),
        ("/breakers/0/evaluationPeriod", json!(0)),
        ("/breakers/0/evaluationPeriod", json!(-1)),
        ("/breakers/0/evaluationPeriod", json!(1.5)),
        ("/breakers/0/minPodsAvailableRatio", json!(101)),
        ("/breakers/0/minPodsAvailableRatio", json!(50)),
        ("/breakers/0/minPodsAvailableCount", json!(-1)),
        ("/breakers/0/confirm", json!({"anomalous": 3, "of": 2})),
        ("/breakers/0/confirm", json!({"anomalous": 2, "of": 3})),
        ("/breakers/0/confirm", json!({"anomalous": 2, "of": 3, "off": 4})),
        ("/breakers/0/valueOutOfRange", json!({"promQL": "x", "max": 1})),
        ("/breakers/0/customService", Value::Null),
        ("/breakers/0/activator", json!({"mode": "retryAndHope"})),
        ("/breakers/0/activator", json!({"mode": "retryAndKill", "period": 5, "maxRetryCount": 1})),
        ("/breakers/0/activator", Value::Null),
        ("/limits", json!({"maxCutRatio": 101})),
        ("/limits", json!({"maxCutsPerPeriod": "10%"})),
        ("/limits", json!({"maxCutsPerPeriod": "10 %"})),
        ("/limits", json!({"maxCutsPerPeriod": 3})),
        ("/limits", json!({"maxCutsPerPeriod": true})),
        ("/holds", json!([{"reason": ""}])),
        ("/holds", json!([{"until": "2027-01-01T00:00:00Z"}])),
        ("/holds", json!([{"reason": "the fair", "until": "2027-01-01T00:00:00Z"}])),
        ("/holds", json!([{"reason": "the fair", "until": "tomorrow"}])),
        ("/selectorManagement", json!("Managed")),
        ("/selectorManagement", json!("managed")),
        ("/colour", json!("green")),
    ]
}

fn changed(pointer: &str, value: &Value) -> Value {
    let mut spec =
        json!({"service": "pears", "breakers": [{"name": "named", "customService": "judge.shop:80/bad"}]});
    if let Some((parent, field)) = pointer.rsplit_once('/') {
        spec.pointer_mut(parent).unwrap()[field] = value.clone();
        if value.is_null() {
            spec.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(field);
        }
    }
    spec
}

/// Whether any field of the first is not in the second.
fn lost(of: &Value, within: &Value) -> bool {
    match (of, within) {
        (Value::Object(of), Value::Object(within)) => {
            of.iter().any(|(field, value)| within.get(field).is_none_or(|within| lost(value, within)))
        }
        (Value::Array(of), Value::Array(within)) => {
            of.iter().zip(within).any(|(of, within)| lost(of, within))
        }
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_check_calls_refused_or_dropped_by_the_api_server_is_just_that() {
    let shop = Shop::open("checked", 0).await;
    let admin = Person::admin(&shop);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pears.json");
    let path = file.to_str().unwrap();
    let (mut refused, mut dropped) = (0, 0);
    for (pointer, value) in changes() {
        let spec = changed(pointer, &value);
        let object = json!({"apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService",
            "metadata": {"name": "pears"}, "spec": spec});
        std::fs::write(&file, object.to_string()).unwrap();
        let server = admin
            .kubectl(&["create", "--dry-run=server", "--validate=ignore", "-o", "json", "-f", path])
            .await;
        let said = admin.runs(&["check", "-o", "json", "-f", path]).await;
        let report: Value = serde_json::from_str(&said.out).unwrap();
        let rules: Vec<_> =
            report["findings"].as_array().unwrap().iter().map(|f| f["rule"].clone()).collect();
        let what = format!("{pointer} {value}: {server:?}\n{report:#}");
        let schema = rules.contains(&json!("schema"));
        // What the definition says in CEL the controller says too, and its word is taken.
        assert!(
            server.ok || schema || rules.contains(&json!("refused")),
            "check passes what is refused: {what}"
        );
        assert!(!schema || !server.ok, "check refuses what is taken: {what}");
        refused += u32::from(!server.ok);
        if server.ok {
            let stored: Value = serde_json::from_str(&server.out).unwrap();
            let lost = lost(&spec, &stored["spec"]);
            assert_eq!(rules.contains(&json!("unknown-field")), lost, "{what}");
            dropped += u32::from(lost);
        }
    }
    assert!(refused >= 15 && dropped == 2, "{refused} refused, {dropped} with a field that was dropped");
}
