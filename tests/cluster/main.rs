//! The shipped binary on a real API server, with a real controller-manager and, where a fault must not be injected,
//! a real Prometheus. `harness` sets the stage; each file of `cases` is a chapter of promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test ends this way; clippy knows only its outermost function"
)]

mod cases;
mod harness;
