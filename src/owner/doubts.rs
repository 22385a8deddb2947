//! What an answer leaves to be desired, though it came.

use kubervisor_core::detector::Detector;
use kubervisor_core::fleet::Member;

use super::breaker::Answers;
use crate::cluster::snapshot::View;

const NO_MEMBER: &str = "no series names a pod of this Service: is the pod's name in the label pod (or podNamekey), and is \
     the label namespace, where there is one, the pod's?";

/// Why an answer is of little use, behind the word for its outcome.
#[must_use]
pub fn doubt_of(
    detector: Option<&Detector>,
    answers: &Answers,
    view: &View,
) -> Option<(&'static str, &'static str)> {
    let (samples, activity) = (&answers.values.samples, answers.activity.as_ref());
    if samples.partial || activity.is_some_and(|activity| activity.samples.partial) {
        return Some(("Partial", "the source warned that its answer is incomplete: it is no reason to cut"));
    }
    if samples.is_empty() && answers.values.dropped > 0 {
        return Some(("NoMember", NO_MEMBER));
    }
    // A custom service that names nobody says that all is well.
    if samples.is_empty() && detector != Some(&Detector::Custom) {
        return Some(("Empty", "the answer has no series: is the query right, and is there traffic?"));
    }
    // Series of others are usual, as services share a query; of others only, they cannot be what was meant. A custom
    // service may name pods of others as long as all is well here.
    let fleet = &view.fleet;
    let reached = |pod: &Member| !samples.of(&fleet.namespace, &pod.name).is_empty();
    if !fleet.members.is_empty() && !samples.is_empty() && !fleet.members.iter().any(reached) {
        if detector == Some(&Detector::Custom) {
            return None;
        }
        return Some(("NoMember", NO_MEMBER));
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use kubervisor_core::detector::Bounds;
    use kubervisor_core::sample::{Reading, Row, Samples};
    use tokio::time::Instant;

    use crate::cluster::testing::orchard;
    use crate::sources::Answer;

    fn word(detector: &Detector, pods: usize, series: &[(Option<&str>, &str)]) -> Option<&'static str> {
        let row = |(namespace, pod): &(Option<&str>, &str)| Row {
            namespace: namespace.map(Into::into),
            pod: (*pod).into(),
            key: None,
            reading: Reading::Number(1.0),
        };
        let named = series.iter().filter(|(_, pod)| !pod.is_empty());
        let samples = Samples::new(named.map(row).collect(), false);
        let now = Instant::now();
        // As the parser does with a series that names no pod.
        let dropped = series.iter().filter(|(_, pod)| pod.is_empty()).count();
        let answer = Answer { samples, asked_at: now, answered_at: now, dropped, warnings: Vec::new() };
        let answers = Answers { values: Arc::new(answer), activity: None };
        let view = orchard(pods).view("orchard", "k1").unwrap();
        doubt_of(Some(detector), &answers, &view).map(|(word, _)| word)
    }

    const RANGE: Detector = Detector::Range(Bounds { min: None, max: Some(0.25), min_activity: None });

    #[test]
    fn series_that_name_no_member_at_all_are_told_and_those_of_others_beside_a_member_are_not() {
        assert_eq!(word(&RANGE, 2, &[(Some("meadow"), "pear-0"), (None, "plum-0")]), Some("NoMember"));
        assert_eq!(word(&RANGE, 2, &[(Some("orchard"), "pear-1"), (None, "plum-0")]), None);
        assert_eq!(word(&RANGE, 0, &[(None, "plum-0")]), None, "of an empty fleet nobody can say");
        assert_eq!(
            word(&RANGE, 2, &[(None, "")]),
            Some("NoMember"),
            "a series without a pod is not no series"
        );
    }

    #[test]
    fn a_custom_service_may_name_pods_of_others_only() {
        assert_eq!(word(&Detector::Custom, 2, &[(None, "plum-0")]), None);
        assert_eq!((word(&Detector::Custom, 2, &[]), word(&RANGE, 2, &[])), (None, Some("Empty")));
    }
}
