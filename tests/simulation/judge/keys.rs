//! The key in a Service's selector: added only where the floor holds behind it, taken out only where it is ours, and not
//! left where nobody looks after it.

use std::sync::Arc;

use super::super::ask::Ask;
use super::super::object::{Kind, Object};
use super::super::rules::{Mode, Rules};
use super::super::seen::View;
use super::super::sim::Sim;
use super::GRACE;
use super::floor::{members, sums};

const KEY: &str = "kubervisor/traffic";
const MARK: &str = "kubervisor.k8s.io/selector-managed-by";

impl Sim {
    /// A write to a Service leaves a controller.
    pub(super) fn check_key(&mut self, who: usize, ask: &Ask) {
        let (uid, base) = ask.aim();
        let key = &ask.body["spec"]["selector"][KEY];
        let mark = ask.body["metadata"]["annotations"][MARK].as_str().map(str::to_owned);
        let text = format!("[{who}] {} {}", ask.path, ask.body);
        if uid.is_empty() || base == 0 {
            return self.violate("G7 crash", format!("{text}: without uid and version"));
        }
        if key == "yes" {
            self.count("key added");
            let seen = &self.wires[who].seen;
            let of = |view| self.bears_key(who, view, ask, mark.as_deref().unwrap_or_default());
            let faults: Vec<_> = [&seen.now, &seen.before].into_iter().filter_map(|v| of(v).err()).collect();
            if let [first, _] = faults.as_slice() {
                self.violate("G1 key", format!("{text}: {first}"));
            }
            return;
        }
        self.count("key taken");
        let stored = self.store.get(Kind::Services, &ask.full_name());
        if stored.is_some_and(|s| s.version == base && !s.notes.contains_key(MARK)) {
            self.violate("G3 reach", format!("{text}: it is not ours to take"));
        }
    }

    /// Why the key must not be added, by what was delivered.
    fn bears_key(&self, who: usize, view: &View, ask: &Ask, mark: &str) -> Result<(), String> {
        let (seen, now) = (&self.wires[who].seen, self.now());
        let service = view.services.get(&ask.full_name()).ok_or("no such Service")?;
        let resource = view.resources.values().find(|r| r.uid == mark).ok_or("nobody answers for it")?;
        let rules = seen.rules(&resource.uid, now, GRACE);
        if !seen.may_spend(&resource.uid, now, GRACE) || !rules.iter().any(|rules| rules.managed) {
            return Err("the resource does not manage the selector".into());
        }
        if service.gated() {
            return Ok(());
        }
        let carries = |pod: &&Arc<Object>| {
            pod.ready() && !pod.terminating && pod.traffic() == Some("yes") && !seen.spending(&pod.uid)
        };
        let would_serve = members(view, service).filter(carries).count() as u64;
        let lacks = |pod: &&Arc<Object>| {
            pod.ready()
                && !pod.terminating
                && pod.traffic().is_none()
                && !self.cluster.by_hand.contains_key(&pod.uid)
        };
        if let Some(pod) = members(view, service).find(lacks) {
            return Err(format!("{} would go dark for want of a label", pod.name.1));
        }
        let capacity = sums(seen, view, resource, service).capacity;
        let floor = rules.iter().map(|rules| rules.floor(capacity)).min().unwrap_or(u64::MAX);
        if would_serve < floor {
            return Err(format!("{would_serve} would serve, {floor} must"));
        }
        Ok(())
    }

    /// Keys with a mark whose resource is gone, Disabled, or manages nothing.
    pub(super) fn left_keys(&self) -> Vec<String> {
        // A mark without the key holds nothing; whoever manages the selector next writes its own over it.
        let gated = self.store.all(Kind::Services).filter(|s| s.gated());
        let marked = gated.filter_map(|s| Some((s, s.notes.get(MARK)?)));
        let kept = |uid: &str| {
            let resource = self.store.all(Kind::Resources).find(|r| r.uid == uid);
            // A spec that is refused changes nothing.
            let manages = |rules: Rules| rules.managed && rules.mode != Mode::Disabled;
            resource.is_some_and(|r| Rules::read(&r.value["spec"]).is_none_or(manages))
        };
        marked
            .filter(|(_, uid)| !kept(uid))
            .map(|(s, uid)| format!("the key of {} by {uid}", s.name.1))
            .collect()
    }
}
