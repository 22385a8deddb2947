//! What holds a service that its own evidence cannot know: the view, the spec, the Service, the right to act, the brake.

use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::gates::Gate;
use kubervisor_core::policy::{Disruption, Mode};
use tokio::time::Instant;

use super::Owner;
use super::checked::Known;
use crate::cluster::disruptions;
use crate::cluster::snapshot::{ServiceView, View};

/// A view that nobody has proved for this long is stale.
const STALE_AFTER: Duration = Duration::from_mins(1);

impl Owner {
    /// Everything that holds now.
    pub(super) fn gates(&self, view: &View) -> Vec<Gate> {
        let mut gates = Vec::new();
        let [pods, services] = self.parts.cache.view_ages_in(&self.id.namespace);
        let resources = ("kubervisorservices", self.parts.registry.view_age(&self.id.namespace));
        for (resource, age) in [pods, services, resources] {
            if age.is_none_or(|age| age > STALE_AFTER) {
                gates.push(Gate::StaleView { resource });
            }
        }
        gates.extend(self.disruption_gate());
        if let Some(conflict) = &view.conflict {
            gates.push(Gate::Conflict { with: Arc::clone(conflict) });
        }
        match self.checked.known() {
            Known::Nothing(why) => gates.push(Gate::Unchecked { why }),
            Known::Looked(looked) if !looked.faults.is_empty() => gates.push(Gate::InvalidSpec),
            Known::Looked(_) => {}
        }
        if (self.spec.parsed.is_err() || self.refused_queries().next().is_some())
            && !gates.contains(&Gate::InvalidSpec)
        {
            gates.push(Gate::InvalidSpec);
        }
        if view.service == (ServiceView::Usable { activated: false }) {
            gates.push(Gate::NotActivated);
        }
        gates.extend(self.parts.mandate.gate(&self.id.namespace));
        // Last: what nothing here holds but this counts as wanted, and keeps it closed.
        if self.policy.mode == Mode::Active {
            gates.extend(self.parts.writer.brake().gate(Instant::now()));
        }
        gates
    }

    /// Budgets that nobody has read are not budgets with room.
    fn disruption_gate(&self) -> Option<Gate> {
        if self.policy.limits.disruption == Disruption::KillsOnly {
            return None;
        }
        match self.parts.cache.budgets_known(&self.id.namespace) {
            disruptions::Known::Forbidden => Some(Gate::Unchecked { why: disruptions::FORBIDDEN.into() }),
            disruptions::Known::NotYet => Some(Gate::Unchecked { why: disruptions::NOT_YET.into() }),
            disruptions::Known::Since(age) if age > STALE_AFTER => {
                Some(Gate::StaleView { resource: "poddisruptionbudgets" })
            }
            disruptions::Known::Since(_) => None,
        }
    }
}
