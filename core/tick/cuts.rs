//! Cuts, worst first, as far as every limit goes; and strikes that are forgiven.

use std::sync::Arc;

use super::{Draft, allowed, judging};
use crate::backoff::cut_time;
use crate::breaker::{Judged, Proposal, propose};
use crate::budget::large_enough;
use crate::fleet::{Member, Wish};
use crate::gates::Gate;
use crate::memory::Memory;
use crate::plan::{CutOrder, What, Why};
use crate::policy::{BreakerPolicy, Mode};
use crate::suspects::rolled_out;
use crate::traffic::{Move, Traffic};

/// Answered ticks with room before a pod that came back for the floor is cut again.
const ROOMY: u8 = 2;

impl<'a> Draft<'a> {
    /// 5. Cuts that people ask for, then those that the evidence asks for.
    pub(super) fn cuts(&mut self, memory: &mut Memory, judged: &[Judged<'a>]) {
        if self.input.policy.mode != Mode::Active {
            return;
        }
        if !judged.is_empty() {
            let room = self.budget.headroom().0 > 0;
            memory.roomy = if room { memory.roomy.saturating_add(1) } else { 0 };
        }
        self.keep_out(memory);
        // What the brake alone holds is counted as far as every limit goes, and nothing of it is spent.
        let before = self.brake().map(|_| (self.budget, self.elsewhere.clone()));
        for proposal in propose(self.input.fleet, judged) {
            if self.taken.contains(&proposal.member.uid) {
                continue;
            }
            match self.refusal(memory, &proposal) {
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
        if let Some((budget, elsewhere)) = before {
            (self.budget, self.elsewhere) = (budget, elsewhere);
        }
    }

    /// The brake over all services, where it holds. It is named last: what this service's own limits forbid is not
    /// wanted of it, or one service in a storm would keep it closed for all.
    fn brake(&self) -> Option<&Gate> {
        self.gates.iter().find(|gate| matches!(gate, Gate::ClusterStorm { .. }))
    }

    fn keep_out(&mut self, memory: &mut Memory) {
        let wanted = |m: &&Member| m.wish == Some(Wish::Cut) && m.traffic == Traffic::Open && m.serving();
        let wanted: Vec<_> = self.input.fleet.members.iter().filter(wanted).collect();
        for member in wanted {
            if self.taken.contains(&member.uid) {
                continue;
            }
            let gate = self.gates.iter().find(|gate| !gate.doubts_evidence()).cloned().map(Why::Gate);
            let why = gate.or_else(|| self.unwritable(memory, member)).or_else(|| self.overspent(member));
            match why {
                None => {
                    memory.plan_cut(&member.uid, self.input.now);
                    self.act(member, What::KeepOut);
                }
                Some(why) => self.refuse(member, Move::Cut, None, why),
            }
        }
    }

    /// What forbids this cut, the brake last.
    pub(super) fn refusal(&mut self, memory: &Memory, proposal: &Proposal<'a>) -> Option<Why> {
        self.cut_refusal(memory, proposal).or_else(|| self.brake().cloned().map(Why::Gate))
    }

    /// Spends the budget where nothing else forbids the cut.
    fn cut_refusal(&mut self, memory: &Memory, proposal: &Proposal<'a>) -> Option<Why> {
        let (member, breaker) = (proposal.member, proposal.breaker);
        if let Some(wish) = member.wish.filter(|wish| *wish != Wish::Cut) {
            return Some(Why::Wish(wish));
        }
        let own = |gate: &&Gate| gate.holds(&breaker.name) && !matches!(gate, Gate::ClusterStorm { .. });
        if let Some(gate) = self.gates.iter().find(own) {
            return Some(Why::Gate(gate.clone()));
        }
        // The pods that are there now: capacity of five minutes ago is nobody to take over.
        let present = self.budget.size.min(self.input.fleet.size());
        if !large_enough(present, breaker) {
            return Some(Why::FleetTooSmall(present));
        }
        if let Some(why) = self.unwritable(memory, member) {
            return Some(why);
        }
        if let Some(found) = proposal.unconfirmed {
            return Some(Why::Unconfirmed { found, confirm: breaker.confirm });
        }
        if memory.pod(member).repaired && memory.roomy < ROOMY {
            return Some(Why::NoRoom);
        }
        self.rollout_refusal(member).or_else(|| self.overspent(member))
    }

    fn unwritable(&self, memory: &Memory, member: &Member) -> Option<Why> {
        let now = self.input.now;
        if member.in_flight.is_some() {
            return Some(Why::InFlight);
        }
        if memory.pod(member).quiet_until.is_some_and(|until| until > now.mono) {
            return Some(Why::Quiet);
        }
        (!allowed(memory, member, now)).then_some(Why::HoldOff)
    }

    /// A bad new revision is the rollout's to stop: cutting its pods one after the other would hide it.
    fn rollout_refusal(&self, member: &Member) -> Option<Why> {
        let young = rolled_out(self.input.fleet).filter(|young| member.revision.as_ref() == Some(*young))?;
        let of_it = |m: &Member| m.revision.as_ref() == Some(young);
        let out = self.input.fleet.count(|m| of_it(m) && (m.out() || self.taken.contains(&m.uid)));
        let most = self.budget.max_recent_cuts;
        (out >= most).then_some(Why::Rollout(most))
    }

    fn overspent(&mut self, member: &Member) -> Option<Why> {
        if let Some(why) = self.elsewhere.refusal(member) {
            return Some(why);
        }
        if let Err(limit) = self.budget.spend() {
            return Some(Why::Limit(limit, self.budget));
        }
        self.elsewhere.spend(member);
        None
    }

    fn order(&self, proposal: &Proposal<'a>) -> CutOrder {
        let Proposal { member, breaker, severity, evidence, .. } = *proposal;
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

    /// 6. One strike less for each maxPeriod of serving in which its breaker saw the pod healthy.
    pub(super) fn forgive(&mut self, memory: &Memory) {
        // A hold of the whole service is no act but returns.
        if !self.enforces() || self.gates.iter().any(|gate| gate.breaker().is_none()) {
            return;
        }
        let input = self.input;
        for member in &input.fleet.members {
            let idle = member.in_flight.is_none() && member.serving() && member.traffic == Traffic::Open;
            if !idle || self.taken.contains(&member.uid) || !allowed(memory, member, input.now) {
                continue;
            }
            let earned = |b: &&BreakerPolicy| {
                let known = memory.breakers.get(&b.name);
                known.is_some_and(|k| !k.blind() && k.healed(&member.uid, b))
                    && judging::heals(input, b, member)
            };
            let Some(breaker) = input.policy.enforcing().find(earned) else { continue };
            let known = |name: &str| input.policy.breaker(name).is_some();
            if let Some(strikes) = member.strikes.minus_one(&breaker.name, known) {
                self.act(member, What::Forgive(strikes));
            }
        }
    }
}
