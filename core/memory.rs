//! What a service remembers between ticks.
//!
//! Takes what a tick sees and how writes ended; gives N, due times, recent cuts and the last verdicts. Everything
//! that must survive the process is on the pods instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::Now;
use crate::activator::{activator_of, remaining};
use crate::fleet::{Capacity, Member, count};
use crate::plan::BreakerReport;
use crate::policy::ServicePolicy;
use crate::tick::Input;
use crate::traffic::{Move, Traffic};
use crate::verdict::{Unknown, Verdict};

/// Longest pause between two tries of a write that was refused.
const LONGEST_HOLD_OFF: Duration = Duration::from_mins(1);

/// What a service remembers between ticks. It may be lost at any time: that only delays cuts.
#[derive(Debug, Default)]
pub struct Memory {
    /// N.
    pub capacity: Capacity,
    pub(crate) breakers: BTreeMap<Arc<str>, BreakerMemory>,
    pub(crate) pods: BTreeMap<Arc<str>, PodMemory>,
}

#[derive(Debug, Default)]
pub(crate) struct BreakerMemory {
    pub(crate) blind: bool,
    had_series: bool,
    pub(crate) report: BreakerReport,
}

#[derive(Debug, Default)]
pub(crate) struct PodMemory {
    /// The cut that `due` belongs to, and when it is due by the clock that cannot be moved.
    pub(crate) due: Option<(Option<Timestamp>, Duration)>,
    /// When we last cut it.
    cut_at: Option<Duration>,
    /// Put back by a person: not cut again before this.
    pub(crate) quiet_until: Option<Duration>,
    pub(crate) been_ready: bool,
    /// Writes refused in a row, and the time before which there is no next try.
    failures: u32,
    pub(crate) not_before: Duration,
}

impl Memory {
    /// Continues from the fleet size that an earlier process stored.
    #[must_use]
    pub fn resumed(stored_size: u32, now: Now) -> Self {
        Self { capacity: Capacity::from_stored(stored_size, now.mono), ..Self::default() }
    }

    /// Takes note of how the API server answered a write for this pod.
    pub fn record(&mut self, uid: &Arc<str>, step: Move, accepted: bool, now: Now) {
        let pod = self.pods.entry(Arc::clone(uid)).or_default();
        if accepted {
            pod.failures = 0;
            if step == Move::Cut {
                pod.cut_at = Some(now.mono);
            }
        } else {
            pod.failures = pod.failures.saturating_add(1);
            let pause = Duration::from_secs(1) * 2_u32.saturating_pow(pod.failures.min(10) - 1);
            pod.not_before = now.mono + pause.min(LONGEST_HOLD_OFF);
        }
    }

    /// A breaker that was edited starts afresh.
    pub fn forget_breaker(&mut self, name: &str) {
        self.breakers.remove(name);
    }

    pub(crate) fn observe(&mut self, input: &Input<'_>) {
        let Input { fleet, policy, now, seed, .. } = input;
        self.capacity.observe(fleet.size(), now.mono);
        let present: BTreeSet<&Arc<str>> = fleet.members.iter().map(|m| &m.uid).collect();
        let window = policy.cut_window();
        // A pod that is gone still counts as cut in this period.
        self.pods.retain(|uid, p| present.contains(uid) || p.cut_at.is_some_and(|at| at + window > now.mono));
        self.breakers.retain(|name, _| policy.breaker(name).is_some());
        for member in &fleet.members {
            let pod = self.pods.entry(Arc::clone(&member.uid)).or_default();
            pod.been_ready |= member.ready;
            pod.note_traffic(member, policy, *now, *seed);
        }
    }

    /// Cuts of ours within the window: by what this process remembers and by what stands on the pods, so that
    /// neither a restart nor a moved clock spends a period's allowance twice.
    pub(crate) fn recent_cuts(&self, input: &Input<'_>) -> u32 {
        let window = input.policy.cut_window();
        let remembered = |uid: &Arc<str>| {
            self.pods.get(uid).and_then(|p| p.cut_at).is_some_and(|at| at + window > input.now.mono)
        };
        let stored = |m: &Member| match &m.traffic {
            Traffic::Cut(cut) => cut.at.is_some_and(|at| crate::add(at, window) > input.now.wall),
            _ => m.in_flight == Some(Move::Cut),
        };
        let of_members = input.fleet.members.iter().filter(|m| stored(m) || remembered(&m.uid)).count();
        let gone =
            self.pods.keys().filter(|uid| input.fleet.member(uid).is_none() && remembered(uid)).count();
        count(of_members + gone)
    }

    pub(crate) fn pod(&self, member: &Member) -> &PodMemory {
        static NONE: PodMemory = PodMemory {
            due: None,
            cut_at: None,
            quiet_until: None,
            been_ready: false,
            failures: 0,
            not_before: Duration::ZERO,
        };
        self.pods.get(&member.uid).unwrap_or(&NONE)
    }
}

impl PodMemory {
    fn note_traffic(&mut self, member: &Member, policy: &ServicePolicy, now: Now, seed: u64) {
        match &member.traffic {
            Traffic::Cut(cut) => {
                if self.due.is_none_or(|(at, _)| at != cut.at) {
                    self.due = Some((cut.at, now.mono + remaining(policy, member, cut, now, seed)));
                }
            }
            Traffic::OpenedByHand(cut) => {
                let (activator, _) = activator_of(policy, cut);
                self.quiet_until = Some(now.mono + activator.period);
                self.due = None;
            }
            Traffic::Unlabelled | Traffic::Open | Traffic::CutByHand | Traffic::Paused | Traffic::Odd => {
                self.due = None;
            }
        }
    }

    pub(crate) fn due_at(&self) -> Option<Duration> {
        self.due.map(|(_, due)| due.max(self.not_before))
    }
}

impl BreakerMemory {
    pub(crate) fn note(&mut self, name: Arc<str>, verdicts: &[Verdict]) {
        let of = |is: fn(&Verdict) -> bool| count(verdicts.iter().filter(|v| is(v)).count());
        let seen = |v: &Verdict| !matches!(v, Verdict::Unknown(Unknown::NoSeries));
        let any = verdicts.iter().any(seen);
        // No series at all for a fleet that had some: the exporter or the query is broken, not the pods healthy.
        self.blind = self.had_series && !any && !verdicts.is_empty();
        self.had_series |= any;
        self.report = BreakerReport {
            name,
            healthy: of(|v| matches!(v, Verdict::Healthy)),
            anomalous: of(|v| matches!(v, Verdict::Anomalous { .. })),
            unknown: of(|v| matches!(v, Verdict::Unknown(_))),
            would_cut: Vec::new(),
        };
    }
}
