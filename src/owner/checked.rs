//! Whether the workloads behind the Service bear a cut.
//!
//! Asked beside the ticks, when the Service or the spec changes and now and then; a tick only reads what is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kubervisor_core::backoff::hash;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Parts;
use crate::api::Identity;
use crate::cluster::workloads::{Looked, look};

/// A workload may come without any change of spec or Service.
const ASK_AGAIN: Duration = Duration::from_mins(10);
/// Where a fault is known: everything is held until it is mended, which nobody tells us.
const FAULTY: Duration = Duration::from_secs(30);
/// After a failure.
const RETRY: Duration = Duration::from_secs(15);

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing yet, or nothing any more.
    Nothing(Arc<str>),
    /// What is behind the Service.
    Looked(Arc<Looked>),
}

/// Asks, and keeps the answer.
pub(super) struct Checked {
    asked: Option<(u64, Vec<(String, String)>)>,
    at: Instant,
    round: u64,
    newest: Arc<AtomicU64>,
    /// Failures in a row.
    failures: u32,
    send: watch::Sender<Known>,
}

impl Checked {
    pub(super) fn new() -> Self {
        let (send, _) = watch::channel(Known::Nothing("they have just been asked for".into()));
        Self { asked: None, at: Instant::now(), round: 0, newest: Arc::default(), failures: 0, send }
    }

    pub(super) fn known(&self) -> Known {
        self.send.borrow().clone()
    }

    /// Asks where something changed or the answer is old. `generation` counts the specs. `service`
    /// is the one that must govern no StatefulSet.
    pub(super) fn look(
        &mut self,
        parts: &Parts,
        id: &Identity,
        service: Option<&Arc<str>>,
        selector: &[(String, String)],
        generation: u64,
    ) {
        let wanted = (generation, selector.to_vec());
        let changed = self.asked.as_ref() != Some(&wanted);
        let again = ask_again(&self.known(), self.failures, &id.uid);
        if selector.is_empty() || !changed && self.at.elapsed() < again {
            return;
        }
        if changed {
            self.send.send_replace(Known::Nothing("the Service or the spec has just changed".into()));
        }
        self.failures = match self.known() {
            Known::Nothing(_) if !changed => self.failures + 1,
            Known::Nothing(_) | Known::Looked(_) => 0,
        };
        (self.asked, self.at) = (Some(wanted), Instant::now());
        let (client, send) = (parts.client.clone(), self.send.clone());
        let (namespace, service) = (Arc::clone(&id.namespace), service.cloned());
        let (selector, told) = (selector.to_vec(), parts.cache.changed(&id.namespace, &id.uid));
        self.round += 1;
        let (round, newest, calls) = (self.round, Arc::clone(&self.newest), Arc::clone(&parts.calls));
        newest.store(round, Ordering::Release);
        parts.tasks.spawn(async move {
            let Ok(_turn) = calls.acquire().await else { return };
            let known = match look(&client, &namespace, service.as_deref(), &selector).await {
                Ok(looked) => Known::Looked(Arc::new(looked)),
                Err(error) => Known::Nothing(error.to_string().into()),
            };
            // An older question may be answered after a newer one was asked.
            if newest.load(Ordering::Acquire) != round {
                return;
            }
            send.send_replace(known);
            told.into_iter().for_each(|changed| changed.notify_one());
        });
    }
}

/// Time until an answer is too old.
fn ask_again(known: &Known, failures: u32, uid: &str) -> Duration {
    match known {
        Known::Nothing(_) => (RETRY * 2_u32.saturating_pow(failures.min(8))).min(ASK_AGAIN),
        Known::Looked(looked) if !looked.faults.is_empty() => FAULTY,
        // Spread: services that start together must not ask together for ever.
        Known::Looked(_) => {
            ASK_AGAIN + ASK_AGAIN * u32::try_from(hash(0, uid.as_bytes()) % 20).unwrap_or(0) / 100
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_fault_is_looked_at_again_soon_and_a_sound_workload_now_and_then() {
        let faults = |faults: &[&str]| {
            let faults = faults.iter().map(|f| (*f).to_owned()).collect();
            Known::Looked(Arc::new(Looked { faults, ..Looked::default() }))
        };
        assert_eq!(ask_again(&faults(&["it selects by the key"]), 0, "k1"), Duration::from_secs(30));
        assert!(ask_again(&faults(&[]), 0, "k1") >= ASK_AGAIN);
        let failed = |failures| ask_again(&Known::Nothing("403".into()), failures, "k1");
        assert!(failed(1) > failed(0) && failed(99) == ASK_AGAIN);
    }
}
