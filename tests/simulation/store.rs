//! The model API server's store: objects, versions, and the log that watches follow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;

use super::object::{Kind, Name, Object};

/// One change, as watches tell it.
#[derive(Debug, Clone)]
pub struct Change {
    pub at: Duration,
    pub word: &'static str,
    pub object: Arc<Object>,
}

/// Objects and their history.
pub struct Store {
    objects: BTreeMap<(Kind, Name), Arc<Object>>,
    pub log: Vec<Change>,
    pub version: u64,
    born: u64,
    /// Tells watches that the log grew.
    /// Not a `watch` channel: that one wakes its receivers in an order drawn by chance.
    pub grown: Arc<Notify>,
}

impl Default for Store {
    fn default() -> Self {
        Self { objects: BTreeMap::new(), log: Vec::new(), version: 100, born: 0, grown: Arc::default() }
    }
}

impl Store {
    pub fn get(&self, kind: Kind, name: &Name) -> Option<&Arc<Object>> {
        self.objects.get(&(kind, name.clone()))
    }

    pub fn all(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.iter().filter(move |((k, _), _)| *k == kind).map(|(_, object)| object)
    }

    pub fn pod(&self, uid: &str) -> Option<&Arc<Object>> {
        self.all(Kind::Pods).find(|pod| pod.uid == uid)
    }

    /// A new object; its uid tells its place in the order of births.
    pub fn create(&mut self, kind: Kind, mut value: Value, at: Duration, wall: &str) -> Arc<Object> {
        self.born += 1;
        value["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.born));
        value["metadata"]["creationTimestamp"] = json!(wall);
        if kind == Kind::Resources {
            value["metadata"]["generation"] = json!(1);
        }
        self.commit(kind, value, at, "ADDED")
    }

    /// An object as it is to be; the same value again changes nothing.
    pub fn update(&mut self, kind: Kind, mut value: Value, at: Duration) -> Arc<Object> {
        let name = Object::new(kind, value.clone()).name.clone();
        if let Some(known) = self.get(kind, &name) {
            if known.value == value {
                return Arc::clone(known);
            }
            if kind == Kind::Resources && known.value["spec"] != value["spec"] {
                let generation = known.value["metadata"]["generation"].as_u64().unwrap_or(1);
                value["metadata"]["generation"] = json!(generation + 1);
            }
        }
        self.commit(kind, value, at, "MODIFIED")
    }

    pub fn delete(&mut self, kind: Kind, name: &Name, at: Duration) {
        if let Some(last) = self.objects.remove(&(kind, name.clone())) {
            self.version += 1;
            let mut value = last.value.clone();
            value["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.push(Change { at, word: "DELETED", object: Object::new(kind, value) });
        }
    }

    fn commit(&mut self, kind: Kind, mut value: Value, at: Duration, word: &'static str) -> Arc<Object> {
        self.version += 1;
        value["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Object::new(kind, value);
        self.objects.insert((kind, object.name.clone()), Arc::clone(&object));
        self.push(Change { at, word, object: Arc::clone(&object) });
        object
    }

    fn push(&mut self, change: Change) {
        self.log.push(change);
        self.grown.notify_waiters();
    }
}
