//! One HTTP/1.1 connection in hand: who asks knows when it is new and when it is the old one, as no pool does.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// To connect, and again to be answered. On one machine both take a millisecond, and seconds where it does much else.
const PATIENCE: Duration = Duration::from_secs(5);

/// An open connection; closed when dropped.
pub struct Connection {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status line.
    pub status: StatusCode,
    /// The body, as text.
    pub text: String,
}

/// Why nothing came back.
#[derive(Debug)]
pub enum Lost {
    /// The other side has closed the connection before it answered anything, as a server may at any time that no request
    /// has reached it. On one that was open already, every client asks again.
    Closed,
    /// All else, in words.
    Failed(String),
}

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// When nobody answers there within five seconds.
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = stream.map_err(anyhow::Error::from).and_then(|stream| Ok(stream?));
        let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        let (sender, driver) = handshake(TokioIo::new(stream)).await.context("no HTTP connection")?;
        // Ends when the connection does; what goes wrong on it is told to who asks.
        tokio::spawn(async move { drop(driver.await) });
        Ok(Self { address, sender })
    }

    /// The other side has closed it.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Asks for a path.
    ///
    /// # Errors
    /// When no whole answer comes within five seconds.
    pub async fn get(&mut self, path: &str) -> Result<Reply, Lost> {
        self.ask(Method::GET, path, String::new()).await
    }

    /// Sends JSON to a path.
    ///
    /// # Errors
    /// When no whole answer comes within five seconds.
    pub async fn post(&mut self, path: &str, body: String) -> Result<Reply, Lost> {
        self.ask(Method::POST, path, body).await
    }

    async fn ask(&mut self, method: Method, path: &str, body: String) -> Result<Reply, Lost> {
        let request = Request::builder().method(method).uri(path).header(HOST, self.address.to_string());
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::from(body));
        let request = request.map_err(|error| Lost::Failed(error.to_string()))?;
        let exchange = async {
            let answer = self.sender.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>(Reply { status, text: String::from_utf8_lossy(&body).into_owned() })
        };
        match timeout(PATIENCE, exchange).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(error)) if was_closed(&error) => Err(Lost::Closed),
            Ok(Err(error)) => Err(Lost::Failed(format!("{error:?}"))),
            Err(_) => Err(Lost::Failed(format!("no answer within {PATIENCE:?}"))),
        }
    }
}

fn was_closed(error: &hyper::Error) -> bool {
    let reset = || {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
        matches!(cause, Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
    };
    error.is_canceled() || error.is_closed() || error.is_incomplete_message() || reset()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::workload::{Order, router};

    async fn pod() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router("red")).await });
        address
    }

    #[tokio::test]
    async fn a_pod_answers_with_its_name_and_as_it_is_told_while_its_probe_stays_green() {
        let mut connection = Connection::open(pod().await).await.unwrap();
        let well = connection.get("/").await.unwrap();
        assert_eq!(well, Reply { status: StatusCode::OK, text: "red".to_owned() });
        let order = serde_json::to_string(&Order { bad: 100 }).unwrap();
        assert_eq!(connection.post("/answer", order).await.unwrap().status, StatusCode::NO_CONTENT);
        assert_eq!(connection.get("/").await.unwrap().status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(connection.get("/healthz").await.unwrap().status, StatusCode::OK);
        let page = connection.get("/metrics").await.unwrap().text;
        assert!(page.contains("{code=\"200\"} 1\n") && page.contains("{code=\"500\"} 1\n"), "{page}");
        let order = serde_json::to_string(&Order { bad: 101 }).unwrap();
        assert_eq!(connection.post("/answer", order).await.unwrap().status, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_on_a_request_is_told_apart() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut connection = Connection::open(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        // It has not read the request: the kernel answers with a reset.
        let close = async move {
            stream.peek(&mut [0]).await.unwrap();
            drop(stream);
        };
        let (lost, ()) = tokio::join!(connection.get("/"), close);
        assert!(matches!(lost, Err(Lost::Closed)), "{lost:?}");
        assert!(matches!(connection.get("/").await, Err(Lost::Closed)), "nothing was sent");
        let mut connection = Connection::open(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let close = async move {
            assert!(stream.read(&mut [0; 4_096]).await.unwrap() > 0);
            drop(stream);
        };
        let (lost, ()) = tokio::join!(connection.get("/"), close);
        assert!(matches!(lost, Err(Lost::Closed)), "{lost:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_an_error() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert!(Connection::open(address).await.is_err());
    }
}
