//! Due pods to proposed restores, pauses and evictions.
//!
//! Takes one cut member, its due time and the policy; says what its activator wants now. Whether a pause or an
//! eviction may happen is for `plan`: gates, floor and caps are not looked at here.

use std::sync::Arc;
use std::time::Duration;

use crate::Now;
use crate::backoff::{cut_time, longest};
use crate::fleet::Member;
use crate::policy::{ActivatorMode, ActivatorPolicy, ServicePolicy};
use crate::traffic::Cut;

/// What a due pod's activator asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Back into traffic.
    Restore,
    /// Its retries are used up: keep it out for people.
    Pause,
    /// Its retries are used up: remove it.
    Evict,
}

/// The activator that ends `cut`: its breaker's, or the service's default where that breaker is gone; with the
/// shortest time that a cut may last.
#[must_use]
pub fn activator_of<'a>(policy: &'a ServicePolicy, cut: &Cut) -> (&'a ActivatorPolicy, Duration) {
    match cut.breaker.as_deref().and_then(|name| policy.breaker(name)) {
        Some(breaker) => (&breaker.activator, breaker.shortest_cut()),
        None => (&policy.default_activator, Duration::ZERO),
    }
}

/// Time from now until `cut` is due, by what is stored on the pod; never more than the longest cut of its
/// activator, so that garbage or a clock that was wrong cannot keep a pod out.
#[must_use]
pub fn remaining(policy: &ServicePolicy, member: &Member, cut: &Cut, now: Now, seed: u64) -> Duration {
    let (activator, shortest) = activator_of(policy, cut);
    let drawn = |at: jiff::Timestamp| {
        let strikes = cut.breaker.as_deref().map_or_else(|| member.strikes.total(), |b| member.strikes.of(b));
        crate::add(at, cut_time(activator, shortest, strikes, seed, &member.uid))
    };
    let Some(due) = cut.restore_at.or_else(|| cut.at.map(drawn)) else { return Duration::ZERO };
    let left = Duration::try_from(due.duration_since(now.wall)).unwrap_or_default();
    left.min(longest(activator, shortest))
}

/// What is wanted once `cut` is due. `paused` is the number of members paused already. A pod whose breaker is gone
/// from the spec is only ever restored.
#[must_use]
pub fn step(policy: &ServicePolicy, member: &Member, cut: &Cut, paused: u32) -> Step {
    // Nobody could say any more that it still fails.
    if cut.breaker.as_deref().and_then(|name| policy.breaker(name)).is_none() {
        return Step::Restore;
    }
    let (activator, _) = activator_of(policy, cut);
    if ladder_strikes(policy, member, activator) <= activator.max_retry_count {
        return Step::Restore;
    }
    match activator.mode {
        ActivatorMode::Periodic => Step::Restore,
        ActivatorMode::RetryAndKill => Step::Evict,
        ActivatorMode::RetryAndPause if paused < activator.max_pause_count => Step::Pause,
        ActivatorMode::RetryAndPause => Step::Evict,
    }
}

/// Strikes that count on this ladder: of breakers with the same activator, and what the original counted without
/// naming one. Three cuts for latency must not make the first error fatal.
fn ladder_strikes(policy: &ServicePolicy, member: &Member, activator: &ActivatorPolicy) -> u32 {
    let same = |name: &Arc<str>| match policy.breaker(name) {
        Some(breaker) => breaker.activator == *activator,
        None => policy.default_activator == *activator || name.is_empty(),
    };
    member.strikes.0.iter().filter(|(name, _)| same(name)).fold(0, |sum, (_, k)| sum.saturating_add(*k))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, breaker, custom, cut_by, now, open, policy_of};
    use crate::policy::BreakerPolicy;

    fn ladder(mode: ActivatorMode) -> ServicePolicy {
        let activator = ActivatorPolicy::new(mode, Duration::from_secs(20), 2);
        policy_of(vec![
            BreakerPolicy { activator, ..breaker("errors", custom()) },
            breaker("latency", custom()),
        ])
    }

    fn wanted(mode: ActivatorMode, strikes: u32, paused: u32) -> Step {
        let (member, cut) = cut_by("p", "errors", strikes, 0, 60);
        step(&ladder(mode), &member, &cut, paused)
    }

    #[test]
    fn retries_are_used_up_only_past_the_maximum() {
        assert_eq!(wanted(ActivatorMode::RetryAndKill, 2, 0), Step::Restore);
        assert_eq!(wanted(ActivatorMode::RetryAndKill, 3, 0), Step::Evict);
        assert_eq!(wanted(ActivatorMode::Periodic, 300, 0), Step::Restore);
    }

    #[test]
    fn a_full_ward_of_paused_pods_turns_a_pause_into_an_eviction() {
        assert_eq!(wanted(ActivatorMode::RetryAndPause, 3, 0), Step::Pause);
        assert_eq!(wanted(ActivatorMode::RetryAndPause, 3, 1), Step::Evict);
    }

    #[test]
    fn strikes_of_a_breaker_with_another_activator_are_not_on_this_ladder() {
        let (mut member, cut) = cut_by("p", "errors", 1, 0, 60);
        member.strikes.0.insert("latency".into(), 50);
        assert_eq!(step(&ladder(ActivatorMode::RetryAndKill), &member, &cut, 0), Step::Restore);
    }

    #[test]
    fn a_time_in_the_far_future_is_not_believed() {
        let (member, cut) = cut_by("p", "latency", 1, 0, 1_000_000);
        let left = remaining(&ladder(ActivatorMode::Periodic), &member, &cut, now(0), 7);
        assert_eq!(left, longest(&ActivatorPolicy::default(), breaker("x", custom()).shortest_cut()));
    }

    #[test]
    fn a_pod_of_the_original_has_no_due_time_and_gets_one_from_its_strikes() {
        let (member, mut cut) = cut_by("p", "latency", 1, 0, 60);
        cut.restore_at = None;
        cut.at = Some(at(0));
        let left = remaining(&ladder(ActivatorMode::Periodic), &member, &cut, now(5), 7);
        assert!(left > Duration::from_secs(5) && left < Duration::from_secs(60), "{left:?}");
    }

    #[test]
    fn a_cut_without_any_readable_time_is_due_at_once() {
        let cut = Cut { at: None, restore_at: None, breaker: None, severity: 0.0 };
        assert_eq!(remaining(&ladder(ActivatorMode::Periodic), &open("p"), &cut, now(5), 7), Duration::ZERO);
    }
}
