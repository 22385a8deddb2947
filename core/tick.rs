//! One tick: everything known of one service to a plan.
//!
//! Takes the fleet, the answers that have just come, the policy, the gates and the time; gives a [`Plan`]. Order:
//! repair of the floor, relief, wishes, what is due (`tick/returns.rs`), cuts, forgiveness (`tick/cuts.rs`), on what
//! `tick/judging.rs` made of the answers. Writes nothing: `kubervisor::cluster::apply` does, and tests the floor again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::Now;
use crate::breaker::Proposal;
use crate::budget::{Budget, Limit, floor, inert};
use crate::elsewhere::Elsewhere;
use crate::fleet::{Member, Wish};
use crate::gates::Gate;
pub use crate::input::{Answer, Input};
use crate::memory::Memory;
use crate::plan::{Action, BreakerReport, Plan, Refusal, Remark, Report, What, Why};
use crate::policy::{BreakerPolicy, Mode};
use crate::traffic::{Cut, Move, Traffic};
use crate::verdict::Evidence;

mod cuts;
mod judging;
mod returns;

/// Evictions are counted over this time.
const KILL_WINDOW: Duration = Duration::from_hours(1);
/// A member that was never Ready counts for the repair of the floor only when it is this old: a fleet that grows
/// under load must not get its bad pods back because the new ones are not up yet.
const NEWBORN: Duration = Duration::from_mins(10);

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
    let (judged, mut remarks) = judging::judge_all(input, memory);
    judging::look_out(input, memory);
    if !judged.is_empty() {
        remarks.extend(judging::suspected(input, memory));
    }
    let mut draft = Draft::new(input, budget, judging::gates_of(input, memory));
    draft.repair(memory);
    draft.relieve(memory);
    draft.wishes(memory);
    draft.due(memory);
    draft.cuts(memory, &judged);
    draft.forgive(memory);
    let plan = draft.finish(memory, remarks);
    check(input, size, &plan);
    plan
}

/// A plan being made. Members are taken once; the budget is spent one by one.
struct Draft<'a> {
    input: &'a Input<'a>,
    budget: Budget,
    elsewhere: Elsewhere<'a>,
    gates: Vec<Gate>,
    taken: BTreeSet<Arc<str>>,
    actions: Vec<Action>,
    refusals: Vec<Refusal>,
    evictions: u32,
    pauses: u32,
}

impl<'a> Draft<'a> {
    fn new(input: &'a Input<'a>, budget: Budget, gates: Vec<Gate>) -> Self {
        Self {
            input,
            budget,
            elsewhere: Elsewhere::of(input.fleet, &input.policy.limits),
            gates,
            taken: BTreeSet::new(),
            actions: Vec::new(),
            refusals: Vec::new(),
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

    fn finish(self, memory: &mut Memory, remarks: Vec<Remark>) -> Plan {
        // A write under way, or a pod that goes, is no date: the fleet's next change is.
        let waiting =
            self.timed_cuts().filter(|(m, _)| !self.taken.contains(&m.uid) && m.wish != Some(Wish::Cut));
        let due = waiting.filter_map(|(m, _)| memory.pod(m).due_at());
        // A due pod that stays (its eviction is held) is looked at again a second later, not at once.
        let soonest = self.input.now.mono.saturating_add(Duration::from_secs(1));
        let next_due = due.map(|due| due.max(soonest)).min();
        let Self { input, budget, gates, actions, refusals, .. } = self;
        for (name, breaker) in &mut memory.breakers {
            // Between two answers nothing is wanted; that is not the same as nothing being refused.
            if input.answers.iter().any(|a| a.breaker == &**name) {
                let floor = |r: &Refusal| matches!(r.why, Why::Limit(Limit::Floor, _));
                let own = |r: &&Refusal| r.breaker.as_deref() == Some(&**name);
                breaker.floor_reached = refusals.iter().filter(own).any(floor);
            }
        }
        let report = report(input, memory, &actions, budget, gates, remarks);
        Plan { actions, refusals, report, next_due }
    }
}

/// What holds now, and the sums before anything is spent.
pub(crate) fn standing(input: &Input<'_>, memory: &Memory) -> (Vec<Gate>, Budget) {
    let budget = Budget::of(input.fleet, input.policy, memory.capacity.size(), memory.recent_cuts(input));
    (judging::gates_of(input, memory), budget)
}

/// What would refuse a cut of this member now, were this breaker sure of it.
pub(crate) fn held<'a>(
    input: &'a Input<'a>,
    memory: &Memory,
    (gates, budget): (&[Gate], Budget),
    (member, breaker): (&'a Member, &'a BreakerPolicy),
) -> Option<Why> {
    let mut draft = Draft::new(input, budget, gates.to_vec());
    let sure = Proposal { member, breaker, severity: 1.0, evidence: Evidence::Named, unconfirmed: None };
    draft.refusal(memory, &sure)
}

fn allowed(memory: &Memory, member: &Member, now: Now) -> bool {
    memory.pod(member).not_before <= now.mono
}

fn report(
    input: &Input<'_>,
    memory: &Memory,
    actions: &[Action],
    budget: Budget,
    gates: Vec<Gate>,
    remarks: Vec<Remark>,
) -> Report {
    let fleet = input.fleet;
    let of = |name: &Arc<str>| match memory.breakers.get(name) {
        Some(known) => known.report.clone(),
        None => BreakerReport { name: Arc::clone(name), unknown: fleet.size(), ..BreakerReport::default() },
    };
    // As the budget counts them: a reader must find every member that is not serving somewhere.
    let planned: BTreeSet<_> =
        actions.iter().filter(|a| a.what.step() == Move::Cut).map(|a| &a.uid).collect();
    let cut = |m: &Member| {
        matches!(m.traffic, Traffic::Cut(_) | Traffic::KeptOut | Traffic::CutByHand)
            || m.in_flight == Some(Move::Cut)
            || planned.contains(&m.uid)
    };
    Report {
        members: fleet.size(),
        budget,
        cut: fleet.count(cut),
        paused: fleet.count(|m| m.traffic == Traffic::Paused),
        not_ready: fleet.count(|m| !m.ready),
        unknown: fleet.count(|m| matches!(m.traffic, Traffic::Odd | Traffic::Unlabelled)),
        breakers: input.policy.breakers.iter().map(|b| of(&b.name)).collect(),
        gates,
        floor_reached: memory.breakers.values().any(|known| known.floor_reached),
        inert: inert(input.policy, fleet.size()),
        remarks,
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
        assert!(member.is_some_and(|m| m.may(step)), "a plan has a {} that is not drawn", step.as_str());
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
