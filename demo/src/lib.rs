//! The scripted incident that `make demo` runs, on a real control plane and a real Prometheus.
//!
//! ```text
//!  script ──cues──► workload (pods' answers from `incidents`, clients) ──metrics──► Prometheus ◄── kubervisor
//!                       ▲ endpoints                                                                   │ labels
//!                       └──────────────── EndpointSlices ◄──────────── API server ◄──────────────────┘
//!                                               │ every change
//!                                            record ──► promises: ok or FAILED, with figures
//!                        desk: kubectl kubervisor ──► pictures for the README
//! ```
//!
//! Pure: [`script`], [`workload`], [`metrics`], [`follow::Known`], [`record`], [`promises`],
//! [`pictures`], [`screen`].
//! The rest brings up, watches and pulls down.

pub mod controller;
pub mod desk;
pub mod endpoints;
pub mod exporter;
pub mod follow;
pub mod load;
pub mod metrics;
pub mod neighbours;
pub mod pictures;
pub mod play;
pub mod promises;
pub mod record;
pub mod screen;
pub mod script;
pub mod shop;
pub mod sights;
pub mod stage;
pub mod words;
pub mod workload;
