//! A model of the API server and its watch: writes are carried out, refused or lost, and seen at once or later.
//! After each tick the plan is judged with sums of its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::Now;
use crate::backoff::longest;
use crate::budget::large_enough;
use crate::fixtures::{apply, at, breaker, cut_by, deviation, discrete, fleet_of, now, open, policy_of, row};
use crate::fleet::{CAPACITY_MEMORY, Member, Workload};
use crate::gates::Gate;
use crate::memory::Memory;
use crate::plan::{Action, Kill, Plan, What};
use crate::policy::Growth;
use crate::policy::{
    ActivatorMode, ActivatorPolicy, BreakerPolicy, Confirm, CutsPerPeriod, FloorPolicy, Mode, ServicePolicy,
};
use crate::sample::{Reading, Row, Samples};
use crate::tick::{Answer, Input, tick};
use crate::traffic::{Cut, Move, Strikes, Traffic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    /// The wall clock goes right, and so does the process.
    Steady,
    /// The wall clock is moved.
    Jumps,
    /// The process is lost now and then.
    Restarts,
}

#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) label: u8,
    pub(super) health: u8,
    pub(super) strikes: u32,
    pub(super) since: i64,
    pub(super) workload: u8,
}

type Floor = (Option<u32>, Option<u32>);

#[derive(Debug, Clone)]
pub(super) struct Policy {
    /// Detector, floor, activator mode, period, range, retries.
    pub(super) breakers: Vec<(u8, Floor, u8, u64, u64, u32)>,
    /// maxCutRatio, maxCutsPerPeriod, maxKillsPerHour
    pub(super) caps: (u32, u32, u32),
    pub(super) mode: u8,
}

#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) wait: u64,
    pub(super) wall: i64,
    /// A symptom for each pod, by breaker.
    pub(super) answers: Vec<Vec<u8>>,
    pub(super) fates: Vec<u8>,
    pub(super) chaos: Vec<(u8, usize)>,
    pub(super) gate: u8,
}

/// What the watch has shown of a pod, what the API server holds, and from when on both are the same.
struct Stored {
    seen: Member,
    real: Member,
    flight: Option<(Move, Duration)>,
}

pub(super) struct World {
    pods: Vec<Stored>,
    policy: ServicePolicy,
    keyed: bool,
    run: Run,
    memory: Memory,
    kills: Vec<Kill>,
    pub(super) now: Now,
    born: usize,
    /// Judged with these: sizes, cuts that may have happened, and evictions asked for, by the clock that is right.
    sizes: Vec<(Duration, usize)>,
    cuts: Vec<(Arc<str>, Duration)>,
    killed: Vec<(Arc<str>, Duration)>,
}

fn member(index: usize, pod: &Pod, keyed: bool) -> Member {
    let name = format!("pod-{index:02}");
    let cut = cut_by(&name, "b0", pod.strikes, 100 - pod.since.abs(), 100 + pod.since);
    let traffic = match pod.label {
        0..=2 => Traffic::Cut(cut.1),
        3 => Traffic::OpenedByHand(cut.1),
        4 => Traffic::CutByHand,
        5 => Traffic::Paused,
        6 => Traffic::Odd,
        7 => Traffic::Unlabelled,
        8 => Traffic::Cut(Cut { at: None, restore_at: Some(at(9_999_999)), breaker: None, severity: 0.0 }),
        9 => Traffic::Cut(Cut {
            at: Some(at(-9_999_999)),
            restore_at: None,
            breaker: Some("gone".into()),
            severity: 0.0,
        }),
        _ => Traffic::Open,
    };
    let workload = match pod.workload {
        0 => Workload::Bare,
        1 => Workload::StatefulSet,
        2 => Workload::DaemonSet,
        _ => Workload::Replaced,
    };
    let mut member = Member {
        ready: !pod.health.is_multiple_of(8),
        terminating: pod.health == 255,
        strikes: Strikes([(Arc::from("b0"), pod.strikes)].into()),
        ready_since: at(100 - i64::from(pod.health) * 3),
        workload,
        traffic,
        ..open(&name)
    };
    reach(&mut member, keyed);
    member
}

fn reach(member: &mut Member, keyed: bool) {
    member.reached = !keyed || matches!(member.traffic, Traffic::Open | Traffic::OpenedByHand(_));
}

fn breaker_of(index: usize, spec: &(u8, Floor, u8, u64, u64, u32), kills: u32) -> BreakerPolicy {
    let (detector, (count, percent), mode, period, range, retries) = spec;
    let detector = match detector {
        0 => crate::fixtures::custom(),
        1 => discrete(),
        _ => deviation(20.0),
    };
    let mode = match mode {
        0 => ActivatorMode::Periodic,
        1 => ActivatorMode::RetryAndKill,
        _ => ActivatorMode::RetryAndPause,
    };
    let activator = ActivatorPolicy {
        growth: Growth::Linear,
        max_period: Duration::from_secs(20),
        max_kills_per_hour: kills,
        ..ActivatorPolicy::new(mode, Duration::from_secs(*period), *retries)
    };
    BreakerPolicy {
        range: Duration::from_secs(*range),
        floor: FloorPolicy { count: *count, percent: *percent },
        activator,
        ..breaker(&format!("b{index}"), detector)
    }
}

/// Symptoms that a pod shows where it is bad; all others are fine or no evidence.
fn bad(symptom: u8) -> bool {
    matches!(symptom % 16, 3..=6)
}

/// The series that show `symptom`, as the breaker's query would give them.
fn series(pod: &str, symptom: u8, breaker: &BreakerPolicy) -> Vec<Row> {
    use crate::detector::Detector::{Custom, Deviation, Discrete, Outlier, Range};
    let (key, value) = match (&breaker.detector, bad(symptom)) {
        (Custom, false) => return Vec::new(),
        (Custom, true) => (None, 1.0),
        (Discrete(_), false) => (Some("fine"), 100.0),
        (Discrete(_), true) => (Some("bad"), 100.0 + f64::from(symptom)),
        (Deviation(_) | Outlier(_) | Range(_), false) => (None, 1.0),
        (Deviation(_) | Outlier(_) | Range(_), true) => (None, 2.0 + f64::from(symptom)),
    };
    let one = row(pod, key, value);
    match symptom % 16 {
        7 => Vec::new(),
        8 => vec![row(pod, key, f64::NAN)],
        9 => vec![row(pod, key, f64::INFINITY)],
        10 => vec![Row { reading: Reading::Histogram, ..one }],
        11 => vec![one.clone(), one],
        12 => vec![row(pod, key, -4.0)],
        13 => vec![Row { namespace: Some("elsewhere".into()), ..one }],
        _ => vec![one],
    }
}

impl World {
    pub(super) fn new(pods: &[Pod], policy: &Policy, run: Run) -> Self {
        let (max_cut_percent, per_period, kills) = policy.caps;
        let breakers = policy.breakers.iter().enumerate().map(|(i, b)| breaker_of(i, b, kills)).collect();
        let mut spec = policy_of(breakers);
        spec.limits.max_cut_percent = max_cut_percent;
        spec.limits.cuts_per_period = CutsPerPeriod::Count(per_period);
        spec.default_activator.max_period = Duration::from_secs(20);
        if policy.mode.is_multiple_of(4) {
            (spec.limits.max_anomalous_percent, spec.limits.min_coverage_percent) = (50, 60);
        }
        if policy.mode % 8 == 1 {
            spec.breakers.iter_mut().for_each(|b| b.confirm = Confirm::USUAL);
        }
        spec.mode = match policy.mode {
            0 => Mode::DryRun,
            1 => Mode::Disabled,
            _ => Mode::Active,
        };
        let keyed = policy.mode != 2;
        let stored = |(i, pod): (usize, &Pod)| {
            let member = member(i, pod, keyed);
            Stored { seen: member.clone(), real: member, flight: None }
        };
        Self {
            pods: pods.iter().enumerate().map(stored).collect(),
            policy: spec,
            keyed,
            run,
            memory: Memory::default(),
            kills: Vec::new(),
            now: now(100),
            born: pods.len(),
            sizes: Vec::new(),
            cuts: Vec::new(),
            killed: Vec::new(),
        }
    }

    /// One tick with everything that happens before and after it.
    pub(super) fn step(&mut self, step: &Step) -> Plan {
        self.now = self.now.after(Duration::from_secs(step.wait));
        if self.run == Run::Jumps && !self.sizes.is_empty() {
            self.now.wall = self.now.wall.saturating_add(jiff::SignedDuration::from_secs(step.wall)).unwrap();
        }
        if self.run == Run::Restarts && step.gate == 39 {
            self.memory = Memory::resumed(u32::try_from(self.capacity()).unwrap(), None, self.now);
            self.cuts.clear();
        }
        self.deliver();
        for (kind, index) in &step.chaos {
            self.disturb(*kind, *index);
        }
        let answers = self.answers(step);
        let gates = match step.gate {
            0 => vec![Gate::StaleView { resource: "pods" }],
            1 => vec![Gate::InvalidSpec],
            2 => vec![Gate::Conflict { with: "twin".into() }],
            3 => vec![Gate::DryRun],
            _ => Vec::new(),
        };
        let plan = self.tick(&answers, gates);
        self.judge(&plan, step);
        for (i, action) in plan.actions.iter().enumerate() {
            self.write(action, step.fates[i % step.fates.len()]);
        }
        plan
    }

    /// A tick in which nothing goes wrong, no source speaks and every gate is shut.
    pub(super) fn calm(&mut self) -> Plan {
        for pod in &mut self.pods {
            pod.flight = pod.flight.map(|(step, _)| (step, Duration::ZERO));
        }
        self.deliver();
        let plan = self.tick(&[], vec![Gate::InvalidSpec]);
        for action in &plan.actions {
            self.write(action, 0);
        }
        plan
    }

    fn tick(&mut self, answers: &[(Arc<str>, Option<Samples>)], mut gates: Vec<Gate>) -> Plan {
        if !self.keyed {
            gates.push(Gate::NotActivated);
        }
        self.pods.sort_by(|a, b| a.seen.name.cmp(&b.seen.name));
        self.sizes.push((self.now.mono, self.pods.len()));
        let view = |p: &Stored| Member { in_flight: p.flight.map(|(step, _)| step), ..p.seen.clone() };
        let fleet = fleet_of(self.pods.iter().map(view).collect());
        let answers: Vec<_> = answers
            .iter()
            .map(|(breaker, s)| Answer { breaker, asked: self.now.mono, samples: s.as_ref(), activity: None })
            .collect();
        let input = Input {
            fleet: &fleet,
            answers: &answers,
            policy: &self.policy,
            gates: &gates,
            kills: &self.kills,
            now: self.now,
            seed: 23,
        };
        let plan = tick(&input, &mut self.memory);
        let spends = plan.actions.iter().any(|a| a.what.step().spends());
        assert!(gates.is_empty() || !spends, "{gates:?} held nothing");
        plan
    }

    fn deliver(&mut self) {
        for pod in &mut self.pods {
            if pod.flight.is_some_and(|(_, until)| until <= self.now.mono) {
                pod.seen = pod.real.clone();
                pod.flight = None;
            }
        }
    }

    /// Somebody else acts; the watch shows it at once.
    fn disturb(&mut self, kind: u8, index: usize) {
        let (stamp, keyed) = (self.server_time(), self.keyed);
        if kind == 0 {
            self.born += 1;
            let fresh = Member { ready_since: stamp, ..open(&format!("pod-{:02}", self.born)) };
            self.pods.push(Stored { seen: fresh.clone(), real: fresh, flight: None });
            return;
        }
        if self.pods.is_empty() {
            return;
        }
        let index = index % self.pods.len();
        if kind == 1 {
            self.pods.remove(index);
            return;
        }
        let pod = &mut self.pods[index];
        let settled = pod.flight.is_none();
        for member in [&mut pod.seen, &mut pod.real] {
            let cut = cut_by("x", "b0", 1, 90, 130).1;
            match kind {
                2 | 3 => (member.ready, member.ready_since) = (!member.ready, stamp),
                4 => member.terminating = true,
                5 if settled => member.traffic = Traffic::Odd,
                6 if settled => member.traffic = Traffic::CutByHand,
                7 if settled => member.traffic = Traffic::OpenedByHand(cut),
                8 if settled => member.traffic = Traffic::Open,
                _ => {}
            }
            reach(member, keyed);
        }
    }

    /// The API server's clock, which nobody moves.
    fn server_time(&self) -> jiff::Timestamp {
        crate::add(at(0), self.now.mono)
    }

    fn answers(&self, step: &Step) -> Vec<(Arc<str>, Option<Samples>)> {
        let answer = |(breaker, symptoms): (&BreakerPolicy, &Vec<u8>)| {
            let rows = self
                .pods
                .iter()
                .enumerate()
                .flat_map(|(i, pod)| series(&pod.seen.name, symptoms[i % symptoms.len()], breaker));
            let samples = Samples::new(rows.collect(), doubtful(symptoms));
            (Arc::clone(&breaker.name), (!failed(symptoms)).then_some(samples))
        };
        self.policy.breakers.iter().zip(&step.answers).map(answer).collect()
    }

    fn write(&mut self, action: &Action, fate: u8) {
        let (step, now, keyed) = (action.what.step(), self.now, self.keyed);
        if step == Move::Evict {
            // The record is written first, whatever becomes of the eviction.
            self.kills.retain(|k| k.uid != action.uid);
            self.kills.push(Kill { uid: Arc::clone(&action.uid), at: now.wall });
            self.killed.push((Arc::clone(&action.uid), now.mono));
        }
        let Some(pod) = self.pods.iter_mut().find(|p| p.real.uid == action.uid) else { return };
        if fate >= 224 {
            return self.memory.record(&action.uid, step, false, now);
        }
        // Lost on the way, or carried out while the answer is lost: both look the same from here.
        let (done, told) = (fate < 192, fate < 128);
        if done {
            apply(&mut pod.real, &action.what, now);
            reach(&mut pod.real, keyed);
        }
        if told {
            self.memory.record(&action.uid, step, true, now);
        }
        pod.flight = Some((step, now.mono + Duration::from_secs(u64::from(fate % 4) * 3)));
        if step == Move::Cut && done {
            self.cuts.push((Arc::clone(&action.uid), now.mono));
        }
        self.deliver();
    }

    /// The largest size of the last five minutes.
    fn capacity(&self) -> usize {
        let counts =
            |i: &usize| self.sizes.get(i + 1).is_none_or(|(next, _)| *next + CAPACITY_MEMORY > self.now.mono);
        (0..self.sizes.len()).filter(counts).map(|i| self.sizes[i].1).max().unwrap_or(0)
    }

    fn floor(&self) -> usize {
        let n = self.capacity();
        let of = |b: &BreakerPolicy| {
            let percent = usize::try_from(b.floor.percent.unwrap_or(0)).unwrap();
            let ratio = (0..=n).find(|f| f * 100 >= n * percent).unwrap();
            ratio.max(usize::try_from(b.floor.count.unwrap_or(1)).unwrap()).max(1)
        };
        self.policy.breakers.iter().map(of).max().unwrap()
    }

    /// Pods that certainly serve: as seen, less every write of ours that may have been carried out.
    fn serving(&self, spent: &BTreeSet<&Arc<str>>) -> usize {
        let serves = |m: &Member| m.ready && !m.terminating && m.reached;
        let flying = |p: &Stored| p.flight.is_some_and(|(step, _)| step.spends());
        let counts = |p: &&Stored| serves(&p.seen) && !flying(p) && !spent.contains(&p.seen.uid);
        let sure = self.pods.iter().filter(counts).count();
        let real = self.pods.iter().filter(|p| serves(&p.real) && !spent.contains(&p.real.uid)).count();
        assert!(real >= sure, "the model counts a pod that does not serve");
        sure
    }

    fn judge(&mut self, plan: &Plan, step: &Step) {
        let acted: BTreeSet<_> = plan.actions.iter().map(|a| &a.uid).collect();
        assert_eq!(acted.len(), plan.actions.len(), "two acts for one pod");
        let spent: BTreeSet<_> =
            plan.actions.iter().filter(|a| a.what.step().spends()).map(|a| &a.uid).collect();
        if !spent.is_empty() {
            assert_eq!(self.policy.mode, Mode::Active);
            assert!(self.serving(&spent) >= self.floor(), "{} below {}", self.serving(&spent), self.floor());
        }
        let cuts: Vec<_> = plan.actions.iter().filter(|a| a.what.step() == Move::Cut).collect();
        if !cuts.is_empty() {
            self.judge_caps(cuts.len());
        }
        for action in &plan.actions {
            let pod = self.pods.iter().position(|p| p.seen.uid == action.uid).unwrap();
            assert!(self.pods[pod].flight.is_none(), "an act on a pod with a write under way");
            match &action.what {
                What::Cut(order) => self.judge_cut(pod, &order.breaker, step),
                What::Restore { .. } => assert!(matches!(self.pods[pod].seen.traffic, Traffic::Cut(_))),
                What::Forgive(left) => {
                    let seen = &self.pods[pod].seen;
                    assert!(left.total() < seen.strikes.total() && seen.traffic == Traffic::Open);
                }
                What::KeepOut => panic!("nobody asked for it"),
                What::Pause { .. } | What::Evict { .. } => self.judge_ladder(pod, action, step),
            }
        }
    }

    fn judge_caps(&self, cuts: usize) {
        let marked = |t: &Traffic| matches!(t, Traffic::Cut(_) | Traffic::CutByHand | Traffic::Paused);
        let flying = |p: &Stored| p.flight.is_some_and(|(step, _)| step.spends());
        let out = self.pods.iter().filter(|p| marked(&p.seen.traffic) || flying(p)).count() + cuts;
        let percent = usize::try_from(self.policy.limits.max_cut_percent).unwrap();
        assert!(out * 100 <= self.pods.len() * percent, "{out} out of {}", self.pods.len());
        let recent = |since: &&(Arc<str>, Duration)| since.1 + self.policy.cut_window() > self.now.mono;
        let recent = self.cuts.iter().filter(recent).count() + cuts;
        let CutsPerPeriod::Count(most) = self.policy.limits.cuts_per_period else {
            panic!("not of this model")
        };
        assert!(recent <= usize::try_from(most).unwrap(), "{recent} cuts in one period");
    }

    fn judge_cut(&self, pod: usize, name: &str, step: &Step) {
        let index = self.policy.breakers.iter().position(|b| &*b.name == name).unwrap();
        let (breaker, symptoms) = (&self.policy.breakers[index], &step.answers[index]);
        let seen = &self.pods[pod].seen;
        assert!(bad(symptoms[pod % symptoms.len()]), "{} was cut without evidence", seen.name);
        assert!(!failed(symptoms) && !doubtful(symptoms), "a cut on an answer that is none");
        assert!(large_enough(u32::try_from(self.pods.len()).unwrap(), breaker));
        assert!(matches!(seen.traffic, Traffic::Open | Traffic::OpenedByHand(_)));
        let young = self.server_time().duration_since(seen.ready_since) < jiff::SignedDuration::from_secs(30);
        assert!(!breaker.detector.relative() || !young, "{} is too young to be compared", seen.name);
    }

    fn judge_ladder(&self, pod: usize, action: &Action, step: &Step) {
        let seen = &self.pods[pod].seen;
        let Traffic::Cut(Cut { breaker: Some(name), .. }) = &seen.traffic else {
            panic!("not cut by a breaker")
        };
        let index = self.policy.breakers.iter().position(|b| b.name == *name).unwrap();
        let activator = &self.policy.breakers[index].activator;
        assert!(seen.strikes.total() > activator.max_retry_count, "{} had a retry left", seen.name);
        assert_ne!(activator.mode, ActivatorMode::Periodic);
        assert!(!step.answers.get(index).is_some_and(|s| failed(s)), "no source, no kill");
        if action.what.step() == Move::Evict {
            assert_eq!(seen.workload, Workload::Replaced);
            let hour = |k: &&(Arc<str>, Duration)| k.1 + Duration::from_hours(1) > self.now.mono;
            let mut uids: BTreeSet<_> = self.killed.iter().filter(hour).map(|k| &k.0).collect();
            uids.insert(&action.uid);
            assert!(uids.len() <= usize::try_from(activator.max_kills_per_hour).unwrap(), "{uids:?} killed");
        }
    }

    /// Who gets what, without the wall times.
    pub(super) fn acts(plan: &Plan) -> Vec<(Arc<str>, Move)> {
        plan.actions.iter().map(|a| (Arc::clone(&a.pod), a.what.step())).collect()
    }

    /// With the time that a held ladder may add.
    pub(super) fn longest_cut(&self) -> Duration {
        let of = |b: &BreakerPolicy| longest(&b.activator, b.shortest_cut()) + b.activator.max_period;
        let default = self.policy.default_activator;
        self.policy.breakers.iter().map(of).max().unwrap().max(longest(&default, Duration::ZERO))
    }

    /// The time that the last of many waits for its slot: three rounds before it, and one of those that came earlier.
    pub(super) fn longest_queue(&self) -> Duration {
        (self.policy.longest_range() + Duration::from_mins(2)) * 4
    }

    pub(super) fn timed_cuts(&self) -> Vec<String> {
        let timed = |p: &&Stored| matches!(p.real.traffic, Traffic::Cut(_)) && !p.real.terminating;
        self.pods.iter().filter(timed).map(|p| p.real.name.to_string()).collect()
    }
}

fn failed(symptoms: &[u8]) -> bool {
    symptoms[0] >= 240
}

fn doubtful(symptoms: &[u8]) -> bool {
    symptoms[0] >= 224
}
