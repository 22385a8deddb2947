//! Watches and streamed lists of the model API server: the log, one event after the other, each at its time.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use serde_json::json;
use tokio::sync::Notify;

use super::ask::Ask;
use super::object::{Kind, Object};
use super::script::What;
use super::server::{Reply, refusal};
use super::sim::{Shared, Sim};
use super::wire::Plug;

/// Bookmarks come this often.
const BOOKMARKS: Duration = Duration::from_secs(60);

/// One watch.
struct Watching {
    shared: Shared,
    who: usize,
    id: u64,
    kind: Kind,
    namespace: Option<String>,
    /// The next entry of the log.
    at: usize,
    /// No event comes before the one before it.
    not_before: Duration,
    started: Duration,
    end: Duration,
    bookmark: Duration,
    /// A list that is not complete yet.
    list: Option<VecDeque<Arc<Object>>>,
    /// To be said once more.
    again: Option<(&'static str, Arc<Object>)>,
    over: bool,
    grown: Arc<Notify>,
}

/// What to do next.
enum Next {
    Say(String),
    Wait(Duration),
    Break,
    End,
    /// Nothing, for ever.
    Dead,
}

/// Starts a watch, or refuses.
pub fn start(plug: &Plug, ask: &Ask) -> Result<BoxStream<'static, io::Result<Bytes>>, Reply> {
    let mut sim = plug.shared.lock();
    let kind = ask.kind.unwrap_or(Kind::Pods);
    let now = sim.now();
    sim.asked += 1;
    let id = sim.asked;
    let lists = ask.query.contains_key("sendInitialEvents");
    if lists && sim.fault(id, |what| what == What::NoStreams).is_some() {
        return Err(refusal(422, "Invalid", "sendInitialEvents is forbidden", ask));
    }
    let from: u64 = ask.query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
    let gone = !lists && sim.fault(id, |what| what == What::Gone).is_some();
    if gone || (!lists && from == 0) {
        return Err(refusal(410, "Expired", "too old resource version", ask));
    }
    let seconds = ask.query.get("timeoutSeconds").and_then(|s| s.parse().ok()).unwrap_or(300);
    let within = |o: &&Arc<Object>| ask.namespace.as_ref().is_none_or(|ns| *ns == o.name.0);
    let list = lists.then(|| sim.store.all(kind).filter(within).cloned().collect());
    let at = if lists {
        sim.store.log.len()
    } else {
        sim.store.log.partition_point(|change| change.object.version <= from)
    };
    let seen = &mut sim.wires[plug.who].seen;
    if lists {
        seen.begin(kind);
    }
    seen.proved.insert(kind, now);
    let line = format!(
        "[{}] watches {} from {}",
        plug.who,
        kind.plural(),
        if lists { "a list".into() } else { from.to_string() }
    );
    sim.tell(&line);
    let watching = Watching {
        shared: plug.shared.clone(),
        who: plug.who,
        id,
        kind,
        namespace: ask.namespace.clone(),
        at,
        not_before: Duration::ZERO,
        started: now,
        end: now + Duration::from_secs(seconds),
        bookmark: now + BOOKMARKS,
        list,
        again: None,
        over: false,
        grown: Arc::clone(&sim.store.grown),
    };
    Ok(futures::stream::unfold(watching, Watching::next).boxed())
}

impl Watching {
    async fn next(mut self) -> Option<(io::Result<Bytes>, Self)> {
        loop {
            // Made before the look: what grows after it is not missed.
            let grown = Arc::clone(&self.grown).notified_owned();
            match self.look() {
                Next::Say(line) => return Some((Ok(Bytes::from(line + "\n")), self)),
                Next::Break => {
                    self.over = true;
                    let error = io::Error::new(io::ErrorKind::ConnectionReset, "the watch broke off");
                    return Some((Err(error), self));
                }
                Next::End => return None,
                Next::Dead => std::future::pending::<()>().await,
                Next::Wait(until) => {
                    let started = self.shared.lock().started;
                    tokio::select! {
                        biased;
                        () = grown => {}
                        () = tokio::time::sleep_until(started + until) => {}
                    }
                }
            }
        }
    }

    fn look(&mut self) -> Next {
        let shared = self.shared.clone();
        let mut sim = shared.lock();
        let now = sim.now();
        if sim.wires[self.who].dead {
            return Next::Dead;
        }
        let breaks = |what| matches!(what, What::Break | What::Away);
        let since = self.started;
        let broken = sim.script.faults.iter().any(|f| breaks(f.what) && f.covers(now) && f.from > since);
        if self.over || (broken && sim.fault(self.id, breaks).is_some()) {
            return if self.over { Next::End } else { Next::Break };
        }
        // A silent connection does not even end.
        let (kind, id) = (self.kind, self.id);
        if sim.fault(id, |what| what == What::Silence(kind)).is_some() {
            return Next::Wait(now + Duration::from_secs(1));
        }
        if now >= self.end {
            return Next::End;
        }
        if let Some((word, object)) = self.again.take() {
            return self.say(&mut sim, word, &object);
        }
        if self.list.is_some() {
            return self.go_on_listing(&mut sim);
        }
        self.follow(&mut sim)
    }

    fn go_on_listing(&mut self, sim: &mut Sim) -> Next {
        let next = self.list.as_mut().and_then(VecDeque::pop_front);
        if let Some(object) = next {
            return self.say(sim, "ADDED", &object);
        }
        self.list = None;
        let now = sim.now();
        let version = self.version(sim);
        let seen = &mut sim.wires[self.who].seen;
        seen.proved.insert(self.kind, now);
        seen.end(self.kind, now);
        Next::Say(bookmark(version, true))
    }

    fn follow(&mut self, sim: &mut Sim) -> Next {
        let now = sim.now();
        while let Some(change) = sim.store.log.get(self.at).cloned() {
            let mine = change.object.kind == self.kind
                && self.namespace.as_ref().is_none_or(|ns| *ns == change.object.name.0);
            if !mine {
                self.at += 1;
                continue;
            }
            let key = change.object.version;
            let usual = sim.chance.millis(1, 40, "watch", key, self.who as u64);
            let due = (change.at + usual + sim.lag(self.kind, change.at)).max(self.not_before);
            if due > now {
                return Next::Wait(due.min(self.end).min(now + Duration::from_secs(1)));
            }
            self.not_before = due;
            self.at += 1;
            let kind = self.kind;
            if sim.lag(kind, change.at) > Duration::ZERO {
                sim.count(What::Lag(kind, Duration::ZERO).name());
            }
            if sim.fault(key, |what| what == What::Lose(kind)).is_some() {
                let line =
                    format!("[{}] event lost: {} {} v{key}", self.who, change.word, change.object.name.1);
                sim.tell(&line);
                continue;
            }
            if sim.fault(key, |what| what == What::Repeat(kind)).is_some() {
                self.again = Some((change.word, Arc::clone(&change.object)));
            }
            return self.say(sim, change.word, &change.object);
        }
        if self.bookmark <= now {
            self.bookmark = now + BOOKMARKS;
            sim.wires[self.who].seen.proved.insert(self.kind, now);
            return Next::Say(bookmark(self.version(sim), false));
        }
        Next::Wait(self.end.min(self.bookmark).min(now + Duration::from_secs(5)))
    }

    /// Everything up to here has been said.
    fn version(&self, sim: &Sim) -> u64 {
        let last = self.at.checked_sub(1).and_then(|i| sim.store.log.get(i));
        last.map_or(sim.store.version, |change| change.object.version)
    }

    fn say(&self, sim: &mut Sim, word: &'static str, object: &Arc<Object>) -> Next {
        let now = sim.now();
        let seen = &mut sim.wires[self.who].seen;
        seen.proved.insert(self.kind, now);
        seen.deliver(word, object, now);
        if self.list.is_none() {
            let line = format!("[{}] sees {word} {} v{}", self.who, object.name.1, object.version);
            sim.tell(&line);
        }
        Next::Say(json!({"type": word, "object": object.value}).to_string())
    }
}

fn bookmark(version: u64, ends_list: bool) -> String {
    let notes = if ends_list { json!({"k8s.io/initial-events-end": "true"}) } else { json!({}) };
    let meta =
        json!({"resourceVersion": version.to_string(), "annotations": notes, "creationTimestamp": null});
    json!({"type": "BOOKMARK", "object": {"kind": "Bookmark", "apiVersion": "v1", "metadata": meta}})
        .to_string()
}
