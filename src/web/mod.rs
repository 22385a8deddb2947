//! `/live`, `/ready` and `/metrics`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::cache::Cache;
use crate::cluster::registry::Registry;
use crate::metrics::Metrics;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Counts and times.
    pub metrics: Metrics,
    /// The views at work now: a change of scope brings new ones.
    pub views: watch::Receiver<Views>,
}

/// What the controller knows.
#[derive(Clone, Default)]
pub struct Views {
    /// The shared index.
    pub cache: Arc<Cache>,
    /// The set of KubervisorServices.
    pub registry: Arc<Registry>,
}

/// Listens, so that a port in use is an error at start.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|e| anyhow::anyhow!("cannot listen on {address}: {e}; choose another --http-addr"))
}

/// Serves until `stop`.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(pages);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let Views { cache, registry } = pages.views.borrow().clone();
    let waits = [(cache.synced(), "pods and services"), (registry.synced(), "kubervisorservices")];
    match waits.into_iter().find(|(synced, _)| !synced) {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some((_, what)) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for the first list of {what}\n"))
        }
    }
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let Views { cache, registry } = pages.views.borrow().clone();
    let [pods, services] = cache.view_ages();
    let mut ages = vec![pods, services, ("kubervisorservices", registry.oldest_view())];
    // Only where they are read: a right that is withheld is no API server out of reach.
    ages.extend(cache.budgets_age().map(|age| ("poddisruptionbudgets", Some(age))));
    let (_, assumed) = cache.sizes();
    pages.metrics.view(&ages, assumed);
    pages.metrics.watch_delays("pods", &cache.take_delays());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.text())
}
