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
use crate::gates::Gate;
use crate::input::Input;
use crate::known::Known;
use crate::policy::BreakerPolicy;
use crate::probation::Returned;
use crate::storm::Storm;
use crate::traffic::{Cut, Move, Traffic};

/// A return longer ago than this, read at start, is no news: settled and proven, or never to be.
const OLD_RETURN: Duration = Duration::from_mins(10);
/// Longest pause between two tries of a write that was refused.
const LONGEST_HOLD_OFF: Duration = Duration::from_mins(1);

/// What a service remembers between ticks. It may be lost at any time: that only delays cuts.
#[derive(Debug, Default)]
pub struct Memory {
    /// N.
    pub capacity: Capacity,
    pub(crate) breakers: BTreeMap<Arc<str>, Known>,
    pub(crate) storm: Storm,
    /// Members that were out when those began to return that wait for it or are watched after it.
    pub(crate) queue: u32,
    /// Answered ticks in a row with room for a cut.
    pub(crate) roomy: u8,
    pub(crate) pods: BTreeMap<Arc<str>, PodMemory>,
    /// Age of every eviction stored in the status, by uid and stored time.
    kills: BTreeMap<(Arc<str>, Timestamp), Since>,
    /// A tick has seen pods: what appears from now on is new.
    begun: bool,
    /// Evidence was doubted when an earlier process ended: no source is believed at its first word.
    doubtful: bool,
}

/// An age that only the clock that cannot be moved adds to. A stored time is compared with the wall clock once, in the
/// first tick; what was not there then starts when it is seen, whatever the wall clock says.
#[derive(Debug, Clone, Copy)]
struct Since {
    seen: Duration,
    age: Duration,
}

impl Since {
    fn new(seen: Duration) -> Self {
        Self { seen, age: Duration::ZERO }
    }

    fn stored(at: Timestamp, now: Now) -> Self {
        Self { seen: now.mono, age: Duration::try_from(now.wall.duration_since(at)).unwrap_or_default() }
    }

    fn age(self, now: Duration) -> Duration {
        self.age.saturating_add(now.saturating_sub(self.seen))
    }
}

/// When a cut was made and when it ends, as written on the pod.
type Stored = (Option<Timestamp>, Option<Timestamp>);

#[derive(Debug, Default)]
pub(crate) struct PodMemory {
    /// The stored times that `due` belongs to, and when it is due by the clock that cannot be moved.
    pub(crate) due: Option<(Stored, Duration)>,
    /// The last cut that this process planned, on both clocks.
    planned: Option<Now>,
    /// That cut was not refused: it counts, also when the pod goes away before anybody says how the write ended.
    sent: bool,
    /// The last cut, and the stored time that it was read from.
    cut: Option<(Option<Timestamp>, Since)>,
    /// The cut that a person undid; the pod is not cut again before `quiet_until`.
    undone: Option<Option<Timestamp>>,
    pub(crate) quiet_until: Option<Duration>,
    /// Since when it is Ready, and the stored time that it was read from.
    ready: Option<(Timestamp, Since)>,
    pub(crate) been_ready: bool,
    /// Since when it is known; where it was there before this process, since it is Ready.
    first: Option<Since>,
    /// Its last return, and the stored time that it was read from.
    returned: Option<(Timestamp, Returned)>,
    /// It came back for the floor.
    pub(crate) repaired: bool,
    /// Writes refused in a row, and the time before which there is no next try.
    failures: u32,
    pub(crate) not_before: Duration,
}

impl Memory {
    /// Continues from the fleet size that an earlier process stored, and from the word of the first gate that held then.
    #[must_use]
    pub fn resumed(stored_size: u32, held: Option<&str>, now: Now) -> Self {
        let is = |gate: Gate| held == Some(gate.as_str());
        let raged = is(Gate::Storm { anomalous: 0, of: 0, limit: 0 });
        let overloaded = is(Gate::Overload { until: now.wall });
        let breaker = || Arc::from("");
        let unseen = is(Gate::Blind { breaker: breaker() })
            || is(Gate::LowCoverage { breaker: breaker(), seen: 0, serving: 0 });
        Self {
            capacity: Capacity::from_stored(stored_size, now.mono),
            storm: Storm::resumed(raged, overloaded, now.mono),
            doubtful: raged || overloaded || unseen,
            ..Self::default()
        }
    }

    /// What is remembered of a breaker.
    pub(crate) fn known(&mut self, breaker: &BreakerPolicy) -> &mut Known {
        let doubtful = self.doubtful;
        let new = || if doubtful { Known::doubted() } else { Known::default() };
        self.breakers.entry(Arc::clone(&breaker.name)).or_insert_with(new)
    }

    /// Takes note of how the API server answered a write for this pod.
    pub fn record(&mut self, uid: &Arc<str>, step: Move, accepted: bool, now: Now) {
        let pod = self.pods.entry(Arc::clone(uid)).or_default();
        if accepted {
            pod.failures = 0;
            if step == Move::Cut {
                pod.cut = Some((None, Since::new(now.mono)));
            }
        } else {
            pod.sent &= step != Move::Cut;
            pod.failures = pod.failures.saturating_add(1);
            let pause = Duration::from_secs(1) * 2_u32.saturating_pow(pod.failures.min(10) - 1);
            pod.not_before = now.mono.saturating_add(pause.min(LONGEST_HOLD_OFF));
        }
    }

    /// A planned step was not sent, or met a pod that had changed: it is as if it had not been planned.
    pub fn dropped(&mut self, uid: &str, step: Move) {
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.sent &= step != Move::Cut;
        }
    }

    /// Whether a write to this pod is allowed again after the last refusals.
    #[must_use]
    pub fn may_write(&self, uid: &str, now: Now) -> bool {
        self.pods.get(uid).is_none_or(|pod| pod.not_before <= now.mono)
    }

    /// A breaker that was edited starts afresh.
    pub fn forget_breaker(&mut self, name: &str) {
        self.breakers.remove(name);
    }

    pub(crate) fn observe(&mut self, input: &Input<'_>) {
        let Input { fleet, policy, kills, now, .. } = input;
        self.capacity.observe(fleet.size(), now.mono);
        let present: BTreeSet<&Arc<str>> = fleet.members.iter().map(|m| &m.uid).collect();
        let window = policy.cut_window();
        // A pod that is gone still counts as cut in this period.
        self.pods.retain(|uid, p| present.contains(uid) || p.cut_within(window, now.mono));
        self.breakers.retain(|name, _| policy.breaker(name).is_some());
        for member in &fleet.members {
            if !self.pods.contains_key(&member.uid) {
                self.breakers.values_mut().for_each(|known| known.meet(&member.uid));
            }
            let pod = self.pods.entry(Arc::clone(&member.uid)).or_default();
            pod.note_ready(member, *now, self.begun);
            pod.note_traffic(member, input, self.begun);
            if pod.note_return(member, *now, self.begun) {
                self.breakers.values_mut().for_each(|known| known.forget(&member.uid));
            }
        }
        self.kills.retain(|(uid, at), _| kills.iter().any(|k| k.uid == *uid && k.at == *at));
        for kill in *kills {
            let since = if self.begun { Since::new(now.mono) } else { Since::stored(kill.at, *now) };
            self.kills.entry((Arc::clone(&kill.uid), kill.at)).or_insert(since);
        }
        self.begun |= !fleet.members.is_empty();
    }

    /// Evictions within `window` of pods other than `uid`: a record of this very pod is a try that did not come
    /// through, and it is not counted twice. One that an earlier process stored counts as made when it is first seen:
    /// a clock that was moved meanwhile must not make room.
    pub(crate) fn recent_kills(&self, uid: &Arc<str>, window: Duration, now: Duration) -> u32 {
        let counts = |((killed, _), since): &(&(Arc<str>, Timestamp), &Since)| {
            killed != uid && now.saturating_sub(since.seen) < window
        };
        count(self.kills.iter().filter(counts).count())
    }

    /// Age of the last eviction within `window` of another pod than `uid`.
    pub(crate) fn last_kill(&self, uid: &Arc<str>, window: Duration, now: Duration) -> Option<Duration> {
        let others = self.kills.iter().filter(|((killed, _), _)| killed != uid);
        others.map(|(_, since)| since.age(now)).filter(|age| *age < window).min()
    }

    /// This cut is about to be sent.
    pub(crate) fn plan_cut(&mut self, uid: &Arc<str>, now: Now) {
        let pod = self.pods.entry(Arc::clone(uid)).or_default();
        (pod.planned, pod.sent) = (Some(now), true);
        pod.repaired = false;
        self.breakers.values_mut().for_each(|known| known.forget(uid));
    }

    /// It comes back for the floor: no strike, and no cut again before there is room.
    pub(crate) fn plan_repair(&mut self, uid: &Arc<str>) {
        self.pods.entry(Arc::clone(uid)).or_default().repaired = true;
    }

    pub(crate) fn returned(&mut self, uid: &str) -> Option<&mut Returned> {
        self.pods.get_mut(uid).and_then(|pod| pod.returned.as_mut()).map(|(_, returned)| returned)
    }

    /// Cuts of ours within the window: by what this process remembers and by what stands on the pods, so that
    /// neither a restart nor a moved clock spends a period's allowance twice.
    pub(crate) fn recent_cuts(&self, input: &Input<'_>) -> u32 {
        let window = input.policy.cut_window();
        let recent = |pod: &PodMemory| pod.cut_within(window, input.now.mono);
        let known = self.pods.values().filter(|p| recent(p)).count();
        let flying = |m: &&Member| m.in_flight == Some(Move::Cut) && !recent(self.pod(m));
        count(known + input.fleet.members.iter().filter(flying).count())
    }

    pub(crate) fn pod(&self, member: &Member) -> &PodMemory {
        static NONE: PodMemory = PodMemory {
            due: None,
            planned: None,
            sent: false,
            cut: None,
            undone: None,
            quiet_until: None,
            ready: None,
            been_ready: false,
            first: None,
            returned: None,
            repaired: false,
            failures: 0,
            not_before: Duration::ZERO,
        };
        self.pods.get(&member.uid).unwrap_or(&NONE)
    }
}

impl PodMemory {
    fn note_ready(&mut self, member: &Member, now: Now, begun: bool) {
        self.been_ready |= member.ready;
        let at = member.ready_since;
        if self.ready.is_none_or(|(known, _)| known != at) {
            let since = if begun { Since::new(now.mono) } else { Since::stored(at, now) };
            self.ready = Some((at, since));
            self.first.get_or_insert(since);
        }
    }

    fn note_traffic(&mut self, member: &Member, input: &Input<'_>, begun: bool) {
        let Input { policy, now, seed, .. } = *input;
        if let Traffic::Cut(cut) | Traffic::OpenedByHand(cut) = &member.traffic {
            self.note_cut(cut, now, begun);
        }
        match &member.traffic {
            Traffic::Cut(cut) => {
                let stored = (cut.at, cut.restore_at);
                if self.due.is_none_or(|(known, _)| known != stored) {
                    let left = remaining(policy, member, cut, self.steady(cut, now), seed);
                    self.due = Some((stored, now.mono.saturating_add(left)));
                }
                self.undone = None;
            }
            Traffic::OpenedByHand(cut) => {
                // Once for each cut: the marks may stay for ever, the quiet must not.
                if self.undone != Some(cut.at) {
                    let (activator, _) = activator_of(policy, cut);
                    self.undone = Some(cut.at);
                    self.quiet_until = Some(now.mono.saturating_add(activator.period));
                }
                self.due = None;
            }
            Traffic::Unlabelled
            | Traffic::Open
            | Traffic::KeptOut
            | Traffic::CutByHand
            | Traffic::Paused
            | Traffic::Odd => {
                self.due = None;
                self.undone = None;
            }
        }
    }

    /// Whether this return is news.
    fn note_return(&mut self, member: &Member, now: Now, begun: bool) -> bool {
        let open = matches!(member.traffic, Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_));
        let Some(at) = member.restored_at.filter(|_| open) else { return false };
        if self.returned.is_some_and(|(known, _)| known == at) {
            return false;
        }
        let since = if begun { Since::new(now.mono) } else { Since::stored(at, now) };
        let age = since.age(now.mono);
        let ago = |age: Duration| now.mono.saturating_sub(age);
        let mut returned = Returned::new(ago(age), self.cut.map(|(_, cut)| ago(cut.age(now.mono))));
        if age >= OLD_RETURN {
            returned.trust();
        }
        self.returned = Some((at, returned));
        true
    }

    /// Its last return.
    pub(crate) fn return_of(&self) -> Option<&Returned> {
        self.returned.as_ref().map(|(_, returned)| returned)
    }

    /// Age of its last cut.
    pub(crate) fn cut_age(&self, now: Duration) -> Option<Duration> {
        self.cut.map(|(_, since)| since.age(now))
    }

    fn note_cut(&mut self, cut: &Cut, now: Now, begun: bool) {
        if self.cut.is_some_and(|(known, _)| known == cut.at) {
            return;
        }
        let since = match (self.planned_as(cut), cut.at) {
            (Some(planned), _) => Since::new(planned.mono),
            (None, Some(at)) if !begun => Since::stored(at, now),
            // A mark of somebody else's, or no time at all: as if made now.
            (None, _) => Since::new(now.mono),
        };
        self.cut = Some((cut.at, since));
    }

    /// Now, with the wall clock as it would stand had nobody moved it since this process planned `cut`.
    fn steady(&self, cut: &Cut, now: Now) -> Now {
        let moved = |planned: Now| planned.after(now.mono.saturating_sub(planned.mono));
        self.planned_as(cut).map_or(now, moved)
    }

    /// The instant at which this process planned `cut`, if it did. Times on pods may be written in whole seconds.
    fn planned_as(&self, cut: &Cut) -> Option<Now> {
        let (planned, at) = (self.planned?, cut.at?);
        let same = planned.wall.duration_since(at).abs() < jiff::SignedDuration::from_secs(1);
        same.then_some(planned)
    }

    fn cut_within(&self, window: Duration, now: Duration) -> bool {
        let planned = self.planned.filter(|_| self.sent).map(|planned| Since::new(planned.mono));
        let known = self.cut.map(|(_, since)| since);
        [planned, known].into_iter().flatten().any(|since| since.age(now) < window)
    }

    /// How long it has been Ready, or has existed where it is not.
    pub(crate) fn ready_for(&self, now: Duration) -> Duration {
        self.ready.map_or(Duration::ZERO, |(_, since)| since.age(now))
    }

    /// How long it has been there, at least.
    pub(crate) fn known_for(&self, now: Duration) -> Duration {
        self.first.map_or(Duration::ZERO, |since| since.age(now))
    }

    pub(crate) fn due_at(&self) -> Option<Duration> {
        self.due.map(|(_, due)| due.max(self.not_before))
    }
}
