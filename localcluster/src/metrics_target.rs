//! A `/metrics` page whose text the test sets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::runtime;

/// What a scrape gets: the text, or with `None` the status 503.
type Page = Arc<Mutex<Option<String>>>;

/// A small server on loopback, for [`Prometheus`](crate::Prometheus) to scrape; gone when dropped.
pub struct MetricsTarget {
    page: Page,
    address: SocketAddr,
    task: AbortHandle,
}

impl MetricsTarget {
    /// Starts with an empty page.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start() -> anyhow::Result<MetricsTarget> {
        let page = Page::new(Mutex::new(Some(String::new())));
        let router =
            Router::new().route("/metrics", axum::routing::get(answer)).with_state(Arc::clone(&page));
        runtime::run(async move {
            let listener =
                TcpListener::bind(("127.0.0.1", 0)).await.context("no free port for a metrics target")?;
            let address = listener.local_addr().context("a metrics target without an address")?;
            let task = tokio::spawn(async { axum::serve(listener, router).await }).abort_handle();
            Ok(MetricsTarget { page, address, task })
        })
        .await
    }

    /// What every scrape gets from now on, in the Prometheus text format.
    pub fn set(&self, text: impl Into<String>) {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.into());
    }

    /// Every scrape fails from now on (503), until the next [`set`](MetricsTarget::set): the series go stale.
    pub fn fail(&self) {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for MetricsTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(page): State<Page>) -> Response {
    match page.lock().unwrap_or_else(PoisonError::into_inner).clone() {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        None => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
