//! How far the lists and watches of one kind have come, scope by scope.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::watch::Failure;

/// The watches of one kind: one for the whole cluster (no namespace), or one for each namespace.
pub(super) type Feeds = BTreeMap<Option<Arc<str>>, Feed>;

/// How one watch stands.
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Its list has been complete once.
    pub(super) synced: bool,
    pub(super) proved: Option<Instant>,
    /// The server does not allow it.
    pub(super) forbidden: bool,
}

impl Feed {
    pub(super) fn prove(&mut self, at: Instant) {
        (self.proved, self.forbidden) = (Some(at), false);
    }

    pub(super) fn fail(&mut self, failure: &Failure) {
        self.forbidden |= failure.code == Some(403);
    }
}

/// How far the first list of a kind has come in one scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The kind.
    pub resource: &'static str,
    /// The namespace; `None` for all of them.
    pub scope: Option<Arc<str>>,
    /// How far.
    pub state: Listed,
}

/// How far a first list has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// Complete.
    Complete,
    /// On its way.
    Awaited,
    /// The server does not allow it: there may never be one.
    Forbidden,
}

pub(super) fn lists_of(resource: &'static str, feeds: &Feeds) -> Vec<List> {
    let state = |feed: &Feed| match (feed.synced, feed.forbidden) {
        (true, _) => Listed::Complete,
        (false, true) => Listed::Forbidden,
        (false, false) => Listed::Awaited,
    };
    feeds.iter().map(|(scope, feed)| List { resource, scope: scope.clone(), state: state(feed) }).collect()
}

/// The watch that tells of a namespace: its own, or the one of the whole cluster.
pub(super) fn scope_of<'a>(feeds: &'a Feeds, namespace: &str) -> Option<&'a Feed> {
    feeds.get(&None).or_else(|| feeds.get(&Some(Arc::from(namespace))))
}
