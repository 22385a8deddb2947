//! A source whose answers a test sets: Prometheus' query API at `/`, a custom service at `/bad`. Only for faults and for
//! counting; the real Prometheus is tested too. What it answers in Prometheus' place was recorded from one: whole, or,
//! where the test's own pods must stand in it, row by row with their names and values put in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Fake {
    /// Per pod: events with code 200 and with code 500, as `sum by (code, namespace, pod)` gives them.
    Counts(BTreeMap<String, (f64, f64)>),
    /// Exactly this value for every pod of the last counts, such as `"NaN"`.
    EveryValue(&'static str),
    /// Like `Counts`, with a warning beside it.
    Warned(BTreeMap<String, (f64, f64)>),
    /// Success, no series.
    Empty,
    /// Another result type.
    Scalar,
    /// This status, with a body of Prometheus' error form.
    Status(u16),
    /// Prometheus' own 400 for a query that it cannot read.
    BadData,
    /// A page for people.
    Html,
    /// Ends in the middle, with the connection closed as if all were well.
    Truncated,
    /// More bytes than anybody should read.
    Huge,
    /// Exactly this body, with status 200.
    Body(Arc<str>),
    /// To another place of the same server, where these counts are.
    Redirect(BTreeMap<String, (f64, f64)>),
    /// An answer that takes this long.
    Slow(Duration),
    /// The first and the second, in turns.
    Turns(Box<[Fake; 2]>),
}

/// A running fake.
pub struct FakeSource {
    address: String,
    routes: Router,
    server: Mutex<Option<Server>>,
    state: Arc<Mutex<Inner>>,
}

struct Server {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    fn start(listener: TcpListener, routes: Router) -> Self {
        let stop = CancellationToken::new();
        let serve = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
        Self { stop, task: tokio::spawn(async move { serve.await.unwrap() }) }
    }
}

struct Inner {
    namespace: String,
    /// Of the last counts.
    pods: Vec<String>,
    fake: Fake,
    bad: BTreeSet<String>,
    /// When each answer went out, and whether it held a bad value.
    answers: Vec<(Instant, bool)>,
}

impl FakeSource {
    /// Answers for pods of `namespace`; at first with no series and no bad pod.
    pub async fn start(namespace: &str) -> Self {
        let inner = Inner {
            namespace: namespace.into(),
            pods: Vec::new(),
            fake: Fake::Empty,
            bad: BTreeSet::new(),
            answers: Vec::new(),
        };
        let state = Arc::new(Mutex::new(inner));
        let routes = Router::new()
            .route("/api/v1/query", post(query).get(query))
            .route("/elsewhere", post(elsewhere).get(elsewhere))
            .route("/bad", get(custom))
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Mutex::new(Some(Server::start(listener, routes.clone())));
        Self { address, routes, server, state }
    }

    /// Nobody listens from now on; connections are closed.
    pub async fn stop(&self) {
        let server = self.server.lock().unwrap().take().expect("it is stopped already");
        server.stop.cancel();
        server.task.await.unwrap();
    }

    /// Listens again, at the same address.
    pub async fn start_again(&self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        *self.server.lock().unwrap() = Some(Server::start(listener, self.routes.clone()));
    }

    /// `host:port`, as `prometheusService` takes it.
    pub fn prometheus(&self) -> String {
        self.address.clone()
    }

    /// `host:port/bad`, as `customService` takes it.
    pub fn custom(&self) -> String {
        format!("{}/bad", self.address)
    }

    /// What is answered from now on by the query API.
    pub fn answer(&self, fake: Fake) {
        let mut state = self.state.lock().unwrap();
        if let Fake::Counts(counts) = &fake {
            state.pods = counts.keys().cloned().collect();
        }
        state.fake = fake;
    }

    /// Counts: these pods have only errors (200 of them), the others none.
    pub fn errors_of<'a>(&self, all: impl IntoIterator<Item = &'a str>, bad: &[&str]) {
        self.answer(Fake::Counts(counts(all, bad)));
    }

    /// What the custom service names from now on.
    pub fn name_bad<'a>(&self, bad: impl IntoIterator<Item = &'a str>) {
        self.state.lock().unwrap().bad = bad.into_iter().map(Into::into).collect();
    }

    /// Answers given so far.
    pub fn answers(&self) -> usize {
        self.state.lock().unwrap().answers.len()
    }

    /// When the first answer with a bad value went out, and how many answers with one went out before `moment`.
    pub fn bad_answers_before(&self, moment: Instant) -> (Option<Instant>, usize) {
        let state = self.state.lock().unwrap();
        let bad: Vec<_> = state.answers.iter().filter(|(_, bad)| *bad).map(|(at, _)| *at).collect();
        (bad.first().copied(), bad.iter().filter(|at| **at < moment).count())
    }
}

/// Counts in which these pods have only errors.
pub fn counts<'a>(all: impl IntoIterator<Item = &'a str>, bad: &[&str]) -> BTreeMap<String, (f64, f64)> {
    let of = |pod: &str| if bad.contains(&pod) { (0.0, 200.0) } else { (200.0, 0.0) };
    all.into_iter().map(|pod| (pod.to_owned(), of(pod))).collect()
}

async fn custom(State(state): State<Arc<Mutex<Inner>>>) -> Response {
    let mut inner = state.lock().unwrap();
    let bad = !inner.bad.is_empty();
    inner.answers.push((Instant::now(), bad));
    let item = |pod: &String| json!({"metadata": {"name": pod, "namespace": inner.namespace}});
    let items: Vec<_> = inner.bad.iter().map(item).collect();
    axum::Json(json!({"apiVersion": "v1", "kind": "PodList", "items": items})).into_response()
}

async fn elsewhere(State(state): State<Arc<Mutex<Inner>>>) -> Response {
    let inner = state.lock().unwrap();
    let Fake::Redirect(counts) = &inner.fake else { return StatusCode::NOT_FOUND.into_response() };
    body(&Fake::Counts(counts.clone()), &inner.namespace, &[])
}

async fn query(State(state): State<Arc<Mutex<Inner>>>) -> Response {
    let (fake, namespace, pods) = {
        let inner = state.lock().unwrap();
        let fake = match &inner.fake {
            Fake::Turns(two) => &two[inner.answers.len() % 2],
            one => one,
        };
        (fake.clone(), inner.namespace.clone(), inner.pods.clone())
    };
    if let Fake::Slow(time) = &fake {
        tokio::time::sleep(*time).await;
    }
    let bad =
        matches!(&fake, Fake::Counts(c) | Fake::Warned(c) if c.values().any(|(_, errors)| *errors > 0.0));
    state.lock().unwrap().answers.push((Instant::now(), bad));
    body(&fake, &namespace, &pods)
}

/// An answer of a real Prometheus, as `make fixtures` records it.
macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../fixtures/prometheus/", $name, ".json"))
    };
}

fn body(fake: &Fake, namespace: &str, pods: &[String]) -> Response {
    let whole = |body: &'static str| ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    match fake {
        Fake::Counts(counts) => axum::Json(vector(rows(counts, namespace))).into_response(),
        Fake::Warned(counts) => {
            let mut answer = vector(rows(counts, namespace));
            answer["warnings"] = read(recorded!("warnings.200"))["warnings"].clone();
            axum::Json(answer).into_response()
        }
        Fake::EveryValue(value) => {
            let rows = pods.iter().map(|pod| row(namespace, pod, "500", value)).collect();
            axum::Json(vector(rows)).into_response()
        }
        // One of the two was taken before.
        Fake::Empty | Fake::Slow(_) | Fake::Turns(_) => whole(recorded!("empty.200")),
        Fake::Scalar => whole(recorded!("scalar.200")),
        Fake::Status(status) => {
            let body = json!({"status": "error", "errorType": "internal", "error": "s3cret of the server"});
            (StatusCode::from_u16(*status).unwrap(), axum::Json(body)).into_response()
        }
        Fake::BadData => (StatusCode::BAD_REQUEST, whole(recorded!("bad_query.400"))).into_response(),
        Fake::Html => {
            ([(header::CONTENT_TYPE, "text/html")], "<html><body>hello</body></html>").into_response()
        }
        Fake::Truncated => {
            let body = recorded!("by_code.200");
            whole(&body[..body.len() / 2])
        }
        Fake::Huge => Body::from(vec![b' '; 64 * 1024 * 1024]).into_response(),
        Fake::Body(body) => ([(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response(),
        Fake::Redirect(_) => (StatusCode::FOUND, [(header::LOCATION, "/elsewhere")]).into_response(),
    }
}

fn read(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

/// The recorded answer with these rows in it.
fn vector(rows: Vec<Value>) -> Value {
    let mut answer = read(recorded!("by_code.200"));
    answer["data"]["result"] = Value::Array(rows);
    answer
}

/// The recorded row of this code, for another pod and with another value.
fn row(namespace: &str, pod: &str, code: &str, value: &str) -> Value {
    static ROWS: LazyLock<Value> = LazyLock::new(|| read(recorded!("by_code.200"))["data"]["result"].take());
    let rows = ROWS.as_array().unwrap();
    let mut row = rows.iter().find(|row| row["metric"]["code"] == code).unwrap().clone();
    row["metric"]["namespace"] = json!(namespace);
    row["metric"]["pod"] = json!(pod);
    row["value"][1] = json!(value);
    row
}

fn rows(counts: &BTreeMap<String, (f64, f64)>, namespace: &str) -> Vec<Value> {
    let both = |(pod, (good, bad)): (&String, &(f64, f64))| {
        [row(namespace, pod, "200", &good.to_string()), row(namespace, pod, "500", &bad.to_string())]
    };
    counts.iter().flat_map(both).collect()
}
