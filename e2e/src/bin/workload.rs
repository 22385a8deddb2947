//! A pod of the shop. `POD_NAME` says which one it is.

use std::net::Ipv4Addr;

use anyhow::Context;
use e2e::workload::{PORT, router};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let name = std::env::var("POD_NAME").context("POD_NAME must say what this pod is called")?;
    let mut end = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let address = (Ipv4Addr::UNSPECIFIED, PORT);
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("cannot listen on port {PORT}"))?;
    // A process with the number 1 that did not ask for SIGTERM would never see it. Open connections end after their answer.
    let ended = async move { _ = end.recv().await };
    axum::serve(listener, router(&name)).with_graceful_shutdown(ended).await.context("cannot serve")
}
