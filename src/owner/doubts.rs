//! What an answer leaves to be desired, though it came.

use kubervisor_core::detector::Detector;
use kubervisor_core::fleet::Member;

use super::breaker::Answers;
use crate::cluster::snapshot::View;

/// Why an answer is of little use, behind the word for its outcome.
pub(super) fn doubt_of(
    detector: Option<&Detector>,
    answers: &Answers,
    view: &View,
) -> Option<(&'static str, &'static str)> {
    let (samples, activity) = (&answers.values.samples, answers.activity.as_ref());
    if samples.partial || activity.is_some_and(|activity| activity.samples.partial) {
        return Some(("Partial", "the source warned that its answer is incomplete: it is no reason to cut"));
    }
    // A custom service that names nobody says that all is well.
    if samples.is_empty() && detector != Some(&Detector::Custom) {
        return Some(("Empty", "the answer has no series: is the query right, and is there traffic?"));
    }
    if activity.is_some_and(|activity| activity.samples.is_empty()) {
        return Some((
            "Empty",
            "the answer to activityPromQL has no series: is the query right, and is there traffic?",
        ));
    }
    let Some(Detector::Discrete(rule)) = detector else { return None };
    // Rows without the key stand before the others.
    let first = |pod: &Member| samples.of(&view.fleet.namespace, &pod.name).first();
    let lacks = view.fleet.members.iter().filter_map(first).any(|row| rule.lacks_key(row));
    lacks.then_some((
        "NoKey",
        "series of its pods lack the label named in key, and say nothing: does the query aggregate by it?",
    ))
}
