//! What anomalous pods have in common and healthy ones do not: a revision, a node, a zone.
//!
//! Takes the fleet and who is anomalous or healthy; gives what people should look at. Never a reason to act.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::fleet::{Fleet, Member};

/// Something that all its pods' trouble may come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suspect {
    /// Of which kind.
    pub kind: Shared,
    /// The hash, node or zone.
    pub value: Arc<str>,
    /// Anomalous pods that share it.
    pub pods: u32,
}

/// What pods may have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    /// The template's hash.
    Revision,
    /// The node.
    Node,
    /// The node's zone.
    Zone,
}

/// A pod, as far as it has been judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    Anomalous,
    Healthy,
    Unknown,
}

/// Every value that two anomalous pods or more share and no healthy one has.
pub(crate) fn suspects(fleet: &Fleet, health: impl Fn(&Member) -> Health) -> Vec<Suspect> {
    if fleet.count(|m| health(m) == Health::Anomalous) < 2 {
        return Vec::new();
    }
    [Shared::Revision, Shared::Node, Shared::Zone]
        .into_iter()
        .flat_map(|kind| of(kind, fleet, &health))
        .collect()
}

fn of(kind: Shared, fleet: &Fleet, health: &impl Fn(&Member) -> Health) -> Vec<Suspect> {
    let mut pods: BTreeMap<&Arc<str>, (u32, bool)> = BTreeMap::new();
    for member in &fleet.members {
        let Some(value) = value(kind, member) else { continue };
        let (anomalous, healthy) = pods.entry(value).or_default();
        match health(member) {
            Health::Anomalous => *anomalous += 1,
            Health::Healthy => *healthy = true,
            Health::Unknown => {}
        }
    }
    // What every pod shares says nothing: one revision is the usual case, and then the storm gate speaks.
    let alone = pods.len() < 2;
    let suspect = |(value, (pods, healthy)): (&Arc<str>, (u32, bool))| {
        (pods >= 2 && !healthy && !alone).then(|| Suspect { kind, value: Arc::clone(value), pods })
    };
    pods.into_iter().filter_map(suspect).collect()
}

fn value(kind: Shared, member: &Member) -> Option<&Arc<str>> {
    match kind {
        Shared::Revision => member.revision.as_ref(),
        Shared::Node => member.node.as_ref(),
        Shared::Zone => member.zone.as_ref(),
    }
}

/// The youngest revision, while pods of more than one are there: a rollout runs.
pub(crate) fn rolled_out(fleet: &Fleet) -> Option<&Arc<str>> {
    let mut first: BTreeMap<&Arc<str>, jiff::Timestamp> = BTreeMap::new();
    for member in fleet.members.iter().filter(|m| !m.terminating) {
        let Some(revision) = &member.revision else { continue };
        let since = first.entry(revision).or_insert(member.ready_since);
        *since = (*since).min(member.ready_since);
    }
    let youngest = first.iter().max_by_key(|(_, since)| **since).map(|(revision, _)| *revision);
    youngest.filter(|_| first.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, fleet_of, open};
    use proptest::prelude::*;

    fn pod(name: &str, revision: &str, node: &str) -> Member {
        Member { revision: Some(revision.into()), node: Some(node.into()), ..open(name) }
    }

    fn found(members: Vec<Member>, bad: &[&str]) -> Vec<(Shared, String)> {
        let health = |m: &Member| if bad.contains(&&*m.name) { Health::Anomalous } else { Health::Healthy };
        suspects(&fleet_of(members), health).into_iter().map(|s| (s.kind, s.value.to_string())).collect()
    }

    #[test]
    fn a_revision_that_only_anomalous_pods_have_is_suspect() {
        let members =
            vec![pod("a", "old", "n1"), pod("b", "old", "n2"), pod("c", "new", "n1"), pod("d", "new", "n2")];
        assert_eq!(found(members.clone(), &["c", "d"]), [(Shared::Revision, "new".into())]);
        assert!(found(members.clone(), &["a", "c"]).contains(&(Shared::Node, "n1".into())));
        assert!(found(members, &["c"]).is_empty(), "one pod is no pattern");
    }

    #[test]
    fn what_all_pods_share_is_no_suspect() {
        assert!(found(vec![pod("a", "r", "n"), pod("b", "r", "n")], &["a", "b"]).is_empty());
    }

    #[test]
    fn a_rollout_runs_while_two_revisions_are_there_and_the_youngest_is_new() {
        let young = Member { ready_since: at(-5), ..pod("c", "new", "n") };
        let fleet = fleet_of(vec![pod("a", "old", "n"), young.clone()]);
        assert_eq!(rolled_out(&fleet).map(|r| &**r), Some("new"));
        assert_eq!(rolled_out(&fleet_of(vec![young])), None);
    }

    proptest! {
        #[test]
        fn a_suspect_is_shared_by_two_anomalous_pods_or_more_and_by_no_healthy_one(
            pods in proptest::collection::vec((0_usize..3, 0_usize..3, 0_usize..3), 0..9),
        ) {
            let word = |n: usize| ["a", "b", "c"][n];
            let member = |(i, (r, n, _)): (usize, &(usize, usize, usize))| pod(&i.to_string(), word(*r), word(*n));
            let fleet = fleet_of(pods.iter().enumerate().map(member).collect());
            let health = |m: &Member| match pods[m.name.parse::<usize>().unwrap()].2 {
                0 => Health::Anomalous,
                1 => Health::Healthy,
                _ => Health::Unknown,
            };
            for suspect in suspects(&fleet, health) {
                let shares = |m: &&Member| value(suspect.kind, m) == Some(&suspect.value);
                let of = |wanted| fleet.members.iter().filter(shares).filter(|m| health(m) == wanted).count();
                prop_assert!(of(Health::Anomalous) >= 2 && of(Health::Healthy) == 0);
                prop_assert_eq!(suspect.pods as usize, of(Health::Anomalous));
                prop_assert!(fleet.members.iter().any(|m| !shares(&m)), "what all share says nothing");
            }
        }
    }
}
