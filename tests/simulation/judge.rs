//! The checkers. They see what an auditor would: the requests, the store, what was delivered to whom and what the
//! sources said. Nothing here reads a struct of the controller's.
//!
//! | what must hold | checkers |
//! |---|---|
//! | the floor, by what was delivered and by what really serves; repaired at once | G1 floor, G1 true floor, G1 repair |
//! | no cut and no kill without evidence | G2 evidence, settle, storm |
//! | only pods that it governs, and none against a person's word | G3 reach, people |
//! | each timed cut ends in its time; in the end nobody is dark | G4 return, G4 nobody dark |
//! | dry run writes nothing | G5 dry run |
//! | each act has its reason on the pod, and is told; a storm only where there is one | G6 why, false storm |
//! | whatever dies, no budget is spent twice | G7 crash, G7 kills, caps, strikes, ladder |
//! | requests and cuts have a limit | G8 bounded, G8 brake |
//! | a cut needs at least what the original asked for | G2 evidence, G9 least harm, short cut, slots |
//! | a selector gets the key where the floor holds behind it, and keeps none that nobody looks after | G1 key, G4 nobody dark |
//! | one act a pod and tick; one controller writes | one act a pod, one leader |

mod acts;
mod floor;
mod keys;
mod returns;
mod storms;
mod told;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde_json::json;

use super::ask::Ask;
use super::object::Kind;
use super::seen::{Step, Write};
use super::sim::Sim;
use super::source::Told;

/// A turn that is under way may go on by the spec that it began with: a few writes, each with its time-out.
pub const GRACE: Duration = Duration::from_secs(30);
/// Answers of a breaker that are kept.
const TOLD_MAX: usize = 200;
/// Requests of one controller in a minute, at most: three watches that break at once are asked for again 150 times a
/// minute each, and the rest is for writes, settling and events of three services.
const REQUESTS_MAX: u64 = 900;
/// Requests on their way at once.
const OPEN_MAX: u64 = 60;

/// A guarantee that did not hold.
#[derive(Debug, Clone)]
pub struct Violation {
    pub at: Duration,
    /// Line of the trace.
    pub line: usize,
    pub checker: &'static str,
    pub text: String,
}

/// A cut that left a controller.
struct Sent {
    id: u64,
    who: usize,
    at: Duration,
    uid: String,
}

/// What the checkers remember.
#[derive(Default)]
pub struct Judge {
    pub violations: Vec<Violation>,
    told: BTreeMap<(usize, String), VecDeque<Told>>,
    /// For each write that may take a pod out: who served without it, by the view that it was judged on.
    served: BTreeMap<u64, (BTreeSet<String>, u64, u64)>,
    /// Cuts by resource: request, and when it was decided.
    cuts: BTreeMap<String, Vec<(u64, Duration)>>,
    /// Cuts of all services that were not refused.
    sent_cuts: Vec<Sent>,
    /// Cuts and evictions that were carried out.
    done: BTreeSet<u64>,
    /// Evictions by resource: when, and whom.
    kills: BTreeMap<String, Vec<(u64, Duration, String)>>,
    /// When the last wall clock was moved.
    pub jumped: Option<Duration>,
    /// Calm seconds that a pod has been out by the same cut.
    out: BTreeMap<String, (String, u64)>,
    /// When a pod was cut, as decided, and when it was last put back.
    cut_at: BTreeMap<String, Duration>,
    restored_at: BTreeMap<String, Duration>,
    /// Returns in their time, by resource.
    returned: BTreeMap<String, BTreeMap<String, (u64, Duration)>>,
    /// Resources whose status tells of a storm.
    stormy: BTreeSet<String>,
    /// Since when the Lease is frozen.
    frozen: Option<Duration>,
    /// Since when a floor is not repaired, by controller and resource.
    short: BTreeMap<(usize, String), Duration>,
    minute: BTreeMap<usize, (u64, u64)>,
    /// Marks that were written to pods, by path and body, while they were governed.
    marked: BTreeSet<(String, String)>,
    /// Events that are still to come.
    owed: Vec<told::Owed>,
    pub last_write: Duration,
}

impl Judge {
    pub fn told(&mut self, who: usize, question: String, told: Told) {
        let all = self.told.entry((who, question)).or_default();
        all.push_back(told);
        if all.len() > TOLD_MAX {
            all.pop_front();
        }
    }
}

impl Sim {
    pub fn violate(&mut self, checker: &'static str, text: String) {
        let line = format!("VIOLATION {checker}: {text}");
        self.tell(&line);
        let at = self.now();
        self.judge.violations.push(Violation { at, line: self.trace.lines.len(), checker, text });
    }

    /// A request leaves a controller.
    pub fn sent(&mut self, who: usize, ask: &Ask) -> u64 {
        self.asked += 1;
        let (id, now) = (self.asked, self.now());
        let wire = &mut self.wires[who];
        wire.requests += 1;
        wire.open += 1;
        let open = wire.open;
        if open > OPEN_MAX {
            self.violate("G8 bounded", format!("{open} requests are on their way at once"));
        }
        let (minute, count) = self.judge.minute.entry(who).or_default();
        (*minute, *count) =
            if *minute == now.as_secs() / 60 { (*minute, *count + 1) } else { (now.as_secs() / 60, 1) };
        if *count == REQUESTS_MAX {
            self.violate("G8 bounded", format!("{REQUESTS_MAX} requests within a minute"));
        }
        if ask.step().is_some() || matches!(ask.kind, Some(Kind::Resources | Kind::Services)) && ask.writes()
        {
            self.check_lease(who, ask);
        }
        if ask.kind == Some(Kind::Services) && ask.writes() {
            self.check_key(who, ask);
        }
        if ask.kind == Some(Kind::Resources) && ask.part.as_deref() == Some("status") {
            self.check_weather(who, ask);
        }
        if let Some(step) = ask.step() {
            self.wires[who].wrote = now;
            self.judge.last_write = now;
            self.count(step.name());
            self.check_write(who, id, ask, step);
        }
        id
    }

    /// Only the holder of the Lease writes, and says by which term.
    fn check_lease(&mut self, who: usize, ask: &Ask) {
        let lease = self.store.all(Kind::Leases).next();
        let spec = lease.map(|lease| lease.value["spec"].clone()).unwrap_or_default();
        if spec["holderIdentity"] != json!(format!("controller-{who}")) {
            let text = format!("[{who}] {} while the Lease is held by {}", ask.path, spec["holderIdentity"]);
            return self.violate("one leader", text);
        }
        let epoch =
            ask.body["metadata"]["annotations"]["kubervisor.k8s.io/epoch"].as_str().map(str::to_owned);
        // Of Services only the key that goes in is.
        let of_pod = ask.kind == Some(Kind::Pods);
        let key_in = ask.body["spec"]["selector"]["kubervisor/traffic"] == "yes";
        if (of_pod || key_in) && epoch != spec["leaseTransitions"].as_u64().map(|n| n.to_string()) {
            self.violate("one leader", format!("[{who}] {} is stamped {epoch:?}", ask.path));
        }
    }

    fn check_write(&mut self, who: usize, id: u64, ask: &Ask, step: Step) {
        let (uid, base) = ask.aim();
        if uid.is_empty() || base == 0 {
            self.violate("G7 crash", format!("{} is written without uid and version", ask.path));
        }
        let open = self.wires[who]
            .seen
            .writes
            .iter()
            .filter(|w| !w.resolved && w.uid == uid && w.step != Step::Label);
        let open: Vec<_> = open.cloned().collect();
        let fence = open.iter().any(|w| w.unknown && w.base == base) && !step.spends();
        let repeats = open.iter().any(|w| w.unknown && w.base == base && w.step == step);
        if step != Step::Label && !open.is_empty() && !fence && !repeats {
            self.violate(
                "one act a pod",
                format!("{} of {} while {:?} is not settled", step.name(), ask.path, open[0].step),
            );
        }
        let fences = !open.is_empty();
        if step.spends() && !fences {
            self.check_spending(who, id, ask, step, &uid);
        } else if step == Step::Restore && !fences {
            self.check_restore(who, id, ask, &uid);
        } else if step == Step::Label {
            self.check_label(who, ask, &uid);
        } else if step == Step::Other {
            self.check_other(who, ask, &uid);
        }
        let write = Write { id, uid, base, step, resolved: false, unknown: false };
        self.wires[who].seen.writes.push(write);
    }

    /// The answer reaches the controller; `None`: the request never left.
    pub fn answered(&mut self, who: usize, id: u64, code: Option<u16>) {
        self.wires[who].open -= 1;
        let definite = code.is_none_or(|code| (400..500).contains(&code) && code != 408);
        let unknown = code.is_some_and(|code| code >= 500);
        for write in self.wires[who].seen.writes.iter_mut().filter(|w| w.id == id) {
            write.resolved |= definite || write.step == Step::Label;
            write.unknown |= unknown;
        }
        if code.is_none_or(|code| code >= 400) {
            self.judge.kills.values_mut().for_each(|kills| kills.retain(|(kill, ..)| *kill != id));
        }
        if definite {
            self.judge.returned.values_mut().for_each(|all| all.retain(|_, (back, _)| *back != id));
            self.judge.sent_cuts.retain(|cut| cut.id != id);
            self.judge.cuts.values_mut().for_each(|cuts| cuts.retain(|(cut, _)| *cut != id));
        }
    }

    /// No answer will come any more.
    pub fn unanswered(&mut self, who: usize, id: u64) {
        let Some(wire) = self.wires.get_mut(who) else { return };
        wire.open -= 1;
        for write in wire.seen.writes.iter_mut().filter(|w| w.id == id) {
            write.unknown = true;
            write.resolved |= write.step == Step::Label;
        }
    }

    /// A second has gone by.
    pub fn check_second(&mut self) {
        self.check_returns();
        self.check_told();
        let lease = self.store.all(Kind::Leases).next();
        let holder =
            lease.and_then(|lease| lease.value["spec"]["holderIdentity"].as_str().map(str::to_owned));
        let now = self.now();
        let notes = self.store.all(Kind::Leases).next().map(|lease| &lease.notes);
        let frozen = notes.is_some_and(|notes| notes.contains_key("kubervisor.k8s.io/freeze"));
        self.judge.frozen = frozen.then(|| self.judge.frozen.unwrap_or(now));
        for (who, wire) in self.wires.iter_mut().enumerate() {
            let holds = holder == Some(format!("controller-{who}"));
            wire.holds = holds.then(|| wire.holds.unwrap_or(now));
        }
        for who in 0..self.wires.len() {
            if !self.wires[who].dead {
                self.note_sizes(who);
                self.check_repair(who);
            }
        }
        for wire in &mut self.wires {
            let open: BTreeSet<_> = self.store.all(Kind::Pods).map(|p| p.uid.clone()).collect();
            wire.seen.writes.retain(|w| !w.resolved || open.contains(&w.uid));
        }
    }
}
