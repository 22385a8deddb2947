//! What was seen, from outside the controller: the clients' errors, every change of the EndpointSlices, and the
//! controller's requests to evict as the API server wrote them down. Times are since the curtain rose.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::words::Share;
use crate::workload::Clients;

/// Pods in the EndpointSlices, by ordinal.
pub type Serving = BTreeSet<u32>;

/// The observations of one run, each kind in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Record {
    clients: Vec<(Duration, Clients)>,
    serving: Vec<(Duration, Serving)>,
    holds: Vec<(Duration, String)>,
}

impl Record {
    /// Notes what the clients have seen up to now.
    pub fn clients(&mut self, at: Duration, clients: Clients) {
        self.clients.push((at, clients));
    }

    /// Notes which pods serve from now on.
    pub fn serving(&mut self, at: Duration, serving: Serving) {
        if self.serving.last().is_none_or(|(_, last)| *last != serving) {
            self.serving.push((at, serving));
        }
    }

    /// Notes that the controller said why it holds.
    pub fn hold(&mut self, at: Duration, why: &str) {
        self.holds.push((at, why.to_owned()));
    }

    /// Why it held, as it first said between two times.
    pub fn held(&self, from: Duration, until: Duration) -> Option<&str> {
        let within = |(at, _): &&(Duration, String)| (from..until).contains(at);
        self.holds.iter().find(within).map(|(_, why)| why.as_str())
    }

    /// Pods that serve now.
    pub fn serving_now(&self) -> usize {
        self.serving.last().map_or(0, |(_, serving)| serving.len())
    }

    /// How often the set of serving pods changed.
    pub const fn changes(&self) -> usize {
        self.serving.len()
    }

    /// Failed requests of all that the clients sent between two times.
    pub fn failed(&self, from: Duration, until: Duration) -> Share {
        let reading = |at| {
            let after = self.clients.partition_point(|(noted, _)| *noted <= at);
            after.checked_sub(1).map_or(Clients::default(), |last| self.clients[last].1)
        };
        reading(until.max(from)).since(reading(from))
    }

    /// When a pod that served left the EndpointSlices, first after this time.
    pub fn left(&self, pod: u32, from: Duration) -> Option<Duration> {
        let moves =
            self.serving.windows(2).filter(|pair| pair[0].1.contains(&pod) && !pair[1].1.contains(&pod));
        moves.map(|pair| pair[1].0).find(|at| *at >= from)
    }

    /// When a pod that did not serve came into the EndpointSlices, first after this time.
    pub fn came(&self, pod: u32, from: Duration) -> Option<Duration> {
        let moves =
            self.serving.windows(2).filter(|pair| !pair[0].1.contains(&pod) && pair[1].1.contains(&pod));
        moves.map(|pair| pair[1].0).find(|at| *at >= from)
    }

    /// How often a pod left the EndpointSlices between two times.
    pub fn times_left(&self, pod: u32, from: Duration, until: Duration) -> usize {
        let first = self.left(pod, from).filter(|at| *at < until);
        // A pod leaves at most once a nanosecond.
        first.map_or(0, |at| 1 + self.times_left(pod, at + Duration::from_nanos(1), until))
    }

    /// Pods that left the EndpointSlices between two times.
    pub fn leavers(&self, from: Duration, until: Duration) -> BTreeSet<u32> {
        let pods: BTreeSet<u32> = self.serving.iter().flat_map(|(_, serving)| serving).copied().collect();
        pods.into_iter().filter(|pod| self.left(*pod, from).is_some_and(|at| at < until)).collect()
    }

    /// The fewest pods that served at any time between two, and how long so few did in sum.
    pub fn lowest(&self, from: Duration, until: Duration) -> (usize, Duration) {
        let spans: Vec<_> = self.spans(until).filter(|(_, end, _)| *end > from).collect();
        let lowest = spans.iter().map(|(_, _, count)| *count).min().unwrap_or(0);
        let at_lowest = spans.iter().filter(|(_, _, count)| *count == lowest);
        (lowest, at_lowest.map(|(start, end, _)| end.saturating_sub(*start.max(&from))).sum())
    }

    /// Each count of serving pods with its first instant and the first after it, up to a time.
    fn spans(&self, until: Duration) -> impl Iterator<Item = (Duration, Duration, usize)> + '_ {
        let spans = spans(&self.serving).take_while(move |(start, _, _)| *start < until);
        spans.map(move |(start, end, serving)| (start, end.min(until), serving.len()))
    }
}

/// What held, each with its first instant and the first after it; the last one holds for ever.
pub fn spans<T>(changes: &[(Duration, T)]) -> impl Iterator<Item = (Duration, Duration, &T)> {
    let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([Duration::MAX]);
    changes.iter().zip(ends).map(|((start, what), end)| (*start, end, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Pods 1 to 3; pod 2 is out from 10 to 30, pod 3 from 12 to 14 and from 20 on.
    fn record() -> Record {
        let mut record = Record::default();
        let serving: [(u64, &[u32]); 6] =
            [(0, &[1, 2, 3]), (10, &[1, 3]), (12, &[1]), (14, &[1, 3]), (20, &[1]), (30, &[1, 2])];
        serving.iter().for_each(|(at, pods)| record.serving(secs(*at), pods.iter().copied().collect()));
        record
    }

    #[test]
    fn failed_requests_are_counted_between_two_times() {
        let mut record = Record::default();
        for (at, requests, errors) in [(1, 100, 1), (2, 200, 21), (3, 300, 22)] {
            record.clients(secs(at), Clients { requests, errors });
        }
        assert_eq!(record.failed(secs(1), secs(2)), Share { part: 20, whole: 100 });
        assert_eq!(record.failed(secs(0), secs(9)), Share { part: 22, whole: 300 });
        assert_eq!(record.failed(secs(3), secs(2)), Share { part: 0, whole: 0 });
    }

    #[test]
    fn a_pod_leaves_and_comes_back() {
        let record = record();
        assert_eq!(record.left(2, secs(5)), Some(secs(10)));
        assert_eq!(record.left(2, secs(11)), None);
        assert_eq!(record.came(2, secs(10)), Some(secs(30)));
        assert_eq!(record.left(3, secs(13)), Some(secs(20)));
        assert_eq!(record.times_left(3, secs(0), secs(20)), 1);
        assert_eq!(record.times_left(3, secs(0), secs(21)), 2);
        assert_eq!(record.leavers(secs(0), secs(40)), [2, 3].into());
        assert_eq!(record.leavers(secs(11), secs(12)), [].into());
    }

    #[test]
    fn the_lowest_count_is_that_of_any_instant_and_is_timed() {
        let record = record();
        assert_eq!(record.lowest(secs(0), secs(40)), (1, secs(2 + 10)));
        assert_eq!(record.lowest(secs(25), secs(40)), (1, secs(5)));
        assert_eq!(record.lowest(secs(15), secs(19)), (2, secs(4)));
        assert_eq!(record.lowest(secs(31), secs(99)), (2, secs(68)));
    }

    #[test]
    fn an_unseen_fleet_serves_with_nobody() {
        assert_eq!(Record::default().lowest(secs(0), secs(9)), (0, secs(0)));
        assert_eq!(Record::default().serving_now(), 0);
    }

    #[test]
    fn the_same_set_again_is_no_change() {
        let mut record = record();
        record.serving(secs(31), [1, 2].into());
        assert_eq!(record.changes(), 6);
    }
}
