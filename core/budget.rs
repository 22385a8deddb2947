//! What may still be taken out of traffic.
//!
//! Takes the whole fleet, the policy and the cuts of the last period; gives a budget that is spent one cut at a
//! time. Every limit is tested as it would stand *after* the cut.

use std::fmt;

use crate::fleet::{Fleet, Member};
use crate::policy::{BreakerPolicy, ServicePolicy, share};
use crate::words;

/// Members that must keep traffic, over a fleet of `n`: the strictest of the enforcing breakers, ratios rounded
/// up.
///
/// Counts every member, cut ones included: a floor over the pods still serving shrinks with each tick.
#[must_use]
pub fn floor(policy: &ServicePolicy, n: u32) -> u32 {
    let of = |b: &BreakerPolicy| {
        let by_ratio = b.floor.percent.map_or(0, |percent| share_rounded_up(n, percent));
        b.floor.count.unwrap_or(1).max(by_ratio)
    };
    policy.enforcing().map(of).max().unwrap_or(1).max(1)
}

/// `percent` of `n`, rounded up.
#[must_use]
pub fn share_rounded_up(n: u32, percent: u32) -> u32 {
    let hundredths = u64::from(n) * u64::from(percent);
    u32::try_from(hundredths.div_ceil(100)).unwrap_or(u32::MAX)
}

/// The sums of one tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// N: the fleet's size, with capacity that went away within five minutes.
    pub size: u32,
    /// Members that must keep serving.
    pub floor: u32,
    /// Members that serve, less what this tick has spent.
    pub serving: u32,
    /// Members that are out, with what this tick has spent.
    pub out: u32,
    /// Most members that may be out at once.
    pub max_out: u32,
    /// Cuts within the policy's window, with what this tick has spent.
    pub recent_cuts: u32,
    /// Most cuts within that window.
    pub max_recent_cuts: u32,
}

/// Which limit of the budget is the tightest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// minPodsAvailableCount and minPodsAvailableRatio
    Floor,
    /// limits.maxCutRatio
    MaxCutRatio,
    /// limits.maxCutsPerPeriod
    MaxCutsPerPeriod,
}

impl Limit {
    words! {
        /// For status and metrics.
        pub fn as_str(self: &Self) -> WORDS {
            Self::Floor => "floor",
            Self::MaxCutRatio => "maxCutRatio",
            Self::MaxCutsPerPeriod => "maxCutsPerPeriod",
        }
    }
}

impl Budget {
    /// Before anything is spent. `size` is the fleet's capacity (see [`crate::fleet::Capacity`]).
    ///
    /// Capacity that went away keeps the floor up, but allows no cut: a third of the hundred pods of five minutes
    /// ago may be all that is left.
    #[must_use]
    pub fn of(fleet: &Fleet, policy: &ServicePolicy, size: u32, recent_cuts: u32) -> Self {
        let present = size.min(fleet.size());
        Self {
            size,
            floor: floor(policy, size),
            serving: fleet.count(Member::serving),
            out: fleet.count(Member::out),
            max_out: share(present, policy.limits.max_cut_percent),
            recent_cuts,
            max_recent_cuts: policy.limits.cuts_per_period.pods(present),
        }
    }

    /// Cuts still allowed, and the limit that allows the fewest.
    #[must_use]
    pub fn headroom(&self) -> (u32, Limit) {
        let left = [
            (self.serving.saturating_sub(self.floor), Limit::Floor),
            (self.max_out.saturating_sub(self.out), Limit::MaxCutRatio),
            (self.max_recent_cuts.saturating_sub(self.recent_cuts), Limit::MaxCutsPerPeriod),
        ];
        left.into_iter().min().unwrap_or((0, Limit::Floor))
    }

    /// Takes one serving member out of the sums, or says which limit forbids it.
    ///
    /// # Errors
    /// The tightest limit that the cut would break; nothing is spent then.
    pub fn spend(&mut self) -> Result<(), Limit> {
        match self.headroom() {
            (0, limit) => Err(limit),
            _ => {
                self.serving -= 1;
                self.out += 1;
                self.recent_cuts += 1;
                Ok(())
            }
        }
    }

    /// Members that serve too few for the floor, for reasons that are not this tick's.
    #[must_use]
    pub fn shortfall(&self) -> u32 {
        self.floor.saturating_sub(self.serving)
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, floor, serving, out, max_out, recent_cuts, max_recent_cuts } = self;
        write!(
            f,
            "of {size}: {serving} serve (floor {floor}), {out} out (at most {max_out}), {recent_cuts} cut this period \
             (at most {max_recent_cuts})"
        )
    }
}

/// Why this policy could not cut one pod of `n` even if all the others were well: the sum, in words. `None` where it
/// could.
#[must_use]
pub fn inert(policy: &ServicePolicy, n: u32) -> Option<String> {
    let floor = floor(policy, n);
    let max_out = share(n, policy.limits.max_cut_percent);
    if n > 0 && policy.enforcing().all(|b| !large_enough(n, b)) {
        return Some(format!("N = {n}: no breaker touches a fleet this small"));
    }
    if n > 0 && floor >= n {
        let ratio = policy.enforcing().filter_map(|b| b.floor.percent).max().unwrap_or(0);
        let by_ratio = share_rounded_up(n, ratio) == floor;
        let sum = if by_ratio { format!("ceil({ratio} % of {n})") } else { "minPodsAvailableCount".into() };
        return Some(format!("N = {n}, floor {sum} = {floor}"));
    }
    let percent = policy.limits.max_cut_percent;
    if n > 0 && max_out == 0 {
        return Some(format!("N = {n}, maxCutRatio: floor({percent} % of {n}) = 0"));
    }
    let per_period = policy.limits.cuts_per_period.pods(n);
    (n > 0 && per_period == 0).then(|| format!("N = {n}, maxCutsPerPeriod: 0"))
}

/// Whether a fleet of `size` may be touched by `breaker` at all. One pod is never cut. Of two, only where somebody
/// set minPodsAvailableCount to 1 or less, and only by a rule that does not compare pods: between two, nobody can
/// tell which one is odd.
#[must_use]
pub fn large_enough(size: u32, breaker: &BreakerPolicy) -> bool {
    match size {
        0 | 1 => false,
        2 => breaker.floor.count.is_some_and(|count| count <= 1) && !breaker.detector.relative(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{breaker, custom, deviation, policy_of};
    use crate::policy::{FloorPolicy, MAX_CUT_PERCENT};
    use proptest::prelude::*;

    fn floors(count: Option<u32>, percent: Option<u32>) -> BreakerPolicy {
        BreakerPolicy { floor: FloorPolicy { count, percent }, ..breaker("b", custom()) }
    }

    #[test]
    fn the_floor_is_the_strictest_of_all_breakers_rounded_up() {
        let policy = policy_of(vec![floors(None, Some(67)), floors(Some(4), None)]);
        assert_eq!(floor(&policy, 3), 4);
        assert_eq!(floor(&policy, 10), 7);
    }

    #[test]
    fn a_policy_that_can_cut_nothing_says_so_with_its_sum() {
        let sum = |breaker, n| inert(&policy_of(vec![breaker]), n);
        assert_eq!(sum(floors(None, Some(67)), 3).as_deref(), Some("N = 3, floor ceil(67 % of 3) = 3"));
        assert_eq!(sum(floors(Some(4), None), 4).as_deref(), Some("N = 4, floor minPodsAvailableCount = 4"));
        assert_eq!(
            sum(floors(None, None), 1).as_deref(),
            Some("N = 1: no breaker touches a fleet this small")
        );
        assert_eq!(sum(floors(Some(1), Some(50)), 10), None);
        let mut narrow = policy_of(vec![floors(None, None)]);
        narrow.limits.max_cut_percent = 20;
        assert_eq!(inert(&narrow, 4).as_deref(), Some("N = 4, maxCutRatio: floor(20 % of 4) = 0"));
    }

    #[test]
    fn a_breaker_that_only_shows_adds_to_no_floor() {
        let shows = BreakerPolicy { enforced: false, ..floors(Some(9), None) };
        assert_eq!(floor(&policy_of(vec![shows, floors(Some(2), None)]), 10), 2);
    }

    #[test]
    fn the_floor_is_never_less_than_one() {
        assert_eq!(floor(&policy_of(vec![floors(Some(0), Some(0))]), 10), 1);
        assert_eq!(floor(&policy_of(vec![]), 10), 1);
    }

    #[test]
    fn two_pods_are_touched_only_by_an_absolute_rule_with_an_explicit_count() {
        let with_count = BreakerPolicy { detector: deviation(50.0), ..floors(Some(1), None) };
        assert!(large_enough(2, &floors(Some(1), None)));
        assert!(!large_enough(2, &floors(None, None)));
        assert!(!large_enough(2, &with_count));
        assert!(!large_enough(1, &floors(Some(0), None)));
        assert!(large_enough(3, &with_count));
    }

    #[test]
    fn the_default_share_takes_one_of_three_and_three_of_ten() {
        let max_out = |n: u32| n * MAX_CUT_PERCENT / 100;
        assert_eq!([2, 3, 4, 10, 100].map(max_out), [0, 1, 1, 3, 34]);
    }

    proptest! {
        #[test]
        fn no_order_of_spending_passes_any_limit(
            size in 0_u32..200, serving in 0_u32..200, out in 0_u32..200, recent in 0_u32..20,
            floor in 1_u32..200, max_out in 0_u32..200, per_period in 0_u32..20, tries in 0_usize..300,
        ) {
            let mut budget = Budget { size, floor, serving, out, max_out, recent_cuts: recent,
                max_recent_cuts: per_period };
            let spent = (0..tries).filter(|_| budget.spend().is_ok()).count();
            if spent > 0 {
                prop_assert!(budget.serving >= floor && budget.out <= max_out && budget.recent_cuts <= per_period);
            } else {
                prop_assert_eq!(budget.serving, serving);
            }
        }
    }
}
