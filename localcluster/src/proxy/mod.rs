//! A reverse proxy before the API server that makes things go wrong on order.
//!
//! Plain HTTP/1.1 towards the client, TLS towards the API server; credentials pass through. So the shipped program can
//! be tested as it is, by a kubeconfig with this server in it. (Go's clients, kubectl among them, send no credentials
//! over plain HTTP, so they are nobody here.) It invents no answer but [`Fault::Status`]: when the
//! API server is away, connections close without one. Protocol upgrades (exec, port-forward) do not pass.

mod rule;
mod stream;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use http::{HeaderMap, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use crate::access::Access;
use crate::cluster::{Cluster, client};
use crate::runtime;
pub use rule::{Fault, Match, Rule, RuleId};
use rule::{Request, Rules};

type Body = UnsyncBoxBody<Bytes, Broken>;

/// Closes the client's connection without (the rest of) an answer; says why, for the log.
#[derive(Clone, Copy, Debug)]
struct Broken(&'static str);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

/// What all connections of a proxy share.
struct Shared {
    access: Arc<Access>,
    rules: Mutex<Rules>,
    /// Counts the changes of the rules, and wakes whoever waits for one.
    changes: watch::Sender<u64>,
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Silence until the rule is cleared.
    async fn until_cleared(&self, id: RuleId) {
        let mut changes = self.changes.subscribe();
        while self.rules().stands(id) && changes.changed().await.is_ok() {}
    }
}

/// A running proxy; dropped, it closes its port and all connections. Serves on threads of its own, so a test may block.
pub struct FaultProxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: AbortHandle,
}

impl FaultProxy {
    /// Starts a proxy before this cluster's API server, without rules: everything passes.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(cluster: &Cluster) -> anyhow::Result<FaultProxy> {
        let shared = Arc::new(Shared {
            access: cluster.access(),
            rules: Mutex::default(),
            changes: watch::Sender::new(0),
        });
        let serving = Arc::clone(&shared);
        runtime::run(async move {
            let listener =
                TcpListener::bind(("127.0.0.1", 0)).await.context("no free port for the fault proxy")?;
            let address = listener.local_addr().context("the fault proxy has no address")?;
            let task = tokio::spawn(accept(listener, serving)).abort_handle();
            Ok(FaultProxy { shared, address, task })
        })
        .await
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// As [`Cluster::config`], through the proxy.
    ///
    /// # Errors
    /// When the cluster's options did not name this actor.
    pub fn config(&self, actor: &str) -> anyhow::Result<kube::Config> {
        self.shared.access.token(actor)?;
        let mut config = self.shared.access.config(actor);
        config.cluster_url = self.url().parse().context("the proxy's own URL is none")?;
        config.root_cert = None;
        Ok(config)
    }

    /// As [`Cluster::client`], through the proxy.
    ///
    /// # Errors
    /// When the cluster's options did not name this actor.
    pub fn client(&self, actor: &str) -> anyhow::Result<kube::Client> {
        client(self.config(actor)?)
    }

    /// Adds a rule after those that stand. Acts at once, on open watches too.
    pub fn inject(&self, rule: Rule) -> RuleId {
        let id = self.shared.rules().inject(rule);
        self.shared.changed();
        id
    }

    /// Takes a rule away. What it has thrown away stays lost; what it delays still comes.
    pub fn clear(&self, id: RuleId) {
        self.shared.rules().clear(id);
        self.shared.changed();
    }

    /// Takes all rules away.
    pub fn clear_all(&self) {
        self.shared.rules().clear_all();
        self.shared.changed();
    }

    /// How often a rule has struck, in the unit of its `times`; counted on after it is cleared.
    pub fn hits(&self, id: RuleId) -> u64 {
        self.shared.rules().hits(id)
    }

    /// HTTP statuses of the requests that a rule has held and that were answered since it let them go.
    pub fn answers(&self, id: RuleId) -> Vec<u16> {
        self.shared.rules().answers(id)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One task for each connection, all in the set: they end with it when this task is aborted.
async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => { connections.spawn(serve(socket, Arc::clone(&shared))); }
                Err(error) => tracing::warn!(%error, "the fault proxy cannot accept a connection"),
            }
        }
    }
}

async fn serve(socket: TcpStream, shared: Arc<Shared>) {
    // Small events must not wait for one another (Nagle), or delays are measured that nobody injected.
    let _ = socket.set_nodelay(true);
    let service = hyper::service::service_fn(|request| handle(Arc::clone(&shared), request));
    if let Err(error) =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).await
    {
        tracing::debug!(%error, "a connection through the fault proxy broke off");
    }
}

async fn handle(shared: Arc<Shared>, incoming: http::Request<Incoming>) -> Result<Response<Body>, Broken> {
    let request = Request::new(incoming.method().clone(), incoming.uri());
    let strike = shared.rules().strike_request(&request);
    match strike {
        // Faults for streams never strike a request; they wait for its events.
        None | Some((_, Fault::DelayWatch(_) | Fault::SwallowWatch | Fault::CutWatch)) => {
            forward(shared, request, incoming).await
        }
        Some((_, Fault::Delay(delay))) => {
            tokio::time::sleep(delay).await;
            forward(shared, request, incoming).await
        }
        Some((id, Fault::Hold)) => {
            shared.until_cleared(id).await;
            let answer = forward(Arc::clone(&shared), request, incoming).await?;
            shared.rules().answered(id, answer.status().as_u16());
            Ok(answer)
        }
        Some((_, Fault::Status(code))) => refusal(code),
        Some((_, Fault::Drop)) => Err(Broken("a rule drops this request")),
        Some((id, Fault::Hang)) => {
            shared.until_cleared(id).await;
            Err(Broken("a rule let this request hang"))
        }
        Some((id, Fault::LoseAnswer)) => {
            let answer = send(&shared, incoming).await?;
            // Read to its end: only then is the request surely executed.
            let _ = answer.bytes().await;
            shared.until_cleared(id).await;
            Err(Broken("a rule lost this answer"))
        }
    }
}

/// A Kubernetes `Status`, as the API server would send it.
fn refusal(code: u16) -> Result<Response<Body>, Broken> {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    let status = serde_json::json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": "injected by the fault proxy",
    });
    let body = Full::new(Bytes::from(status.to_string())).map_err(|never| match never {}).boxed_unsync();
    let response =
        Response::builder().status(code).header(header::CONTENT_TYPE, "application/json").body(body);
    response.map_err(|_| Broken("a rule asks for a status that HTTP does not have"))
}

async fn forward(
    shared: Arc<Shared>,
    request: Request,
    incoming: http::Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let answer = send(&shared, incoming).await?;
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = end_to_end(answer.headers());
    let shaped = request.watch && answer.status().is_success();
    let by_line = is_json(answer.headers());
    let upstream = answer.bytes_stream().boxed();
    let body = if shaped {
        // Its length changes when an event is thrown away.
        response.headers_mut().remove(header::CONTENT_LENGTH);
        StreamBody::new(stream::shape(shared, request, upstream, by_line).map(|event| event.map(Frame::data)))
            .boxed_unsync()
    } else {
        let chunks = upstream
            .map(|chunk| chunk.map(Frame::data).map_err(|_| Broken("the API server broke its answer off")));
        StreamBody::new(chunks).boxed_unsync()
    };
    Ok(response.map(|()| body))
}

async fn send(shared: &Shared, incoming: http::Request<Incoming>) -> Result<reqwest::Response, Broken> {
    let (head, body) = incoming.into_parts();
    let target = format!("{}{}", shared.access.url(), head.uri);
    let body = body.collect().await.map_err(|_| Broken("the client broke its request off"))?.to_bytes();
    let mut headers = end_to_end(&head.headers);
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    let request = shared.access.http().request(head.method, target).headers(headers).body(body);
    request.send().await.map_err(|error| {
        tracing::debug!(?error, "the fault proxy does not reach the API server");
        Broken("the API server is away")
    })
}

/// Without what concerns one connection only (RFC 9110, 7.6.1).
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::TRAILER]
    {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers
}

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}
