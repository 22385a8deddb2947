//! Why a pod is out, and why it is not.
//!
//! Takes what a tick takes, without answers, and what the ticks left behind; gives values for people, of one pod or of
//! all. Decides nothing and changes nothing: what would hold a cut is asked of the tick's own code.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::Now;
use crate::activator::{Step, step};
use crate::budget::{Budget, Limit};
use crate::confirm::Counting;
use crate::fleet::Member;
use crate::gates::Gate;
use crate::input::{Answer, Input};
use crate::known::Known;
use crate::memory::Memory;
use crate::plan::{Plan, Refusal, Why};
use crate::policy::{BreakerPolicy, Confirm, CutsPerPeriod};
use crate::tick::{held, standing};
use crate::traffic::{Move, Traffic};
use crate::verdict::Measure;
use crate::words;

mod sentences;

/// What was refused by the last answer of each breaker: between two answers nothing is wanted, and nothing refused.
#[derive(Debug, Default)]
pub struct Refused(Vec<Refusal>);

impl Refused {
    /// Takes what a tick refused. Holds at most one refusal for each pod and breaker, and one for each pod.
    pub fn note(&mut self, plan: &Plan, answers: &[Answer<'_>]) {
        let stays = |r: &Refusal| {
            let of = |breaker: &Arc<str>| !answers.iter().any(|a| a.breaker == &**breaker);
            r.step == Move::Cut && r.breaker.as_ref().is_some_and(of)
        };
        self.0.retain(stays);
        self.0.extend(plan.refusals.iter().cloned());
    }

    /// Those that concern this pod.
    pub fn of<'a>(&'a self, pod: &'a str) -> impl Iterator<Item = &'a Refusal> {
        self.0.iter().filter(move |refusal| &*refusal.pod == pod)
    }
}

/// What a breaker says of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// Within the rule.
    Healthy,
    /// Beyond it.
    Anomalous,
    /// Within the rule again, and not far enough within.
    Lingering,
    /// Nothing.
    Unknown,
}

impl Says {
    words! {
        /// One word.
        pub fn as_str(self: Self) -> WORDS {
            Self::Healthy => "Healthy",
            Self::Anomalous => "Anomalous",
            Self::Lingering => "Lingering",
            Self::Unknown => "Unknown",
        }
    }
}

/// One breaker on one pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The breaker.
    pub breaker: Arc<str>,
    /// Its verdict.
    pub says: Says,
    /// What its last answer measured; `None` where no answer has spoken of the pod, or the source failed.
    pub measure: Option<Measure>,
    /// The middle of the pods that were compared, where the rule compares.
    pub median: Option<f64>,
    /// When its last answer was asked for.
    pub asked: Option<Timestamp>,
    /// Anomalous verdicts that count.
    pub found: u8,
    /// The pod is back, and what is measured before this is of the time before.
    pub settles_until: Option<Timestamp>,
    /// The pod is back, and one anomalous verdict is enough.
    pub probation: bool,
    /// What the pod would have to show to be anomalous, in words.
    pub threshold: String,
    /// And how often.
    pub confirm: Confirm,
}

/// One pod.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Why it is out, or why it is not, in a sentence.
    pub answer: String,
    /// What would have to change for it to come back, or to be cut, in a sentence.
    pub change: String,
    /// What would refuse a cut of it now, were a breaker sure of it.
    pub held: Option<Why>,
    /// What the last answers refused it.
    pub refusals: Vec<Refusal>,
    /// When its cut is over, and what is wanted then.
    pub due: Option<(Timestamp, Step)>,
    /// A person put it back: it is not cut before.
    pub quiet_until: Option<Timestamp>,
    /// The API server refused the last write: it is not written before.
    pub hold_off_until: Option<Timestamp>,
    /// Every breaker.
    pub findings: Vec<Finding>,
}

/// The budget written out.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    /// Before anything is spent.
    pub budget: Budget,
    /// How the floor came about.
    pub floor: String,
    /// How the most that may be out came about.
    pub max_out: String,
    /// How the most that may be cut within the window came about.
    pub max_recent_cuts: String,
    /// That window.
    pub window: Duration,
    /// Writes of ours that the watch has not shown yet.
    pub in_flight: u32,
    /// Members that are not Ready.
    pub not_ready: u32,
    /// Members that are there now.
    pub present: u32,
    /// Cuts that are allowed, and the limit that allows the fewest.
    pub headroom: (u32, Limit),
}

/// A service at one instant.
pub struct Looked<'a> {
    input: &'a Input<'a>,
    memory: &'a Memory,
    refused: &'a Refused,
    gates: Vec<Gate>,
    budget: Budget,
    breakers: Vec<Rule<'a>>,
}

/// A breaker, with its last measures by uid.
struct Rule<'a> {
    policy: &'a BreakerPolicy,
    known: Option<&'a Known>,
    measures: BTreeMap<&'a str, &'a Measure>,
    median: Option<f64>,
}

impl<'a> Rule<'a> {
    fn of(policy: &'a BreakerPolicy, memory: &'a Memory) -> Self {
        let known = memory.breakers.get(&policy.name);
        let all = known.map(Known::measures).unwrap_or_default();
        let median = all.iter().find_map(|(_, measure)| measure.ok()?.evidence.median());
        Self { policy, known, measures: all.iter().map(|(uid, m)| (&**uid, m)).collect(), median }
    }
}

impl<'a> Looked<'a> {
    /// Looks at a service. Answers of the input are not looked at.
    #[must_use]
    pub fn at(input: &'a Input<'a>, memory: &'a Memory, refused: &'a Refused) -> Self {
        let (gates, budget) = standing(input, memory);
        let breakers = input.policy.enforcing().map(|policy| Rule::of(policy, memory)).collect();
        Self { input, memory, refused, gates, budget, breakers }
    }

    /// Everything that holds now.
    #[must_use]
    pub fn gates(&self) -> &[Gate] {
        &self.gates
    }

    /// The members, as this decision sees them.
    #[must_use]
    pub fn members(&self) -> &'a [Member] {
        &self.input.fleet.members
    }

    /// The budget written out.
    #[must_use]
    pub fn sum(&self) -> Sum {
        let (budget, policy, fleet) = (self.budget, self.input.policy, self.input.fleet);
        let present = budget.size.min(fleet.size());
        let per_period = match policy.limits.cuts_per_period {
            CutsPerPeriod::Count(count) => count.to_string(),
            CutsPerPeriod::Percent(percent) => {
                format!("max(1, floor({percent} % of {present})) = {}", budget.max_recent_cuts)
            }
        };
        Sum {
            budget,
            floor: sentences::floor(policy, budget.size),
            max_out: format!("floor({} % of {present}) = {}", policy.limits.max_cut_percent, budget.max_out),
            max_recent_cuts: per_period,
            window: policy.cut_window(),
            in_flight: fleet.count(|m| m.in_flight.is_some()),
            not_ready: fleet.count(|m| !m.ready),
            present: fleet.size(),
            headroom: budget.headroom(),
        }
    }

    /// One pod. `why`: the evidence that stands on it, where it is out.
    #[must_use]
    pub fn pod(&self, member: &Member, why: Option<&str>) -> Explanation {
        let now = self.input.now;
        let pod = self.memory.pod(member);
        let findings: Vec<_> = self.breakers.iter().map(|rule| self.finding(rule, member)).collect();
        let later = |at: Duration| Some(at).filter(|at| *at > now.mono).map(|at| wall(at, now));
        let mut this = Explanation {
            answer: String::new(),
            change: String::new(),
            held: self.held(member, &findings),
            refusals: self.refused.of(&member.name).cloned().collect(),
            due: self.due(member),
            quiet_until: pod.quiet_until.and_then(later),
            hold_off_until: later(pod.not_before),
            findings,
        };
        let told = sentences::Told { member, this: &this, budget: self.budget, why, now };
        (this.answer, this.change) = (told.answer(), told.change());
        this
    }

    fn finding(&self, rule: &Rule<'_>, member: &Member) -> Finding {
        let Input { now, .. } = *self.input;
        let Rule { policy, known, median, .. } = *rule;
        let measure = rule.measures.get(&*member.uid).map(|measure| **measure);
        let lingers = known.is_some_and(|k| k.is_anomalous(&member.uid));
        let says = match measure {
            Some(Ok(measured)) if measured.beyond => Says::Anomalous,
            Some(Ok(_)) if lingers => Says::Lingering,
            Some(Ok(_)) => Says::Healthy,
            Some(Err(_)) | None => Says::Unknown,
        };
        let back = self.memory.pod(member).return_of();
        let settled = back.map(|back| back.settled_at(policy)).filter(|at| *at > now.mono);
        Finding {
            breaker: Arc::clone(&policy.name),
            says,
            measure,
            median,
            asked: known.and_then(Known::asked).map(|asked| wall(asked, now)),
            found: known.map_or(0, |k| k.found(&member.uid, Counting::of(policy), now.mono)),
            settles_until: settled.map(|at| wall(at, now)),
            probation: settled.is_none() && back.is_some_and(|back| back.on_probation(policy, now.mono)),
            threshold: policy.detector.threshold(),
            confirm: policy.confirm,
        }
    }

    /// What would refuse a cut by the breaker that is closest to wanting one.
    fn held(&self, member: &Member, findings: &[Finding]) -> Option<Why> {
        if !member.serving() || !member.traffic.allows(Move::Cut) {
            return None;
        }
        let margin = |(_, f): &(usize, &Finding)| f.measure.and_then(Result::ok).map_or(0.0, |m| m.margin);
        let closest = findings.iter().enumerate().max_by(|a, b| margin(a).total_cmp(&margin(b)));
        let breaker = self.breakers.get(closest.map_or(0, |(index, _)| index))?.policy;
        held(self.input, self.memory, (&self.gates, self.budget), (member, breaker))
    }

    fn due(&self, member: &Member) -> Option<(Timestamp, Step)> {
        let Traffic::Cut(cut) = &member.traffic else { return None };
        let (fleet, policy, now) = (self.input.fleet, self.input.policy, self.input.now);
        let at = self.memory.pod(member).due_at();
        let at = at.map(|at| wall(at, now)).or(cut.restore_at).unwrap_or(now.wall);
        let paused = fleet.count(|m| m.traffic == Traffic::Paused);
        Some((at, step(policy, member, cut, paused)))
    }
}

/// A time of the clock that cannot be moved, as people read it now.
fn wall(at: Duration, now: Now) -> Timestamp {
    let before = now.mono.saturating_sub(at);
    if before.is_zero() {
        crate::add(now.wall, at.saturating_sub(now.mono))
    } else {
        now.wall.saturating_sub(before).unwrap_or(jiff::Timestamp::MIN)
    }
}

#[cfg(test)]
mod tests;
