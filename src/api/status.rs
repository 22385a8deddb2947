//! What the controller says of a KubervisorService.

use std::borrow::Cow;

use jiff::Timestamp;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// RFC 3339 in whole seconds, as Kubernetes writes times.
#[must_use]
pub fn stamp(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What is known. No field is a heartbeat: a status that does not change is not written.
#[derive(Clone, Debug, Default, Deserialize, Serialize, KubeSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KubervisorServiceStatus {
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// One word for it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// Written by the original only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub start_time: Option<String>,
    /// All types are there from the first write on.
    #[serde(default)]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Kept for scripts that read the original's counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_count: Option<PodCount>,
    /// The fleet and its budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStatus>,
    /// The last verdicts of each breaker.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub breakers: Vec<BreakerStatus>,
    /// Pods that are out, at most 50.
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub cut: Vec<CutStatus>,
    /// The last 20 acts, a sentence each, newest last.
    #[serde(default)]
    #[schemars(length(max = 20))]
    pub recent: Vec<String>,
    /// Evictions of the last hour; each is recorded before it is asked for, and taken out where it was refused.
    #[serde(default)]
    #[schemars(length(max = 60))]
    pub kills: Vec<KillStatus>,
}

/// One word for the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum State {
    /// Evaluating, and free to act.
    Running,
    /// Evaluating and showing only.
    DryRun,
    /// Evaluating; the Service's selector does not hold the key.
    NotActivated,
    /// Something holds every action.
    Held,
    /// The spec was refused.
    InitFailed,
    /// There is no usable Service.
    ServiceNotAvailable,
    /// Another KubervisorService governs some of the same pods.
    Conflict,
    /// Switched off.
    Disabled,
}

impl State {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::DryRun => "DryRun",
            Self::NotActivated => "NotActivated",
            Self::Held => "Held",
            Self::InitFailed => "InitFailed",
            Self::ServiceNotAvailable => "ServiceNotAvailable",
            Self::Conflict => "Conflict",
            Self::Disabled => "Disabled",
        }
    }
}

/// A condition. Nothing but type and status is required: stored objects of the original lack the rest.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its name.
    #[serde(rename = "type")]
    #[schemars(length(max = 63))]
    pub type_: Cow<'static, str>,
    /// True, False or Unknown.
    #[schemars(length(max = 7))]
    pub status: Cow<'static, str>,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<Cow<'static, str>>,
    /// A sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub message: Option<String>,
    /// When the status last changed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_transition_time: Option<String>,
    /// Written by the original only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_probe_time: Option<String>,
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// The original's counts.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodCount {
    /// Pods of the Service, traffic key aside.
    #[serde(default)]
    pub nb_pods_managed: i64,
    /// Pods with label no.
    #[serde(default)]
    pub nb_pods_breaked: i64,
    /// Pods with label pause.
    #[serde(default)]
    pub nb_pods_paused: i64,
    /// Pods without a readable label.
    #[serde(default)]
    pub nb_pods_unknown: i64,
    /// When these numbers were written, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_probe_time: Option<String>,
}

/// The fleet and its budget.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// Pods of the Service, traffic key aside.
    #[serde(default)]
    pub members: i64,
    /// Ready, and reached by the Service.
    #[serde(default)]
    pub serving: i64,
    /// With label no.
    #[serde(default)]
    pub cut: i64,
    /// With label pause.
    #[serde(default)]
    pub paused: i64,
    /// Not Ready.
    #[serde(default)]
    pub not_ready: i64,
    /// Members that must serve.
    #[serde(default)]
    pub floor: i64,
    /// Cuts that are still allowed.
    #[serde(default)]
    pub headroom: i64,
    /// The limit that allows the fewest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub limited_by: Option<Cow<'static, str>>,
    /// Members divided by serving members: the load on each that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub load_factor: Option<String>,
}

/// The last verdicts of a breaker.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    /// Its name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Pods.
    #[serde(default)]
    pub healthy: i64,
    /// Pods.
    #[serde(default)]
    pub anomalous: i64,
    /// Pods.
    #[serde(default)]
    pub unknown: i64,
    /// Pods that a dry run would have cut, at most 10.
    #[serde(default)]
    #[schemars(length(max = 10), inner(length(max = 253)))]
    pub would_cut: Vec<String>,
    /// When these numbers last changed, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub last_change: Option<String>,
    /// Why the source could not be asked; empty while it answers.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub error: String,
}

/// A pod that is out.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CutStatus {
    /// Its name.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// Since when, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub since: Option<String>,
    /// The breaker that cut it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub breaker: Option<String>,
    /// Cuts not yet forgiven.
    #[serde(default)]
    pub strikes: i64,
    /// When it is due to return, RFC 3339; absent for paused pods and those that a person cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub restore_at: Option<String>,
    /// The numbers behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub why: Option<String>,
}

/// An eviction.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KillStatus {
    /// The pod's name.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// The pod's uid.
    #[schemars(length(max = 63))]
    pub uid: String,
    /// When it was recorded, RFC 3339.
    #[schemars(length(max = 40))]
    pub at: String,
}
