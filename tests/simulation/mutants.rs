//! The checkers bite: ways to decide wrongly, each a wrapper around the core's tick, and each caught by a checker that
//! knows nothing of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use kubervisor::owner::Decide;
use kubervisor_core::Now;
use kubervisor_core::detector::Detector;
use kubervisor_core::fleet::{Capacity, Fleet, Member, Wish, Workload};
use kubervisor_core::gates::Gate;
use kubervisor_core::memory::Memory;
use kubervisor_core::plan::{Action, Plan, RestoreReason, What, Why};
use kubervisor_core::policy::{BreakerPolicy, Confirm, CutsPerPeriod, Mode, ServicePolicy};
use kubervisor_core::sample::{Reading, Row, Samples};
use kubervisor_core::tick::{Answer, Input, tick};
use kubervisor_core::traffic::{Cut, Move, Strikes, Traffic};

/// A name, and how to decide so.
pub type Mutation = (&'static str, fn() -> Decide);

pub const ALL: [Mutation; 33] = [
    ("cut members hidden from the fleet", || fleet(|_, f| f.members.retain(|m| !is_cut(m)))),
    ("cut members taken for serving ones", || {
        members(|_, m| {
            if is_cut(m) {
                m.reached = true;
            }
        })
    }),
    ("writes in flight forgotten", || members(|_, m| m.in_flight = None)),
    ("not Ready taken for Ready", || members(|_, m| m.ready = true)),
    ("unknown taken for anomalous", || judged(|_, _, rows| !rows.iter().any(|r| number(r).is_some()))),
    ("the mean without the median", || calm(judged(far_from_mean))),
    ("storms ignored", || policy(|p| p.limits.max_anomalous_percent = 100)),
    ("a few anomalous pods taken for a storm", || policy(|p| p.limits.max_anomalous_percent = 10)),
    ("partial answers trusted", || answers(|s, fleet| s.map(|s| copy(s, fleet, false)))),
    ("a source that fails names everybody", || calm(failing_names_all())),
    ("gates dropped", || input(|i| tick_with(i, |o| o.gates = Vec::new()))),
    ("dry run ignored", || input(|i| tick_with(i, enforce))),
    ("evictions not counted", || input(|i| tick_with(i, |o| o.kills = Vec::new()))),
    ("capacity that went away forgotten", || {
        Arc::new(|i, memory| {
            memory.capacity = Capacity::default();
            tick(i, memory)
        })
    }),
    ("the floor halved", || policy(halve)),
    ("maxCutRatio ignored", || policy(|p| p.limits.max_cut_percent = 100)),
    ("maxCutsPerPeriod ignored", || policy(|p| p.limits.cuts_per_period = CutsPerPeriod::Percent(100))),
    ("a budget for each breaker", each_breaker_alone),
    ("paused pods put back", || {
        members(|now, m| {
            if m.traffic == Traffic::Paused {
                m.traffic = long_due(now);
            }
        })
    }),
    ("cuts by hand undone", || {
        members(|now, m| {
            if m.traffic == Traffic::CutByHand {
                m.traffic = long_due(now);
            }
        })
    }),
    ("strikes forgotten", || members(|_, m| m.strikes = Strikes::default())),
    ("strikes out of nothing", || {
        members(|_, m| {
            if is_cut(m) {
                m.strikes = more(&m.strikes);
            }
        })
    }),
    ("due times ignored", || members(postpone)),
    ("cuts end at once", || plan(|p| p.actions.iter_mut().for_each(|a| end_at_once(&mut a.what)))),
    ("no repair of the floor", || {
        plan(|p| {
            p.actions.retain(|a| !matches!(a.what, What::Restore { reason: RestoreReason::FloorRepair, .. }));
        })
    }),
    ("nothing is put back", || plan(|p| p.actions.retain(|a| a.what.step() != Move::Restore))),
    ("settle forgotten", || members(|_, m| m.restored_at = None)),
    ("returns without slots", unslotted),
    ("confirmation dropped", || policy(|p| p.breakers.iter_mut().for_each(|b| b.confirm = Confirm::ONCE))),
    ("a person's word ignored", || members(|_, m| m.wish = None)),
    ("every wish is Cut", || members(|_, m| m.wish = m.wish.map(|_| Wish::Cut))),
    ("the wall clock taken for time", wall_for_time),
    ("pods evicted that nobody replaces", || members(|_, m| m.workload = Workload::Replaced)),
];

/// The parts of an input that a mutation may change.
struct Own {
    fleet: Fleet,
    policy: ServicePolicy,
    gates: Vec<Gate>,
    kills: Vec<kubervisor_core::plan::Kill>,
}

/// A tick on a changed copy of its input.
fn tick_with(i: (&Input<'_>, &mut Memory), change: impl Fn(&mut Own)) -> Plan {
    let (input, memory) = i;
    let mut own = Own {
        fleet: input.fleet.clone(),
        policy: input.policy.clone(),
        gates: input.gates.to_vec(),
        kills: input.kills.to_vec(),
    };
    change(&mut own);
    let changed =
        Input { fleet: &own.fleet, policy: &own.policy, gates: &own.gates, kills: &own.kills, ..*input };
    tick(&changed, memory)
}

fn input(decide: fn((&Input<'_>, &mut Memory)) -> Plan) -> Decide {
    Arc::new(move |input, memory| decide((input, memory)))
}

fn policy(change: fn(&mut ServicePolicy)) -> Decide {
    Arc::new(move |input, memory| tick_with((input, memory), |own| change(&mut own.policy)))
}

fn fleet(change: fn(Now, &mut Fleet)) -> Decide {
    Arc::new(move |input, memory| {
        let now = input.now;
        tick_with((input, memory), |own| change(now, &mut own.fleet))
    })
}

fn members(change: fn(Now, &mut Member)) -> Decide {
    Arc::new(move |input, memory| {
        let now = input.now;
        tick_with((input, memory), |own| own.fleet.members.iter_mut().for_each(|m| change(now, m)))
    })
}

fn plan(change: fn(&mut Plan)) -> Decide {
    Arc::new(move |input, memory| {
        let mut plan = tick(input, memory);
        change(&mut plan);
        plan
    })
}

fn is_cut(member: &Member) -> bool {
    matches!(member.traffic, Traffic::Cut(_))
}

fn number(row: &Row) -> Option<f64> {
    if let Reading::Number(value) = row.reading { Some(value) } else { None }
}

fn enforce(own: &mut Own) {
    own.policy.mode = Mode::Active;
    own.gates.retain(|gate| *gate != Gate::DryRun);
}

fn halve(policy: &mut ServicePolicy) {
    for breaker in &mut policy.breakers {
        breaker.floor.percent = breaker.floor.percent.map(|percent| percent / 2);
        breaker.floor.count = breaker.floor.count.map(|count| count / 2);
    }
}

fn long_due(now: Now) -> Traffic {
    let past = now.wall - SignedDuration::from_hours(3);
    Traffic::Cut(Cut { at: Some(past), restore_at: Some(past), breaker: None, severity: 1.0 })
}

fn more(strikes: &Strikes) -> Strikes {
    Strikes(strikes.0.iter().map(|(breaker, k)| (Arc::clone(breaker), k + 20)).collect())
}

fn postpone(now: Now, member: &mut Member) {
    if let Traffic::Cut(cut) = &mut member.traffic {
        (cut.at, cut.restore_at) = (Some(now.wall), Some(now.wall + SignedDuration::from_hours(1)));
    }
}

fn end_at_once(what: &mut What) {
    if let What::Cut(order) = what {
        order.restore_at = order.at + SignedDuration::from_secs(1);
    }
}

/// All rows of the fleet's members again.
fn copy(samples: &Samples, fleet: &Fleet, partial: bool) -> Samples {
    let rows = fleet.members.iter().flat_map(|m| samples.of(&fleet.namespace, &m.name).to_vec());
    Samples::new(rows.collect(), partial)
}

fn answers(change: fn(Option<&Samples>, &Fleet) -> Option<Samples>) -> Decide {
    Arc::new(move |input, memory| {
        let changed: Vec<_> = input.answers.iter().map(|a| (a, change(a.samples, input.fleet))).collect();
        let answers: Vec<_> = changed
            .iter()
            .map(|(answer, samples)| Answer { samples: samples.as_ref(), activity: None, ..**answer })
            .collect();
        tick(&Input { answers: &answers, ..*input }, memory)
    })
}

/// Another judge: `bad` names the anomalous pods.
fn judged(bad: fn(&BreakerPolicy, &Member, &[Row]) -> bool) -> Decide {
    Arc::new(move |input, memory| {
        let (fleet, mut policy) = (input.fleet, input.policy.clone());
        let named = |breaker: &BreakerPolicy, samples: &Samples| {
            let anomalous = |m: &&Member| bad(breaker, m, samples.of(&fleet.namespace, &m.name));
            let rows = fleet.members.iter().filter(anomalous).map(|m| name(fleet, m));
            Samples::new(rows.collect(), samples.partial)
        };
        let mut changed = Vec::new();
        for answer in input.answers {
            let breaker = input.policy.breaker(answer.breaker);
            let samples = breaker.zip(answer.samples).map(|(breaker, samples)| named(breaker, samples));
            changed.push((answer, samples));
        }
        policy.breakers.iter_mut().for_each(|b| b.detector = Detector::Custom);
        let answers: Vec<_> = changed
            .iter()
            .map(|(answer, samples)| Answer { samples: samples.as_ref(), activity: None, ..**answer })
            .collect();
        tick(&Input { answers: &answers, policy: &policy, ..*input }, memory)
    })
}

/// No storm holds it: most of a fleet is far from a mean that one pod drags away.
fn calm(decide: Decide) -> Decide {
    Arc::new(move |input, memory| {
        let mut policy = input.policy.clone();
        policy.limits.max_anomalous_percent = 100;
        decide(&Input { policy: &policy, ..*input }, memory)
    })
}

fn name(fleet: &Fleet, member: &Member) -> Row {
    Row {
        namespace: Some(Arc::clone(&fleet.namespace)),
        pod: Arc::clone(&member.name),
        key: None,
        reading: Reading::Number(1.0),
    }
}

fn far_from_mean(breaker: &BreakerPolicy, _: &Member, rows: &[Row]) -> bool {
    let Detector::Deviation(rule) = &breaker.detector else { return false };
    rows.first().and_then(number).is_some_and(|v| (v - 1.0).abs() * 100.0 > rule.max_percent)
}

fn failing_names_all() -> Decide {
    Arc::new(|input, memory| {
        let mut policy = input.policy.clone();
        let all = Samples::new(input.fleet.members.iter().map(|m| name(input.fleet, m)).collect(), false);
        let mut answers = input.answers.to_vec();
        for answer in answers.iter_mut().filter(|a| a.samples.is_none()) {
            answer.samples = Some(&all);
            let breaker = policy.breakers.iter_mut().find(|b| &*b.name == answer.breaker);
            breaker.into_iter().for_each(|b| b.detector = Detector::Custom);
        }
        tick(&Input { answers: &answers, policy: &policy, ..*input }, memory)
    })
}

/// Each breaker decides for itself, and sees only its own cuts.
fn each_breaker_alone() -> Decide {
    let memories: Mutex<BTreeMap<(u64, Arc<str>), Memory>> = Mutex::default();
    Arc::new(move |input, memory| {
        let mut plan = tick(&Input { answers: &[], ..*input }, memory);
        let mut memories = memories.lock().unwrap();
        for breaker in &input.policy.breakers {
            let own = memories.entry((input.seed, Arc::clone(&breaker.name))).or_default();
            let mut policy = input.policy.clone();
            policy.breakers.retain(|b| b.name == breaker.name);
            let mut fleet = input.fleet.clone();
            for member in &mut fleet.members {
                let cut = |cut: &Cut| cut.breaker.as_ref() != Some(&breaker.name);
                if matches!(&member.traffic, Traffic::Cut(c) if cut(c)) {
                    (member.traffic, member.reached) = (Traffic::Open, true);
                }
            }
            let alone = tick(&Input { fleet: &fleet, policy: &policy, ..*input }, own);
            let real = |uid: &Arc<str>| input.fleet.member(uid).is_some_and(|m| m.traffic.allows(Move::Cut));
            let cuts = alone.actions.into_iter().filter(|a| a.what.step() == Move::Cut && real(&a.uid));
            let cuts: Vec<_> = cuts.filter(|a| plan.actions.iter().all(|b| b.uid != a.uid)).collect();
            plan.actions.extend(cuts);
        }
        plan
    })
}

/// Every window runs on the clock that people and machines move.
fn wall_for_time() -> Decide {
    let first: Mutex<BTreeMap<u64, Now>> = Mutex::default();
    Arc::new(move |input, memory| {
        let first = *first.lock().unwrap().entry(input.seed).or_insert(input.now);
        let by_the_wall = input.now.wall.duration_since(first.wall);
        let mono = Duration::try_from(by_the_wall).unwrap_or_default() + first.mono;
        let mut plan = tick(&Input { now: Now { mono, ..input.now }, ..*input }, memory);
        let waits = plan.next_due.map(|due| due.saturating_sub(mono));
        plan.next_due = waits.map(|wait| input.now.mono + wait);
        plan
    })
}

/// Whatever waits for a slot comes back at once.
fn unslotted() -> Decide {
    Arc::new(|input, memory| {
        let mut plan = tick(input, memory);
        let waits = |why: &Why| matches!(why, Why::NoSlot(_));
        let waiting: Vec<_> =
            plan.refusals.iter().filter(|r| waits(&r.why)).map(|r| Arc::clone(&r.pod)).collect();
        for member in input.fleet.members.iter().filter(|m| waiting.contains(&m.name)) {
            plan.actions.push(Action {
                pod: Arc::clone(&member.name),
                uid: Arc::clone(&member.uid),
                resource_version: member.resource_version,
                what: What::Restore { reason: RestoreReason::Due, strikes: None },
            });
        }
        plan
    })
}
