//! One tick: everything known of one service to a plan.
//!
//! Takes the fleet, the answers that have just come, the policy, the gates and the time; gives a [`Plan`]. Order:
//! repair of the floor, what is due, cuts. Writes nothing: `kubervisor::cluster::apply` does, and tests the floor
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::Now;
use crate::activator::{Step, activator_of, step};
use crate::backoff::cut_time;
use crate::breaker::{Judged, Proposal, propose};
use crate::budget::{Budget, Limit, floor, large_enough};
use crate::detector::{Asked, judge};
use crate::fleet::{Fleet, Member, Workload};
use crate::gates::{Gate, first};
use crate::memory::Memory;
use crate::plan::{
    Action, BreakerReport, CutOrder, Kill, Plan, Refusal, Report, RestoreReason, WOULD_CUT_MAX, What, Why,
};
use crate::policy::{Mode, ServicePolicy};
use crate::sample::Samples;
use crate::traffic::{Cut, Move, Traffic};
use crate::verdict::Verdict;

/// Evictions are counted over this time.
const KILL_WINDOW: Duration = Duration::from_hours(1);
/// A member that was never Ready counts for the repair of the floor only when it is this old: a fleet that grows
/// under load must not get its bad pods back because the new ones are not up yet.
const NEWBORN: Duration = Duration::from_mins(10);

/// Everything that a tick looks at.
#[derive(Debug)]
pub struct Input<'a> {
    /// All pods of the service, our writes in flight included.
    pub fleet: &'a Fleet,
    /// Breakers that have been answered since the last tick.
    pub answers: &'a [Answer<'a>],
    /// The last valid spec.
    pub policy: &'a ServicePolicy,
    /// Reasons to hold, of the service.
    pub gates: &'a [Gate],
    /// Evictions stored in the status.
    pub kills: &'a [Kill],
    /// The instant.
    pub now: Now,
    /// For jitter; the same over restarts.
    pub seed: u64,
}

/// What came back for one breaker.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its name.
    pub breaker: &'a str,
    /// The samples, or `None` where the source failed.
    pub samples: Option<&'a Samples>,
    /// Activity, where the detector asks for it.
    pub activity: Option<&'a Samples>,
}

/// Decides one tick.
///
/// # Panics
/// If the plan breaks its own post-conditions: a floor that would not hold, or two actions for one pod. Nothing
/// has been written then, and going on would be worse.
#[must_use]
pub fn tick(input: &Input<'_>, memory: &mut Memory) -> Plan {
    memory.observe(input);
    let size = memory.capacity.size();
    let budget = Budget::of(input.fleet, input.policy, size, memory.recent_cuts(input));
    let judged = judge_all(input, memory);
    let mut draft = Draft::new(input, budget, gates_of(input, memory));
    draft.repair(memory);
    draft.due(memory);
    draft.cuts(memory, &judged);
    let plan = draft.finish(memory);
    check(input, size, &plan);
    plan
}

fn judge_all<'a>(input: &Input<'a>, memory: &mut Memory) -> Vec<Judged<'a>> {
    let mut judged = Vec::new();
    for breaker in &input.policy.breakers {
        let Some(answer) = input.answers.iter().find(|a| a.breaker == &*breaker.name) else { continue };
        let Memory { breakers, pods, .. } = memory;
        let known = breakers.entry(Arc::clone(&breaker.name)).or_default();
        let Some(samples) = answer.samples else {
            known.blind = true;
            known.report = BreakerReport { name: Arc::clone(&breaker.name), ..BreakerReport::default() };
            known.report.unknown = input.fleet.size();
            continue;
        };
        let window = breaker.range.saturating_add(breaker.scrape_interval);
        let old_enough = input.policy.limits.min_pod_age.max(window);
        let warm = |m: &Member| {
            m.ready && pods.get(&m.uid).is_some_and(|p| p.ready_for(input.now.mono) >= old_enough)
        };
        let measures = judge(input.fleet, Asked { samples, activity: answer.activity }, breaker, &warm);
        let verdicts: Vec<_> = measures.into_iter().map(|m| Verdict::of(m, false)).collect();
        known.note(breaker.name.clone(), &verdicts);
        judged.push(Judged { breaker, verdicts });
    }
    judged
}

fn gates_of(input: &Input<'_>, memory: &Memory) -> Vec<Gate> {
    let mut gates = input.gates.to_vec();
    if input.policy.mode == Mode::DryRun && !gates.contains(&Gate::DryRun) {
        gates.push(Gate::DryRun);
    }
    let blind = memory.breakers.iter().filter(|(_, b)| b.blind);
    gates.extend(blind.map(|(name, _)| Gate::Blind { breaker: Arc::clone(name) }));
    gates
}

/// A plan being made. Members are taken once; the budget is spent one by one.
struct Draft<'a> {
    input: &'a Input<'a>,
    budget: Budget,
    gates: Vec<Gate>,
    taken: BTreeSet<Arc<str>>,
    actions: Vec<Action>,
    refusals: Vec<Refusal>,
    would_cut: BTreeMap<Arc<str>, Vec<Arc<str>>>,
    evictions: u32,
    pauses: u32,
}

impl<'a> Draft<'a> {
    fn new(input: &'a Input<'a>, budget: Budget, gates: Vec<Gate>) -> Self {
        Self {
            input,
            budget,
            gates,
            taken: BTreeSet::new(),
            actions: Vec::new(),
            refusals: Vec::new(),
            would_cut: BTreeMap::new(),
            evictions: 0,
            pauses: 0,
        }
    }

    fn act(&mut self, member: &Member, what: What) {
        self.taken.insert(Arc::clone(&member.uid));
        self.actions.push(Action {
            pod: Arc::clone(&member.name),
            uid: Arc::clone(&member.uid),
            resource_version: member.resource_version,
            what,
        });
    }

    fn refuse(&mut self, member: &Member, step: Move, breaker: Option<Arc<str>>, why: Why) {
        self.refusals.push(Refusal { pod: Arc::clone(&member.name), step, breaker, why });
    }

    /// Ours to bring back now: a timed cut with no write under way.
    fn timed_cuts(&self) -> impl Iterator<Item = (&'a Member, &'a Cut)> + use<'a> {
        self.input.fleet.members.iter().filter_map(|m| match &m.traffic {
            Traffic::Cut(cut) if m.in_flight.is_none() && !m.terminating => Some((m, cut)),
            _ => None,
        })
    }

    /// 1. Fewer serve than the floor, through a crash, a drain or a scale-in: Ready cut pods go back, those with
    ///    the fewest strikes first.
    fn repair(&mut self, memory: &Memory) {
        let Input { fleet, policy, now, .. } = self.input;
        let grown = |m: &Member| memory.pod(m).been_ready || memory.pod(m).ready_for(now.mono) >= NEWBORN;
        let wanted = floor(policy, fleet.count(grown)).min(self.budget.floor);
        let coming = |m: &Member| m.ready && !m.terminating && m.in_flight == Some(Move::Restore);
        let coming = fleet.count(|m| coming(m) && !m.serving());
        let missing = wanted.saturating_sub(self.budget.serving).saturating_sub(coming);
        let mut back: Vec<_> =
            self.timed_cuts().filter(|(m, _)| m.ready && allowed(memory, m, *now)).collect();
        back.sort_by_key(|(m, _)| (m.strikes.total(), memory.pod(m).due_at(), Arc::clone(&m.name)));
        for (member, _) in back.into_iter().take(missing as usize) {
            self.act(member, What::Restore(RestoreReason::FloorRepair));
        }
    }

    /// 2. Pods whose time is over: back, or up the ladder.
    fn due(&mut self, memory: &Memory) {
        let now = self.input.now;
        let mut due: Vec<_> = self
            .timed_cuts()
            .filter(|(m, _)| !self.taken.contains(&m.uid))
            .filter_map(|(m, cut)| Some((memory.pod(m).due_at()?, m, cut)))
            .filter(|(at, _, _)| *at <= now.mono)
            .collect();
        due.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        for (_, member, cut) in due {
            self.end(memory, member, cut);
        }
    }

    fn end(&mut self, memory: &Memory, member: &Member, cut: &Cut) {
        let paused =
            self.input.fleet.count(|m| m.traffic == Traffic::Paused || m.in_flight == Some(Move::Pause));
        let wanted = match step(self.input.policy, member, cut, paused + self.pauses) {
            Step::Restore => return self.act(member, What::Restore(RestoreReason::Due)),
            Step::Pause => Move::Pause,
            Step::Evict => Move::Evict,
        };
        if !self.enforces() {
            return self.act(member, What::Restore(RestoreReason::Due));
        }
        let why = self.ladder_refusal(memory, member, cut, wanted);
        let (activator, _) = activator_of(self.input.policy, cut);
        let waited = |(_, due): (_, Duration)| self.input.now.mono.saturating_sub(due);
        // Held, or refused by the API server again and again: it waits, but not for ever.
        let overdue = memory.pod(member).due.map(waited).is_some_and(|waited| waited >= activator.max_period);
        // What nobody will ever evict goes on being tried.
        if overdue || matches!(why, Some(Why::NotReplaced(_))) {
            self.act(member, What::Restore(RestoreReason::LadderHeld));
        } else if why.is_none() {
            self.climb(member, cut, wanted);
        }
        if let Some(why) = why {
            self.refuse(member, wanted, cut.breaker.clone(), why);
        }
    }

    /// Whether steps are carried out. What is not enforced climbs no ladder: it is only given back.
    fn enforces(&self) -> bool {
        self.input.policy.mode == Mode::Active && !self.gates.contains(&Gate::DryRun)
    }

    fn climb(&mut self, member: &Member, cut: &Cut, wanted: Move) {
        let (breaker, strikes) = (cut.breaker.clone(), member.strikes.total());
        self.budget.serving -= u32::from(member.serving());
        if wanted == Move::Pause {
            self.pauses += 1;
            self.act(member, What::Pause { breaker, strikes });
        } else {
            self.evictions += 1;
            self.act(member, What::Evict { breaker, strikes });
        }
    }

    fn ladder_refusal(&self, memory: &Memory, member: &Member, cut: &Cut, wanted: Move) -> Option<Why> {
        let breaker = cut.breaker.as_deref().unwrap_or_default();
        if let Some(gate) = first(&self.gates, breaker) {
            return Some(Why::Gate(gate.clone()));
        }
        // After a restart nobody knows yet whether the source is there: no evidence, no kill.
        if !memory.breakers.contains_key(breaker) {
            return Some(Why::Gate(Gate::Blind { breaker: breaker.into() }));
        }
        // A cut pod serves only where the Service does not hold the key; then it is counted as a loss.
        if self.budget.serving < self.budget.floor.saturating_add(u32::from(member.serving())) {
            return Some(Why::BelowFloor);
        }
        if wanted == Move::Pause { None } else { self.kill_refusal(memory, member, cut) }
    }

    fn kill_refusal(&self, memory: &Memory, member: &Member, cut: &Cut) -> Option<Why> {
        let Input { fleet, policy, kills, now, .. } = self.input;
        if member.workload != Workload::Replaced {
            return Some(Why::NotReplaced(member.workload));
        }
        let (activator, _) = activator_of(policy, cut);
        let recent = memory.recent_kills(&member.uid, KILL_WINDOW, now.mono);
        if recent.saturating_add(self.evictions) >= activator.max_kills_per_hour {
            return Some(Why::KillCap(activator.max_kills_per_hour));
        }
        let killed = |m: &Member| kills.iter().any(|k| k.uid == m.uid);
        let leaving = |m: &Member| m.in_flight == Some(Move::Evict) || (m.terminating && killed(m));
        (self.evictions > 0 || fleet.members.iter().any(leaving)).then_some(Why::KillInFlight)
    }

    /// 3. Cuts, worst first, as far as the budget goes.
    fn cuts(&mut self, memory: &mut Memory, judged: &[Judged<'a>]) {
        if self.input.policy.mode == Mode::Disabled {
            return;
        }
        for proposal in propose(self.input.fleet, judged) {
            if self.taken.contains(&proposal.member.uid) {
                continue;
            }
            match self.cut_refusal(memory, &proposal) {
                None => {
                    memory.plan_cut(&proposal.member.uid, self.input.now);
                    let order = self.order(&proposal);
                    self.act(proposal.member, What::Cut(order));
                }
                Some(why) => {
                    self.refuse(proposal.member, Move::Cut, Some(Arc::clone(&proposal.breaker.name)), why);
                }
            }
        }
    }

    /// Spends the budget where nothing else forbids the cut. A dry run spends it too, so that it shows what would
    /// be done and not what every pod deserves; that the Service does not hold the key yet is no obstacle to it.
    fn cut_refusal(&mut self, memory: &Memory, proposal: &Proposal<'a>) -> Option<Why> {
        let (member, breaker) = (proposal.member, proposal.breaker);
        let dry = self.gates.contains(&Gate::DryRun);
        let passed = |g: &Gate| dry && matches!(g, Gate::DryRun | Gate::NotActivated);
        if let Some(gate) = self.gates.iter().find(|g| !passed(g) && g.holds(&breaker.name)) {
            return Some(Why::Gate(gate.clone()));
        }
        // The pods that are there now: capacity of five minutes ago is nobody to take over.
        let present = self.budget.size.min(self.input.fleet.size());
        if !large_enough(present, breaker) {
            return Some(Why::FleetTooSmall(present));
        }
        let pod = memory.pod(member);
        if member.in_flight.is_some() {
            return Some(Why::InFlight);
        }
        if pod.quiet_until.is_some_and(|until| until > self.input.now.mono) {
            return Some(Why::Quiet);
        }
        if !allowed(memory, member, self.input.now) {
            return Some(Why::HoldOff);
        }
        if let Err(limit) = self.budget.spend() {
            return Some(Why::Limit(limit, self.budget));
        }
        if dry {
            self.would_cut.entry(Arc::clone(&breaker.name)).or_default().push(Arc::clone(&member.name));
            return Some(Why::Gate(Gate::DryRun));
        }
        None
    }

    fn order(&self, proposal: &Proposal<'a>) -> CutOrder {
        let Proposal { member, breaker, severity, evidence } = *proposal;
        let strikes = member.strikes.plus_one(&breaker.name);
        let k = strikes.of(&breaker.name);
        let time = cut_time(&breaker.activator, breaker.shortest_cut(), k, self.input.seed, &member.uid);
        let at = self.input.now.wall;
        CutOrder {
            breaker: Arc::clone(&breaker.name),
            evidence,
            severity,
            strikes,
            at,
            restore_at: crate::add(at, time),
            budget: self.budget,
        }
    }

    fn finish(self, memory: &mut Memory) -> Plan {
        // A write under way, or a pod that goes, is no date: the fleet's next change is.
        let waiting = self.timed_cuts().filter(|(m, _)| !self.taken.contains(&m.uid));
        let due = waiting.filter_map(|(m, _)| memory.pod(m).due_at());
        // A due pod that stays (its eviction is held) is looked at again a second later, not at once.
        let soonest = self.input.now.mono.saturating_add(Duration::from_secs(1));
        let next_due = due.map(|due| due.max(soonest)).min();
        let Self { input, budget, gates, actions, refusals, mut would_cut, .. } = self;
        for (name, breaker) in &mut memory.breakers {
            let mut pods = would_cut.remove(name).unwrap_or_default();
            pods.truncate(WOULD_CUT_MAX);
            // Between two answers nothing is wanted; that is not the same as nothing being refused.
            if input.answers.iter().any(|a| a.breaker == &**name) {
                breaker.report.would_cut = pods;
                let floor = |r: &Refusal| matches!(r.why, Why::Limit(Limit::Floor, _));
                let own = |r: &&Refusal| r.breaker.as_deref() == Some(&**name);
                breaker.floor_reached = refusals.iter().filter(own).any(floor);
            }
        }
        let floor_reached = memory.breakers.values().any(|b| b.floor_reached);
        let report = report(input, memory, budget, gates, floor_reached);
        Plan { actions, refusals, report, next_due }
    }
}

fn allowed(memory: &Memory, member: &Member, now: Now) -> bool {
    memory.pod(member).not_before <= now.mono
}

fn report(
    input: &Input<'_>,
    memory: &Memory,
    budget: Budget,
    gates: Vec<Gate>,
    floor_reached: bool,
) -> Report {
    let fleet = input.fleet;
    let of = |name: &Arc<str>| match memory.breakers.get(name) {
        Some(known) => known.report.clone(),
        None => BreakerReport { name: Arc::clone(name), unknown: fleet.size(), ..BreakerReport::default() },
    };
    Report {
        members: fleet.size(),
        budget,
        cut: fleet.count(|m| matches!(m.traffic, Traffic::Cut(_) | Traffic::CutByHand)),
        paused: fleet.count(|m| m.traffic == Traffic::Paused),
        not_ready: fleet.count(|m| !m.ready),
        unknown: fleet.count(|m| matches!(m.traffic, Traffic::Odd | Traffic::Unlabelled)),
        breakers: input.policy.breakers.iter().map(|b| of(&b.name)).collect(),
        gates,
        floor_reached,
    }
}

/// The post-conditions of a plan, over sums made anew from the fleet.
fn check(input: &Input<'_>, size: u32, plan: &Plan) {
    let fleet = input.fleet;
    let acted: BTreeSet<_> = plan.actions.iter().map(|a| &a.uid).collect();
    assert_eq!(acted.len(), plan.actions.len(), "a plan has two actions for one pod");
    let (mut spent, mut lost, mut cuts) = (0_u32, 0_u32, 0_u32);
    for action in &plan.actions {
        let step = action.what.step();
        let member = fleet.member(&action.uid);
        assert!(
            member.is_some_and(|m| m.traffic.allows(step)),
            "a plan has a {} that is not drawn",
            step.as_str()
        );
        cuts += u32::from(step == Move::Cut);
        spent += u32::from(step.spends());
        lost += u32::from(step.spends() && member.is_some_and(Member::serving));
    }
    let serving = fleet.count(Member::serving).saturating_sub(lost);
    assert!(
        spent == 0 || serving >= floor(input.policy, size),
        "a plan leaves {serving} serving, below the floor"
    );
    assert!(spent == 0 || input.policy.mode == Mode::Active, "a plan takes traffic away outside mode Active");
    let out = fleet.count(Member::out) + cuts;
    let max_out = Budget::of(fleet, input.policy, size, 0).max_out;
    assert!(cuts == 0 || out <= max_out, "a plan has {out} out, above maxCutRatio");
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
