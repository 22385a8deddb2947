//! All pods that one KubervisorService governs, at one instant.
//!
//! Made by `kubervisor::cluster::snapshot` from the cache and our writes in flight. Decides nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::traffic::{Move, Strikes, Traffic};

/// How long capacity that went away still counts: a rollout, a drain or a crash must not lower the floor while it
/// runs.
pub const CAPACITY_MEMORY: Duration = Duration::from_mins(5);

/// The fleet: members sorted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fleet {
    /// The namespace of the Service and of every member.
    pub namespace: Arc<str>,
    /// Pods matched by the Service's selector without the traffic key, not finished; terminating ones until gone.
    pub members: Vec<Member>,
    /// The Service sends traffic that enters a node to pods of that node only.
    pub local: bool,
    /// PodDisruptionBudgets over members.
    pub disruptions: Vec<DisruptionBudget>,
    /// Other Services that hold the traffic key and match members: a cut takes the pod from them too.
    pub neighbours: Vec<Neighbour>,
}

/// A PodDisruptionBudget, as its controller last stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DisruptionBudget {
    /// Its name.
    pub name: Arc<str>,
    /// currentHealthy − desiredHealthy − Ready pods of it that are out, those beyond this fleet included: cut pods
    /// stay Ready, so its controller still counts them.
    pub spare: i64,
    /// Positions in [`Fleet::members`], rising.
    pub members: Vec<u32>,
}

/// Another Service behind the same gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its name.
    pub service: Arc<str>,
    /// All pods that serve it, those beyond this fleet included.
    pub serving: u32,
    /// Positions in [`Fleet::members`], rising.
    pub members: Vec<u32>,
}

/// One pod of the fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Pod name.
    pub name: Arc<str>,
    /// Pod uid: a StatefulSet's next pod has the same name and is another pod.
    pub uid: Arc<str>,
    /// The version that this decision saw; every write carries it as a precondition.
    pub resource_version: u64,
    /// Condition Ready is True.
    pub ready: bool,
    /// A deletion was asked for.
    pub terminating: bool,
    /// The Service's selector, as it stands now, matches the pod's labels.
    pub reached: bool,
    /// What its marks say.
    pub traffic: Traffic,
    /// Cuts not yet forgiven.
    pub strikes: Strikes,
    /// Since when it is Ready; or when it was created, where it is not.
    pub ready_since: Timestamp,
    /// What would replace it.
    pub workload: Workload,
    /// The node that it runs on.
    pub node: Option<Arc<str>>,
    /// That node's zone, where the pod's labels say it.
    pub zone: Option<Arc<str>>,
    /// Hash of the template that it was made from.
    pub revision: Option<Arc<str>>,
    /// When its last cut ended.
    pub restored_at: Option<Timestamp>,
    /// What a person decided about it.
    pub wish: Option<Wish>,
    /// A write of ours that the watch has not shown yet.
    pub in_flight: Option<Move>,
}

/// The override annotation: a person's word about one pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// Never cut.
    Never,
    /// Keep out; it is cut under the floor like any other, and never comes back by itself.
    Cut,
    /// Back now, and forgiven.
    Serve,
}

/// What replaces an evicted pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// A controller that makes a new pod of another name, on any node: ReplicaSet, Job and the like.
    Replaced,
    /// A StatefulSet: its pods have identity and data.
    StatefulSet,
    /// A DaemonSet: the same node gets the same pod again.
    DaemonSet,
    /// Nobody would replace it.
    Bare,
}

impl Member {
    /// Ready and reached by the Service, with no write of ours under way that takes it out. A restore under way does
    /// not count before the watch has shown it.
    #[must_use]
    pub fn serving(&self) -> bool {
        self.ready && !self.terminating && self.reached && !self.in_flight.is_some_and(Move::spends)
    }

    /// Kept from traffic by a label of ours or a person's, or by a cut under way.
    #[must_use]
    pub fn out(&self) -> bool {
        let marked = match self.traffic {
            Traffic::Cut(_) | Traffic::KeptOut | Traffic::CutByHand | Traffic::Paused => true,
            Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_) | Traffic::Odd => false,
        };
        marked || self.in_flight.is_some_and(Move::spends)
    }

    /// Whether `step` is a legal move for it: drawn, or a return that a person asks for.
    #[must_use]
    pub fn may(&self, step: Move) -> bool {
        let asked = step == Move::Restore && self.wish == Some(Wish::Serve);
        let aside = matches!(self.traffic, Traffic::Paused | Traffic::CutByHand);
        self.traffic.allows(step) || (asked && aside)
    }

    /// Time since it became Ready, 0 where the stored time lies ahead of `now`.
    #[must_use]
    pub fn ready_for(&self, now: Timestamp) -> Duration {
        Duration::try_from(now.duration_since(self.ready_since)).unwrap_or_default()
    }
}

impl Fleet {
    /// Members, as a number.
    #[must_use]
    pub fn size(&self) -> u32 {
        count(self.members.len())
    }

    /// Members for which `is` holds.
    pub fn count(&self, is: impl Fn(&Member) -> bool) -> u32 {
        count(self.members.iter().filter(|m| is(m)).count())
    }

    /// The member with that uid.
    #[must_use]
    pub fn member(&self, uid: &str) -> Option<&Member> {
        self.members.iter().find(|m| &*m.uid == uid)
    }
}

/// A length as a count; no fleet comes near the limit.
pub(crate) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The size of the fleet that floors are counted over: a rise counts at once, a drop after [`CAPACITY_MEMORY`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capacity {
    current: u32,
    /// Larger sizes and until when they count; sizes fall, times rise, so it is never longer than the largest size.
    former: VecDeque<(Duration, u32)>,
}

impl Capacity {
    /// Starts from what an earlier process stored, as if it had dropped just now.
    #[must_use]
    pub fn from_stored(size: u32, now: Duration) -> Self {
        Self { current: 0, former: VecDeque::from([(now.saturating_add(CAPACITY_MEMORY), size)]) }
    }

    /// Takes note of the fleet's size now.
    pub fn observe(&mut self, size: u32, now: Duration) {
        if size < self.current {
            let current = self.current;
            self.former.retain(|(_, n)| *n > current);
            self.former.push_back((now.saturating_add(CAPACITY_MEMORY), current));
        }
        self.current = size;
        self.former.retain(|(until, n)| *until > now && *n > size);
    }

    /// N: what floors and shares are counted over.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.former.front().map_or(self.current, |(_, n)| (*n).max(self.current))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_rise_counts_at_once_and_a_drop_after_five_minutes() {
        let mut capacity = Capacity::default();
        capacity.observe(10, MINUTE);
        capacity.observe(4, MINUTE * 2);
        assert_eq!(capacity.size(), 10);
        capacity.observe(4, MINUTE * 7 - Duration::from_secs(1));
        assert_eq!(capacity.size(), 10);
        capacity.observe(4, MINUTE * 7);
        assert_eq!(capacity.size(), 4);
        capacity.observe(12, MINUTE * 7);
        assert_eq!(capacity.size(), 12);
    }

    #[test]
    fn a_restart_remembers_the_stored_size_for_five_minutes() {
        let mut capacity = Capacity::from_stored(10, MINUTE);
        capacity.observe(6, MINUTE);
        assert_eq!(capacity.size(), 10);
        capacity.observe(6, MINUTE * 6);
        assert_eq!(capacity.size(), 6);
    }

    proptest! {
        #[test]
        fn capacity_is_the_largest_size_of_the_last_five_minutes(
            sizes in proptest::collection::vec((0_u32..30, 1_u64..120), 1..60),
        ) {
            let mut capacity = Capacity::default();
            let mut history: Vec<(Duration, u32)> = Vec::new();
            let mut now = MINUTE * 100;
            for (size, step) in sizes {
                now += Duration::from_secs(step);
                capacity.observe(size, now);
                history.push((now, size));
                // A size counts from its own observation to five minutes after the next one.
                let expected = (0..history.len())
                    .filter(|i| history.get(i + 1).is_none_or(|(next, _)| *next + CAPACITY_MEMORY > now))
                    .map(|i| history[i].1)
                    .max();
                prop_assert_eq!(Some(capacity.size()), expected);
            }
        }
    }
}
