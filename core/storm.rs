//! Too many pods anomalous at once: a fault that all pods share, which no cut can mend.
//!
//! Takes counts and the time; says whether a storm rages, and whether cuts of ours brought it on. Decides no action.

use std::time::Duration;

/// A storm ends once it was calm for this long (or for three periods): half of the pods may be seen anew before the
/// other half is.
const CALM: Duration = Duration::from_mins(1);
/// After cuts of ours overloaded the rest, nothing new is cut for this long.
const AFTER_OVERLOAD: Duration = Duration::from_mins(10);

/// How much of the fleet is anomalous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Weather {
    /// Anomalous members, confirmed or not, and timed cuts.
    pub(crate) anomalous: u32,
    /// Members with a known verdict, and timed cuts.
    pub(crate) of: u32,
    /// Timed cuts, which are in both.
    pub(crate) cut: u32,
    /// Percent; above it, storm.
    pub(crate) limit: u32,
    /// Nobody can say: a source is broken.
    pub(crate) unseen: bool,
}

impl Weather {
    /// A single pod is no storm, however small the fleet.
    fn rough(self) -> bool {
        let share = u64::from(self.anomalous) * 100 > u64::from(self.of) * u64::from(self.limit);
        self.anomalous >= 2 && share
    }

    /// Cuts alone are no storm: a source that says nothing of those that serve, as none does right after a start, would
    /// make one of any two.
    fn begins(self) -> bool {
        self.rough() && self.anomalous > self.cut
    }
}

/// Whether a storm rages.
#[derive(Debug, Default)]
pub(crate) struct Storm {
    rages: bool,
    calm_since: Option<Duration>,
    /// Whether cuts of ours brought it on; `None` of a storm that began under an earlier process.
    ours: Option<bool>,
    /// Nothing new is cut until then.
    quiet_until: Option<Duration>,
}

/// What changed with an observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    Began,
    Ended,
}

impl Storm {
    /// One that raged, or the quiet after an overload, when an earlier process ended.
    pub(crate) fn resumed(raged: bool, overloaded: bool, now: Duration) -> Self {
        let quiet_until = overloaded.then(|| now.saturating_add(AFTER_OVERLOAD));
        Self { rages: raged, calm_since: None, ours: (!raged).then_some(false), quiet_until }
    }

    /// Takes note of the weather. `periods`: three evaluation periods. `induced`: pods that were healthy turned
    /// anomalous soon after cuts of ours.
    pub(crate) fn observe(
        &mut self,
        weather: Weather,
        periods: Duration,
        induced: bool,
        now: Duration,
    ) -> Change {
        if weather.limit >= 100 {
            // Nothing is a storm by this spec: what raged by an earlier one is over.
            let raged =
                std::mem::replace(self, Self { quiet_until: self.quiet_until, ..Self::default() }).rages;
            return if raged { Change::Ended } else { Change::None };
        }
        // Without a cut it was none of ours.
        if weather.cut == 0 && self.ours.is_none() {
            self.ours = Some(false);
        }
        if if self.rages { weather.rough() } else { weather.begins() } {
            self.calm_since = None;
            let began = !std::mem::replace(&mut self.rages, true);
            if began || induced {
                self.ours = Some(induced);
            }
            return if began { Change::Began } else { Change::None };
        }
        if !self.rages || weather.unseen {
            self.calm_since = None;
            return Change::None;
        }
        let since = *self.calm_since.get_or_insert(now);
        if now.saturating_sub(since) < CALM.max(periods) {
            return Change::None;
        }
        // Of a storm that began before us nobody knows: so long as it might have been ours, it is taken for that.
        if self.ours != Some(false) {
            self.quiet_until = Some(now.saturating_add(AFTER_OVERLOAD));
        }
        (self.rages, self.calm_since, self.ours) = (false, None, Some(false));
        Change::Ended
    }

    pub(crate) fn rages(&self) -> bool {
        self.rages
    }

    /// Whether cuts of ours are to be taken back now: the storm is theirs, and it has not begun to end.
    pub(crate) fn takes_back(&self) -> bool {
        self.rages && self.ours == Some(true) && self.calm_since.is_none()
    }

    /// Until when nothing new is cut after an overload.
    pub(crate) fn quiet(&self, now: Duration) -> Option<Duration> {
        self.quiet_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn weather(anomalous: u32, of: u32) -> Weather {
        Weather { anomalous, of, cut: 0, limit: 50, unseen: false }
    }

    fn run(storm: &mut Storm, second: u32, anomalous: u32) -> Change {
        storm.observe(weather(anomalous, 10), SECOND * 15, false, SECOND * second)
    }

    #[test]
    fn more_than_half_is_a_storm_and_half_is_none() {
        assert!(!weather(5, 10).rough() && weather(6, 10).rough());
        assert!(!weather(1, 1).rough(), "a single pod is no storm");
    }

    #[test]
    fn two_cuts_of_two_known_pods_are_no_storm_and_end_none() {
        let cuts = Weather { cut: 2, ..weather(2, 2) };
        let mut storm = Storm::default();
        assert_eq!(storm.observe(cuts, SECOND, false, SECOND), Change::None);
        run(&mut storm, 2, 9);
        for second in 3..200 {
            assert_eq!(storm.observe(cuts, SECOND, false, SECOND * second), Change::None);
        }
        assert!(storm.rages());
    }

    #[test]
    fn a_storm_that_began_under_an_earlier_process_may_be_ours_only_where_something_is_cut() {
        for (cut, quiet) in [(0, false), (1, true)] {
            let mut storm = Storm::resumed(true, false, SECOND);
            for second in 1..70 {
                storm.observe(Weather { cut, ..weather(cut, 10) }, SECOND, false, SECOND * second);
            }
            assert_eq!((storm.rages(), storm.quiet(SECOND * 70).is_some()), (false, quiet));
        }
    }

    #[test]
    fn a_storm_ends_after_a_minute_of_calm_and_not_on_half_updated_data() {
        let mut storm = Storm::default();
        assert_eq!(run(&mut storm, 0, 9), Change::Began);
        assert_eq!(run(&mut storm, 5, 3), Change::None);
        assert_eq!(run(&mut storm, 20, 9), Change::None);
        assert_eq!(run(&mut storm, 25, 2), Change::None);
        assert_eq!(run(&mut storm, 84, 2), Change::None);
        assert!(storm.rages());
        assert_eq!(run(&mut storm, 85, 2), Change::Ended);
        assert!(!storm.rages());
    }

    #[test]
    fn a_spec_that_knows_no_storm_ends_it_at_once() {
        let mut storm = Storm::default();
        run(&mut storm, 0, 9);
        let off = Weather { limit: 100, ..weather(10, 10) };
        assert_eq!(storm.observe(off, SECOND, false, SECOND), Change::Ended);
        assert!(!storm.rages());
    }

    #[test]
    fn a_storm_does_not_end_while_nobody_can_see() {
        let mut storm = Storm::default();
        run(&mut storm, 0, 9);
        let blind = Weather { unseen: true, ..weather(0, 0) };
        for second in 1..200 {
            assert_eq!(storm.observe(blind, SECOND, false, SECOND * second), Change::None);
        }
        assert!(storm.rages());
    }

    #[test]
    fn after_a_storm_of_our_own_making_nothing_is_cut_for_ten_minutes() {
        let mut storm = Storm::default();
        storm.observe(weather(9, 10), SECOND, true, SECOND);
        assert!(storm.takes_back());
        run(&mut storm, 10, 0);
        assert!(!storm.takes_back());
        assert_eq!(run(&mut storm, 70, 0), Change::Ended);
        assert_eq!(storm.quiet(SECOND * 70), Some(SECOND * 670));
        assert_eq!(storm.quiet(SECOND * 670), None);
    }
}
