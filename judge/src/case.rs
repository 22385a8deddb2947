//! One case: an incident over one fleet at one scrape interval, as a function of the second.
//!
//! Takes an incident file, a fleet size and a scrape interval; gives who is alive, who is bad and how each pod
//! answers at a second. Draws who is befallen from the seed; knows nothing of who is out.

use std::ops::Range;
use std::sync::Arc;

use incidents::{Purpose, Seed, Symptoms};

use crate::file::{self, Episode, IncidentFile, Pods, Point};

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is played.
    pub incident: Arc<IncidentFile>,
    /// Pods at any time, but for one more while a rollout replaces one.
    pub fleet: u32,
    /// Seconds between two scrapes of a pod.
    pub scrape: u32,
    /// Every draw of this case.
    pub seed: Seed,
    /// The pods of each episode, sorted.
    befallen: Vec<Vec<u32>>,
}

/// How a pod is at one second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct State {
    /// How it answers.
    pub symptoms: Symptoms,
    /// The label: it should be out of traffic.
    pub bad: bool,
    /// On its way there: to take it out is neither right nor wrong yet.
    pub ailing: bool,
}

impl State {
    /// Whether a client is worse off with such an answer of this pod: an error of a bad pod, or any answer of one
    /// that is slow or wrong in what it says.
    #[must_use]
    pub fn harms(&self, usual: &Symptoms, failed: bool) -> bool {
        let Symptoms { error_share: _, latency_factor, price_factor, price_offset } = self.symptoms;
        let odd = latency_factor != usual.latency_factor
            || price_factor != usual.price_factor
            || price_offset != usual.price_offset;
        self.bad && (odd || failed)
    }
}

/// All cases of an incident, in the order of its lists.
#[must_use]
pub fn cases(incident: &Arc<IncidentFile>) -> Vec<Case> {
    let of = |fleet: &u32| {
        let fleet = *fleet;
        incident.scrape_seconds.iter().map(move |scrape| Case::new(Arc::clone(incident), fleet, *scrape))
    };
    incident.fleet.iter().flat_map(of).collect()
}

impl Case {
    /// The incident at this size and scrape interval.
    #[must_use]
    pub fn new(incident: Arc<IncidentFile>, fleet: u32, scrape: u32) -> Self {
        // Not of the scrape interval: at each of them the same happens.
        let seed = Seed::new(kubervisor_core::backoff::hash(u64::from(fleet), incident.name.as_bytes()));
        let pick = |(i, episode): (usize, &Episode)| befallen(seed, i, episode.pods, fleet);
        let befallen = incident.episodes.iter().enumerate().map(pick).collect();
        Self { incident, fleet, scrape, seed, befallen }
    }

    /// How long it lasts.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.incident.seconds
    }

    /// Pods that ever live: those of the start, then their successors.
    #[must_use]
    pub fn pods(&self) -> u32 {
        if self.incident.rollout.is_some() { self.fleet * 2 } else { self.fleet }
    }

    /// The seconds in which a pod lives.
    #[must_use]
    pub fn life(&self, pod: u32) -> Range<u32> {
        let end = self.seconds();
        match &self.incident.rollout {
            None => 0..end,
            // The new one a second before the old one goes: a surge of one.
            Some(rollout) if pod < self.fleet => 0..end.min(self.turn(rollout, pod) + 1),
            Some(rollout) => end.min(self.turn(rollout, pod - self.fleet))..end,
        }
    }

    fn turn(&self, rollout: &file::Rollout, place: u32) -> u32 {
        let share = u64::from(rollout.within) * u64::from(place) / u64::from(self.fleet);
        rollout.from + u32::try_from(share).unwrap_or(u32::MAX)
    }

    /// Requests that the clients send within a second.
    #[must_use]
    pub fn requests(&self, second: u32) -> u32 {
        let load = &self.incident.load;
        let noise = 1.0 + load.noise * (2.0 * self.seed.unit(Purpose::Volume, second.into(), 0) - 1.0);
        let rate = load.requests_per_second_per_pod * f64::from(self.fleet);
        let wanted = rate * at(&load.curve, second) * noise;
        // What is left of a whole request is drawn, so that slow rates are kept in the mean.
        let more = self.seed.unit(Purpose::Volume, second.into(), 1) < wanted.fract();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "bounded by the file's limits"
        )]
        let whole = wanted as u32;
        whole + u32::from(more)
    }

    /// How a pod is at a second.
    #[must_use]
    pub fn state(&self, pod: u32, second: u32) -> State {
        let usual = self.usual(second);
        let mut state = State { symptoms: usual, bad: false, ailing: false };
        self.newcomer(pod, second, usual, &mut state);
        self.burst(pod, second, usual, &mut state);
        for (episode, pods) in self.incident.episodes.iter().zip(&self.befallen) {
            if (episode.from..episode.until).contains(&second) && pods.binary_search(&pod).is_ok() {
                let bad_from = episode.bad_from.unwrap_or(episode.from);
                let symptoms = self.in_episode(episode, second, usual);
                let (bad, ailing) = (episode.bad && second >= bad_from, episode.bad && second < bad_from);
                state = State { symptoms, bad, ailing };
            }
        }
        state
    }

    /// What every pod does as a rule at a second.
    #[must_use]
    pub fn usual(&self, second: u32) -> Symptoms {
        let usual = &self.incident.usual;
        Symptoms {
            error_share: usual.error_share,
            latency_factor: at(&usual.latency_curve, second),
            price_factor: at(&usual.value_curve, second),
            price_offset: 0.0,
        }
    }

    fn in_episode(&self, episode: &Episode, second: u32, usual: Symptoms) -> Symptoms {
        let base = if episode.value_stuck {
            Symptoms { price_factor: at(&self.incident.usual.value_curve, episode.from), ..usual }
        } else {
            usual
        };
        let grown = if episode.grows {
            f64::from(second - episode.from) / f64::from(episode.until - episode.from)
        } else {
            1.0
        };
        with(base, &episode.symptoms, grown)
    }

    /// A pod of a rollout.
    fn newcomer(&self, pod: u32, second: u32, usual: Symptoms, state: &mut State) {
        let Some(rollout) = self.incident.rollout.as_ref().filter(|_| pod >= self.fleet) else { return };
        let mut symptoms = usual;
        if let Some(revision) = &rollout.revision {
            symptoms = with(symptoms, &revision.symptoms, 1.0);
            state.bad = revision.bad;
        }
        let age = second.saturating_sub(self.life(pod).start);
        if let Some(warm_up) = rollout.warm_up.as_ref().filter(|warm_up| age < warm_up.seconds) {
            symptoms = with(symptoms, &warm_up.symptoms, 1.0);
        }
        state.symptoms = symptoms;
    }

    fn burst(&self, pod: u32, second: u32, usual: Symptoms, state: &mut State) {
        let Some(bursts) = &self.incident.bursts else { return };
        let turn = second / bursts.every_seconds;
        let drawn = self.seed.draw(Purpose::Fate, u64::MAX, turn.into()) % u64::from(self.fleet);
        if turn > 0 && second % bursts.every_seconds < bursts.lasts && u64::from(pod) == drawn {
            state.symptoms = Symptoms { error_share: bursts.error_share, ..usual };
        }
    }
}

/// `base` with the written symptoms, as far as they have grown.
fn with(base: Symptoms, written: &file::Symptoms, grown: f64) -> Symptoms {
    let file::Symptoms { error_share, latency_factor, value_factor, value_offset } = *written;
    let errors = error_share.unwrap_or(base.error_share);
    Symptoms {
        error_share: base.error_share + (errors - base.error_share) * grown,
        latency_factor: base.latency_factor * (1.0 + (latency_factor - 1.0) * grown),
        price_factor: base.price_factor * (1.0 + (value_factor - 1.0) * grown),
        price_offset: base.price_offset + value_offset * grown,
    }
}

/// A curve's factor: 1 without points, linear between them, constant outside.
fn at(points: &[Point], second: u32) -> f64 {
    let next = points.partition_point(|point| point.at <= second);
    match (next.checked_sub(1).map(|before| points[before]), points.get(next)) {
        (None, None) => 1.0,
        (None, Some(first)) => first.factor,
        (Some(last), None) => last.factor,
        (Some(a), Some(b)) => {
            a.factor + (b.factor - a.factor) * f64::from(second - a.at) / f64::from(b.at - a.at)
        }
    }
}

/// The pods with the lowest draws of their own: any number of them is a fair sample.
fn befallen(seed: Seed, episode: usize, pods: Pods, fleet: u32) -> Vec<u32> {
    let count = match pods {
        Pods::Everyone => fleet,
        Pods::Count(count) => count.min(fleet),
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the fleet")]
        Pods::Share(share) => ((f64::from(fleet) * share) as u32).max(1),
    };
    let mut all: Vec<u32> = (0..fleet).collect();
    all.sort_by_key(|pod| seed.draw(Purpose::Fate, episode as u64, (*pod).into()));
    all.truncate(count as usize);
    all.sort_unstable();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::parse;

    fn case(rest: &str, fleet: u32) -> Case {
        let head = "title: pears\nfleet: [4]\nscrapeSeconds: [5]\nseconds: 100\n";
        let text = format!("{head}load: {{requestsPerSecondPerPod: 2.5, noise: 0}}\n{rest}");
        Case::new(Arc::new(parse("pears", &text).unwrap()), fleet, 5)
    }

    fn bad_pods(case: &Case, second: u32) -> Vec<u32> {
        (0..case.pods()).filter(|pod| case.state(*pod, second).bad).collect()
    }

    #[test]
    fn a_share_of_the_fleet_is_befallen_from_the_first_second_to_the_last() {
        let half = case("episodes:\n- {pods: {share: 0.5}, from: 10, until: 20, bad: true}", 9);
        assert_eq!([9, 10, 19, 20].map(|at| bad_pods(&half, at).len()), [0, 4, 4, 0]);
        let least = case("episodes:\n- {pods: {share: 0.1}, from: 10, until: 20, bad: true}", 4);
        assert_eq!(bad_pods(&least, 10).len(), 1);
    }

    #[test]
    fn symptoms_grow_evenly_and_the_label_may_come_later() {
        let grows = "episodes:\n- {pods: {everyone: true}, from: 10, until: 30, grows: true, \
                     do: {errorShare: 1, latencyFactor: 5}, bad: true, badFrom: 25}";
        let symptoms = |at| case(grows, 1).state(0, at).symptoms;
        assert_eq!((symptoms(10).error_share, symptoms(20).error_share), (0.0, 0.5));
        assert_eq!(symptoms(20).latency_factor, 3.0);
        assert_eq!([24, 25].map(|at| case(grows, 1).state(0, at).bad), [false, true]);
        assert_eq!([9, 10, 24, 25].map(|at| case(grows, 1).state(0, at).ailing), [false, true, true, false]);
    }

    #[test]
    fn a_stuck_value_stays_where_the_curve_was_when_it_got_stuck() {
        let stuck = "usual: {valueCurve: [{at: 0, factor: 1}, {at: 50, factor: 2}]}\n\
                     episodes:\n- {pods: {count: 1}, from: 25, until: 90, valueStuck: true, bad: true}";
        let case = case(stuck, 4);
        let odd = bad_pods(&case, 50)[0];
        let value = |pod, at| case.state(pod, at).symptoms.price_factor;
        assert_eq!((value(odd, 24), value(odd, 50), value((odd + 1) % 4, 50)), (1.48, 1.5, 2.0));
    }

    #[test]
    fn a_rollout_replaces_every_pod_and_never_has_fewer() {
        let rollout =
            case("rollout: {from: 20, within: 40, revision: {do: {errorShare: 0.5}, bad: true}}", 4);
        let alive = |at: u32| (0..8).filter(|pod| rollout.life(*pod).contains(&at)).count();
        assert!((0..100).all(|at| (4..=5).contains(&alive(at))));
        assert_eq!((alive(0), bad_pods(&rollout, 99)), (4, vec![4, 5, 6, 7]));
        assert!((0..4).all(|old| rollout.life(old).end < 100));
    }

    #[test]
    fn half_a_request_is_sent_every_other_second_in_the_mean() {
        let case = case("", 1);
        let sent: u32 = (0..100_000).map(|second| case.requests(second)).sum();
        assert!((249_000..251_000).contains(&sent), "{sent}");
    }
}
