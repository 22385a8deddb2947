//! A real node: containerd, kubelet, kube-proxy and a scheduler, so that pods run, behind ClusterIPs that lead to them.
//!
//! Needs Linux, root and a few Debian packages, which [`missing`] names; no registry and no Docker. Images are archives
//! that [`Image`] writes and [`Node::import`] reads. Everything, the control plane too, runs in namespaces of its own
//! ([`enter`]): it reaches nobody outside, and nothing of it is left, however the program ends.
//!
//! What it has not: DNS (pods use ClusterIPs, which they are told or find in their environment), storage, other nodes,
//! eviction for want of memory or disk. Pods reach the API server at `kubernetes.default`'s ClusterIP, with the
//! token and the certificate that every pod is given.
//!
//! ```no_run
//! use localcluster::{Cluster, Options, node};
//! # async fn play() -> anyhow::Result<()> {
//! node::enter()?; // first in main
//! let options = Options { address: Some(node::address()), ..Options::default() };
//! let cluster = Cluster::start(options).await?;
//! let real = node::Node::start(&cluster).await?;
//! let archive = cluster.data_dir().join("web.tar");
//! node::Image::of_program("web:1", std::path::Path::new("target/debug/web"))?.write(&archive)?;
//! real.import(&archive).await?; // pods may now say `image: web:1`
//! real.stop().await
//! # }
//! ```

mod containerd;
mod enter;
mod image;
mod missing;
mod settings;

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;

pub use enter::{address, enter, is_seen_inside};
pub use image::Image;
pub use missing::missing;

use self::containerd::{Containerd, spawn};
use crate::access::{Access, KUBE_PROXY, KUBELET, SCHEDULER, write_private};
use crate::boot::START_LIMIT;
use crate::cluster::Cluster;
use crate::process::Process;
use crate::tools::{self, Tool};
use crate::{runtime, wait};

/// The end of [`KUBELET`].
const NAME: &str = "node-1";

/// A running node. Dropping it ends its programs; its containers end with [`Node::stop`] or with this process.
pub struct Node {
    // Dropped in this order.
    kubelet: Process,
    kube_proxy: Process,
    scheduler: Process,
    containerd: Containerd,
}

impl Node {
    /// Starts one; it is ready when this returns: pods can be scheduled to it.
    ///
    /// # Errors
    /// Outside of [`enter`], for a cluster without [`Options::address`](crate::Options::address), and when a program ends
    /// early or the node is not ready within two minutes; with the end of its log.
    pub async fn start(cluster: &Cluster) -> anyhow::Result<Node> {
        let cgroup = enter::cgroup()?;
        anyhow::ensure!(
            cluster.token(KUBELET).is_ok(),
            "the cluster is on loopback only; start it with Options.address = Some(node::address())"
        );
        let kubeconfig = |user| cluster.kubeconfig(user, None);
        let users = [KUBELET, KUBE_PROXY, SCHEDULER]
            .map(kubeconfig)
            .into_iter()
            .collect::<anyhow::Result<Vec<_>>>()?;
        let (folder, access) = (cluster.data_dir().join("node"), cluster.access());
        runtime::run(async move {
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot create {}", folder.display()))?;
            let containerd = Containerd::start(&folder).await?;
            let mut node = spawn_all(&folder, &cgroup, &users, containerd)?;
            node.await_ready(&access).await?;
            Ok(node)
        })
        .await
    }

    /// Its name, that of the Node object.
    #[must_use]
    pub fn name(&self) -> &str {
        NAME
    }

    /// Makes the images of an archive known, under their names there; a pod that uses one says `imagePullPolicy: Never` or
    /// `IfNotPresent`. It is ready to be used when this returns.
    ///
    /// # Errors
    /// When the file is no archive of images.
    pub async fn import(&self, archive: &Path) -> anyhow::Result<()> {
        self.containerd.import(archive).await
    }

    /// Ends kubelet and the others, then every container.
    ///
    /// # Errors
    /// When containers are left after a minute.
    pub async fn stop(self) -> anyhow::Result<()> {
        let Node { kubelet, kube_proxy, scheduler, containerd } = self;
        runtime::drop_blocking((kubelet, kube_proxy, scheduler)).await?;
        runtime::run(containerd.stop()).await
    }

    async fn await_ready(&mut self, access: &Access) -> anyhow::Result<()> {
        wait::until("readiness of the node", START_LIMIT, || {
            let alive = self.ensure_running();
            async {
                alive?;
                Ok(access.get(&format!("/api/v1/nodes/{NAME}")).await?.and_then(|text| ready(&text)))
            }
        })
        .await
        .with_context(|| format!("the end of kubelet's log:\n{}", self.kubelet.log_tail()))
    }

    fn ensure_running(&mut self) -> anyhow::Result<()> {
        let Node { kubelet, kube_proxy, scheduler, containerd } = self;
        [kubelet, kube_proxy, scheduler, containerd.process()]
            .into_iter()
            .try_for_each(Process::ensure_running)
    }
}

/// Where another terminal finds the way in: `nsenter --all --target $(cat FILE)`.
///
/// # Errors
/// Outside of [`enter`].
pub fn pid_file() -> anyhow::Result<PathBuf> {
    Ok(enter::pid_file(&enter::folder()?))
}

fn spawn_all(folder: &Path, cgroup: &str, users: &[PathBuf], containerd: Containerd) -> anyhow::Result<Node> {
    let [kubelet, kube_proxy, scheduler] = users else { anyhow::bail!("a node has three users") };
    let config = folder.join("kubelet.json");
    write_private(&config, &settings::kubelet(cgroup).to_string())?;
    let start = |tool: Tool, args: &[String]| spawn(tool.name(), &tools::ensure(tool)?, args, folder);
    Ok(Node {
        kubelet: start(Tool::Kubelet, &settings::kubelet_args(&config, kubelet, NAME))?,
        kube_proxy: start(Tool::KubeProxy, &settings::kube_proxy_args(kube_proxy, NAME))?,
        scheduler: start(Tool::KubeScheduler, &settings::scheduler_args(scheduler))?,
        containerd,
    })
}

/// Ready, and without the taint that it is born with.
fn ready(text: &str) -> Result<(), String> {
    crate::boot::node_ready(text)?;
    let node: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match &node["spec"]["taints"] {
        Value::Null => Ok(()),
        taints => Err(format!("it has the taints {taints}")),
    }
}
