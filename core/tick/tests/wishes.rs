//! People's words about single pods and whole services, and limits that lie outside the service.

use crate::fixtures::{Scene, at, back, cut_by, open, steps, why};
use crate::fleet::{DisruptionBudget, Fleet, Member, Neighbour, Wish};
use crate::gates::Gate;
use crate::plan::{Plan, RestoreReason, What, Why};
use crate::policy::{BreakerPolicy, Disruption, Hold};
use crate::tick::{Answer, Input, tick};
use crate::traffic::{Move, Strikes, Traffic};

/// A tick on a fleet of which more is known.
fn with(scene: &mut Scene, fleet: &Fleet, bad: &[&str]) -> Plan {
    let samples = crate::fixtures::naming(bad.iter().copied());
    let answers =
        [Answer { breaker: "errors", asked: scene.now.mono, samples: Some(&samples), activity: None }];
    let Scene { policy, gates, kills, now, .. } = scene;
    tick(&Input { fleet, answers: &answers, policy, gates, kills, now: *now, seed: 17 }, &mut scene.memory)
}

#[test]
fn refused_for_wish_a_pod_that_is_never_to_be_cut() {
    let mut scene = Scene::open(5);
    scene.pod("pod-03").wish = Some(Wish::Never);
    assert_eq!(why(&scene.naming(&["pod-03"]), "pod-03"), Some(&Why::Wish(Wish::Never)));
}

#[test]
fn restored_for_wish_at_once_and_forgiven_whoever_took_it_out() {
    for traffic in [Traffic::Paused, Traffic::CutByHand, cut_by("x", "errors", 3, 90, 900).0.traffic] {
        let mut scene = Scene::open(5);
        let strikes = Strikes([("errors".into(), 3)].into());
        let pod = Member { traffic, strikes, reached: false, wish: Some(Wish::Serve), ..open("pod-03") };
        *scene.pod("pod-03") = pod;
        let plan = scene.tick();
        assert_eq!(back(&plan, "pod-03"), Some(RestoreReason::Wish));
        scene.carry_out(&plan);
        assert_eq!(scene.pod("pod-03").strikes.total(), 0);
        assert!(scene.wait(60).naming(&["pod-03"]).actions.is_empty(), "and it is not cut again");
    }
}

#[test]
fn a_pod_that_a_person_wants_out_is_cut_under_the_floor_and_stays_until_the_word_is_taken_back() {
    let mut scene = Scene::open(3).floor(Some(3), None);
    scene.pod("pod-01").wish = Some(Wish::Cut);
    assert!(matches!(why(&scene.tick(), "pod-01"), Some(Why::Limit(..))));
    let mut scene = scene.floor(Some(2), None);
    let plan = scene.tick();
    assert_eq!(plan.actions.iter().map(|a| &a.what).collect::<Vec<_>>(), [&What::KeepOut]);
    scene.carry_out(&plan);
    assert!(scene.wait(9_000).tick().actions.is_empty());
    scene.pod("pod-01").wish = None;
    assert_eq!(back(&scene.tick(), "pod-01"), Some(RestoreReason::Wish));
}

#[test]
fn a_timed_cut_that_a_person_wants_to_stay_does_not_end_and_repairs_no_floor() {
    let mut scene = Scene::open(4).floor(Some(4), None);
    scene.members[3] = Member { wish: Some(Wish::Cut), ..cut_by("pod-03", "errors", 1, 20, 90).0 };
    let plan = scene.tick();
    assert!(plan.actions.is_empty() && plan.next_due.is_none());
}

#[test]
fn refused_for_gate_held_until_its_time_and_returns_go_on() {
    let mut scene = Scene::open(5);
    scene.members.push(cut_by("pod-09", "errors", 1, 20, 90).0);
    scene.policy.holds = vec![Hold { reason: "Black Friday".into(), until: Some(at(160)) }];
    let plan = scene.naming(&["pod-03"]);
    let held = Gate::Held { reason: "Black Friday".into(), until: Some(at(160)) };
    assert_eq!(why(&plan, "pod-03"), Some(&Why::Gate(held)));
    assert_eq!(back(&plan, "pod-09"), Some(RestoreReason::Due));
    scene.carry_out(&plan);
    assert_eq!(steps(&scene.wait(60).naming(&["pod-03"]), Move::Cut), ["pod-03"]);
}

#[test]
fn refused_for_disruption_a_budget_without_room_unless_it_limits_kills_only() {
    let mut scene = Scene::open(5);
    let disruptions = vec![DisruptionBudget { name: "pdb".into(), spare: 1, members: vec![1, 2, 3] }];
    let fleet = Fleet { disruptions, ..crate::fixtures::fleet_of(scene.members.clone()) };
    let plan = with(&mut scene, &fleet, &["pod-01", "pod-02", "pod-04"]);
    assert_eq!(steps(&plan, Move::Cut), ["pod-01", "pod-04"]);
    assert_eq!(why(&plan, "pod-02"), Some(&Why::Disruption("pdb".into())));
    let mut scene = Scene::open(5);
    scene.policy.limits.disruption = Disruption::KillsOnly;
    assert_eq!(steps(&with(&mut scene, &fleet, &["pod-01", "pod-02"]), Move::Cut).len(), 2);
}

#[test]
fn refused_for_neighbour_another_service_behind_the_key_keeps_its_last_pod() {
    let mut scene = Scene::open(5);
    let neighbours = vec![Neighbour { service: "admin".into(), serving: 1, members: vec![3] }];
    let fleet = Fleet { neighbours, ..crate::fixtures::fleet_of(scene.members.clone()) };
    let plan = with(&mut scene, &fleet, &["pod-03"]);
    assert_eq!(why(&plan, "pod-03"), Some(&Why::Neighbour("admin".into())));
}

#[test]
fn refused_for_last_on_node_where_traffic_stays_on_its_node() {
    let mut scene = Scene::open(5);
    scene.pod("pod-03").node = Some("edge".into());
    let fleet = Fleet { local: true, ..crate::fixtures::fleet_of(scene.members.clone()) };
    let plan = with(&mut scene, &fleet, &["pod-03"]);
    assert_eq!(why(&plan, "pod-03"), Some(&Why::LastOnNode("edge".into())));
}

#[test]
fn refused_for_no_room_a_pod_that_came_back_for_the_floor_until_there_was_room_twice() {
    let mut scene = Scene::open(5).floor(Some(4), None);
    let plan = scene.naming(&["pod-03"]);
    scene.carry_out(&plan);
    scene.pod("pod-00").ready = false;
    let plan = scene.wait(1).tick();
    assert_eq!(back(&plan, "pod-03"), Some(RestoreReason::FloorRepair));
    scene.carry_out(&plan);
    assert_eq!(scene.pod("pod-03").strikes.total(), 0, "it was no fault of the pod's");
    scene.naming(&["pod-03"]);
    scene.pod("pod-00").ready = true;
    assert_eq!(why(&scene.wait(20).naming(&["pod-03"]), "pod-03"), Some(&Why::NoRoom));
    assert_eq!(steps(&scene.wait(2).naming(&["pod-03"]), Move::Cut), ["pod-03"]);
}

#[test]
fn restored_for_dry_run_pods_of_a_breaker_that_only_shows_now_and_it_cuts_no_more() {
    let mut scene = Scene::open(5);
    let plan = scene.naming(&["pod-03"]);
    scene.carry_out(&plan);
    let shown = BreakerPolicy { enforced: false, ..scene.policy.breakers[0].clone() };
    scene.policy.breakers[0] = shown;
    let plan = scene.wait(1).naming(&["pod-01"]);
    assert_eq!(back(&plan, "pod-03"), Some(RestoreReason::DryRun));
    assert!(steps(&plan, Move::Cut).is_empty() && plan.report.gates.is_empty());
}

#[test]
fn pods_of_a_statefulset_are_evicted_only_where_the_spec_says_so() {
    let mut scene = Scene::last_retry(5);
    scene.pod("pod").workload = crate::fleet::Workload::StatefulSet;
    scene.policy.kill_stateful_set_pods = true;
    assert_eq!(steps(&scene.tick(), Move::Evict), ["pod"]);
}
