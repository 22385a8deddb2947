//! All of the controller, as `kubervisor run` starts it, on a small API server in memory, with a source whose answers
//! the test decides. Under a paused clock: minutes pass at once, and nothing waits for a real second.
#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "shared by tests, none of which uses all of it"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::Client;
use kubervisor::api::Defaults;
use kubervisor::cluster::brake::{Brake, CutsPerMinute};
use kubervisor::cluster::cache::Cache;
use kubervisor::cluster::mandate::Mandate;
use kubervisor::cluster::registry::Registry;
use kubervisor::cluster::scope::Scope;
use kubervisor::metrics::Metrics;
use kubervisor::sources::{Answer, Question, Slot, Source, SourceError};
use kubervisor::turn::{Outside, Running, Turn};
use kubervisor_core::plan::Plan;
use kubervisor_core::sample::{Reading, Row, Samples};
use kubervisor_core::tick::tick;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod parts;
mod server;

pub use parts::merge;
use server::Plug;
pub use server::Server;

/// Second 0 of a story, as wall time.
const START: i64 = 1_700_000_000;

/// What a page says, and how often it was asked.
type Page = (Samples, usize);

/// Names the pods that the test calls bad, and counts how often it was asked.
#[derive(Clone, Default)]
pub struct Says {
    pages: Arc<Mutex<BTreeMap<String, Page>>>,
}

fn answer(pods: &[&str]) -> Samples {
    Samples::new(pods.iter().map(|pod| row(pod)).collect(), false)
}

/// A pod by its name, or by namespace/name.
fn row(pod: &str) -> Row {
    let (namespace, name) = match pod.split_once('/') {
        Some((namespace, name)) => (Some(namespace.into()), name),
        None => (None, pod),
    };
    Row { namespace, pod: name.into(), key: None, reading: Reading::Number(1.0) }
}

impl Source for Says {
    fn ask<'a>(&'a self, question: &'a Question, _: Slot) -> BoxFuture<'a, Result<Arc<Answer>, SourceError>> {
        let page = question.endpoint().as_str().rsplit('/').next().unwrap_or_default().to_owned();
        let mut pages = self.pages.lock().unwrap();
        let (said, times) = pages.entry(page).or_insert_with(|| (answer(&[]), 0));
        *times += 1;
        let (samples, now) = (said.clone(), Instant::now());
        let said = Answer { samples, asked_at: now, answered_at: now, dropped: 0, warnings: Vec::new() };
        async move { Ok(Arc::new(said)) }.boxed()
    }
}

/// A controller that runs.
pub struct Stage {
    pub server: Server,
    pub metrics: Metrics,
    says: Says,
    left: Arc<Mutex<Option<u32>>>,
    plans: Arc<Mutex<Vec<Plan>>>,
    stop: CancellationToken,
    _running: Running,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Stage {
    /// The controller starts, on what the server holds.
    pub fn start(server: &Server) -> Self {
        Self::start_in(server, &Scope::Cluster)
    }

    /// One that looks after some namespaces only.
    pub fn start_in(server: &Server, scope: &Scope) -> Self {
        let (says, plans, metrics) = (Says::default(), Arc::<Mutex<Vec<Plan>>>::default(), Metrics::new());
        let (told, started) = (Arc::clone(&plans), Instant::now());
        let wall = move || Timestamp::from_second(START).unwrap() + started.elapsed();
        let left = Arc::<Mutex<Option<u32>>>::default();
        let plug = Plug { server: server.clone(), left: Arc::clone(&left) };
        let outside = Outside {
            client: Client::new(plug, "kubervisor"),
            source: Arc::new(says.clone()),
            wall: Arc::new(wall),
            decide: Arc::new(move |input, memory| {
                let plan = tick(input, memory);
                told.lock().unwrap().push(plan.clone());
                plan
            }),
        };
        let stop = CancellationToken::new();
        let turn = Turn {
            outside,
            cache: Arc::<Cache>::default(),
            registry: Arc::<Registry>::default(),
            mandate: Mandate::unlimited(),
            brake: Brake::new(CutsPerMinute::default()),
            metrics: metrics.clone(),
            defaults: Defaults::default(),
            dry_run: false,
            stop: stop.clone(),
        };
        let running = turn.start(scope);
        Self { server: server.clone(), metrics, says, left, plans, stop, _running: running }
    }

    /// The page `errors` calls these pods bad from now on, and no others.
    pub fn bad(&self, pods: &[&str]) -> &Self {
        self.page("errors", pods)
    }

    pub fn page(&self, page: &str, pods: &[&str]) -> &Self {
        let said = answer(pods);
        let mut pages = self.says.pages.lock().unwrap();
        pages.entry(page.to_owned()).and_modify(|page| page.0 = said.clone()).or_insert((said, 0));
        drop(pages);
        self
    }

    /// The controller dies when it has sent so many more writes to pods: nothing else that it sends arrives.
    pub fn dies_after(&self, writes: u32) {
        *self.left.lock().unwrap() = Some(writes);
    }

    pub async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// Ticks so far.
    pub fn ticks(&self) -> usize {
        self.plans.lock().unwrap().len()
    }

    pub fn last_plan(&self) -> Plan {
        self.plans.lock().unwrap().last().unwrap().clone()
    }

    /// How often a page was asked.
    pub fn asked(&self, page: &str) -> usize {
        self.says.pages.lock().unwrap().get(page).map_or(0, |(_, times)| *times)
    }

    pub fn label(&self, namespace: &str, pod: usize) -> String {
        let pod = self.server.get(&pod_path(namespace, pod));
        pod["metadata"]["labels"]["kubervisor/traffic"].as_str().unwrap_or("-").to_owned()
    }

    /// The first `pods` of the namespace `orchard` that are out of traffic.
    pub fn out(&self, pods: usize) -> Vec<usize> {
        (0..pods).filter(|i| self.label("orchard", *i) != "yes").collect()
    }

    /// The most of them that were out at once within this time, looked at twice a second.
    pub async fn most_out(&self, pods: usize, seconds: u64) -> usize {
        let mut most = 0;
        for _ in 0..seconds * 2 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            most = most.max(self.out(pods).len());
        }
        most
    }
}

pub fn pod_path(namespace: &str, index: usize) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/pear-{index}")
}

pub fn service_path(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/services/pears")
}

pub fn resource_path(namespace: &str) -> String {
    format!("/apis/kubervisor.k8s.io/v1alpha1/namespaces/{namespace}/kubervisorservices/pick")
}

pub fn pod(namespace: &str, index: usize) -> Value {
    json!({
        "metadata": {
            "name": format!("pear-{index}"), "namespace": namespace, "uid": format!("uid-{namespace}-{index}"),
            "labels": {"app": "pear", "kubervisor/traffic": "yes"}, "annotations": {"theirs": "kept"},
            "creationTimestamp": "2023-11-01T00:00:00Z",
            "ownerReferences": [{"kind": "ReplicaSet", "name": "pear", "controller": true}],
        },
        "spec": {"nodeName": "tree", "containers": [{"name": "main", "image": "pear:3"}]},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2023-11-01T00:00:00Z"}]},
    })
}

pub fn service(namespace: &str, selector: &Value) -> Value {
    json!({"metadata": {"name": "pears", "namespace": namespace, "uid": format!("uid-of-service-{namespace}")},
        "spec": {"selector": selector}})
}

/// A KubervisorService with the original's reach: one answer is enough, and only the floor limits. `rule` goes over its
/// breaker `errors`, which asks the page `errors` every 5 s.
pub fn resource(namespace: &str, rule: &Value) -> Value {
    let mut breaker = json!({"name": "errors", "customService": "source.test/errors", "evaluationPeriod": 5,
        "confirm": {"anomalous": 1, "of": 1}});
    merge(&mut breaker, rule);
    json!({
        "apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService",
        "metadata": {"name": "pick", "namespace": namespace, "uid": format!("uid-of-pick-{namespace}"), "generation": 1},
        "spec": {
            "service": "pears", "breakers": [breaker],
            "limits": {"maxCutRatio": 100, "maxCutsPerPeriod": "100%", "maxAnomalousRatio": 100, "minCoverageRatio": 0},
        },
    })
}

/// A namespace with `pods` pods, their gated Service and its KubervisorService.
pub fn orchard(server: &Server, namespace: &str, pods: usize, rule: &Value) {
    (0..pods).for_each(|i| server.put(&pod_path(namespace, i), pod(namespace, i)));
    server.put(
        &service_path(namespace),
        service(namespace, &json!({"app": "pear", "kubervisor/traffic": "yes"})),
    );
    server.put(&resource_path(namespace), resource(namespace, rule));
}

/// For what is no controller.
pub fn client(server: &Server) -> Client {
    Client::new(Plug { server: server.clone(), left: Arc::default() }, "kubervisor")
}

/// One namespace, `orchard`, and a controller that has started.
pub fn one_orchard(pods: usize, rule: &Value) -> Stage {
    let server = Server::default();
    orchard(&server, "orchard", pods, rule);
    Stage::start(&server)
}
