//! An index with pods in it, for the tests of this folder: a Service over pears, and a KubervisorService over that.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

use std::sync::Arc;

use jiff::Timestamp;
use kubervisor_core::budget::Budget;
use kubervisor_core::plan::{Action, Report, What};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::cache::Cache;
use super::facts::Facts;
use super::index::Governor;
use super::slim::{SlimPod, SlimService};
use super::snapshot::ServiceView;
use super::watch::Sink;
use crate::api::KubervisorServiceStatus;

pub fn pod(name: &str, version: u64, label: &str) -> SlimPod {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "orchard", "uid": format!("uid-of-{name}"),
            "resourceVersion": version.to_string(), "labels": {"app": "pear", "kubervisor/traffic": label}},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }))
    .unwrap()
}

pub fn service(name: &str, selector: &Value) -> SlimService {
    let meta = json!({"name": name, "namespace": "orchard", "uid": "s", "resourceVersion": "1"});
    serde_json::from_value(json!({"metadata": meta, "spec": {"selector": selector}})).unwrap()
}

pub fn governor(name: &str, service: &str, second: i64) -> Governor {
    Governor {
        name: name.into(),
        service: service.into(),
        created: Timestamp::from_second(second).unwrap(),
        labels: false,
        manages: false,
        changed: Arc::new(Notify::new()),
    }
}

/// Of a fleet in which all is well.
pub fn report() -> Report {
    let budget =
        Budget { size: 10, floor: 5, serving: 10, out: 0, max_out: 3, recent_cuts: 0, max_recent_cuts: 1 };
    Report {
        members: 10,
        budget,
        cut: 0,
        paused: 0,
        not_ready: 0,
        unknown: 0,
        breakers: vec![],
        gates: vec![],
        floor_reached: false,
        inert: None,
        remarks: vec![],
    }
}

/// Pods `pear-0` and so on, all in traffic.
pub fn orchard(pods: usize) -> Arc<Cache> {
    let cache = Arc::new(Cache::default());
    (0..pods).for_each(|i| cache.pods(None).apply(pod(&format!("pear-{i}"), 7, "yes")));
    cache.services(None).apply(service("pears", &json!({"app": "pear", "kubervisor/traffic": "yes"})));
    cache.govern("orchard", "k1", governor("pick", "pears", 5));
    cache
}

/// Its first lists are complete.
pub fn listed(cache: &Arc<Cache>) {
    cache.pods(None).end();
    cache.services(None).end();
}

/// The demands of a policy with this floor, whatever the size of the fleet, and else the usual limits.
macro_rules! floor_of {
    ($floor:expr) => {
        $crate::cluster::writes::Demands {
            floor: &|_| $floor,
            limits: &kubervisor_core::policy::Limits::default(),
        }
    };
}
pub(crate) use floor_of;

pub(crate) fn facts<'a>(errors: &'a [String], failing: &'a [(String, String)]) -> Facts<'a> {
    Facts {
        generation: Some(3),
        disabled: false,
        errors,
        notes: &[],
        service: ServiceView::Usable { activated: true },
        unlabelled: 0,
        looked: None,
        report: None,
        failing,
        doubts: &[],
        cut: vec![],
        recent: vec![],
        kills: vec![],
        key_waits: None,
        key_contested: None,
        now: Timestamp::from_second(1_700_000_000).unwrap(),
    }
}

pub(crate) fn status_of<'a>(status: &'a KubervisorServiceStatus, type_: &str) -> &'a str {
    &status.conditions.iter().find(|c| c.type_ == type_).unwrap().status
}

pub fn pause(name: &str, version: u64) -> Action {
    Action {
        pod: name.into(),
        uid: format!("uid-of-{name}").into(),
        resource_version: version,
        what: What::Pause { breaker: None, strikes: 1 },
    }
}
