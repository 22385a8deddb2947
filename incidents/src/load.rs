//! Load: which requests are due by when, and which endpoint each is sent to.

use std::time::Duration;

use crate::{Purpose, Seed};

/// Requests at an even rate, each to an endpoint drawn by the seed, as a kube-proxy in iptables mode would.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    seed: Seed,
    per_second: u32,
}

impl Load {
    /// So many requests a second; 0 = none ever.
    pub const fn new(seed: Seed, per_second: u32) -> Self {
        Self { seed, per_second }
    }

    /// How many requests are due from the start up to this time, both included. The first is due at once,
    /// so that request `n` is due at `n / per_second` seconds.
    pub fn due(&self, at: Duration) -> u64 {
        if self.per_second == 0 {
            return 0;
        }
        let count = at.as_nanos() * u128::from(self.per_second) / 1_000_000_000 + 1;
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// The index of the endpoint that request `request` goes to, of `endpoints` there are; none without any.
    #[inline]
    pub const fn pick(&self, request: u64, endpoints: usize) -> Option<usize> {
        if endpoints == 0 {
            return None;
        }
        let draw = self.seed.draw(Purpose::Pick, request, 0) as u128;
        // The high half of the product is uniform below `endpoints` without a division's bias.
        #[expect(clippy::cast_possible_truncation, reason = "less than `endpoints`, itself a usize")]
        let index = ((draw * endpoints as u128) >> 64) as usize;
        Some(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_request_is_due_at_once_and_the_rest_evenly() {
        let load = Load::new(Seed::new(9), 4);
        let due = [0, 249, 250, 999, 1000].map(|ms| load.due(Duration::from_millis(ms)));
        assert_eq!(due, [1, 1, 2, 4, 5]);
    }

    #[test]
    fn no_load_is_never_due_and_no_endpoint_is_never_picked() {
        assert_eq!(Load::new(Seed::new(9), 0).due(Duration::MAX), 0);
        assert_eq!(Load::new(Seed::new(9), 4).pick(0, 0), None);
    }
}
