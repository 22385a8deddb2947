//! What users write and read: the kind KubervisorService, and the marks on pods.
//!
//! Types and parsing only. Nothing here talks to a cluster; what is parsed here is never parsed again.

mod access;
mod cost;
mod crd;
mod detectors;
mod duration;
mod explained;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod identity;
mod marks;
mod parse;
mod service;
mod status;
mod told;

pub use access::{CaRef, PrometheusSpec, SecretRef, TlsSpec, TokenRef};
pub use cost::{Cost, priced};
pub use crd::{CRD_VERSION, CRD_VERSION_KEY, crd};
pub use detectors::{
    ContinuousValueDeviationSpec, Direction, DiscreteValueOutOfListSpec, FleetOutlierSpec, PromSourceSpec,
    ValueOutOfRangeSpec,
};
pub use duration::Duration;
pub use explained::{
    EXPLAINED_PODS_MAX, EXPLAINED_VERSION, Explained, ExplainedBreaker, ExplainedBudget, ExplainedFinding,
    ExplainedGate, ExplainedPod, ExplainedRefusal, NotExplained, Unexplained,
};
pub use identity::Identity;
pub use marks::{
    Marks, Override, TrafficLabel, cut_patch, forgive_patch, keep_out_patch, key, open_patch, pause_patch,
    restore_patch, traffic,
};
pub(crate) use parse::access::header_fault;
pub use parse::{Asked, Defaults, Parsed, parse};
pub use service::{
    ActivatorMode, ActivatorSpec, BreakerMode, BreakerSpec, ConfirmSpec, CutsPerPeriodSpec, Growth, HoldSpec,
    KubervisorService, KubervisorServiceSpec, LimitsSpec, Management, Mode, PodDisruptionBudgets,
};
pub use status::{
    BreakerStatus, Condition, CutStatus, FleetStatus, KillStatus, KubervisorServiceStatus, PodCount, State,
    stamp,
};

/// The API group of every kind of ours.
pub const GROUP: &str = "kubervisor.k8s.io";
/// Its version.
pub const VERSION: &str = "v1alpha1";
/// Plural of KubervisorService, as in request paths.
pub const PLURAL: &str = "kubervisorservices";
