//! Somebody outside who watches the EndpointSlices of a Service at every change, as kube-proxy does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use futures::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use tokio::task::JoinHandle;

/// What it has seen.
pub struct Observer {
    seen: Arc<Mutex<Seen>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    slices: BTreeMap<String, BTreeSet<String>>,
    /// A list under way: until it is complete it is no change of anything.
    listing: Option<BTreeMap<String, BTreeSet<String>>>,
    /// Every change: when, and who served after it.
    changes: Vec<(Instant, BTreeSet<String>)>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    /// Watches the Service of that name from now on.
    pub fn start(client: Client, namespace: &str, service: &str) -> Self {
        let api: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().labels(&format!("kubernetes.io/service-name={service}"));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let notes = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, config).default_backoff());
            while let Some(event) = events.next().await {
                let Ok(event) = event else { continue };
                notes.lock().unwrap().take(event);
            }
        });
        Self { seen, task }
    }

    /// Pods that get traffic now.
    pub fn serving(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().changes.last().map(|(_, pods)| pods.clone()).unwrap_or_default()
    }

    /// The fewest pods that served at any moment since `from`.
    pub fn lowest_since(&self, from: Instant) -> usize {
        let seen = self.seen.lock().unwrap();
        let before = seen.changes.iter().rev().find(|(at, _)| *at <= from);
        let after = seen.changes.iter().filter(|(at, _)| *at > from);
        before.into_iter().chain(after).map(|(_, pods)| pods.len()).min().unwrap_or(0)
    }

    /// When `pod` was first seen out of traffic after `from`.
    pub fn gone_at(&self, pod: &str, from: Instant) -> Option<Instant> {
        let seen = self.seen.lock().unwrap();
        seen.changes.iter().find(|(at, pods)| *at > from && !pods.contains(pod)).map(|(at, _)| *at)
    }

    /// Changes since `from`.
    pub fn changes_since(&self, from: Instant) -> usize {
        self.seen.lock().unwrap().changes.iter().filter(|(at, _)| *at > from).count()
    }
}

impl Seen {
    fn take(&mut self, event: watcher::Event<EndpointSlice>) {
        match event {
            watcher::Event::Apply(slice) => {
                self.slices.insert(slice.name_any(), ready(&slice));
            }
            watcher::Event::Delete(slice) => {
                self.slices.remove(&slice.name_any());
            }
            watcher::Event::Init => {
                self.listing = Some(BTreeMap::new());
                return;
            }
            watcher::Event::InitApply(slice) => {
                self.listing.get_or_insert_default().insert(slice.name_any(), ready(&slice));
                return;
            }
            watcher::Event::InitDone => self.slices = self.listing.take().unwrap_or_default(),
        }
        let serving: BTreeSet<String> = self.slices.values().flatten().cloned().collect();
        self.changes.push((Instant::now(), serving));
    }
}

fn ready(slice: &EndpointSlice) -> BTreeSet<String> {
    let serves = |e: &&k8s_openapi::api::discovery::v1::Endpoint| {
        e.conditions.as_ref().is_none_or(|c| c.ready != Some(false))
    };
    let name = |e: &k8s_openapi::api::discovery::v1::Endpoint| e.target_ref.as_ref()?.name.clone();
    slice.endpoints.iter().filter(serves).filter_map(name).collect()
}
