//! What is known of a service to its status.
//!
//! `compose` is pure: facts and the former status give the new one. `StatusWriter` writes it when it matters: at once
//! for cuts, gates, conditions and the floor, at most once a minute for counts, never for nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use kubervisor_core::gates::Gate;
use kubervisor_core::plan::Report;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::mandate::Mandate;
use super::remarks;
use super::snapshot::ServiceView;
use super::workloads::Looked;
use super::{CallError, call};
use crate::api::{
    BreakerStatus, Condition, CutStatus, FleetStatus, Identity, KillStatus, KubervisorService,
    KubervisorServiceStatus, PodCount, State,
};

/// Rows of cut pods in a status.
pub const CUT_MAX: usize = 50;
/// Sentences in `recent`.
pub const RECENT_MAX: usize = 20;
/// Records in `kills`: more than the highest cap within an hour.
pub const KILLS_MAX: usize = 60;
/// Bytes of a status.
const STATUS_BYTES_MAX: usize = 32 * 1024;
/// Conditions that flap are written this often at most, unless something was done.
const CHANGES_EVERY: Duration = Duration::from_secs(5);
/// Longest pause after writes that failed.
const RETRY_MAX: Duration = Duration::from_mins(5);
/// Counts flicker with the traffic; they are written this often at most.
const COUNTS_EVERY: Duration = Duration::from_mins(1);
/// A status that could not be written is tried again after this, not at every tick: each try may take a call's whole
/// time, in which the owner does nothing else.
pub const RETRY: Duration = Duration::from_secs(5);
/// Characters of a condition's message.
const MESSAGE_MAX: usize = 1_024;

/// Everything that a status tells.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Of the spec that was judged.
    pub generation: Option<i64>,
    /// spec.mode is Disabled.
    pub disabled: bool,
    /// Why the spec was refused, every fault.
    pub errors: &'a [String],
    /// Remarks on a valid spec.
    pub notes: &'a [String],
    /// The Service.
    pub service: ServiceView,
    /// Members without a label.
    pub unlabelled: usize,
    /// What is behind the Service; `None` before anybody has looked.
    pub looked: Option<&'a Looked>,
    /// The last tick; `None` before the first.
    pub report: Option<&'a Report>,
    /// Sources that fail: breaker and sentence.
    pub failing: &'a [(String, String)],
    /// Sources that answer, but say too little: breaker and sentence.
    pub doubts: &'a [(String, String)],
    /// Pods that are out.
    pub cut: Vec<CutStatus>,
    /// The last acts, newest last.
    pub recent: Vec<String>,
    /// Evictions of the last hour.
    pub kills: Vec<KillStatus>,
    /// Wall time.
    pub now: Timestamp,
}

impl Facts<'_> {
    fn gates(&self) -> &[Gate] {
        self.report.map(|r| r.gates.as_slice()).unwrap_or_default()
    }

    fn has(&self, gate: &str) -> bool {
        self.gates().iter().any(|g| g.as_str() == gate)
    }

    /// The word for the column.
    #[must_use]
    pub fn state(&self) -> State {
        if !self.errors.is_empty() {
            return State::InitFailed;
        }
        if self.disabled {
            return State::Disabled;
        }
        if self.service.fault().is_some() {
            return State::ServiceNotAvailable;
        }
        // Those that hold one breaker hold the service once each has one.
        let blind = self.gates().iter().filter(|g| g.breaker().is_some()).count();
        let all_blind = self.report.is_some_and(|r| !r.breakers.is_empty() && blind == r.breakers.len());
        let held = |g: &Gate| matches!(g, Gate::Held { .. } | Gate::Storm { .. } | Gate::Overload { .. });
        let held = self.gates().iter().any(held);
        if self.has("Conflict") {
            State::Conflict
        } else if ["StaleView", "Unchecked", "Lease", "ClusterStorm"].iter().any(|gate| self.has(gate))
            || held
            || all_blind
        {
            State::Held
        } else if self.has("DryRun") {
            State::DryRun
        } else if self.has("NotActivated") {
            State::NotActivated
        } else {
            State::Running
        }
    }

    fn evaluating(&self) -> bool {
        self.errors.is_empty() && !self.disabled && self.service.fault().is_none()
    }
}

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

fn conditions(facts: &Facts<'_>, former: &[Condition]) -> Vec<Condition> {
    let state = facts.state();
    let ready = state == State::Running && facts.failing.is_empty();
    let reason = match state {
        State::Running => "SourceFailed",
        State::Held => facts.gates().first().map_or("Held", Gate::as_str),
        _ => state.as_str(),
    };
    let failing: Vec<_> = facts.failing.iter().map(|(b, e)| format!("{b}: {e}")).collect();
    let gates: Vec<_> = facts.gates().iter().map(ToString::to_string).collect();
    let first = facts.gates().first().map_or("Free", Gate::as_str);
    let activated = facts.service == (ServiceView::Usable { activated: true });
    let fault = facts.service.fault();
    let running = if facts.evaluating() { "Evaluating" } else { state.as_str() };
    let floor = facts.report.is_some_and(|r| r.floor_reached);
    let budget = facts.report.map(|r| r.budget.to_string()).unwrap_or_default();
    let inert = facts.report.and_then(|r| r.inert.clone());
    let labels = match facts.unlabelled {
        0 => "every member carries the label".to_owned(),
        n => format!("{n} members lack the label kubervisor/traffic"),
    };
    let rows = [
        ("Running", facts.evaluating(), running, String::new()),
        ("InitFailed", !facts.errors.is_empty(), "Spec", facts.errors.join("; ")),
        ("ServiceNotAvailable", fault.is_some(), "Service", fault.unwrap_or_default().to_owned()),
        ("Failed", !failing.is_empty(), "Source", failing.join("; ")),
        ("Ready", ready, if ready { "Evaluating" } else { reason }, facts.notes.join("; ")),
        (
            "Activated",
            activated,
            if activated { "SelectorHoldsKey" } else { "SelectorLacksKey" },
            String::new(),
        ),
        ("LabelsComplete", fault.is_none() && facts.unlabelled == 0, "Labels", labels),
        ("Held", !gates.is_empty(), first, gates.join("; ")),
        ("FloorReached", floor, "Floor", if floor { budget } else { String::new() }),
        ("Inert", inert.is_some(), "Budget", inert.unwrap_or_default()),
    ];
    let mut conditions: Vec<_> = rows.into_iter().map(|row| condition(row, facts, former)).collect();
    conditions.push(remarks::template_label(facts, former));
    conditions.push(condition(remarks::diluted(facts), facts, former));
    conditions
}

pub(super) type Row = (&'static str, bool, &'static str, String);

pub(super) fn condition(
    (type_, on, reason, message): Row,
    facts: &Facts<'_>,
    former: &[Condition],
) -> Condition {
    told(type_, if on { "True" } else { "False" }, (reason, message), facts, former)
}

pub(super) fn told(
    type_: &'static str,
    status: &'static str,
    (reason, message): (&'static str, String),
    facts: &Facts<'_>,
    former: &[Condition],
) -> Condition {
    let same = former.iter().find(|c| c.type_ == type_ && c.status == status);
    let since = same.and_then(|c| c.last_transition_time.clone());
    Condition {
        type_: Cow::Borrowed(type_),
        status: Cow::Borrowed(status),
        reason: Some(Cow::Borrowed(reason)),
        message: Some(message.chars().take(MESSAGE_MAX).collect()),
        last_transition_time: Some(since.unwrap_or_else(|| stamp(facts.now))),
        last_probe_time: None,
        observed_generation: facts.generation,
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

/// RFC 3339 in whole seconds, as Kubernetes writes times.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Writes one service's status.
pub struct StatusWriter {
    api: Api<KubervisorService>,
    name: String,
    written: KubervisorServiceStatus,
    at: Option<Instant>,
    /// A write went unanswered: what is stored may be the new status or the old one.
    doubtful: bool,
    /// The last try failed; there is none before this, and the pause after the next failure.
    not_before: Option<Instant>,
    pause: Duration,
    uid: String,
    calls: Arc<Semaphore>,
    mandate: Mandate,
}

impl StatusWriter {
    /// Continues from the status that is stored.
    #[must_use]
    pub fn new(
        client: Client,
        calls: Arc<Semaphore>,
        mandate: Mandate,
        id: &Identity,
        stored: KubervisorServiceStatus,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &id.namespace),
            name: id.name.to_string(),
            written: stored,
            at: None,
            doubtful: false,
            not_before: None,
            pause: RETRY,
            uid: id.uid.to_string(),
            calls,
            mandate,
        }
    }

    /// The status that was written last.
    #[must_use]
    pub fn written(&self) -> &KubervisorServiceStatus {
        &self.written
    }

    /// Whether something waits to be written, and how long.
    #[must_use]
    pub fn due(&self, status: &KubervisorServiceStatus) -> Option<Duration> {
        let allowed =
            self.not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        self.wanted(status).map(|wait| wait.max(allowed))
    }

    fn wanted(&self, status: &KubervisorServiceStatus) -> Option<Duration> {
        let since = self.at.map_or(Duration::MAX, |at| at.elapsed());
        if self.doubtful || acts(status) != acts(&self.written) {
            return Some(Duration::ZERO);
        }
        if urgent(status) != urgent(&self.written) {
            // A source that fails every second time must not be a write every second time.
            return Some(CHANGES_EVERY.saturating_sub(since));
        }
        if without_times(status) == without_times(&self.written) {
            return None;
        }
        Some(self.at.map_or(Duration::ZERO, |at| COUNTS_EVERY.saturating_sub(at.elapsed())))
    }

    /// Writes `status`. Returns the object's new version.
    ///
    /// # Errors
    /// What the server said; the same status is due again then, after [`RETRY`].
    pub async fn write(&mut self, status: KubervisorServiceStatus) -> Result<u64, CallError> {
        let result = self.write_now(status).await;
        self.not_before = result.is_err().then(|| Instant::now() + self.pause);
        self.pause = if result.is_err() { (self.pause * 2).min(RETRY_MAX) } else { RETRY };
        result
    }

    async fn write_now(&mut self, status: KubervisorServiceStatus) -> Result<u64, CallError> {
        if self.doubtful {
            self.read_again().await?;
        }
        let change = difference(&json!(self.written), &json!(status));
        // The uid: an object made anew under the same name has its own owner.
        let patch = json!({ "metadata": { "uid": self.uid }, "status": change });
        let version = self.patch(&patch).await?;
        self.written = status;
        self.at = Some(Instant::now());
        Ok(version)
    }

    /// Records an eviction before it is asked for, on exactly this version of the object.
    ///
    /// # Errors
    /// It is not recorded; the eviction must not be asked for.
    pub async fn record_kill(&mut self, version: u64, kills: Vec<KillStatus>) -> Result<u64, CallError> {
        let patch = json!({
            "metadata": { "uid": self.uid, "resourceVersion": version.to_string() },
            "status": { "kills": kills },
        });
        let version = self.patch(&patch).await?;
        self.written.kills = kills;
        Ok(version)
    }

    /// Only the difference is ever sent, so it has to be one from what is stored.
    async fn read_again(&mut self) -> Result<(), CallError> {
        self.written = call(self.api.get(&self.name)).await?.status.unwrap_or_default();
        self.doubtful = false;
        Ok(())
    }

    async fn patch(&mut self, patch: &Value) -> Result<u64, CallError> {
        let params =
            PatchParams { field_manager: Some(super::FIELD_MANAGER.into()), ..PatchParams::default() };
        let _turn = self.calls.acquire().await.map_err(|e| CallError::NotSent(e.to_string()))?;
        self.mandate.may_write().map_err(|why| CallError::NotSent(why.as_str().into()))?;
        let answer = call(self.api.patch_status(&self.name, &params, &Patch::Merge(patch))).await;
        self.doubtful |= answer.as_ref().is_err_and(|error| !error.definite());
        let answer = answer?;
        Ok(answer.metadata.resource_version.and_then(|v| v.parse().ok()).unwrap_or(0))
    }
}

/// What was done, and the word for it all: told at once. Between words that a source alone may flip as often as it
/// answers there is no difference: they are conditions like others.
fn acts(status: &KubervisorServiceStatus) -> impl PartialEq + use<> {
    let KubervisorServiceStatus { observed_generation, state, cut, recent, kills, .. } = status.clone();
    let state = match state {
        Some(State::Held | State::InitFailed | State::Running) => Some(State::Running),
        other => other,
    };
    (observed_generation, state, cut, recent, kills)
}

/// A status without what only says when it was written.
fn without_times(status: &KubervisorServiceStatus) -> KubervisorServiceStatus {
    let mut status = status.clone();
    if let Some(count) = &mut status.pod_count {
        count.last_probe_time = None;
    }
    status
}

/// What must be told at once: counts that flicker are taken out.
fn urgent(status: &KubervisorServiceStatus) -> KubervisorServiceStatus {
    let mut status = KubervisorServiceStatus { pod_count: None, ..status.clone() };
    if let Some(fleet) = &mut status.fleet {
        *fleet = FleetStatus {
            cut: fleet.cut,
            paused: fleet.paused,
            floor: fleet.floor,
            ..FleetStatus::default()
        };
    }
    for breaker in &mut status.breakers {
        *breaker = BreakerStatus {
            name: std::mem::take(&mut breaker.name),
            would_cut: std::mem::take(&mut breaker.would_cut),
            error: std::mem::take(&mut breaker.error),
            ..BreakerStatus::default()
        };
    }
    // The sums in these messages flicker too.
    let sums = |c: &&mut Condition| matches!(&*c.type_, "FloorReached" | "LabelsComplete" | "Held");
    status.conditions.iter_mut().filter(sums).for_each(|c| c.message = None);
    status
}

/// A merge patch from one value to another: what is new or changed, and null for what is no longer there.
fn difference(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let mut patch = Map::new();
    for (key, value) in to {
        match from.get(key) {
            Some(old) if old == value => {}
            Some(old @ Value::Object(_)) => {
                patch.insert(key.clone(), difference(old, value));
            }
            _ => {
                patch.insert(key.clone(), value.clone());
            }
        }
    }
    for key in from.keys().filter(|key| !to.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::cluster) fn facts<'a>(errors: &'a [String], failing: &'a [(String, String)]) -> Facts<'a> {
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
            now: Timestamp::from_second(1_700_000_000).unwrap(),
        }
    }

    pub(in crate::cluster) fn status_of<'a>(status: &'a KubervisorServiceStatus, type_: &str) -> &'a str {
        &status.conditions.iter().find(|c| c.type_ == type_).unwrap().status
    }

    #[test]
    fn every_condition_is_there_from_the_first_write_on() {
        let status = compose(&facts(&[], &[]), &KubervisorServiceStatus::default());
        let types: Vec<_> = status.conditions.iter().map(|c| &*c.type_).collect();
        let original = ["Running", "InitFailed", "ServiceNotAvailable", "Failed"];
        assert_eq!(types[..4], original);
        assert_eq!((status_of(&status, "Ready"), status_of(&status, "InitFailed")), ("True", "False"));
    }

    #[test]
    fn a_failing_source_is_told_and_is_not_ready() {
        let failing = [("errors".to_owned(), "no answer".to_owned())];
        let status = compose(&facts(&[], &failing), &KubervisorServiceStatus::default());
        assert_eq!((status_of(&status, "Failed"), status_of(&status, "Ready")), ("True", "False"));
    }

    #[test]
    fn what_a_source_flips_with_each_answer_is_no_act_and_the_rest_is() {
        let of = |state| KubervisorServiceStatus { state: Some(state), ..KubervisorServiceStatus::default() };
        let is_act = |from, to| acts(&of(from)) != acts(&of(to));
        assert!(!is_act(State::Running, State::Held) && !is_act(State::Held, State::InitFailed));
        assert!(is_act(State::Running, State::Disabled) && is_act(State::Conflict, State::Held));
        let cut = |status: KubervisorServiceStatus| KubervisorServiceStatus {
            recent: vec!["cut".into()],
            ..status
        };
        assert!(acts(&of(State::Held)) != acts(&cut(of(State::Held))));
        assert!(urgent(&of(State::Running)) != urgent(&of(State::Held)), "it is told all the same");
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_turns() {
        let first = compose(&facts(&[], &[]), &KubervisorServiceStatus::default());
        let later = Facts { now: Timestamp::from_second(1_700_000_060).unwrap(), ..facts(&[], &[]) };
        assert_eq!(compose(&later, &first).conditions, first.conditions);
    }

    #[test]
    fn a_patch_clears_what_is_no_longer_there() {
        let patch = difference(&json!({"a": 1, "b": {"c": 2, "d": 3}}), &json!({"b": {"c": 4}}));
        assert_eq!(patch, json!({"a": null, "b": {"c": 4, "d": null}}));
    }
}
