//! Verdicts to proposed cuts, worst first.
//!
//! Takes the verdicts of the breakers that have just been answered; gives at most one proposal a member. Spends no
//! budget and asks no gate: `plan` does.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::fleet::{Fleet, Member};
use crate::policy::BreakerPolicy;
use crate::traffic::Move;
use crate::verdict::{Evidence, Verdict};

/// A member that a breaker wants out.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// Who.
    pub member: &'a Member,
    /// By which breaker: of several, the one with the greatest severity, those that are sure first.
    pub breaker: &'a BreakerPolicy,
    /// How far beyond the rule.
    pub severity: f64,
    /// The numbers.
    pub evidence: Evidence,
    /// Anomalous verdicts that count, where they are too few.
    pub unconfirmed: Option<u8>,
}

/// The verdicts of one breaker, in the order of the fleet's members.
#[derive(Debug)]
pub struct Judged<'a> {
    /// Who judged.
    pub breaker: &'a BreakerPolicy,
    /// One for each member.
    pub verdicts: Vec<Verdict>,
    /// One for each member: anomalous verdicts that count, where they do not yet confirm.
    pub unconfirmed: Vec<Option<u8>>,
}

/// One proposal for each serving member that is anomalous: worst first, then more strikes, younger, name, so that
/// the same input gives the same order.
#[must_use]
pub fn propose<'a>(fleet: &'a Fleet, judged: &[Judged<'a>]) -> Vec<Proposal<'a>> {
    let mut proposals: Vec<_> =
        fleet.members.iter().enumerate().filter_map(|(i, member)| worst(i, member, judged)).collect();
    proposals.sort_by(order);
    proposals
}

fn worst<'a>(index: usize, member: &'a Member, judged: &[Judged<'a>]) -> Option<Proposal<'a>> {
    // A pod without traffic by its label may still serve where the Service does not hold the key.
    if !member.serving() || !member.traffic.allows(Move::Cut) {
        return None;
    }
    let proposal = |j: &Judged<'a>| match j.verdicts.get(index) {
        Some(Verdict::Anomalous { severity, evidence }) => {
            let unconfirmed = j.unconfirmed.get(index).copied().flatten();
            Some(Proposal {
                member,
                breaker: j.breaker,
                severity: *severity,
                evidence: *evidence,
                unconfirmed,
            })
        }
        Some(Verdict::Healthy | Verdict::Lingering | Verdict::Unknown(_)) | None => None,
    };
    let sure = |p: &Proposal<'_>| p.unconfirmed.is_none();
    let stronger = |a: &Proposal<'_>, b: &Proposal<'_>| {
        sure(a).cmp(&sure(b)).then_with(|| a.severity.total_cmp(&b.severity))
    };
    judged.iter().filter_map(proposal).max_by(stronger)
}

fn order(a: &Proposal<'_>, b: &Proposal<'_>) -> Ordering {
    let strikes = |p: &Proposal<'_>| p.member.strikes.total();
    (b.severity.total_cmp(&a.severity))
        .then_with(|| strikes(b).cmp(&strikes(a)))
        .then_with(|| b.member.ready_since.cmp(&a.member.ready_since))
        .then_with(|| Arc::as_ref(&a.member.name).cmp(Arc::as_ref(&b.member.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{breaker, custom, fleet_of, open};

    fn judged(breaker: &BreakerPolicy, verdicts: Vec<Verdict>) -> Judged<'_> {
        let unconfirmed = vec![None; verdicts.len()];
        Judged { breaker, verdicts, unconfirmed }
    }

    fn bad(severity: f64) -> Verdict {
        Verdict::Anomalous { severity, evidence: Evidence::Named }
    }

    #[test]
    fn the_worst_comes_first_and_ties_are_broken_by_name() {
        let fleet = fleet_of(vec![open("ant"), open("bee"), open("cat"), open("dog")]);
        let rule = breaker("b", custom());
        let judged = [judged(&rule, vec![bad(2.0), Verdict::Healthy, bad(9.0), bad(2.0)])];
        let names: Vec<_> = propose(&fleet, &judged).iter().map(|p| p.member.name.to_string()).collect();
        assert_eq!(names, ["cat", "ant", "dog"]);
    }

    #[test]
    fn a_pod_is_proposed_once_by_the_breaker_with_the_greatest_severity() {
        let fleet = fleet_of(vec![open("ant")]);
        let (mild, harsh) = (breaker("mild", custom()), breaker("harsh", custom()));
        let judged = [judged(&mild, vec![bad(1.5)]), judged(&harsh, vec![bad(7.0)])];
        let proposals = propose(&fleet, &judged);
        assert_eq!(proposals.len(), 1);
        assert_eq!(&*proposals[0].breaker.name, "harsh");
    }

    #[test]
    fn a_pod_that_does_not_serve_is_not_proposed() {
        let fleet = fleet_of(vec![Member { ready: false, ..open("ant") }]);
        let rule = breaker("b", custom());
        assert!(propose(&fleet, &[judged(&rule, vec![bad(9.0)])]).is_empty());
    }
}
