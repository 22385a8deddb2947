//! The model API server: a request to a change of the store and an answer. No chance, no faults: `wire` has those.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use super::ask::Ask;
use super::cluster::{stamp, terminate};
use super::object::{Kind, Object};
use super::parts::merge;
use super::sim::Sim;

/// Code and body.
pub type Reply = (u16, Value);

/// A refusal as the API server words it.
pub fn refusal(code: u16, reason: &str, message: &str, ask: &Ask) -> Reply {
    let kind = ask.kind.map(Kind::plural).unwrap_or_default();
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "details": {"name": ask.name, "group": ask.group, "kind": kind}, "code": code,
    });
    (code, body)
}

fn missing(ask: &Ask) -> Reply {
    refusal(404, "NotFound", "not found", ask)
}

fn conflict(ask: &Ask) -> Reply {
    refusal(409, "Conflict", "the object has been modified", ask)
}

impl Sim {
    /// Carries a request out.
    pub fn execute(&mut self, ask: &Ask) -> Reply {
        let Some(kind) = ask.kind else { return self.review(ask) };
        match (&ask.method, ask.name.is_some()) {
            (&Method::GET, true) => match self.store.get(kind, &ask.full_name()) {
                Some(object) => (200, object.value.clone()),
                None => missing(ask),
            },
            (&Method::GET, false) => self.list(kind, ask),
            (&Method::POST, true) if ask.part.as_deref() == Some("eviction") => self.evict(ask),
            (&Method::POST, _) => self.post(kind, ask),
            (&Method::PUT, true) => self.put(kind, ask),
            (&Method::PATCH, true) => self.patch(kind, ask),
            (&Method::DELETE, true) => {
                let now = self.now();
                self.store.delete(kind, &ask.full_name(), now);
                (200, json!({"kind": "Status", "status": "Success"}))
            }
            _ => refusal(405, "MethodNotAllowed", "not served", ask),
        }
    }

    /// Everything is allowed.
    fn review(&mut self, ask: &Ask) -> Reply {
        let mut body = ask.body.clone();
        body["status"] = json!({"allowed": true});
        (201, body)
    }

    fn list(&mut self, kind: Kind, ask: &Ask) -> Reply {
        let within = |o: &&std::sync::Arc<Object>| ask.namespace.as_ref().is_none_or(|ns| *ns == o.name.0);
        let all: Vec<_> = self.store.all(kind).filter(within).map(|o| o.value.clone()).collect();
        let limit = ask.query.get("limit").and_then(|l| l.parse().ok()).unwrap_or(usize::MAX);
        let from = ask.query.get("continue").and_then(|c| c.parse().ok()).unwrap_or(0);
        let page: Vec<_> = all.iter().skip(from).take(limit).cloned().collect();
        let next =
            if from + page.len() < all.len() { (from + page.len()).to_string() } else { String::new() };
        let meta = json!({"resourceVersion": self.store.version.to_string(), "continue": next});
        (200, json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": page}))
    }

    fn post(&mut self, kind: Kind, ask: &Ask) -> Reply {
        let mut value = ask.body.clone();
        if let Some(namespace) = &ask.namespace {
            value["metadata"]["namespace"] = json!(namespace);
        }
        let name = Object::new(kind, value.clone()).name.clone();
        if self.store.get(kind, &name).is_some() {
            return refusal(409, "AlreadyExists", "already exists", ask);
        }
        let now = self.now();
        let object = self.store.create(kind, value, now, &stamp(now).to_string());
        (201, object.value.clone())
    }

    fn put(&mut self, kind: Kind, ask: &Ask) -> Reply {
        let Some(known) = self.store.get(kind, &ask.full_name()).cloned() else { return missing(ask) };
        let wanted = &ask.body["metadata"]["resourceVersion"];
        if wanted.is_string() && *wanted != known.value["metadata"]["resourceVersion"] {
            return conflict(ask);
        }
        let now = self.now();
        let mut value = ask.body.clone();
        value["metadata"]["uid"] = known.value["metadata"]["uid"].clone();
        (200, self.store.update(kind, value, now).value.clone())
    }

    fn patch(&mut self, kind: Kind, ask: &Ask) -> Reply {
        let Some(known) = self.store.get(kind, &ask.full_name()).cloned() else { return missing(ask) };
        let meta = &ask.body["metadata"];
        for field in ["uid", "resourceVersion"] {
            if meta[field].is_string() && meta[field] != known.value["metadata"][field] {
                return conflict(ask);
            }
        }
        let mut value = known.value.clone();
        if ask.part.as_deref() == Some("status") {
            merge(&mut value["status"], &ask.body["status"]);
        } else {
            merge(&mut value, &ask.body);
        }
        let now = self.now();
        (200, self.store.update(kind, value, now).value.clone())
    }

    fn evict(&mut self, ask: &Ask) -> Reply {
        let Some(pod) = self.store.get(Kind::Pods, &ask.full_name()).cloned() else { return missing(ask) };
        let (uid, version) = ask.aim();
        if uid != pod.uid || version != pod.version {
            return conflict(ask);
        }
        let covers = |budget: &&std::sync::Arc<Object>| {
            let wanted = budget.value["spec"]["selector"]["matchLabels"].as_object();
            budget.name.0 == pod.name.0
                && wanted.is_some_and(|w| {
                    w.iter().all(|(k, v)| pod.labels.get(k).map(String::as_str) == v.as_str())
                })
        };
        let budget = self.store.all(Kind::Budgets).find(covers);
        if budget.is_some_and(|b| b.value["status"]["disruptionsAllowed"] == 0) && pod.ready() {
            self.count("eviction refused by a budget");
            return refusal(429, "TooManyRequests", "it would violate the pod's disruption budget", ask);
        }
        let now: Duration = self.now();
        terminate(&mut self.store, &pod, now);
        (201, json!({"kind": "Status", "status": "Success"}))
    }
}
