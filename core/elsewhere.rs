//! Limits that lie outside the service's own sums: disruption budgets, nodes, other Services behind the same key.
//!
//! Takes the fleet; is spent one member at a time beside the [`crate::budget::Budget`].

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::{Fleet, Member};
use crate::plan::Why;
use crate::policy::{Disruption, Limits};

/// What is left, less what this tick has spent.
#[derive(Debug, Clone)]
pub struct Elsewhere<'a> {
    fleet: &'a Fleet,
    /// Spare of each disruption budget; empty where they do not limit cuts.
    spare: Vec<i64>,
    /// Serving pods of each neighbour.
    neighbours: Vec<u32>,
    /// Serving members of each node; empty where traffic crosses nodes.
    nodes: BTreeMap<&'a Arc<str>, u32>,
}

impl<'a> Elsewhere<'a> {
    /// Before anything is spent.
    #[must_use]
    pub fn of(fleet: &'a Fleet, limits: &Limits) -> Self {
        let limiting = match limits.disruption {
            Disruption::Always => fleet.disruptions.as_slice(),
            Disruption::KillsOnly => &[],
        };
        let mut nodes = BTreeMap::new();
        for node in
            fleet.members.iter().filter(|m| fleet.local && m.serving()).filter_map(|m| m.node.as_ref())
        {
            *nodes.entry(node).or_insert(0) += 1;
        }
        Self {
            fleet,
            spare: limiting.iter().map(|d| d.spare).collect(),
            neighbours: fleet.neighbours.iter().map(|n| n.serving).collect(),
            nodes,
        }
    }

    /// Why this serving member cannot be taken out, if something stands in the way.
    #[must_use]
    pub fn refusal(&self, member: &Member) -> Option<Why> {
        if self.free() {
            return None;
        }
        let index = self.index(member);
        let full = self.fleet.disruptions.iter().zip(&self.spare);
        let mut full = full.filter(|(d, spare)| **spare < 1 && d.members.binary_search(&index).is_ok());
        if let Some((budget, _)) = full.next() {
            return Some(Why::Disruption(Arc::clone(&budget.name)));
        }
        let last = self.fleet.neighbours.iter().zip(&self.neighbours);
        let mut last = last.filter(|(n, serving)| **serving < 2 && n.members.binary_search(&index).is_ok());
        if let Some((neighbour, _)) = last.next() {
            return Some(Why::Neighbour(Arc::clone(&neighbour.service)));
        }
        let node = member.node.as_ref().filter(|node| self.nodes.get(node).is_some_and(|n| *n < 2));
        node.map(|node| Why::LastOnNode(Arc::clone(node)))
    }

    /// The member goes out of traffic.
    pub fn spend(&mut self, member: &Member) {
        if self.free() {
            return;
        }
        let index = self.index(member);
        for (budget, spare) in self.fleet.disruptions.iter().zip(&mut self.spare) {
            *spare -= i64::from(member.ready && budget.members.binary_search(&index).is_ok());
        }
        for (neighbour, serving) in self.fleet.neighbours.iter().zip(&mut self.neighbours) {
            *serving -= u32::from(*serving > 0 && neighbour.members.binary_search(&index).is_ok());
        }
        if let Some(left) = member.node.as_ref().and_then(|node| self.nodes.get_mut(node)) {
            *left = left.saturating_sub(1);
        }
    }

    /// The usual case, in which nobody is looked up.
    fn free(&self) -> bool {
        self.spare.is_empty() && self.neighbours.is_empty() && self.nodes.is_empty()
    }

    fn index(&self, member: &Member) -> u32 {
        let at = self.fleet.members.iter().position(|m| m.uid == member.uid);
        at.and_then(|at| u32::try_from(at).ok()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{fleet_of_open, policy_of};
    use crate::fleet::{DisruptionBudget, Neighbour};
    use proptest::prelude::*;

    fn refusals(fleet: &Fleet, disruption: Disruption, spent: &[usize]) -> Vec<Option<&'static str>> {
        let limits = Limits { disruption, ..policy_of(vec![]).limits };
        let mut left = Elsewhere::of(fleet, &limits);
        spent.iter().for_each(|i| left.spend(&fleet.members[*i]));
        fleet.members.iter().map(|m| left.refusal(m).map(|why| why.as_str())).collect()
    }

    #[test]
    fn a_disruption_budget_without_room_keeps_its_pods_in() {
        let mut fleet = fleet_of_open(3);
        fleet.disruptions = vec![DisruptionBudget { name: "b".into(), spare: 1, members: vec![0, 1] }];
        let pdb = Some("PodDisruptionBudget");
        assert_eq!(refusals(&fleet, Disruption::Always, &[]), [None, None, None]);
        assert_eq!(refusals(&fleet, Disruption::Always, &[0]), [pdb, pdb, None]);
        assert_eq!(refusals(&fleet, Disruption::KillsOnly, &[0]), [None, None, None]);
    }

    #[test]
    fn a_disruption_budget_that_is_violated_already_keeps_its_pods_in() {
        let mut fleet = fleet_of_open(3);
        for spare in [0, -4, i64::MIN] {
            fleet.disruptions = vec![DisruptionBudget { name: "b".into(), spare, members: vec![0, 1] }];
            let pdb = Some("PodDisruptionBudget");
            assert_eq!(refusals(&fleet, Disruption::Always, &[]), [pdb, pdb, None]);
        }
    }

    #[test]
    fn the_last_pod_of_another_service_behind_the_key_stays() {
        let mut fleet = fleet_of_open(3);
        fleet.neighbours = vec![Neighbour { service: "n".into(), serving: 2, members: vec![0, 2] }];
        assert_eq!(refusals(&fleet, Disruption::Always, &[2]), [Some("Neighbour"), None, Some("Neighbour")]);
    }

    #[test]
    fn the_last_pod_of_a_node_stays_where_traffic_stays_on_the_node() {
        let mut fleet = fleet_of_open(3);
        for (member, node) in fleet.members.iter_mut().zip(["n1", "n1", "n2"]) {
            member.node = Some(node.into());
        }
        assert_eq!(refusals(&fleet, Disruption::Always, &[0]), [None, None, None]);
        fleet.local = true;
        assert_eq!(refusals(&fleet, Disruption::Always, &[]), [None, None, Some("LastOnNode")]);
        assert_eq!(refusals(&fleet, Disruption::Always, &[0])[1], Some("LastOnNode"));
    }

    proptest! {
        #[test]
        fn no_order_of_spending_leaves_a_budget_a_neighbour_or_a_node_with_too_little(
            order in Just((0_usize..6).collect::<Vec<_>>()).prop_shuffle(),
            (spare, serving, local) in (-1_i64..4, 0_u32..4, any::<bool>()),
            (covered, shared) in (0_u32..64, 0_u32..64),
            nodes in proptest::collection::vec(0_usize..3, 6),
        ) {
            let chosen = |bits: u32| (0..6_u32).filter(|i| bits >> i & 1 == 1).collect::<Vec<_>>();
            let mut fleet = fleet_of_open(6);
            fleet.members.iter_mut().zip(&nodes).for_each(|(m, n)| m.node = Some(format!("n{n}").into()));
            fleet.local = local;
            fleet.disruptions = vec![DisruptionBudget { name: "b".into(), spare, members: chosen(covered) }];
            fleet.neighbours = vec![Neighbour { service: "n".into(), serving, members: chosen(shared) }];
            let limits = policy_of(vec![]).limits;
            let mut left = Elsewhere::of(&fleet, &limits);
            let mut spent = Vec::new();
            for i in order {
                if left.refusal(&fleet.members[i]).is_none() {
                    left.spend(&fleet.members[i]);
                    spent.push(i);
                }
            }
            let within = |bits: u32| spent.iter().filter(|i| bits >> **i & 1 == 1).count();
            let (of_budget, of_neighbour) = (within(covered), within(shared));
            prop_assert!(of_budget == 0 || i64::try_from(of_budget).unwrap() <= spare);
            prop_assert!(of_neighbour == 0 || u32::try_from(of_neighbour).unwrap() < serving);
            for node in 0..3 {
                let on = |i: &&usize| nodes[**i] == node;
                let all = nodes.iter().filter(|n| **n == node).count();
                prop_assert!(!local || all == 0 || spent.iter().filter(on).count() < all);
            }
        }
    }
}
