//! Who may ask a server now: a slow one sees a bounded number of questions at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Servers that are remembered. One that nobody asks right now has nothing to remember, so they are dropped beyond
/// this number; a server takes about 300 bytes.
const REMEMBERED: usize = 1_024;

/// The turns of every server, by its origin.
#[derive(Debug)]
pub(super) struct Turns {
    at_once: usize,
    servers: Mutex<HashMap<String, Arc<Server>>>,
}

/// One server's turns. Questions that were slow the last time share half of them, so that one tenant's heavy query
/// cannot take every turn and make everybody else's come too late.
#[derive(Debug)]
struct Server {
    all: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

/// The right to ask; over when dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _all: OwnedSemaphorePermit,
    _slow: Option<OwnedSemaphorePermit>,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once: at_once.max(1), servers: Mutex::default() }
    }

    /// Waits for a turn, first come first served. The caller bounds the wait.
    pub(super) async fn take(&self, origin: String, slow: bool) -> Result<Turn, AcquireError> {
        let server = self.server(origin);
        // In this order: a slow one that waits for its kind must not hold a turn meanwhile.
        let slow = if slow { Some(Arc::clone(&server.slow).acquire_owned().await?) } else { None };
        Ok(Turn { _all: Arc::clone(&server.all).acquire_owned().await?, _slow: slow })
    }

    fn server(&self, origin: String) -> Arc<Server> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if servers.len() >= REMEMBERED {
            servers.retain(|_, server| Arc::strong_count(server) > 1 || server.busy(self.at_once));
        }
        Arc::clone(servers.entry(origin).or_insert_with(|| Arc::new(Server::new(self.at_once))))
    }
}

impl Server {
    fn new(at_once: usize) -> Self {
        let slow = Arc::new(Semaphore::new((at_once / 2).max(1)));
        Self { all: Arc::new(Semaphore::new(at_once)), slow }
    }

    /// Whether a turn is taken. Who still waits for one holds the server itself.
    fn busy(&self, at_once: usize) -> bool {
        self.all.available_permits() < at_once
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn take(turns: &Turns, slow: bool) -> Option<Turn> {
        turns.take("http://prometheus:9090".into(), slow).now_or_never().map(Result::unwrap)
    }

    #[test]
    fn a_server_sees_no_more_than_its_number_at_once() {
        let turns = Turns::new(2);
        let first = take(&turns, false).expect("a turn");
        let _second = take(&turns, false).expect("a turn");
        assert!(take(&turns, false).is_none());
        drop(first);
        assert!(take(&turns, false).is_some());
    }

    #[test]
    fn another_server_has_turns_of_its_own() {
        let turns = Turns::new(1);
        let _first = take(&turns, false).expect("a turn");
        assert!(turns.take("http://thanos:9090".into(), false).now_or_never().is_some());
    }

    #[test]
    fn slow_questions_leave_half_of_the_turns_to_the_others() {
        let turns = Turns::new(4);
        let _slow: Vec<_> = (0..2).map(|_| take(&turns, true).expect("a turn")).collect();
        assert!(take(&turns, true).is_none());
        let _quick: Vec<_> = (0..2).map(|_| take(&turns, false).expect("a turn")).collect();
        assert!(take(&turns, false).is_none());
    }

    #[test]
    fn servers_that_nobody_asks_are_forgotten() {
        let turns = Turns::new(1);
        let _held = take(&turns, false).expect("a turn");
        for n in 0..REMEMBERED * 2 {
            turns.take(format!("http://tenant-{n}:9090"), false).now_or_never().unwrap().unwrap();
        }
        assert!(turns.servers.lock().unwrap().len() <= REMEMBERED);
        assert!(take(&turns, false).is_none(), "the one in use is still known");
    }
}
