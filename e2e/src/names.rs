//! What everything on the stage is called.

/// The namespace of the shop.
pub const NAMESPACE: &str = "shop";
/// The name of the shop's Deployment, Service and KubervisorService, and the label `app` of its pods.
pub const SERVICE: &str = "checkout";
/// Pods of the shop.
pub const PODS: usize = 10;
/// The release of the chart, its namespace, its Deployment and its Lease.
pub const RELEASE: &str = "kubervisor";
/// The controller's user in the audit log.
pub const ACCOUNT: &str = "system:serviceaccount:kubervisor:kubervisor";
/// The label of pods that have traffic, and the key of a Service that asks for it.
pub const TRAFFIC: &str = "kubervisor/traffic";
