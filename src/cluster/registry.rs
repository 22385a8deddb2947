//! The set of KubervisorServices, as far as others must know of it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::doors::Doors;
use super::lists::{Feed, Feeds, List, lists_of, scope_of};
use super::watch::Failure;

/// From this many resources on, losing more than half within a minute is taken for a fault of the view.
const MANY: usize = 10;
/// That minute, and how long nobody is freed after it.
const SHRINK_WINDOW: Duration = Duration::from_mins(1);

/// What others may know of the set of KubervisorServices.
#[derive(Debug, Default)]
pub struct Registry {
    state: Mutex<RegistryState>,
    /// Told when a KubervisorService is gone.
    pub gone: Notify,
    /// Where their owners are asked why.
    pub doors: Arc<Doors>,
}

#[derive(Debug, Default)]
struct RegistryState {
    feeds: Feeds,
    /// Sizes of the last minute, newest last.
    sizes: VecDeque<(Instant, usize)>,
    suspect_until: Option<Instant>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names the watches that are about to start.
    pub fn expect(&self, scopes: &[Option<Arc<str>>]) {
        self.lock().feeds = scopes.iter().map(|scope| (scope.clone(), Feed::default())).collect();
    }

    /// How far the first list of every scope has come.
    #[must_use]
    pub fn lists(&self) -> Vec<List> {
        lists_of("kubervisorservices", &self.lock().feeds)
    }

    /// Whether the list that tells of this namespace has been complete once.
    #[must_use]
    pub fn synced_in(&self, namespace: &str) -> bool {
        scope_of(&self.lock().feeds, namespace).is_some_and(|feed| feed.synced)
    }

    /// Time since the server last answered for this kind in this namespace.
    #[must_use]
    pub fn view_age(&self, namespace: &str) -> Option<Duration> {
        scope_of(&self.lock().feeds, namespace)?.proved.map(|at| at.elapsed())
    }

    /// The same for the watch that is the furthest behind.
    #[must_use]
    pub fn oldest_view(&self) -> Option<Duration> {
        let proofs: Option<Vec<_>> = self.lock().feeds.values().map(|feed| feed.proved).collect();
        proofs?.into_iter().min().map(|at| at.elapsed())
    }

    /// Whether more than half of many resources vanished within a minute: a view to wait for, not to act on.
    #[must_use]
    pub fn suspect(&self) -> bool {
        self.lock().suspect_until.is_some_and(|until| until > Instant::now())
    }

    fn feed(&self, scope: Option<&Arc<str>>, change: impl FnOnce(&mut Feed)) {
        change(self.lock().feeds.entry(scope.cloned()).or_default());
    }

    pub(crate) fn listed(&self, scope: Option<&Arc<str>>) {
        self.feed(scope, |feed| feed.synced = true);
    }

    pub(crate) fn proved(&self, scope: Option<&Arc<str>>, at: Instant) {
        self.feed(scope, |feed| feed.prove(at));
    }

    pub(crate) fn failed(&self, scope: Option<&Arc<str>>, failure: &Failure) {
        self.feed(scope, |feed| feed.fail(failure));
    }

    pub(crate) fn resized(&self, size: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        state.sizes.retain(|(at, _)| now.duration_since(*at) < SHRINK_WINDOW);
        let largest = state.sizes.iter().map(|(_, n)| *n).max().unwrap_or(0);
        if largest >= MANY && size * 2 < largest {
            state.suspect_until = Some(now + SHRINK_WINDOW);
        }
        // One entry for each size: many deletions in a row stay bounded by what there was.
        if state.sizes.back().is_none_or(|(_, n)| *n != size) {
            state.sizes.push_back((now, size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn losing_more_than_half_of_many_within_a_minute_is_suspect_for_a_minute() {
        let registry = Registry::default();
        registry.resized(20);
        registry.resized(11);
        assert!(!registry.suspect());
        registry.resized(9);
        assert!(registry.suspect());
        tokio::time::advance(SHRINK_WINDOW).await;
        assert!(!registry.suspect());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_resources_may_all_go_at_once() {
        let registry = Registry::default();
        registry.resized(3);
        registry.resized(0);
        assert!(!registry.suspect());
    }
}
