//! What is enough to act on: confirmation, storms, coverage, pods that are just back.

use std::time::Duration;

use crate::fixtures::{Scene, back, cut_by, discrete, naming, open, row, steps, why};
use crate::fleet::Member;
use crate::gates::Gate;
use crate::plan::{Plan, Remark, RestoreReason, Why};
use crate::policy::Confirm;
use crate::sample::Samples;
use crate::suspects::{Shared, Suspect};
use crate::traffic::{Move, Traffic};

/// Asked every 2 s, scraped every 15 s, two of three verdicts.
pub(super) fn usual(size: usize) -> Scene {
    let mut scene = Scene::open(size);
    scene.policy.breakers[0].confirm = Confirm::USUAL;
    scene.policy.breakers[0].scrape_interval = Duration::from_secs(15);
    scene
}

/// With the usual limits on storms and coverage.
pub(super) fn guarded(size: usize) -> Scene {
    let mut scene = Scene::open(size);
    (scene.policy.limits.max_anomalous_percent, scene.policy.limits.min_coverage_percent) = (50, 60);
    scene
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("pod-{i:02}")).collect()
}

/// The first `bad` pods are named.
pub(super) fn bad(scene: &mut Scene, bad: usize) -> Plan {
    let names = names(bad);
    scene.answered(&[("errors", Some(&naming(names.iter().map(String::as_str))))])
}

pub(super) fn held(plan: &Plan) -> Vec<&'static str> {
    plan.report.gates.iter().map(Gate::as_str).collect()
}

#[test]
fn refused_for_unconfirmed_until_a_second_scrape_says_the_same() {
    let mut scene = usual(5);
    let first = Why::Unconfirmed { found: 1, confirm: Confirm::USUAL };
    for _ in 0..7 {
        assert_eq!(why(&scene.naming(&["pod-03"]), "pod-03"), Some(&first));
        scene.wait(2);
    }
    assert!(steps(&scene.naming(&["pod-03"]), Move::Cut).is_empty());
    assert_eq!(steps(&scene.wait(1).naming(&["pod-03"]), Move::Cut), ["pod-03"]);
}

#[test]
fn unknown_neither_counts_nor_resets_a_confirmation() {
    let mut scene = usual(5);
    scene.policy.breakers[0].detector = discrete();
    let answer = |of_pod: Option<&str>| {
        let others = (0..4).map(|i| row(&format!("pod-{i:02}"), Some("fine"), 90.0));
        Samples::new(others.chain(of_pod.map(|key| row("pod-04", Some(key), 90.0))).collect(), false)
    };
    scene.answered(&[("errors", Some(&answer(Some("foul"))))]);
    assert!(scene.wait(15).answered(&[("errors", Some(&answer(None)))]).refusals.is_empty());
    let plan = scene.wait(15).answered(&[("errors", Some(&answer(Some("foul"))))]);
    assert_eq!(steps(&plan, Move::Cut), ["pod-04"]);
}

#[test]
fn refused_for_gate_storm_everybody_bad_at_once_and_nobody_is_cut() {
    let mut scene = guarded(10);
    let plan = bad(&mut scene, 10);
    assert_eq!(plan.report.gates, [Gate::Storm { anomalous: 10, of: 10, limit: 50 }]);
    assert!(matches!(why(&plan, "pod-03"), Some(Why::Gate(Gate::Storm { .. }))));
    assert!(plan.actions.is_empty());
}

#[test]
fn unconfirmed_pods_make_a_storm_too_so_that_scrapes_spread_in_time_cut_nobody() {
    let mut scene = guarded(10);
    scene.policy.breakers[0].confirm = Confirm::USUAL;
    assert!(bad(&mut scene, 3).actions.is_empty());
    assert_eq!(held(&bad(scene.wait(5), 8)), ["Storm"]);
    assert!(bad(scene.wait(5), 10).actions.is_empty());
}

#[test]
fn a_storm_is_left_after_a_minute_of_calm_with_confirmation_afresh() {
    let mut scene = guarded(10);
    scene.policy.breakers[0].confirm = Confirm::USUAL;
    bad(&mut scene, 9);
    for _ in 0..12 {
        assert_eq!(held(&bad(scene.wait(5), 3)), ["Storm"]);
    }
    let plan = bad(scene.wait(5), 3);
    assert!(held(&plan).is_empty() && steps(&plan, Move::Cut).len() == 3, "{plan:?}");
}

#[test]
fn pods_that_are_cut_count_in_the_storm_so_that_it_is_no_gate_to_walk_around_pod_by_pod() {
    let mut scene = guarded(10);
    let plan = bad(&mut scene, 4);
    scene.carry_out(&plan);
    assert_eq!(steps(&plan, Move::Cut).len(), 4);
    assert_eq!(held(&bad(scene.wait(2), 6)), ["Storm"]);
}

#[test]
fn two_dead_of_six_one_of_four_and_one_of_three_are_no_storm() {
    for (size, ill) in [(6, 2), (4, 1), (3, 1)] {
        assert_eq!(steps(&bad(&mut guarded(size), ill), Move::Cut).len(), ill);
    }
}

#[test]
fn refused_for_gate_low_coverage_on_the_first_scrapes_after_a_restart_of_the_source() {
    let mut scene = guarded(10);
    scene.policy.breakers[0].detector = discrete();
    let answer = |seen: usize| {
        let key = |i| if i == 0 { "foul" } else { "fine" };
        let rows = (0..seen).map(|i| row(&format!("pod-{i:02}"), Some(key(i)), 90.0));
        Samples::new(rows.collect(), false)
    };
    let plan = scene.answered(&[("errors", Some(&answer(5)))]);
    let low = Gate::LowCoverage { breaker: "errors".into(), seen: 5, serving: 10 };
    assert_eq!(why(&plan, "pod-00"), Some(&Why::Gate(low)));
    let plan = scene.wait(2).answered(&[("errors", Some(&answer(6)))]);
    assert_eq!(steps(&plan, Move::Cut), ["pod-00"]);
}

#[test]
fn a_source_that_never_knew_a_pod_holds_nothing() {
    let mut scene = guarded(10);
    assert_eq!(held(&scene.answered(&[("errors", Some(&Samples::new(Vec::new(), false)))])), [""; 0]);
}

#[test]
fn a_source_that_was_down_is_believed_with_its_second_answer() {
    let mut scene = Scene::open(5);
    scene.answered(&[("errors", None)]);
    assert_eq!(held(&scene.wait(2).naming(&["pod-03"])), ["Blind"]);
    assert_eq!(steps(&scene.wait(2).naming(&["pod-03"]), Move::Cut), ["pod-03"]);
}

#[test]
fn unknown_for_settling_a_pod_that_is_back_is_not_judged_on_what_it_did_before() {
    let mut scene = Scene::open(5);
    let plan = scene.naming(&["pod-03"]);
    scene.carry_out(&plan);
    let plan = scene.wait(60).naming(&[]);
    assert_eq!(back(&plan, "pod-03"), Some(RestoreReason::Due));
    scene.carry_out(&plan);
    let settling = scene.wait(1).naming(&["pod-03"]);
    assert!(settling.actions.is_empty() && settling.report.breakers[0].unknown == 1);
    assert_eq!(steps(&scene.wait(2).naming(&["pod-03"]), Move::Cut), ["pod-03"]);
}

#[test]
fn on_probation_one_anomalous_verdict_is_enough_and_trust_asks_for_two_again() {
    for (healthy, cut_at_once) in [(2, true), (3, false)] {
        let mut scene = usual(5);
        scene.policy.breakers[0].scrape_interval = Duration::from_secs(5);
        scene.members[3] = cut_by("pod-03", "errors", 1, 20, 90).0;
        let plan = scene.naming(&[]);
        scene.carry_out(&plan);
        scene.tick();
        scene.wait(20);
        for _ in 0..healthy {
            scene.naming(&[]);
            scene.wait(5);
        }
        assert_eq!(steps(&scene.naming(&["pod-03"]), Move::Cut).len(), usize::from(cut_at_once));
    }
}

#[test]
fn strikes_are_forgiven_one_by_one_for_time_in_which_health_was_seen() {
    let mut scene = Scene::open(5);
    scene.policy.breakers[0].activator.max_period = Duration::from_secs(30);
    scene.pod("pod-03").strikes = crate::traffic::Strikes([("errors".into(), 2)].into());
    let mut left = Vec::new();
    for second in 0..40 {
        let plan = if (10..16).contains(&second) { scene.tick() } else { scene.naming(&[]) };
        if !steps(&plan, Move::Forgive).is_empty() {
            left.push(scene.now.mono.as_secs() - 100);
        }
        scene.carry_out(&plan);
        scene.wait(2);
    }
    assert_eq!(left, [44, 76], "12 s without an answer are no observation");
    assert_eq!(scene.pod("pod-03").strikes.total(), 0);
}

/// Three pods of ten are cut, six of the others fail under their load, and the plan of that tick.
fn overloaded() -> (Scene, Plan) {
    let mut scene = guarded(10);
    scene.policy.breakers[0].range = Duration::from_secs(60);
    let plan = scene.naming(&["pod-00", "pod-01", "pod-02"]);
    scene.carry_out(&plan);
    let ill: Vec<_> = (3..9).map(|i| format!("pod-{i:02}")).collect();
    let ill: Vec<_> = ill.iter().map(String::as_str).collect();
    let plan = scene.wait(10).naming(&ill);
    scene.carry_out(&plan);
    (scene, plan)
}

#[test]
fn restored_for_overload_the_latest_cut_first_and_without_a_strike() {
    let (mut scene, plan) = overloaded();
    assert_eq!((held(&plan), back(&plan, "pod-00")), (vec!["Storm"], Some(RestoreReason::Overload)));
    assert_eq!(scene.pod("pod-00").strikes.total(), 0);
}

#[test]
fn refused_for_gate_overload_for_ten_minutes_after_a_storm_of_our_own_making() {
    let (mut scene, _) = overloaded();
    for _ in 0..70 {
        let plan = scene.wait(2).naming(&[]);
        scene.carry_out(&plan);
    }
    assert_eq!(held(&scene.wait(2).naming(&[])), ["Overload"]);
    assert!(matches!(why(&scene.naming(&["pod-05"]), "pod-05"), Some(Why::Gate(Gate::Overload { .. }))));
    for _ in 0..10 {
        scene.wait(60).naming(&[]);
    }
    assert_eq!(steps(&scene.wait(2).naming(&["pod-05"]), Move::Cut), ["pod-05"]);
}

#[test]
fn bad_pods_of_one_revision_are_pointed_at() {
    let mut scene = Scene::open(6);
    for (i, member) in scene.members.iter_mut().enumerate() {
        member.revision = Some(if i < 2 { "new" } else { "old" }.into());
    }
    let plan = scene.naming(&["pod-00", "pod-01"]);
    let suspect = Suspect { kind: Shared::Revision, value: "new".into(), pods: 2 };
    assert_eq!(plan.report.remarks, [Remark::Suspect(suspect)]);
}

#[test]
fn a_cut_pod_that_still_counts_events_is_told_and_one_that_vanished_from_the_metrics_too() {
    let mut scene = Scene::open(5);
    scene.policy.breakers[0].detector = discrete();
    scene.members[3] = cut_by("pod-03", "errors", 1, 20, 900).0;
    let others = || (0..3).map(|i| row(&format!("pod-{i:02}"), Some("fine"), 90.0));
    let leaking = Samples::new(others().chain([row("pod-03", Some("foul"), 41.0)]).collect(), false);
    let plan = scene.answered(&[("errors", Some(&leaking))]);
    assert!(matches!(plan.report.remarks[..], [Remark::CutIneffective { events, .. }] if events > 40.0));
    let plan = scene.answered(&[("errors", Some(&Samples::new(others().collect(), false)))]);
    assert!(matches!(plan.report.remarks[..], [Remark::MetricsFollowTraffic { .. }]));
}

#[test]
fn refused_for_rollout_a_bad_new_revision_loses_as_many_as_may_be_cut_at_once() {
    let mut scene = Scene::open(20);
    scene.policy.limits.cuts_per_period = crate::policy::CutsPerPeriod::Count(2);
    for (i, member) in scene.members.iter_mut().enumerate() {
        let new = i < 6;
        member.revision = Some(if new { "new" } else { "old" }.into());
        member.ready_since = crate::fixtures::at(if new { 50 } else { -3_600 });
    }
    let names = names(6);
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let plan = scene.naming(&names);
    scene.carry_out(&plan);
    assert_eq!(steps(&plan, Move::Cut).len(), 2);
    let plan = scene.wait(5).naming(&names);
    assert!(plan.actions.is_empty() && plan.refusals.iter().all(|r| r.why == Why::Rollout(2)), "{plan:?}");
}

#[test]
fn hands_and_evidence_do_not_mix_a_paused_pod_is_in_no_storm() {
    let mut scene = guarded(4);
    scene.members.push(Member { traffic: Traffic::Paused, reached: false, ..open("pod-90") });
    scene.members.push(Member { traffic: Traffic::CutByHand, reached: false, ..open("pod-91") });
    assert_eq!(steps(&bad(&mut scene, 2), Move::Cut).len(), 2);
}

/// One of the two knows each scrape 15 s later than the other, and they answer in turn.
#[test]
fn two_replicas_of_prometheus_a_scrape_apart_make_one_cut_and_no_flapping() {
    for phase in 0..15 {
        let mut scene = usual(5);
        let activator = &mut scene.policy.breakers[0].activator;
        (activator.period, activator.max_period) = (Duration::from_secs(600), Duration::from_secs(600));
        scene.wait(phase);
        let mut acts = Vec::new();
        for round in 0..60 {
            let second = scene.now.mono.as_secs() - 100;
            let bad = second.saturating_sub(round % 2 * 15) >= 60;
            let plan = scene.naming(if bad { &["pod-03"] } else { &[] });
            acts.extend(plan.actions.iter().map(|action| (action.what.step(), second)));
            scene.carry_out(&plan);
            scene.wait(5);
        }
        assert!(matches!(acts[..], [(Move::Cut, 61..=110)]), "{phase}: {acts:?}");
    }
}

#[test]
fn traffic_that_stops_midway_cuts_nobody_and_forgives_nothing() {
    let mut scene = usual(5);
    scene.policy.breakers[0].detector = discrete();
    scene.members[1] = cut_by("pod-01", "errors", 2, 20, 160).0;
    let counted = |bad: f64, fine: f64| {
        let of = |i| {
            row(
                &format!("pod-{i:02}"),
                Some(if i == 3 { "bad" } else { "fine" }),
                if i == 3 { bad } else { fine },
            )
        };
        Samples::new((0..5).map(of).collect(), false)
    };
    let begun = scene.answered(&[("errors", Some(&counted(900.0, 900.0)))]);
    assert!(matches!(why(&begun, "pod-03"), Some(Why::Unconfirmed { found: 1, .. })));
    for _ in 0..200 {
        let plan = scene.wait(5).answered(&[("errors", Some(&counted(0.0, 0.0)))]);
        assert!(steps(&plan, Move::Cut).is_empty());
        scene.carry_out(&plan);
    }
    let back = scene.pod("pod-01");
    assert_eq!((&back.traffic, back.strikes.total()), (&Traffic::Open, 2));
}
