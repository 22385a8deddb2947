//! Everything that a status tells of a service, in one place, and the one word for it.

use jiff::Timestamp;
use kubervisor_core::gates::Gate;
use kubervisor_core::plan::Report;

use super::snapshot::ServiceView;
use super::workloads::Looked;
use crate::api::{CutStatus, KillStatus, State};

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
    /// Why the key, which is the controller's to add and to take out, is not as it should be yet.
    pub key_waits: Option<&'a str>,
    /// Who took the key out so often that it is not added any more.
    pub key_contested: Option<&'a str>,
    /// Wall time.
    pub now: Timestamp,
}

impl Facts<'_> {
    pub(super) fn gates(&self) -> &[Gate] {
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

    pub(super) fn evaluating(&self) -> bool {
        self.errors.is_empty() && !self.disabled && self.service.fault().is_none()
    }
}
