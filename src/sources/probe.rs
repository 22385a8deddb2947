//! Which servers honour `lookback_delta`, found out once each.
//!
//! A server that ignores the parameter answers as if nothing was wrong, with samples up to five minutes old: only a
//! value that must be refused tells.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Endpoint;

/// After a finding: a server may be replaced by another version under the same name.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);
/// After a probe that could not tell.
const RETRY_AFTER: Duration = Duration::from_secs(60);
/// Endpoints remembered; beyond it new ones stay unknown until old ones fall due. About 100 bytes each.
const REMEMBERED: usize = 4_096;

/// What is known of each endpoint.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<HashMap<Endpoint, Probe>>);

#[derive(Debug, Clone, Copy)]
struct Probe {
    honoured: Option<bool>,
    next: Instant,
}

impl Probes {
    pub(super) fn honoured(&self, endpoint: &Endpoint) -> Option<bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(endpoint)?.honoured
    }

    /// Whether to probe now; if so, nobody else is told to for a while.
    pub(super) fn due(&self, endpoint: &Endpoint, now: Instant) -> bool {
        let mut probes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = probes.get(endpoint).copied();
        if known.is_some_and(|probe| now < probe.next) {
            return false;
        }
        if known.is_none() && probes.len() >= REMEMBERED {
            probes.retain(|_, probe| now < probe.next);
            if probes.len() >= REMEMBERED {
                return false;
            }
        }
        let honoured = known.and_then(|probe| probe.honoured);
        probes.insert(endpoint.clone(), Probe { honoured, next: now + RETRY_AFTER });
        true
    }

    pub(super) fn found(&self, endpoint: &Endpoint, honoured: bool, now: Instant) {
        let probe = Probe { honoured: Some(honoured), next: now + AGAIN_AFTER };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(endpoint.clone(), probe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_probed_once_and_a_failed_probe_is_tried_again_later() {
        let (probes, now) = (Probes::default(), Instant::now());
        let endpoint = Endpoint::parse("prometheus:9090").unwrap();
        assert!(probes.due(&endpoint, now));
        assert!(!probes.due(&endpoint, now), "one is under way");
        assert_eq!(probes.honoured(&endpoint), None);
        let later = now + RETRY_AFTER;
        assert!(probes.due(&endpoint, later));
        probes.found(&endpoint, true, later);
        assert_eq!(probes.honoured(&endpoint), Some(true));
        assert!(!probes.due(&endpoint, later + RETRY_AFTER));
        assert!(probes.due(&endpoint, later + AGAIN_AFTER));
        assert_eq!(probes.honoured(&endpoint), Some(true), "known until found otherwise");
    }

    #[test]
    fn endpoints_without_number_are_not_remembered() {
        let (probes, now) = (Probes::default(), Instant::now());
        for n in 0..REMEMBERED + 10 {
            probes.due(&Endpoint::parse(&format!("tenant-{n}:9090")).unwrap(), now);
        }
        assert_eq!(probes.0.lock().unwrap().len(), REMEMBERED);
    }
}
