//! What a contender's decisions cost and what they saved.
//!
//! Takes who is out, second by second, and what the clients saw; gives sums that can be added over cases. Judges by
//! the labels of the incident alone.

use crate::case::Case;
use crate::world::Seen;

/// Sums over one or more cases. Times are pod-seconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Score {
    /// Pods that are bad at some time.
    pub bad_pods: u64,
    /// Of them, those that were out at some time while they were bad.
    pub bad_pods_cut: u64,
    /// Seconds from the beginning of being bad to being out, for each spell that was ended so.
    pub delays: Vec<u32>,
    /// Pods that were taken out at some time while they were healthy: neither bad nor on their way there.
    pub healthy_pods_cut: u64,
    /// Pods that are healthy at some time.
    pub healthy_pods: u64,
    /// Time lived.
    pub time: u64,
    /// Time lived badly.
    pub bad_time: u64,
    /// Of it, time out.
    pub bad_out: u64,
    /// Time out of healthy pods.
    pub healthy_out: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that a bad pod answered badly, or that nobody was there to answer.
    pub harmed: u64,
}

impl Score {
    /// Adds the sums of other cases.
    pub fn add(&mut self, other: &Self) {
        self.bad_pods += other.bad_pods;
        self.bad_pods_cut += other.bad_pods_cut;
        self.delays.extend(&other.delays);
        self.healthy_pods_cut += other.healthy_pods_cut;
        self.healthy_pods += other.healthy_pods;
        self.time += other.time;
        self.bad_time += other.bad_time;
        self.bad_out += other.bad_out;
        self.healthy_out += other.healthy_out;
        self.requests += other.requests;
        self.harmed += other.harmed;
    }

    /// Median of the delays, the lower one of two in the middle; `None` where nobody was cut.
    #[must_use]
    pub fn median_delay(&self) -> Option<u32> {
        let mut delays = self.delays.clone();
        delays.sort_unstable();
        delays.get(delays.len().checked_sub(1)? / 2).copied()
    }
}

/// Watches one case.
#[derive(Debug)]
pub struct Watcher<'a> {
    case: &'a Case,
    pods: Vec<Watched>,
    score: Score,
}

#[derive(Debug, Clone, Copy, Default)]
struct Watched {
    /// It was out in the last second.
    out: bool,
    /// Since when it is bad, until it has been out.
    waiting_since: Option<u32>,
    was_bad: bool,
    ever_bad: bool,
    ever_healthy: bool,
    cut_while_bad: bool,
    cut_while_healthy: bool,
}

impl<'a> Watcher<'a> {
    /// Before the first second.
    #[must_use]
    pub fn new(case: &'a Case) -> Self {
        Self { case, pods: vec![Watched::default(); case.pods() as usize], score: Score::default() }
    }

    /// Who is out in this second.
    pub fn second(&mut self, second: u32, out: &[bool]) {
        for pod in 0..self.case.pods() {
            if !self.case.life(pod).contains(&second) {
                continue;
            }
            let (state, out) = (self.case.state(pod, second), out[pod as usize]);
            let (bad, healthy) = (state.bad, !state.bad && !state.ailing);
            let score = &mut self.score;
            score.time += 1;
            score.bad_time += u64::from(bad);
            score.bad_out += u64::from(bad && out);
            score.healthy_out += u64::from(healthy && out);
            score.delays.extend(self.pods[pod as usize].note(second, bad, healthy, out));
        }
    }

    /// What the clients saw in this second.
    pub fn seen(&mut self, seen: Seen) {
        self.score.requests += u64::from(seen.requests);
        self.score.harmed += u64::from(seen.harmed + seen.lost);
    }

    /// The sums.
    #[must_use]
    pub fn end(mut self) -> Score {
        let count = |is: fn(&Watched) -> bool| self.pods.iter().filter(|pod| is(pod)).count() as u64;
        self.score.bad_pods = count(|pod| pod.ever_bad);
        self.score.bad_pods_cut = count(|pod| pod.cut_while_bad);
        self.score.healthy_pods = count(|pod| pod.ever_healthy);
        self.score.healthy_pods_cut = count(|pod| pod.cut_while_healthy);
        self.score
    }
}

impl Watched {
    /// Returns how long it had been bad, where it is out for the first time since.
    fn note(&mut self, second: u32, bad: bool, healthy: bool, out: bool) -> Option<u32> {
        self.ever_bad |= bad;
        self.ever_healthy |= healthy;
        self.cut_while_bad |= bad && out;
        self.cut_while_healthy |= healthy && out && !self.out;
        if bad && !self.was_bad {
            self.waiting_since = Some(second);
        } else if !bad {
            self.waiting_since = None;
        }
        (self.was_bad, self.out) = (bad, out);
        if out { self.waiting_since.take().map(|since| second - since) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::file::parse;

    fn scored(out: impl Fn(u32, u32) -> bool) -> Score {
        scored_from("", out)
    }

    fn scored_from(bad_from: &str, out: impl Fn(u32, u32) -> bool) -> Score {
        let text = "title: figs\nfleet: [4]\nscrapeSeconds: [5]\nseconds: 100\n\
                    load: {requestsPerSecondPerPod: 1}\n\
                    episodes:\n- {pods: {everyone: true}, from: 20, until: 60, bad: true";
        let text = format!("{text}{bad_from}}}");
        let case = Case::new(Arc::new(parse("figs", &text).unwrap()), 4, 5);
        let mut watcher = Watcher::new(&case);
        for second in 0..100 {
            let out: Vec<_> = (0..4).map(|pod| out(pod, second)).collect();
            watcher.second(second, &out);
        }
        watcher.end()
    }

    #[test]
    fn a_pod_cut_in_time_and_back_late_is_a_bad_pod_cut_and_capacity_lost() {
        let score = scored(|pod, second| pod == 2 && (35..70).contains(&second));
        assert_eq!((score.bad_pods, score.bad_pods_cut, score.delays.as_slice()), (4, 1, &[15][..]));
        assert_eq!((score.bad_time, score.bad_out, score.healthy_out), (160, 25, 10));
        assert_eq!((score.healthy_pods_cut, score.time), (0, 400));
    }

    #[test]
    fn a_pod_cut_before_it_is_bad_or_after_is_a_healthy_pod_cut() {
        let score = scored(|pod, second| (pod == 0 && second == 19) || (pod == 1 && second == 60));
        assert_eq!((score.healthy_pods_cut, score.bad_pods_cut, score.healthy_out), (2, 0, 2));
    }

    #[test]
    fn a_pod_cut_on_its_way_to_being_bad_is_neither_right_nor_wrong() {
        let score = scored_from(", badFrom: 40", |pod, second| pod == 0 && (30..50).contains(&second));
        assert_eq!((score.healthy_pods_cut, score.healthy_out), (0, 0));
        assert_eq!((score.bad_pods_cut, score.bad_out, score.delays.as_slice()), (1, 10, &[0][..]));
    }

    #[test]
    fn only_the_first_cut_of_a_spell_has_a_delay() {
        let score = scored(|pod, second| pod == 3 && second % 2 == 1);
        assert_eq!(score.delays, [1]);
        assert_eq!(score.median_delay(), Some(1));
        assert_eq!(scored(|_, _| false).median_delay(), None);
    }
}
