//! Pods that have used up their retries.

use std::time::Duration;

use crate::fixtures::{Scene, at, back, cut_by, open, steps, why};
use crate::fleet::{Member, Workload};
use crate::gates::Gate;
use crate::plan::{Kill, RestoreReason, Why};
use crate::policy::{ActivatorMode, ActivatorPolicy};
use crate::traffic::{Move, Traffic};

pub(super) fn killed(pod: &str, second: i64) -> Kill {
    Kill { uid: format!("uid-of-{pod}").into(), at: at(second) }
}

#[test]
fn a_pod_past_its_retries_is_evicted() {
    assert_eq!(steps(&Scene::last_retry(5).tick(), Move::Evict), ["pod"]);
}

#[test]
fn a_pod_within_its_retries_is_restored() {
    let mut scene = Scene::last_retry(5);
    *scene.pod("pod") = cut_by("pod", "errors", 1, 50, 90).0;
    assert_eq!(back(&scene.tick(), "pod"), Some(RestoreReason::Due));
}

#[test]
fn retry_and_pause_pauses_then_evicts_when_the_ward_is_full() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator =
        ActivatorPolicy::new(ActivatorMode::RetryAndPause, Duration::from_secs(11), 1);
    let plan = scene.tick();
    assert_eq!(steps(&plan, Move::Pause), ["pod"]);
    scene.carry_out(&plan);
    scene.members.push(cut_by("next", "errors", 2, 50, 90).0);
    assert_eq!(steps(&scene.tick(), Move::Evict), ["next"]);
}

#[test]
fn two_pods_due_in_one_tick_fill_the_ward_once() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator =
        ActivatorPolicy::new(ActivatorMode::RetryAndPause, Duration::from_secs(11), 1);
    scene.members.push(cut_by("next", "errors", 2, 50, 90).0);
    let plan = scene.tick();
    assert_eq!((steps(&plan, Move::Pause).len(), steps(&plan, Move::Evict).len()), (1, 1));
}

#[test]
fn refused_for_kill_cap_also_after_a_restart() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator.max_kills_per_hour = 2;
    scene.kills = vec![killed("gone-a", -3_000), killed("gone-b", -2_000)];
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::KillCap(2)));
    scene.restart();
    assert_eq!(why(&scene.naming(&[]), "pod"), Some(&Why::KillCap(2)));
}

#[test]
fn evictions_of_more_than_an_hour_ago_do_not_count() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator.max_kills_per_hour = 1;
    scene.kills = vec![killed("gone", -3_500)];
    scene.tick();
    scene.members.retain(|m| &*m.name != "pod");
    scene.members.push(Member { ready_since: at(200), ..open("successor") });
    scene.wait(3_500).naming(&[]);
    scene.members.push(cut_by("pod", "errors", 2, 50, 3_590).0);
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::KillCap(1)));
    assert_eq!(steps(&scene.wait(100).tick(), Move::Evict), ["pod"]);
}

#[test]
fn a_record_of_this_very_pod_is_tried_again_and_not_counted_twice() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator.max_kills_per_hour = 1;
    scene.kills = vec![killed("pod", 90)];
    assert_eq!(steps(&scene.tick(), Move::Evict), ["pod"]);
}

#[test]
fn refused_for_kill_in_flight_one_eviction_a_tick() {
    let mut scene = Scene::last_retry(5);
    scene.members.push(cut_by("next", "errors", 2, 50, 90).0);
    let plan = scene.tick();
    assert_eq!(steps(&plan, Move::Evict), ["next"]);
    assert_eq!(why(&plan, "pod"), Some(&Why::KillInFlight));
}

#[test]
fn refused_for_kill_in_flight_until_the_evicted_pod_is_gone() {
    let mut scene = Scene::last_retry(5);
    scene.pod("pod-00").in_flight = Some(Move::Evict);
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::KillInFlight));
    (scene.pod("pod-00").in_flight, scene.pod("pod-00").terminating) = (None, true);
    scene.kills = vec![killed("pod-00", 95)];
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::KillInFlight));
    scene.members.retain(|m| &*m.name != "pod-00");
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::NotReplacedYet));
}

#[test]
fn refused_for_not_replaced_yet_until_a_successor_is_ready_for_long_enough() {
    let mut scene = Scene::last_retry(5);
    scene.tick();
    scene.kills = vec![killed("gone", 100)];
    assert_eq!(why(&scene.wait(1).tick(), "pod"), Some(&Why::NotReplacedYet));
    scene.members.push(Member { ready_since: at(102), ..open("successor") });
    assert_eq!(why(&scene.wait(1).tick(), "pod"), Some(&Why::NotReplacedYet));
    assert_eq!(why(&scene.wait(29).tick(), "pod"), Some(&Why::NotReplacedYet));
    assert_eq!(steps(&scene.wait(1).tick(), Move::Evict), ["pod"]);
}

#[test]
fn refused_for_not_replaced_and_restored_for_ladder_held_at_once() {
    for workload in [Workload::Bare, Workload::DaemonSet, Workload::StatefulSet] {
        let mut scene = Scene::last_retry(5);
        scene.pod("pod").workload = workload;
        let plan = scene.tick();
        assert_eq!(why(&plan, "pod"), Some(&Why::NotReplaced(workload)));
        assert_eq!(back(&plan, "pod"), Some(RestoreReason::LadderHeld));
    }
}

#[test]
fn refused_for_below_floor() {
    let mut scene = Scene::last_retry(5).floor(Some(6), None);
    scene.pod("pod").ready = false;
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::BelowFloor));
}

#[test]
fn refused_for_below_floor_where_the_label_keeps_nobody_out() {
    let mut scene = Scene::last_retry(5).floor(Some(6), None);
    scene.pod("pod").reached = true;
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::BelowFloor));
}

#[test]
fn refused_for_any_gate() {
    for gate in [
        Gate::StaleView { resource: "pods" },
        Gate::Conflict { with: "twin".into() },
        Gate::InvalidSpec,
        Gate::NotActivated,
    ] {
        let mut scene = Scene::last_retry(5);
        scene.gates = vec![gate.clone()];
        let plan = scene.tick();
        assert!(plan.actions.is_empty());
        assert_eq!(why(&plan, "pod"), Some(&Why::Gate(gate)));
    }
}

#[test]
fn refused_for_gate_blind() {
    let mut scene = Scene::last_retry(5);
    let plan = scene.answered(&[("errors", None)]);
    assert_eq!(why(&plan, "pod"), Some(&Why::Gate(Gate::Blind { breaker: "errors".into() })));
    assert!(plan.actions.is_empty());
}

#[test]
fn nothing_is_evicted_after_a_restart_before_the_source_has_answered() {
    let mut scene = Scene::last_retry(5);
    scene.restart();
    assert!(scene.tick().actions.is_empty());
    assert_eq!(steps(&scene.naming(&[]), Move::Evict), ["pod"]);
}

#[test]
fn restored_for_ladder_held_when_a_gate_lasts_as_long_as_a_cut_may() {
    let mut scene = Scene::last_retry(5);
    scene.gates = vec![Gate::InvalidSpec];
    assert_eq!(back(&scene.tick(), "pod"), None);
    assert_eq!(back(&scene.wait(299).tick(), "pod"), None);
    assert_eq!(back(&scene.wait(1).tick(), "pod"), Some(RestoreReason::LadderHeld));
}

#[test]
fn restored_for_ladder_held_when_the_api_server_refuses_the_eviction_again_and_again() {
    let mut scene = Scene::last_retry(5);
    let end = scene.now.mono + Duration::from_secs(300);
    while scene.now.mono < end {
        let plan = scene.tick();
        assert!(steps(&plan, Move::Restore).is_empty());
        scene.refuse(&plan);
        scene.wait(10);
    }
    assert_eq!(back(&scene.wait(60).tick(), "pod"), Some(RestoreReason::LadderHeld));
}

#[test]
fn a_held_eviction_is_looked_at_again_a_second_later() {
    let mut scene = Scene::last_retry(5);
    scene.gates = vec![Gate::InvalidSpec];
    assert_eq!(scene.tick().next_due, Some(scene.now.mono + Duration::from_secs(1)));
}

#[test]
fn strikes_for_one_breaker_do_not_make_the_first_cut_of_another_fatal() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers.push(crate::fixtures::breaker("latency", crate::fixtures::custom()));
    let (mut pod, _) = cut_by("pod", "errors", 1, 50, 90);
    pod.strikes.0.insert("latency".into(), 9);
    *scene.pod("pod") = pod;
    assert_eq!(back(&scene.tick(), "pod"), Some(RestoreReason::Due));
}

#[test]
fn a_paused_pod_is_never_evicted() {
    let mut scene = Scene::last_retry(5);
    scene.pod("pod").traffic = Traffic::Paused;
    assert!(scene.wait(100_000).tick().actions.is_empty());
}
