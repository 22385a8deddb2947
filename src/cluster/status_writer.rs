//! Writes a status when it matters: at once for what was done, soon for conditions, at most once a minute for counts,
//! never for nothing. Sends only what differs from what is stored.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::mandate::Mandate;
use super::{CallError, call};
use crate::api::{
    BreakerStatus, Condition, FleetStatus, Identity, KillStatus, KubervisorService, KubervisorServiceStatus,
    State,
};

/// Conditions that flap are written this often at most, unless something was done.
const CHANGES_EVERY: Duration = Duration::from_secs(5);
/// Longest pause after writes that failed.
const RETRY_MAX: Duration = Duration::from_mins(5);
/// Counts flicker with the traffic; they are written this often at most.
const COUNTS_EVERY: Duration = Duration::from_mins(1);
/// A status that could not be written is tried again after this, not at every tick: each try may take a call's whole
/// time, in which the owner does nothing else.
pub const RETRY: Duration = Duration::from_secs(5);

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
mod tests {
    use super::*;

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
    fn a_patch_clears_what_is_no_longer_there() {
        let patch = difference(&json!({"a": 1, "b": {"c": 2, "d": 3}}), &json!({"b": {"c": 4}}));
        assert_eq!(patch, json!({"a": null, "b": {"c": 4, "d": null}}));
    }
}
