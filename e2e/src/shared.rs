//! The record, the clock and the one order to the clients, as all tasks of the play share them.

use std::io::{Write, stdout};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use demo::words::clock;
use jiff::Timestamp;

use crate::record::Record;

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Shared {
    rose: Instant,
    rose_at: Timestamp,
    record: Arc<Mutex<Record>>,
    hang_up: Arc<AtomicBool>,
}

impl Shared {
    /// The curtain rises now.
    pub fn begin() -> Self {
        Self {
            rose: Instant::now(),
            rose_at: Timestamp::now(),
            record: Arc::default(),
            hang_up: Arc::default(),
        }
    }

    /// Since the curtain rose.
    pub fn now(&self) -> Duration {
        self.rose.elapsed()
    }

    /// A time of the play on the clock of the API server, which is this machine's.
    ///
    /// # Errors
    /// When there is no such instant.
    pub fn wall(&self, at: Duration) -> anyhow::Result<Timestamp> {
        Ok(self.rose_at.checked_add(at)?)
    }

    /// Shows a line. A reader who has gone is nobody's fault.
    pub fn tell(&self, what: &str, text: &str) {
        drop(writeln!(stdout(), "{}  {what:<9} {text}", clock(self.now())));
    }

    /// Shows a table as it is.
    pub fn show(&self, table: &str) {
        drop(write!(stdout(), "{table}"));
    }

    /// What was seen up to now.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the client close its kept connection and open another one.
    pub fn hang_up(&self) {
        self.hang_up.store(true, Ordering::Relaxed);
    }

    /// Whether it is to; asked once, it is done.
    pub fn hung_up(&self) -> bool {
        self.hang_up.swap(false, Ordering::Relaxed)
    }
}
