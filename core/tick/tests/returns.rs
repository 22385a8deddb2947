//! Who comes back, when, and why.

use std::time::Duration;

use crate::backoff::longest;
use crate::fixtures::{Scene, at, back, cut_by, fleet_of_open, naming, open, steps};
use crate::fleet::Member;
use crate::gates::Gate;
use crate::plan::{RestoreReason, Why};
use crate::policy::Mode;
use crate::traffic::{Cut, Move, Traffic};

/// Five open pods and `cut`, cut at second 90 and due at second 130; it is second 100.
fn one_cut() -> Scene {
    let mut scene = Scene::open(5);
    scene.members.push(cut_by("cut", "errors", 1, 90, 130).0);
    scene
}

#[test]
fn restored_for_due_at_its_stored_time_and_not_before() {
    let mut scene = one_cut();
    let plan = scene.tick();
    assert!(plan.actions.is_empty());
    assert_eq!(plan.next_due, Some(Duration::from_secs(130)));
    assert_eq!(back(&scene.wait(29).tick(), "cut"), None);
    assert_eq!(back(&scene.wait(1).tick(), "cut"), Some(RestoreReason::Due));
}

#[test]
fn a_restart_with_twenty_cut_pods_restores_none_before_its_stored_time() {
    let mut scene = Scene::open(30);
    scene.members.extend((40..60).map(|i| cut_by(&format!("pod-{i}"), "errors", 1, 60, 100 + i).0));
    assert!(scene.tick().actions.is_empty());
    scene.wait(25).restart();
    assert!(scene.tick().actions.is_empty());
    assert_eq!(
        steps(&scene.wait(20).tick(), Move::Restore),
        ["pod-40", "pod-41", "pod-42", "pod-43", "pod-44"]
    );
}

#[test]
fn refused_for_no_slot_twenty_pods_due_in_one_second_come_back_in_four_rounds() {
    let mut scene = Scene::open(30);
    scene.members.extend((40..60).map(|i| cut_by(&format!("pod-{i}"), "errors", 1, 60, 100).0));
    let mut rounds = Vec::new();
    for _ in 0..150 {
        let plan = scene.tick();
        if steps(&plan, Move::Restore).is_empty() {
            assert!(rounds.len() >= 4 || plan.refusals.iter().any(|r| r.why == Why::NoSlot(5)));
        } else {
            rounds.push((scene.now.mono.as_secs(), steps(&plan, Move::Restore).len()));
        }
        scene.carry_out(&plan);
        scene.wait(4);
    }
    assert_eq!(rounds.iter().map(|(_, pods)| *pods).collect::<Vec<_>>(), [5, 5, 5, 5]);
    assert!(rounds[3].0 < 100 + 3 * (7 + 120) + 4 * 4, "{rounds:?}");
}

#[test]
fn healed_pods_free_their_slots_for_the_next() {
    let mut scene = Scene::open(30);
    scene.members.extend((40..60).map(|i| cut_by(&format!("pod-{i}"), "errors", 1, 60, 100).0));
    let mut second = 0;
    while scene.members.iter().any(|m| !m.serving()) {
        let plan = scene.naming(&[]);
        scene.carry_out(&plan);
        scene.wait(2);
        second += 2;
    }
    assert!(second < 60, "all are back after {second} s");
}

#[test]
fn a_cut_is_not_shorter_than_the_window_of_its_query() {
    let mut scene = Scene::open(5);
    scene.policy.breakers[0].range = Duration::from_mins(10);
    let plan = scene.naming(&["pod-03"]);
    scene.carry_out(&plan);
    assert!(scene.tick().next_due.is_some_and(|due| due >= Duration::from_secs(100 + 600 + 2)));
}

#[test]
fn restored_for_floor_repair_those_with_the_fewest_strikes() {
    let mut scene = Scene::open(5).floor(Some(5), None);
    scene.members.push(cut_by("cut-a", "errors", 4, 90, 400).0);
    scene.members.push(cut_by("cut-b", "errors", 1, 90, 400).0);
    assert!(scene.tick().actions.is_empty());
    scene.pod("pod-03").ready = false;
    let plan = scene.tick();
    assert_eq!(back(&plan, "cut-b"), Some(RestoreReason::FloorRepair));
    assert_eq!(plan.actions.len(), 1);
}

#[test]
fn a_crash_in_the_first_tick_after_a_restart_is_repaired_in_it() {
    let mut scene = Scene::open(5).floor(None, Some(80));
    scene.members.push(cut_by("cut", "errors", 1, 90, 400).0);
    scene.members.remove(0);
    scene.memory = crate::memory::Memory::resumed(6, None, scene.now);
    scene.pod("pod-03").ready = false;
    assert_eq!(back(&scene.tick(), "cut"), Some(RestoreReason::FloorRepair));
}

#[test]
fn a_repair_counts_restores_under_way_once() {
    let mut scene = Scene::open(4).floor(Some(6), None);
    for i in 0..3 {
        scene.members.push(cut_by(&format!("cut-{i}"), "errors", 1, 90, 400).0);
    }
    scene.pod("cut-0").in_flight = Some(Move::Restore);
    assert_eq!(steps(&scene.tick(), Move::Restore).len(), 1);
    let shown = scene.pod("cut-0");
    (shown.traffic, shown.reached) = (Traffic::Open, true);
    assert_eq!(steps(&scene.tick(), Move::Restore).len(), 1, "five serve, its own restore is no sixth");
}

#[test]
fn a_repair_restores_no_pod_that_could_not_serve() {
    let mut scene = one_cut().floor(Some(6), None);
    scene.pod("cut").ready = false;
    assert!(scene.tick().actions.is_empty());
}

#[test]
fn new_pods_that_are_not_up_yet_do_not_bring_the_bad_ones_back() {
    let mut scene = one_cut().floor(None, Some(80));
    scene.tick();
    scene.members.extend((0..6).map(|i| Member {
        ready: false,
        ready_since: at(101),
        ..open(&format!("new-{i}"))
    }));
    assert!(scene.wait(1).tick().actions.is_empty());
}

#[test]
fn a_repair_never_touches_paused_pods_nor_those_cut_by_hand() {
    let mut scene = Scene::open(4).floor(Some(4), None);
    (scene.pod("pod-01").traffic, scene.pod("pod-01").reached) = (Traffic::Paused, false);
    (scene.pod("pod-02").traffic, scene.pod("pod-02").reached) = (Traffic::CutByHand, false);
    let plan = scene.wait(100_000).tick();
    assert!(plan.actions.is_empty());
    assert_eq!((plan.report.paused, plan.report.cut, plan.next_due), (1, 1, None));
}

#[test]
fn no_gate_no_mode_and_no_lost_source_holds_a_return() {
    let gates = [Gate::StaleView { resource: "pods" }, Gate::InvalidSpec, Gate::NotActivated, Gate::DryRun];
    for mode in [Mode::Active, Mode::DryRun, Mode::Disabled] {
        let mut scene = one_cut();
        (scene.policy.mode, scene.gates) = (mode, gates.to_vec());
        scene.answered(&[("errors", None)]);
        assert_eq!(back(&scene.wait(30).tick(), "cut"), Some(RestoreReason::Due), "{mode:?}");
    }
}

#[test]
fn outside_active_a_pod_at_the_end_of_its_ladder_is_given_back() {
    for mode in [Mode::DryRun, Mode::Disabled] {
        let mut scene = Scene::last_retry(5);
        scene.policy.mode = mode;
        assert_eq!(back(&scene.tick(), "pod"), Some(RestoreReason::Due), "{mode:?}");
    }
}

#[test]
fn a_write_under_way_and_a_pod_that_goes_are_left_alone_and_are_no_date() {
    let mut scene = one_cut();
    scene.pod("cut").in_flight = Some(Move::Restore);
    scene.wait(60);
    assert_eq!((scene.tick().actions.len(), scene.tick().next_due), (0, None));
    (scene.pod("cut").in_flight, scene.pod("cut").terminating) = (None, true);
    assert_eq!((scene.tick().actions.len(), scene.tick().next_due), (0, None));
}

#[test]
fn a_refused_restore_is_tried_again_later_and_at_the_latest_after_a_minute() {
    let mut scene = one_cut();
    scene.wait(30);
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let plan = scene.tick();
        assert_eq!(steps(&plan, Move::Restore), ["cut"]);
        scene.refuse(&plan);
        assert_eq!(scene.tick().next_due, Some(scene.now.mono + Duration::from_secs(seconds)));
        scene.wait(seconds);
    }
}

#[test]
fn garbage_on_a_pod_keeps_it_out_no_longer_than_the_longest_cut() {
    let mut scene = Scene::open(5);
    let breaker = &scene.policy.breakers[0];
    let most = longest(&breaker.activator, breaker.shortest_cut());
    for (name, since, due) in [("a", None, Some(9_000_000)), ("b", Some(9_000_000), None), ("c", None, None)]
    {
        let cut =
            Cut { at: since.map(at), restore_at: due.map(at), breaker: Some("errors".into()), severity: 1.5 };
        scene.members.push(Member { reached: false, traffic: Traffic::Cut(cut), ..open(name) });
    }
    assert_eq!(steps(&scene.tick(), Move::Restore), ["c"]);
    scene.members.retain(|m| &*m.name != "c");
    scene.now = scene.now.after(most);
    let plan = scene.tick();
    let due = steps(&plan, Move::Restore).into_iter().chain(plan.refusals.iter().map(|r| &*r.pod));
    assert_eq!(due.collect::<Vec<_>>(), ["a", "b"], "one is back, the other waits for a slot");
}

#[test]
fn a_pod_whose_breaker_is_gone_comes_back_whatever_its_strikes() {
    let mut scene = Scene::last_retry(5);
    scene.policy.default_activator = scene.policy.breakers[0].activator;
    scene.policy.breakers[0].name = "renamed".into();
    assert_eq!(back(&scene.tick(), "pod"), Some(RestoreReason::Due));
}

#[test]
fn a_stored_time_that_a_person_edits_is_obeyed() {
    let mut scene = one_cut();
    scene.tick();
    scene.pod("cut").traffic = cut_by("cut", "errors", 1, 90, 105).0.traffic;
    assert_eq!(back(&scene.wait(5).tick(), "cut"), Some(RestoreReason::Due));
}

#[test]
fn a_pod_is_never_restored_and_cut_in_one_tick() {
    let mut scene = one_cut();
    scene.pod("cut").reached = true;
    let plan = scene.wait(40).answered(&[("errors", Some(&naming(["cut"])))]);
    assert_eq!(plan.actions.len(), 1);
}

#[test]
fn a_repaired_floor_leaves_nothing_to_cut() {
    let mut scene = Scene::new(fleet_of_open(4).members, Scene::open(1).policy).floor(Some(5), None);
    scene.members.push(cut_by("cut", "errors", 1, 90, 400).0);
    let plan = scene.all_bad();
    assert_eq!((steps(&plan, Move::Restore).len(), steps(&plan, Move::Cut).len()), (1, 0));
}
