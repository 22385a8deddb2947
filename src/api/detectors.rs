//! The detectors of a breaker as users write them. Every doc comment here is a field's description in the CRD.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PrometheusSpec;

/// What all detectors that ask a Prometheus share.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PromSourceSpec {
    /// "host:port" or a URL. Default: the controller's own Prometheus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub prometheus_service: Option<String>,
    /// The label that holds the pod's name. Default "pod".
    #[serde(default, rename = "podNamekey", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod_name_key: Option<String>,
    /// The label that holds the pod's namespace. Default "namespace". Series of other namespaces are left out; those
    /// without the label are taken as of this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pod_namespace_key: Option<String>,
    /// How it is asked: time, TLS, credentials, headers. Only with an own prometheusService.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusSpec>,
}

/// The share of events with a bad value.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.prometheus) || (has(self.prometheusService) && self.prometheusService != '')", "prometheus: only with an own prometheusService")
)]
pub struct DiscreteValueOutOfListSpec {
    /// Whom it asks, and how pods are found in the answer.
    #[serde(flatten)]
    pub source: PromSourceSpec,
    /// Counts of events, one series for each pod and value of `key`.
    #[serde(default, rename = "promQL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub prom_ql: Option<String>,
    /// The label that holds the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub key: Option<String>,
    /// Values that are good; with no badValues, all others are bad.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub good_values: Option<Vec<String>>,
    /// Values that are bad; with no goodValues, all others are good. With both, a value in neither counts nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub bad_values: Option<Vec<String>>,
    /// Percent of bad events that is tolerated. Default 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub tolerance: Option<i64>,
    /// Events below which nothing is said of a pod. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub min_activity: Option<i64>,
}

/// The distance from the rest of the fleet.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.prometheus) || (has(self.prometheusService) && self.prometheusService != '')", "prometheus: only with an own prometheusService")
)]
pub struct ContinuousValueDeviationSpec {
    /// Whom it asks, and how pods are found in the answer.
    #[serde(flatten)]
    pub source: PromSourceSpec,
    /// The pod's value divided by the mean of the fleet, one series for each pod.
    #[serde(default, rename = "promQL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub prom_ql: Option<String>,
    /// Percent from the mean, and from the median of the fleet, that is tolerated. May pass 100. Default 75.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub max_deviation_percent: Option<f64>,
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// Which side of the rest of the fleet is anomalous: Above (too much), Below (too little), Both.
/// Default: Both for continuousValueDeviation, Above for fleetOutlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum Direction {
    /// Either side.
    Both,
    /// Too much.
    Above,
    /// Too little.
    Below,
}

/// The distance from the middle of the fleet, in spreads: (value − median) / spread, where the spread is
/// 1.4826 × the median distance from the median, at least 5 % of the median, at least minDelta.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.prometheus) || (has(self.prometheusService) && self.prometheusService != '')", "prometheus: only with an own prometheusService"),
    validation = ("has(self.minDelta) && self.minDelta > 0.0", "minDelta: give one of more than 0"),
    validation = ("has(self.activityPromQL) == has(self.minActivity)", "give both activityPromQL and minActivity, or neither")
)]
pub struct FleetOutlierSpec {
    /// Whom it asks, and how pods are found in the answer.
    #[serde(flatten)]
    pub source: PromSourceSpec,
    /// The value, one series for each pod.
    #[serde(default, rename = "promQL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub prom_ql: Option<String>,
    /// Described at the type: the definition takes an enum's description from there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Spreads from the median that are tolerated. Default 3.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub max_score: Option<f64>,
    /// How many times the median a value must be (or the median it) to be anomalous, where both have one sign.
    /// Default 1.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 1_000_000.0))]
    pub min_ratio: Option<f64>,
    /// Distance from the median, in the value's own unit, that a value must have to be anomalous. Required, and more than 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub min_delta: Option<f64>,
    /// How busy each pod is, one series for each. Nothing is said of a pod below minActivity, or without a series.
    #[serde(default, rename = "activityPromQL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub activity_prom_ql: Option<String>,
    /// In the unit of activityPromQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub min_activity: Option<f64>,
}

/// Fixed bounds, one of them at least.
#[derive(KubeSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("!has(self.prometheus) || (has(self.prometheusService) && self.prometheusService != '')", "prometheus: only with an own prometheusService"),
    validation = ("has(self.min) || has(self.max)", "give min, max or both"),
    validation = ("!has(self.min) || !has(self.max) || self.min <= self.max", "min is more than max"),
    validation = ("has(self.activityPromQL) == has(self.minActivity)", "give both activityPromQL and minActivity, or neither")
)]
pub struct ValueOutOfRangeSpec {
    /// Whom it asks, and how pods are found in the answer.
    #[serde(flatten)]
    pub source: PromSourceSpec,
    /// The value, one series for each pod.
    #[serde(default, rename = "promQL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub prom_ql: Option<String>,
    /// The least that is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The most that is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// How busy each pod is, one series for each. Nothing is said of a pod below minActivity, or without a series.
    #[serde(default, rename = "activityPromQL", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub activity_prom_ql: Option<String>,
    /// In the unit of activityPromQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0.0))]
    pub min_activity: Option<f64>,
}
