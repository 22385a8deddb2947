//! For the tests of this module: questions, and servers whose every byte and moment the test decides.

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::{Asked, CustomQuestion, Endpoint, Observer, PromQuestion, Question, SourceOptions, Sources};

/// One pod with one value.
pub(super) const GOOD: &str = r#"{"status":"success","data":{"resultType":"vector","result":[
    {"metric":{"namespace":"shop","pod":"cart-1"},"value":[1795263047.1,"2.5"]}]}}"#;

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(20);

pub(super) fn options() -> SourceOptions {
    SourceOptions { allow_loopback: true, ..SourceOptions::default() }
}

pub(super) fn sources() -> Sources {
    Sources::new(options()).unwrap()
}

pub(super) fn prom(url: &str, query: &str) -> PromQuestion {
    PromQuestion {
        endpoint: Endpoint::parse(url).unwrap(),
        access: None,
        query: query.into(),
        pod_label: "pod".into(),
        namespace_label: "namespace".into(),
        key_label: None,
        lookback: Duration::from_secs(60),
        timeout: LONG,
    }
}

pub(super) fn question(url: &str, query: &str) -> Question {
    Question::Prometheus(prom(url, query))
}

pub(super) fn impatient(url: &str) -> Question {
    Question::Prometheus(PromQuestion { timeout: Duration::from_millis(300), ..prom(url, "up") })
}

pub(super) fn custom(url: &str) -> Question {
    Question::Custom(CustomQuestion { endpoint: Endpoint::parse_page(url).unwrap(), timeout: LONG })
}

/// Remembers what it was told.
#[derive(Default)]
pub(super) struct Told(pub(super) Mutex<Vec<Asked>>);

impl Observer for Told {
    fn asked(&self, asked: &Asked) {
        self.0.lock().unwrap().push(*asked);
    }
}

/// A server that reads one whole request from each connection and hands over the rest; gives its URL.
pub(super) async fn serve<F>(answer: impl Fn(String, TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = read_request(&mut stream).await;
            tokio::spawn(answer(request, stream));
        }
    });
    url
}

/// The same bytes for everybody, then the connection ends.
pub(super) async fn serve_bytes(bytes: impl Into<Vec<u8>>) -> String {
    let bytes: Arc<[u8]> = bytes.into().into();
    serve(move |_, mut stream| {
        let bytes = Arc::clone(&bytes);
        async move {
            // Fails when the client has seen enough.
            let _ = stream.write_all(&bytes).await;
        }
    })
    .await
}

pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

async fn read_request(stream: &mut TcpStream) -> String {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut part).await.unwrap_or_default();
        request.extend_from_slice(&part[..n]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| body.len() >= body_length(head));
        // A TLS client waits for the server's turn after its first record.
        if whole || n == 0 || request.first() == Some(&0x16) {
            break text;
        }
    }
}

fn body_length(head: &str) -> usize {
    let length = |line: &str| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok();
    head.lines().find_map(length).unwrap_or_default()
}

/// A server whose answers the test lets out one by one.
pub(super) struct Gated {
    pub(super) url: String,
    gate: Arc<Semaphore>,
    waiting: watch::Receiver<Waiting>,
}

/// Requests that a [`Gated`] server has seen.
#[derive(Clone, Copy, Default)]
pub(super) struct Waiting {
    now: usize,
    pub(super) most: usize,
    pub(super) in_all: usize,
}

impl Gated {
    pub(super) async fn start() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (sender, waiting) = watch::channel(Waiting::default());
        let (doors, sender) = (Arc::clone(&gate), Arc::new(sender));
        let url = serve(move |request, mut stream| {
            let (gate, sender) = (Arc::clone(&doors), Arc::clone(&sender));
            async move {
                if !request.contains("nonsense") {
                    sender.send_modify(Waiting::arrive);
                    gate.acquire().await.unwrap().forget();
                    sender.send_modify(|seen| seen.now -= 1);
                }
                let _ = stream.write_all(ok(GOOD).as_bytes()).await;
            }
        })
        .await;
        Self { url, gate, waiting }
    }

    /// Waits until so many requests have come.
    pub(super) async fn seen(&self, requests: usize) -> Waiting {
        *self.waiting.clone().wait_for(|seen| seen.in_all >= requests).await.unwrap()
    }

    pub(super) fn let_out(&self, answers: usize) {
        self.gate.add_permits(answers);
    }
}

impl Waiting {
    fn arrive(&mut self) {
        self.now += 1;
        self.in_all += 1;
        self.most = self.most.max(self.now);
    }
}
