//! All that the play needs, brought up in order: a control plane with a real node, the images, the shop, Prometheus, the
//! clients. The chart comes in the first scene.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use localcluster::node::{self, Image, Node};
use localcluster::tools::{self, Tool};
use localcluster::{Cluster, Options};
use tempfile::TempDir;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};

use crate::clients;
use crate::eyes::{self, BEAT};
use crate::hands::Hands;
use crate::names::{NAMESPACE, PODS, SERVICE};
use crate::record::Record;
use crate::shared::Shared;

const SHOP: &str = include_str!("../manifests/shop.yaml");
const PROMETHEUS: &str = include_str!("../manifests/prometheus.yaml");
/// Pods are there within seconds; a machine that compiles at the same time takes ten times as long.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Of each thing that the cluster says where the stage cannot be set.
const LAST_LINES: usize = 20;

/// The programs that go into images.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `kubervisor`
    pub controller: PathBuf,
    /// `workload`
    pub workload: PathBuf,
    /// The chart's folder.
    pub chart: PathBuf,
}

/// The stage, set.
pub struct Stage {
    /// The clock and the record.
    pub shared: Shared,
    /// What people do.
    pub hands: Hands,
    /// The API server and its audit log.
    pub cluster: Arc<Cluster>,
    /// Where Prometheus answers in the cluster.
    pub prometheus: SocketAddr,
    /// The chart's folder.
    pub chart: PathBuf,
    node: Node,
    /// Clients and watches; they end with the stage.
    tasks: JoinSet<()>,
}

impl Stage {
    /// Sets the stage: ten pods serve, and clients have come.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn set(programs: &Programs, shared: &Shared) -> anyhow::Result<Self> {
        shared.tell("stage", "starting etcd, kube-apiserver, kube-controller-manager");
        let options = Options { address: Some(node::address()), ..Options::default() };
        let cluster = Arc::new(Cluster::start(options).await?);
        shared.tell("stage", "starting kube-scheduler, containerd, kubelet, kube-proxy");
        let node = Node::start(&cluster).await?;
        shared.tell("stage", &format!("the node {} is Ready", node.name()));
        bring_images(&node, programs, shared).await?;
        let hands = Hands::on(&cluster)?;
        hands.apply(SHOP).await?;
        hands.apply(PROMETHEUS).await?;
        let mut tasks = JoinSet::new();
        eyes::on_endpoints(&mut tasks, hands.client(), shared);
        let all = see(shared, PATIENCE, |record| (record.serves().len() == PODS).then_some(())).await;
        if all.is_none() {
            let said = last_words(&hands).await;
            anyhow::bail!("not all of {PODS} pods serve after {PATIENCE:?}; the cluster says:\n{said}");
        }
        let ready =
            hands.becomes("monitoring", "deployment/prometheus", "condition=Available", PATIENCE).await?;
        if !ready {
            let said = last_words(&hands).await;
            anyhow::bail!("Prometheus is not ready after {PATIENCE:?}; the cluster says:\n{said}");
        }
        shared.tell("stage", &format!("{PODS} pods serve, Prometheus scrapes them once a second"));
        let prometheus = hands.cluster_ip("monitoring", "prometheus").await?;
        let shop = hands.cluster_ip(NAMESPACE, SERVICE).await?;
        clients::come(&mut tasks, shop, shared);
        shared.tell(
            "stage",
            &format!("clients come to the ClusterIP {shop}: 100 new connections a second, and a kept one"),
        );
        let chart = programs.chart.clone();
        Ok(Self { shared: shared.clone(), hands, cluster, prometheus, chart, node, tasks })
    }

    /// Looks at the Lease and the controller's Events from now on.
    pub fn watch_the_controller(&mut self) {
        eyes::on_lease(&mut self.tasks, self.hands.client(), &self.shared);
        eyes::on_events(&mut self.tasks, self.hands.client(), &self.shared);
    }

    /// Pulls everything down, the clients first.
    ///
    /// # Errors
    /// When something of the node is left.
    pub async fn strike(self) -> anyhow::Result<()> {
        let Self { node, mut tasks, cluster, .. } = self;
        tasks.shutdown().await;
        node.stop().await?;
        drop(cluster);
        Ok(())
    }
}

/// What the cluster says of pods that do not come: its logs go with it.
async fn last_words(hands: &Hands) -> String {
    let pods = hands.kubectl(&["get", "pods", "--all-namespaces"]).await;
    let warnings = ["get", "events", "--all-namespaces", "--field-selector=type=Warning"];
    let said = [pods, hands.kubectl(&warnings).await].map(|said| {
        let said = said.unwrap_or_else(|error| format!("{error:#}"));
        let last = said.lines().count().saturating_sub(LAST_LINES);
        said.lines().skip(last).fold(String::new(), |text, line| text + line + "\n")
    });
    said.concat()
}

/// Waits until the record shows something; none after the limit.
pub async fn see<T>(
    shared: &Shared,
    limit: Duration,
    mut look: impl FnMut(&Record) -> Option<T>,
) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look(&shared.record());
        if seen.is_some() || Instant::now() >= deadline {
            return seen;
        }
        sleep(BEAT).await;
    }
}

/// Without a registry: each program with the libraries that it needs becomes an archive, which the node imports.
async fn bring_images(node: &Node, programs: &Programs, shared: &Shared) -> anyhow::Result<()> {
    let folder = TempDir::new().context("no folder for images")?;
    let prometheus =
        spawn_blocking(|| tools::ensure(Tool::Prometheus)).await.context("a thread panicked")??;
    let [controller, workload] = [&programs.controller, &programs.workload];
    for (name, program) in [("kubervisor", controller), ("workload", workload), ("prometheus", &prometheus)] {
        let archive = archive(name, program, folder.path()).await?;
        node.import(&archive).await?;
        let size = std::fs::metadata(&archive).map_or(0, |file| file.len() >> 20);
        shared.tell("image", &format!("localhost/{name}:e2e, {size} MiB"));
        // The node has its own copy.
        std::fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))?;
    }
    Ok(())
}

async fn archive(name: &str, program: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let (to, program, name) =
        (folder.join(format!("{name}.tar")), program.to_owned(), format!("localhost/{name}:e2e"));
    let work = move || Image::of_program(&name, &program)?.write(&to).map(|()| to);
    spawn_blocking(work).await.context("the thread that writes an image panicked")?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One that is not there would be asked of a registry, which nobody reaches.
    #[test]
    fn the_manifests_use_only_images_that_are_brought() {
        let lines = [SHOP, PROMETHEUS].into_iter().flat_map(str::lines);
        let images: Vec<_> = lines.filter_map(|line| line.trim().strip_prefix("image: ")).collect();
        let brought = ["workload", "prometheus"].map(|name| format!("localhost/{name}:e2e"));
        assert_eq!(images, brought);
    }

    /// The labels are the controller's or the API server's to write: a template with them would show nothing.
    #[test]
    fn the_shop_knows_nothing_of_kubervisor() {
        assert!(!SHOP.contains("kubervisor/"));
    }
}
