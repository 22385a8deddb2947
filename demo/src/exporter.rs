//! Serves the metrics pages of all pods on one loopback port.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::load::Shared;
use crate::metrics;

/// Begins to serve `/metrics`, on a port of the kernel's choice, until the task ends.
///
/// # Errors
/// When there is no port to be had.
pub async fn start(
    tasks: &mut JoinSet<()>,
    workload: Shared,
    namespace: &'static str,
) -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot serve the pods' metrics")?;
    let address = listener.local_addr().context("the metrics port has no address")?;
    let app = Router::new().route("/metrics", get(page)).with_state((workload, namespace));
    tasks.spawn(async move {
        // Ends with an error only if the listener breaks; then the scrapes fail, and the promises with them.
        let _ = axum::serve(listener, app).await;
    });
    Ok(address)
}

async fn page(State((workload, namespace)): State<(Shared, &'static str)>) -> impl IntoResponse {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::page(&workload.lock(), namespace))
}
