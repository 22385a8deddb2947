//! Manifests in the form of the original (2018), in words of our own: each means what it meant there, or less.
//! `docs/migrate.md` tells the differences; those that show without a cluster are tests here.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

use std::time::Duration;

use kubervisor::api::{Defaults, KubervisorService, Parsed, parse};
use kubervisor::sources::Question;
use kubervisor_core::backoff::cut_time;
use kubervisor_core::budget::floor;
use kubervisor_core::detector::{Detector, Lists};
use kubervisor_core::policy::{ActivatorMode, BreakerPolicy, FloorPolicy};
use serde_json::{Value, json};

const ALL: [(&str, &str); 4] = [
    ("bakery", include_str!("fixtures/original/bakery.yaml")),
    ("quarry", include_str!("fixtures/original/quarry.yaml")),
    ("ferry", include_str!("fixtures/original/ferry.yaml")),
    ("lighthouse", include_str!("fixtures/original/lighthouse.json")),
];

fn manifest(name: &str) -> Value {
    let (_, text) = ALL.iter().find(|(known, _)| *known == name).unwrap();
    // JSON is YAML too.
    serde_yaml_ng::from_str(text).unwrap()
}

fn parsed(name: &str) -> Parsed {
    parse(&manifest(name)["spec"], "orchard", &Defaults::default()).unwrap()
}

fn only_breaker(parsed: &Parsed) -> &BreakerPolicy {
    let [breaker] = parsed.policy.breakers.as_slice() else { panic!("{parsed:?}") };
    breaker
}

#[test]
fn every_manifest_is_read_as_a_whole_object_too() {
    for (name, _) in ALL {
        let object: KubervisorService = serde_json::from_value(manifest(name)).unwrap();
        assert_eq!(object.spec.service, name);
        let again = serde_json::to_value(&object.spec).unwrap();
        assert_eq!(
            parse(&again, "orchard", &Defaults::default()).unwrap(),
            parsed(name),
            "{name} reads back differently"
        );
    }
}

#[test]
fn counts_by_a_label_with_every_null_that_old_tools_printed() {
    let parsed = parsed("bakery");
    let breaker = only_breaker(&parsed);
    let Detector::Discrete(rule) = &breaker.detector else { panic!("{breaker:?}") };
    assert!(matches!(&rule.lists, Lists::Good(good) if good.len() == 2));
    assert!((rule.tolerance, rule.min_activity) == (20.0, 2.0));
    assert_eq!(breaker.evaluation_period, Duration::from_millis(2_500));
    assert_eq!(breaker.floor, FloorPolicy { count: None, percent: Some(67) });
    assert_eq!(breaker.activator.mode, ActivatorMode::RetryAndPause);
    assert_eq!(breaker.activator.period, Duration::from_millis(12_500));
    let Question::Prometheus(question) = &parsed.asked[0].question else { panic!("{parsed:?}") };
    assert_eq!(question.endpoint.as_str(), "http://prometheus.observability:9090/");
    assert_eq!((&*question.pod_label, question.key_label.as_deref()), ("kubernetes_pod_name", Some("kind")));
}

#[test]
fn absent_fields_keep_the_originals_defaults() {
    let parsed = parsed("quarry");
    let breaker = only_breaker(&parsed);
    let Detector::Deviation(rule) = &breaker.detector else { panic!("{breaker:?}") };
    assert!((rule.max_percent - 33.5).abs() < f64::EPSILON);
    assert_eq!(breaker.evaluation_period, Duration::from_secs(5));
    let activator = &breaker.activator;
    assert_eq!((activator.mode, activator.period), (ActivatorMode::Periodic, Duration::from_secs(10)));
    assert_eq!((activator.max_retry_count, activator.max_pause_count), (3, 1));
    assert_eq!(floor(&parsed.policy, 10), 1);
}

#[test]
fn a_custom_service_and_an_activator_of_its_own() {
    let parsed = parsed("ferry");
    let breaker = only_breaker(&parsed);
    assert_eq!(breaker.detector, Detector::Custom);
    assert_eq!(parsed.asked[0].question.endpoint().as_str(), "http://captain.harbour:8080/judgement");
    assert_eq!(parsed.asked[0].question.timeout(), Duration::from_secs(1));
    assert_eq!(breaker.activator.mode, ActivatorMode::RetryAndKill);
    assert_eq!(parsed.policy.default_activator.mode, ActivatorMode::Periodic);
    assert_eq!(breaker.evaluation_period, Duration::from_secs(1), "less than a second is taken as one");
    assert!(parsed.notes[0].contains("taken as 1 s"));
}

#[test]
fn two_breakers_share_the_default_activator_field_by_field() {
    let parsed = parsed("lighthouse");
    let [dark, slow] = parsed.policy.breakers.as_slice() else { panic!("{parsed:?}") };
    assert_eq!(
        (dark.activator.mode, dark.activator.period),
        (ActivatorMode::RetryAndKill, Duration::from_secs(45))
    );
    assert_eq!(
        (slow.activator.mode, slow.activator.period),
        (ActivatorMode::RetryAndKill, Duration::from_secs(10))
    );
    assert_eq!((dark.activator.max_retry_count, slow.activator.max_pause_count), (5, 1));
    let Detector::Discrete(rule) = &dark.detector else { panic!("{dark:?}") };
    assert!(matches!(&rule.lists, Lists::Bad(bad) if bad.len() == 2));
}

#[test]
fn the_floor_is_rounded_up_where_the_original_rounded_down() {
    // 67 % of 10: the original let 4 be cut, this lets 3.
    assert_eq!(floor(&parsed("bakery").policy, 10), 7);
}

#[test]
fn the_strictest_floor_of_all_breakers_holds_for_the_whole_fleet() {
    let policy = parsed("lighthouse").policy;
    assert_eq!((floor(&policy, 8), floor(&policy, 3)), (4, 2));
}

#[test]
fn a_cut_outlasts_the_querys_window_whatever_the_period_says() {
    let parsed = parsed("bakery");
    let breaker = only_breaker(&parsed);
    // [5m], an evaluation, a scrape.
    assert_eq!(breaker.shortest_cut(), Duration::from_millis(300_000 + 2_500 + 15_000));
    let first = cut_time(&breaker.activator, breaker.shortest_cut(), 1, 0, "uid");
    assert!(first >= breaker.shortest_cut());
}

#[test]
fn a_long_period_of_an_old_manifest_is_not_shortened_into_more_cuts() {
    let parsed = parsed("ferry");
    let breaker = only_breaker(&parsed);
    let third = cut_time(&breaker.activator, breaker.shortest_cut(), 3, 0, "uid");
    assert!(third >= Duration::from_secs(3 * 600), "{third:?}");
}

#[test]
fn limits_that_the_original_did_not_have_only_ever_cut_less() {
    for (name, _) in ALL {
        let limits = parsed(name).policy.limits;
        assert_eq!(limits.max_cut_percent, 34);
        assert_eq!(limits.cuts_per_period.pods(10), 1);
    }
}

#[test]
fn a_status_that_the_original_stored_is_read() {
    let object: KubervisorService = serde_json::from_value(manifest("lighthouse")).unwrap();
    let status = object.status.unwrap();
    let running = &status.conditions[0];
    assert_eq!((&*running.type_, &*running.status), ("Running", "True"));
    assert_eq!(running.last_probe_time.as_deref(), Some("2018-11-02T07:41:10Z"));
    assert_eq!(status.pod_count.unwrap().nb_pods_managed, 8);
    assert!(status.fleet.is_none() && status.kills.is_empty());
}

#[test]
fn an_empty_status_and_none_at_all_are_read() {
    for (name, _) in ALL {
        let mut object = manifest(name);
        object["status"] = json!({"podCount": null});
        assert!(serde_json::from_value::<KubervisorService>(object.clone()).unwrap().status.is_some());
        object.as_object_mut().unwrap().remove("status");
        assert!(serde_json::from_value::<KubervisorService>(object).unwrap().status.is_none());
    }
}
