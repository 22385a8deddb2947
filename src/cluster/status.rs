//! What is known of a service to its status.
//!
//! Pure: facts and the former status give the new one, bounded in bytes. `status_writer` writes it when it matters.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use kubervisor_core::plan::Report;

use super::conditions::conditions;
use super::facts::Facts;
use crate::api::{BreakerStatus, FleetStatus, KubervisorServiceStatus, PodCount, stamp};

/// Rows of cut pods in a status.
pub const CUT_MAX: usize = 50;
/// Sentences in `recent`.
pub const RECENT_MAX: usize = 20;
/// Records in `kills`: more than the highest cap within an hour.
pub const KILLS_MAX: usize = 60;
/// Bytes of a status.
const STATUS_BYTES_MAX: usize = 32 * 1024;

/// The status that these facts make of the former one.
#[must_use]
pub fn compose(facts: &Facts<'_>, former: &KubervisorServiceStatus) -> KubervisorServiceStatus {
    let mut status = KubervisorServiceStatus {
        observed_generation: facts.generation,
        state: Some(facts.state()),
        start_time: former.start_time.clone(),
        conditions: conditions(facts, &former.conditions),
        pod_count: facts.report.map(|r| pod_count(r, facts.now)),
        fleet: facts.report.map(fleet),
        breakers: facts.report.map(|r| breakers(facts, r, &former.breakers)).unwrap_or_default(),
        cut: facts.cut.iter().take(CUT_MAX).cloned().collect(),
        recent: facts.recent.clone(),
        kills: facts.kills.clone(),
    };
    shorten(&mut status);
    status
}

/// Leaves out what is longest, until the whole is small enough for every object to be cheap to watch.
fn shorten(status: &mut KubervisorServiceStatus) {
    let fits = |status: &KubervisorServiceStatus| {
        serde_json::to_vec(status).is_ok_and(|bytes| bytes.len() <= STATUS_BYTES_MAX)
    };
    while !fits(status) && status.recent.len() + status.cut.len() > 0 {
        if status.recent.is_empty() {
            status.cut.pop();
        } else {
            status.recent.remove(0);
        }
    }
    if !fits(status) {
        status.breakers.iter_mut().for_each(|breaker| breaker.would_cut.clear());
    }
}

fn pod_count(report: &Report, now: Timestamp) -> PodCount {
    PodCount {
        nb_pods_managed: report.members.into(),
        nb_pods_breaked: report.cut.into(),
        nb_pods_paused: report.paused.into(),
        nb_pods_unknown: report.unknown.into(),
        last_probe_time: Some(stamp(now)),
    }
}

fn fleet(report: &Report) -> FleetStatus {
    let (headroom, limit) = report.budget.headroom();
    let load = match report.budget.serving {
        0 => None,
        serving => Some(format!("{:.2}", f64::from(report.members) / f64::from(serving))),
    };
    FleetStatus {
        members: report.members.into(),
        serving: report.budget.serving.into(),
        cut: report.cut.into(),
        paused: report.paused.into(),
        not_ready: report.not_ready.into(),
        floor: report.budget.floor.into(),
        headroom: headroom.into(),
        limited_by: Some(Cow::Borrowed(limit.as_str())),
        load_factor: load,
    }
}

fn breakers(facts: &Facts<'_>, report: &Report, former: &[BreakerStatus]) -> Vec<BreakerStatus> {
    let one = |b: &kubervisor_core::plan::BreakerReport| {
        let error = facts
            .failing
            .iter()
            .chain(facts.doubts)
            .find(|(name, _)| **name == *b.name)
            .map(|(_, e)| e.as_str());
        let mut row = BreakerStatus {
            name: b.name.to_string(),
            healthy: b.healthy.into(),
            anomalous: b.anomalous.into(),
            unknown: b.unknown.into(),
            would_cut: sorted(&b.would_cut),
            last_change: None,
            error: error.unwrap_or_default().chars().take(256).collect(),
        };
        let same = former.iter().find(|f| BreakerStatus { last_change: None, ..(*f).clone() } == row);
        row.last_change = same.and_then(|f| f.last_change.clone()).or_else(|| Some(stamp(facts.now)));
        row
    };
    report.breakers.iter().map(one).collect()
}

/// By name: their order by severity changes with every answer.
fn sorted(names: &[Arc<str>]) -> Vec<String> {
    let mut names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names
}
