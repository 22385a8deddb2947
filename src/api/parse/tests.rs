//! What a spec becomes, and what is refused.

use kubervisor_core::detector::Detector;
use kubervisor_core::policy::Growth as CoreGrowth;
use kubervisor_core::policy::{
    ActivatorMode as CoreMode, ActivatorPolicy, Confirm, Disruption, Hold, Limits,
};

use super::*;
use crate::sources::{Login, Piece};
use serde_json::json;

fn breaker(detector: &Value) -> Value {
    let mut spec = json!({"service": "orchard", "breakers": [{"name": "pears"}]});
    for (field, value) in detector.as_object().unwrap() {
        spec["breakers"][0][field] = value.clone();
    }
    spec
}

fn breaker_of(detector: &Value) -> BreakerPolicy {
    parse(&breaker(detector), "orchard", &Defaults::default()).unwrap().policy.breakers[0].clone()
}

fn discrete() -> Value {
    breaker(&json!({"discreteValueOutOfList": {
        "prometheusService": "prom.test:9090", "promQL": "sum by (code, pod) (increase(x[3m]))",
        "key": "code", "goodValues": ["200"],
    }}))
}

fn errors(spec: &Value) -> Vec<String> {
    parse(spec, "orchard", &Defaults::default()).unwrap_err()
}

#[test]
fn absent_fields_take_the_documented_defaults() {
    let parsed = parse(&discrete(), "orchard", &Defaults::default()).unwrap();
    let breaker = &parsed.policy.breakers[0];
    assert_eq!(breaker.evaluation_period, Duration::from_secs(5));
    assert_eq!(breaker.range, Duration::from_mins(3));
    assert_eq!(breaker.floor, FloorPolicy::default());
    assert_eq!((breaker.confirm, breaker.enforced), (Confirm::USUAL, true));
    assert_eq!(parsed.policy.limits, Limits::default());
    assert!(parsed.policy.holds.is_empty() && !parsed.policy.kill_stateful_set_pods);
    assert_eq!(breaker.activator, ActivatorPolicy::default());
    assert_eq!(parsed.policy.limits, Limits::default());
    let Detector::Discrete(rule) = &breaker.detector else { panic!("{breaker:?}") };
    assert!((rule.tolerance, rule.min_activity) == (50.0, 2.0));
}

#[test]
fn explicit_nulls_are_as_good_as_absent() {
    let mut spec = discrete();
    for field in ["activator", "customService", "minPodsAvailableRatio", "continuousValueDeviation"] {
        spec["breakers"][0][field] = Value::Null;
    }
    spec["breakers"][0]["discreteValueOutOfList"]["badValues"] = Value::Null;
    assert_eq!(
        parse(&spec, "orchard", &Defaults::default()),
        parse(&discrete(), "orchard", &Defaults::default())
    );
}

#[test]
fn every_fault_is_told_at_once() {
    let mut spec =
        breaker(&json!({"discreteValueOutOfList": {"promQL": null}, "minPodsAvailableRatio": 101}));
    spec["defaultActivator"] = json!({"period": true});
    spec["limits"] = json!({"maxCutsPerPeriod": "ten%"});
    let told = errors(&spec).join("\n");
    for field in ["promQL", "key", "goodValues", "prometheusService", "Ratio", "period", "maxCutsPerPeriod"] {
        assert!(told.contains(field), "{field} is missing in:\n{told}");
    }
}

#[test]
fn no_detector_and_two_detectors_are_refused() {
    assert!(errors(&breaker(&json!({})))[0].contains("exactly one"));
    assert!(
        errors(&breaker(&json!({"customService": "a:1/x", "continuousValueDeviation": {}})))[0]
            .contains("exactly one")
    );
}

#[test]
fn a_period_below_a_second_is_taken_as_one_with_a_note() {
    let mut spec = discrete();
    spec["breakers"][0]["evaluationPeriod"] = json!(0.05);
    let parsed = parse(&spec, "orchard", &Defaults::default()).unwrap();
    assert_eq!(parsed.asked[0].period, Duration::from_secs(1));
    assert!(parsed.notes[0].contains("taken as 1 s"));
}

#[test]
fn a_query_that_looks_back_for_years_is_refused() {
    let mut spec = discrete();
    spec["breakers"][0]["discreteValueOutOfList"]["promQL"] = json!("sum by (pod) (increase(x[1000y]))");
    assert!(errors(&spec)[0].contains("more than a day"));
}

#[test]
fn an_activator_overrides_the_default_field_by_field() {
    let mut spec = discrete();
    spec["defaultActivator"] = json!({"mode": "retryAndKill", "period": "20s", "maxRetryCount": 7});
    spec["breakers"][0]["activator"] = json!({"period": 1.5});
    let activator = parse(&spec, "orchard", &Defaults::default()).unwrap().policy.breakers[0].activator;
    assert_eq!(activator.mode, CoreMode::RetryAndKill);
    assert_eq!((activator.period, activator.max_retry_count), (Duration::from_millis(1_500), 7));
}

#[test]
fn confirmation_and_the_scrapes_interval_are_read_or_taken_from_the_kind_of_source() {
    let mut spec = discrete();
    assert_eq!(
        parse(&spec, "orchard", &Defaults::default()).unwrap().policy.breakers[0].scrape_interval,
        SCRAPE_INTERVAL
    );
    spec["breakers"][0]["confirm"] = json!({"anomalous": 3, "of": 7});
    spec["breakers"][0]["scrapeInterval"] = json!("40s");
    let breaker = &parse(&spec, "orchard", &Defaults::default()).unwrap().policy.breakers[0];
    assert_eq!(
        (breaker.confirm, breaker.scrape_interval),
        (Confirm { anomalous: 3, of: 7 }, Duration::from_secs(40))
    );
    let custom = breaker_of(&json!({"customService": "pears:1/x"}));
    assert_eq!(custom.scrape_interval, Duration::ZERO);
}

#[test]
fn a_confirmation_that_cannot_come_is_refused() {
    for (anomalous, of) in [(3, 2), (0, 3), (1, 11), (-1, 3)] {
        let confirm = json!({"customService": "pears:1/x", "confirm": {"anomalous": anomalous, "of": of}});
        assert!(errors(&breaker(&confirm))[0].contains("`anomalous` is 1 to `of`"), "{anomalous} of {of}");
    }
    let slow = json!({"customService": "pears:1/x", "scrapeInterval": "2d"});
    assert!(errors(&breaker(&slow))[0].contains("scrapeInterval: longer than a day"));
}

#[test]
fn growth_its_ceiling_jitter_and_the_cap_of_evictions_override_what_goes_with_the_mode() {
    let activator =
        |own: &Value| breaker_of(&json!({"customService": "pears:1/x", "activator": own})).activator;
    let usual = activator(&json!({"mode": "retryAndKill", "period": 200}));
    assert_eq!((usual.growth, usual.max_period), (CoreGrowth::Linear, Duration::from_secs(800)));
    assert_eq!((usual.jitter_percent, usual.max_kills_per_hour), (20, 4));
    let own = json!({"growth": "Constant", "maxPeriod": "7m", "jitterPercent": 0, "maxKillsPerHour": 9});
    let own = activator(&own);
    assert_eq!((own.growth, own.max_period), (CoreGrowth::Constant, Duration::from_mins(7)));
    assert_eq!((own.jitter_percent, own.max_kills_per_hour), (0, 9));
}

#[test]
fn a_ceiling_below_the_period_is_refused_also_where_they_come_from_different_places() {
    let mut spec = breaker(&json!({"customService": "pears:1/x", "activator": {"period": 70}}));
    spec["defaultActivator"] = json!({"maxPeriod": "1m"});
    assert_eq!(errors(&spec), ["spec.breakers[pears].activator.maxPeriod: shorter than the period of 70 s"]);
}

#[test]
fn a_custom_service_has_up_to_half_a_minute() {
    let spec =
        |timeout: Value| breaker(&json!({"customService": "pears:1/x", "customServiceTimeout": timeout}));
    let asked = parse(&spec(json!("2500ms")), "orchard", &Defaults::default()).unwrap().asked;
    assert_eq!(asked[0].question.timeout(), Duration::from_millis(2_500));
    for bad in [json!(31), json!(0)] {
        assert!(errors(&spec(bad))[0].contains("at most 30 s"));
    }
}

#[test]
fn the_side_that_is_anomalous_and_the_age_of_peers_are_read() {
    let rule = json!({"prometheusService": "prom.test:9090", "promQL": "x", "direction": "Below"});
    let mut spec = breaker(&json!({"continuousValueDeviation": rule}));
    spec["limits"] = json!({"minPodAge": "95s"});
    let policy = parse(&spec, "orchard", &Defaults::default()).unwrap().policy;
    let Detector::Deviation(rule) = &policy.breakers[0].detector else { panic!("{policy:?}") };
    assert_eq!(rule.direction, kubervisor_core::detector::Direction::Below);
    assert_eq!(policy.limits.min_pod_age, Duration::from_secs(95));
}

fn compared(rule: &str, fields: &Value) -> Value {
    let mut spec = json!({"prometheusService": "prom.test:9090", "promQL": "x"});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    breaker(&json!({rule: spec}))
}

#[test]
fn an_outlier_rule_takes_its_documented_defaults_and_needs_the_least_distance() {
    let parsed =
        parse(&compared("fleetOutlier", &json!({"minDelta": 0.25})), "orchard", &Defaults::default())
            .unwrap();
    let Detector::Outlier(rule) = &parsed.policy.breakers[0].detector else { panic!("{parsed:?}") };
    assert_eq!(rule.direction, kubervisor_core::detector::Direction::Above);
    assert!((rule.max_score, rule.min_ratio, rule.min_delta) == (3.5, 1.5, 0.25));
    assert_eq!((rule.min_activity, &parsed.asked[0].activity), (None, &None));
    for none in [json!({}), json!({"minDelta": 0})] {
        assert!(errors(&compared("fleetOutlier", &none))[0].contains("minDelta: give the distance"));
    }
}

#[test]
fn numbers_that_no_rule_can_mean_are_refused_by_name() {
    for (field, value) in [("maxScore", json!(-1)), ("minRatio", json!(0.5)), ("minDelta", json!(-2))] {
        let told = errors(&compared("fleetOutlier", &json!({field: value}))).join("\n");
        assert!(told.contains(&format!("spec.breakers[pears].fleetOutlier.{field}")), "{told}");
    }
    let told = errors(&compared("valueOutOfRange", &json!({"min": 3, "max": 2})));
    assert!(told[0].contains("valueOutOfRange.min: more than max"), "{told:?}");
    assert!(errors(&compared("valueOutOfRange", &json!({})))[0].contains("give min, max or both"));
}

#[test]
fn activity_is_a_second_question_of_the_same_server_and_needs_its_bound() {
    let fields = json!({"max": 9, "podNamekey": "who", "podNamespaceKey": "where",
        "activityPromQL": "y", "minActivity": 7.5});
    let parsed = parse(&compared("valueOutOfRange", &fields), "orchard", &Defaults::default()).unwrap();
    let Detector::Range(rule) = &parsed.policy.breakers[0].detector else { panic!("{parsed:?}") };
    assert_eq!((rule.min, rule.max, rule.min_activity), (None, Some(9.0), Some(7.5)));
    let Some(Question::Prometheus(activity)) = &parsed.asked[0].activity else { panic!("{parsed:?}") };
    let Question::Prometheus(question) = &parsed.asked[0].question else { panic!("{parsed:?}") };
    assert_eq!(PromQuestion { query: "x".into(), ..activity.clone() }, *question);
    assert_eq!((&*activity.pod_label, &*activity.namespace_label, &*activity.query), ("who", "where", "y"));
    for half in [json!({"max": 9, "activityPromQL": "y"}), json!({"max": 9, "minActivity": 7})] {
        assert!(errors(&compared("valueOutOfRange", &half))[0].contains("give both"));
    }
}

#[test]
fn limits_that_are_given_are_taken_and_the_others_keep_their_defaults() {
    let mut spec = discrete();
    spec["limits"] = json!({"maxAnomalousRatio": 90, "podDisruptionBudgets": "KillsOnly"});
    let limits = parse(&spec, "orchard", &Defaults::default()).unwrap().policy.limits;
    let given = Limits { max_anomalous_percent: 90, disruption: Disruption::KillsOnly, ..Limits::default() };
    assert_eq!(limits, given);
}

#[test]
fn what_is_dangerous_for_a_statefulset_must_be_allowed() {
    let mut spec = discrete();
    let read = |spec: &Value| {
        let parsed = parse(spec, "orchard", &Defaults::default()).unwrap();
        (parsed.allow_governing_service, parsed.policy.kill_stateful_set_pods)
    };
    assert_eq!(read(&spec), (false, false));
    spec["allowGoverningService"] = json!(true);
    assert_eq!(read(&spec), (true, false));
    spec["killStatefulSetPods"] = json!(true);
    assert_eq!(read(&spec), (true, true));
}

#[test]
fn a_hold_is_a_reason_and_perhaps_an_end_and_a_breaker_may_only_be_shown() {
    let mut spec = discrete();
    spec["holds"] = json!([{"reason": "sale", "until": "2026-11-27T18:00:00Z"}, {"reason": "audit"}]);
    spec["breakers"][0]["mode"] = json!("DryRun");
    let policy = parse(&spec, "orchard", &Defaults::default()).unwrap().policy;
    let until = "2026-11-27T18:00:00Z".parse().unwrap();
    assert_eq!(policy.holds[0], Hold { reason: "sale".into(), until: Some(until) });
    assert_eq!(policy.holds[1].until, None);
    assert!(!policy.breakers[0].enforced && policy.has_shadow());
    spec["holds"][0]["until"] = json!("tomorrow");
    assert_eq!(errors(&spec), ["spec.holds[sale].until: not a time; write it as 2026-11-27T18:00:00Z"]);
}

/// The controller's own Prometheus, with its own credentials.
fn own() -> Defaults {
    let headers = vec![("x-scope-orgid".into(), "all".into())];
    let origin = Some("https://own.test:443".into());
    Defaults {
        prometheus: Some(Endpoint::parse("https://own.test/prometheus").unwrap()),
        access: Some(Arc::new(Access { headers, origin, ..Access::default() })),
        enforce_namespace: true,
    }
}

fn asked(defaults: &Defaults, fields: &Value) -> Result<PromQuestion, Vec<String>> {
    let mut rule = json!({"promQL": "pears", "max": 3});
    for (field, value) in fields.as_object().unwrap() {
        rule[field] = value.clone();
    }
    parse(&breaker(&json!({"valueOutOfRange": rule})), "orchard", defaults).map(|parsed| {
        let Question::Prometheus(question) = parsed.asked[0].question.clone() else { panic!("{parsed:?}") };
        question
    })
}

#[test]
fn the_controllers_credentials_are_for_its_very_address_and_no_other() {
    let access = |service: Value| asked(&own(), &json!({"prometheusService": service})).unwrap().access;
    for same in [json!(null), json!("https://own.test:443/prometheus/"), json!("HTTPS://OWN.TEST/prometheus")]
    {
        assert_eq!(access(same.clone()), own().access, "{same}");
    }
    for other in [
        "http://own.test/prometheus",
        "https://own.test:8443/prometheus",
        "https://own.test/other-tenant",
        "https://own.test.evil.test/prometheus",
        "own.test:443",
    ] {
        assert_eq!(access(json!(other)), None, "{other}");
    }
}

#[test]
fn what_goes_along_is_refused_without_an_own_address_and_replaces_the_controllers_with_one() {
    let headers = json!({"X-Scope-OrgID": "mine"});
    let told = asked(&own(), &json!({"prometheus": {"headers": headers}})).unwrap_err();
    assert!(told[0].contains("valueOutOfRange.prometheus: only with an own prometheusService"), "{told:?}");
    let mine =
        json!({"prometheusService": "https://own.test/prometheus", "prometheus": {"headers": headers}});
    let access = asked(&own(), &mine).unwrap().access.unwrap();
    assert_eq!(access.headers, [("x-scope-orgid".into(), "mine".into())]);
    assert_eq!(access.origin, None);
}

#[test]
fn secrets_are_always_those_of_the_resources_own_namespace() {
    let spec = json!({"prometheusService": "https://prom.test", "prometheus": {
        "timeout": "2s", "basicAuthSecretRef": {"name": "login"},
        "tls": {"caSecretRef": {"name": "ca"}, "certSecretRef": {"name": "me"}, "serverName": "pears.test"},
    }});
    let question = asked(&Defaults::default(), &spec).unwrap();
    let piece = |name: &str, key: &str| Piece::Secret {
        namespace: "orchard".into(),
        name: name.into(),
        key: key.into(),
    };
    let access = question.access.unwrap();
    assert_eq!(access.login, Some(Login::Basic(piece("login", "username"), piece("login", "password"))));
    assert_eq!(access.tls.ca, Some(piece("ca", "ca.crt")));
    assert_eq!(access.tls.certificate, Some((piece("me", "tls.crt"), piece("me", "tls.key"))));
    assert_eq!(
        (access.tls.server_name.as_deref(), question.timeout),
        (Some("pears.test"), Duration::from_secs(2))
    );
}

#[test]
fn what_cannot_go_along_is_refused_by_name() {
    let both = json!({"bearerTokenSecretRef": {"name": "a"}, "basicAuthSecretRef": {"name": "b"}});
    for (own, why) in [
        (both, "prometheus: give bearerTokenSecretRef or basicAuthSecretRef"),
        (json!({"tls": {"insecureSkipVerify": true}}), "prometheus.tls: http://prom.test/ is not https"),
        (json!({"timeout": 31}), "prometheus.timeout: must be more than 0 and at most 30 s"),
        (json!({"bearerTokenSecretRef": {"name": "../bank/prom"}}), "bearerTokenSecretRef.name: "),
        (json!({"headers": {"Authorization": "Bearer x"}}), "headers.authorization: belongs into a Secret"),
        (json!({"headers": {"Host": "bank"}}), "headers.host: is the request's own"),
        (json!({"headers": {"x y": "z"}}), "headers.x y: is not a header's name"),
        (json!({"headers": {"x": "a\r\nb: c"}}), "headers.x: has a value that no header can carry"),
    ] {
        let spec = json!({"prometheusService": "prom.test", "prometheus": own});
        let told = asked(&Defaults::default(), &spec).unwrap_err().join("\n");
        assert!(told.contains(why), "{why} is not in {told}");
    }
}

#[test]
fn queries_to_the_controllers_server_see_their_own_namespace_only_whatever_path_they_name() {
    let query = |fields: Value| asked(&own(), &fields).unwrap().query;
    assert_eq!(&*query(json!({})), r#"pears{namespace="orchard"}"#);
    assert_eq!(
        &*query(json!({"prometheusService": "https://own.test/else"})),
        r#"pears{namespace="orchard"}"#
    );
    assert_eq!(&*query(json!({"prometheusService": "https://mine.test"})), "pears");
    let told = asked(&own(), &json!({"promQL": "pears default 0"})).unwrap_err();
    assert!(told[0].contains("valueOutOfRange.promQL: this query cannot be read here"), "{told:?}");
    assert_eq!(&*asked(&Defaults { enforce_namespace: false, ..own() }, &json!({})).unwrap().query, "pears");
}
