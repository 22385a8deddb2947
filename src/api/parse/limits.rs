//! `limits` and activators.

use std::time::Duration;

use kubervisor_core::backoff::Growth as CoreGrowth;
use kubervisor_core::policy::{
    ActivatorMode as CoreMode, ActivatorPolicy, CutsPerPeriod, Limits, MAX_CUT_PERCENT, MIN_POD_AGE,
};

use super::Reader;
use crate::api::{ActivatorMode, ActivatorSpec, CutsPerPeriodSpec, Growth, LimitsSpec};

/// Evictions in an hour; as many are kept in the status.
const KILLS_MAX: u32 = 60;

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
        let min_pod_age = self.short("spec.limits.minPodAge", spec.min_pod_age.as_ref());
        Limits {
            min_pod_age: min_pod_age.unwrap_or(MIN_POD_AGE),
            max_cut_percent: ratio.unwrap_or(MAX_CUT_PERCENT),
            cuts_per_period,
            // Not yet in the schema: off.
            max_anomalous_percent: 100,
            min_coverage_percent: 0,
            ..Limits::default()
        }
    }
}

fn growth(growth: Growth) -> CoreGrowth {
    match growth {
        Growth::Constant => CoreGrowth::Constant,
        Growth::Linear => CoreGrowth::Linear,
        Growth::Exponential => CoreGrowth::Exponential,
    }
}
