//! The load generator: clients and kube-proxy in one. It follows the EndpointSlices and sends each request to one
//! of the endpoints of that moment; it also tells every change of them, as an observer outside the controller.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval};

use crate::endpoints::Endpoints;
use crate::workload::Workload;

/// Requests are sent in small batches, four or so at 200 a second: what a kube-proxy's own delay is worth.
const BATCH: Duration = Duration::from_millis(20);

/// The one clock of the play, zero when the curtain rises.
#[derive(Clone, Debug, Default)]
pub struct Curtain(Arc<OnceLock<Instant>>);

impl Curtain {
    /// Starts the play; later calls change nothing.
    pub fn rise(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// Time in the play; none before it.
    pub fn at(&self) -> Option<Duration> {
        self.0.get().map(Instant::elapsed)
    }
}

/// The workload, shared by the load, the metrics page and the screen.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Mutex<Workload>>);

impl Shared {
    /// Takes a workload to be shared.
    pub fn new(workload: Workload) -> Self {
        Self(Arc::new(Mutex::new(workload)))
    }

    /// For a moment; never across an await.
    pub fn lock(&self) -> MutexGuard<'_, Workload> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends requests from the rise of the curtain on, until `endpoints` ends or nobody receives the changes.
pub async fn run(
    workload: Shared,
    curtain: Curtain,
    endpoints: impl Stream<Item = Endpoints>,
    changes: Sender<(Option<Duration>, Endpoints)>,
) {
    let mut endpoints = pin!(endpoints);
    let mut batches = interval(BATCH);
    // After a stall the workload makes up for all requests that are due, in one batch.
    batches.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut current = Endpoints::new();
    loop {
        tokio::select! {
            biased;
            next = endpoints.next() => {
                let Some(next) = next else { return };
                current.clone_from(&next);
                if changes.send((curtain.at(), next)).await.is_err() {
                    return;
                }
            }
            _ = batches.tick() => {
                if let Some(at) = curtain.at() {
                    workload.lock().serve(&current, at);
                }
            }
        }
    }
}
