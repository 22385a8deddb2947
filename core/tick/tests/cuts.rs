//! Who is cut, who is not, and the reason given.

use std::sync::Arc;

use crate::budget::Limit;
use crate::fixtures::{Scene, breaker, custom, cut_by, deviation, naming, open, policy_of, steps, why};
use crate::fleet::Member;
use crate::gates::Gate;
use crate::plan::{What, Why};
use crate::policy::{BreakerPolicy, CutsPerPeriod, FloorPolicy, Mode};
use crate::traffic::{Cut, Move, Traffic};

fn limit(scene: &mut Scene) -> Option<Limit> {
    match scene.all_bad().refusals.pop()?.why {
        Why::Limit(limit, _) => Some(limit),
        _ => None,
    }
}

/// Everything is found bad, again and again; for less than a cut lasts; gives the number serving at the end.
fn serving_after_storm(mut scene: Scene) -> u32 {
    for _ in 0..6 {
        let plan = scene.all_bad();
        scene.carry_out(&plan);
        scene.wait(1);
    }
    scene.tick().report.budget.serving
}

#[test]
fn ten_bad_pods_end_at_the_floor_of_five_and_not_at_five_two_one() {
    assert_eq!(serving_after_storm(Scene::open(10).floor(None, Some(50))), 5);
}

#[test]
fn three_pods_at_a_floor_of_67_percent_lose_none() {
    assert_eq!(serving_after_storm(Scene::open(3).floor(None, Some(67))), 3);
}

#[test]
fn three_pods_with_a_cap_of_67_percent_never_lose_the_last() {
    let mut scene = Scene::open(3);
    scene.policy.limits.max_cut_percent = 67;
    assert_eq!(serving_after_storm(scene), 1);
}

#[test]
fn a_single_pod_is_never_cut() {
    assert_eq!(serving_after_storm(Scene::open(1).floor(Some(0), None)), 1);
}

#[test]
fn two_breakers_spend_one_budget() {
    let mut scene = Scene::open(10).floor(Some(8), None);
    scene.policy.breakers.push(breaker("latency", custom()));
    let (low, high) = (naming(["pod-00", "pod-01", "pod-02"]), naming(["pod-07", "pod-08", "pod-09"]));
    let plan = scene.answered(&[("errors", Some(&low)), ("latency", Some(&high))]);
    assert_eq!(steps(&plan, Move::Cut).len(), 2);
    scene.carry_out(&plan);
    let plan = scene.answered(&[("latency", Some(&high))]);
    assert!(steps(&plan, Move::Cut).is_empty());
}

#[test]
fn the_strictest_floor_binds_the_other_breakers_too() {
    let mut scene = Scene::open(10).floor(Some(1), None);
    let floor = FloorPolicy { count: None, percent: Some(90) };
    scene.policy.breakers.push(BreakerPolicy { floor, ..breaker("latency", custom()) });
    assert_eq!(serving_after_storm(scene), 9);
}

#[test]
fn a_floor_above_what_serves_is_no_huge_budget() {
    let mut scene = Scene::open(4).floor(Some(9), None);
    assert!(scene.all_bad().actions.is_empty());
    assert_eq!(scene.tick().report.budget.headroom().0, 0);
}

#[test]
fn shares_beyond_any_sense_cut_nobody_and_break_nothing() {
    let mut scene = Scene::open(10).floor(None, Some(u32::MAX));
    assert!(scene.all_bad().actions.is_empty());
}

#[test]
fn a_cut_in_flight_is_out_does_not_serve_and_counts_for_the_period() {
    let mut scene = Scene::open(6);
    scene.pod("pod-02").in_flight = Some(Move::Cut);
    let report = scene.tick().report;
    let budget = report.budget;
    assert_eq!((budget.serving, budget.out, budget.recent_cuts, report.cut), (5, 1, 1, 1));
}

#[test]
fn a_tick_reports_its_own_cuts_as_no_longer_serving_and_as_cut() {
    let mut scene = Scene::open(6);
    let plan = scene.naming(&["pod-02"]);
    assert_eq!(steps(&plan, Move::Cut), ["pod-02"]);
    assert_eq!((plan.report.members, plan.report.budget.serving, plan.report.cut), (6, 5, 1));
}

#[test]
fn a_view_that_lags_does_not_spend_the_budget_twice() {
    let mut scene = Scene::open(10).floor(Some(8), None);
    let plan = scene.naming(&["pod-03", "pod-04"]);
    for pod in steps(&plan, Move::Cut) {
        scene.pod(pod).in_flight = Some(Move::Cut);
    }
    assert!(steps(&scene.wait(1).all_bad(), Move::Cut).is_empty());
}

#[test]
fn an_assumed_restore_does_not_serve_before_the_watch_shows_it() {
    let mut scene = Scene::open(4);
    let (cut, _) = cut_by("pod-99", "errors", 1, 50, 90);
    scene.members.push(Member { in_flight: Some(Move::Restore), ..cut });
    let budget = scene.tick().report.budget;
    assert_eq!((budget.serving, budget.out), (4, 1));
}

#[test]
fn pods_that_leave_or_are_not_ready_do_not_serve_and_count_for_the_floor() {
    let mut scene = Scene::open(4).floor(None, Some(50));
    scene.pod("pod-00").terminating = true;
    scene.pod("pod-01").ready = false;
    let plan = scene.all_bad();
    assert_eq!((plan.report.budget.serving, plan.report.budget.floor), (2, 2));
    assert!(plan.actions.is_empty());
}

#[test]
fn one_odd_label_value_stops_only_that_pod() {
    let mut scene = Scene::open(4);
    let odd = scene.pod("pod-01");
    (odd.traffic, odd.reached) = (Traffic::Odd, false);
    let plan = scene.naming(&["pod-01", "pod-02"]);
    assert_eq!(steps(&plan, Move::Cut), ["pod-02"]);
    assert_eq!(plan.report.unknown, 1);
}

#[test]
fn where_the_service_lacks_the_key_no_label_is_overwritten() {
    let mut scene = Scene::open(6);
    for (pod, traffic) in
        [("pod-01", Traffic::Odd), ("pod-02", Traffic::CutByHand), ("pod-03", Traffic::Paused)]
    {
        scene.pod(pod).traffic = traffic;
    }
    assert_eq!(steps(&scene.naming(&["pod-01", "pod-02", "pod-03", "pod-04"]), Move::Cut), ["pod-04"]);
}

#[test]
fn the_order_of_answers_and_breakers_changes_no_choice() {
    let mut forward = Scene::open(9).floor(Some(6), None);
    let mut backward = Scene::open(9).floor(Some(6), None);
    let names: Vec<_> = forward.members.iter().map(|m| Arc::clone(&m.name)).collect();
    let (rising, falling) = (naming(names.iter().map(|n| &**n)), naming(names.iter().rev().map(|n| &**n)));
    let plan = forward.answered(&[("errors", Some(&rising))]);
    assert_eq!(plan, backward.answered(&[("errors", Some(&falling))]));
    assert_eq!(steps(&plan, Move::Cut), ["pod-00", "pod-01", "pod-02"]);
}

#[test]
fn more_strikes_go_first_then_the_younger() {
    let mut scene = Scene::open(5).floor(Some(3), None);
    scene.pod("pod-03").ready_since = crate::fixtures::at(-1_800);
    scene.pod("pod-04").strikes = cut_by("x", "errors", 2, 0, 0).0.strikes;
    assert_eq!(steps(&scene.all_bad(), Move::Cut), ["pod-04", "pod-03"]);
}

#[test]
fn a_cut_stores_its_time_its_end_and_its_strike() {
    let mut scene = Scene::open(5);
    let plan = scene.naming(&["pod-03"]);
    let What::Cut(order) = &plan.actions[0].what else { panic!("no cut") };
    assert_eq!(order.at, scene.now.wall);
    assert!(order.restore_at >= crate::add(order.at, scene.policy.breakers[0].shortest_cut()));
    assert_eq!((order.strikes.of("errors"), order.budget.out), (1, 1));
}

#[test]
fn cuts_stored_on_pods_count_for_the_period_after_a_restart() {
    let mut scene = Scene::open(9);
    scene.policy.limits.cuts_per_period = CutsPerPeriod::Count(2);
    scene.members.push(cut_by("pod-90", "errors", 1, 99, 140).0);
    let (undone, cut) = cut_by("pod-91", "errors", 1, 99, 140);
    scene.members.push(Member { traffic: Traffic::OpenedByHand(cut), reached: true, ..undone });
    assert_eq!(why(&scene.naming(&["pod-05"]), "pod-05").map(Why::as_str), Some("maxCutsPerPeriod"));
    assert_eq!(steps(&scene.wait(2).naming(&["pod-05"]), Move::Cut), ["pod-05"]);
}

#[test]
fn a_cut_pod_that_is_deleted_has_still_spent_the_period() {
    let mut scene = Scene::open(9);
    scene.policy.limits.cuts_per_period = CutsPerPeriod::Count(1);
    let _unanswered = scene.naming(&["pod-05"]);
    scene.members.retain(|m| &*m.name != "pod-05");
    assert!(scene.wait(1).all_bad().actions.is_empty());
    assert_eq!(scene.wait(1).all_bad().actions.len(), 1);
}

#[test]
fn a_refused_cut_has_spent_nothing() {
    let mut scene = Scene::open(9);
    scene.policy.limits.cuts_per_period = CutsPerPeriod::Count(1);
    let plan = scene.naming(&["pod-05"]);
    scene.refuse(&plan);
    assert_eq!(steps(&scene.naming(&["pod-06"]), Move::Cut), ["pod-06"]);
}

#[test]
fn capacity_that_went_away_holds_the_floor_up_and_allows_no_cut() {
    let mut scene = Scene::open(20).floor(None, Some(30));
    scene.policy.limits.max_cut_percent = 40;
    scene.tick();
    scene.members.truncate(9);
    let budget = scene.wait(1).all_bad().report.budget;
    assert_eq!((budget.floor, budget.max_out, budget.out), (6, 3, 3));
}

#[test]
fn refused_for_limit_floor() {
    assert_eq!(limit(&mut Scene::open(8).floor(Some(8), None)), Some(Limit::Floor));
    assert!(Scene::open(8).floor(Some(8), None).all_bad().report.floor_reached);
}

#[test]
fn refused_for_limit_max_cut_ratio() {
    let mut scene = Scene::open(8);
    scene.policy.limits.max_cut_percent = 12;
    assert_eq!(limit(&mut scene), Some(Limit::MaxCutRatio));
}

#[test]
fn refused_for_limit_max_cuts_per_period() {
    let mut scene = Scene::open(8);
    scene.policy.limits.cuts_per_period = CutsPerPeriod::Percent(12);
    assert_eq!(limit(&mut scene), Some(Limit::MaxCutsPerPeriod));
    scene.policy.limits.cuts_per_period = CutsPerPeriod::Count(0);
    assert_eq!(scene.all_bad().report.budget.recent_cuts, 1, "the one cut of the tick before");
}

#[test]
fn refused_for_fleet_too_small() {
    assert_eq!(why(&Scene::open(2).all_bad(), "pod-01"), Some(&Why::FleetTooSmall(2)));
    assert_eq!(Scene::open(2).floor(Some(1), None).all_bad().actions.len(), 1);
}

#[test]
fn refused_for_fleet_too_small_also_right_after_it_shrank() {
    let mut scene = Scene::open(7);
    scene.tick();
    scene.members.truncate(2);
    assert_eq!(why(&scene.all_bad(), "pod-01"), Some(&Why::FleetTooSmall(2)));
}

#[test]
fn refused_for_in_flight() {
    let mut scene = Scene::open(4);
    scene.pod("pod-02").in_flight = Some(Move::Restore);
    assert_eq!(why(&scene.all_bad(), "pod-02"), Some(&Why::InFlight));
}

#[test]
fn refused_for_quiet_once_after_a_person_put_it_back() {
    let mut scene = Scene::open(4);
    let (_, cut) = cut_by("pod-02", "errors", 1, 95, 140);
    scene.pod("pod-02").traffic = Traffic::OpenedByHand(cut);
    assert_eq!(why(&scene.naming(&["pod-02"]), "pod-02"), Some(&Why::Quiet));
    assert_eq!(why(&scene.wait(9).naming(&["pod-02"]), "pod-02"), Some(&Why::Quiet));
    assert_eq!(steps(&scene.wait(1).naming(&["pod-02"]), Move::Cut), ["pod-02"]);
}

#[test]
fn refused_for_hold_off_after_a_refused_write_longer_each_time() {
    let mut scene = Scene::open(4);
    for seconds in [1, 2, 4] {
        let plan = scene.naming(&["pod-02"]);
        assert_eq!(steps(&plan, Move::Cut), ["pod-02"]);
        scene.refuse(&plan);
        assert_eq!(why(&scene.wait(seconds - 1).naming(&["pod-02"]), "pod-02"), Some(&Why::HoldOff));
        scene.wait(1);
    }
}

/// Holds cuts while it stands, and none after.
fn holds(gate: Gate) {
    let mut scene = Scene::open(4);
    scene.gates = vec![gate.clone()];
    let plan = scene.all_bad();
    assert!(plan.actions.is_empty() && plan.report.gates.contains(&gate));
    assert_eq!(why(&plan, "pod-02"), Some(&Why::Gate(gate)));
    scene.gates.clear();
    assert_eq!(scene.all_bad().actions.len(), 3);
}

#[test]
fn refused_for_gate_stale_view() {
    holds(Gate::StaleView { resource: "pods" });
}

#[test]
fn refused_for_gate_conflict() {
    holds(Gate::Conflict { with: "twin".into() });
}

#[test]
fn refused_for_gate_invalid_spec() {
    holds(Gate::InvalidSpec);
}

#[test]
fn refused_for_gate_unchecked() {
    holds(Gate::Unchecked { why: "nobody has looked".into() });
}

#[test]
fn refused_for_gate_lease() {
    holds(Gate::Lease { why: "another acts".into() });
}

#[test]
fn refused_for_gate_cluster_storm() {
    holds(Gate::ClusterStorm { limit: 30 });
}

#[test]
fn refused_for_gate_not_activated() {
    holds(Gate::NotActivated);
}

#[test]
fn refused_for_gate_dry_run() {
    let mut scene = Scene::open(4);
    scene.gates = vec![Gate::DryRun];
    let plan = scene.all_bad();
    assert_eq!(why(&plan, "pod-00"), Some(&Why::Gate(Gate::DryRun)));
    assert!(plan.actions.is_empty());
}

#[test]
fn a_blind_breaker_cuts_nobody_and_leaves_the_others_alone() {
    let mut scene = Scene::open(8);
    scene.policy.breakers.push(breaker("latency", custom()));
    let bad = naming(["pod-01"]);
    let plan = scene.answered(&[("errors", None), ("latency", Some(&bad))]);
    assert_eq!(plan.report.gates, [Gate::Blind { breaker: "errors".into() }]);
    assert_eq!(plan.report.breakers[0].unknown, 8);
    assert_eq!(steps(&plan, Move::Cut), ["pod-01"]);
    assert!(!scene.naming(&[]).report.gates.is_empty(), "the first answer may be partial");
    assert!(scene.naming(&[]).report.gates.is_empty(), "two answers end it");
}

#[test]
fn an_empty_answer_for_a_fleet_that_had_series_is_blind_and_not_healthy() {
    let mut scene = Scene::open(4);
    scene.policy.breakers[0].detector = deviation(20.0);
    assert!(scene.naming(&[]).report.gates.is_empty(), "it may never have had any");
    scene.all_bad();
    assert_eq!(scene.naming(&[]).report.gates, [Gate::Blind { breaker: "errors".into() }]);
}

#[test]
fn a_dry_run_decides_nothing_here_its_shadow_does() {
    let mut scene = Scene::open(6);
    scene.policy.mode = Mode::DryRun;
    let plan = scene.all_bad();
    assert!(plan.actions.is_empty() && plan.refusals.is_empty());
}

#[test]
fn a_disabled_service_with_bad_pods_cuts_none() {
    let mut scene = Scene::open(6);
    scene.policy.mode = Mode::Disabled;
    let plan = scene.all_bad();
    assert!(plan.actions.is_empty() && plan.refusals.is_empty());
}

#[test]
fn a_spec_that_was_never_valid_cuts_nobody() {
    let mut scene = Scene::open(6);
    scene.policy = crate::policy::ServicePolicy::returns_only();
    assert!(scene.all_bad().actions.is_empty());
}

#[test]
fn a_pod_that_is_cut_already_is_not_cut_again() {
    let mut scene = Scene::open(5);
    let (cut, _) = cut_by("pod-70", "errors", 1, 95, 140);
    scene.members.push(cut);
    assert!(scene.naming(&["pod-70"]).actions.is_empty());
}

#[test]
fn an_answer_for_a_breaker_that_is_gone_is_ignored() {
    let mut scene = Scene::new(vec![open("ant"), open("bee"), open("cat")], policy_of(vec![]));
    assert!(scene.naming(&["ant"]).actions.is_empty());
}

#[test]
fn the_marks_of_a_half_broken_pod_of_the_original_stop_no_other_pod() {
    let mut scene = Scene::open(5);
    let cut = Cut { at: None, restore_at: None, breaker: None, severity: 0.0 };
    let broken = Member { reached: false, traffic: Traffic::Cut(cut), ..open("pod-80") };
    scene.members.push(broken);
    let plan = scene.naming(&["pod-03"]);
    assert_eq!(steps(&plan, Move::Cut), ["pod-03"]);
    assert_eq!(steps(&plan, Move::Restore), ["pod-80"]);
}
