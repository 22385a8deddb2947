//! A PodDisruptionBudget: as it is read, and as the index keeps it.

use serde::Deserialize;

use super::label_selector::{Selector, SlimSelector};
use super::slim::SlimMeta;
use super::watch::Watched;

/// A PodDisruptionBudget, as far as it is read.
#[derive(Debug, Clone, Deserialize)]
pub struct SlimBudget {
    /// Identity and generation.
    pub metadata: SlimMeta,
    /// What it covers.
    #[serde(default)]
    pub spec: SlimBudgetSpec,
    /// What its controller counted.
    #[serde(default)]
    pub status: SlimBudgetStatus,
}

/// Its spec.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SlimBudgetSpec {
    /// Absent: no pod.
    #[serde(default)]
    pub selector: Option<SlimSelector>,
}

/// Its status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimBudgetStatus {
    #[allow(missing_docs)]
    #[serde(default)]
    pub current_healthy: i64,
    #[allow(missing_docs)]
    #[serde(default)]
    pub desired_healthy: i64,
    /// The generation that was counted for.
    #[serde(default)]
    pub observed_generation: i64,
    /// Whether it could be counted.
    #[serde(default)]
    pub conditions: Vec<SlimBudgetCondition>,
}

/// A condition of a budget.
#[derive(Debug, Clone, Deserialize)]
pub struct SlimBudgetCondition {
    #[allow(missing_docs)]
    #[serde(default)]
    pub reason: String,
}

impl Watched for SlimBudget {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// A PodDisruptionBudget in the index.
#[derive(Debug)]
pub struct Budget {
    pub(super) selector: Selector,
    /// currentHealthy − desiredHealthy; `None` where its controller has not counted, or could not.
    pub(super) room: Option<i64>,
    pub(super) list: u32,
}

impl Budget {
    pub(super) fn read(object: SlimBudget, list: u32) -> Option<Self> {
        let SlimBudgetStatus { current_healthy, desired_healthy, observed_generation, conditions } =
            object.status;
        let counted = observed_generation >= object.metadata.generation && observed_generation > 0;
        // The numbers beside this reason are those of an earlier count.
        let failed = conditions.iter().any(|c| c.reason == "SyncFailed");
        let room = current_healthy.saturating_sub(desired_healthy);
        let selector = Selector::read(object.spec.selector?);
        Some(Self { selector, room: (counted && !failed).then_some(room), list })
    }
}
