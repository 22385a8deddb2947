//! One kind, listed and then watched for ever.
//!
//! Takes a client and a path; gives a sink every object, every deletion, and the proof that the watch is alive.
//! Ours rather than kube's `watcher`, because that one keeps bookmarks and restarts to itself: a quiet watch could
//! not be told from a dead one. The list is streamed, so that no page of whole objects is ever held; a server that
//! refuses to stream is asked for pages.

use std::fmt;
use std::time::Duration;

use futures::TryStreamExt;
use kube::Client;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use kubervisor_core::backoff::hash;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::slim::{RawKubervisorService, SlimPod, SlimService};

/// A watch ends and starts again this often, so that it proves itself at least twice a minute.
const WATCH_SECONDS: u32 = 28;
/// A streamed list may take this long: 100,000 pods of 15 kB are 1.5 GB of JSON.
const LIST_SECONDS: u32 = 290;
/// Longest pause between two objects of a streamed list.
const LIST_SILENCE: Duration = Duration::from_secs(30);
/// A list is asked for again this often (spread by a fifth): an event that was lost on the way, with a bookmark past
/// it, would otherwise never be missed.
const LIST_AGAIN: Duration = Duration::from_mins(10);
/// The server closes a watch by itself; a connection that outlives its time by this much is dead.
const GRACE: Duration = Duration::from_secs(5);
/// Objects in a page, where pages are needed.
pub(super) const PAGE: u32 = 500;
/// First and longest pause after a failure.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(400), Duration::from_secs(15));
/// Marks the bookmark that ends a streamed list.
const LIST_END: &str = "k8s.io/initial-events-end";

/// An object that can be watched.
pub trait Watched: Clone + DeserializeOwned + Send + 'static {
    /// Its resourceVersion.
    fn version(&self) -> &str;
}

impl Watched for SlimPod {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Watched for SlimService {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Watched for RawKubervisorService {
    fn version(&self) -> &str {
        self.metadata.resource_version.as_deref().unwrap_or_default()
    }
}

/// Where a watch delivers.
pub trait Sink<T>: Send {
    /// A full list starts. What is there stays until it is complete.
    fn begin(&mut self);
    /// An object as it stands now.
    fn apply(&mut self, object: T);
    /// An object that is gone, as it was last.
    fn delete(&mut self, object: T);
    /// The list is complete: what was not applied since `begin` is gone.
    fn end(&mut self);
    /// At this time the server answered for this kind.
    fn proved(&mut self, at: Instant);
    /// The watch failed; it is tried again.
    fn failed(&mut self, failure: &Failure);
}

/// Why a list or a watch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// HTTP status, where the server refused.
    pub code: Option<u16>,
    text: String,
}

impl Failure {
    /// The server's own refusal.
    #[must_use]
    pub fn refused(code: u16, text: &str) -> Self {
        Self { code: Some(code), text: format!("refused with code {code}: {text}") }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a stream of events ended.
enum End {
    /// Time was up, or the server closed it: go on from this version.
    Resume,
    /// The version is too old: list again.
    Expired,
}

/// Runs until `stop`. Never fails: every error is told to the sink and tried again.
pub async fn run<T, S>(client: Client, path: String, mut sink: S, stop: CancellationToken)
where
    T: Watched,
    S: Sink<T>,
{
    let spread = u32::try_from(hash(0, path.as_bytes()) % 20).unwrap_or(0);
    let list_again = LIST_AGAIN + LIST_AGAIN * spread / 100;
    let request = Request::new(path);
    let mut watch =
        Watch { client, request, version: None, streams: true, listed: Instant::now(), list_again };
    let mut pause = BACKOFF.0;
    // Turns in a row that ended at once although nothing failed: a server or a proxy that closes every watch must
    // not be asked without end. One is normal: a list, after which the watch starts.
    let mut short = 0;
    loop {
        let started = Instant::now();
        let turn = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            turn = watch.turn::<T, S>(&mut sink) => turn,
        };
        short = if started.elapsed() < BACKOFF.0 { short + 1 } else { 0 };
        match turn {
            Ok(()) if short < 2 => {
                pause = BACKOFF.0;
                continue;
            }
            Ok(()) => {}
            Err(failure) => sink.failed(&failure),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(BACKOFF.1),
        }
    }
}

struct Watch {
    client: Client,
    request: Request,
    /// Where to go on; `None` before the first list and after an expiry.
    version: Option<String>,
    /// The server streams lists.
    streams: bool,
    /// When the last list began, and after how long the next one is due.
    listed: Instant,
    list_again: Duration,
}

impl Watch {
    /// One list or one watch.
    async fn turn<T, S>(&mut self, sink: &mut S) -> Result<(), Failure>
    where
        T: Watched,
        S: Sink<T>,
    {
        match (&self.version, self.streams) {
            (Some(_), _) => self.follow(sink).await,
            (None, true) => self.stream_list(sink).await,
            (None, false) => self.page_list(sink).await,
        }
    }

    async fn stream_list<T, S>(&mut self, sink: &mut S) -> Result<(), Failure>
    where
        T: Watched,
        S: Sink<T>,
    {
        let params = WatchParams::streaming_lists().timeout(LIST_SECONDS);
        sink.begin();
        self.listed = Instant::now();
        match self.events(&params, "", LIST_SECONDS, sink).await {
            Ok(_) if self.version.is_some() => {
                sink.end();
                Ok(())
            }
            Ok(_) => {
                self.streams = false;
                Err(broken("the list ended before it was complete; asking for pages"))
            }
            Err(WatchError::Refused(code, text)) if matches!(code, 400 | 404 | 405 | 422) => {
                // 404 is also a kind that is not served; the pages will say so.
                tracing::debug!(code, text, "the server does not stream this list; asking for pages");
                self.streams = false;
                Ok(())
            }
            Err(error) => {
                // A server may also accept the stream and never end it.
                self.streams = !matches!(error, WatchError::Silent);
                Err(error.into())
            }
        }
    }

    async fn page_list<T, S>(&mut self, sink: &mut S) -> Result<(), Failure>
    where
        T: Watched,
        S: Sink<T>,
    {
        // Asked again the next time: the server may have been replaced by a newer one.
        self.streams = true;
        sink.begin();
        self.listed = Instant::now();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let request = self.request.list(&params).map_err(broken)?;
            let page = timeout(Duration::from_mins(1), self.client.request::<Page<T>>(request)).await;
            let page = page.map_err(|_| broken("a page of the list timed out"))?.map_err(WatchError::from)?;
            sink.proved(Instant::now());
            page.items.into_iter().for_each(|object| sink.apply(object));
            match page.metadata.continue_.filter(|c| !c.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => {
                    self.version = Some(page.metadata.resource_version);
                    sink.end();
                    return Ok(());
                }
            }
        }
    }

    async fn follow<T, S>(&mut self, sink: &mut S) -> Result<(), Failure>
    where
        T: Watched,
        S: Sink<T>,
    {
        let version = self.version.clone().unwrap_or_default();
        let params = WatchParams::default().timeout(WATCH_SECONDS);
        match self.events(&params, &version, WATCH_SECONDS, sink).await {
            Ok(End::Resume) => {
                if self.listed.elapsed() > self.list_again {
                    self.version = None;
                }
                Ok(())
            }
            Ok(End::Expired) | Err(WatchError::Refused(410, _)) => {
                self.version = None;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads one stream of events to its end. While `self.version` is `None` this is a list, and its end mark
    /// ends it.
    async fn events<T, S>(
        &mut self,
        params: &WatchParams,
        version: &str,
        seconds: u32,
        sink: &mut S,
    ) -> Result<End, WatchError>
    where
        T: Watched,
        S: Sink<T>,
    {
        let request = self.request.watch(params, version).map_err(|e| WatchError::Broken(e.to_string()))?;
        let start = timeout(super::CALL_TIMEOUT * 3, self.client.request_events::<T>(request));
        let stream = start.await.map_err(|_| WatchError::Broken("no answer to the watch".into()))??;
        sink.proved(Instant::now());
        let mut stream = std::pin::pin!(stream);
        let end = Instant::now() + Duration::from_secs(seconds.into()) + GRACE;
        loop {
            // A list comes without pauses; a watch may be quiet to its end.
            let patience = if self.version.is_none() { end.min(Instant::now() + LIST_SILENCE) } else { end };
            let next = tokio::time::timeout_at(patience, stream.try_next()).await;
            let event = next.map_err(|_| WatchError::Silent)??;
            let Some(event) = event else { return Ok(End::Resume) };
            sink.proved(Instant::now());
            if let Some(end) = self.take(event, sink)? {
                return Ok(end);
            }
        }
    }

    fn take<T, S>(&mut self, event: WatchEvent<T>, sink: &mut S) -> Result<Option<End>, WatchError>
    where
        T: Watched,
        S: Sink<T>,
    {
        let listing = self.version.is_none();
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.advance(listing, object.version());
                sink.apply(object);
            }
            WatchEvent::Deleted(object) => {
                self.advance(listing, object.version());
                sink.delete(object);
            }
            WatchEvent::Bookmark(bookmark) => {
                let ends = bookmark.metadata.annotations.contains_key(LIST_END);
                if ends || !listing {
                    self.version = Some(bookmark.metadata.resource_version);
                }
                if ends {
                    return Ok(Some(End::Resume));
                }
            }
            WatchEvent::Error(status) if status.code == 410 => return Ok(Some(End::Expired)),
            WatchEvent::Error(status) => return Err(WatchError::Refused(status.code, status.message)),
        }
        Ok(None)
    }

    /// Objects of a list come in any order: only its end mark has a version to go on from.
    fn advance(&mut self, listing: bool, version: &str) {
        if !listing && !version.is_empty() {
            self.version = Some(version.to_owned());
        }
    }
}

/// A page of a list.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) metadata: PageMeta,
    #[serde(default = "Vec::new")]
    pub(super) items: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(rename = "continue", default)]
    pub(super) continue_: Option<String>,
}

enum WatchError {
    Refused(u16, String),
    Silent,
    Broken(String),
}

impl From<kube::Error> for WatchError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status.code, status.message),
            other => Self::Broken(other.to_string()),
        }
    }
}

fn broken(text: impl fmt::Display) -> Failure {
    Failure { code: None, text: text.to_string() }
}

impl From<WatchError> for Failure {
    fn from(error: WatchError) -> Self {
        match error {
            WatchError::Refused(code, text) => Self::refused(code, &text),
            WatchError::Silent => broken("nothing came for longer than the server may be silent"),
            WatchError::Broken(text) => broken(text),
        }
    }
}
