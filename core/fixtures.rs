//! Builders for tests: short names, values unlike any default.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::Now;
use crate::detector::{Detector, Deviation, Direction, Discrete, Lists};
use crate::fleet::{Fleet, Member, Workload};
use crate::gates::Gate;
use crate::memory::Memory;
use crate::plan::{Kill, Plan, RestoreReason, What, Why};
use crate::policy::{
    ActivatorMode, ActivatorPolicy, BreakerPolicy, Confirm, CutsPerPeriod, FloorPolicy, Limits, Mode,
    ServicePolicy,
};
use crate::sample::{Reading, Row, Samples};
use crate::tick::{Answer, Input, tick};
use crate::traffic::{Cut, Move, Strikes, Traffic};

/// Second 0 of the tests, as wall time.
const START: i64 = 1_700_000_000;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

pub(crate) fn now(second: i64) -> Now {
    Now { wall: at(second), mono: Duration::from_secs(u64::try_from(second).unwrap()) }
}

pub(crate) fn open(name: &str) -> Member {
    Member {
        name: name.into(),
        uid: format!("uid-of-{name}").into(),
        resource_version: 41,
        ready: true,
        terminating: false,
        reached: true,
        traffic: Traffic::Open,
        strikes: Strikes::default(),
        ready_since: at(-3_600),
        workload: Workload::Replaced,
        node: None,
        zone: None,
        revision: None,
        restored_at: None,
        wish: None,
        in_flight: None,
    }
}

/// A member cut by `breaker` for the `strikes`-th time at second `since`, due at second `due`.
pub(crate) fn cut_by(name: &str, breaker: &str, strikes: u32, since: i64, due: i64) -> (Member, Cut) {
    let cut =
        Cut { at: Some(at(since)), restore_at: Some(at(due)), breaker: Some(breaker.into()), severity: 1.5 };
    let member = Member {
        reached: false,
        traffic: Traffic::Cut(cut.clone()),
        strikes: Strikes([(Arc::from(breaker), strikes)].into()),
        ..open(name)
    };
    (member, cut)
}

pub(crate) fn fleet_of(members: Vec<Member>) -> Fleet {
    Fleet { namespace: "orchard".into(), members, ..Fleet::default() }
}

pub(crate) fn fleet_of_open(size: usize) -> Fleet {
    fleet_of((0..size).map(|i| open(&format!("pod-{i:02}"))).collect())
}

pub(crate) fn custom() -> Detector {
    Detector::Custom
}

pub(crate) fn deviation(max_percent: f64) -> Detector {
    Detector::Deviation(Deviation { max_percent, direction: Direction::Both })
}

pub(crate) fn breaker(name: &str, detector: Detector) -> BreakerPolicy {
    BreakerPolicy {
        name: name.into(),
        evaluation_period: Duration::from_secs(2),
        scrape_interval: Duration::ZERO,
        range: Duration::from_secs(7),
        floor: FloorPolicy::default(),
        detector,
        confirm: Confirm::ONCE,
        enforced: true,
        activator: ActivatorPolicy::default(),
    }
}

/// Active, with limits so wide that only the floor is left.
pub(crate) fn policy_of(breakers: Vec<BreakerPolicy>) -> ServicePolicy {
    ServicePolicy {
        mode: Mode::Active,
        limits: Limits {
            max_cut_percent: 100,
            cuts_per_period: CutsPerPeriod::Count(1_000),
            max_anomalous_percent: 100,
            min_coverage_percent: 0,
            ..Limits::default()
        },
        breakers,
        default_activator: ActivatorPolicy::default(),
        holds: Vec::new(),
        kill_stateful_set_pods: false,
    }
}

/// What a custom service answers when it names these pods.
pub(crate) fn naming<'a>(pods: impl IntoIterator<Item = &'a str>) -> Samples {
    let row = |pod: &str| Row { namespace: None, pod: pod.into(), key: None, reading: Reading::Number(1.0) };
    Samples::new(pods.into_iter().map(row).collect(), false)
}

/// A series of a pod.
pub(crate) fn row(pod: &str, key: Option<&str>, value: f64) -> Row {
    Row { namespace: None, pod: pod.into(), key: key.map(Into::into), reading: Reading::of(value) }
}

/// Anything but `"fine"` is bad.
pub(crate) fn discrete() -> Detector {
    let lists = Lists::Good(["fine".into()].into());
    Detector::Discrete(Discrete { lists, tolerance: 40.0, min_activity: 3.0 })
}

/// Retries once, then evicts.
pub(crate) fn killer() -> BreakerPolicy {
    let activator = ActivatorPolicy::new(ActivatorMode::RetryAndKill, Duration::from_secs(11), 1);
    BreakerPolicy { activator, ..breaker("errors", custom()) }
}

/// One service over time: change what the story is about, then tick. Starts at second 100 of both clocks.
pub(crate) struct Scene {
    pub(crate) members: Vec<Member>,
    pub(crate) policy: ServicePolicy,
    pub(crate) gates: Vec<Gate>,
    pub(crate) kills: Vec<Kill>,
    pub(crate) memory: Memory,
    pub(crate) now: Now,
    /// Seconds from the question to the tick that takes its answer.
    pub(crate) late: u64,
}

impl Scene {
    pub(crate) fn new(members: Vec<Member>, policy: ServicePolicy) -> Self {
        let (gates, kills, memory) = (Vec::new(), Vec::new(), Memory::default());
        Self { members, policy, gates, kills, memory, now: now(100), late: 0 }
    }

    /// `size` open pods, pod-00 and so on, and one custom breaker without any ladder.
    pub(crate) fn open(size: usize) -> Self {
        Self::new(fleet_of_open(size).members, policy_of(vec![breaker("errors", custom())]))
    }

    /// `others` open pods, and `pod` that has used up its retries and is due at second 90. The breaker has
    /// answered once.
    pub(crate) fn last_retry(others: usize) -> Self {
        let mut scene = Self::new(fleet_of_open(others).members, policy_of(vec![killer()]));
        scene.naming(&[]);
        scene.members.push(cut_by("pod", "errors", 2, 50, 90).0);
        scene
    }

    pub(crate) fn floor(mut self, count: Option<u32>, percent: Option<u32>) -> Self {
        self.policy.breakers[0].floor = FloorPolicy { count, percent };
        self
    }

    pub(crate) fn pod(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|m| &*m.name == name).unwrap()
    }

    pub(crate) fn wait(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now.after(Duration::from_secs(seconds));
        self
    }

    /// The wall clock alone.
    pub(crate) fn move_wall(&mut self, seconds: i64) -> &mut Self {
        self.now.wall = self.now.wall.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        self
    }

    pub(crate) fn answered(&mut self, answers: &[(&str, Option<&Samples>)]) -> Plan {
        let fleet = fleet_of(self.members.clone());
        let asked = self.now.mono.saturating_sub(Duration::from_secs(self.late));
        let answers: Vec<_> = answers
            .iter()
            .map(|(breaker, samples)| Answer { breaker, asked, samples: *samples, activity: None })
            .collect();
        let Self { policy, gates, kills, now, .. } = self;
        let input = Input { fleet: &fleet, answers: &answers, policy, gates, kills, now: *now, seed: 17 };
        tick(&input, &mut self.memory)
    }

    pub(crate) fn tick(&mut self) -> Plan {
        self.answered(&[])
    }

    /// The breaker `errors` answers that these pods are bad and no others.
    pub(crate) fn naming(&mut self, pods: &[&str]) -> Plan {
        self.answered(&[("errors", Some(&naming(pods.iter().copied())))])
    }

    pub(crate) fn all_bad(&mut self) -> Plan {
        let names: Vec<_> = self.members.iter().map(|m| Arc::clone(&m.name)).collect();
        self.answered(&[("errors", Some(&naming(names.iter().map(|n| &**n))))])
    }

    /// The API server carries the plan out, and the watch has shown it.
    pub(crate) fn carry_out(&mut self, plan: &Plan) {
        for action in &plan.actions {
            let now = self.now;
            self.memory.record(&action.uid, action.what.step(), true, now);
            apply(self.members.iter_mut().find(|m| m.uid == action.uid).unwrap(), &action.what, now);
        }
    }

    pub(crate) fn refuse(&mut self, plan: &Plan) {
        for action in &plan.actions {
            self.memory.record(&action.uid, action.what.step(), false, self.now);
        }
    }

    pub(crate) fn restart(&mut self) {
        self.memory = Memory::default();
    }
}

/// What a step leaves on a pod, on a Service that holds the key.
pub(crate) fn apply(member: &mut Member, what: &What, now: Now) {
    match what {
        What::Cut(order) => {
            let breaker = Some(Arc::clone(&order.breaker));
            let (at, restore_at) = (Some(order.at), Some(order.restore_at));
            let cut = Cut { at, restore_at, breaker, severity: order.severity };
            (member.traffic, member.reached) = (Traffic::Cut(cut), false);
            member.strikes = order.strikes.clone();
        }
        What::KeepOut => (member.traffic, member.reached) = (Traffic::KeptOut, false),
        What::Restore { strikes, .. } => {
            (member.traffic, member.reached) = (Traffic::Open, true);
            member.strikes = strikes.clone().unwrap_or_else(|| member.strikes.clone());
            member.restored_at = Some(now.wall);
        }
        What::Forgive(strikes) => member.strikes = strikes.clone(),
        What::Pause { .. } => (member.traffic, member.reached) = (Traffic::Paused, false),
        What::Evict { .. } => member.terminating = true,
    }
    member.resource_version += 1;
}

/// The pods that a plan takes this step with, in its order.
pub(crate) fn steps(plan: &Plan, step: Move) -> Vec<&str> {
    plan.actions.iter().filter(|a| a.what.step() == step).map(|a| &*a.pod).collect()
}

/// Why a plan refuses something to this pod.
pub(crate) fn why<'a>(plan: &'a Plan, pod: &str) -> Option<&'a Why> {
    plan.refusals.iter().find(|r| &*r.pod == pod).map(|r| &r.why)
}

/// Why a plan puts this pod back.
pub(crate) fn back(plan: &Plan, pod: &str) -> Option<RestoreReason> {
    plan.actions.iter().find(|a| &*a.pod == pod).and_then(|a| match a.what {
        What::Restore { reason, .. } => Some(reason),
        What::Cut(_) | What::KeepOut | What::Pause { .. } | What::Evict { .. } | What::Forgive(_) => None,
    })
}
