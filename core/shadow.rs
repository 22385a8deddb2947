//! What would have happened: the fleet with the cuts that a dry run only shows.
//!
//! Takes the same input as a tick; decides with the same tick, as if everything were enforced, and carries the plan out
//! on its own copy of the pods' marks. So it reports episodes (a pod out until its return), not every bad answer anew.
//! Its plan is never applied to anything real.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use crate::Now;
use crate::explain::{Looked, Refused};
use crate::fleet::{Fleet, Member, Wish};
use crate::gates::Gate;
use crate::memory::Memory;
use crate::plan::{Action, Kill, Plan, WOULD_CUT_MAX, What};
use crate::policy::ServicePolicy;
use crate::tick::{Input, tick};
use crate::traffic::{Cut, Strikes, Traffic};

/// The dry run of one service.
#[derive(Debug, Default)]
pub struct Shadow {
    memory: Memory,
    pods: BTreeMap<Arc<str>, Marks>,
    kills: Vec<Kill>,
}

/// What would stand on a pod.
#[derive(Debug, Clone, Default)]
struct Marks {
    cut: Option<Cut>,
    paused: bool,
    /// It would have been evicted: its successor is a pod that nothing is known of.
    replaced: bool,
    strikes: Strikes,
    restored_at: Option<Timestamp>,
}

impl Shadow {
    /// One tick of `policy` as if all of it were enforced.
    pub fn tick(&mut self, input: &Input<'_>, policy: &ServicePolicy) -> Plan {
        let real = input.fleet;
        self.retain(real);
        let fleet = self.overlay(real);
        let (gates, policy) = (shown_gates(input), policy.enforced());
        let now = input.now;
        let input = Input { fleet: &fleet, policy: &policy, gates: &gates, kills: &self.kills, ..*input };
        let mut plan = tick(&input, &mut self.memory);
        for action in &plan.actions {
            self.carry_out(real, action, now);
        }
        for breaker in &mut plan.report.breakers {
            let cut = |m: &&Member| self.cut_by(m).is_some_and(|name| **name == *breaker.name);
            let names = fleet.members.iter().filter(cut).map(|m| Arc::clone(&m.name));
            breaker.would_cut = names.take(WOULD_CUT_MAX).collect();
        }
        plan
    }

    /// Looks at the service as the dry run sees it: with what it would have cut out of traffic, and nothing but its own
    /// gates.
    pub fn look<T>(
        &self,
        input: &Input<'_>,
        policy: &ServicePolicy,
        refused: &Refused,
        see: impl FnOnce(&Looked<'_>) -> T,
    ) -> T {
        let fleet = self.overlay(input.fleet);
        let (gates, policy) = (shown_gates(input), policy.enforced());
        let input = Input { fleet: &fleet, policy: &policy, gates: &gates, kills: &self.kills, ..*input };
        see(&Looked::at(&input, &self.memory, refused))
    }

    /// A breaker that was edited starts afresh.
    pub fn forget_breaker(&mut self, name: &str) {
        self.memory.forget_breaker(name);
    }

    fn cut_by(&self, member: &Member) -> Option<&Arc<str>> {
        self.pods.get(&member.uid)?.cut.as_ref()?.breaker.as_ref()
    }

    fn retain(&mut self, fleet: &Fleet) {
        if !self.pods.is_empty() {
            let present: BTreeSet<&Arc<str>> = fleet.members.iter().map(|m| &m.uid).collect();
            self.pods.retain(|uid, _| present.contains(uid));
        }
    }

    fn overlay(&self, real: &Fleet) -> Fleet {
        let mut fleet = real.clone();
        for member in &mut fleet.members {
            let Some(marks) = self.pods.get(&member.uid) else { continue };
            // What is really out stays out.
            if !open(member) {
                continue;
            }
            member.strikes.clone_from(&marks.strikes);
            member.restored_at = marks.restored_at;
            if marks.replaced {
                member.wish = Some(Wish::Never);
            } else if marks.paused {
                (member.traffic, member.reached) = (Traffic::Paused, false);
            } else if let Some(cut) = &marks.cut {
                (member.traffic, member.reached) = (Traffic::Cut(cut.clone()), false);
            }
        }
        fleet
    }

    fn carry_out(&mut self, real: &Fleet, action: &Action, now: Now) {
        self.memory.record(&action.uid, action.what.step(), true, now);
        // What is really out is not this fleet's to change.
        if !real.member(&action.uid).is_some_and(open) {
            return;
        }
        let marks = self.pods.entry(Arc::clone(&action.uid)).or_default();
        match &action.what {
            What::Cut(order) => {
                let (at, restore_at) = (Some(order.at), Some(order.restore_at));
                let breaker = Some(Arc::clone(&order.breaker));
                marks.cut = Some(Cut { at, restore_at, breaker, severity: order.severity });
                marks.strikes.clone_from(&order.strikes);
            }
            What::Restore { strikes, .. } => {
                (marks.cut, marks.paused, marks.restored_at) = (None, false, Some(now.wall));
                if let Some(strikes) = strikes {
                    marks.strikes.clone_from(strikes);
                }
            }
            What::Forgive(strikes) => marks.strikes.clone_from(strikes),
            What::Pause { .. } => marks.paused = true,
            What::Evict { .. } => {
                (marks.cut, marks.replaced) = (None, true);
                self.kills.push(Kill { uid: Arc::clone(&action.uid), at: now.wall });
            }
            // The person's word is really carried out, or held, by the tick that acts.
            What::KeepOut => {}
        }
        if self.kills.len() > KILLS_MAX {
            self.kills.remove(0);
        }
    }
}

/// Neither a dry run nor a missing key is a reason for it to show nothing.
fn shown_gates(input: &Input<'_>) -> Vec<Gate> {
    let holds = |gate: &&Gate| !matches!(gate, Gate::DryRun | Gate::NotActivated);
    input.gates.iter().filter(holds).cloned().collect()
}

/// Whether what happens to it may be shown: nothing is really done to it.
fn open(member: &Member) -> bool {
    matches!(member.traffic, Traffic::Open | Traffic::Unlabelled) && member.in_flight.is_none()
}

/// Virtual evictions that are remembered: more than any cap of an hour allows.
const KILLS_MAX: usize = 64;

#[cfg(test)]
mod tests {

    use super::*;
    use crate::fixtures::{breaker, custom, fleet_of_open, naming, now, policy_of};
    use crate::policy::{BreakerPolicy, Mode};
    use crate::tick::Answer;
    use crate::traffic::Move;

    fn run(shadow: &mut Shadow, policy: &ServicePolicy, second: i64, bad: &[&str]) -> Plan {
        let fleet = fleet_of_open(10);
        let samples = naming(bad.iter().copied());
        let asked = now(second).mono;
        let answers = [Answer { breaker: "shown", asked, samples: Some(&samples), activity: None }];
        let (gates, kills) = ([Gate::DryRun, Gate::NotActivated], []);
        let (fleet, answers, gates, kills) = (&fleet, &answers[..], &gates[..], &kills[..]);
        let input = Input { fleet, answers, policy, gates, kills, now: now(second), seed: 3 };
        shadow.tick(&input, policy)
    }

    fn policy() -> ServicePolicy {
        let shown = BreakerPolicy { enforced: false, ..breaker("shown", custom()) };
        ServicePolicy { mode: Mode::DryRun, ..policy_of(vec![shown]) }
    }

    fn cuts(plan: &Plan) -> usize {
        plan.actions.iter().filter(|a| a.what.step() == Move::Cut).count()
    }

    #[test]
    fn a_pod_that_stays_bad_is_one_episode_and_not_one_for_each_answer() {
        let (mut shadow, policy) = (Shadow::default(), policy());
        let counted: Vec<_> =
            (0..4).map(|i| cuts(&run(&mut shadow, &policy, 100 + i * 2, &["pod-03"]))).collect();
        assert_eq!(counted, [1, 0, 0, 0]);
        let last = run(&mut shadow, &policy, 108, &["pod-03"]);
        assert_eq!(last.report.breakers[0].would_cut, ["pod-03".into()]);
    }

    #[test]
    fn it_comes_back_and_its_next_episode_is_longer() {
        let (mut shadow, policy) = (Shadow::default(), policy());
        let mut episodes = Vec::new();
        for second in 0..60 {
            let plan = run(&mut shadow, &policy, 100 + second, &["pod-03"]);
            for action in plan.actions {
                if let What::Cut(order) = action.what {
                    episodes.push((order.strikes.total(), order.restore_at.duration_since(order.at)));
                }
            }
        }
        assert!(episodes.len() >= 2 && episodes[1].0 == 2 && episodes[1].1 > episodes[0].1, "{episodes:?}");
    }

    #[test]
    fn its_budget_is_one_for_what_it_has_out_already() {
        let (mut shadow, mut policy) = (Shadow::default(), policy());
        policy.breakers[0].floor.count = Some(8);
        assert_eq!(cuts(&run(&mut shadow, &policy, 100, &["pod-01", "pod-02", "pod-03"])), 2);
        assert_eq!(cuts(&run(&mut shadow, &policy, 102, &["pod-01", "pod-02", "pod-03"])), 0);
    }
}
