//! The signals that end a program politely.

use anyhow::Context;
use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM and SIGHUP, kept from ending this process from the moment this is made.
pub struct StopSignals([Signal; 3]);

impl StopSignals {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new() -> anyhow::Result<StopSignals> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(StopSignals([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        self.number().await;
    }

    pub(crate) async fn number(&mut self) -> Number {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Number::INT,
            _ = terminate.recv() => Number::TERM,
            _ = hangup.recv() => Number::HUP,
        }
    }
}
