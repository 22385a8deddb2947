//! Keys that an owner added to a Service's selector and nobody looks after any more: they are taken out before the pods
//! behind them go back, so that pods born later serve too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::time::Instant;

use crate::cluster::CallError;
use crate::cluster::cache::Cache;
use crate::cluster::keyhole::Keyhole;
use crate::cluster::mandate::Mandate;
use crate::cluster::release::gone;
use crate::cluster::selector::KeyWriter;

/// Services written in one sweep.
const SWEEP_MAX: usize = 50;
/// After so many failures the pods behind a key go back all the same.
const TRIES: u32 = 3;
/// First and longest pause after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));

/// What is remembered of keys that could not be taken out yet, by the Service's uid: failures in a row, and when the
/// next try may be.
#[derive(Default)]
pub(crate) struct Leftovers(BTreeMap<Arc<str>, (u32, Instant)>);

impl Leftovers {
    /// Whether a pod behind this Service still waits for its key to go.
    pub(crate) fn goes_first(&self, service: &Arc<str>) -> bool {
        self.0.get(service).is_none_or(|(failures, _)| *failures < TRIES)
    }

    /// Takes out what is left over, on proof that the KubervisorService in the mark is gone or names another Service.
    /// `sees`: whether what is not in the view of a namespace is not there.
    pub(crate) async fn sweep(
        &mut self,
        cache: &Cache,
        client: &Client,
        mandate: &Mandate,
        sees: impl Fn(&str) -> bool,
    ) {
        let mut left = cache.left_over();
        self.0.retain(|uid, _| left.iter().any(|hole| hole.uid == *uid));
        left.retain(|hole| sees(&hole.namespace));
        let due = |hole: &&Keyhole| self.0.get(&hole.uid).is_none_or(|(_, at)| *at <= Instant::now());
        let due: Vec<_> = left.iter().filter(due).take(SWEEP_MAX).collect();
        let writer = KeyWriter::new(client.clone(), mandate.clone());
        for hole in due {
            match take_out(cache, client, &writer, hole).await {
                Ok(true) => tracing::info!(namespace = %hole.namespace, service = %hole.name,
                    "the key is taken out of its selector: the KubervisorService that added it no longer looks after it"),
                // The view is behind, or ahead: it tells of the change itself.
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(namespace = %hole.namespace, service = %hole.name, %error,
                        "the key that a KubervisorService left in its selector could not be taken out yet");
                    self.put_off(&hole.uid);
                }
            }
        }
    }

    fn put_off(&mut self, service: &Arc<str>) {
        let failures = self.0.get(service).map_or(1, |(failures, _)| failures.saturating_add(1));
        let pause = RETRY.0.saturating_mul(1 << (failures - 1).min(4)).min(RETRY.1);
        self.0.insert(Arc::clone(service), (failures, Instant::now() + pause));
    }
}

/// Returns whether it was taken out.
async fn take_out(
    cache: &Cache,
    client: &Client,
    writer: &KeyWriter,
    hole: &Keyhole,
) -> Result<bool, CallError> {
    let Some(by) = &hole.managed_by else { return Ok(false) };
    // One that is there names another Service: its own view proves that.
    let proved = cache.governs(&hole.namespace, by) || gone(client, &hole.namespace, by).await?;
    if proved {
        writer.take(hole).await?;
    }
    Ok(proved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_cannot_be_taken_out_keeps_its_pods_waiting_three_times_and_no_longer() {
        let (mut leftovers, service) = (Leftovers::default(), Arc::from("s"));
        for _ in 0..TRIES {
            assert!(leftovers.goes_first(&service));
            leftovers.put_off(&service);
        }
        assert!(!leftovers.goes_first(&service));
        (0..99).for_each(|_| leftovers.put_off(&service));
        assert_eq!(leftovers.0[&service].1, Instant::now() + RETRY.1);
    }
}
