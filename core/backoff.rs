//! How long a pod stays cut.
//!
//! Takes the policy, the strikes and a seed; gives the time until the next try. Same seed, pod and strike, same
//! time: a crash between drawing it and storing it changes nothing.

use std::time::Duration;

use crate::policy::{ActivatorPolicy, Growth};

/// Cut time for the `strikes`-th cut (1 = the first): growth, ceiling, then the lower bound `shortest`, then up to
/// `jitter_percent` on top.
///
/// The lower bound comes after the ceiling: it is a property of the query, not a wish.
#[must_use]
pub fn cut_time(
    policy: &ActivatorPolicy,
    shortest: Duration,
    strikes: u32,
    seed: u64,
    uid: &str,
) -> Duration {
    let k = strikes.max(1);
    let grown = match policy.growth {
        Growth::Constant => policy.period,
        Growth::Linear => policy.period.saturating_mul(k),
        Growth::Exponential => policy.period.saturating_mul(1_u32.checked_shl(k - 1).unwrap_or(u32::MAX)),
    };
    let bounded = grown.min(policy.max_period).max(shortest);
    let share = fraction(seed, uid, k) * f64::from(policy.jitter_percent) / 100.0;
    bounded.saturating_add(Duration::try_from_secs_f64(bounded.as_secs_f64() * share).unwrap_or_default())
}

/// The longest a cut may last under `policy`, jitter included: a stored time beyond it is not believed.
#[must_use]
pub fn longest(policy: &ActivatorPolicy, shortest: Duration) -> Duration {
    let bounded = policy.max_period.max(shortest);
    bounded.saturating_add(bounded.saturating_mul(policy.jitter_percent) / 100)
}

/// Number in [0, 1) from a seed, a pod and a strike.
fn fraction(seed: u64, uid: &str, strike: u32) -> f64 {
    let bits = mix(hash(seed, uid.as_bytes()) ^ u64::from(strike)) >> 11;
    #[allow(clippy::cast_precision_loss)] // 53 bits fit a double exactly
    let numerator = bits as f64;
    numerator / 9_007_199_254_740_992.0
}

/// FNV-1a, started from `seed`: stable over releases and machines, which the standard hasher does not promise.
#[must_use]
pub fn hash(seed: u64, bytes: &[u8]) -> u64 {
    let start = mix(seed) ^ 0xcbf2_9ce4_8422_2325;
    bytes.iter().fold(start, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finishing step of splitmix64: FNV's high bits alone are poor.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{ActivatorMode, ActivatorPolicy};
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn no_jitter(mode: ActivatorMode) -> ActivatorPolicy {
        ActivatorPolicy { jitter_percent: 0, ..ActivatorPolicy::new(mode, SECOND * 10, 3) }
    }

    #[test]
    fn periodic_doubles_up_to_its_ceiling() {
        let policy = no_jitter(ActivatorMode::Periodic);
        let seconds = |k| cut_time(&policy, Duration::ZERO, k, 7, "u").as_secs();
        assert_eq!([1, 2, 3, 6, 40, u32::MAX].map(seconds), [10, 20, 40, 300, 300, 300]);
    }

    #[test]
    fn retries_grow_linearly_as_in_the_original() {
        let policy = no_jitter(ActivatorMode::RetryAndKill);
        let seconds = |k| cut_time(&policy, Duration::ZERO, k, 7, "u").as_secs();
        assert_eq!([0, 1, 2, 3].map(seconds), [10, 10, 20, 30]);
    }

    #[test]
    fn a_cut_is_never_shorter_than_the_query_window_whatever_the_ceiling() {
        let policy = ActivatorPolicy { max_period: SECOND * 10, ..no_jitter(ActivatorMode::Periodic) };
        assert_eq!(cut_time(&policy, SECOND * 320, 1, 7, "u"), SECOND * 320);
    }

    #[test]
    fn a_long_period_of_an_old_manifest_is_not_shortened() {
        let policy = ActivatorPolicy::new(ActivatorMode::RetryAndKill, SECOND * 600, 3);
        assert!(policy.max_period >= SECOND * 2400);
    }

    proptest! {
        #[test]
        fn the_same_strike_draws_the_same_time_within_bounds(k in 0_u32..100, seed: u64, uid in "[a-f0-9]{8}") {
            let policy = ActivatorPolicy::default();
            let once = cut_time(&policy, SECOND * 22, k, seed, &uid);
            prop_assert_eq!(once, cut_time(&policy, SECOND * 22, k, seed, &uid));
            prop_assert!(once >= SECOND * 22 && once <= longest(&policy, SECOND * 22));
        }
    }
}
