//! Random fleets, answers, faults and schedules against a model of the API server, judged from outside.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::plan::{Plan, What};
use crate::traffic::Move;
use world::{Pod, Policy, Run, Step, World};

fn pods() -> impl Strategy<Value = Vec<Pod>> {
    let pod = (0_u8..24, any::<u8>(), 0_u32..5, -40_i64..40, 0_u8..8).prop_map(
        |(label, health, strikes, since, workload)| Pod { label, health, strikes, since, workload },
    );
    proptest::collection::vec(pod, 0..40)
}

fn policy() -> impl Strategy<Value = Policy> {
    let floor = (proptest::option::of(0_u32..12), proptest::option::of(0_u32..=100));
    let breaker = (0_u8..3, floor, 0_u8..3, 1_u64..9, 0_u64..6, 0_u32..3);
    let caps = (prop_oneof![Just(100_u32), 0_u32..=100], prop_oneof![Just(100_u32), 0_u32..5], 1_u32..4);
    (proptest::collection::vec(breaker, 1..4), caps, 0_u8..16).prop_map(|(breakers, caps, mode)| Policy {
        breakers,
        caps,
        mode,
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let answers = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..12), 0..4);
    let fates = proptest::collection::vec(any::<u8>(), 1..8);
    let chaos = proptest::collection::vec((0_u8..30, any::<usize>()), 0..3);
    let wall = prop_oneof![3 => Just(0_i64), 1 => -9_000_i64..9_000];
    let step = (0_u64..9, wall, answers, fates, chaos, 0_u8..40).prop_map(
        |(wait, wall, answers, fates, chaos, gate)| Step { wait, wall, answers, fates, chaos, gate },
    );
    proptest::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// Floor, caps, evidence, gates, the ladder's limits and one act a pod are judged in `World::step`.
    #[test]
    fn whatever_happens_the_limits_hold(pods in pods(), policy in policy(), steps in steps(), run in 0_u8..3) {
        let run = [Run::Steady, Run::Jumps, Run::Restarts][usize::from(run)];
        let mut world = World::new(&pods, &policy, run);
        for step in &steps {
            world.step(step);
        }
    }

    #[test]
    fn the_same_input_gives_the_same_plans(pods in pods(), policy in policy(), steps in steps()) {
        let (mut once, mut again) =
            (World::new(&pods, &policy, Run::Jumps), World::new(&pods, &policy, Run::Jumps));
        for step in &steps {
            prop_assert_eq!(once.step(step), again.step(step));
        }
    }

    #[test]
    fn a_moved_wall_clock_moves_no_decision(pods in pods(), policy in policy(), steps in steps()) {
        let mut steady = World::new(&pods, &policy, Run::Steady);
        let mut moved = World::new(&pods, &policy, Run::Jumps);
        for step in &steps {
            let (one, other) = (steady.step(step), moved.step(step));
            prop_assert_eq!(World::acts(&one), World::acts(&other));
            prop_assert_eq!(one.next_due, other.next_due);
        }
    }

    /// Ticks run only when the plan says that one is due: a date that is missing is a pod that stays out.
    #[test]
    fn every_timed_cut_ends_in_bounded_time(pods in pods(), policy in policy(), steps in steps()) {
        let mut world = World::new(&pods, &policy, Run::Restarts);
        for step in &steps {
            world.step(step);
        }
        let end = world.now.mono + world.longest_cut() + world.longest_queue() + Duration::from_secs(75);
        while let Some(due) = world.calm().next_due.filter(|due| *due <= end) {
            let wait = due.saturating_sub(world.now.mono);
            world.now = world.now.after(wait);
        }
        prop_assert_eq!(world.timed_cuts(), Vec::<String>::new());
    }

    #[test]
    fn a_fleet_that_is_all_bad_is_cut_to_its_floor_exactly(size in 3_usize..40, percent in 1_u32..=100) {
        let mut scene = crate::fixtures::Scene::open(size).floor(None, Some(percent));
        let plan = scene.all_bad();
        scene.carry_out(&plan);
        let floor = (1..=size).find(|f| f * 100 >= size * usize::try_from(percent).unwrap());
        prop_assert_eq!(Some(size - crate::fixtures::steps(&plan, Move::Cut).len()), floor);
    }
}

/// A property over worlds in which nothing happens would hold too. `InFlight` is not among them: a pod that serves has
/// a restore under way only while two watches disagree.
#[test]
fn the_random_worlds_reach_every_step_and_every_refusal() {
    let mut runner = TestRunner::deterministic();
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for _ in 0..1_200 {
        let (pods, policy, steps) = (pods(), policy(), steps()).new_tree(&mut runner).unwrap().current();
        let mut world = World::new(&pods, &policy, Run::Steady);
        steps.iter().for_each(|step| tell(&world.step(step), &mut seen));
    }
    for name in
        "cut Due FloorRepair LadderHeld pause evict StaleView Conflict InvalidSpec NotActivated DryRun Blind \
                 Storm LowCoverage Overload Unconfirmed NoSlot NoRoom NotReplacedYet forgive \
                 floor maxCutRatio maxCutsPerPeriod FleetTooSmall Quiet HoldOff KillCap KillInFlight \
                 NotReplaced BelowFloor"
            .split_whitespace()
    {
        assert!(seen.get(name).is_some_and(|times| *times >= 3), "{name} is too rare: {seen:?}");
    }
}

fn tell(plan: &Plan, seen: &mut BTreeMap<&'static str, u32>) {
    let of_action = |what: &What| match what {
        What::Restore { reason, .. } => reason.as_str(),
        What::Cut(_) | What::KeepOut | What::Pause { .. } | What::Evict { .. } | What::Forgive(_) => {
            what.step().as_str()
        }
    };
    let acts = plan.actions.iter().map(|a| of_action(&a.what));
    for name in acts.chain(plan.refusals.iter().map(|r| r.why.as_str())) {
        *seen.entry(name).or_default() += 1;
    }
}
