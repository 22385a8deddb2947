//! Evictions as recorded in the status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kubervisor_core::plan::{Action, Kill};

use crate::api::KillStatus;
use crate::api::stamp;
use crate::cluster::status::KILLS_MAX;

/// A record is kept a little longer than it counts, by the clock that cannot be moved: forgotten early, it would
/// leave room for one more eviction.
const KEPT: Duration = Duration::from_mins(61);

/// The records of one service, oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Kills(Vec<Record>);

#[derive(Debug, Clone)]
struct Record {
    kill: Kill,
    pod: Arc<str>,
    /// When this process first knew of it.
    known: Duration,
    /// The same of an earlier try whose fate nobody knows, such as one of an earlier process.
    before: Option<(Timestamp, Duration)>,
}

impl Kills {
    /// What an earlier process left; its age is not believed, so it is kept a whole hour from now.
    pub(super) fn stored(rows: &[KillStatus], now: Duration) -> Self {
        let record = |row: &KillStatus| {
            let kill = Kill { uid: Arc::from(row.uid.as_str()), at: row.at.parse().ok()? };
            Some(Record { kill, pod: Arc::from(row.pod.as_str()), known: now, before: None })
        };
        Self(rows.iter().filter_map(record).collect())
    }

    /// With one more, for this pod only once: a record of the same pod was a try that did not come through.
    pub(super) fn with(&self, action: &Action, at: Timestamp, now: Duration) -> Self {
        let mut records = self.0.clone();
        let earlier = records.iter().find(|r| r.kill.uid == action.uid);
        let before = earlier.map(|r| r.before.unwrap_or((r.kill.at, r.known)));
        records.retain(|r| r.kill.uid != action.uid);
        // As it will be read back: in whole seconds.
        let at = stamp(at).parse().unwrap_or(at);
        let kill = Kill { uid: Arc::clone(&action.uid), at };
        records.push(Record { kill, pod: Arc::clone(&action.pod), known: now, before });
        let excess = records.len().saturating_sub(KILLS_MAX);
        records.drain(..excess);
        Self(records)
    }

    /// Without the last try of this pod: the server has said that it was not carried out. It has not said so of an
    /// earlier one, which stays recorded.
    pub(super) fn refused(&mut self, uid: &str) {
        let Some(at) = self.0.iter().position(|r| *r.kill.uid == *uid) else { return };
        let record = &mut self.0[at];
        match record.before.take() {
            Some((at, known)) => (record.kill.at, record.known) = (at, known),
            None => {
                self.0.remove(at);
            }
        }
    }

    pub(super) fn forget_old(&mut self, now: Duration) {
        self.0.retain(|r| r.known.saturating_add(KEPT) > now);
    }

    pub(super) fn records(&self) -> Vec<Kill> {
        self.0.iter().map(|r| r.kill.clone()).collect()
    }

    pub(super) fn rows(&self) -> Vec<KillStatus> {
        let row = |r: &Record| KillStatus {
            pod: r.pod.to_string(),
            uid: r.kill.uid.to_string(),
            at: stamp(r.kill.at),
        };
        self.0.iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kubervisor_core::plan::What;

    fn evict(pod: usize) -> Action {
        let what = What::Evict { breaker: None, strikes: 3 };
        Action {
            pod: format!("pear-{pod}").into(),
            uid: format!("uid-{pod}").into(),
            resource_version: 7,
            what,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_record_is_kept_for_an_hour_of_the_clock_that_cannot_be_moved() {
        let mut kills = Kills::default().with(&evict(1), at(0), Duration::from_secs(5));
        kills.forget_old(Duration::from_mins(60));
        assert_eq!(kills.records().len(), 1);
        kills.forget_old(Duration::from_mins(62));
        assert!(kills.records().is_empty() && kills.rows().is_empty());
    }

    #[test]
    fn a_pod_has_one_record_and_the_newest_are_kept() {
        let mut kills = Kills::default();
        for pod in 0..100 {
            kills = kills.with(&evict(pod), at(0), Duration::ZERO).with(&evict(pod), at(1), Duration::ZERO);
        }
        assert_eq!((kills.records().len(), kills.rows().len()), (KILLS_MAX, KILLS_MAX));
        assert_eq!(kills.rows().last().unwrap().pod, "pear-99");
    }

    #[test]
    fn a_refused_eviction_leaves_the_records_of_the_others() {
        let mut kills = Kills::default();
        for pod in 0..3 {
            kills = kills.with(&evict(pod), at(0), Duration::ZERO);
        }
        kills.refused("uid-1");
        let left: Vec<_> = kills.rows().into_iter().map(|row| row.pod).collect();
        assert_eq!(left, ["pear-0", "pear-2"]);
    }

    #[test]
    fn a_refusal_says_nothing_of_an_earlier_try_that_an_earlier_process_may_have_sent() {
        let stored = Kills::default().with(&evict(1), at(0), Duration::ZERO);
        let mut kills = Kills::stored(&stored.rows(), Duration::from_secs(9));
        for second in [20, 30] {
            kills = kills.with(&evict(1), at(second), Duration::from_secs(30));
            kills.refused("uid-1");
            assert_eq!(kills.rows(), stored.rows());
        }
        kills.forget_old(Duration::from_mins(62));
        assert!(kills.rows().is_empty());
    }

    #[test]
    fn what_is_stored_is_read_back_the_same() {
        let kills = Kills::default().with(&evict(1), at(0), Duration::ZERO);
        assert_eq!(Kills::stored(&kills.rows(), Duration::ZERO).records(), kills.records());
    }
}
