//! Members of a fleet as rules of others see them: disruption budgets and Services that select some of them too.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubervisor_core::fleet::Member;
use kubervisor_core::traffic::Traffic;

use super::index::{Namespace, Pod, Service, State};
use super::labels::LabelSet;
use crate::api::{TrafficLabel, traffic};

/// The members of a fleet by their label sets, for rules of others that select some of them.
pub(super) struct Within<'a> {
    pub(super) ns: &'a Namespace,
    members: &'a [Member],
    sets: Vec<(&'a LabelSet, &'a BTreeSet<Arc<str>>)>,
}

impl<'a> Within<'a> {
    pub(super) fn new(ns: &'a Namespace, service: &Service, members: &'a [Member]) -> Self {
        Self { ns, members, sets: ns.sets_of(&service.selector).collect() }
    }

    /// Positions of the members that have such labels and are such pods, rising. Most rules of others select none of
    /// the few label sets, so that no pod is looked at.
    pub(super) fn positions(
        &self,
        labels: impl Fn(&LabelSet) -> bool,
        takes: impl Fn(&Pod) -> bool,
    ) -> Vec<u32> {
        let sets = self.sets.iter().filter(|(set, _)| labels(set));
        let names = sets.flat_map(|(_, names)| names.iter());
        let taken = names.filter(|name| self.ns.pods.get(*name).is_some_and(&takes));
        let position = |name| self.members.binary_search_by(|m| m.name.cmp(name)).ok();
        let mut found: Vec<_> = taken.filter_map(position).filter_map(|at| u32::try_from(at).ok()).collect();
        found.sort_unstable();
        found
    }
}

/// Ready, and yet kept from traffic: who counts Ready pods counts it.
pub(super) fn is_ready_and_out(state: &State, pod: &Pod) -> bool {
    let marked = match traffic_of(pod) {
        Traffic::Cut(_) | Traffic::KeptOut | Traffic::CutByHand | Traffic::Paused => true,
        Traffic::Unlabelled | Traffic::Open | Traffic::OpenedByHand(_) | Traffic::Odd => false,
    };
    let in_flight = || state.assumed.of(&pod.uid).is_some_and(|write| write.step.spends());
    pod.ready && !pod.terminating && (marked || in_flight())
}

/// Whether it has traffic, and by whose hand.
pub(super) fn traffic_of(pod: &Pod) -> Traffic {
    match pod.traffic {
        TrafficLabel::Absent if pod.unlabelled_by_hand => Traffic::CutByHand,
        label => traffic(label, pod.marks.as_deref()),
    }
}
