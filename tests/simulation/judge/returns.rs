//! G4: every timed cut ends in bounded time, and nobody is dark at the end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::object::{Kind, Object};
use super::super::rules::{Mode, Rules};
use super::super::script::What;
use super::super::sim::{LISTED_AGAIN, Sim};

impl Sim {
    /// Counts the calm seconds that each pod has been out.
    pub(super) fn check_returns(&mut self) {
        let now = self.now();
        let up = |w: &super::super::sim::Wire| !w.dead && w.started + Duration::from_secs(60) < now;
        let calm = self.wire_calm_for() > Duration::from_secs(90) && self.wires.iter().any(up);
        let out: Vec<_> = self
            .store
            .all(Kind::Pods)
            .filter(|p| p.timed_cut() && !p.terminating && p.wish().is_none())
            .cloned()
            .collect();
        let present: BTreeSet<_> = out.iter().map(|p| p.uid.clone()).collect();
        self.judge.out.retain(|uid, _| present.contains(uid));
        for pod in out {
            let cut = pod.notes.get("breaker/breakAt").cloned().unwrap_or_default();
            let entry = self.judge.out.entry(pod.uid.clone()).or_default();
            if entry.0 != cut {
                *entry = (cut, 0);
            }
            entry.1 += u64::from(calm);
            let seconds = entry.1;
            let bound = self.longest(&pod).as_secs();
            if seconds == bound {
                self.violate("G4 return", format!("{} has been out for {seconds} calm seconds", pod.name.1));
            }
        }
    }

    /// Calm time after which nothing may be dark any more: a lost event is found with the next full list, and then the
    /// longest cut ends.
    pub fn after_calm(&self) -> Duration {
        let plans = self.script.services.iter().filter_map(|plan| Rules::read(&plan.spec));
        let longest = plans.map(|rules| rules.longest_cut()).max().unwrap_or_default();
        let lost = self.script.faults.iter().any(|f| matches!(f.what, What::Lose(_)));
        longest + if lost { LISTED_AGAIN } else { Duration::ZERO }
    }

    /// The longest time that this pod may be out.
    fn longest(&self, pod: &Object) -> Duration {
        let rules = self.truly_governing(pod).into_iter().filter_map(|r| Rules::read(&r.value["spec"]));
        // An edit may have shortened what was drawn before.
        let plans = self.script.services.iter().filter_map(|plan| Rules::read(&plan.spec));
        let longest = rules.chain(plans).map(|rules| rules.longest_cut()).max();
        longest.unwrap_or_default().max(Duration::from_secs(300)) + Duration::from_secs(60)
    }

    fn truly_governing(&self, pod: &Object) -> Vec<Arc<Object>> {
        let reaches = |resource: &&Arc<Object>| {
            let service = resource.value["spec"]["service"].as_str().unwrap_or_default().to_owned();
            let service = self.store.get(Kind::Services, &(resource.name.0.clone(), service));
            service.is_some_and(|s| s.selects(pod))
        };
        self.store.all(Kind::Resources).filter(reaches).cloned().collect()
    }

    /// Pods that should serve by now and do not.
    pub fn dark(&self) -> Vec<String> {
        let mut dark = self.left_keys();
        for pod in self.store.all(Kind::Pods).filter(|p| p.ready() && !p.terminating) {
            let service = self.store.all(Kind::Services).find(|s| s.selects(pod) && s.gated());
            if service.is_none_or(|s| s.reaches(pod)) || self.excused(pod) {
                continue;
            }
            dark.push(format!("{} ({:?})", pod.name.1, pod.traffic()));
        }
        dark
    }

    fn excused(&self, pod: &Object) -> bool {
        let by_hand = self.cluster.by_hand.contains_key(&pod.uid) && !pod.timed_cut();
        let holds = |r: &Arc<Object>| Rules::read(&r.value["spec"]).is_some_and(|r| r.mode == Mode::Active);
        let paused = pod.traffic() == Some("pause") && self.truly_governing(pod).iter().any(holds);
        by_hand || paused
    }
}
