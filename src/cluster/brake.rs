//! The brake over all services: how many pods are cut within a minute, whoever wants it.
//!
//! Every service keeps its own limits, and five hundred of them may keep theirs while a broken exporter takes a third of
//! the cluster out. Asked and spent by the writer right before a cut is sent, so that no two owners spend one place.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubervisor_core::gates::Gate;
use tokio::time::Instant;

/// Cuts count for so long.
const WINDOW: Duration = Duration::from_mins(1);
/// Once more were wanted than allowed, nothing is cut until fewer are wanted for so long.
const CALM: Duration = Duration::from_mins(5);
/// A share never means fewer cuts a minute than this. Of fewer than 50 members 10 % would be less, down to none, and the
/// second bad pod of a small cluster would pass for a storm over it; there the limits of each service (a third out, one
/// within a period) bind long before.
const SHARE_AT_LEAST: u32 = 5;
/// The sum of all members is formed again after this.
const COUNT_AGAIN: Duration = Duration::from_secs(10);

/// What is allowed: a number, a share of all members, or the lesser of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CutsPerMinute {
    number: Option<u32>,
    percent: Option<u32>,
}

impl Default for CutsPerMinute {
    /// Thirty are more than people can look at, and on a small cluster a tenth is less.
    fn default() -> Self {
        Self { number: Some(30), percent: Some(10) }
    }
}

impl CutsPerMinute {
    /// Reads `30`, `10%` or `30,10%`.
    ///
    /// # Errors
    /// What may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut limits = Self { number: None, percent: None };
        for part in text.split(',').map(str::trim) {
            let (digits, place) = match part.strip_suffix('%') {
                Some(digits) => (digits, &mut limits.percent),
                None => (part, &mut limits.number),
            };
            let fault = || format!("{part:?} is neither a number nor a share; write 30, 10% or 30,10%");
            let value: u32 = digits.parse().map_err(|_| fault())?;
            if place.replace(value).is_some() || part.ends_with('%') && value > 100 {
                return Err(fault());
            }
        }
        Ok(limits)
    }

    fn of(self, members: u32) -> u32 {
        let share = |percent: u32| {
            let share = u64::from(members) * u64::from(percent) / 100;
            u32::try_from(share).unwrap_or(u32::MAX).max(SHARE_AT_LEAST)
        };
        self.number.unwrap_or(u32::MAX).min(self.percent.map_or(u32::MAX, share))
    }
}

/// A handle; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Brake {
    limits: CutsPerMinute,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// When the cuts of the last minute were sent.
    cuts: VecDeque<Instant>,
    /// When more were last wanted than allowed.
    above: Option<Instant>,
    /// Cuts that it holds, by uid of the service, and when that was said.
    wanted: BTreeMap<Arc<str>, (u32, Instant)>,
    /// All members, and when they were counted.
    members: Option<(u32, Instant)>,
}

/// More cuts than allowed were wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Braked;

/// What the brake has to know of the cluster.
pub trait Counts {
    /// Members of all services.
    fn members(&self) -> u32;
    /// Cuts of the last minute by the time that stands on the pods: those of the process before this one.
    fn recent_cuts(&self) -> u32;
}

impl Brake {
    /// Nothing is spent yet.
    #[must_use]
    pub fn new(limits: CutsPerMinute) -> Self {
        Self { limits, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Spends one cut.
    ///
    /// # Errors
    /// It must not be sent.
    pub fn spend(&self, counts: &dyn Counts, now: Instant) -> Result<(), Braked> {
        let mut state = self.lock();
        if state.members.is_none() {
            let before = counts.recent_cuts().min(self.limits.of(counts.members()));
            state.cuts.extend((0..before).map(|_| now));
        }
        if state.members.is_none_or(|(_, at)| now.duration_since(at) >= COUNT_AGAIN) {
            state.members = Some((counts.members(), now));
        }
        let limit = self.limit(&state);
        if state.closed(now) {
            return Err(Braked);
        }
        state.cuts.retain(|at| now.duration_since(*at) < WINDOW);
        if state.cuts.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            tracing::warn!(
                limit,
                "more pods are to be cut within a minute than --max-cuts-per-minute allows over all services: nothing \
                 is cut until fewer are wanted for {CALM:?}"
            );
            state.above = Some(now);
            return Err(Braked);
        }
        state.cuts.push_back(now);
        Ok(())
    }

    /// Takes note of how many cuts of one service it holds now.
    pub fn wants(&self, service: &Arc<str>, cuts: u32, now: Instant) {
        let mut state = self.lock();
        if cuts > 0 {
            state.wanted.insert(Arc::clone(service), (cuts, now));
        } else {
            state.wanted.remove(service);
        }
        if state.closed(now) {
            state.wanted.retain(|_, (_, at)| now.duration_since(*at) < WINDOW);
            let wanted: u64 = state.wanted.values().map(|(cuts, _)| u64::from(*cuts)).sum();
            if wanted > u64::from(self.limit(&state)) {
                state.above = Some(now);
            }
        }
    }

    /// What holds the cuts of every service, where it does.
    #[must_use]
    pub fn gate(&self, now: Instant) -> Option<Gate> {
        let state = self.lock();
        state.closed(now).then(|| Gate::ClusterStorm { limit: self.limit(&state) })
    }

    fn limit(&self, state: &State) -> u32 {
        self.limits.of(state.members.map_or(0, |(members, _)| members))
    }
}

impl State {
    fn closed(&self, now: Instant) -> bool {
        self.above.is_some_and(|above| now.duration_since(above) < CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Cluster {
        members: u32,
        recent: u32,
    }

    impl Counts for Cluster {
        fn members(&self) -> u32 {
            self.members
        }
        fn recent_cuts(&self) -> u32 {
            self.recent
        }
    }

    const LARGE: Cluster = Cluster { members: 9_000, recent: 0 };

    fn spent(brake: &Brake, cluster: &Cluster, tries: u32, now: Instant) -> usize {
        (0..tries).filter(|_| brake.spend(cluster, now).is_ok()).count()
    }

    fn minutes(n: u64) -> Duration {
        Duration::from_mins(n)
    }

    #[test]
    fn the_lesser_of_number_and_share_is_allowed_but_never_a_share_of_fewer_than_five() {
        let cuts = |members| CutsPerMinute::default().of(members);
        assert_eq!([0, 9, 49, 70, 300, 9_000].map(cuts), [5, 5, 5, 7, 30, 30]);
        assert_eq!(CutsPerMinute::parse("3").unwrap().of(9_000), 3);
        assert_eq!(CutsPerMinute::parse("2%").unwrap().of(9_000), 180);
        assert_eq!(CutsPerMinute::parse("30, 10%").unwrap(), CutsPerMinute::default());
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_may_be_written() {
        for text in ["", "many", "-3", "30,40", "101%", "10%,10%", "30;10%"] {
            assert!(CutsPerMinute::parse(text).unwrap_err().contains("30,10%"), "{text}");
        }
    }

    #[test]
    fn the_first_cut_too_many_closes_it_for_all_and_a_pause_does_not_open_it() {
        let (brake, now) = (Brake::default(), Instant::now());
        assert_eq!(spent(&brake, &LARGE, 30, now), 30);
        assert_eq!(brake.gate(now), None);
        assert_eq!(spent(&brake, &LARGE, 9, now), 0);
        assert_eq!(brake.gate(now), Some(Gate::ClusterStorm { limit: 30 }));
        assert_eq!(spent(&brake, &LARGE, 9, now + minutes(2)), 0);
    }

    #[test]
    fn thirty_a_minute_go_on_for_ever() {
        let (brake, now) = (Brake::default(), Instant::now());
        let each = (0..10).map(|minute| spent(&brake, &LARGE, 30, now + minutes(minute)));
        assert_eq!(each.sum::<usize>(), 300);
        assert_eq!(brake.gate(now + minutes(10)), None);
    }

    #[test]
    fn it_opens_when_fewer_have_been_wanted_for_five_minutes() {
        let (brake, now) = (Brake::default(), Instant::now());
        spent(&brake, &LARGE, 31, now);
        let (one, two) = (Arc::from("one"), Arc::from("two"));
        brake.wants(&one, 20, now + minutes(3));
        brake.wants(&two, 20, now + minutes(3));
        assert!(brake.gate(now + minutes(7)).is_some());
        brake.wants(&two, 0, now + minutes(4));
        brake.wants(&one, 20, now + minutes(4));
        assert_eq!(brake.gate(now + minutes(8)), None);
        assert_eq!(spent(&brake, &LARGE, 20, now + minutes(8)), 20);
    }

    #[test]
    fn a_restart_does_not_spend_the_same_minute_again() {
        let (brake, now) = (Brake::default(), Instant::now());
        assert_eq!(spent(&brake, &Cluster { members: 9_000, recent: 28 }, 9, now), 2);
    }

    proptest! {
        #[test]
        fn no_minute_ever_has_more_cuts_than_allowed(
            steps in proptest::collection::vec((0_u64..40, 0_u32..50), 1..60), members in 0_u32..900,
        ) {
            let (brake, mut now) = (Brake::default(), Instant::now());
            let mut cuts = Vec::new();
            for (seconds, tries) in steps {
                now += Duration::from_secs(seconds);
                let done = spent(&brake, &Cluster { members, recent: 0 }, tries, now);
                cuts.extend((0..done).map(|_| now));
            }
            let limit = usize::try_from(CutsPerMinute::default().of(members)).unwrap();
            for from in &cuts {
                let within = cuts.iter().filter(|at| *at >= from && at.duration_since(*from) < WINDOW).count();
                prop_assert!(within <= limit, "{within} of {limit}");
            }
        }
    }
}
