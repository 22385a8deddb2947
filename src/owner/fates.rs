//! Steps whose answer never came, until the fleet shows what became of them.
//!
//! What was carried out is told as if it had been acknowledged; what the writer's fence undid is told as a return. A
//! step that somebody else's write overtook left nothing to tell.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kubervisor_core::fleet::Member;
use kubervisor_core::notice::Kind;
use kubervisor_core::plan::{Action, What};
use kubervisor_core::traffic::{Move, Traffic};

use super::Owner;
use crate::cluster::snapshot::View;

/// By uid: a pod has one write under way at most.
#[derive(Debug, Default)]
pub(super) struct Fates(BTreeMap<Arc<str>, (Action, Timestamp)>);

/// What became of a step.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Open,
    Done,
    Undone,
    Overtaken,
}

impl Fates {
    /// Nobody knows how this step ended; `sent` is the time that it, and a fence against it, writes.
    pub(super) fn doubt(&mut self, action: &Action, sent: Timestamp) {
        self.0.insert(Arc::clone(&action.uid), (action.clone(), sent));
    }

    /// Those that are settled.
    fn settled(&mut self, view: &View) -> Vec<(Action, Timestamp, Fate)> {
        let mut settled = Vec::new();
        self.0.retain(|uid, (action, sent)| {
            let member = view.fleet.members.iter().find(|m| m.uid == *uid);
            let fate = fate(action, *sent, member);
            let open = fate == Fate::Open;
            if !open {
                settled.push((action.clone(), *sent, fate));
            }
            open
        });
        settled
    }
}

fn fate(action: &Action, sent: Timestamp, member: Option<&Member>) -> Fate {
    let evicts = action.what.step() == Move::Evict;
    let Some(member) = member else { return if evicts { Fate::Done } else { Fate::Overtaken } };
    if member.in_flight.is_some() {
        return Fate::Open;
    }
    // Stored in whole seconds.
    let same = |at: Option<Timestamp>, as_: Timestamp| {
        at.is_some_and(|at| at.duration_since(as_).abs() < SignedDuration::from_secs(1))
    };
    let open = matches!(member.traffic, Traffic::Open | Traffic::OpenedByHand(_));
    let returned = open && same(member.restored_at, sent);
    let done = match &action.what {
        What::Cut(order) => matches!(&member.traffic, Traffic::Cut(cut) if same(cut.at, order.at)),
        What::KeepOut => member.traffic == Traffic::KeptOut,
        What::Restore { .. } => returned,
        What::Forgive(strikes) => member.strikes == *strikes,
        What::Pause { .. } => member.traffic == Traffic::Paused,
        What::Evict { .. } => member.terminating,
    };
    match (done, returned) {
        (true, _) => Fate::Done,
        (false, true) => Fate::Undone,
        (false, false) => Fate::Overtaken,
    }
}

impl Owner {
    /// Tells what became of steps that were in doubt.
    pub(super) fn tell_fates(&mut self, view: &View) {
        if view.service.fault().is_some() {
            return;
        }
        for (action, sent, fate) in self.fates.settled(view) {
            match fate {
                Fate::Done => self.note_done(&action, sent),
                Fate::Undone => {
                    self.parts.metrics.restored(&self.id, "Undone");
                    let what = if action.what.step() == Move::Evict { "eviction" } else { "cut" };
                    let text = format!(
                        "restored: nobody answered whether its {what} was carried out, and in doubt it serves"
                    );
                    self.act_told(&action, Kind::PodRestored, sent, text);
                }
                Fate::Open | Fate::Overtaken => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{orchard, pause, pod};
    use crate::cluster::watch::Sink;
    use kubervisor_core::plan::RestoreReason;

    fn sent() -> Timestamp {
        Timestamp::from_second(1_700_000_000).unwrap()
    }

    fn seen(label: &str, restored_at: Option<&str>) -> Member {
        let cache = orchard(0);
        let mut pear = pod("pear-0", 8, label);
        let at = restored_at.map(|at| ("kubervisor.k8s.io/restored-at".to_owned(), at.to_owned()));
        pear.metadata.annotations.extend(at);
        cache.pods(None).apply(pear);
        cache.view("orchard", "k1").unwrap().fleet.members.remove(0)
    }

    fn evict() -> Action {
        Action { what: What::Evict { breaker: None, strikes: 3 }, ..pause("pear-0", 7) }
    }

    #[test]
    fn an_eviction_is_done_where_the_pod_goes_and_undone_where_it_came_back_at_that_time() {
        let back = seen("yes", Some("2023-11-14T22:13:20Z"));
        let going = Member { terminating: true, ..seen("no", None) };
        assert_eq!(fate(&evict(), sent(), None), Fate::Done);
        assert_eq!(fate(&evict(), sent(), Some(&going)), Fate::Done);
        assert_eq!(fate(&evict(), sent(), Some(&back)), Fate::Undone);
        let later = seen("yes", Some("2023-11-14T23:00:00Z"));
        assert_eq!(fate(&evict(), sent(), Some(&later)), Fate::Overtaken, "somebody else put it back");
    }

    #[test]
    fn a_step_is_open_while_its_write_is_in_flight() {
        let flying = Member { in_flight: Some(Move::Evict), ..seen("no", None) };
        assert_eq!(fate(&evict(), sent(), Some(&flying)), Fate::Open);
    }

    #[test]
    fn a_return_in_doubt_is_done_once_the_pod_is_seen_with_its_time() {
        let what = What::Restore { reason: RestoreReason::Due, strikes: None };
        let back = Action { what, ..pause("pear-0", 7) };
        let (then, never) = (seen("yes", Some("2023-11-14T22:13:20Z")), seen("no", None));
        assert_eq!(fate(&back, sent(), Some(&then)), Fate::Done);
        assert_eq!(fate(&back, sent(), Some(&never)), Fate::Overtaken);
        assert_eq!(fate(&pause("pear-0", 7), sent(), Some(&seen("pause", None))), Fate::Done);
    }
}
