//! What a successor reads before its first cut.
//!
//! The watch may be behind the last writes of the former holder, and a cut that is not seen would be spent twice. So
//! every pod that is out is asked for from the server's store, not from a cache, once no write of the former holder can
//! land any more. Its returns are not asked for: who is believed to be out is not counted as serving.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::api::ListParams;
use kube::core::Request;
use tokio_util::sync::CancellationToken;

use super::cache::Cache;
use super::mandate::{Mandate, Term};
use super::scope::request_path;
use super::slim::SlimPod;
use super::watch::{PAGE, Page};
use super::{CallError, call};
use crate::api::key;

/// Pause after a failure, and between two looks at whether the first list is complete.
const RETRY: Duration = Duration::from_secs(1);
const SYNC_PAUSE: Duration = Duration::from_millis(50);

/// Reads, at the beginning of each term, the pods of one scope that are out; runs until `stop`.
pub async fn run(
    client: Client,
    cache: Arc<Cache>,
    mandate: Mandate,
    scope: Option<Arc<str>>,
    stop: CancellationToken,
) {
    let terms = async {
        loop {
            let term = mandate.begun().await;
            tokio::select! {
                biased;
                () = mandate.ended(term) => continue,
                () = read(&client, &cache, &mandate, term, scope.as_ref()) => {}
            }
            mandate.ended(term).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = terms => {}
    }
}

async fn read(client: &Client, cache: &Cache, mandate: &Mandate, term: Term, scope: Option<&Arc<str>>) {
    if term.first {
        return;
    }
    while !(mandate.wait_is_over() && cache.pods_synced(scope)) {
        tokio::time::sleep(SYNC_PAUSE).await;
    }
    while let Err(error) = read_out(client, cache, scope).await {
        tracing::warn!(%error, "the pods that are out cannot be listed; nobody is cut before they are");
        tokio::time::sleep(RETRY).await;
    }
    mandate.has_read(term, scope.cloned());
}

async fn read_out(client: &Client, cache: &Cache, scope: Option<&Arc<str>>) -> Result<(), CallError> {
    let request = Request::new(request_path("/api/v1", scope.map(|s| &**s), "pods"));
    let out = format!("{} in ({}, {})", key::TRAFFIC, key::NO, key::PAUSE);
    let mut params = ListParams::default().labels(&out).limit(PAGE);
    loop {
        let asked = request.list(&params).map_err(|e| CallError::NotSent(e.to_string()))?;
        let page = call(client.request::<Page<SlimPod>>(asked)).await?;
        page.items.into_iter().for_each(|pod| cache.learn(pod));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
}
