//! The plugin as a person runs it, on a real API server beside the shipped controller: by its own name, and as
//! `kubectl kubervisor`. The stage is that of `tests/cluster`; each file of `cases` is a chapter of promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test ends this way; clippy knows only its outermost function"
)]

mod cases;
mod exposed;
#[allow(dead_code, unused_imports, reason = "the controller's own tests use the rest")]
#[path = "../../../tests/cluster/harness/mod.rs"]
mod harness;
mod person;
#[allow(dead_code, reason = "what needs no cluster is tried without one")]
#[path = "../shell/mod.rs"]
mod shell;
