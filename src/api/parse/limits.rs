//! `limits` and activators.

use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::policy::Growth as CoreGrowth;
use kubervisor_core::policy::{
    ActivatorMode as CoreMode, ActivatorPolicy, CutsPerPeriod, Disruption, Hold, Limits,
    MAX_ANOMALOUS_PERCENT, MAX_CUT_PERCENT, MIN_COVERAGE_PERCENT, MIN_POD_AGE,
};

use super::Reader;
use crate::api::{
    ActivatorMode, ActivatorSpec, CutsPerPeriodSpec, Growth, HoldSpec, LimitsSpec, PodDisruptionBudgets,
};

/// Evictions in an hour; as many are kept in the status.
const KILLS_MAX: u32 = 60;
/// Holds in a spec.
const HOLDS_MAX: usize = 16;

impl Reader<'_> {
    pub(super) fn activator(
        &mut self,
        at: &str,
        default: &ActivatorSpec,
        own: &ActivatorSpec,
    ) -> ActivatorPolicy {
        let mode = match own.mode.or(default.mode).unwrap_or(ActivatorMode::Periodic) {
            ActivatorMode::Periodic => CoreMode::Periodic,
            ActivatorMode::RetryAndKill => CoreMode::RetryAndKill,
            ActivatorMode::RetryAndPause => CoreMode::RetryAndPause,
        };
        let field = |name: &str| format!("{at}.{name}");
        let period = own.period.as_ref().or(default.period.as_ref());
        let period = self.duration(&field("period"), period).unwrap_or(Duration::from_secs(10));
        let retries = own.max_retry_count.or(default.max_retry_count);
        let retries = self.count(&field("maxRetryCount"), retries, 1_000).unwrap_or(3);
        let usual = ActivatorPolicy::new(mode, period, retries);
        let pauses = own.max_pause_count.or(default.max_pause_count);
        let jitter = own.jitter_percent.or(default.jitter_percent);
        let kills = own.max_kills_per_hour.or(default.max_kills_per_hour);
        let longest = own.max_period.as_ref().or(default.max_period.as_ref());
        let longest = self.duration(&field("maxPeriod"), longest).unwrap_or(usual.max_period);
        if longest < period {
            self.errors
                .push(format!("{at}.maxPeriod: shorter than the period of {} s", period.as_secs_f64()));
        }
        let count = |read: Option<u32>, usual: u32| read.unwrap_or(usual);
        ActivatorPolicy {
            growth: own.growth.or(default.growth).map_or(usual.growth, growth),
            max_period: longest,
            max_pause_count: count(self.count(&field("maxPauseCount"), pauses, 1_000), usual.max_pause_count),
            jitter_percent: count(self.count(&field("jitterPercent"), jitter, 100), usual.jitter_percent),
            max_kills_per_hour: count(
                self.count(&field("maxKillsPerHour"), kills, KILLS_MAX),
                usual.max_kills_per_hour,
            ),
            ..usual
        }
    }

    pub(super) fn limits(&mut self, spec: Option<&LimitsSpec>) -> Limits {
        let Some(spec) = spec else { return Limits::default() };
        let ratio = self.count("spec.limits.maxCutRatio", spec.max_cut_ratio, 100);
        let at = "spec.limits.maxCutsPerPeriod";
        let cuts_per_period = match &spec.max_cuts_per_period {
            None => Limits::default().cuts_per_period,
            Some(CutsPerPeriodSpec::Count(n)) => {
                CutsPerPeriod::Count(self.count(at, Some(*n), 1_000_000).unwrap_or(0))
            }
            Some(CutsPerPeriodSpec::Share(text)) => CutsPerPeriod::Percent(self.percent(at, text)),
        };
        let anomalous = self.count("spec.limits.maxAnomalousRatio", spec.max_anomalous_ratio, 100);
        let coverage = self.count("spec.limits.minCoverageRatio", spec.min_coverage_ratio, 100);
        let min_pod_age = self.short("spec.limits.minPodAge", spec.min_pod_age.as_ref());
        Limits {
            min_pod_age: min_pod_age.unwrap_or(MIN_POD_AGE),
            max_cut_percent: ratio.unwrap_or(MAX_CUT_PERCENT),
            cuts_per_period,
            max_anomalous_percent: anomalous.unwrap_or(MAX_ANOMALOUS_PERCENT),
            min_coverage_percent: coverage.unwrap_or(MIN_COVERAGE_PERCENT),
            disruption: match spec.pod_disruption_budgets {
                None | Some(PodDisruptionBudgets::Always) => Disruption::Always,
                Some(PodDisruptionBudgets::KillsOnly) => Disruption::KillsOnly,
            },
        }
    }

    pub(super) fn holds(&mut self, spec: Option<&Vec<HoldSpec>>) -> Vec<Hold> {
        let holds = spec.map(Vec::as_slice).unwrap_or_default();
        if holds.len() > HOLDS_MAX {
            self.errors.push(format!("spec.holds: at most {HOLDS_MAX}"));
        }
        holds.iter().map(|hold| self.hold(hold)).collect()
    }

    /// A time that cannot be read is a fault, and until it is mended the hold has no end: in doubt nothing is done.
    fn hold(&mut self, spec: &HoldSpec) -> Hold {
        let until = spec.until.as_deref().map(str::parse);
        if let Some(Err(_)) = until {
            self.errors.push(format!(
                "spec.holds[{}].until: not a time; write it as 2026-11-27T18:00:00Z",
                spec.reason.chars().take(63).collect::<String>()
            ));
        }
        Hold { reason: Arc::from(spec.reason.as_str()), until: until.and_then(Result::ok) }
    }
}

fn growth(growth: Growth) -> CoreGrowth {
    match growth {
        Growth::Constant => CoreGrowth::Constant,
        Growth::Linear => CoreGrowth::Linear,
        Growth::Exponential => CoreGrowth::Exponential,
    }
}
