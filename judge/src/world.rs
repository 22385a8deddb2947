//! The world of a case: requests are spread over the pods in traffic, answered, counted and scraped.
//!
//! Takes, second by second, who is out; gives what clients saw, what each pod answered and what Prometheus has. A pod
//! that is out gets no request, so its counters stand still; the others get its share. It is scraped all the same,
//! as with a PodMonitor.

use incidents::{Answer, Load, Purpose, Symptoms, Voice};

use crate::case::Case;
use crate::scrapes::{Counters, Scrapes};

/// Seconds of scrapes that are kept: more than any question looks back.
const KEEP: u32 = 3_600;

/// The fleet at one second.
#[derive(Debug)]
pub struct World<'a> {
    /// What is played.
    pub case: &'a Case,
    /// The second that is about to be played.
    pub second: u32,
    /// Every pod that ever lives, by ordinal.
    pub pods: Vec<Pod>,
    /// Somebody asks Prometheus. Most do not, and most of the time goes into what only Prometheus is told.
    scraped: bool,
}

/// What is known of a pod.
#[derive(Debug, Clone)]
pub struct Pod {
    voice: Voice,
    counters: Counters,
    /// For those who ask Prometheus.
    pub scrapes: Scrapes,
    /// For those who sit in the path of the requests: the answers of the last second.
    pub last: Tally,
}

/// Answers of one pod within one second, in their order as far as it matters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// 200.
    pub good: u32,
    /// 500.
    pub bad: u32,
    /// Errors before the first good answer.
    pub first_run: u32,
    /// Errors since the last good answer.
    pub last_run: u32,
    /// Most errors in a row.
    pub longest_run: u32,
}

impl Tally {
    fn add(&mut self, failed: bool) {
        if failed {
            self.bad += 1;
            self.last_run += 1;
            self.longest_run = self.longest_run.max(self.last_run);
            if self.good == 0 {
                self.first_run = self.last_run;
            }
        } else {
            self.good += 1;
            self.last_run = 0;
        }
    }

    /// All answers.
    #[must_use]
    pub fn all(&self) -> u32 {
        self.good + self.bad
    }
}

/// What the clients saw within a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests sent.
    pub requests: u32,
    /// Requests that nobody was there to answer.
    pub lost: u32,
    /// Answers that a bad pod gave badly.
    pub harmed: u32,
}

impl<'a> World<'a> {
    /// Before the first second. Without `scraped`, pods count nothing that a scrape would read.
    #[must_use]
    pub fn new(case: &'a Case, scraped: bool) -> Self {
        let pod = |pod| Pod {
            voice: Voice::new(case.seed, pod),
            counters: Counters::default(),
            scrapes: Scrapes::default(),
            last: Tally::default(),
        };
        Self { case, second: 0, pods: (0..case.pods()).map(pod).collect(), scraped }
    }

    /// Ordinals of the pods that live in this second.
    pub fn alive(&self) -> impl Iterator<Item = u32> + use<'a> {
        let (case, second) = (self.case, self.second);
        (0..case.pods()).filter(move |pod| case.life(*pod).contains(&second))
    }

    /// Each pod at its own phase of the interval.
    pub fn scrape(&mut self) {
        if !self.scraped {
            return;
        }
        for pod in self.alive() {
            let phase = self.case.seed.draw(Purpose::Phase, pod.into(), 0) % u64::from(self.case.scrape);
            let known = &mut self.pods[pod as usize];
            if u64::from(self.second % self.case.scrape) == phase {
                known.scrapes.push(self.second, known.counters, KEEP);
            }
        }
    }

    /// Plays one second in which the pods marked in `out` get no request.
    pub fn serve(&mut self, out: &[bool]) -> Seen {
        let (case, second) = (self.case, self.second);
        let usual = case.usual(second);
        let load = Load::new(case.seed, 0);
        let open: Vec<_> = self.alive().filter(|pod| !out[*pod as usize]).collect();
        let states: Vec<_> = open.iter().map(|pod| case.state(*pod, second)).collect();
        self.pods.iter_mut().for_each(|pod| pod.last = Tally::default());
        let mut seen = Seen { requests: case.requests(second), ..Seen::default() };
        // Numbers that do not depend on who is out: a pod's n-th answer within a second is the same for everybody.
        let first = u64::from(second) << 32;
        for request in 0..u64::from(seen.requests) {
            let Some(place) = load.pick(first + request, open.len()) else {
                seen.lost += 1;
                continue;
            };
            let (pod, state) = (&mut self.pods[open[place] as usize], &states[place]);
            let number = first + u64::from(pod.last.all());
            let failed = pod.voice.fails(&state.symptoms, number);
            seen.harmed += u32::from(state.harms(&usual, failed));
            pod.last.add(failed);
            if self.scraped {
                pod.count(&state.symptoms, number);
            }
        }
        self.second += 1;
        seen
    }
}

impl Pod {
    fn count(&mut self, symptoms: &Symptoms, number: u64) {
        let Answer { code, price, latency } = self.voice.answer(symptoms, number);
        let counters = &mut self.counters;
        *(if code >= 500 { &mut counters.bad } else { &mut counters.good }) += 1.0;
        counters.latency_sum += latency.as_secs_f64();
        if let Some(price) = price {
            counters.price_sum += price;
            counters.price_count += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::file::parse;

    fn case() -> Case {
        let text = "title: plums\nfleet: [4]\nscrapeSeconds: [5]\nseconds: 60\n\
                    load: {requestsPerSecondPerPod: 20, noise: 0.3}\nusual: {errorShare: 0.2}\n\
                    episodes:\n- {pods: {count: 1}, from: 10, until: 50, do: {errorShare: 1}, bad: true}";
        Case::new(Arc::new(parse("plums", text).unwrap()), 4, 5)
    }

    fn answered(world: &World<'_>) -> u32 {
        world.pods.iter().map(|pod| pod.last.all()).sum()
    }

    #[test]
    fn every_request_is_answered_once_by_a_pod_in_traffic_and_cut_pods_get_none() {
        let case = case();
        let mut world = World::new(&case, true);
        let mut total = 0;
        for second in 0..60_u32 {
            let out = [second > 20, false, second > 30, false];
            world.scrape();
            let seen = world.serve(&out);
            assert_eq!((seen.requests, seen.lost), (case.requests(second), 0));
            assert_eq!(answered(&world), seen.requests);
            assert!((0..4).all(|pod| !out[pod] || world.pods[pod].last == Tally::default()));
            total += seen.requests;
        }
        let counted: f64 = world.pods.iter().map(|pod| pod.counters.good + pod.counters.bad).sum();
        assert_eq!(counted, f64::from(total));
    }

    #[test]
    fn a_cut_pods_metrics_stand_still_and_the_others_carry_its_load() {
        let case = case();
        let mut world = World::new(&case, true);
        for _ in 0..60 {
            world.scrape();
            world.serve(&[world.second >= 20, false, false, false]);
        }
        let increase = |pod: usize| world.pods[pod].scrapes.increase(59, 30, |c| c.good + c.bad).unwrap();
        assert_eq!(increase(0), 0.0);
        // 80 a second over three pods, not four.
        assert!((1..4).all(|pod| (700.0..900.0).contains(&increase(pod))), "{}", increase(1));
    }

    #[test]
    fn without_any_pod_in_traffic_every_request_is_lost() {
        let case = case();
        let mut world = World::new(&case, true);
        let seen = world.serve(&[true; 4]);
        assert_eq!((seen.lost, answered(&world)), (seen.requests, 0));
    }

    #[test]
    fn only_what_a_bad_pod_answers_badly_does_harm() {
        let case = case();
        let bad = (0..4).find(|pod| case.state(*pod, 10).bad).unwrap();
        let mut world = World::new(&case, true);
        for second in 0..60 {
            let seen = world.serve(&[false; 4]);
            let harmed = if (10..50).contains(&second) { world.pods[bad as usize].last.bad } else { 0 };
            assert_eq!(seen.harmed, harmed);
        }
    }

    #[test]
    fn runs_of_errors_are_known_at_both_ends_and_at_their_longest() {
        let mut tally = Tally::default();
        [true, true, false, true, true, true, false, true].into_iter().for_each(|failed| tally.add(failed));
        assert_eq!(tally, Tally { good: 2, bad: 6, first_run: 2, last_run: 1, longest_run: 3 });
    }
}
