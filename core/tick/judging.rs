//! Answers to verdicts, and what they say of the whole: storm, blindness, coverage.

use std::sync::Arc;
use std::time::Duration;

use super::Input;
use crate::activator::activator_of;
use crate::breaker::Judged;
use crate::confirm::Counting;
use crate::detector::{Asked, Detector, judge};
use crate::fleet::{Member, Workload, count};
use crate::gates::Gate;
use crate::known::Known;
use crate::memory::Memory;
use crate::plan::Remark;
use crate::policy::{BreakerPolicy, Mode};
use crate::storm::{Change, Weather};
use crate::suspects::{Health, suspects};
use crate::traffic::{Move, Traffic};
use crate::verdict::{Evidence, Measure, Unknown, Verdict};

/// A source's silence about a pod that is out is a finding only after this long: samples are kept for so long by
/// themselves.
const SILENCE: Duration = Duration::from_mins(1);

/// The verdicts of the enforcing breakers that were answered, and what is remarkable in them.
pub(super) fn judge_all<'a>(input: &Input<'a>, memory: &mut Memory) -> (Vec<Judged<'a>>, Vec<Remark>) {
    let (mut judged, mut remarks) = (Vec::new(), Vec::new());
    if input.policy.mode != Mode::Active {
        return (judged, remarks);
    }
    for breaker in input.policy.enforcing() {
        let Some(answer) = input.answers.iter().find(|a| a.breaker == &*breaker.name) else { continue };
        let Some(samples) = answer.samples else {
            let members = input.fleet.size();
            memory.known(breaker).fail(breaker, members);
            continue;
        };
        let window = breaker.range.saturating_add(breaker.scrape_interval);
        let old_enough = input.policy.limits.min_pod_age.max(window);
        let warm = |m: &Member| m.ready && memory.pod(m).ready_for(input.now.mono) >= old_enough;
        let measures =
            judge(input.fleet, Asked { samples, activity: answer.activity }, &breaker.detector, &warm);
        remarks.extend(remarkable(input, memory, breaker, &measures));
        let measures = believed(input, memory, breaker, answer.asked, measures);
        let verdicts = verdicts(input, memory, breaker, &measures);
        memory.known(breaker).keep(input.fleet, &measures, answer.asked);
        judged.push(note(input, memory, breaker, answer.asked, verdicts));
    }
    (judged, remarks)
}

/// The measures that speak of the pods as they are now; the others are none.
fn believed(
    input: &Input<'_>,
    memory: &Memory,
    breaker: &BreakerPolicy,
    asked: Duration,
    mut measures: Vec<Measure>,
) -> Vec<Measure> {
    for (member, measure) in input.fleet.members.iter().zip(&mut measures) {
        if measure.is_ok() && may_be_of_another(member, memory, breaker, asked) {
            *measure = Err(Unknown::TooYoung);
            continue;
        }
        let settles = memory.pod(member).return_of().is_some_and(|r| r.settles(breaker, asked));
        if settles && *measure != Err(Unknown::NoSeries) {
            *measure = Err(Unknown::Settling);
        }
    }
    measures
}

fn verdicts(
    input: &Input<'_>,
    memory: &Memory,
    breaker: &BreakerPolicy,
    measures: &[Measure],
) -> Vec<Verdict> {
    let known = memory.breakers.get(&breaker.name);
    let was_anomalous = |member: &Member| known.is_some_and(|k| k.was_anomalous(&member.uid));
    let members = input.fleet.members.iter().zip(measures);
    members.map(|(member, measure)| Verdict::of(*measure, was_anomalous(member))).collect()
}

/// Whether the answer to a question of then may still show the last pod of this one's name, as a StatefulSet gives it to
/// the next. A custom service answers for the pods of now.
fn may_be_of_another(member: &Member, memory: &Memory, breaker: &BreakerPolicy, asked: Duration) -> bool {
    let window = breaker.range.saturating_add(breaker.scrape_interval);
    let shows_what_was = breaker.detector != Detector::Custom;
    shows_what_was && member.workload == Workload::StatefulSet && memory.pod(member).known_for(asked) < window
}

/// Takes note of the verdicts; gives them with what confirmation says of each.
fn note<'a>(
    input: &Input<'a>,
    memory: &mut Memory,
    breaker: &'a BreakerPolicy,
    asked: Duration,
    verdicts: Vec<Verdict>,
) -> Judged<'a> {
    let (fleet, now, counting) = (input.fleet, input.now.mono, Counting::of(breaker));
    memory.known(breaker).note(breaker, fleet, &verdicts, (asked, now));
    let mut found = vec![None; verdicts.len()];
    for ((member, verdict), found) in fleet.members.iter().zip(&verdicts).zip(&mut found) {
        let anomalous = match verdict {
            Verdict::Anomalous { .. } => true,
            Verdict::Healthy => false,
            Verdict::Lingering | Verdict::Unknown(_) => continue,
        };
        let mut probation = false;
        if let Some(returned) = memory.returned(&member.uid) {
            probation = returned.on_probation(breaker, asked);
            returned.hear(!anomalous, breaker, asked);
        }
        let Some(known) = memory.breakers.get_mut(&breaker.name) else { continue };
        if anomalous && !probation && !known.confirmed(&member.uid, counting, now) {
            *found = Some(known.found(&member.uid, counting, now));
        }
        if !anomalous && member.serving() && heals(input, breaker, member) {
            known.heal(member, breaker, now);
        }
    }
    Judged { breaker, verdicts, unconfirmed: found }
}

/// Whether health seen by `breaker` earns this pod forgiveness: of its own strikes, or of those that nobody owns.
pub(super) fn heals(input: &Input<'_>, breaker: &BreakerPolicy, member: &Member) -> bool {
    let known = |name: &str| input.policy.breaker(name).is_some();
    !member.strikes.0.is_empty() && member.strikes.minus_one(&breaker.name, known).is_some()
}

/// What people should know of the pods that are out: that they still get traffic, or that nobody sees them any more.
fn remarkable(
    input: &Input<'_>,
    memory: &Memory,
    breaker: &BreakerPolicy,
    measures: &[Measure],
) -> Vec<Remark> {
    let after = breaker.range.saturating_add(breaker.scrape_interval.saturating_mul(2));
    let counts = match &breaker.detector {
        Detector::Discrete(_) => true,
        Detector::Outlier(rule) => rule.min_activity.is_some(),
        Detector::Range(rule) => rule.min_activity.is_some(),
        Detector::Deviation(_) | Detector::Custom => false,
    };
    let serving_seen = || input.fleet.members.iter().zip(measures).any(|(m, v)| m.serving() && v.is_ok());
    let mut remarks = Vec::new();
    for (member, measure) in input.fleet.members.iter().zip(measures) {
        let out = matches!(member.traffic, Traffic::Cut(_)) && member.ready;
        let Some(age) = memory.pod(member).cut_age(input.now.mono).filter(|age| out && *age >= after) else {
            continue;
        };
        let (pod, uid) = (Arc::clone(&member.name), Arc::clone(&member.uid));
        let breaker_name = Arc::clone(&breaker.name);
        match measure {
            Ok(measured) if counts => {
                let events =
                    if let Evidence::BadShare { events, .. } = measured.evidence { events } else { 0.0 };
                remarks.push(Remark::CutIneffective { pod, uid, breaker: breaker_name, events });
            }
            Err(Unknown::NoSeries) if age >= after.saturating_add(SILENCE) && serving_seen() => {
                remarks.push(Remark::MetricsFollowTraffic { breaker: breaker_name, pod });
            }
            Ok(_) | Err(_) => {}
        }
    }
    remarks
}

/// What the enforcing breakers say of a member together: one that sees it ill is enough.
pub(super) fn health(input: &Input<'_>, memory: &Memory, member: &Member) -> Health {
    let mut health = Health::Unknown;
    for breaker in input.policy.enforcing() {
        match memory.breakers.get(&breaker.name).map_or(Health::Unknown, |k| k.health(&member.uid)) {
            Health::Anomalous => return Health::Anomalous,
            Health::Healthy => health = Health::Healthy,
            Health::Unknown => {}
        }
    }
    health
}

/// Looks at the whole: whether a storm rages.
pub(super) fn look_out(input: &Input<'_>, memory: &mut Memory) {
    let now = input.now.mono;
    let weather = weather(input, memory);
    let periods = input.policy.enforcing().map(|b| b.evaluation_period).max().unwrap_or_default() * 3;
    let induced = induced(input, memory);
    if memory.storm.observe(weather, periods, induced, now) == Change::Ended {
        memory.breakers.values_mut().for_each(Known::confirm_afresh);
    }
}

fn weather(input: &Input<'_>, memory: &Memory) -> Weather {
    let (mut anomalous, mut of, mut cut) = (0, 0, 0);
    for member in &input.fleet.members {
        if timed_lately(input, memory, member) {
            (anomalous, of, cut) = (anomalous + 1, of + 1, cut + 1);
        } else if member.serving() {
            let health = health(input, memory, member);
            anomalous += u32::from(health == Health::Anomalous);
            of += u32::from(health != Health::Unknown);
        }
    }
    let unseen = input.policy.enforcing().filter_map(|b| memory.breakers.get(&b.name)).any(Known::blind);
    Weather { anomalous, of, cut, limit: input.policy.limits.max_anomalous_percent, unseen }
}

/// Out by a cut of ours that is no older than its activator lets cuts last.
fn timed_lately(input: &Input<'_>, memory: &Memory, member: &Member) -> bool {
    match &member.traffic {
        Traffic::Cut(cut) => {
            let (activator, _) = activator_of(input.policy, cut);
            memory.pod(member).cut_age(input.now.mono).is_some_and(|age| age < activator.max_period)
        }
        Traffic::Unlabelled
        | Traffic::Open
        | Traffic::OpenedByHand(_)
        | Traffic::KeptOut
        | Traffic::CutByHand
        | Traffic::Paused
        | Traffic::Odd => member.in_flight == Some(Move::Cut),
    }
}

/// Whether most of the serving pods that are anomalous were healthy until cuts of ours, a moment ago.
fn induced(input: &Input<'_>, memory: &Memory) -> bool {
    let (policy, now) = (input.policy, input.now.mono);
    let scrape = policy.enforcing().map(|b| b.scrape_interval).max().unwrap_or_default();
    let window = policy.longest_range().saturating_add(scrape.saturating_mul(2));
    let cut_age =
        |m: &Member| matches!(m.traffic, Traffic::Cut(_)).then(|| memory.pod(m).cut_age(now)).flatten();
    let Some(oldest) = input.fleet.members.iter().filter_map(cut_age).filter(|age| *age <= window).max()
    else {
        return false;
    };
    let since = now.saturating_sub(oldest);
    let turned = |m: &Member| {
        let at = policy.enforcing().filter_map(|b| memory.breakers.get(&b.name)?.turned(&m.uid)).max();
        at.is_some_and(|at| at > since)
    };
    let ill: Vec<_> = input
        .fleet
        .members
        .iter()
        .filter(|m| m.serving() && health(input, memory, m) == Health::Anomalous)
        .collect();
    ill.iter().filter(|m| turned(m)).count() * 2 > ill.len()
}

/// Everything that holds now.
pub(super) fn gates_of(input: &Input<'_>, memory: &Memory) -> Vec<Gate> {
    let Input { policy, now, .. } = input;
    let mut gates = Vec::new();
    // First, as a status keeps the first one's name: a process that is started meanwhile goes on from there.
    if let Some(until) = memory.storm.quiet(now.mono) {
        gates.push(Gate::Overload { until: crate::add(now.wall, until.saturating_sub(now.mono)) });
    }
    if memory.storm.rages() {
        let Weather { anomalous, of, limit, .. } = weather(input, memory);
        gates.push(Gate::Storm { anomalous, of, limit });
    }
    gates.extend_from_slice(input.gates);
    if policy.mode == Mode::DryRun && !gates.contains(&Gate::DryRun) {
        gates.push(Gate::DryRun);
    }
    let held = policy.holds.iter().filter(|hold| hold.until.is_none_or(|until| until > now.wall));
    gates.extend(held.map(|hold| Gate::Held { reason: Arc::clone(&hold.reason), until: hold.until }));
    for breaker in policy.enforcing() {
        let Some(known) = memory.breakers.get(&breaker.name) else { continue };
        let name = || Arc::clone(&breaker.name);
        if known.blind() {
            gates.push(Gate::Blind { breaker: name() });
        } else if let Some((seen, serving)) = known.low_coverage(policy.limits.min_coverage_percent) {
            gates.push(Gate::LowCoverage { breaker: name(), seen, serving });
        }
    }
    gates
}

/// What anomalous pods have in common, where anything was judged.
pub(super) fn suspected(input: &Input<'_>, memory: &Memory) -> Vec<Remark> {
    if count(memory.breakers.len()) == 0 {
        return Vec::new();
    }
    // A cut pod was anomalous, and what it has in common with others still says something.
    let health = |m: &Member| {
        if timed_lately(input, memory, m) { Health::Anomalous } else { health(input, memory, m) }
    };
    suspects(input.fleet, health).into_iter().map(Remark::Suspect).collect()
}
