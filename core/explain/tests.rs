//! What a person is told of a pod, story by story.

use super::*;
use crate::fixtures::{Scene, at, breaker, cut_by, discrete, fleet_of, policy_of, row};
use crate::gates::Gate;
use crate::policy::{ActivatorMode, ActivatorPolicy, Confirm, Hold};
use crate::sample::Samples;
use crate::verdict::Unknown;

/// A scene, and what its ticks refused.
struct Story {
    scene: Scene,
    refused: Refused,
}

impl Story {
    /// Ten pods under one breaker that counts bad events.
    fn counting() -> Self {
        let scene = Scene::open(10);
        Self::of(Scene { policy: policy_of(vec![breaker("errors", discrete())]), ..scene })
    }

    fn of(scene: Scene) -> Self {
        Self { scene, refused: Refused::default() }
    }

    /// Of a hundred events of each pod, the `bad` ones have 62 that are bad.
    fn answer(&mut self, bad: &[&str]) -> Plan {
        let rows = self.scene.members.iter().flat_map(|m| {
            let ill = if bad.contains(&&*m.name) { 62.0 } else { 3.0 };
            [row(&m.name, Some("fine"), 100.0 - ill), row(&m.name, Some("lost"), ill)]
        });
        let samples = Samples::new(rows.collect(), false);
        self.take(Some(&samples))
    }

    fn take(&mut self, samples: Option<&Samples>) -> Plan {
        let plan = self.scene.answered(&[("errors", samples)]);
        let asked = self.scene.now.mono;
        self.refused.note(&plan, &[Answer { breaker: "errors", asked, samples, activity: None }]);
        plan
    }

    fn look<T>(&self, see: impl FnOnce(&Looked<'_>) -> T) -> T {
        let Scene { members, policy, gates, kills, memory, now, .. } = &self.scene;
        let fleet = fleet_of(members.clone());
        let input = Input { fleet: &fleet, answers: &[], policy, gates, kills, now: *now, seed: 17 };
        see(&Looked::at(&input, memory, &self.refused))
    }

    fn of_pod(&self, pod: &str) -> Explanation {
        self.look(|looked| {
            let member = looked.members().iter().find(|m| &*m.name == pod).unwrap();
            looked.pod(member, Some("bad 62 % > 40 % of 100"))
        })
    }
}

#[test]
fn a_healthy_pod_has_its_value_beside_the_threshold_and_the_distance_to_a_cut() {
    let mut story = Story::counting();
    story.answer(&[]);
    let it = story.of_pod("pod-04");
    assert_eq!(it.answer, "pod-04 serves: no breaker finds anything wrong with it");
    assert_eq!(
        it.change,
        "For it to be cut, breaker errors would have to find it beyond its rule (bad > 40 % of 3 or more) once"
    );
    assert_eq!(it.findings[0].measure.unwrap().unwrap().value(), "bad 3 % of 100");
    assert_eq!((it.findings[0].says, it.findings[0].asked, it.held), (Says::Healthy, Some(at(100)), None));
}

#[test]
fn a_cut_pod_says_by_whom_since_when_on_what_and_until_when() {
    let mut story = Story::counting();
    story.scene.members[4] = cut_by("pod-04", "errors", 2, 90, 130).0;
    story.answer(&["pod-04"]);
    let it = story.of_pod("pod-04");
    assert_eq!(
        it.answer,
        "pod-04 is cut since 2023-11-14T22:14:50Z by breaker errors (strike 2): bad 62 % > 40 % of 100; it comes \
         back 2023-11-14T22:15:30Z"
    );
    assert_eq!(it.due, Some((at(130), Step::Restore)));
    assert!(it.change.contains("kubectl kubervisor restore pod-04"), "{}", it.change);
}

#[test]
fn a_pod_whose_retries_are_used_up_says_what_becomes_of_it_and_what_it_waits_for() {
    let mut story = Story::counting();
    let activator = ActivatorPolicy::new(ActivatorMode::RetryAndKill, Duration::from_secs(11), 1);
    story.scene.policy.breakers[0].activator = activator;
    story.scene.members[4] = cut_by("pod-04", "errors", 2, 50, 90).0;
    story.scene.gates = vec![Gate::Held { reason: "launch day".into(), until: None }];
    story.answer(&[]);
    let it = story.of_pod("pod-04");
    assert_eq!(it.due.unwrap().1, Step::Evict);
    assert!(it.answer.ends_with("its time is over; its evict waits: held: launch day"), "{}", it.answer);
}

#[test]
fn a_bad_pod_that_a_hold_keeps_in_traffic_names_the_hold_and_how_it_ends() {
    let mut story = Story::counting();
    story.scene.policy.holds = vec![Hold { reason: "launch day".into(), until: Some(at(400)) }];
    story.answer(&["pod-04"]);
    let it = story.of_pod("pod-04");
    assert_eq!(
        it.answer,
        "pod-04 serves, although breaker errors finds it anomalous (bad 62 % of 100): held until 2023-11-14T22:20:00Z: \
         launch day"
    );
    assert_eq!(
        it.change,
        "For it to be cut, the hold must end, as it does 2023-11-14T22:20:00Z (kubectl kubervisor resume)"
    );
    story.scene.wait(400);
    assert!(story.of_pod("pod-04").change.starts_with("Nothing holds it any more"));
}

#[test]
fn a_bad_pod_that_the_floor_keeps_in_traffic_has_the_sum() {
    let mut story = Story::counting();
    story.scene = story.scene.floor(None, Some(95));
    story.answer(&["pod-04"]);
    let it = story.of_pod("pod-04");
    assert!(it.answer.contains("floor reached: of 10: 10 serve (floor 10)"), "{}", it.answer);
    assert!(it.change.contains("more pods must serve than the floor of 10 (now 10)"), "{}", it.change);
    let (sum, gates) = story.look(|looked| (looked.sum(), looked.gates().to_vec()));
    assert_eq!(gates, []);
    assert_eq!(sum.floor, "ceil(95 % of 10) = 10, of breaker errors");
    assert_eq!(sum.headroom, (0, Limit::Floor));
    assert!(matches!(story.of_pod("pod-01").held, Some(Why::Limit(Limit::Floor, _))), "of a healthy one too");
}

#[test]
fn a_pod_that_was_found_bad_once_of_two_times_says_how_often_it_was() {
    let mut story = Story::counting();
    story.scene.policy.breakers[0].confirm = Confirm::USUAL;
    story.answer(&["pod-04"]);
    let it = story.of_pod("pod-04");
    assert_eq!(it.findings[0].found, 1);
    assert!(it.answer.contains("found anomalous 1 times; 2 of the last 3 verdicts"), "{}", it.answer);
    assert!(
        it.change.contains("anomalous 2 times in 3 verdicts, a scrape apart (so far 1)"),
        "{}",
        it.change
    );
}

#[test]
fn a_pod_of_which_nobody_knows_anything_says_why_and_that_it_is_not_cut_for_it() {
    let mut story = Story::counting();
    story.take(Some(&Samples::new(vec![row("pod-01", Some("fine"), 50.0)], false)));
    let it = story.of_pod("pod-04");
    assert_eq!(it.findings[0].measure, Some(Err(Unknown::NoSeries)));
    assert_eq!(
        it.answer,
        "pod-04 serves, and unknown never cuts: breaker errors cannot judge it: the answer has no series for it"
    );
    story.take(None);
    let it = story.of_pod("pod-01");
    assert_eq!((it.findings[0].says, it.findings[0].measure), (Says::Unknown, None));
    assert!(it.change.contains("the source of breaker errors must answer twice"), "{}", it.change);
}

#[test]
fn a_pod_that_is_back_settles_first_and_is_then_on_probation() {
    let mut story = Story::counting();
    story.answer(&[]);
    story.scene.wait(1).pod("pod-04").restored_at = Some(at(101));
    story.answer(&["pod-04"]);
    let it = story.of_pod("pod-04");
    assert_eq!(it.findings[0].measure, Some(Err(Unknown::Settling)));
    assert_eq!((it.findings[0].settles_until, it.findings[0].probation), (Some(at(110)), false));
    story.scene.wait(10);
    assert!(story.of_pod("pod-04").findings[0].probation);
}

#[test]
fn looking_changes_nothing_that_is_decided() {
    let mut story = Story::counting();
    story.scene.policy.breakers[0].confirm = Confirm::USUAL;
    story.answer(&["pod-04"]);
    story.scene.wait(2);
    for _ in 0..5 {
        let all =
            story.look(|looked| looked.members().iter().map(|m| looked.pod(m, None)).collect::<Vec<_>>());
        assert_eq!((all.len(), all[4].findings[0].found), (10, 1));
    }
    let plan = story.answer(&["pod-04"]);
    assert_eq!(crate::fixtures::steps(&plan, Move::Cut), ["pod-04"]);
    assert_eq!(story.refused.of("pod-04").count(), 0, "what is done is refused no more");
}

#[test]
fn what_is_kept_of_a_pod_for_people_stays_small() {
    // For each breaker; of 20,000 pods under one breaker less than one and a half megabytes.
    assert!(size_of::<(Arc<str>, Measure)>() <= 72, "{}", size_of::<(Arc<str>, Measure)>());
}

#[test]
fn the_budget_is_written_out_with_how_each_limit_came_about() {
    let mut story = Story::counting();
    story.scene = story.scene.floor(Some(3), Some(20));
    story.scene.policy.limits = crate::policy::Limits::default();
    story.scene.members[4] = cut_by("pod-04", "errors", 1, 90, 130).0;
    story.answer(&[]);
    let (sum, gates) = story.look(|looked| (looked.sum(), looked.gates().to_vec()));
    assert_eq!(gates, []);
    assert_eq!(sum.floor, "minPodsAvailableCount = 3, of breaker errors");
    assert_eq!(sum.max_out, "floor(34 % of 10) = 3");
    assert_eq!(sum.max_recent_cuts, "max(1, floor(10 % of 10)) = 1");
    assert_eq!((sum.budget.serving, sum.budget.out, sum.present, sum.in_flight), (9, 1, 10, 0));
}
