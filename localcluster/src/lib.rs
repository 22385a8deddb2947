//! A real Kubernetes control plane on this machine, without containers, images or root: for tests and the demo.
//!
//! - [`Cluster`]: etcd, kube-apiserver, kube-controller-manager and, on wish, kwok as the kubelet, ready in seconds.
//!   Named actors with a token each, RBAC, and an audit log ([`Audit`]) that counts who did what.
//! - [`FaultProxy`]: stands before the API server and delays, drops, hangs, answers 4xx/5xx, holds watches back.
//! - [`Prometheus`] and [`MetricsTarget`]: a real Prometheus 3 and a `/metrics` page whose text the test sets.
//! - [`Terminal`]: a pty that a program sits at, and what it draws there.
//! - [`node`]: a real kubelet with what it needs, for root on Linux, so that pods run.
//! - [`tools`]: finds or builds the programs.
//!
//! Everything listens on loopback, on ports from the kernel, and writes into one temporary folder. Nothing of it
//! outlives the process, however that ends.
//!
//! ```no_run
//! # use k8s_openapi::api::core::v1::Pod;
//! # async fn test() -> anyhow::Result<()> {
//! let cluster = localcluster::Cluster::shared();
//! let client = cluster.client("admin")?;
//! let namespace = cluster.new_namespace(&client, "example").await?;
//! let pods = kube::Api::<Pod>::namespaced(client, &namespace);
//! # Ok(())
//! # }
//! ```

mod access;
mod audit;
mod boot;
mod cluster;
mod components;
mod data_dir;
mod metrics_target;
pub mod node;
mod options;
mod ports;
mod process;
mod prometheus;
mod proxy;
mod reaper;
mod runtime;
mod stop;
mod terminal;
pub mod tools;
mod wait;

pub use access::{ADMIN, install_crypto};
pub use audit::{Audit, AuditRecord};
pub use cluster::Cluster;
pub use components::{KWOK_NODE, NODE};
pub use metrics_target::MetricsTarget;
pub use options::Options;
pub use process::{Process, ProcessSignal, ProcessSpec};
pub use prometheus::{Prometheus, PrometheusOptions, ScrapeTarget};
pub use proxy::{Fault, FaultProxy, Match, Rule, RuleId};
pub use stop::StopSignals;
pub use terminal::Terminal;
pub use wait::until;
