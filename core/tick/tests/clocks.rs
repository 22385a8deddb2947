//! A wall clock that is moved while we run moves no decision.

use std::time::Duration;

use crate::fixtures::{Scene, at, back, cut_by, deviation, open, row, steps, why};
use crate::fleet::Member;
use crate::plan::{Kill, RestoreReason, Why};
use crate::policy::CutsPerPeriod;
use crate::sample::Samples;
use crate::traffic::Move;

const HOUR: i64 = 3_600;

#[test]
fn a_cut_lasts_as_long_as_it_was_planned_though_the_clock_jumps_before_the_watch_shows_it() {
    for jump in [-HOUR, HOUR] {
        let mut scene = Scene::open(5);
        let plan = scene.naming(&["pod-03"]);
        scene.move_wall(jump).carry_out(&plan);
        let due = scene.wait(1).tick().next_due.unwrap();
        assert!((110..115).contains(&due.as_secs()), "{jump}: {due:?}");
    }
}

#[test]
fn a_jump_while_a_pod_is_cut_moves_no_due_time() {
    for jump in [-HOUR, HOUR] {
        let mut scene = Scene::open(5);
        scene.members.push(cut_by("cut", "errors", 1, 90, 130).0);
        scene.tick();
        assert_eq!(back(&scene.move_wall(jump).wait(29).tick(), "cut"), None);
        assert_eq!(back(&scene.wait(1).tick(), "cut"), Some(RestoreReason::Due));
    }
}

#[test]
fn a_jump_forward_does_not_spend_the_period_twice() {
    let mut scene = Scene::open(9);
    scene.policy.limits.cuts_per_period = CutsPerPeriod::Count(1);
    scene.members.push(cut_by("cut", "errors", 1, 99, 130).0);
    scene.tick();
    assert!(scene.move_wall(HOUR).naming(&["pod-03"]).actions.is_empty());
}

#[test]
fn a_jump_back_does_not_stop_the_cuts() {
    let mut scene = Scene::open(9);
    scene.policy.limits.cuts_per_period = CutsPerPeriod::Count(1);
    let plan = scene.naming(&["pod-03"]);
    scene.carry_out(&plan);
    scene.move_wall(-HOUR).wait(1).tick();
    assert_eq!(steps(&scene.wait(1).naming(&["pod-04"]), Move::Cut), ["pod-04"]);
}

#[test]
fn a_jump_forward_forgets_no_eviction() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator.max_kills_per_hour = 1;
    scene.kills = vec![Kill { uid: "gone".into(), at: at(95) }];
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::KillCap(1)));
    assert_eq!(why(&scene.move_wall(2 * HOUR).tick(), "pod"), Some(&Why::KillCap(1)));
}

#[test]
fn an_eviction_dated_ahead_of_us_counts_for_an_hour_and_not_for_ever() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator.max_kills_per_hour = 1;
    scene.policy.breakers[0].activator.max_period = Duration::from_hours(9);
    scene.kills = vec![Kill { uid: "gone".into(), at: at(9 * HOUR) }];
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::KillCap(1)));
    assert_eq!(steps(&scene.wait(3_600).tick(), Move::Evict), ["pod"]);
}

#[test]
fn a_jump_forward_makes_no_warming_pod_a_peer() {
    let mut scene = Scene::open(5);
    scene.policy.breakers[0].detector = deviation(20.0);
    scene.tick();
    scene.members.push(Member { ready_since: at(101), ..open("young") });
    let values = |m: &Member| row(&m.name, None, if &*m.name == "young" { 9.0 } else { 1.0 });
    let samples = Samples::new(scene.members.iter().map(values).collect(), false);
    scene.wait(1).move_wall(HOUR);
    assert!(scene.answered(&[("errors", Some(&samples))]).actions.is_empty());
    assert!(scene.wait(29).answered(&[("errors", Some(&samples))]).actions.is_empty());
    assert_eq!(steps(&scene.wait(1).answered(&[("errors", Some(&samples))]), Move::Cut), ["young"]);
}

#[test]
fn a_jump_forward_between_an_eviction_and_its_record_forgets_nothing() {
    let mut scene = Scene::last_retry(5);
    scene.policy.breakers[0].activator.max_kills_per_hour = 1;
    let recorded = Kill { uid: "gone".into(), at: scene.now.wall };
    scene.move_wall(2 * HOUR).kills = vec![recorded];
    assert_eq!(why(&scene.tick(), "pod"), Some(&Why::KillCap(1)));
}
