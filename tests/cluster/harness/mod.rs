//! The stage of a test: a namespace with a shop in it, the shipped binary, and somebody who watches.

pub mod chart;
mod controller;
mod fake_source;
mod installed;
pub mod keys;
mod lease;
mod marks;
mod observer;
mod orchard;
mod pods;
mod release;
pub mod rights;
mod shop;
pub mod trace;
mod troubled;

pub use controller::Controller;
pub use fake_source::{Fake, FakeSource, counts};
pub use lease::{BRIEF, Takeover};
pub use observer::Observer;
pub use orchard::{Behaviour, Orchard, WELL, price_by_the_mean};
pub use shop::{Shop, breaker, custom_breaker, discrete_breaker, serve_crd};
pub use troubled::troubled;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

/// Long enough for anything that should happen soon on a loaded machine, pauses between tries included: a watch that
/// was refused is tried again after half a minute.
pub const SOON: Duration = Duration::from_secs(90);

/// A program of this workspace, as it was built beside the test that runs: cargo names to a test the programs of its own
/// package only.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let built = test.ancestors().nth(2).unwrap().join(name);
    assert!(built.exists(), "{} is not there: `make build` makes it", built.display());
    built
}

/// Waits until `ask` is true.
///
/// # Panics
/// After `limit`, with what was waited for.
pub async fn eventually<F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let asked = || {
        let answer = ask();
        async move { Ok(if answer.await { Ok(()) } else { Err("not yet".to_owned()) }) }
    };
    localcluster::until(what, limit, asked).await.unwrap();
}

/// Watches for `span` that `ask` stays true: for promises that something does not happen.
///
/// # Panics
/// As soon as it is false.
pub async fn throughout<F>(what: &str, span: Duration, mut ask: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let end = tokio::time::Instant::now() + span;
    while tokio::time::Instant::now() < end {
        assert!(ask().await, "no longer true: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
