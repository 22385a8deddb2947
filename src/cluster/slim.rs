//! What we read of a pod, a Service and a KubervisorService. A whole Pod is never decoded: most of its 15 kB is
//! passed over by the parser and never allocated.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;
use serde::Deserialize;
use serde_json::Value;

/// A pod.
#[derive(Debug, Clone, Deserialize)]
pub struct SlimPod {
    /// Identity, labels, annotations.
    pub metadata: SlimMeta,
    /// Absent in the bare objects of a test.
    #[serde(default)]
    pub spec: SlimPodSpec,
    /// Absent in the bare objects of a test.
    #[serde(default)]
    pub status: SlimPodStatus,
}

/// The part of ObjectMeta that matters.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimMeta {
    #[allow(missing_docs)]
    pub name: String,
    #[allow(missing_docs)]
    #[serde(default)]
    pub namespace: String,
    #[allow(missing_docs)]
    #[serde(default)]
    pub uid: String,
    #[allow(missing_docs)]
    #[serde(default)]
    pub resource_version: String,
    /// Of kinds that have one.
    #[serde(default)]
    pub generation: i64,
    #[allow(missing_docs)]
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[allow(missing_docs)]
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Set while the object is being deleted.
    #[serde(default)]
    pub deletion_timestamp: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub creation_timestamp: Option<String>,
    /// What made it.
    #[serde(default)]
    pub owner_references: Vec<SlimOwner>,
}

/// An owner reference.
#[derive(Debug, Clone, Deserialize)]
pub struct SlimOwner {
    #[allow(missing_docs)]
    pub kind: String,
    /// Whether it is the one that would replace the pod.
    #[serde(default)]
    pub controller: bool,
}

/// A pod's spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimPodSpec {
    /// Absent until it is scheduled.
    #[serde(default)]
    pub node_name: Option<String>,
}

/// A pod's status.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimPodStatus {
    /// `Succeeded` and `Failed` are finished.
    #[serde(default)]
    pub phase: Option<String>,
    #[allow(missing_docs)]
    #[serde(default)]
    pub conditions: Vec<SlimCondition>,
    #[allow(missing_docs)]
    #[serde(default)]
    pub container_statuses: Vec<SlimContainerStatus>,
    /// Those of them that run are sidecars.
    #[serde(default)]
    pub init_container_statuses: Vec<SlimContainerStatus>,
}

/// The status of a container.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SlimContainerStatus {
    #[allow(missing_docs)]
    #[serde(default)]
    pub state: SlimContainerState,
}

/// Its state now.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SlimContainerState {
    /// Absent while it waits or has ended.
    #[serde(default)]
    pub running: Option<SlimRunning>,
}

/// A container that runs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimRunning {
    /// RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
}

/// A condition of a pod.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimCondition {
    #[allow(missing_docs)]
    #[serde(rename = "type")]
    pub type_: String,
    #[allow(missing_docs)]
    pub status: String,
    /// RFC 3339.
    #[serde(default)]
    pub last_transition_time: Option<String>,
}

/// A Service.
#[derive(Debug, Clone, Deserialize)]
pub struct SlimService {
    /// Identity.
    pub metadata: SlimMeta,
    /// What it selects.
    #[serde(default)]
    pub spec: SlimServiceSpec,
}

/// A Service's spec.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimServiceSpec {
    /// Absent: somebody else makes its endpoints.
    #[serde(default)]
    pub selector: Option<BTreeMap<String, String>>,
    /// ClusterIP, NodePort, LoadBalancer, ExternalName.
    #[serde(default, rename = "type")]
    pub type_: Option<String>,
    /// `Local`: traffic from within goes to pods of the sender's node only.
    #[serde(default)]
    pub internal_traffic_policy: Option<String>,
    /// `Local`: traffic from outside goes to pods of the node that it enters.
    #[serde(default)]
    pub external_traffic_policy: Option<String>,
}

/// A KubervisorService whose spec is still raw: a stored object may be older than our schema.
#[derive(Debug, Clone, Deserialize)]
pub struct RawKubervisorService {
    /// Identity and generation.
    pub metadata: ObjectMeta,
    /// As stored.
    #[serde(default)]
    pub spec: Value,
    /// As stored.
    #[serde(default)]
    pub status: Value,
}
