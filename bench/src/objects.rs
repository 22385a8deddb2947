//! KubervisorServices as a busy company has them: values from a number, the same in every run.
//!
//! Two breakers each, with queries of some length; most fleets are well, some have pods out, a few are held. The status
//! is what the controller writes, all conditions and up to twenty acts with it.

use kubervisor::api::{GROUP, VERSION};
use serde_json::{Value, json};

/// How many there are.
pub const COUNT: usize = 2_000;
/// Namespaces that they are spread over.
pub const NAMESPACES: usize = 20;

/// Where one of them is, by its number.
#[must_use]
pub fn namespace(number: usize) -> String {
    format!("team-{:02}", number % NAMESPACES)
}

/// What one of them is called, by its number.
#[must_use]
pub fn name(number: usize) -> String {
    let what = ["checkout", "cart", "search", "recommendations", "prices", "stock", "payment-gateway"];
    format!("{}-{number:04}", what[number % what.len()])
}

/// As a person writes it.
#[must_use]
pub fn object(number: usize) -> Value {
    let (name, namespace) = (name(number), namespace(number));
    let (code, latency) = queries(&name);
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": "KubervisorService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "Helm", "team": namespace},
            "annotations": {"meta.helm.sh/release-name": name, "meta.helm.sh/release-namespace": namespace},
        },
        "spec": {
            "service": name,
            "breakers": [
                {
                    "name": "error-rate",
                    "minPodsAvailableRatio": 50,
                    "discreteValueOutOfList": {
                        "prometheusService": "prometheus.monitoring:9090",
                        "promQL": code, "key": "code", "podNamekey": "pod",
                        "badValues": ["500", "502", "503", "504"], "tolerance": 30, "minActivity": 20,
                    },
                },
                {
                    "name": "latency",
                    "minPodsAvailableRatio": 50,
                    "fleetOutlier": {
                        "prometheusService": "prometheus.monitoring:9090",
                        "promQL": latency, "podNamekey": "pod", "direction": "Above", "minDelta": 0.2,
                    },
                },
            ],
            "defaultActivator": {"mode": "retryAndPause", "period": 30, "maxRetryCount": 2},
        },
    })
}

fn queries(name: &str) -> (String, String) {
    let of = format!("service=\"{name}\",route!~\"/(live|ready|metrics)\"");
    let code = format!("sum by (code, namespace, pod) (increase(http_server_requests_total{{{of}}}[1m]))");
    let buckets = format!("http_server_request_duration_seconds_bucket{{{of}}}");
    (code, format!("histogram_quantile(0.9, sum by (le, namespace, pod) (rate({buckets}[1m])))"))
}

/// As the controller writes it.
#[must_use]
pub fn status(number: usize) -> Value {
    let members = 4 + number % 23;
    let cut = if number % 10 == 3 { 1 + number % 2 } else { 0 };
    let (serving, floor) = (members - cut, members.div_ceil(2));
    let held = number % 50 == 7;
    json!({
        "observedGeneration": 1,
        "state": if held { "Held" } else { "Running" },
        "conditions": conditions(held),
        "podCount": {
            "nbPodsManaged": members, "nbPodsBreaked": cut, "nbPodsPaused": 0, "nbPodsUnknown": 0,
            "lastProbeTime": at(number, 0),
        },
        "fleet": {
            "members": members, "serving": serving, "cut": cut, "paused": 0, "notReady": 0, "floor": floor,
            "headroom": 1, "limitedBy": "maxCutsPerPeriod",
            "loadFactor": format!("1.{:02}", 100 * cut / serving),
        },
        "breakers": [
            {"name": "error-rate", "healthy": serving, "anomalous": cut, "unknown": 0, "wouldCut": [],
             "lastChange": at(number, 1), "error": ""},
            {"name": "latency", "healthy": members, "anomalous": 0, "unknown": 0, "wouldCut": [],
             "lastChange": at(number, 2), "error": ""},
        ],
        "cut": (0..cut).map(|nth| cut_pod(number, nth)).collect::<Vec<_>>(),
        "recent": (0..number % 21).map(|nth| act(number, nth)).collect::<Vec<_>>(),
        "kills": [],
    })
}

fn conditions(held: bool) -> Vec<Value> {
    let rows = [
        ("Running", true, "Evaluating", ""),
        ("InitFailed", false, "Spec", ""),
        ("ServiceNotAvailable", false, "Service", ""),
        ("Failed", false, "Source", ""),
        ("Ready", !held, if held { "Held" } else { "Evaluating" }, ""),
        ("Activated", true, "SelectorHoldsKey", ""),
        ("LabelsComplete", true, "Labels", "every member carries the label"),
        ("Held", held, if held { "Held" } else { "Free" }, if held { "held: migration, Ada" } else { "" }),
        ("FloorReached", false, "Floor", ""),
        ("Inert", false, "Budget", ""),
        ("TemplateLabelMissing", false, "Template", ""),
        ("HpaDiluted", false, "Autoscaler", ""),
        ("SelectorContested", false, "Selector", ""),
    ];
    let condition = |(type_, on, reason, message): (&str, bool, &str, &str)| {
        json!({
            "type": type_, "status": if on { "True" } else { "False" }, "reason": reason, "message": message,
            "lastTransitionTime": "2026-03-01T09:00:10Z", "observedGeneration": 1,
        })
    };
    rows.into_iter().map(condition).collect()
}

fn pod(number: usize, nth: usize) -> String {
    format!("{}-7d9f{number:04x}b-{:05x}", name(number), 0x4_2a51 + 977 * nth)
}

fn cut_pod(number: usize, nth: usize) -> Value {
    json!({
        "pod": pod(number, nth), "since": at(number, 3), "breaker": "error-rate", "strikes": 1,
        "restoreAt": at(number, 9), "why": format!("bad {} % > 30 % of 412", 40 + number % 60),
    })
}

fn act(number: usize, nth: usize) -> String {
    let (when, pod) = (at(number, nth), pod(number, nth / 2));
    if nth.is_multiple_of(2) {
        format!(
            "{when} PodCut {pod}: cut by error-rate: bad 62 % > 30 % of 412 (strike 1, until {})",
            at(number, nth + 1)
        )
    } else {
        format!("{when} PodRestored {pod}: restored after a cut by error-rate, on probation")
    }
}

fn at(number: usize, minutes: usize) -> String {
    format!("2026-03-01T11:{:02}:{:02}Z", minutes % 60, number % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use kubervisor::api::{Defaults, KubervisorServiceStatus, parse};

    #[test]
    fn each_is_one_of_its_own_and_all_namespaces_have_as_many() {
        let all: BTreeSet<_> = (0..COUNT).map(|n| (namespace(n), name(n))).collect();
        assert_eq!(all.len(), COUNT);
        let first = all.iter().filter(|(namespace, _)| namespace == "team-00").count();
        assert_eq!(first * NAMESPACES, COUNT);
    }

    #[test]
    fn the_controller_accepts_each_spec_and_knows_every_field_of_each_status() {
        for number in 0..100 {
            let spec = &object(number)["spec"];
            assert!(parse(spec, &namespace(number), &Defaults::default()).is_ok(), "{spec}");
            let status = status(number);
            let read: KubervisorServiceStatus = serde_json::from_value(status.clone()).unwrap();
            assert_eq!(json!(read), status);
        }
    }
}
