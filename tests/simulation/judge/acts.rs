//! G2, G3, G5, G6, G7 and G9: what each write needs before it may be sent.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::super::ask::Ask;
use super::super::cluster::stamp;
use super::super::object::{Kind, Object};
use super::super::rules::{Breaker, Ladder, Mode, Rule, Rules};
use super::super::seen::{Step, View};
use super::super::sim::Sim;
use super::super::source::{Said, Told};
use super::floor::{members, serves};
use super::{GRACE, Sent};

/// A view is stale a minute after its last proof; the turn that began before may end.
const STALE: Duration = Duration::from_secs(80);
/// A write may leave this long after the answer that it was decided on.
const UNDER_WAY: Duration = Duration::from_secs(20);
/// Cuts count together for a minute, less what a request may take to leave.
const BRAKE: Duration = Duration::from_millis(59_900);
/// A freeze is read with the next renewal of the Lease; the turn that began before may end.
const FROZEN: Duration = Duration::from_secs(30);

impl Sim {
    /// A cut, a pause or an eviction.
    pub(super) fn check_spending(&mut self, who: usize, id: u64, ask: &Ask, step: Step, uid: &str) {
        let seen = &self.wires[who].seen;
        let mut faults = Vec::new();
        let mut passed = None;
        // As the view is now, or as it was a moment ago, at the begin of this instant.
        for view in [&seen.now, &seen.before] {
            match self.spending(who, ask, step, uid, view) {
                Ok(found) => {
                    passed = Some(found);
                    break;
                }
                Err(fault) => faults.push(fault),
            }
        }
        match (passed, faults.into_iter().next()) {
            (Some((resource, served)), _) => {
                self.judge.served.insert(id, served);
                self.note_spent((who, id), step, uid, &resource, ask);
            }
            (None, Some((checker, text))) => {
                self.violate(checker, format!("[{who}] {} of {}: {text}", step.name(), ask.path));
            }
            (None, None) => {}
        }
    }

    fn note_spent(&mut self, (who, id): (usize, u64), step: Step, uid: &str, resource: &str, ask: &Ask) {
        let now = self.now();
        if step == Step::Cut {
            let decided = self.decided(ask);
            self.judge.sent_cuts.push(Sent { id, who, at: now, uid: uid.to_owned() });
            self.judge.cut_at.insert(uid.to_owned(), decided);
            // Out again, it is no longer watched.
            self.judge.returned.values_mut().for_each(|all| all.retain(|pod, _| *pod != uid));
            self.judge.cuts.entry(resource.to_owned()).or_default().push((id, decided));
        } else if step == Step::Evict {
            self.judge.kills.entry(resource.to_owned()).or_default().push((id, now, uid.to_owned()));
        }
    }

    /// When a cut was decided: the time that it writes, by the clock that is right.
    fn decided(&self, ask: &Ask) -> Duration {
        let now = self.now();
        let text = ask.body["metadata"]["annotations"]["breaker/breakAt"].as_str().unwrap_or_default();
        let skewed =
            text.parse::<jiff::Timestamp>().map(|at| at - jiff::SignedDuration::from_secs(self.cluster.skew));
        let since =
            skewed.ok().and_then(|at| Duration::try_from(at.duration_since(stamp(Duration::ZERO))).ok());
        since.filter(|at| *at <= now && *at + GRACE >= now).unwrap_or(now)
    }

    #[allow(clippy::type_complexity)]
    fn spending(
        &self,
        who: usize,
        ask: &Ask,
        step: Step,
        uid: &str,
        view: &View,
    ) -> Result<(String, (std::collections::BTreeSet<String>, u64, u64)), (&'static str, String)> {
        let (seen, now) = (&self.wires[who].seen, self.now());
        let pod = view.pod(uid).ok_or(("G3 reach", "the pod was never delivered".to_owned()))?;
        if pod.name != ask.full_name() {
            return Err(("G3 reach", "name and uid are of two pods".into()));
        }
        let governing = seen.governing(view, pod);
        let [(resource, service)] = governing.as_slice() else {
            return Err(("G3 reach", format!("{} resources govern it", governing.len())));
        };
        for kind in [Kind::Pods, Kind::Services, Kind::Resources] {
            let age = seen.proved.get(&kind).map(|at| now.saturating_sub(*at));
            if age.is_none_or(|age| age > STALE) {
                return Err(("G2 evidence", format!("the view of {} is {age:?} old", kind.plural())));
            }
        }
        if !seen.may_spend(&resource.uid, now, GRACE) {
            return Err(("G5 dry run", "the resource does not enforce, or was refused".into()));
        }
        if !service.gated() {
            return Err(("G3 reach", "the Service does not hold the key".into()));
        }
        let rules = seen.rules(&resource.uid, now, GRACE);
        let try_one = |rules: &&Rules| self.by_rules((who, view), ask, step, pod, rules, resource);
        let outcomes: Vec<_> = rules.iter().map(try_one).collect();
        // The rules that hold now say best what is wrong.
        if let Some(fault) = outcomes.last().filter(|_| outcomes.iter().all(Result::is_err)) {
            fault.clone()?;
        }
        if self.judge.frozen.is_some_and(|since| now.saturating_sub(since) > FROZEN) {
            return Err(("people", "everything is frozen".into()));
        }
        if step == Step::Cut {
            self.brake(who, view)?;
        }
        if step == Step::Cut && !keeps_out(ask) {
            self.caps(who, view, resource, service, &rules, ask)?;
        }
        let served = self.floor_of(who, view, (resource, service), uid).map_err(|text| ("G1 floor", text))?;
        Ok((resource.uid.clone(), served))
    }

    fn by_rules(
        &self,
        (who, view): (usize, &View),
        ask: &Ask,
        step: Step,
        pod: &Object,
        rules: &Rules,
        resource: &Object,
    ) -> Result<(), (&'static str, String)> {
        if step == Step::Cut && keeps_out(ask) {
            let asked = pod.wish() == Some("Cut");
            return if asked { Ok(()) } else { Err(("people", "nobody asked to keep it out".into())) };
        }
        if step == Step::Cut {
            if pod.wish().is_some() {
                return Err(("people", format!("a person said {:?} of it", pod.wish())));
            }
            let name = ask.body["metadata"]["labels"]["kubervisor/strategy"].as_str().unwrap_or_default();
            let breaker = rules.breaker(name).ok_or(("G6 why", format!("no breaker is called {name}")))?;
            if !breaker.enforced {
                return Err(("G5 dry run", format!("{name} only shows what it would do")));
            }
            explained(ask, resource)?;
            self.strikes(ask, pod)?;
            self.settled(pod, breaker)?;
            self.no_storm(who, view, resource, rules, breaker)?;
            return self.evidence(who, pod, breaker);
        }
        let name = pod.labels.get("kubervisor/strategy").map(String::as_str).unwrap_or_default();
        let breaker = rules.breaker(name).ok_or(("G2 evidence", format!("no breaker is called {name}")))?;
        if !pod.timed_cut() {
            return Err(("ladder", "the pod is not cut".into()));
        }
        if breaker.ladder == Ladder::Periodic || (breaker.ladder == Ladder::Kill && step == Step::Pause) {
            return Err(("ladder", "no activator asks for it".into()));
        }
        if pod.strikes() <= breaker.retries {
            return Err(("ladder", format!("{} strikes, {} retries", pod.strikes(), breaker.retries)));
        }
        let told = self.told_of(who, breaker);
        if told.is_none_or(|mut told| told.all(|t| t.rows.is_none())) {
            return Err(("G2 evidence", "its source gives no answer".into()));
        }
        if step == Step::Evict { self.may_kill(who, pod, resource, breaker.kills) } else { Ok(()) }
    }

    fn kill_faults(&self, who: usize, pod: &Object, resource: &Object, most: usize) -> Option<String> {
        let stored = self.store.get(Kind::Resources, &resource.name)?;
        let kills = stored.value["status"]["kills"].as_array().into_iter().flatten();
        if !kills.into_iter().any(|kill| kill["uid"] == pod.uid.as_str()) {
            return Some("it is not recorded".into());
        }
        let hour = self.now().saturating_sub(Duration::from_secs(3_590));
        let all = self.judge.kills.get(&resource.uid).map(Vec::as_slice).unwrap_or_default();
        // What a dead process sent and nobody carried out has never been.
        let open = |id: &u64| self.wires[who].seen.writes.iter().any(|w| w.id == *id);
        let real = |id: &u64| self.judge.done.contains(id) || open(id);
        let others = all.iter().filter(|(id, at, uid)| *at >= hour && *uid != pod.uid && real(id));
        let others: std::collections::BTreeSet<_> = others.map(|(_, _, uid)| uid).collect();
        (others.len() >= most).then(|| format!("{} others were evicted within the hour", others.len()))
    }

    fn may_kill(
        &self,
        who: usize,
        pod: &Object,
        resource: &Object,
        most: usize,
    ) -> Result<(), (&'static str, String)> {
        if pod.owner() != Some("ReplicaSet") {
            return Err(("ladder", format!("nobody would replace a pod of {:?}", pod.owner())));
        }
        self.kill_faults(who, pod, resource, most).map_or(Ok(()), |text| Err(("G7 kills", text)))
    }

    fn told_of(&self, who: usize, breaker: &Breaker) -> Option<impl Iterator<Item = &Told>> {
        let told = self.judge.told.get(&(who, breaker.key.clone()))?;
        let now = self.now();
        // What came within the last seconds, or the last one of all.
        let recent = move |(i, t): &(usize, &Told)| *i == 0 || t.at + UNDER_WAY >= now;
        Some(told.iter().rev().enumerate().take_while(recent).map(|(_, t)| t))
    }

    /// The original's own rule over what the source said: our rules may only ask for more.
    fn evidence(&self, who: usize, pod: &Object, breaker: &Breaker) -> Result<(), (&'static str, String)> {
        let none = || ("G2 evidence", format!("{} never got an answer", breaker.name));
        let told = self.judge.told.get(&(who, breaker.key.clone())).ok_or_else(none)?;
        let horizon = (breaker.period * 3).max(breaker.range * 2).max(Duration::from_secs(120)) + GRACE;
        let since = self.now().saturating_sub(horizon);
        let said = |t: &Told| t.rows.as_ref().and_then(|rows| rows.get(&pod.name.1)).copied();
        let bad =
            |t: &&Told| t.at >= since && !t.partial && said(t).is_some_and(|s| beyond(&breaker.rule, s));
        if !told.iter().any(|t| bad(&t)) {
            let last: Vec<_> =
                told.iter().rev().take(4).map(|t| (t.at.as_secs(), t.partial, said(t))).collect();
            return Err(("G2 evidence", format!("{} never found it bad: {last:?}", breaker.name)));
        }
        let counts = |t: &&Told| {
            t.at >= since && !t.partial && said(t).is_some_and(|s| beyond(&softened(&breaker.rule), s))
        };
        let mut found: Vec<Duration> = Vec::new();
        for t in told.iter().filter(counts) {
            if found.last().is_none_or(|last| *last + breaker.scrape <= t.at + Duration::from_millis(100)) {
                found.push(t.at);
            }
        }
        // On probation once is enough.
        let watched = pod.notes.contains_key("kubervisor.k8s.io/restored-at");
        if !watched && found.len() < breaker.confirm {
            return Err((
                "G2 evidence",
                format!("found bad at {found:?} only, {} are asked for", breaker.confirm),
            ));
        }
        let mut recent = self.told_of(who, breaker).ok_or_else(none)?;
        if recent.all(|t| t.rows.is_none() || t.partial) {
            return Err(("G2 evidence", format!("the source of {} gives no whole answer", breaker.name)));
        }
        let (seen, max) =
            (&self.wires[who].seen, if let Rule::Deviation(max) = breaker.rule { max } else { 0.0 });
        let governing = seen.governing(&seen.now, pod);
        let serving: Vec<_> =
            governing.iter().flat_map(|(_, service)| serving_names(&seen.now, service)).collect();
        // Whoever is too young to be compared shifts the median: nobody outside knows by how much.
        let young = |name: &&str| {
            let pod = seen.now.pods.get(&(pod.name.0.clone(), (*name).to_owned()));
            pod.is_none_or(|pod| self.ready_for(pod) < breaker.range + breaker.scrape + UNDER_WAY * 2)
        };
        let all_grown = !serving.iter().any(young);
        // Half of what is tolerated: the fleet was a little different when it was judged.
        let drags = |t: &Told| near_median(t, &pod.name.1, max / 2.0, &serving);
        if all_grown && self.told_of(who, breaker).is_some_and(|mut told| told.all(drags)) {
            let last = told.back().and_then(|t| t.rows.as_ref());
            let text = format!("it is far from the mean only, not from the median: {last:?} of {serving:?}");
            return Err(("G9 least harm", text));
        }
        Ok(())
    }

    /// How long a pod has been Ready.
    fn ready_for(&self, pod: &Object) -> Duration {
        let at = pod.ready_since().and_then(|at| at.parse::<jiff::Timestamp>().ok()).unwrap_or_default();
        Duration::try_from(stamp(self.now()).duration_since(at)).unwrap_or_default()
    }

    /// What was measured before a restore, or just after it, says nothing yet.
    fn settled(&self, pod: &Object, breaker: &Breaker) -> Result<(), (&'static str, String)> {
        let Some(at) = self.judge.restored_at.get(&pod.uid) else { return Ok(()) };
        let blurred = self.judge.jumped.is_some_and(|jump| jump >= *at);
        let least = breaker.scrape * 2 + breaker.period;
        let passed = self.now().saturating_sub(*at) + Duration::from_secs(1);
        let unsettled = breaker.scrape > Duration::ZERO && passed < least && !blurred;
        if unsettled { Err(("settle", format!("cut {passed:?} after it came back"))) } else { Ok(()) }
    }

    /// Pods that were cut together do not come back together.
    fn check_slots(&mut self, who: usize, id: u64, pod: &Object, rules: &Rules) {
        let (seen, now) = (&self.wires[who].seen, self.now());
        let governing = seen.governing(&seen.now, pod);
        let [(resource, service)] = governing.as_slice() else { return };
        let all: Vec<_> = members(&seen.now, service).collect();
        let serving = all.iter().filter(|p| serves(p, service) && !seen.spending(&p.uid)).count() as u64;
        // What the ladder would have ended, and was not allowed to, waits for no slot.
        let ladder = rules.breakers.iter().any(|b| b.ladder != Ladder::Periodic && pod.strikes() > b.retries);
        // What only shows from now on gives back at once what it cut.
        let name = pod.labels.get("kubervisor/strategy").map(String::as_str).unwrap_or_default();
        let shown = rules.breaker(name).is_some_and(|b| !b.enforced);
        if serving < rules.floor(all.len() as u64) || pod.wish().is_some() || ladder || shown {
            return;
        }
        // Slots are a share of all that were out when the waiting began.
        let outs = seen.outs.get(&resource.uid).map(Vec::as_slice).unwrap_or_default();
        let out = outs.iter().rev().take(400).max().copied().unwrap_or(0);
        // A slot is free again once the pod is proved healthy, which takes longer than to settle.
        let settle = rules.breakers.iter().map(|b| b.scrape * 2 + b.period).min().unwrap_or_default();
        let held = settle.min(Duration::from_secs(10));
        let away = |p: &&&Arc<Object>| !p.ready() || p.terminating;
        let gone: Vec<_> = all.iter().filter(away).map(|p| p.uid.clone()).collect();
        let uid = resource.uid.clone();
        let returned = self.judge.returned.entry(uid).or_default();
        // Whoever went away again is no longer watched.
        returned.retain(|uid, (_, at)| *at + held > now && !gone.contains(uid));
        returned.insert(pod.uid.clone(), (id, now));
        let count = returned.len();
        let slots = out.div_ceil(4).max(1);
        if count > slots {
            self.violate("slots", format!("{count} pods come back within {held:?}, {slots} may"));
        }
    }

    /// Strikes grow with each cut, but for those after a repair, and what is forgiven for health.
    fn strikes(&self, ask: &Ask, pod: &Object) -> Result<(), (&'static str, String)> {
        let notes = &ask.body["metadata"]["annotations"];
        let count = notes["breaker/retryCount"].as_str().and_then(|t| t.parse::<u64>().ok());
        let count = count.ok_or(("G6 why", "no strikes are written".to_owned()))?;
        let last = self.judge.cut_at.get(&pod.uid).copied();
        let soon = last.is_some_and(|at| at + Duration::from_secs(280) > self.now());
        if count == 0 || (soon && count < pod.strikes()) {
            return Err(("strikes", format!("{count} after {}", pod.strikes())));
        }
        Ok(())
    }

    /// G8: cuts of all services within a minute.
    fn brake(&self, who: usize, view: &View) -> Result<(), (&'static str, String)> {
        let now = self.now();
        // A successor knows those cuts of others that still stand on a pod, by a clock that nobody moved.
        let blurred = self.judge.jumped.is_some_and(|at| at + Duration::from_secs(60) > now);
        let stands = |uid: &str| !blurred && view.pod(uid).is_some_and(|pod| pod.timed_cut());
        let counts = |s: &&Sent| s.at + BRAKE > now && (s.who == who || stands(&s.uid));
        let sent = self.judge.sent_cuts.iter().filter(counts).count() as u64;
        let pods = view.pods.len() as u64;
        let limit = |part: &str| match part.strip_suffix('%') {
            Some(percent) => (pods * percent.parse().unwrap_or(0) / 100).max(5),
            None => part.parse().unwrap_or(0),
        };
        let most = self.script.cuts_per_minute.split(',').map(limit).min().unwrap_or(0);
        if sent < most {
            Ok(())
        } else {
            Err(("G8 brake", format!("{sent} cuts within a minute, {most} may be")))
        }
    }

    /// maxCutRatio and maxCutsPerPeriod.
    fn caps(
        &self,
        who: usize,
        view: &View,
        resource: &Object,
        service: &Object,
        rules: &[&Rules],
        ask: &Ask,
    ) -> Result<(), (&'static str, String)> {
        let seen = &self.wires[who].seen;
        let all: Vec<_> = members(view, service).collect();
        let size = all.len() as u64;
        let out =
            |pod: &&&Arc<Object>| matches!(pod.traffic(), Some("no" | "pause")) || seen.spending(&pod.uid);
        let out = all.iter().filter(out).count() as u64 + 1;
        let most = rules.iter().map(|r| r.max_out * size / 100).max().unwrap_or(0);
        if out > most {
            return Err(("caps", format!("{out} would be out, {most} of {size} may be")));
        }
        let now = self.decided(ask);
        // A process that began after a jump cannot tell when the pods were cut.
        let blurred = self.judge.jumped.is_some_and(|at| at + Duration::from_secs(60) > self.now());
        let cuts = self.judge.cuts.get(&resource.uid).map(Vec::as_slice).unwrap_or_default();
        // What a dead process sent and nobody carried out has never been.
        let real = |(id, _): &&(u64, Duration)| {
            self.judge.done.contains(id) || seen.writes.iter().any(|w| w.id == *id)
        };
        let fits = |r: &&Rules| {
            let recent = cuts
                .iter()
                .filter(real)
                .filter(|(_, at)| *at + r.window() > now + Duration::from_millis(20))
                .count() as u64;
            recent < r.cuts(size)
        };
        if !blurred && !rules.iter().any(fits) {
            return Err(("caps", format!("too many cuts within {:?}", rules.first().map(|r| r.window()))));
        }
        Ok(())
    }

    pub(super) fn check_restore(&mut self, who: usize, id: u64, ask: &Ask, uid: &str) {
        let seen = &self.wires[who].seen;
        let Some(pod) = seen.now.pod(uid).or_else(|| seen.before.pod(uid)).cloned() else { return };
        let held = self.held_by(who, &pod);
        let text = format!("[{who}] {}", ask.path);
        // A cut that was no fault of the pod's is no strike: the rest failed under its load, or was lost.
        let forgiven = !ask.body["metadata"]["annotations"]["kubervisor.k8s.io/strikes"].is_null()
            || ask.body["metadata"]["annotations"].get("breaker/retryCount").is_some();
        if !pod.marked() && pod.wish() != Some("Serve") {
            self.violate("people", format!("{text} carries no mark of ours and is opened"));
        } else if pod.traffic() == Some("pause") && held.is_some() && pod.wish() != Some("Serve") {
            self.violate("people", format!("{text} is paused for people to look at, and is opened"));
        } else if let Some(early) = held
            .clone()
            .filter(|_| !forgiven && pod.wish().is_none())
            .and_then(|rules| self.early(who, &pod, &rules))
        {
            self.violate("short cut", format!("{text} {early}"));
        }
        if let Some(rules) = held.filter(|_| pod.timed_cut() && !forgiven) {
            self.check_slots(who, id, &pod, &rules);
        }
    }

    /// The rules of the one resource that holds this pod, if that has enforced for a while.
    fn held_by(&self, who: usize, pod: &Object) -> Option<Rules> {
        let (seen, now) = (&self.wires[who].seen, self.now());
        let governing = seen.governing(&seen.now, pod);
        let [(resource, service)] = governing.as_slice() else { return None };
        let rules = seen.rules(&resource.uid, now, GRACE);
        let [rules] = rules.as_slice() else { return None };
        let named = pod.labels.get("kubervisor/name").is_none_or(|name| *name == resource.name.1);
        let steady = seen.told.get(&resource.uid)?.last()?.0 + GRACE < now;
        (rules.mode == Mode::Active && service.gated() && named && steady).then(|| (*rules).clone())
    }

    /// A cut that ends before the query's window is empty, although nobody needs the pod.
    fn early(&self, who: usize, pod: &Object, rules: &Rules) -> Option<String> {
        let (seen, now) = (&self.wires[who].seen, self.now());
        let breaker = rules.breaker(pod.labels.get("kubervisor/strategy")?).filter(|b| b.enforced)?;
        let at = *self.judge.cut_at.get(&pod.uid)?;
        let lasted = now.saturating_sub(at);
        let service = seen.now.services.get(&(pod.name.0.clone(), rules.service.clone()))?;
        let all: Vec<_> = members(&seen.now, service).collect();
        let serving = all.iter().filter(|p| serves(p, service) && !seen.spending(&p.uid)).count() as u64;
        // Who took over knows only the wall clock, which may have been moved.
        let later = self.wires[who].holds.is_none_or(|since| since > at);
        let moved = self.judge.jumped.is_some_and(|jump| jump > at) && later;
        let garbled = pod.notes.get("kubervisor.k8s.io/restore-at").is_none_or(|t| t.starts_with("9999"));
        let needed = serving < rules.floor(all.len() as u64);
        let early = pod.timed_cut() && lasted + Duration::from_secs(1) < breaker.shortest();
        (early && !needed && !moved && !garbled)
            .then(|| format!("is opened after {lasted:?}, and its query looks back {:?}", breaker.shortest()))
    }

    pub(super) fn check_label(&mut self, who: usize, ask: &Ask, uid: &str) {
        let seen = &self.wires[who].seen;
        let Some(pod) = seen.now.pod(uid).or_else(|| seen.before.pod(uid)).cloned() else { return };
        let gated = |view: &View| view.services.values().any(|s| s.gated() && s.selects(&pod));
        let active = |view: &View| {
            let governing = seen.governing(view, &pod);
            governing.iter().any(|(r, _)| seen.may_spend(&r.uid, self.now(), GRACE))
        };
        let fine = gated(&seen.now) || gated(&seen.before) || active(&seen.now) || active(&seen.before);
        // What was sent in the very instant in which the label came is not sent in spite of it.
        let had = seen.before.pod(uid).is_none_or(|pod| pod.traffic().is_some());
        if pod.traffic().is_some() && had {
            self.violate("people", format!("[{who}] {} has a label and gets another", ask.path));
        } else if !fine {
            self.violate("G3 reach", format!("[{who}] {} is labelled, and nothing gates it", ask.path));
        }
    }

    /// Marks without the label: only on pods of a governed Service. The same write to the same version again settles how
    /// the first one ended, whatever has become of the Service since.
    pub(super) fn check_other(&mut self, who: usize, ask: &Ask, uid: &str) {
        let seen = &self.wires[who].seen;
        let pod = seen.now.pod(uid).or_else(|| seen.before.pod(uid)).cloned();
        let own = pod.is_some_and(|pod| pod.marked() || !seen.governing(&seen.now, &pod).is_empty());
        let write = (ask.path.clone(), ask.body.to_string());
        let again = !own && self.judge.marked.contains(&write);
        if own {
            self.judge.marked.insert(write);
        }
        if !(own || again) || !ask.body["metadata"]["labels"]["kubervisor/traffic"].is_null() {
            self.violate("G3 reach", format!("[{who}] {} is written: {}", ask.path, ask.body));
        }
    }
}

pub(super) fn serving_names<'a>(view: &'a View, service: &'a Object) -> Vec<&'a str> {
    members(view, service).filter(|p| serves(p, service)).map(|p| p.name.1.as_str()).collect()
}

/// A cut that a person asks for.
fn keeps_out(ask: &Ask) -> bool {
    ask.body["metadata"]["labels"]["kubervisor/strategy"].is_null()
}

/// A pod that was anomalous is so until it is clearly better.
pub(super) fn softened(rule: &Rule) -> Rule {
    match rule {
        Rule::Share(tolerance) => Rule::Share(tolerance * 0.75),
        Rule::Deviation(max) => Rule::Deviation(max * 0.75),
        Rule::Named => Rule::Named,
    }
}

/// Only the mean is far away, dragged by others: the value is within the limit of the median of those that serve.
pub(super) fn near_median(told: &Told, pod: &str, max: f64, serving: &[&str]) -> bool {
    let Some(rows) = &told.rows else { return false };
    let value = |name: &str| if let Some(Said::Value(v)) = rows.get(name) { Some(*v) } else { None };
    let mut values: Vec<_> = serving.iter().filter_map(|name| value(name)).collect();
    values.sort_by(f64::total_cmp);
    let median = values.get(values.len() / 2);
    value(pod).zip(median).is_some_and(|(own, median)| (own / median - 1.0).abs() * 100.0 < max)
}

/// The original's rule.
pub(super) fn beyond(rule: &Rule, said: Said) -> bool {
    match (rule, said) {
        (Rule::Share(tolerance), Said::Counts(good, bad)) => bad / (good + bad) * 100.0 > *tolerance,
        (Rule::Deviation(max), Said::Value(value)) => (value - 1.0).abs() * 100.0 > *max,
        (Rule::Named, Said::Named) => true,
        _ => false,
    }
}

/// G6: value, threshold, budget and end are on the pod.
fn explained(ask: &Ask, resource: &Object) -> Result<(), (&'static str, String)> {
    let meta = &ask.body["metadata"];
    let notes = &meta["annotations"];
    let evidence = notes["kubervisor.k8s.io/evidence"].as_str().unwrap_or_default();
    let evidence: Value = serde_json::from_str(evidence).unwrap_or_default();
    let said = ["breaker", "why", "budget"]
        .iter()
        .all(|field| evidence[*field].as_str().is_some_and(|t| !t.is_empty()));
    let times = ["breaker/breakAt", "kubervisor.k8s.io/restore-at"];
    let timed =
        times.iter().all(|t| notes[*t].as_str().is_some_and(|t| t.parse::<jiff::Timestamp>().is_ok()));
    let named = meta["labels"]["kubervisor/name"] == resource.name.1.as_str();
    if said && timed && named {
        Ok(())
    } else {
        Err(("G6 why", format!("the cut does not say why: {notes}")))
    }
}
