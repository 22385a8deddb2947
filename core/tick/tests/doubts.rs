//! Evidence that is close to the edge, of an answer that says little, or of a process that is no more.

use super::evidence::{bad, guarded, held, usual};
use super::ladder::killed;
use crate::detector::{Bounds, Detector};
use crate::fixtures::{Scene, breaker, custom, discrete, row, steps, why};
use crate::fleet::Member;
use crate::gates::Gate;
use crate::memory::Memory;
use crate::plan::{Plan, Why};
use crate::sample::Samples;
use crate::traffic::{Move, Strikes};

/// Ten pods whose value should be 0.95 at the least; the first `low` have the other one.
fn values(scene: &mut Scene, low: usize, value: f64) -> Plan {
    let rule = Bounds { min: Some(0.95), max: None, min_activity: None };
    scene.policy.breakers[0].detector = Detector::Range(rule);
    let of = |i| if i < low { value } else { 1.0 };
    let rows = (0..10).map(|i| row(&format!("pod-{i:02}"), None, of(i)));
    scene.answered(&[("errors", Some(&Samples::new(rows.collect(), false)))])
}

#[test]
fn one_odd_scrape_of_a_pod_whose_best_value_is_near_its_bound_cuts_nobody() {
    let mut scene = usual(10);
    values(&mut scene, 1, 0.94);
    for _ in 0..5 {
        assert!(values(scene.wait(15), 0, 0.94).actions.is_empty());
    }
}

#[test]
fn a_dip_of_all_pods_near_their_bound_is_no_storm_for_ever() {
    let mut scene = usual(10);
    scene.policy.limits.max_anomalous_percent = 50;
    assert_eq!(held(&values(&mut scene, 10, 0.94)), ["Storm"]);
    for _ in 0..8 {
        values(scene.wait(15), 0, 0.94);
    }
    assert!(held(&values(scene.wait(15), 0, 0.94)).is_empty());
}

#[test]
fn an_answer_without_any_series_after_a_restart_evicts_nobody() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].detector = discrete();
    scene.restart();
    let plan = scene.answered(&[("errors", Some(&Samples::new(Vec::new(), false)))]);
    assert_eq!(why(&plan, "pod"), Some(&Why::Gate(Gate::Blind { breaker: "errors".into() })));
}

#[test]
fn what_was_found_before_an_outage_confirms_nothing_after_it() {
    let mut scene = usual(5);
    scene.naming(&["pod-03"]);
    scene.wait(15).answered(&[("errors", None)]);
    for second in [15, 2, 2, 10] {
        assert!(scene.wait(second).naming(&["pod-03"]).actions.is_empty(), "one scrape after it");
    }
    assert_eq!(steps(&scene.wait(1).naming(&["pod-03"]), Move::Cut), ["pod-03"]);
}

#[test]
fn two_answers_to_questions_within_a_scrape_confirm_nothing_however_late_they_are_judged() {
    let mut scene = usual(5);
    scene.naming(&["pod-03"]);
    scene.wait(20).late = 9;
    assert!(scene.naming(&["pod-03"]).actions.is_empty());
    scene.wait(4).late = 0;
    assert_eq!(steps(&scene.naming(&["pod-03"]), Move::Cut), ["pod-03"]);
}

#[test]
fn a_pod_that_nobody_has_judged_was_not_healthy_before_our_cuts() {
    let mut scene = guarded(10);
    let plan = bad(&mut scene, 1);
    scene.carry_out(&plan);
    scene.members.extend((0..7).map(|i| crate::fixtures::open(&format!("new-{i}"))));
    let new: Vec<_> = (0..7).map(|i| format!("new-{i}")).collect();
    let names: Vec<_> = ["pod-01", "pod-02"].into_iter().chain(new.iter().map(String::as_str)).collect();
    assert_eq!(held(&scene.wait(2).naming(&names)), ["Storm"]);
    assert!(steps(&scene.naming(&names), Move::Restore).is_empty(), "no cut of ours brought it on");
}

#[test]
fn a_storm_is_not_over_because_the_process_is_another_one() {
    let mut scene = guarded(10);
    bad(&mut scene, 9);
    scene.memory = Memory::resumed(10, Some("Storm"), scene.wait(5).now);
    assert_eq!(held(&bad(&mut scene, 3)), ["Storm", "Blind"]);
    assert_eq!(held(&bad(scene.wait(5), 0)), ["Storm"]);
    assert!(held(&bad(scene.wait(60), 1)).is_empty());
}

#[test]
fn pods_that_are_cut_are_no_storm_before_a_new_process_has_heard_of_the_others() {
    let mut scene = guarded(10);
    let plan = bad(&mut scene, 2);
    scene.carry_out(&plan);
    scene.memory = Memory::resumed(10, None, scene.wait(1).now);
    assert!(held(&scene.tick()).is_empty() && held(&bad(scene.wait(1), 2)).is_empty());
    scene.memory.forget_breaker("errors");
    assert!(held(&scene.tick()).is_empty(), "nor after an edit of the detector");
}

#[test]
fn the_quiet_after_an_overload_outlives_the_process() {
    let mut scene = guarded(10);
    scene.memory = Memory::resumed(10, Some("Overload"), scene.now);
    bad(&mut scene, 1);
    assert_eq!(held(&bad(scene.wait(599), 1)), ["Overload"]);
    assert_eq!(steps(&bad(scene.wait(1), 1), Move::Cut), ["pod-00"]);
}

#[test]
fn a_breaker_that_only_shows_keeps_no_storm_alive() {
    let mut scene = guarded(10);
    scene.policy.breakers.push(breaker("latency", custom()));
    bad(&mut scene, 9);
    scene.wait(2).answered(&[("latency", None)]);
    scene.policy.breakers[1].enforced = false;
    for _ in 0..20 {
        bad(scene.wait(5), 0);
    }
    assert!(held(&bad(scene.wait(5), 0)).is_empty());
}

#[test]
fn refused_for_gate_cluster_storm_last_so_that_nobody_keeps_it_closed_by_what_is_not_for_it_to_hold() {
    let mut scene = guarded(10);
    scene.gates = vec![Gate::ClusterStorm { limit: 30 }];
    assert!(matches!(why(&bad(&mut scene, 10), "pod-03"), Some(Why::Gate(Gate::Storm { .. }))));
    let mut scene = Scene::open(10).floor(Some(8), None);
    scene.gates = vec![Gate::ClusterStorm { limit: 30 }];
    let plan = bad(&mut scene, 3);
    let braked = |pod: &str| matches!(why(&plan, pod), Some(Why::Gate(Gate::ClusterStorm { .. })));
    assert_eq!(["pod-00", "pod-01", "pod-02"].map(braked), [true, true, false]);
    assert_eq!((plan.report.budget.serving, plan.report.floor_reached), (10, true), "nothing is spent");
}

#[test]
fn strikes_stay_as_they_are_while_a_person_holds_the_service() {
    let mut scene = Scene::open(5);
    let heal = |scene: &mut Scene| {
        let pod = scene.pod("pod-02");
        *pod = Member { strikes: Strikes([("errors".into(), 1)].into()), ..pod.clone() };
        (0..200).any(|_| !steps(&scene.wait(2).naming(&[]), Move::Forgive).is_empty())
    };
    scene.gates = vec![Gate::Held { reason: "audit".into(), until: None }];
    assert!(!heal(&mut scene));
    scene.gates.clear();
    assert!(heal(&mut scene));
}

#[test]
fn time_between_two_anomalous_verdicts_is_no_time_of_health() {
    let mut scene = usual(5);
    let max = scene.policy.breakers[0].activator.max_period.as_secs();
    *scene.pod("pod-02") =
        Member { strikes: Strikes([("errors".into(), 1)].into()), ..scene.pod("pod-02").clone() };
    scene.policy.breakers[0].confirm = crate::policy::Confirm { anomalous: 5, of: 5 };
    for round in 0..max {
        let named: &[&str] = if round % 2 == 0 { &["pod-02"] } else { &[] };
        assert!(steps(&scene.wait(2).naming(named), Move::Forgive).is_empty(), "{round}");
    }
}

#[test]
fn evictions_that_an_earlier_process_stored_count_whatever_the_clock_says_by_now() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator.max_kills_per_hour = 1;
    scene.kills = vec![killed("gone", -9_000)];
    scene.restart();
    assert_eq!(why(&scene.naming(&[]), "pod"), Some(&Why::KillCap(1)));
}
