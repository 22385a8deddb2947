//! What is no evidence, by its name, never cuts.

use crate::detector::{Asked, judge};
use crate::fixtures::{Scene, deviation, discrete, row, steps};
use crate::fleet::{Member, Workload};
use crate::policy::{BreakerPolicy, MIN_POD_AGE};
use crate::sample::{Reading, Row, Samples};
use crate::traffic::Move;
use crate::verdict::{Unknown, Verdict};

/// The verdict on pod-00 among seven others that are fine; nobody is cut for it.
fn verdict(scene: &mut Scene, mut of_pod: Vec<Row>, others: f64, partial: bool) -> Verdict {
    let others = scene.members[1..].iter().map(|m| row(&m.name, Some("fine"), others));
    of_pod.extend(others);
    let samples = Samples::new(of_pod, partial);
    assert!(scene.answered(&[("errors", Some(&samples))]).actions.is_empty());
    let fleet = crate::fixtures::fleet_of(scene.members.clone());
    let old = |m: &Member| m.ready_for(scene.now.wall) >= MIN_POD_AGE;
    let asked = Asked { samples: &samples, activity: None };
    Verdict::of(judge(&fleet, asked, &scene.policy.breakers[0].detector, &old)[0], false)
}

fn counts(of_pod: Vec<Row>) -> Verdict {
    let mut scene = Scene::open(8);
    scene.policy.breakers[0].detector = discrete();
    verdict(&mut scene, of_pod, 500.0, false)
}

fn ratios() -> Scene {
    let mut scene = Scene::open(8);
    let rule = &scene.policy.breakers[0];
    scene.policy.breakers[0] = BreakerPolicy { detector: deviation(20.0), ..rule.clone() };
    scene
}

fn ratio(of_pod: Vec<Row>) -> Verdict {
    verdict(&mut ratios(), of_pod, 1.0, false)
}

fn unknown(why: Unknown) -> Verdict {
    Verdict::Unknown(why)
}

#[test]
fn unknown_for_no_series() {
    assert_eq!(counts(vec![]), unknown(Unknown::NoSeries));
    assert_eq!(ratio(vec![]), unknown(Unknown::NoSeries));
    let elsewhere = Row { namespace: Some("far".into()), ..row("pod-00", Some("bad"), 900.0) };
    assert_eq!(counts(vec![elsewhere]), unknown(Unknown::NoSeries));
}

#[test]
fn unknown_for_not_a_number() {
    assert_eq!(counts(vec![row("pod-00", Some("bad"), f64::NAN)]), unknown(Unknown::NotANumber));
    assert_eq!(ratio(vec![row("pod-00", None, f64::NAN)]), unknown(Unknown::NotANumber));
}

#[test]
fn unknown_for_infinite() {
    assert_eq!(counts(vec![row("pod-00", Some("bad"), f64::INFINITY)]), unknown(Unknown::Infinite));
    assert_eq!(ratio(vec![row("pod-00", None, f64::NEG_INFINITY)]), unknown(Unknown::Infinite));
}

#[test]
fn unknown_for_negative_and_not_a_huge_unsigned_count() {
    assert_eq!(counts(vec![row("pod-00", Some("bad"), -3.0)]), unknown(Unknown::Negative));
    assert_eq!(ratio(vec![row("pod-00", None, -3.0)]), unknown(Unknown::Negative));
}

#[test]
fn unknown_for_histogram() {
    let histogram = || vec![Row { reading: Reading::Histogram, ..row("pod-00", Some("bad"), 0.0) }];
    assert_eq!(counts(histogram()), unknown(Unknown::Histogram));
    assert_eq!(ratio(histogram()), unknown(Unknown::Histogram));
}

#[test]
fn unknown_for_too_little() {
    assert_eq!(counts(vec![row("pod-00", Some("bad"), 2.0)]), unknown(Unknown::TooLittle));
    assert_eq!(counts(vec![row("pod-00", Some("bad"), 0.0)]), unknown(Unknown::TooLittle));
}

#[test]
fn unknown_for_ambiguous_series() {
    let twice = |key| vec![row("pod-00", key, 9.0), row("pod-00", key, 9.0)];
    assert_eq!(counts(twice(Some("bad"))), unknown(Unknown::AmbiguousSeries));
    assert_eq!(ratio(twice(None)), unknown(Unknown::AmbiguousSeries));
}

#[test]
fn unknown_for_no_key() {
    assert_eq!(counts(vec![row("pod-00", None, 9.0)]), unknown(Unknown::NoKey));
    let beside_a_good_one = vec![row("pod-00", Some("fine"), 9.0), row("pod-00", None, 900.0)];
    assert_eq!(counts(beside_a_good_one), unknown(Unknown::NoKey));
}

#[test]
fn unknown_for_too_young() {
    let mut scene = ratios();
    scene.members[0].ready_since = crate::fixtures::at(71);
    let far_off = vec![row("pod-00", None, 9.0)];
    assert_eq!(verdict(&mut scene, far_off, 1.0, false), unknown(Unknown::TooYoung));
}

/// Eight pods of which pod-00 has just been made anew, under its old name; the query looks back 7 s.
fn reborn(workload: Workload) -> (Scene, Samples) {
    let mut scene = Scene::open(8);
    scene.policy.breakers[0].detector = discrete();
    scene.tick();
    let ready_since = scene.wait(1).now.wall;
    scene.members[0] =
        Member { uid: "uid-of-the-next".into(), workload, ready_since, ..scene.members[0].clone() };
    (scene, Samples::new(vec![row("pod-00", Some("bad"), 900.0)], false))
}

#[test]
fn a_statefulsets_next_pod_is_not_judged_by_what_a_query_still_shows_of_the_last() {
    let (mut scene, of_the_last) = reborn(Workload::StatefulSet);
    for _ in 0..7 {
        let plan = scene.answered(&[("errors", Some(&of_the_last))]);
        assert_eq!((plan.actions.len(), plan.report.breakers[0].anomalous), (0, 0));
        scene.wait(1);
    }
    let its_own = scene.answered(&[("errors", Some(&of_the_last))]);
    assert_eq!(steps(&its_own, Move::Cut), ["pod-00"]);
}

#[test]
fn a_new_pod_with_a_name_of_its_own_is_judged_at_once() {
    let (mut scene, bad) = reborn(Workload::Replaced);
    assert_eq!(steps(&scene.answered(&[("errors", Some(&bad))]), Move::Cut), ["pod-00"]);
}

#[test]
fn unknown_for_too_few_peers() {
    let mut scene = ratios();
    scene.members.truncate(3);
    scene.members[2].reached = false;
    let far_off = vec![row("pod-00", None, 9.0)];
    assert_eq!(verdict(&mut scene, far_off, 1.0, false), unknown(Unknown::TooFewPeers));
}

#[test]
fn unknown_for_no_majority() {
    let mut scene = ratios();
    scene.members.truncate(4);
    let rows = vec![row("pod-00", None, 1.9), row("pod-01", None, 1.9)];
    scene.members.swap(1, 3);
    let samples = Samples::new(
        rows.into_iter().chain([row("pod-02", None, 0.1), row("pod-03", None, 0.1)]).collect(),
        false,
    );
    let plan = scene.answered(&[("errors", Some(&samples))]);
    assert!(plan.actions.is_empty());
    assert_eq!(plan.report.breakers[0].unknown, 4);
}

#[test]
fn unknown_for_partial_answer() {
    let mut scene = ratios();
    let far_off = vec![row("pod-00", None, 9.0)];
    assert_eq!(verdict(&mut scene, far_off, 1.0, true), unknown(Unknown::PartialAnswer));
}

#[test]
fn a_sample_that_matches_no_member_cuts_nobody() {
    assert!(Scene::open(5).naming(&["stranger", ""]).actions.is_empty());
}
