//! The right to act, as everybody who writes asks for it.
//!
//! The lease loop gives, prolongs and takes it; writers ask right before a write is sent, owners at every tick. It is
//! judged by a clock that goes on while the process is stopped or the machine sleeps, so that whoever wakes late finds
//! his right ended, whatever he was about to do.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kubervisor_core::gates::Gate;
use tokio::sync::Notify;

/// Time since some moment, suspension included: CLOCK_BOOTTIME, or a simulator's.
pub type BootClock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The namespace of a watch; `None` is all of them.
type Scope = Option<Arc<str>>;

/// The time during which one process may act without a break: a new one begins whenever the Lease was another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term {
    /// leaseTransitions; `None` where nobody is elected.
    pub epoch: Option<u64>,
    /// Nobody acted before it: nothing has changed behind our back.
    pub first: bool,
    number: u64,
}

/// Why a write must not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Withheld {
    /// The Lease is another's, or nobody has proved for long enough that it is ours.
    NotHeld,
    /// A write of the former holder may still land.
    TooEarly,
    /// What the former holder cut has not been read from the server yet.
    Unread,
    /// People have frozen everything.
    Frozen,
}

impl Withheld {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotHeld => "it is not proven that the Lease is ours: another controller may act",
            Self::TooEarly => "a write of the former holder of the Lease may still land",
            Self::Unread => "what the former holder of the Lease has cut is still being read",
            Self::Frozen => "frozen by an annotation on the Lease",
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Held {
    term: Option<Term>,
    /// Terms so far.
    number: u64,
    /// On the boot clock. `None` never ends.
    until: Option<Duration>,
    cuts_from: Duration,
    frozen: Option<Arc<str>>,
    /// Scopes whose pods have been read since the term began.
    read: BTreeSet<Scope>,
}

/// What it is now, and who waits for a change of it. No `watch` channel: that one wakes its receivers in an order drawn
/// by chance, and a replay must be exact.
#[derive(Debug, Default)]
struct Shared {
    held: Mutex<Held>,
    changed: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes everybody who waits, first come first served, where `change` says that something changed.
    fn change(&self, change: impl FnOnce(&mut Held) -> bool) {
        let changed = change(&mut self.lock());
        if changed {
            self.changed.notify_waiters();
        }
    }

    async fn wait<T>(&self, wanted: impl Fn(&Held) -> Option<T>) -> T {
        loop {
            // Before the look: a change between the look and the wait would be missed.
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let found = wanted(&self.lock());
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }
}

/// A handle; cheap to clone.
#[derive(Clone)]
pub struct Mandate {
    held: Arc<Shared>,
    clock: BootClock,
}

impl Mandate {
    /// For ever, for a process that knows that it is alone.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::for_ever(None)
    }

    /// The same with this epoch on every write: an API server may still compare with a Lease that is gone.
    #[must_use]
    pub fn unlimited_of(epoch: u64) -> Self {
        Self::for_ever(Some(epoch))
    }

    fn for_ever(epoch: Option<u64>) -> Self {
        let term = Term { epoch, first: true, number: 0 };
        let held = Held { term: Some(term), ..Held::default() };
        Self {
            held: Arc::new(Shared { held: Mutex::new(held), changed: Notify::new() }),
            clock: Arc::new(|| Duration::ZERO),
        }
    }

    /// None until the lease loop gives it.
    #[must_use]
    pub fn none(clock: BootClock) -> Self {
        Self { held: Arc::default(), clock }
    }

    /// The clock that it is judged by.
    #[must_use]
    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Whether anything may be written now: returns, labels, statuses. Gives the epoch to stamp.
    ///
    /// # Errors
    /// Why not.
    pub fn may_write(&self) -> Result<Option<u64>, Withheld> {
        self.holds(&self.held.lock())
    }

    /// Whether traffic may be taken away from a pod of this namespace now.
    ///
    /// # Errors
    /// Why not.
    pub fn may_spend(&self, namespace: &str) -> Result<Option<u64>, Withheld> {
        self.spends(&self.held.lock(), namespace)
    }

    fn holds(&self, held: &Held) -> Result<Option<u64>, Withheld> {
        let in_time = held.until.is_none_or(|until| self.now() < until);
        held.term.filter(|_| in_time).map(|term| term.epoch).ok_or(Withheld::NotHeld)
    }

    fn spends(&self, held: &Held, namespace: &str) -> Result<Option<u64>, Withheld> {
        let epoch = self.holds(held)?;
        let read = || held.read.contains(&None) || held.read.contains(&Some(Arc::from(namespace)));
        if held.frozen.is_some() {
            Err(Withheld::Frozen)
        } else if self.now() < held.cuts_from {
            Err(Withheld::TooEarly)
        } else if held.term.is_some_and(|term| !term.first) && !read() {
            Err(Withheld::Unread)
        } else {
            Ok(epoch)
        }
    }

    /// What holds every act but returns in this namespace, where something does.
    #[must_use]
    pub fn gate(&self, namespace: &str) -> Option<Gate> {
        let held = self.held.lock();
        match (self.spends(&held, namespace), &held.frozen) {
            (Ok(_), _) => None,
            (Err(Withheld::Frozen), Some(reason)) => {
                let reason = format!("the annotation kubervisor.k8s.io/freeze on the Lease: {reason}");
                Some(Gate::Held { reason: reason.into(), until: None })
            }
            (Err(why), _) => Some(Gate::Lease { why: why.as_str().into() }),
        }
    }

    /// Waits until a term has begun.
    pub async fn begun(&self) -> Term {
        self.held.wait(|held| held.term).await
    }

    /// Waits until this term has ended.
    pub async fn ended(&self, term: Term) {
        self.held.wait(|held| (held.term != Some(term)).then_some(())).await;
    }

    /// Waits until something may be written.
    pub async fn writable(&self) {
        self.held.wait(|held| self.holds(held).ok()).await;
    }

    /// Waits until something may be written and no write of the former holder can land any more.
    pub async fn settled(&self) {
        loop {
            self.writable().await;
            let wait = self.cuts_from().saturating_sub(self.now());
            if wait.is_zero() {
                return;
            }
            tracing::info!(?wait, "a write of the former holder of the Lease may still land");
            tokio::time::sleep(wait).await;
        }
    }

    /// Gives it: a new term, or the one that runs for longer.
    pub(super) fn give(&self, given: Given) {
        let Given { epoch, first, until, cuts_from, frozen } = given;
        let now = self.now();
        self.held.change(|held| {
            let lapsed = held.until.is_some_and(|until| now >= until);
            let same = held.term.is_some_and(|term| term.epoch == Some(epoch));
            if !same {
                held.number += 1;
                held.term = Some(Term { epoch: Some(epoch), first, number: held.number });
                held.cuts_from = cuts_from;
                held.read.clear();
            }
            let changed = !same || lapsed || held.frozen != frozen;
            (held.until, held.frozen) = (Some(until), frozen);
            // Thousands of owners wait for the end of the term: a mere renewal wakes none of them.
            changed
        });
    }

    /// Takes it: somebody else may act now.
    pub(super) fn take(&self) {
        self.held.change(|held| held.term.take().is_some());
    }

    /// The pods of this scope have been read since the term began.
    pub(super) fn has_read(&self, term: Term, scope: Scope) {
        self.held.change(|held| held.term == Some(term) && held.read.insert(scope));
    }

    /// Whether the wait for the former holder's writes is over.
    #[must_use]
    pub(super) fn wait_is_over(&self) -> bool {
        let held = self.held.lock();
        held.term.is_some() && self.now() >= held.cuts_from
    }

    /// When that wait is over, on the boot clock.
    #[must_use]
    pub(super) fn cuts_from(&self) -> Duration {
        self.held.lock().cuts_from
    }
}

/// What the lease loop gives.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) epoch: u64,
    pub(super) first: bool,
    pub(super) until: Duration,
    pub(super) cuts_from: Duration,
    pub(super) frozen: Option<Arc<str>>,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// A mandate, and the hand of its clock in seconds.
    fn mandate() -> (Mandate, Arc<AtomicU64>) {
        let hand = Arc::new(AtomicU64::new(100));
        let clock = Arc::clone(&hand);
        (Mandate::none(Arc::new(move || Duration::from_secs(clock.load(Ordering::Relaxed)))), hand)
    }

    fn given(epoch: u64, until: u64, cuts_from: u64) -> Given {
        let (until, cuts_from) = (Duration::from_secs(until), Duration::from_secs(cuts_from));
        Given { epoch, first: epoch == 1, until, cuts_from, frozen: None }
    }

    #[test]
    fn nobody_writes_before_it_is_given_and_anybody_without_an_election() {
        assert_eq!(mandate().0.may_write(), Err(Withheld::NotHeld));
        assert_eq!(Mandate::unlimited().may_spend("orchard"), Ok(None));
        assert_eq!(Mandate::unlimited().gate("orchard"), None);
    }

    #[test]
    fn whoever_wakes_after_its_end_writes_nothing_until_it_is_renewed() {
        let (mandate, hand) = mandate();
        mandate.give(given(1, 110, 0));
        assert_eq!(mandate.may_spend("orchard"), Ok(Some(1)));
        hand.store(110, Ordering::Relaxed);
        assert_eq!(mandate.may_write(), Err(Withheld::NotHeld));
        assert!(matches!(mandate.gate("orchard"), Some(Gate::Lease { .. })));
        mandate.give(given(1, 120, 0));
        assert_eq!(mandate.may_write(), Ok(Some(1)));
    }

    #[test]
    fn a_successor_returns_at_once_and_cuts_once_the_wait_is_over_and_the_cuts_are_read() {
        let (mandate, hand) = mandate();
        mandate.give(given(2, 200, 105));
        assert_eq!(mandate.may_write(), Ok(Some(2)));
        assert_eq!(mandate.may_spend("orchard"), Err(Withheld::TooEarly));
        hand.store(105, Ordering::Relaxed);
        assert_eq!(mandate.may_spend("orchard"), Err(Withheld::Unread));
        let term = mandate.held.lock().term.unwrap();
        mandate.has_read(term, Some("orchard".into()));
        assert_eq!(mandate.may_spend("orchard"), Ok(Some(2)));
        assert_eq!(mandate.may_spend("meadow"), Err(Withheld::Unread));
    }

    #[test]
    fn a_freeze_holds_what_takes_traffic_away_with_its_reason_and_nothing_else() {
        let (mandate, _) = mandate();
        mandate.give(Given { frozen: Some("harvest".into()), ..given(1, 200, 0) });
        assert_eq!(mandate.may_spend("orchard"), Err(Withheld::Frozen));
        assert_eq!(mandate.may_write(), Ok(Some(1)));
        assert!(mandate.gate("orchard").unwrap().to_string().contains("harvest"));
        mandate.give(given(1, 200, 0));
        assert_eq!(mandate.gate("orchard"), None);
    }

    #[tokio::test]
    async fn a_term_ends_for_those_who_wait_when_it_is_taken_and_not_at_a_renewal() {
        let (mandate, _) = mandate();
        mandate.give(given(1, 110, 0));
        let term = mandate.begun().await;
        let ended = mandate.ended(term);
        tokio::pin!(ended);
        mandate.give(given(1, 120, 0));
        assert!(futures::poll!(&mut ended).is_pending());
        mandate.take();
        ended.await;
        mandate.give(given(1, 130, 0));
        assert_ne!(mandate.begun().await, term);
    }
}
