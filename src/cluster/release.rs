//! Giving pods back: which marked pods nobody holds any more, and the proof of it.
//!
//! One way for the janitor, mode Disabled, deletion and `kubervisor release`. A pod is freed only on proof: a list
//! that is synced, and an answer of the server itself that its KubervisorService is not there, or is being deleted. A
//! 403, a time-out or a kind that is not served proves nothing.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams, ObjectMeta};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::apply::{Outcome, PodAddress, Writer};
use super::brake::Brake;
use super::cache::Cache;
use super::keyhole::Keyhole;
use super::lists::{List, Listed};
use super::mandate::Mandate;
use super::marked::Marked;
use super::scope::{Scope, request_path};
use super::selector::KeyWriter;
use super::{CallError, call, watch};
use crate::api::{KubervisorService, Marks, key};
use crate::metrics::Metrics;

/// Frees one marked pod. Telling of it is the caller's.
pub async fn free(writer: &Writer, pod: &Marked, now: jiff::Timestamp) -> Outcome {
    let address =
        PodAddress { namespace: &pod.namespace, name: &pod.name, uid: &pod.uid, version: pod.version };
    let outcome = writer.free(&address, now).await;
    if let Outcome::Refused(error) | Outcome::Unknown(error) = &outcome {
        tracing::warn!(namespace = %pod.namespace, pod = %pod.name, %error, "could not be released yet");
    }
    outcome
}

/// Whether the server itself says that nothing holds `pod`: no KubervisorService of the name in its mark or, where
/// the mark has none, none in its namespace but those that are `known` not to reach it, by their uid. One that is
/// being deleted holds nothing any more, whatever finalizer keeps it.
///
/// # Errors
/// The server did not answer, or has no such kind: nothing is proved.
pub async fn unheld(
    client: &Client,
    pod: &Marked,
    known: &(dyn Fn(&str) -> bool + Sync),
) -> Result<bool, CallError> {
    let api: Api<KubervisorService> = Api::namespaced(client.clone(), &pod.namespace);
    let Some(by) = &pod.by else {
        let held =
            |meta: &ObjectMeta| meta.deletion_timestamp.is_none() && !meta.uid.as_deref().is_some_and(known);
        return Ok(!all_of(&api).await?.iter().any(held));
    };
    match call(api.get_metadata(by)).await {
        Ok(found) => Ok(found.metadata.deletion_timestamp.is_some()),
        Err(error) if object_is_missing(&error, by) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether the server itself says that a namespace has no KubervisorService of this uid, or only one that is being
/// deleted.
///
/// # Errors
/// The server did not answer, or has no such kind: nothing is proved.
pub async fn gone(client: &Client, namespace: &str, uid: &str) -> Result<bool, CallError> {
    let api: Api<KubervisorService> = Api::namespaced(client.clone(), namespace);
    let held = |meta: &ObjectMeta| meta.deletion_timestamp.is_none() && meta.uid.as_deref() == Some(uid);
    Ok(!all_of(&api).await?.iter().any(held))
}

/// Not from the server's cache: that may lag behind a resource just made.
async fn all_of(api: &Api<KubervisorService>) -> Result<Vec<ObjectMeta>, CallError> {
    let (mut found, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = call(api.list_metadata(&params)).await?;
        found.extend(page.items.into_iter().map(|object| object.metadata));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// A 404 that names the object. One that does not is about the kind: the CustomResourceDefinition is gone, and with
/// it any knowledge of what should hold.
fn object_is_missing(error: &CallError, name: &Arc<str>) -> bool {
    match error {
        CallError::Refused(status) => {
            status.code == 404 && status.details.as_ref().is_some_and(|d| *d.name == **name)
        }
        CallError::Unknown(_) | CallError::NotSent(_) => false,
    }
}

/// What `release` does about Services that still hold the key: pods born later would be dark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selectors {
    /// Fails with their list.
    Refuse,
    /// Takes the key out of them, before any pod is freed.
    Open,
    /// Leaves them.
    AcceptDark,
}

/// Objects asked for at a time, without their specs.
const PAGE: u32 = 500;
/// Time in which everything must be free.
const RELEASE_WITHIN: Duration = Duration::from_mins(2);
/// A list that may not be made is tried for so long.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// Writes at once.
const AT_ONCE: usize = 4;
/// Rounds of taking keys out in which one was refused. After them the pods go back all the same: one Service that may not
/// be written must keep nobody out.
const TRIES: u32 = 5;
/// Rounds in all, half a minute: a key that somebody puts back each time, or whose Service is never as the watch shows it,
/// must keep nobody out either; a watch that lags needs some of them.
const ROUNDS: u32 = 150;
/// Pods in one command.
const NAMED_MAX: usize = 50;
/// Between two looks at what the watch shows.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What the watches show of the namespaces in which pods are given back.
struct Ground<'a> {
    cache: &'a Cache,
    /// Namespaces of the scope that are none of it.
    except: &'a [String],
}

impl Ground<'_> {
    fn has(&self, namespace: &str) -> bool {
        !self.except.iter().any(|spared| spared == namespace)
    }

    fn gated(&self) -> Vec<Keyhole> {
        let mut gated = self.cache.gated();
        gated.retain(|hole| self.has(&hole.namespace));
        gated
    }

    fn marked(&self) -> Vec<Marked> {
        let mut marked = self.cache.marked();
        marked.retain(|pod| self.has(&pod.namespace));
        marked
    }
}

/// Frees every pod of `scope`, but of the namespaces of `except`, that carries our mark, and proves it by a list of the
/// server's own.
///
/// # Errors
/// What is still held after two minutes, or which Services still hold the key; `stop` came first.
pub async fn release_all(
    client: &Client,
    scope: &Scope,
    except: &[String],
    selectors: Selectors,
    mandate: &Mandate,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let cache = Arc::new(Cache::default());
    let watches = stop.child_token();
    let _guard = watches.clone().drop_guard();
    cache.expect(&scope.each());
    for scope in scope.each() {
        let path = |plural| request_path("/api/v1", scope.as_deref(), plural);
        let (pods, services) = (cache.pods(scope.clone()), cache.services(scope.clone()));
        tokio::spawn(watch::run(client.clone(), path("pods"), pods, watches.clone()));
        tokio::spawn(watch::run(client.clone(), path("services"), services, watches.clone()));
    }
    let (metrics, tasks) = (Metrics::new(), TaskTracker::new());
    let writer = Writer::new(
        client.clone(),
        Arc::clone(&cache),
        mandate.clone(),
        Brake::default(),
        metrics,
        tasks,
        watches.clone(),
    );
    let ground = Ground { cache: &cache, except };
    let work = async {
        listed(&cache).await?;
        take_keys(&KeyWriter::new(client.clone(), mandate.clone()), &ground, selectors).await;
        free_all(&ground, &writer).await;
        anyhow::Ok(())
    };
    let in_time = tokio::select! {
        biased;
        () = stop.cancelled() => anyhow::bail!("stopped before it was done: some pods may be held yet, so run it again"),
        done = tokio::time::timeout(RELEASE_WITHIN, work) => done.map_or(Ok(false), |done| done.map(|()| true))?,
    };
    tell_words(&ground);
    let held = still_held(client, scope, &ground).await?;
    anyhow::ensure!(held.is_empty(), "these pods are still held: {}", held.join(", "));
    anyhow::ensure!(
        in_time,
        "no pod is out, but not everything was read and written within {} s, and a key may be left in a selector: run it again",
        RELEASE_WITHIN.as_secs()
    );
    let action = match selectors {
        Selectors::AcceptDark => return Ok(()),
        Selectors::Refuse => "run again with --open-selectors, or with --accept-dark",
        Selectors::Open => {
            "see above why it stays, and take it out with kubectl edit, or run again with --accept-dark instead"
        }
    };
    let gated = ground.gated();
    anyhow::ensure!(
        gated.is_empty(),
        "every pod is free, but these Services still hold kubervisor/traffic in their selector, so that pods born \
         later get no traffic: {}; {action}",
        gated.iter().map(|hole| format!("{}/{}", hole.namespace, hole.name)).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// Waits for the first lists. A right that was given just now is known to the server a moment later; one that is missing
/// for longer would only be waited for in vain.
async fn listed(cache: &Cache) -> anyhow::Result<()> {
    let start = Instant::now();
    while !cache.synced() {
        let refused: Vec<_> =
            cache.lists().into_iter().filter(|list| list.state == Listed::Forbidden).collect();
        if start.elapsed() > REFUSED_FOR && !refused.is_empty() {
            let place =
                |list: &List| list.scope.as_ref().map_or(String::new(), |ns| format!(" in namespace {ns}"));
            let named: Vec<_> =
                refused.iter().map(|list| format!("{}{}", list.resource, place(list))).collect();
            anyhow::bail!(
                "nothing is released: it takes the right to list and watch {}; where that namespace is gone, leave it out",
                named.join(", ")
            );
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Names the pods that a person's word cuts again, with the command that clears it: that word is not ours to clear.
fn tell_words(ground: &Ground<'_>) {
    for (namespace, pods) in ground.cache.said_cut().into_iter().filter(|(ns, _)| ground.has(ns)) {
        let more = pods.len().saturating_sub(NAMED_MAX);
        let named = pods.iter().take(NAMED_MAX).map(|pod| &**pod).collect::<Vec<_>>().join(" ");
        tracing::warn!(
            %namespace,
            more,
            "the word Cut stays on pods, and a controller that runs cuts them again; to clear it: kubectl annotate -n \
             {namespace} pods {named} {}-",
            key::OVERRIDE
        );
    }
}

/// Takes keys out of selectors until the watch shows none: those that a controller added, and with `Open` all of them.
async fn take_keys(writer: &KeyWriter, ground: &Ground<'_>, selectors: Selectors) {
    // A key of another value is somebody else's.
    let wanted = |hole: &Keyhole| selectors == Selectors::Open || hole.managed_by.is_some();
    let ours = |hole: &Keyhole| wanted(hole) && (hole.turned() || hole.managed_by.is_some());
    let mut failures = 0;
    for _ in 0..ROUNDS {
        let mut gated = ground.gated();
        gated.retain(ours);
        if gated.is_empty() || failures == TRIES {
            break;
        }
        let mut failed = false;
        for hole in &gated {
            let (namespace, service) = (&hole.namespace, &hole.name);
            match writer.take(hole).await {
                Ok(_) => tracing::info!(%namespace, %service, "the key is taken out of its selector"),
                // The watch is about to show what it is now.
                Err(error) if error.code() == Some(409) => {}
                Err(error) => {
                    tracing::warn!(%namespace, %service, %error, "its key could not be taken out yet");
                    failed = true;
                }
            }
        }
        failures += u32::from(failed);
        tokio::time::sleep(if failed { LOOK_AGAIN * 10 } else { LOOK_AGAIN }).await;
    }
    for Keyhole { namespace, name: service, key, .. } in ground.gated().iter().filter(|hole| wanted(hole)) {
        tracing::warn!(
            %namespace,
            %service,
            key = key.as_deref(),
            "its key stays: another value than yes is not ours, or its selector may not be written, or somebody else writes \
             it all the time"
        );
    }
}

async fn free_all(ground: &Ground<'_>, writer: &Writer) {
    loop {
        let held = ground.marked();
        if held.is_empty() {
            return;
        }
        let now = jiff::Timestamp::now();
        let free = held.iter().filter(|pod| !pod.in_flight).map(|pod| free(writer, pod, now));
        let outcomes: Vec<_> = futures::stream::iter(free).buffer_unordered(AT_ONCE).collect().await;
        let freed = outcomes.iter().filter(|o| matches!(o, Outcome::Done)).count();
        tracing::info!(held = held.len(), freed, "pods are given back");
        // What was refused is not tried again at once.
        tokio::time::sleep(if freed > 0 { Duration::from_millis(100) } else { Duration::from_secs(2) }).await;
    }
}

/// Pods that the server itself still shows as held by us. Those that people cut are listed, and left.
async fn still_held(client: &Client, scope: &Scope, ground: &Ground<'_>) -> anyhow::Result<Vec<String>> {
    let mut held = Vec::new();
    let params = ListParams::default().labels(&format!("{} in ({}, {})", key::TRAFFIC, key::NO, key::PAUSE));
    for scope in scope.each() {
        let api: Api<Pod> = match scope.as_deref() {
            None => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        };
        for pod in call(api.list_metadata(&params)).await?.items {
            let namespace = pod.metadata.namespace.unwrap_or_default();
            if !ground.has(&namespace) {
                continue;
            }
            let name = format!("{namespace}/{}", pod.metadata.name.unwrap_or_default());
            let marks = Marks::read(
                &pod.metadata.labels.unwrap_or_default(),
                &pod.metadata.annotations.unwrap_or_default(),
            );
            if marks.is_some_and(|m| m.ours()) {
                held.push(name);
            } else {
                tracing::info!(pod = name, "was cut by hand and is left so");
            }
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use kube::client::Body;
    use kube::core::Status;

    fn refused(json: serde_json::Value) -> CallError {
        CallError::Refused(Box::new(serde_json::from_value::<Status>(json).unwrap()))
    }

    #[test]
    fn only_a_404_that_names_the_object_proves_that_it_is_gone() {
        let details =
            serde_json::json!({"name": "pick", "group": "kubervisor.k8s.io", "kind": "kubervisorservices"});
        let name: Arc<str> = "pick".into();
        let status = |code: u16, details: Option<&serde_json::Value>| {
            refused(
                serde_json::json!({"status": "Failure", "code": code, "message": "", "reason": "", "details": details}),
            )
        };
        assert!(object_is_missing(&status(404, Some(&details)), &name));
        assert!(!object_is_missing(&status(404, None), &name));
        assert!(!object_is_missing(&status(403, Some(&details)), &name));
        assert!(!object_is_missing(&CallError::Unknown("timed out".into()), &name));
    }

    #[tokio::test(start_paused = true)]
    async fn a_release_that_got_no_list_of_all_in_time_does_not_say_that_pods_are_held() {
        // The proof at the end alone is answered.
        let silent = |request: Request<Body>| async move {
            let accepts = request.headers()[http::header::ACCEPT].to_str().unwrap_or_default().to_owned();
            if !accepts.contains("PartialObjectMetadataList") {
                std::future::pending::<()>().await;
            }
            let none = serde_json::json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {}, "items": []});
            Ok::<_, std::io::Error>(Response::new(Body::from(none.to_string().into_bytes())))
        };
        let client = Client::new(tower::service_fn(silent), "orchard");
        let (mandate, stop) = (Mandate::unlimited(), CancellationToken::new());
        let released = release_all(&client, &Scope::Cluster, &[], Selectors::Open, &mandate, &stop).await;
        let why = released.unwrap_err().to_string();
        assert!(
            why.starts_with("no pod is out, but not everything was read and written within 120 s"),
            "{why}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stops_a_release_does_not_wait_for_what_cannot_be_done() {
        let stop = CancellationToken::new();
        let away = |_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>();
        let client = Client::new(tower::service_fn(away), "orchard");
        let (scope, mandate) = (Scope::Cluster, Mandate::unlimited());
        let release = release_all(&client, &scope, &[], Selectors::Refuse, &mandate, &stop);
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            stop.cancel();
            Instant::now()
        };
        let (released, stopped) = tokio::join!(release, stopping);
        let why = released.unwrap_err().to_string();
        assert!(why.starts_with("stopped before it was done"), "{why}");
        assert_eq!(stopped.elapsed(), Duration::ZERO);
    }
}
