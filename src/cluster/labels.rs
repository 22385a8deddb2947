//! The labels of a pod's template: one set for all its pods, without those that we write.

use std::sync::Arc;

use crate::api::key;

/// Labels of a pod without the ones that we write, sorted by key.
pub type LabelSet = Box<[(Arc<str>, Arc<str>)]>;

/// Whether we write this label: it is no part of a [`LabelSet`].
#[must_use]
pub fn ours(label: &str) -> bool {
    matches!(label, key::TRAFFIC | key::NAME | key::STRATEGY)
}

/// The value of a label in a set, which is sorted by key.
#[must_use]
pub fn value<'a>(labels: &'a LabelSet, key: &str) -> Option<&'a str> {
    labels.binary_search_by(|(have, _)| (**have).cmp(key)).ok().map(|at| &*labels[at].1)
}

/// Whether `labels` has every pair of `selector`. Both are sorted by key.
pub(super) fn matches(selector: &LabelSet, labels: &LabelSet) -> bool {
    selector
        .iter()
        .all(|(k, v)| labels.binary_search_by(|(have, _)| have.cmp(k)).is_ok_and(|i| labels[i].1 == *v))
}
