//! What people do in the play: kubectl, helm, a word to a pod, and kill -9.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use localcluster::{ADMIN, Cluster};
use rustix::process::{Pid, Signal, kill_process};
use tokio::task::spawn_blocking;

use crate::connection::{Connection, Lost};
use crate::record::Names;
use crate::workload::{Order, PORT};

/// Somebody with all rights.
#[derive(Clone)]
pub struct Hands {
    cluster: Arc<Cluster>,
    client: Client,
}

impl Hands {
    /// # Errors
    /// When the cluster knows no admin.
    pub fn on(cluster: &Arc<Cluster>) -> anyhow::Result<Self> {
        Ok(Self { cluster: Arc::clone(cluster), client: cluster.client(ADMIN)? })
    }

    /// For what is read without a program.
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// Runs kubectl; gives what it wrote.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn kubectl(&self, args: &[&str]) -> anyhow::Result<String> {
        self.kubectl_with(args, None).await
    }

    /// `kubectl apply` of this text.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn apply(&self, manifest: &str) -> anyhow::Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], Some(manifest)).await.map(drop)
    }

    /// Waits until an object is as `kubectl wait --for` says it; false when it is not within the limit.
    ///
    /// # Errors
    /// When kubectl cannot be run.
    pub async fn becomes(
        &self,
        namespace: &str,
        object: &str,
        what: &str,
        limit: Duration,
    ) -> anyhow::Result<bool> {
        let [what, limit] = [format!("--for={what}"), format!("--timeout={}s", limit.as_secs())];
        let args = owned(&["-n", namespace, "wait", object, &what, &limit]);
        Ok(self.run("kubectl", args, None).await?.status.success())
    }

    /// Runs helm; gives what it wrote.
    ///
    /// # Errors
    /// When it fails, with what it said.
    pub async fn helm(&self, args: &[&str]) -> anyhow::Result<String> {
        told("helm", args, &self.run("helm", owned(args), None).await?)
    }

    /// Where a Service answers on its only port.
    ///
    /// # Errors
    /// When there is no such Service, or it has no address.
    pub async fn cluster_ip(&self, namespace: &str, service: &str) -> anyhow::Result<SocketAddr> {
        let spec = Api::<Service>::namespaced(self.client.clone(), namespace).get(service).await?.spec;
        let address = spec.and_then(|spec| {
            let port = u16::try_from(spec.ports?.first()?.port).ok()?;
            Some(SocketAddr::new(spec.cluster_ip?.parse().ok()?, port))
        });
        address.with_context(|| format!("the Service {namespace}/{service} has no ClusterIP"))
    }

    /// What a Service selects its pods by.
    ///
    /// # Errors
    /// When there is no such Service.
    pub async fn selector(&self, namespace: &str, service: &str) -> anyhow::Result<BTreeMap<String, String>> {
        let found = Api::<Service>::namespaced(self.client.clone(), namespace).get(service).await?;
        Ok(found.spec.and_then(|spec| spec.selector).unwrap_or_default())
    }

    /// Names of the pods with these labels, those on their way out too.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn pods(&self, namespace: &str, labels: &str) -> anyhow::Result<Names> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let pods = pods.list(&ListParams::default().labels(labels)).await.context("cannot list pods")?;
        Ok(pods.iter().map(ResourceExt::name_any).collect())
    }

    /// Tells a pod of the shop how to answer from now on, at its own address.
    ///
    /// # Errors
    /// When it does not take the order.
    pub async fn order(&self, namespace: &str, pod: &str, bad: u32) -> anyhow::Result<()> {
        let found = Api::<Pod>::namespaced(self.client.clone(), namespace).get(pod).await?;
        let ip =
            found.status.and_then(|status| status.pod_ip).with_context(|| format!("{pod} has no address"))?;
        let address = SocketAddr::new(ip.parse().context("a pod's address is no address")?, PORT);
        let body = serde_json::to_string(&Order { bad }).context("an order is JSON")?;
        match Connection::open(address).await?.post("/answer", body).await {
            Ok(reply) if reply.status.is_success() => Ok(()),
            Ok(reply) => anyhow::bail!("{pod} refuses the order with {}", reply.status),
            Err(Lost::Closed) => anyhow::bail!("{pod} has closed the connection"),
            Err(Lost::Failed(why)) => anyhow::bail!("{pod} does not take the order: {why}"),
        }
    }

    async fn kubectl_with(&self, args: &[&str], stdin: Option<&str>) -> anyhow::Result<String> {
        told("kubectl", args, &self.run("kubectl", owned(args), stdin.map(str::to_owned)).await?)
    }

    /// Both programs block; on a thread where they may.
    async fn run(
        &self,
        program: &'static str,
        args: Vec<String>,
        stdin: Option<String>,
    ) -> anyhow::Result<Output> {
        let cluster = Arc::clone(&self.cluster);
        let work = move || {
            let args: Vec<_> = args.iter().map(String::as_str).collect();
            match program {
                "helm" => cluster.helm(ADMIN, &args),
                _ => cluster.kubectl(ADMIN, &args, stdin.as_deref()),
            }
        };
        spawn_blocking(work).await.with_context(|| format!("the thread of {program} panicked"))?
    }
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

fn told(program: &str, args: &[&str], output: &Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(
        output.status.success(),
        "{program} {} failed ({}): {said}",
        args.join(" "),
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// SIGKILL to the programs of a pod's containers, as a fault of the machine would: nobody lets go of anything. Gives how
/// many there were. They are told by the name of the host that the runtime gives them, which is the pod's.
///
/// # Errors
/// When the list of processes cannot be read, or one cannot be killed.
pub fn kill(pod: &str) -> anyhow::Result<usize> {
    let ours = format!("HOSTNAME={pod}");
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").context("cannot list the processes")? {
        let name = entry.context("cannot list the processes")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        // One that has ended meanwhile has no environment.
        let environment =
            std::fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero())).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == ours.as_bytes()) {
            kill_process(pid, Signal::KILL).with_context(|| format!("cannot kill a process of {pod}"))?;
            killed += 1;
        }
    }
    Ok(killed)
}
