//! What lies between a controller and the model API server: a tower service with the faults of the script. Every
//! request is judged as it leaves the controller.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::StreamExt;
use http::{Request, Response};
use kube::client::Body;
use serde_json::Value;

use super::ask::Ask;
use super::object::Kind;
use super::parts::Flow;
use super::script::What;
use super::seen::Step;
use super::server::{Reply, refusal};
use super::sim::{Shared, Sim};
use super::watching;

/// After its controller's death a request under way is carried out within this time or never: the connection is gone.
pub const LAST_BREATH: Duration = Duration::from_secs(4);

/// One controller's connection.
#[derive(Clone)]
pub struct Plug {
    pub shared: Shared,
    pub who: usize,
}

impl tower_service::Service<Request<Body>> for Plug {
    type Response = Response<Flow>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<Flow>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(answer(self.clone(), request))
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Plain,
    Refused(u16),
    /// No answer; carried out after this time, if at all.
    Hangs(Option<Duration>),
    /// Carried out, and the connection breaks.
    Broken,
    /// Nobody listens.
    Away,
    /// The controller dies as it sends this.
    LastWords(bool),
}

async fn answer(plug: Plug, request: Request<Body>) -> io::Result<Response<Flow>> {
    let ask = Ask::read(request).await;
    let Some((id, fate, there, back)) = plug.leave(&ask) else { return std::future::pending().await };
    let mut guard = Guard { plug: plug.clone(), id, done: false };
    match fate {
        Fate::Away => {
            guard.finish(None);
            return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "nobody listens"));
        }
        Fate::Hangs(late) => {
            if let Some(late) = late {
                plug.later(id, ask, late);
            }
            return std::future::pending().await;
        }
        Fate::LastWords(carried_out) => {
            if carried_out {
                plug.later(id, ask, there);
            }
            return std::future::pending().await;
        }
        Fate::Plain | Fate::Refused(_) | Fate::Broken => {}
    }
    tokio::time::sleep(there).await;
    if let Fate::Refused(code) = fate {
        guard.finish(Some(code));
        return Ok(respond(refusal(code, reason(code), "refused for the story's sake", &ask)));
    }
    if ask.watches() {
        let started = watching::start(&plug, &ask);
        guard.finish(Some(200));
        return Ok(match started {
            Ok(stream) => Response::builder()
                .status(200)
                .body(Flow(stream))
                .unwrap_or_else(|_| respond((500, Value::Null))),
            Err(reply) => respond(reply),
        });
    }
    let Some(reply) = plug.arrive(id, &ask) else { return std::future::pending().await };
    tokio::time::sleep(back).await;
    if matches!(fate, Fate::Broken) {
        return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection broke"));
    }
    if plug.shared.lock().wires[plug.who].dead {
        return std::future::pending().await;
    }
    guard.finish(Some(reply.0));
    plug.learn(&ask, &reply);
    Ok(respond(reply))
}

fn respond((code, value): Reply) -> Response<Flow> {
    let body = futures::stream::once(std::future::ready(Ok(Bytes::from(value.to_string()))));
    let mut response = Response::new(Flow(body.boxed()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response
}

fn reason(code: u16) -> &'static str {
    match code {
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        _ => "InternalError",
    }
}

/// A request that ends without an answer leaves a write whose fate nobody knows.
struct Guard {
    plug: Plug,
    id: u64,
    done: bool,
}

impl Guard {
    fn finish(&mut self, code: Option<u16>) {
        self.done = true;
        self.plug.shared.lock().answered(self.plug.who, self.id, code);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.done {
            self.plug.shared.lock().unanswered(self.plug.who, self.id);
        }
    }
}

impl Plug {
    /// The request leaves the controller: it is judged, and its fate drawn. `None` from a dead one.
    fn leave(&self, ask: &Ask) -> Option<(u64, Fate, Duration, Duration)> {
        let mut sim = self.shared.lock();
        if sim.wires[self.who].dead {
            return None;
        }
        let id = sim.sent(self.who, ask);
        let fate = sim.fate(self.who, id, ask);
        let slow = sim.fault(id, |what| what == What::Slow).is_some();
        let (least, most) = if slow { (400, 4_000) } else { (1, 20) };
        let there = sim.chance.millis(least, most, "there", id, 0);
        let back = sim.chance.millis(least, most, "back", id, 0);
        if ask.writes() {
            let line = format!("[{}] #{id} {} {} {:?} {fate:?}", self.who, ask.method, ask.path, ask.step());
            sim.tell(&line);
        }
        Some((id, fate, there, back))
    }

    /// The request reaches the server.
    fn arrive(&self, id: u64, ask: &Ask) -> Option<Reply> {
        let mut sim = self.shared.lock();
        let dead = sim.wires[self.who].dead;
        if dead && sim.chance.happens(50, "last", id, 0) {
            return None;
        }
        let before = (ask.step().is_some()).then(|| sim.store.version);
        let reply = sim.execute(ask);
        sim.executed(self.who, id, ask, reply.0);
        if ask.writes() {
            let line = format!("[{}] #{id} -> {} (version {before:?})", self.who, reply.0);
            sim.tell(&line);
        }
        Some(reply)
    }

    fn later(&self, id: u64, ask: Ask, late: Duration) {
        let plug = self.clone();
        tokio::spawn(async move {
            let asked = tokio::time::Instant::now();
            tokio::time::sleep(late).await;
            let died = plug.shared.lock().died(plug.who);
            if died.is_none_or(|died| tokio::time::Instant::now() <= died.max(asked) + LAST_BREATH) {
                plug.arrive(id, &ask);
            }
        });
    }

    /// An answer to a GET or a page of a list is a delivery too.
    fn learn(&self, ask: &Ask, reply: &Reply) {
        let mut sim = self.shared.lock();
        let now = sim.now();
        let Some(kind) = ask.kind.filter(|_| !ask.writes()) else { return };
        let value = &reply.1;
        let seen = &mut sim.wires[self.who].seen;
        match (ask.name.is_some(), reply.0) {
            (true, 200) if kind == Kind::Pods => {
                seen.learn(&super::object::Object::new(kind, value.clone()), now);
            }
            (true, 404) if kind == Kind::Pods => seen.learn_gone(&ask.full_name(), now),
            (false, 200) if ask.namespace.is_none() => {
                if !ask.query.contains_key("continue") {
                    seen.begin(kind);
                }
                seen.proved.insert(kind, now);
                for item in value["items"].as_array().into_iter().flatten() {
                    seen.deliver("ADDED", &super::object::Object::new(kind, item.clone()), now);
                }
                if value["metadata"]["continue"] == "" {
                    seen.end(kind, now);
                }
            }
            _ => {}
        }
    }
}

impl Sim {
    fn fate(&mut self, who: usize, id: u64, ask: &Ask) -> Fate {
        if self.fault(0, |what| what == What::Away).is_some() {
            return Fate::Away;
        }
        if ask.watches() || ask.kind.is_none() {
            return Fate::Plain;
        }
        let spends_life = ask.step().is_some_and(|step| step != Step::Label);
        if let (true, Some((left, carried_out))) = (spends_life, self.wires[who].dies) {
            if left == 0 {
                self.kill(who);
                return Fate::LastWords(carried_out);
            }
            self.wires[who].dies = Some((left - 1, carried_out));
        }
        let writes = ask.writes();
        let fits = move |what| match what {
            What::Refuse(code) => writes || code == 429 || code == 500,
            What::Hang(_) | What::LoseAnswer => true,
            _ => false,
        };
        match self.fault(id, fits) {
            Some(What::Refuse(code)) => Fate::Refused(code),
            Some(What::Hang(late)) => Fate::Hangs(late),
            Some(What::LoseAnswer) => Fate::Broken,
            _ => Fate::Plain,
        }
    }

    /// Nothing that this controller sends from now on arrives.
    pub fn kill(&mut self, who: usize) {
        let line = format!("[{who}] dies");
        self.tell(&line);
        self.wires[who].dead = true;
        self.wires[who].died = Some(tokio::time::Instant::now());
    }

    fn died(&self, who: usize) -> Option<tokio::time::Instant> {
        self.wires[who].died
    }
}
