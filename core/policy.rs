//! The validated spec of one KubervisorService, with every default resolved.
//!
//! Takes nothing raw: `kubervisor::api` parses a spec into this once, and no later stage can see the raw one.
//! Holds no URL, query or Secret: those are the sources' questions.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::detector::Detector;

/// Age of a pod below which no relative detector compares it: a warming pod is no peer.
pub const MIN_POD_AGE: Duration = Duration::from_secs(30);
/// Time between two scrapes where the spec does not say: Prometheus' usual 15 s.
pub const SCRAPE_INTERVAL: Duration = Duration::from_secs(15);
/// Share of the fleet that may be out at once. A third more load on the rest is what people provision for;
/// at half, the cuts themselves overload it.
pub const MAX_CUT_PERCENT: u32 = 34;
/// Share of the fleet that may be anomalous before the fault is taken for something that all pods share: cutting
/// then only moves the load to the next ones.
pub const MAX_ANOMALOUS_PERCENT: u32 = 50;
/// Share of the serving pods that must be seen by a breaker, or it speaks of a part of the fleet only.
pub const MIN_COVERAGE_PERCENT: u32 = 60;
/// Evictions of one service within an hour.
pub const MAX_KILLS_PER_HOUR: u32 = 4;
/// Spread of the restores, percent of the cut time.
pub const JITTER_PERCENT: u32 = 20;

/// What one KubervisorService demands.
#[derive(Debug, Clone, PartialEq)]
pub struct ServicePolicy {
    /// Whether decisions are carried out.
    pub mode: Mode,
    /// Limits over all breakers.
    pub limits: Limits,
    /// At least one, unless made by [`ServicePolicy::returns_only`].
    pub breakers: Vec<BreakerPolicy>,
    /// Ends cuts whose breaker is no longer in the spec.
    pub default_activator: ActivatorPolicy,
    /// People's holds.
    pub holds: Vec<Hold>,
    /// Whether pods of a StatefulSet may be evicted.
    pub kill_stateful_set_pods: bool,
}

/// `spec.holds[]`: a person wants no act but returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// In the person's words.
    pub reason: Arc<str>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

impl ServicePolicy {
    /// For a spec that was never valid: nothing is ever cut, and what is cut comes back.
    #[must_use]
    pub fn returns_only() -> Self {
        Self {
            mode: Mode::Active,
            limits: Limits::default(),
            breakers: Vec::new(),
            default_activator: ActivatorPolicy::default(),
            holds: Vec::new(),
            kill_stateful_set_pods: false,
        }
    }

    /// The breaker of that name.
    #[must_use]
    pub fn breaker(&self, name: &str) -> Option<&BreakerPolicy> {
        self.breakers.iter().find(|b| &*b.name == name)
    }

    /// The breakers whose cuts are carried out.
    pub fn enforcing(&self) -> impl Iterator<Item = &BreakerPolicy> {
        self.breakers.iter().filter(|b| b.enforced)
    }

    /// Whether anything is decided only to be shown.
    #[must_use]
    pub fn has_shadow(&self) -> bool {
        self.mode == Mode::DryRun || (self.mode == Mode::Active && self.breakers.iter().any(|b| !b.enforced))
    }

    /// The same, with everything enforced: what a dry run decides by.
    #[must_use]
    pub fn enforced(&self) -> Self {
        let breakers = self.breakers.iter().map(|b| BreakerPolicy { enforced: true, ..b.clone() }).collect();
        Self { mode: Mode::Active, breakers, ..self.clone() }
    }

    /// The longest that an old measurement speaks, over all breakers.
    #[must_use]
    pub fn longest_range(&self) -> Duration {
        self.breakers.iter().map(|b| b.range).max().unwrap_or_default()
    }

    /// Time in which cuts count against `limits.cuts_per_period`, in any order of breakers: a scrape must not
    /// be spent twice, and a short evaluation period is not a licence to cut faster.
    #[must_use]
    pub fn cut_window(&self) -> Duration {
        self.breakers
            .iter()
            .map(|b| b.evaluation_period.max(b.scrape_interval))
            .max()
            .unwrap_or(SCRAPE_INTERVAL)
    }
}

/// `spec.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Decisions are carried out.
    Active,
    /// Decisions are taken by the same code and shown; no pod is written, but pods cut before are restored.
    DryRun,
    /// Nothing is decided; every pod that we hold is given back.
    Disabled,
}

/// `spec.limits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Percent of the fleet that may be out at once.
    pub max_cut_percent: u32,
    /// Cuts within [`ServicePolicy::cut_window`].
    pub cuts_per_period: CutsPerPeriod,
    /// Percent of the fleet that may be anomalous; above it, storm.
    pub max_anomalous_percent: u32,
    /// Percent of the serving pods that a breaker must see; 0 = any.
    pub min_coverage_percent: u32,
    /// Time a pod must have been Ready before it is compared with others.
    pub min_pod_age: Duration,
    /// What PodDisruptionBudgets limit.
    pub disruption: Disruption,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_cut_percent: MAX_CUT_PERCENT,
            cuts_per_period: CutsPerPeriod::Percent(10),
            max_anomalous_percent: MAX_ANOMALOUS_PERCENT,
            min_coverage_percent: MIN_COVERAGE_PERCENT,
            min_pod_age: MIN_POD_AGE,
            disruption: Disruption::Always,
        }
    }
}

/// `limits.podDisruptionBudgets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disruption {
    /// A cut pod counts as disrupted: cuts need room in every budget over it.
    Always,
    /// Only evictions are limited, by the API server itself.
    KillsOnly,
}

/// `spec.limits.maxCutsPerPeriod`: a number of pods, or a share of the fleet (at least one pod).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutsPerPeriod {
    /// Pods.
    Count(u32),
    /// Percent of the fleet, rounded down, at least one pod.
    Percent(u32),
}

impl CutsPerPeriod {
    /// Pods, for a fleet of `n`.
    #[must_use]
    pub fn pods(self, n: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => share(n, percent).max(1),
        }
    }
}

/// `percent` of `n`, rounded down.
#[must_use]
pub fn share(n: u32, percent: u32) -> u32 {
    let hundredths = u64::from(n) * u64::from(percent);
    u32::try_from(hundredths / 100).unwrap_or(u32::MAX)
}

/// One entry of `spec.breakers`.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerPolicy {
    /// Unique within the service; at most 63 characters, since it becomes a label value.
    pub name: Arc<str>,
    /// Time between two questions.
    pub evaluation_period: Duration,
    /// Time between two measurements of the source; 0 where each answer is a new one.
    pub scrape_interval: Duration,
    /// How long an old measurement still speaks in an answer: the query's longest range.
    pub range: Duration,
    /// Members that must keep traffic.
    pub floor: FloorPolicy,
    /// The rule.
    pub detector: Detector,
    /// How often a pod must be found anomalous.
    pub confirm: Confirm,
    /// Whether its cuts are carried out; `mode: DryRun` of the breaker is false.
    pub enforced: bool,
    /// How cut pods return.
    pub activator: ActivatorPolicy,
}

/// `confirm`: of the last `of` known verdicts, `anomalous` must be anomalous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirm {
    /// 1 to `of`.
    pub anomalous: u8,
    /// At most [`Confirm::MOST`].
    pub of: u8,
}

impl Confirm {
    /// Verdicts that are looked back upon at most.
    pub const MOST: u8 = 10;
    /// What a spec that says nothing gets: one odd scrape is no proof.
    pub const USUAL: Self = Self { anomalous: 2, of: 3 };
    /// The first anomalous verdict counts.
    pub const ONCE: Self = Self { anomalous: 1, of: 1 };
}

impl BreakerPolicy {
    /// A cut shorter than this would end while the query still shows what the pod did before it: the pod
    /// would be cut again for old faults, or spend its life waiting for a clean window while it serves.
    #[must_use]
    pub fn shortest_cut(&self) -> Duration {
        self.range.saturating_add(self.evaluation_period).saturating_add(self.scrape_interval)
    }
}

/// `minPodsAvailableCount` and `minPodsAvailableRatio`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FloorPolicy {
    /// Pods; absent is not the same as 1: a fleet of two is touched only where somebody set it.
    pub count: Option<u32>,
    /// Percent of the fleet, rounded up.
    pub percent: Option<u32>,
}

/// `activator` of a breaker, defaults resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivatorPolicy {
    /// What happens to a pod that keeps failing.
    pub mode: ActivatorMode,
    /// First cut time.
    pub period: Duration,
    /// How the cut time grows with strikes.
    pub growth: Growth,
    /// Its ceiling, before jitter.
    pub max_period: Duration,
    /// Spread, percent of the cut time.
    pub jitter_percent: u32,
    /// Strikes after which the pod is evicted or paused instead of restored.
    pub max_retry_count: u32,
    /// Paused pods kept; beyond it they are evicted.
    pub max_pause_count: u32,
    /// Evictions of the service within an hour.
    pub max_kills_per_hour: u32,
}

/// How the cut time grows with strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// period
    Constant,
    /// period × strikes
    Linear,
    /// period × 2^(strikes − 1)
    Exponential,
}

impl ActivatorPolicy {
    /// With the defaults that go with `mode`. The ceiling is never below what a manifest of the original asks
    /// for with its last retry, so that a long period is not shortened into more cuts.
    #[must_use]
    pub fn new(mode: ActivatorMode, period: Duration, max_retry_count: u32) -> Self {
        let growth = match mode {
            ActivatorMode::Periodic => Growth::Exponential,
            ActivatorMode::RetryAndKill | ActivatorMode::RetryAndPause => Growth::Linear,
        };
        let max_period = Duration::from_mins(5).max(period.saturating_mul(max_retry_count.saturating_add(1)));
        Self {
            mode,
            period,
            growth,
            max_period,
            jitter_percent: JITTER_PERCENT,
            max_retry_count,
            max_pause_count: 1,
            max_kills_per_hour: MAX_KILLS_PER_HOUR,
        }
    }
}

impl Default for ActivatorPolicy {
    fn default() -> Self {
        Self::new(ActivatorMode::Periodic, Duration::from_secs(10), 3)
    }
}

/// `activator.mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivatorMode {
    /// Restored after each cut, for ever.
    Periodic,
    /// Evicted after `max_retry_count` strikes.
    RetryAndKill,
    /// Kept out for investigation after `max_retry_count` strikes.
    RetryAndPause,
}
