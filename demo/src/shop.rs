//! The shop: a cluster with ten pods behind a Service, and the load on them. No controller yet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use incidents::{Load, Model, Seed};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client};
use localcluster::{ADMIN, Cluster, Options};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use crate::endpoints::{self, Endpoints};
use crate::exporter;
use crate::load::{self, Curtain, Shared};
use crate::script::{PODS, REQUESTS_PER_SECOND, quiet};
use crate::workload::Workload;

/// The namespace of `manifests/shop.yaml`.
pub const NAMESPACE: &str = "shop";
/// The name of the Deployment, the Service and the KubervisorService.
pub const SERVICE: &str = "checkout";
/// The user that the controller is.
pub const CONTROLLER: &str = "kubervisor";

const SHOP: &str = include_str!("../manifests/shop.yaml");
const RIGHTS: &str = include_str!("../manifests/rights.yaml");

/// Ten pods are there in 2 s; a machine that compiles at the same time takes ten times as long.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// A change a millisecond for a quarter of a second, until the director has read one.
const CHANGES: usize = 256;

/// A shop that is open; clients come once the curtain rises.
pub struct Shop {
    /// Pods and clients.
    pub workload: Shared,
    /// The clock of the play.
    pub curtain: Curtain,
    /// Every change of the EndpointSlices, with its time in the play, or none before it.
    pub changes: Receiver<(Option<Duration>, Endpoints)>,
    /// A client of the admin's.
    pub client: Client,
    /// Where Prometheus finds the pods' metrics, `HOST:PORT`.
    pub metrics: String,
    /// When the cluster was ready.
    pub cluster_ready: Instant,
    /// The API server and all that belongs to it.
    pub cluster: Arc<Cluster>,
    /// The load and the metrics page; they end with the shop.
    _tasks: JoinSet<()>,
}

impl Shop {
    /// Starts a cluster and fills it; ready when ten pods are in the EndpointSlices.
    ///
    /// # Errors
    /// When the cluster does not start, or the pods do not come within a minute.
    pub async fn open(seed: Seed, say: impl Fn(&str)) -> anyhow::Result<Self> {
        say("starting etcd, kube-apiserver, kube-controller-manager and kwok");
        let actors = vec![CONTROLLER.to_owned()];
        let cluster = Cluster::start(Options { kwok: true, actors, ..Options::default() }).await?;
        let cluster_ready = Instant::now();
        say("cluster ready");
        let cluster = Arc::new(cluster);
        apply(&cluster, RIGHTS).await?;
        apply(&cluster, SHOP).await?;
        let client = cluster.client(ADMIN)?;
        let mut tasks = JoinSet::new();
        let load = Load::new(seed, REQUESTS_PER_SECOND);
        let workload = Shared::new(Workload::new(Model::new(seed, quiet()), load));
        let curtain = Curtain::default();
        let (sender, mut changes) = channel(CHANGES);
        let slices = Api::<EndpointSlice>::namespaced(client.clone(), NAMESPACE);
        let endpoints = endpoints::of_service(slices, SERVICE);
        tasks.spawn(load::run(workload.clone(), curtain.clone(), endpoints, sender));
        let metrics = exporter::start(&mut tasks, workload.clone(), NAMESPACE).await?.to_string();
        let pods = all_serving(&mut changes).await?;
        // Names are sorted, so that a pod's ordinal does not depend on the order in which they became Ready.
        pods.iter().for_each(|name| workload.lock().enrol(name));
        say(&format!("{} pods serve", pods.len()));
        Ok(Self { workload, curtain, changes, client, metrics, cluster_ready, cluster, _tasks: tasks })
    }

    /// Lets clients come and go while nobody looks at the changes. Ends only if the load does.
    pub async fn stay_open(&mut self) {
        // Unread changes would fill their channel, and the load would wait for room.
        while self.changes.recv().await.is_some() {}
    }
}

/// Waits until all pods are endpoints.
async fn all_serving(changes: &mut Receiver<(Option<Duration>, Endpoints)>) -> anyhow::Result<Endpoints> {
    let mut serving = 0;
    let wait = async {
        while let Some((_, endpoints)) = changes.recv().await {
            serving = endpoints.len();
            if serving == PODS {
                return Ok(endpoints);
            }
        }
        anyhow::bail!("the load generator ended")
    };
    let outcome = timeout(OPEN_LIMIT, wait).await;
    outcome.with_context(|| format!("only {serving} of {PODS} pods serve after {OPEN_LIMIT:?}"))?
}

/// `kubectl apply`, as a user would.
///
/// # Errors
/// When it fails, with its words.
pub async fn apply(cluster: &Arc<Cluster>, manifest: &'static str) -> anyhow::Result<()> {
    let cluster = Arc::clone(cluster);
    let work = move || cluster.kubectl(ADMIN, &["apply", "-f", "-"], Some(manifest));
    let output = spawn_blocking(work).await.context("kubectl's thread panicked")??;
    let words = || String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "kubectl apply failed ({}): {}", output.status, words());
    Ok(())
}
