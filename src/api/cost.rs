//! The deletion cost of pods that are out: a scale-in takes cut pods first and evidence last.
//!
//! Takes the annotations as the cache shows them and the step about to be written; gives the step's patch with the cost
//! in it. A cost that somebody else set is never touched: beside ours stands a note of what we wrote, and a cost that
//! does not agree with it is somebody else's.

use std::collections::BTreeMap;

use kubervisor_core::traffic::Move;
use serde_json::{Value, json};

use super::key;

/// Of a pod that is cut: below every pod that says nothing, which counts as 0.
const LOW: &str = "-1000";
/// Of a pod that is paused.
const HIGH: &str = "1000";

/// Whose deletion cost a pod carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cost {
    /// Nobody's.
    #[default]
    Absent,
    /// What we wrote.
    Ours,
    /// Somebody else's, or ours and changed since.
    Foreign,
}

impl Cost {
    /// Reads a pod's annotations.
    #[must_use]
    pub fn of(annotations: &BTreeMap<String, String>) -> Self {
        match (annotations.get(key::DELETION_COST), annotations.get(key::OUR_COST)) {
            (None, _) => Self::Absent,
            (Some(cost), Some(ours)) if cost == ours => Self::Ours,
            (Some(_), _) => Self::Foreign,
        }
    }
}

/// The patch of `step` with the cost that goes with it, for a pod that carries `cost` now.
#[must_use]
pub fn priced(mut patch: Value, step: Move, cost: Cost) -> Value {
    let wanted = match step {
        Move::Cut => json!(LOW),
        Move::Pause => json!(HIGH),
        Move::Restore => Value::Null,
        Move::Evict | Move::Forgive => return patch,
    };
    let annotations = &mut patch["metadata"]["annotations"];
    match cost {
        Cost::Absent | Cost::Ours => {
            annotations[key::OUR_COST] = wanted.clone();
            annotations[key::DELETION_COST] = wanted;
        }
        Cost::Foreign => annotations[key::OUR_COST] = Value::Null,
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

    /// The annotations after a merge patch of this step, as the API server would store them.
    fn after(annotations: &BTreeMap<String, String>, step: Move) -> BTreeMap<String, String> {
        let patch = priced(json!({"metadata": {}}), step, Cost::of(annotations));
        let mut stored = annotations.clone();
        for (key, value) in patch["metadata"]["annotations"].as_object().into_iter().flatten() {
            match value.as_str() {
                Some(text) => stored.insert(key.clone(), text.to_owned()),
                None => stored.remove(key),
            };
        }
        stored
    }

    fn with(cost: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(COST.to_owned(), cost.to_owned())])
    }

    #[test]
    fn a_cut_pod_is_cheap_a_paused_one_dear_and_one_that_is_back_as_it_was() {
        let cut = after(&BTreeMap::new(), Move::Cut);
        assert_eq!(cut[COST], "-1000");
        assert_eq!(after(&cut, Move::Restore), BTreeMap::new());
        let paused = after(&cut, Move::Pause);
        assert_eq!(paused[COST], "1000");
        assert_eq!(after(&paused, Move::Restore), BTreeMap::new());
    }

    #[test]
    fn a_cost_of_somebody_else_stays_even_where_it_equals_ours() {
        for foreign in ["-1000", "7", "", "cheap"].map(with) {
            let cut = after(&foreign, Move::Cut);
            assert_eq!(cut, foreign);
            assert_eq!(after(&cut, Move::Restore), foreign);
        }
    }

    #[test]
    fn a_cost_that_somebody_changed_meanwhile_is_theirs_and_our_note_goes() {
        let mut cut = after(&BTreeMap::new(), Move::Cut);
        cut.insert(COST.to_owned(), "5".to_owned());
        assert_eq!(after(&cut, Move::Restore), with("5"));
        cut.remove(COST);
        assert_eq!(after(&cut, Move::Restore), BTreeMap::new());
    }

    fn step() -> impl Strategy<Value = Move> {
        proptest::sample::select(&[Move::Cut, Move::Pause, Move::Restore, Move::Evict][..])
    }

    proptest! {
        #[test]
        fn no_order_of_steps_changes_a_foreign_cost_or_leaves_ours_behind(
            foreign in proptest::option::of("[-0-9a-z]{0,6}"), steps in proptest::collection::vec(step(), 0..9),
        ) {
            let before = foreign.as_deref().map(with).unwrap_or_default();
            let end = steps.iter().fold(before.clone(), |stored, step| after(&stored, *step));
            prop_assert_eq!(after(&end, Move::Restore), before);
        }
    }
}
