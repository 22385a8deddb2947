//! The controller of Kubervisor: what surrounds the decisions of `kubervisor-core`.
//!
//! ```text
//!   sources   answers of Prometheus and custom services -> Samples
//!   api       the kind KubervisorService, marks on pods, spec -> policy and questions
//!   cluster   watch -> cache (+ writes in flight) -> Fleet;  Plan -> writes -> status, Events
//!   owner     one KubervisorService: asks, ticks, applies, tells
//!   supervisor, janitor, leftovers   owners come and go; pods and keys whose KubervisorService is gone
//!   turn      all of it for one scope, from a client, a source and a clock
//!   web, metrics, telemetry, args, elect, run
//! ```
//! Each line uses only lines above it, and the core.
#![forbid(unsafe_code)]

pub mod api;
pub mod args;
pub mod cluster;
pub mod elect;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod janitor;
mod leftovers;
pub mod metrics;
mod own_access;
pub mod owner;
pub mod run;
pub mod sources;
pub mod supervisor;
pub mod telemetry;
pub mod turn;
pub mod web;
