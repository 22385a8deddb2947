//! What a service remembers of one breaker: whether its source can be believed, and what its pods were.
//!
//! Takes one answer's verdicts; gives the bits that confirmation, storm, probation and decay are made of. May be lost:
//! that only delays cuts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::confirm::{Counting, Record};
use crate::fleet::{Fleet, Member, count};
use crate::plan::BreakerReport;
use crate::policy::BreakerPolicy;
use crate::suspects::Health;
use crate::traffic::Strikes;
use crate::verdict::{Measure, Unknown, Verdict};

/// Answers in a row after which a source that failed is believed again: the first scrapes after a restart are partial.
const GOOD_AGAIN: u8 = 2;

/// One breaker.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Good answers that are still missing, and when the last one that counted was asked for.
    doubtful: u8,
    good: Option<Duration>,
    /// Its last answer wanted a cut that the floor forbade.
    pub(crate) floor_reached: bool,
    had_series: bool,
    /// Serving pods with a series, and serving pods, in the last answer.
    coverage: (u32, u32),
    /// When it was answered last.
    answered: Option<Duration>,
    /// Anomalous pods, and when each turned so from healthy; `None` where it was never seen healthy.
    anomalous: BTreeMap<Arc<str>, Option<Duration>>,
    /// Pods without a verdict in the last answer.
    unknown: BTreeSet<Arc<str>>,
    /// Pods with an anomalous verdict that still counts.
    records: BTreeMap<Arc<str>, Record>,
    /// What the last answer measured of each pod, for people; the room is used again by the next one.
    measures: Vec<(Arc<str>, Measure)>,
    /// When that was asked for.
    asked: Option<Duration>,
    /// Pods with strikes that are seen healthy.
    healing: BTreeMap<Arc<str>, Healing>,
    pub(crate) report: BreakerReport,
}

/// Time in which a pod with strikes was seen healthy.
#[derive(Debug, Clone)]
struct Healing {
    /// When it was last seen so; not where it was anomalous since.
    seen: Option<Duration>,
    total: Duration,
    strikes: Strikes,
}

impl Known {
    /// Of a service that was held when an earlier process ended: its source has to show itself first.
    pub(crate) fn doubted() -> Self {
        Self { doubtful: GOOD_AGAIN, ..Self::default() }
    }

    pub(crate) fn blind(&self) -> bool {
        self.doubtful > 0
    }

    /// Whether its source has ever known one of the pods.
    pub(crate) fn sees(&self) -> bool {
        self.had_series
    }

    /// A pod that no answer has spoken of yet.
    pub(crate) fn meet(&mut self, uid: &Arc<str>) {
        if self.answered.is_some() {
            self.unknown.insert(Arc::clone(uid));
        }
    }

    /// What was found before says nothing once the source failed: its first answers after may be partial.
    fn doubt(&mut self) {
        (self.doubtful, self.good) = (GOOD_AGAIN, None);
        self.records.clear();
    }

    /// The source failed.
    pub(crate) fn fail(&mut self, breaker: &BreakerPolicy, members: u32) {
        self.doubt();
        self.measures.clear();
        let name = Arc::clone(&breaker.name);
        self.report = BreakerReport { name, unknown: members, ..BreakerReport::default() };
    }

    /// Serving pods seen and serving pods, where too few are seen. Before the first series there is nothing to hold: a
    /// source that never knew a pod condemns none.
    pub(crate) fn low_coverage(&self, min_percent: u32) -> Option<(u32, u32)> {
        let (seen, serving) = self.coverage;
        (self.had_series && u64::from(seen) * 100 < u64::from(serving) * u64::from(min_percent))
            .then_some((seen, serving))
    }

    /// Whether it was beyond the rule in one of the verdicts that confirmation looks back upon: so long it may linger.
    pub(crate) fn was_anomalous(&self, uid: &str) -> bool {
        self.records.contains_key(uid)
    }

    /// What the last answer said of a pod.
    pub(crate) fn health(&self, uid: &str) -> Health {
        if self.answered.is_none() || self.unknown.contains(uid) {
            Health::Unknown
        } else if self.anomalous.contains_key(uid) {
            Health::Anomalous
        } else {
            Health::Healthy
        }
    }

    /// Anomalous by the last answer that knew it, or not yet healthy again since.
    pub(crate) fn is_anomalous(&self, uid: &str) -> bool {
        self.anomalous.contains_key(uid)
    }

    /// When a pod turned anomalous from healthy.
    pub(crate) fn turned(&self, uid: &str) -> Option<Duration> {
        self.anomalous.get(uid).copied().flatten()
    }

    /// Anomalous verdicts that count.
    pub(crate) fn found(&self, uid: &str, counting: Counting, now: Duration) -> u8 {
        self.records.get(uid).map_or(0, |record| record.found(counting, now))
    }

    pub(crate) fn confirmed(&self, uid: &str, counting: Counting, now: Duration) -> bool {
        self.records.get(uid).is_some_and(|record| record.confirmed(counting, now))
    }

    /// Confirmation starts afresh, of one pod or of all.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.records.remove(uid);
        self.anomalous.remove(uid);
        self.healing.remove(uid);
    }

    pub(crate) fn confirm_afresh(&mut self) {
        self.records.clear();
    }

    /// Keeps what the verdicts were made of, in the order of the members.
    pub(crate) fn keep(&mut self, fleet: &Fleet, measures: &[Measure], asked: Duration) {
        let each = fleet.members.iter().zip(measures).map(|(m, measure)| (Arc::clone(&m.uid), *measure));
        self.measures.clear();
        self.measures.extend(each);
        self.asked = Some(asked);
    }

    /// What the last answer measured, by uid.
    pub(crate) fn measures(&self) -> &[(Arc<str>, Measure)] {
        &self.measures
    }

    /// When that was asked for.
    pub(crate) fn asked(&self) -> Option<Duration> {
        self.asked
    }

    /// Takes the verdicts of one answer, in the order of the members. `asked`: when it was asked for, which is the time
    /// that its samples speak of.
    pub(crate) fn note(
        &mut self,
        breaker: &BreakerPolicy,
        fleet: &Fleet,
        verdicts: &[Verdict],
        (asked, now): (Duration, Duration),
    ) {
        let counting = Counting::of(breaker);
        self.note_source(fleet, verdicts, counting, asked);
        self.retain(fleet);
        for (member, verdict) in fleet.members.iter().zip(verdicts) {
            self.note_pod(member, verdict, counting, asked);
        }
        self.answered = Some(now);
        let of = |is: fn(&Verdict) -> bool| count(verdicts.iter().filter(|v| is(v)).count());
        self.report = BreakerReport {
            name: Arc::clone(&breaker.name),
            healthy: of(|v| matches!(v, Verdict::Healthy)),
            anomalous: of(|v| matches!(v, Verdict::Anomalous { .. } | Verdict::Lingering)),
            unknown: of(|v| matches!(v, Verdict::Unknown(_))),
            would_cut: Vec::new(),
        };
    }

    fn note_source(&mut self, fleet: &Fleet, verdicts: &[Verdict], counting: Counting, asked: Duration) {
        let seen = |v: &Verdict| !matches!(v, Verdict::Unknown(Unknown::NoSeries));
        let any = verdicts.iter().any(seen);
        // No series at all for a fleet that had some: the exporter or the query is broken, not the pods healthy.
        if self.had_series && !any && !verdicts.is_empty() {
            self.doubt();
        } else if self.doubtful > 0 && self.good.is_none_or(|good| counting.is_new(good, asked)) {
            (self.doubtful, self.good) = (self.doubtful - 1, Some(asked));
        }
        self.had_series |= any;
        let serving = || fleet.members.iter().zip(verdicts).filter(|(m, _)| m.serving());
        self.coverage = (count(serving().filter(|(_, v)| seen(v)).count()), count(serving().count()));
    }

    fn retain(&mut self, fleet: &Fleet) {
        let known = [self.anomalous.len(), self.unknown.len(), self.records.len(), self.healing.len()];
        if known == [0; 4] {
            return;
        }
        let present: BTreeSet<&Arc<str>> = fleet.members.iter().map(|m| &m.uid).collect();
        self.anomalous.retain(|uid, _| present.contains(uid));
        self.unknown.retain(|uid| present.contains(uid));
        self.records.retain(|uid, _| present.contains(uid));
        self.healing.retain(|uid, _| present.contains(uid));
    }

    fn note_pod(&mut self, member: &Member, verdict: &Verdict, counting: Counting, asked: Duration) {
        let uid = &member.uid;
        let was_unknown = match verdict {
            Verdict::Unknown(_) => !self.unknown.insert(Arc::clone(uid)),
            Verdict::Healthy | Verdict::Lingering | Verdict::Anomalous { .. } => self.unknown.remove(uid),
        };
        match verdict {
            Verdict::Anomalous { .. } => {
                let healthy_before = self.answered.is_some() && !was_unknown;
                self.anomalous.entry(Arc::clone(uid)).or_insert(healthy_before.then_some(asked));
                // Pods that are out confirm nothing: what they show is of before, or of connections that stayed.
                if member.serving() {
                    self.records.entry(Arc::clone(uid)).or_default().note(true, counting, asked);
                }
                self.interrupt(uid);
            }
            Verdict::Lingering => {
                self.note_within(uid, counting, asked);
                self.interrupt(uid);
            }
            Verdict::Healthy => {
                self.anomalous.remove(uid);
                self.note_within(uid, counting, asked);
            }
            Verdict::Unknown(_) => {}
        }
    }

    fn note_within(&mut self, uid: &Arc<str>, counting: Counting, asked: Duration) {
        if let Some(record) = self.records.get_mut(uid) {
            record.note(false, counting, asked);
            if record.empty() {
                self.records.remove(uid);
            }
        }
    }

    /// The time until it is healthy again is none in which it was.
    fn interrupt(&mut self, uid: &Arc<str>) {
        if let Some(healing) = self.healing.get_mut(uid) {
            healing.seen = None;
        }
    }

    /// Adds the time since the last answer to a pod that serves, has strikes and is healthy; says whether it has earned
    /// forgiveness. Gaps of more than three periods are no observation.
    pub(crate) fn heal(&mut self, member: &Member, breaker: &BreakerPolicy, now: Duration) -> bool {
        let fresh = || Healing { seen: None, total: Duration::ZERO, strikes: member.strikes.clone() };
        let healing = self.healing.entry(Arc::clone(&member.uid)).or_insert_with(fresh);
        if healing.strikes != member.strikes {
            *healing = fresh();
        }
        let since = healing.seen.map_or(Duration::ZERO, |seen| now.saturating_sub(seen));
        if since <= breaker.evaluation_period.saturating_mul(3) {
            healing.total = healing.total.saturating_add(since);
        }
        healing.seen = Some(now);
        healing.total >= breaker.activator.max_period
    }

    /// Whether the pod has earned forgiveness.
    pub(crate) fn healed(&self, uid: &str, breaker: &BreakerPolicy) -> bool {
        self.healing.get(uid).is_some_and(|h| h.total >= breaker.activator.max_period)
    }
}
