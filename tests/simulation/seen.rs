//! What the API server has delivered to one controller: the view that its writes are judged against.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::object::{Kind, Name, Object};
use super::rules::{Mode, Rules};

/// Objects as last delivered.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub pods: BTreeMap<Name, Arc<Object>>,
    pub services: BTreeMap<Name, Arc<Object>>,
    pub resources: BTreeMap<Name, Arc<Object>>,
}

/// A write of ours to a pod.
#[derive(Debug, Clone)]
pub struct Write {
    pub id: u64,
    pub uid: String,
    pub base: u64,
    pub step: Step,
    /// The view shows what became of it, or the server said for sure that nothing did.
    pub resolved: bool,
    /// Its answer never came, or was no certain one.
    pub unknown: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    Cut,
    Restore,
    Pause,
    Evict,
    Label,
    /// Anything else about a pod.
    Other,
}

impl Step {
    pub fn spends(self) -> bool {
        matches!(self, Self::Cut | Self::Pause | Self::Evict)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Restore => "restore",
            Self::Pause => "pause",
            Self::Evict => "evict",
            Self::Label => "label",
            Self::Other => "other",
        }
    }
}

/// A spec that was delivered: when, and what it says if it is valid.
pub type Told = (Duration, Option<Rules>);

/// One controller's side of the wire.
#[derive(Debug, Default)]
pub struct Seen {
    pub now: View,
    /// As it was when this instant began: a write that was decided then may leave after an event of the same instant.
    pub before: View,
    instant: Duration,
    lists: BTreeMap<Kind, u32>,
    list_of: BTreeMap<(Kind, Name), u32>,
    learned: BTreeSet<String>,
    pub proved: BTreeMap<Kind, Duration>,
    pub synced: BTreeSet<Kind>,
    pub told: BTreeMap<String, Vec<Told>>,
    pub writes: Vec<Write>,
    /// When a pod was last delivered as Ready.
    pub been_ready: BTreeMap<String, Duration>,
    /// Members second by second, by the uid of the resource.
    pub sizes: BTreeMap<String, Vec<u64>>,
    /// Pods that were out, likewise.
    pub outs: BTreeMap<String, Vec<usize>>,
}

impl View {
    pub fn map(&mut self, kind: Kind) -> Option<&mut BTreeMap<Name, Arc<Object>>> {
        match kind {
            Kind::Pods => Some(&mut self.pods),
            Kind::Services => Some(&mut self.services),
            Kind::Resources => Some(&mut self.resources),
            _ => None,
        }
    }

    pub fn pod(&self, uid: &str) -> Option<&Arc<Object>> {
        self.pods.values().find(|pod| pod.uid == uid)
    }
}

impl Seen {
    /// To be called before anything is delivered.
    fn turn_page(&mut self, at: Duration) {
        if at != self.instant {
            self.instant = at;
            self.before = self.now.clone();
        }
    }

    pub fn begin(&mut self, kind: Kind) {
        *self.lists.entry(kind).or_default() += 1;
    }

    pub fn end(&mut self, kind: Kind, at: Duration) {
        self.turn_page(at);
        let list = self.lists.get(&kind).copied().unwrap_or(0);
        let Some(map) = self.now.map(kind) else { return };
        let known: Vec<_> = map.keys().cloned().collect();
        for name in known {
            if self.list_of.get(&(kind, name.clone())) != Some(&list) {
                self.remove(kind, &name);
            }
        }
        self.synced.insert(kind);
    }

    pub fn deliver(&mut self, word: &str, object: &Arc<Object>, at: Duration) {
        self.turn_page(at);
        let (kind, name) = (object.kind, object.name.clone());
        if word == "DELETED" || (kind == Kind::Pods && object.finished()) {
            return self.remove(kind, &name);
        }
        if kind == Kind::Resources {
            if object.terminating {
                return self.remove(kind, &name);
            }
            self.tell(object, at);
        }
        let list = self.lists.get(&kind).copied().unwrap_or(0);
        self.list_of.insert((kind, name.clone()), list);
        let Some(map) = self.now.map(kind) else { return };
        // A late event does not undo what a GET has said.
        let late = |known: &Arc<Object>| known.uid == object.uid && known.version > object.version;
        if self.learned.contains(&object.uid) && map.get(&name).is_some_and(late) {
            return;
        }
        self.learned.remove(&object.uid);
        let former = map.insert(name, Arc::clone(object));
        self.settle(object, former.as_deref());
    }

    /// The server itself was asked for this pod.
    pub fn learn(&mut self, object: &Arc<Object>, at: Duration) {
        let newer = self.now.pods.get(&object.name).is_some_and(|known| known.version < object.version);
        if newer {
            self.deliver("MODIFIED", object, at);
            self.learned.insert(object.uid.clone());
        }
    }

    /// The server itself said that there is no pod of this name.
    pub fn learn_gone(&mut self, name: &Name, at: Duration) {
        self.turn_page(at);
        self.remove(Kind::Pods, name);
    }

    fn remove(&mut self, kind: Kind, name: &Name) {
        let gone = self.now.map(kind).and_then(|map| map.remove(name));
        if let Some(gone) = gone {
            self.writes.iter_mut().filter(|w| w.uid == gone.uid).for_each(|w| w.resolved = true);
            if kind == Kind::Resources {
                self.told.remove(&gone.uid);
                self.sizes.remove(&gone.uid);
            }
        }
    }

    fn settle(&mut self, object: &Object, former: Option<&Object>) {
        let replaced = former.map(|f| &f.uid).filter(|uid| **uid != object.uid);
        for write in &mut self.writes {
            let shown = write.uid == object.uid && object.version > write.base;
            write.resolved |= shown || replaced == Some(&write.uid);
        }
        if object.kind == Kind::Pods && object.ready() {
            self.been_ready.insert(object.uid.clone(), self.instant);
        }
        if let Some(uid) = replaced.filter(|_| object.kind == Kind::Resources) {
            let uid = uid.clone();
            self.told.remove(&uid);
            self.sizes.remove(&uid);
        }
    }

    fn tell(&mut self, object: &Object, at: Duration) {
        let rules = Rules::read(&object.value["spec"]);
        let told = self.told.entry(object.uid.clone()).or_default();
        if told.last().is_none_or(|(_, last)| *last != rules) {
            told.push((at, rules));
        }
    }

    /// The last valid rules of a resource, and those that were in force up to `grace` ago.
    pub fn rules(&self, uid: &str, at: Duration, grace: Duration) -> Vec<&Rules> {
        let told = self.told.get(uid).map(Vec::as_slice).unwrap_or_default();
        let valid: Vec<_> =
            told.iter().filter_map(|(since, rules)| Some((*since, rules.as_ref()?))).collect();
        let ended = |i: usize| valid.get(i + 1).map(|(since, _)| *since);
        let counts = |i: usize| ended(i).is_none_or(|end| end + grace >= at);
        (0..valid.len()).filter(|i| counts(*i)).map(|i| valid[i].1).collect()
    }

    /// Whether the spec as last told was refused, or has another mode than Active, for longer than `grace`.
    pub fn may_spend(&self, uid: &str, at: Duration, grace: Duration) -> bool {
        let told = self.told.get(uid).map(Vec::as_slice).unwrap_or_default();
        let ended = |i: usize| told.get(i + 1).map(|(since, _)| *since);
        let counts = |i: usize| ended(i).is_none_or(|end| end + grace >= at);
        let active = |rules: &Option<Rules>| rules.as_ref().is_some_and(|r| r.mode == Mode::Active);
        (0..told.len()).any(|i| counts(i) && active(&told[i].1))
    }

    /// Whether a write that takes this pod out may still be carried out.
    pub fn spending(&self, uid: &str) -> bool {
        self.writes.iter().any(|w| !w.resolved && w.uid == uid && w.step.spends())
    }

    pub fn restoring(&self, uid: &str) -> bool {
        self.writes.iter().any(|w| !w.resolved && w.uid == uid && w.step == Step::Restore)
    }

    /// The resources whose Service would reach this pod, traffic key aside.
    pub fn governing<'a>(&self, view: &'a View, pod: &Object) -> Vec<(&'a Arc<Object>, &'a Arc<Object>)> {
        let mut found = Vec::new();
        for resource in view.resources.values().filter(|r| r.name.0 == pod.name.0) {
            let Some(service) = self.service_of(resource) else { continue };
            let service = view.services.get(&(pod.name.0.clone(), service));
            found.extend(service.filter(|s| s.selects(pod)).map(|s| (resource, s)));
        }
        found
    }

    /// The Service's name as last told by a valid spec.
    fn service_of(&self, resource: &Object) -> Option<String> {
        let told = self.told.get(&resource.uid)?;
        let valid = told.iter().rev().find_map(|(_, rules)| rules.as_ref());
        let raw = resource.value["spec"]["service"].as_str().map(str::to_owned);
        valid.map(|rules| rules.service.clone()).or(raw)
    }
}
