//! The wire: one client for all sources, bodies with an end, and names for what goes wrong.

use std::error::Error;
use std::io;
use std::sync::Arc;

use kubervisor_core::sample::Row;
use reqwest::header::{CONTENT_ENCODING, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::access::Access;
use super::address::Forbidden;
use super::connector::Connector;
use super::json::Parsed;
use super::logins::{Logins, Session};
use super::{Answer, Endpoint, SourceError, SourceOptions};

/// Bodies up to this size are read by as many queries as there are turns, and parsed where they were read: about
/// 9,000 series of 117 bytes, 4 ms of work (measured; 100,000 take 50 ms).
const SMALL_BODY: usize = 1024 * 1024;
/// Larger ones, at the same time, over all servers. With 32 MiB each this bounds what bodies can hold to 64 MiB,
/// however many servers answer with how much.
const LARGE_BODIES: usize = 2;
/// An error's body is only read for its type, which stands in the first line.
const ERROR_BODY: usize = 64 * 1024;

/// Asks, and reads what comes back.
pub(super) struct Http {
    connector: Connector,
    logins: Logins,
    max_body_bytes: usize,
    large: Arc<Semaphore>,
}

/// A whole body, and when it came.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Vec<u8>,
    asked_at: Instant,
    answered_at: Instant,
    /// Held until the body is parsed and gone.
    large: Option<OwnedSemaphorePermit>,
}

/// An answer, and the memory in bytes that it takes at the very most: its texts are a part of the body.
#[derive(Debug)]
pub(super) struct Weighed {
    pub(super) answer: Answer,
    pub(super) weight: usize,
}

impl Http {
    pub(super) fn new(options: &SourceOptions) -> Result<Self, reqwest::Error> {
        // reqwest takes the process's provider; whoever installed one before us has done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connector = Connector::new(options)?;
        Ok(Self {
            logins: Logins::new(Arc::clone(&options.secrets), connector.clone()),
            connector,
            max_body_bytes: options.max_body_bytes,
            large: Arc::new(Semaphore::new(LARGE_BODIES)),
        })
    }

    /// The client, for an endpoint that may be asked. Names are looked at when they are resolved.
    pub(super) fn client(&self, endpoint: &Endpoint) -> Result<&Client, SourceError> {
        match endpoint.ip().map(|ip| self.connector.guard.check(ip)) {
            Some(Err(Forbidden(ip))) => Err(SourceError::Forbidden(ip)),
            Some(Ok(())) | None => Ok(self.connector.plain()),
        }
    }

    /// The same, with everything that goes along.
    pub(super) async fn session(
        &self,
        endpoint: &Endpoint,
        access: Option<&Arc<Access>>,
    ) -> Result<Arc<Session>, SourceError> {
        let plain = self.client(endpoint)?;
        match access {
            Some(access) => self.logins.open(endpoint, access).await,
            None => Ok(Arc::new(Session::plain(plain.clone(), endpoint.url().clone()))),
        }
    }

    /// An outcome that shows what an access was made of to be old, if it had one.
    pub(super) fn learn(&self, endpoint: &Endpoint, access: Option<&Arc<Access>>, error: &SourceError) {
        if let (Some(access), SourceError::Denied(_) | SourceError::Tls) = (access, error) {
            self.logins.suspect(endpoint, access);
        }
    }

    /// The body of a good answer.
    pub(super) async fn body(&self, response: Response, asked_at: Instant) -> Result<Body, SourceError> {
        // Compression is not offered. What comes compressed all the same is not unpacked: a few kilobytes could
        // hold gigabytes.
        let plain = |v: &HeaderValue| v.as_bytes().eq_ignore_ascii_case(b"identity");
        if !response.headers().get(CONTENT_ENCODING).is_none_or(plain) {
            return Err(SourceError::NotJson);
        }
        self.read(response, asked_at, self.max_body_bytes).await
    }

    /// The body of an error; empty if it does not come whole.
    pub(super) async fn error_body(&self, response: Response) -> Vec<u8> {
        self.read(response, Instant::now(), ERROR_BODY).await.map(|body| body.bytes).unwrap_or_default()
    }

    async fn read(
        &self,
        mut response: Response,
        asked_at: Instant,
        limit: usize,
    ) -> Result<Body, SourceError> {
        let announced = response.content_length().unwrap_or_default();
        if usize::try_from(announced).is_ok_and(|announced| announced > limit) {
            return Err(SourceError::TooLarge { limit });
        }
        let (mut bytes, mut large) = (Vec::new(), None);
        while let Some(chunk) = response.chunk().await.map_err(|_| SourceError::Truncated)? {
            let length = bytes.len().saturating_add(chunk.len());
            if length > limit {
                return Err(SourceError::TooLarge { limit });
            }
            if length > SMALL_BODY && large.is_none() {
                large = Some(Arc::clone(&self.large).acquire_owned().await.map_err(|_| SourceError::Lost)?);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Body { bytes, asked_at, answered_at: Instant::now(), large })
    }
}

impl Body {
    /// Parses, off the tasks' threads where that takes long.
    pub(super) async fn parse(
        self,
        parser: impl FnOnce(&[u8]) -> Result<Parsed, SourceError> + Send + 'static,
    ) -> Result<Weighed, SourceError> {
        let Self { bytes, asked_at, answered_at, large } = self;
        let is_small = bytes.len() <= SMALL_BODY;
        let work = move || {
            let answer = parser(&bytes)?.answer(asked_at, answered_at);
            let weight = bytes.len() + answer.samples.len() * size_of::<Row>();
            drop((bytes, large));
            Ok(Weighed { answer, weight })
        };
        if is_small {
            work()
        } else {
            tokio::task::spawn_blocking(work).await.map_err(|_| SourceError::Lost)?
        }
    }
}

/// The status of an answer that is not read as one.
pub(super) fn status_error(status: StatusCode) -> SourceError {
    match status {
        _ if status.is_redirection() => SourceError::Redirect(status.as_u16()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => SourceError::Denied(status.as_u16()),
        _ => SourceError::Status(status.as_u16()),
    }
}

/// Why there was no answer at all.
pub(super) fn send_error(error: &(dyn Error + 'static)) -> SourceError {
    let chain = || std::iter::successors(Some(error), |&error| cause(error));
    if let Some(Forbidden(ip)) = chain().find_map(|e| e.downcast_ref::<Forbidden>()) {
        return SourceError::Forbidden(*ip);
    }
    if chain().filter_map(|e| e.downcast_ref::<reqwest::Error>()).any(reqwest::Error::is_dns) {
        return SourceError::Unresolved;
    }
    if chain().any(<dyn Error>::is::<rustls::Error>) {
        return SourceError::Tls;
    }
    let refused = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionRefused;
    if chain().filter_map(|e| e.downcast_ref::<io::Error>()).any(refused) {
        return SourceError::Refused;
    }
    SourceError::Unreachable
}

/// The next error inwards. An `io::Error` steps over the one that it wraps when asked for its source.
fn cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
