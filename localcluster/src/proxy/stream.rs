//! The body of one watch on its way to the client: whole events, held back, thrown away or broken off by rule.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::rule::{Fault, Request};
use super::{Broken, Shared};

/// An upstream body; its error means that the upstream connection broke.
pub(super) type Upstream = BoxStream<'static, reqwest::Result<Bytes>>;

/// One watch. The rules are asked again for every event, so a new one acts on a watch that is already open.
struct Watch {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    request: Request,
    upstream: Upstream,
    upstream_ended: Option<Result<(), Broken>>,
    splitter: Splitter,
    /// Events on their way, in order: never one before the one that came before it.
    held: VecDeque<(Instant, Bytes)>,
}

/// The stream that the client gets; an error breaks the connection off.
pub(super) fn shape(
    shared: Arc<Shared>,
    request: Request,
    upstream: Upstream,
    by_line: bool,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    let changes = shared.changes.subscribe();
    let splitter = Splitter { by_line, partial: BytesMut::new() };
    let watch =
        Watch { shared, changes, request, upstream, upstream_ended: None, splitter, held: VecDeque::new() };
    // Sends the headers (hyper flushes when it has to wait), so that a cut watch is an answer that began.
    let headers_first = futures::stream::once(tokio::task::yield_now()).filter_map(async |()| None);
    headers_first.chain(futures::stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await? {
            Ok(event) => Some((Ok(event), Some(watch))),
            Err(broken) => Some((Err(broken), None)),
        }
    }))
}

impl Watch {
    /// The next event for the client, when it is due.
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        loop {
            if self.shared.rules().strike_watch(&self.request) {
                return Some(Err(Broken("a rule breaks this watch off")));
            }
            if let Some((_, event)) = self.held.pop_front_if(|(due, _)| *due <= Instant::now()) {
                return Some(Ok(event));
            }
            if let (Some(end), true) = (self.upstream_ended, self.held.is_empty()) {
                return end.err().map(Err);
            }
            self.wait().await;
        }
    }

    /// Until a rule changes, an event is due or one arrives.
    async fn wait(&mut self) {
        let due = self.held.front().map(|(due, _)| *due);
        tokio::select! {
            biased;
            // An error would mean that the proxy is gone; then this task is about to be, too.
            _ = self.changes.changed() => {}
            () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
            chunk = self.upstream.next(), if self.upstream_ended.is_none() => self.receive(chunk),
        }
    }

    fn receive(&mut self, chunk: Option<reqwest::Result<Bytes>>) {
        match chunk {
            Some(Ok(chunk)) => {
                for event in self.splitter.split(&chunk) {
                    self.hold(event);
                }
            }
            Some(Err(_)) => self.upstream_ended = Some(Err(Broken("the API server broke this watch off"))),
            None => self.upstream_ended = Some(Ok(())),
        }
    }

    fn hold(&mut self, event: Bytes) {
        let delay = match self.shared.rules().strike_event(&self.request) {
            Some((_, Fault::SwallowWatch)) => return,
            Some((_, Fault::DelayWatch(delay))) => delay,
            _ => Duration::ZERO,
        };
        let last = self.held.back().map_or_else(Instant::now, |(due, _)| *due);
        self.held.push_back((last.max(Instant::now() + delay), event));
    }
}

/// Cuts a body into events. JSON watches have one on each line, however the chunks fall; other encodings are taken
/// chunk by chunk, as the API server flushes after each event.
struct Splitter {
    by_line: bool,
    partial: BytesMut,
}

impl Splitter {
    fn split(&mut self, chunk: &Bytes) -> Vec<Bytes> {
        if !self.by_line {
            return vec![chunk.clone()];
        }
        self.partial.extend_from_slice(chunk);
        let mut events = Vec::new();
        while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
            events.push(self.partial.split_to(end + 1).freeze());
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_lines_however_the_chunks_fall() {
        let mut splitter = Splitter { by_line: true, partial: BytesMut::new() };
        assert!(splitter.split(&Bytes::from_static(b"{\"a\"")).is_empty());
        let events = splitter.split(&Bytes::from_static(b":1}\n{}\n{"));
        assert_eq!(events, [Bytes::from_static(b"{\"a\":1}\n"), Bytes::from_static(b"{}\n")]);
    }
}
