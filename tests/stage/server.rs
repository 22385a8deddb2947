//! A small API server in memory: objects, lists, watches, merge patches, evictions. Everything it was asked is kept.
//! It has no faults of its own: `tests/simulation` has those.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::parts::{Flow, merge};

/// What it was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub media: String,
    pub body: Value,
    query: String,
}

#[derive(Default)]
struct State {
    /// By path.
    objects: BTreeMap<String, Value>,
    /// Path of the object, kind of change, object.
    log: Vec<(String, &'static str, Value)>,
    asked: Vec<Asked>,
    /// With this code.
    evictions_refused: Option<u16>,
    /// Lists, watches and objects whose path holds this are answered with this code.
    refused: Option<(String, u16)>,
    /// The next write to a pod is carried out, or not, and answered with an error that says neither.
    doubted: Option<bool>,
    /// Each write to a pod takes so long.
    write_time: Duration,
    lag: Duration,
    /// Writes to this path are never answered, nor carried out.
    hangs: Option<String>,
    latency: Duration,
    /// Calls under way, and the most of them at once.
    open: usize,
    most_open: usize,
    version: u64,
}

/// A handle.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<State>>, Arc<Notify>);

/// One controller's connection, which ends with its life.
#[derive(Clone)]
pub struct Plug {
    pub server: Server,
    /// Writes to pods that it sends before it dies.
    pub left: Arc<Mutex<Option<u32>>>,
}

impl tower_service::Service<Request<Body>> for Plug {
    type Response = Response<Flow>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Response<Flow>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let plug = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap_or_default();
            let media = head.headers.get("content-type").and_then(|v| v.to_str().ok()).unwrap_or_default();
            let asked = Asked {
                method: head.method,
                path: head.uri.path().to_owned(),
                media: media.to_owned(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
                query: head.uri.query().unwrap_or_default().to_owned(),
            };
            if !plug.lives(&asked) || plug.server.hangs_on(&asked) {
                return std::future::pending().await;
            }
            plug.server.call(&asked).await
        })
    }
}

impl Plug {
    /// Whether its controller lives to send this.
    fn lives(&self, asked: &Asked) -> bool {
        let mut left = self.left.lock().unwrap();
        match &mut *left {
            Some(0) => false,
            Some(left) if asked.writes_a_pod() => {
                *left -= 1;
                true
            }
            Some(_) | None => true,
        }
    }
}

impl Asked {
    fn patches_a_pod(&self) -> bool {
        self.method == Method::PATCH && self.path.contains("/pods/")
    }

    fn writes_a_pod(&self) -> bool {
        self.method != Method::GET && self.path.contains("/pods/")
    }
}

fn list_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(list, _)| list)
}

/// Whether a list over all namespaces, or over one, has that object.
fn holds(list: &str, path: &str) -> bool {
    let own = list_of(path);
    let Some((prefix, plural)) = list.rsplit_once('/') else { return false };
    let within =
        || own.strip_prefix(prefix)?.strip_prefix("/namespaces/")?.strip_suffix(plural)?.strip_suffix('/');
    own == list || within().is_some()
}

impl State {
    /// What a list has; that of one namespace looks at no other.
    fn within(&self, list: &str) -> impl Iterator<Item = &Value> {
        let (start, _) = list
            .split_once("/namespaces/")
            .map_or_else(|| list.rsplit_once('/').unwrap_or_default(), |_| (list, ""));
        let near =
            self.objects.range(start.to_owned()..).take_while(move |(path, _)| path.starts_with(start));
        near.filter(move |(path, _)| holds(list, path)).map(|(_, object)| object)
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn get(&self, path: &str) -> Value {
        self.lock().objects.get(path).cloned().unwrap_or_default()
    }

    /// Makes or changes an object, as anybody may.
    pub fn put(&self, path: &str, mut object: Value) {
        let mut state = self.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let former = state.objects.insert(path.to_owned(), object.clone());
        let word = if former.is_some() { "MODIFIED" } else { "ADDED" };
        state.log.push((path.to_owned(), word, object));
        drop(state);
        self.1.notify_waiters();
    }

    pub fn delete(&self, path: &str) {
        let mut state = self.lock();
        state.version += 1;
        let mut last = state.objects.remove(path).unwrap();
        last["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.log.push((path.to_owned(), "DELETED", last));
        drop(state);
        self.1.notify_waiters();
    }

    fn hangs_on(&self, asked: &Asked) -> bool {
        asked.method != Method::GET && self.lock().hangs.as_ref() == Some(&asked.path)
    }

    async fn call(&self, asked: &Asked) -> io::Result<Response<Flow>> {
        let latency = {
            let mut state = self.lock();
            state.asked.push(asked.clone());
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
            if asked.patches_a_pod() { state.latency.max(state.write_time) } else { state.latency }
        };
        tokio::time::sleep(latency).await;
        self.lock().open -= 1;
        if asked.query.contains("watch=true") && self.refuses(&asked.path).is_none() {
            return Ok(Response::new(Flow(self.watch(asked))));
        }
        let doubted = if asked.patches_a_pod() { self.lock().doubted.take() } else { None };
        let (code, value) = match doubted {
            Some(carried_out) => {
                let _ = carried_out.then(|| self.answer(asked));
                refusal(500, "InternalError", &asked.path)
            }
            None => self.answer(asked),
        };
        let piece = futures::stream::once(std::future::ready(Ok(Bytes::from(value.to_string()))));
        let mut response = Response::new(Flow(piece.boxed()));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
        Ok(response)
    }

    /// Calls so far, and the most that were under way at once.
    pub fn calls(&self) -> usize {
        self.lock().asked.len()
    }

    pub fn most_at_once(&self) -> usize {
        self.lock().most_open
    }

    /// Every call takes as long as at a real server.
    pub fn slow(&self) {
        self.lock().latency = Duration::from_millis(10);
    }

    /// Writes to this object hang.
    pub fn hang(&self, path: &str) {
        self.lock().hangs = Some(path.to_owned());
    }

    /// A person's edit of a resource: a merge patch and the next generation.
    pub fn edit(&self, path: &str, patch: &Value) {
        let mut object = self.get(path);
        merge(&mut object, patch);
        let generation = object["metadata"]["generation"].as_u64().unwrap_or(0);
        object["metadata"]["generation"] = json!(generation + 1);
        self.put(path, object);
    }

    /// Watches show everything so much later.
    pub fn lag(&self, by: Duration) {
        self.lock().lag = by;
    }

    /// As a disruption budget without room does.
    pub fn refuse_evictions(&self) {
        self.answer_evictions(429);
    }

    pub fn answer_evictions(&self, code: u16) {
        self.lock().evictions_refused = Some(code);
    }

    pub fn forbid(&self, part: &str) {
        self.refuse(part, 403);
    }

    /// What holds this in its path is answered so, and nothing else any more.
    pub fn refuse(&self, part: &str, code: u16) {
        self.lock().refused = Some((part.to_owned(), code));
    }

    fn refuses(&self, path: &str) -> Option<u16> {
        self.lock().refused.as_ref().filter(|(part, _)| path.contains(part)).map(|(_, code)| *code)
    }

    pub fn doubt_next(&self, carried_out: bool) {
        self.lock().doubted = Some(carried_out);
    }

    pub fn write_time(&self, time: Duration) {
        self.lock().write_time = time;
    }

    /// Names of the Events with this reason.
    pub fn event_names(&self, reason: &str) -> Vec<String> {
        let state = self.lock();
        let events = state.asked.iter().filter(|asked| asked.path.ends_with("/events"));
        let of_it = events.filter(|asked| asked.body["reason"] == reason);
        of_it.map(|asked| asked.body["metadata"]["name"].to_string()).collect()
    }

    /// Reasons and sentences of the Events about objects of this name.
    pub fn told(&self, name: &str) -> Vec<(String, String)> {
        let events = self.lock();
        let events = events.asked.iter().filter(|asked| asked.path.ends_with("/events"));
        let about = events.filter(|asked| asked.body["regarding"]["name"] == name);
        let text = |asked: &Asked, key: &str| asked.body[key].as_str().unwrap_or_default().to_owned();
        about.map(|asked| (text(asked, "reason"), text(asked, "note"))).collect()
    }

    /// Writes to this object.
    pub fn writes_to(&self, path: &str) -> usize {
        self.lock().asked.iter().filter(|asked| asked.method != Method::GET && asked.path == path).count()
    }

    /// Writes to pods, evictions included.
    pub fn pod_writes(&self) -> Vec<Asked> {
        let state = self.lock();
        state.asked.iter().filter(|asked| asked.writes_a_pod()).cloned().collect()
    }

    fn answer(&self, asked: &Asked) -> (u16, Value) {
        let path = asked.path.trim_end_matches("/status").to_owned();
        if let Some(code) = self.refuses(&path) {
            return refusal(code, if code == 403 { "Forbidden" } else { "Refused" }, &path);
        }
        match asked.method {
            Method::GET if self.lock().objects.contains_key(&path) => (200, self.get(&path)),
            Method::GET if path.ends_with("s") => {
                let state = self.lock();
                let items: Vec<_> = state.within(&path).cloned().collect();
                let meta = json!({"resourceVersion": state.version.to_string()});
                (200, json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items}))
            }
            Method::PATCH => {
                let mut object = self.get(&path);
                let version = asked.body["metadata"]["resourceVersion"].clone();
                if object.is_null() {
                    return missing(&path);
                }
                if !version.is_null() && version != object["metadata"]["resourceVersion"] {
                    return refusal(409, "Conflict", &path);
                }
                merge(&mut object, &asked.body);
                self.put(&path, object);
                (200, self.get(&path))
            }
            Method::POST if path.ends_with("/eviction") => match self.lock().evictions_refused {
                Some(code) => refusal(code, "Refused", &path),
                None => (201, asked.body.clone()),
            },
            Method::POST => (201, asked.body.clone()),
            _ => missing(&path),
        }
    }

    /// A streamed list, or what came after a version, until its time is over.
    fn watch(&self, asked: &Asked) -> BoxStream<'static, io::Result<Bytes>> {
        let (server, list) = (self.clone(), asked.path.clone());
        if asked.query.contains("sendInitialEvents") {
            let state = self.lock();
            let mut text: String = state.within(&list).map(|o| line("ADDED", o)).collect();
            text += &line(
                "BOOKMARK",
                &json!({"kind": "Bookmark", "apiVersion": "v1", "metadata": {"resourceVersion": state.version.to_string(),
                    "annotations": {"k8s.io/initial-events-end": "true"}}}),
            );
            return futures::stream::once(std::future::ready(Ok(Bytes::from(text)))).boxed();
        }
        let of = |name: &str| {
            asked.query.split('&').find_map(|pair| pair.strip_prefix(name)?.parse::<u64>().ok()).unwrap()
        };
        let (from, end) =
            (of("resourceVersion="), Instant::now() + Duration::from_secs(of("timeoutSeconds=")));
        let later = |object: &Value| {
            object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse::<u64>().ok()) > Some(from)
        };
        let at = self.lock().log.iter().position(|(_, _, object)| later(object));
        let at = at.unwrap_or(self.lock().log.len());
        futures::stream::unfold(at, move |at| {
            let (server, list) = (server.clone(), list.clone());
            async move {
                loop {
                    let grown = server.1.notified();
                    let news = server.lock().log.get(at..).unwrap_or_default().to_vec();
                    if !news.is_empty() {
                        let lag = server.lock().lag;
                        tokio::time::sleep(lag).await;
                        let own = news.iter().filter(|(path, ..)| holds(&list, path));
                        let text: String = own.map(|(_, word, object)| line(word, object)).collect();
                        return Some((Ok(Bytes::from(text)), at + news.len()));
                    }
                    if tokio::time::timeout_at(end, grown).await.is_err() {
                        return None;
                    }
                }
            }
        })
        .boxed()
    }
}

fn line(word: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": word, "object": object}))
}

fn missing(path: &str) -> (u16, Value) {
    refusal(404, "NotFound", path)
}

fn refusal(code: u16, reason: &str, path: &str) -> (u16, Value) {
    let mut parts = path.rsplit('/');
    let (name, kind) = (parts.next(), parts.next());
    let group = path.strip_prefix("/apis/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let details = json!({"name": name, "kind": kind, "group": group});
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": reason, "details": details}),
    )
}
