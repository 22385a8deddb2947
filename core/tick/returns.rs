//! Pods that come back, and those that climb the ladder instead.
//!
//! Order: the floor is repaired, cuts that overloaded the rest are taken back, people's wishes, pods whose time is over.

use std::sync::Arc;
use std::time::Duration;

use super::{Draft, KILL_WINDOW, NEWBORN, allowed};
use crate::activator::{Step, activator_of, step};
use crate::budget::floor;
use crate::fleet::{Member, Wish, Workload};
use crate::gates::{Gate, first};
use crate::known::Known;
use crate::memory::Memory;
use crate::plan::{RestoreReason, What, Why};
use crate::policy::Mode;
use crate::traffic::{Cut, Move, Strikes, Traffic};

impl<'a> Draft<'a> {
    fn restore(&mut self, member: &Member, reason: RestoreReason) {
        self.act(member, What::Restore { reason, strikes: None });
    }

    /// Back, and the cut was no fault of the pod's: its strike is taken back.
    fn take_back(&mut self, member: &Member, cut: &Cut, reason: RestoreReason) {
        let strikes = cut.breaker.as_deref().and_then(|name| member.strikes.minus_one(name, |_| true));
        self.act(member, What::Restore { reason, strikes });
    }

    /// 1. Fewer serve than the floor, through a crash, a drain or a scale-in: Ready cut pods go back, the least severe
    ///    first. Paused pods and those that a person keeps out stay.
    pub(super) fn repair(&mut self, memory: &mut Memory) {
        let (fleet, policy, now) = (self.input.fleet, self.input.policy, self.input.now);
        let grown = |m: &Member| memory.pod(m).been_ready || memory.pod(m).ready_for(now.mono) >= NEWBORN;
        let wanted = floor(policy, fleet.count(grown)).min(self.budget.floor);
        let coming = |m: &Member| m.ready && !m.terminating && m.in_flight == Some(Move::Restore);
        let coming = fleet.count(|m| coming(m) && !m.serving());
        let missing = wanted.saturating_sub(self.budget.serving).saturating_sub(coming);
        let mut back: Vec<_> = self
            .timed_cuts()
            .filter(|(m, _)| m.ready && m.wish != Some(Wish::Cut) && allowed(memory, m, now))
            .collect();
        back.sort_by(|(a, cut_a), (b, cut_b)| {
            let rest = |m: &Member| (m.strikes.total(), memory.pod(m).due_at(), Arc::clone(&m.name));
            cut_a.severity.total_cmp(&cut_b.severity).then_with(|| rest(a).cmp(&rest(b)))
        });
        for (member, cut) in back.into_iter().take(missing as usize) {
            memory.plan_repair(&member.uid);
            self.take_back(member, cut, RestoreReason::FloorRepair);
        }
    }

    /// 2. The rest fails under the load of those that we cut: the latest cut is taken back, one an answer, until the
    ///    storm ends.
    pub(super) fn relieve(&mut self, memory: &Memory) {
        if !memory.storm.takes_back() || self.input.answers.is_empty() {
            return;
        }
        let now = self.input.now;
        let waiting = self.timed_cuts().filter(|(m, _)| !self.taken.contains(&m.uid));
        let ready = waiting.filter(|(m, _)| m.ready && m.wish != Some(Wish::Cut) && allowed(memory, m, now));
        let latest = ready.min_by_key(|(m, _)| (memory.pod(m).cut_age(now.mono), Arc::clone(&m.name)));
        if let Some((member, cut)) = latest {
            self.take_back(member, cut, RestoreReason::Overload);
        }
    }

    /// 3. What people want of single pods: returns now, cuts with the others.
    pub(super) fn wishes(&mut self, memory: &Memory) {
        for member in &self.input.fleet.members {
            let idle =
                member.in_flight.is_none() && !member.terminating && allowed(memory, member, self.input.now);
            if !idle || self.taken.contains(&member.uid) {
                continue;
            }
            match (member.wish, &member.traffic) {
                (
                    Some(Wish::Serve),
                    Traffic::Cut(_) | Traffic::KeptOut | Traffic::CutByHand | Traffic::Paused,
                ) => {
                    let strikes = Some(Strikes::default());
                    self.act(member, What::Restore { reason: RestoreReason::Wish, strikes });
                }
                (None | Some(Wish::Never), Traffic::KeptOut) => self.restore(member, RestoreReason::Wish),
                (Some(Wish::Serve), Traffic::Open) if self.enforces() && !member.strikes.0.is_empty() => {
                    self.act(member, What::Forgive(Strikes::default()));
                }
                _ => {}
            }
        }
    }

    /// 4. Pods whose time is over: back, or up the ladder.
    pub(super) fn due(&mut self, memory: &mut Memory) {
        let now = self.input.now;
        let mut due: Vec<_> = self
            .timed_cuts()
            .filter(|(m, _)| !self.taken.contains(&m.uid) && m.wish != Some(Wish::Cut))
            .filter_map(|(m, cut)| Some((memory.pod(m).due_at()?, m, cut)))
            .filter(|(at, m, cut)| *at <= now.mono || (self.shown_only(cut) && allowed(memory, m, now)))
            .collect();
        due.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        // Slots are a share of all that were out when the returning began: of those that are left, the last ones would
        // wait for ever longer.
        let held = self.held_slots(memory);
        memory.queue = if due.is_empty() && held == 0 { 0 } else { memory.queue.max(self.budget.out) };
        let mut slots = Slots { all: memory.queue.div_ceil(4).max(1), held };
        for (_, member, cut) in due {
            self.end(memory, member, cut, &mut slots);
        }
    }

    /// Its breaker is in mode DryRun now: nothing of it is carried out any more.
    fn shown_only(&self, cut: &Cut) -> bool {
        let breaker = cut.breaker.as_deref().and_then(|name| self.input.policy.breaker(name));
        breaker.is_some_and(|b| !b.enforced)
    }

    /// Returns that are still watched, or under way.
    fn held_slots(&self, memory: &Memory) -> u32 {
        let (range, now) = (self.input.policy.longest_range(), self.input.now.mono);
        let watched = |m: &Member| memory.pod(m).return_of().is_some_and(|r| r.holds_slot(range, now));
        self.input.fleet.count(|m| m.in_flight == Some(Move::Restore) || (m.serving() && watched(m)))
    }

    fn end(&mut self, memory: &Memory, member: &Member, cut: &Cut, slots: &mut Slots) {
        if self.shown_only(cut) {
            return self.restore(member, RestoreReason::DryRun);
        }
        if !self.enforces() {
            return self.restore(member, RestoreReason::Due);
        }
        let paused =
            self.input.fleet.count(|m| m.traffic == Traffic::Paused || m.in_flight == Some(Move::Pause));
        let wanted = match step(self.input.policy, member, cut, paused + self.pauses) {
            Step::Restore => return self.bring_back(member, cut, slots),
            Step::Pause => Move::Pause,
            Step::Evict => Move::Evict,
        };
        let why = self.ladder_refusal(memory, member, cut, wanted);
        let (activator, _) = activator_of(self.input.policy, cut);
        let waited = |(_, due): (_, Duration)| self.input.now.mono.saturating_sub(due);
        // Held, or refused by the API server again and again: it waits, but not for ever.
        let overdue = memory.pod(member).due.map(waited).is_some_and(|waited| waited >= activator.max_period);
        // What nobody will ever evict goes on being tried.
        if overdue || matches!(why, Some(Why::NotReplaced(_))) {
            self.restore(member, RestoreReason::LadderHeld);
        } else if why.is_none() {
            self.climb(member, cut, wanted);
        }
        if let Some(why) = why {
            self.refuse(member, wanted, cut.breaker.clone(), why);
        }
    }

    fn bring_back(&mut self, member: &Member, cut: &Cut, slots: &mut Slots) {
        if slots.held < slots.all {
            slots.held += 1;
            self.restore(member, RestoreReason::Due);
        } else {
            self.refuse(member, Move::Restore, cut.breaker.clone(), Why::NoSlot(slots.all));
        }
    }

    /// Whether steps are carried out. What is not enforced climbs no ladder: it is only given back.
    pub(super) fn enforces(&self) -> bool {
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
        // After a restart nobody knows yet whether the source is there, nor after answers in which no pod was: no
        // evidence, no kill.
        if !memory.breakers.get(breaker).is_some_and(Known::sees) {
            return Some(Why::Gate(Gate::Blind { breaker: breaker.into() }));
        }
        if let Some(wish) = member.wish {
            return Some(Why::Wish(wish));
        }
        // A cut pod serves only where the Service does not hold the key; then it is counted as a loss.
        if self.budget.serving < self.budget.floor.saturating_add(u32::from(member.serving())) {
            return Some(Why::BelowFloor);
        }
        if wanted == Move::Pause { None } else { self.kill_refusal(memory, member, cut) }
    }

    fn kill_refusal(&self, memory: &Memory, member: &Member, cut: &Cut) -> Option<Why> {
        let (fleet, policy, kills, now) =
            (self.input.fleet, self.input.policy, self.input.kills, self.input.now.mono);
        let replaced = match member.workload {
            Workload::Replaced => true,
            Workload::StatefulSet => policy.kill_stateful_set_pods,
            Workload::DaemonSet | Workload::Bare => false,
        };
        if !replaced {
            return Some(Why::NotReplaced(member.workload));
        }
        let (activator, _) = activator_of(policy, cut);
        let recent = memory.recent_kills(&member.uid, KILL_WINDOW, now);
        if recent.saturating_add(self.evictions) >= activator.max_kills_per_hour {
            return Some(Why::KillCap(activator.max_kills_per_hour));
        }
        let killed = |m: &Member| kills.iter().any(|k| k.uid == m.uid);
        let leaving = |m: &Member| m.in_flight == Some(Move::Evict) || (m.terminating && killed(m));
        if self.evictions > 0 || fleet.members.iter().any(leaving) {
            return Some(Why::KillInFlight);
        }
        // A pod that became Ready after the last eviction, and has stayed so.
        let proven = |m: &Member, kill: Duration| {
            let age = memory.pod(m).ready_for(now);
            m.ready && !m.terminating && age < kill && age >= policy.limits.min_pod_age
        };
        let last = memory.last_kill(&member.uid, KILL_WINDOW, now);
        let waits = last.is_some_and(|kill| !fleet.members.iter().any(|m| proven(m, kill)));
        waits.then_some(Why::NotReplacedYet)
    }
}

/// How many pods may come back at once, and how many are at it.
struct Slots {
    all: u32,
    held: u32,
}
