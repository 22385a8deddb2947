//! G1: the floor, by the view as delivered, and by what really served.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::super::ask::Ask;
use super::super::object::{Kind, Object};
use super::super::rules::{Mode, Rules};
use super::super::seen::{Seen, Step, View};
use super::super::sim::Sim;
use super::GRACE;

/// A size counts once it has stood this long: what comes and goes between two ticks is not seen by any.
const STOOD: usize = 60;
/// And for this long after it fell; the controller counts five minutes from the tick that saw it fall.
const REMEMBERED: usize = 295;
/// Time in which a repair must have been sent.
const REPAIRED: Duration = Duration::from_secs(8);

/// Members of a Service in a view.
pub fn members<'a>(view: &'a View, service: &'a Object) -> impl Iterator<Item = &'a Arc<Object>> {
    view.pods.values().filter(|pod| service.selects(pod) && !pod.finished())
}

/// A pod to which the Service sends traffic.
pub fn serves(pod: &Object, service: &Object) -> bool {
    pod.ready() && !pod.terminating && service.reaches(pod)
}

/// The largest size that stood for a while within the last minutes.
fn remembered(sizes: &[u64]) -> u64 {
    let recent = &sizes[sizes.len().saturating_sub(REMEMBERED + STOOD)..];
    recent.windows(STOOD).filter_map(|window| window.iter().min()).max().copied().unwrap_or(0)
}

/// Sums over the view.
pub struct Sums {
    pub members: u64,
    pub capacity: u64,
    pub serving: BTreeSet<String>,
}

pub fn sums(seen: &Seen, view: &View, resource: &Object, service: &Object) -> Sums {
    let members: Vec<_> = members(view, service).collect();
    let serving = members.iter().filter(|pod| serves(pod, service) && !seen.spending(&pod.uid));
    let size = members.len() as u64;
    let sizes = seen.sizes.get(&resource.uid).map(Vec::as_slice).unwrap_or_default();
    Sums {
        members: size,
        capacity: size.max(remembered(sizes)),
        serving: serving.map(|pod| pod.uid.clone()).collect(),
    }
}

impl Sim {
    /// The first of the sums that lets the write pass; or why none does.
    pub fn floor_of(
        &self,
        who: usize,
        view: &View,
        (resource, service): (&Object, &Object),
        uid: &str,
    ) -> Result<(BTreeSet<String>, u64, u64), String> {
        let seen = &self.wires[who].seen;
        let mut sums = sums(seen, view, resource, service);
        sums.serving.remove(uid);
        let left = sums.serving.len() as u64;
        let floors =
            seen.rules(&resource.uid, self.now(), GRACE).into_iter().map(|rules| rules.floor(sums.capacity));
        let floor = floors.min().unwrap_or(u64::MAX);
        if left >= floor {
            return Ok((sums.serving, floor, sums.members));
        }
        Err(format!("{left} would serve, {floor} must, of {} (capacity {})", sums.members, sums.capacity))
    }

    /// A request has been carried out: what really serves is never below the floor unless others were lost meanwhile.
    pub fn executed(&mut self, who: usize, id: u64, ask: &Ask, code: u16) {
        if code >= 300 {
            // Also where nobody is left to hear it.
            self.judge.kills.values_mut().for_each(|kills| kills.retain(|(kill, ..)| *kill != id));
        }
        let Some(step) = ask.step().filter(|_| code < 300) else { return };
        let uid = ask.aim().0;
        if matches!(step, Step::Cut | Step::Evict) {
            self.judge.done.insert(id);
        }
        if step == Step::Restore {
            self.judge.restored_at.insert(uid.clone(), self.now());
        }
        self.owe(who, step, &uid);
        let Some((served, floor, counted)) = self.judge.served.remove(&id).filter(|_| step.spends()) else {
            return;
        };
        let Some(pod) = self.store.get(Kind::Pods, &ask.full_name()).cloned() else { return };
        let selects = |s: &&Arc<Object>| s.selects(&pod) && !s.name.1.ends_with("-some");
        let Some(service) = self.store.all(Kind::Services).find(selects).cloned() else { return };
        let all: Vec<_> = self.store.all(Kind::Pods).filter(|p| service.selects(p)).collect();
        let serving: BTreeSet<_> =
            all.iter().filter(|p| serves(p, &service) && p.uid != uid).map(|p| p.uid.clone()).collect();
        if serving.len() as u64 >= floor {
            return;
        }
        let lost = served.iter().any(|uid| !serving.contains(uid));
        if lost || all.len() as u64 > counted {
            return self.count("late loss");
        }
        let text = format!("[{who}] after {} of {uid}: {} serve, {floor} must", step.name(), serving.len());
        self.violate("G1 true floor", text);
    }

    pub fn note_sizes(&mut self, who: usize) {
        let seen = &self.wires[who].seen;
        let mut sizes = Vec::new();
        for resource in seen.now.resources.values() {
            let active = seen.rules(&resource.uid, self.now(), Duration::ZERO);
            let Some(rules) = active.last().filter(|r| r.mode != Mode::Disabled) else { continue };
            let name = (resource.name.0.clone(), rules.service.clone());
            let Some(service) = seen.now.services.get(&name).filter(|s| s.selector().is_some()) else {
                continue;
            };
            let out =
                members(&seen.now, service).filter(|p| matches!(p.traffic(), Some("no" | "pause"))).count();
            // Its owners begin to count with the Lease: what a fleet was before that is lost with who had it.
            let counted =
                if self.wires[who].holds.is_some() { members(&seen.now, service).count() } else { 0 };
            sizes.push((resource.uid.clone(), counted as u64, out));
        }
        let seen = &mut self.wires[who].seen;
        // A second in which nothing was counted passes as well: the window is one of time.
        for (_, known) in seen.sizes.iter_mut().filter(|(uid, _)| sizes.iter().all(|(u, ..)| u != *uid)) {
            known.push(0);
        }
        for (uid, size, out) in sizes {
            seen.outs.entry(uid.clone()).or_default().push(out);
            seen.sizes.entry(uid).or_default().push(size);
        }
    }

    /// Others were lost: pods of ours that are Ready go back at once.
    pub fn check_repair(&mut self, who: usize) {
        let now = self.now();
        let calm = self.wire_calm_for() > Duration::from_secs(30)
            && self.wires[who].holds.is_some_and(|since| now.saturating_sub(since) > Duration::from_secs(30));
        let short: Vec<_> = if calm { self.short(who) } else { Vec::new() };
        self.judge.short.retain(|(of, uid), _| *of != who || short.iter().any(|(s, _)| s == uid));
        for (uid, text) in short {
            let since = *self.judge.short.entry((who, uid.clone())).or_insert(now);
            if now.saturating_sub(since) > REPAIRED {
                self.judge.short.insert((who, uid), now + Duration::from_hours(1));
                self.violate("G1 repair", text);
            }
        }
    }

    fn short(&self, who: usize) -> Vec<(String, String)> {
        let seen = &self.wires[who].seen;
        let mut found = Vec::new();
        for resource in seen.now.resources.values() {
            let rules = seen.rules(&resource.uid, self.now(), GRACE);
            let [rules] = rules.as_slice() else { continue };
            let told =
                seen.told.get(&resource.uid).and_then(|t| t.first()).map_or(Duration::ZERO, |(at, _)| *at);
            found
                .extend(self.shortfall(seen, resource, rules, told).map(|text| (resource.uid.clone(), text)));
        }
        found
    }

    fn shortfall(&self, seen: &Seen, resource: &Object, rules: &Rules, told: Duration) -> Option<String> {
        let view = &seen.now;
        let service = view.services.get(&(resource.name.0.clone(), rules.service.clone()))?;
        if rules.mode != Mode::Active || !service.gated() {
            return None;
        }
        let all: Vec<_> = members(view, service).collect();
        if all.iter().any(|pod| seen.governing(view, pod).len() != 1) {
            return None;
        }
        let grown =
            |pod: &&&Arc<Object>| pod.ready() || seen.been_ready.get(&pod.uid).is_some_and(|at| *at > told);
        let needed = rules.floor(all.iter().filter(grown).count() as u64);
        let coming = |pod: &&&Arc<Object>| pod.ready() && !pod.terminating && seen.restoring(&pod.uid);
        let has = sums(seen, view, resource, service).serving.len() + all.iter().filter(coming).count();
        let idle = |pod: &&&Arc<Object>| {
            let open = seen.writes.iter().any(|w| !w.resolved && w.uid == pod.uid);
            pod.timed_cut() && pod.ready() && !pod.terminating && !open
        };
        let spare: Vec<_> = all.iter().filter(idle).map(|pod| pod.name.1.clone()).collect();
        let short = (has as u64) < needed && !spare.is_empty();
        short.then(|| {
            format!("{has} serve or come back, {needed} must, and {} could be restored", spare.join(", "))
        })
    }
}
