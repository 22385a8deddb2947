//! The kind KubervisorService as users write it. Every doc comment here is a field's description in the CRD.

use std::borrow::Cow;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{
    ContinuousValueDeviationSpec, DiscreteValueOutOfListSpec, Duration, FleetOutlierSpec,
    KubervisorServiceStatus, ValueOutOfRangeSpec,
};

/// Names a Service, and the breakers that take its misbehaving pods out of traffic.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "kubervisor.k8s.io",
    version = "v1alpha1",
    kind = "KubervisorService",
    namespaced,
    status = "KubervisorServiceStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "kvs",
    shortname = "rdc",
    doc = "Takes misbehaving pods of a Service out of its traffic, never below a floor, and puts them back.",
    annotation(
        "api-approved.kubernetes.io",
        "unapproved, kept for compatibility with the original Kubervisor"
    ),
    validation = ("size(self.metadata.name) <= 63",
        "metadata.name: at most 63 characters, since it becomes a label value"),
    printcolumn = r#"{"name":"Service","type":"string","jsonPath":".spec.service"}"#,
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Members","type":"integer","jsonPath":".status.fleet.members"}"#,
    printcolumn = r#"{"name":"Serving","type":"integer","jsonPath":".status.fleet.serving"}"#,
    printcolumn = r#"{"name":"Cut","type":"integer","jsonPath":".status.fleet.cut"}"#,
    printcolumn = r#"{"name":"Paused","type":"integer","jsonPath":".status.fleet.paused"}"#,
    printcolumn = r#"{"name":"Floor","type":"integer","jsonPath":".status.fleet.floor"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct KubervisorServiceSpec {
    /// Name of the Service, in the same namespace.
    #[schemars(length(max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub service: String,
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// The rules. A pod is cut by the one that it breaks worst; all share one floor.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub breakers: Vec<BreakerSpec>,
    /// How cut pods return, for breakers that do not say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_activator: Option<ActivatorSpec>,
    /// Limits over all breakers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// People's holds: while one lasts nothing is cut, paused or evicted. Returns go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub holds: Option<Vec<HoldSpec>>,
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector_management: Option<Management>,
    /// Whether pods of a StatefulSet, which have identity and data, may be evicted. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_stateful_set_pods: Option<bool>,
    /// Whether the Service may be the one that governs a StatefulSet. A cut then takes the pod's DNS name away too, by
    /// which its members may know each other. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_governing_service: Option<bool>,
}

/// A reason to do nothing but returns.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HoldSpec {
    /// Why, for people.
    #[schemars(length(min = 1, max = 256))]
    pub reason: String,
    /// When it ends by itself, RFC 3339. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 40))]
    pub until: Option<String>,
}

/// Active: decisions are carried out. DryRun: the same decisions are shown and no pod is written. Disabled: nothing is
/// decided and every pod that was cut goes back. Default Active.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Mode {
    /// Carried out.
    Active,
    /// Shown only.
    DryRun,
    /// Not taken.
    Disabled,
}

/// Who adds `kubervisor/traffic: "yes"` to the Service's selector, without which cuts have no effect. Manual: you do, by
/// hand or in Git. Managed: the controller does, once every Ready pod carries the label and at least as many as the floor
/// do; it takes the key out again when the mode is Disabled, when the resource is deleted, and when this is Manual again.
/// Where a tool applies the Service with force (Flux, Argo CD, Helm 4), choose Manual and keep the key in Git. Default
/// Manual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Management {
    /// People, or what they use.
    #[default]
    Manual,
    /// The controller.
    Managed,
}

/// A rule and its floor. Exactly one detector.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("(has(self.discreteValueOutOfList) ? 1 : 0) + (has(self.continuousValueDeviation) ? 1 : 0) + (has(self.fleetOutlier) ? 1 : 0) + (has(self.valueOutOfRange) ? 1 : 0) + (has(self.customService) && self.customService != '' ? 1 : 0) == 1",
        "exactly one detector: discreteValueOutOfList, continuousValueDeviation, fleetOutlier, valueOutOfRange or customService")
)]
pub struct BreakerSpec {
    /// Unique within the service. It is written on the pods that this breaker cuts.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BreakerMode>,
    /// Time between two evaluations. Default 5 s. Less than 1 s is taken as 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_period: Option<Duration>,
    /// Pods that must keep traffic. Default 1. A fleet of two is touched only where this is set to 1 or less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_pods_available_count: Option<i64>,
    /// Percent of the whole fleet, cut pods included, that must keep traffic; rounded up. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub min_pods_available_ratio: Option<i64>,
    /// How often a pod must be found anomalous before it is cut. Default 2 of the last 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<ConfirmSpec>,
    /// Time between two scrapes of the pods. Default 15 s; 0 with customService, whose answers are each new. Answers that
    /// are less than this apart may tell of the same scrape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape_interval: Option<Duration>,
    /// A pod is anomalous when too large a share of its events has a bad value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discrete_value_out_of_list: Option<DiscreteValueOutOfListSpec>,
    /// A pod is anomalous when its value is too far from the rest of the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continuous_value_deviation: Option<ContinuousValueDeviationSpec>,
    /// A pod is anomalous when its value lies too many spreads away from the middle of the fleet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet_outlier: Option<FleetOutlierSpec>,
    /// A pod is anomalous when its value lies beyond a fixed bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_out_of_range: Option<ValueOutOfRangeSpec>,
    /// "host:port/path" or a URL of a service of yours. GET answers a v1 PodList of the anomalous pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub custom_service: Option<String>,
    /// Time that the custom service has to answer, at most 30 s. Default 1 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_service_timeout: Option<Duration>,
    /// Overrides the default activator, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activator: Option<ActivatorSpec>,
}

/// Of the last `of` known verdicts, `anomalous` must be anomalous.
#[derive(KubeSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.anomalous <= self.of", "confirm: anomalous is more than of")
)]
pub struct ConfirmSpec {
    /// Anomalous verdicts that it takes.
    #[schemars(range(min = 1, max = 10))]
    pub anomalous: i64,
    /// Verdicts that are looked back upon.
    #[schemars(range(min = 1, max = 10))]
    pub of: i64,
}

/// How cut pods return.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ActivatorSpec {
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ActivatorMode>,
    /// First cut time. Default 10 s. A cut is never shorter than the query's window, one evaluation and one scrape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<Duration>,
    /// Cuts after which a pod is evicted or paused. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_retry_count: Option<i64>,
    /// Pods kept paused at once; beyond it they are evicted. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_pause_count: Option<i64>,
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// The longest cut, before jitter; not less than `period`. Default: the greater of 5 minutes and
    /// period × (maxRetryCount + 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_period: Option<Duration>,
    /// A cut is up to so many percent longer, so that pods cut together do not return together. Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub jitter_percent: Option<i64>,
    /// Evictions of the service within an hour. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 60))]
    pub max_kills_per_hour: Option<i64>,
}

/// How a cut's time grows with the strikes: Constant, Linear (period × strikes) or Exponential (doubled with each).
/// Default: Exponential for periodic, Linear for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Growth {
    /// Not at all.
    Constant,
    /// By one period a strike.
    Linear,
    /// Doubled with each strike.
    Exponential,
}

/// periodic: restored after each cut. retryAndKill: evicted once maxRetryCount cuts did not help.
/// retryAndPause: kept out for investigation then. Default periodic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ActivatorMode {
    /// Restored after each cut.
    Periodic,
    /// Evicted in the end.
    RetryAndKill,
    /// Paused in the end.
    RetryAndPause,
}

/// Limits over all breakers of the service.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Percent of the fleet that may be out at once. Default 34.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_cut_ratio: Option<i64>,
    /// Cuts within the longest of the breakers' evaluation periods and scrape intervals: a number of pods, or a
    /// share such as "10%" (at least one pod). Default "10%".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cuts_per_period: Option<CutsPerPeriodSpec>,
    /// Percent of the pods that may be anomalous or cut at once. Above it, with two pods at least, it is a storm: what
    /// all pods share is no single pod's fault, and nothing new is cut until it was calm for a minute. Default 50; 100
    /// knows no storm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub max_anomalous_ratio: Option<i64>,
    /// Percent of the serving pods that a breaker must have a series of, or it cuts nothing: its source may know a part
    /// of the fleet only. Default 60; 0 asks for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub min_coverage_ratio: Option<i64>,
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_disruption_budgets: Option<PodDisruptionBudgets>,
    /// Time for which a pod must have been Ready before it is compared with others. Default 30 s. It is at least what
    /// the query looks back and one scrape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_pod_age: Option<Duration>,
}

/// Always: a pod that is out counts as disrupted, and a cut needs room in every PodDisruptionBudget over the pod.
/// KillsOnly: only evictions do. Default Always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum PodDisruptionBudgets {
    /// Cuts too.
    Always,
    /// Evictions.
    KillsOnly,
}

/// DryRun: what this breaker would cut is shown and not done; pods that it cut before go back. Default: as the resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum BreakerMode {
    /// Shown only.
    DryRun,
}

/// A number of pods, or a share of the fleet as a text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub enum CutsPerPeriodSpec {
    /// Pods.
    Count(i64),
    /// "0%" to "100%".
    Share(String),
}

impl JsonSchema for CutsPerPeriodSpec {
    fn schema_name() -> Cow<'static, str> {
        "CutsPerPeriod".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": 1_000_000,
            "pattern": "^(100|[1-9]?[0-9])%$",
            "maxLength": 4,
        })
    }
}
