//! What `make e2e` plays: the chart and the image on a real node, with real pods behind a real ClusterIP.
//!
//! ```text
//!  clients ──ClusterIP──► kube-proxy ──► ten pods (workload) ◄──scrape── Prometheus ◄──query── kubervisor (chart, 2 pods)
//!     │ each answer                         ▲ kubelet, containerd                                   │ labels
//!     ▼                                     │                                                       ▼
//!  record ◄── EndpointSlices, Lease ──── API server ◄───────────────────────────────────────────────┘
//!     │                                     │ audit log
//!     └──► scenes ──► promises ◄── evidence ┘
//! ```
//!
//! Pure: [`record`], most of [`evidence`] and [`workload`]. The rest brings up, watches and pulls down. Everything runs in
//! network and mount namespaces of its own (`localcluster::node::enter`).

pub mod clients;
pub mod connection;
pub mod evidence;
pub mod eyes;
pub mod hands;
pub mod names;
pub mod play;
pub mod record;
pub mod scenes;
pub mod script;
pub mod shared;
pub mod stage;
pub mod workload;
