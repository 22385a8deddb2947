//! From nothing to a ready control plane, one program after the other.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::access::{ADMIN, Access, CONTROLLER_MANAGER, KWOK, Tokens, write_private, write_signing_keys};
use crate::audit::POLICY;
use crate::components::{self, KWOK_NODE, KWOK_STAGES, NODE};
use crate::data_dir::DataDir;
use crate::options::Options;
use crate::ports::Port;
use crate::process::{Process, ProcessSpec};
use crate::tools::{self, Tool};
use crate::{runtime, wait};

/// Usually a start takes 4 s; a machine that compiles at the same time takes ten times as long.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(120);

/// From the one that depends to the one depended on, for they are dropped in this order.
pub(crate) struct Running {
    pub kwok: Option<Process>,
    pub controller_manager: Option<Process>,
    /// `None` while the API server is away.
    pub apiserver: Option<Process>,
    pub etcd: Process,
}

impl Running {
    pub(crate) fn processes(&self) -> impl Iterator<Item = &Process> {
        let upper = [&self.kwok, &self.controller_manager, &self.apiserver];
        upper.into_iter().flatten().chain([&self.etcd])
    }
}

pub(crate) struct Ports {
    etcd_client: Port,
    etcd_peer: Port,
    apiserver: Port,
}

pub(crate) struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    controller_manager: PathBuf,
    pub kubectl: PathBuf,
    kwok: Option<PathBuf>,
}

/// What stays the same while the processes come and go.
pub(crate) struct Site {
    pub programs: Programs,
    pub ports: Ports,
    pub dir: DataDir,
    address: Option<IpAddr>,
}

impl Site {
    fn spawn(&self, name: &str, program: &Path, args: &[String]) -> anyhow::Result<Process> {
        let dir = self.dir.path();
        Process::spawn(&ProcessSpec { name, program, args, dir, env: Some(&environment(dir)) })
    }

    fn spawn_etcd(&self) -> anyhow::Result<Process> {
        let args = components::etcd(
            self.dir.path(),
            &self.ports.etcd_client.address(),
            &self.ports.etcd_peer.address(),
        );
        self.spawn("etcd", &self.programs.etcd, &args)
    }

    /// Starts the API server, again or for the first time: the port, keys and certificate are the same each time.
    pub(crate) fn spawn_apiserver(&self) -> anyhow::Result<Process> {
        let port = self.ports.apiserver.number();
        let etcd = self.ports.etcd_client.address();
        let args = components::apiserver(self.dir.path(), port, &etcd, self.address);
        self.spawn("kube-apiserver", &self.programs.apiserver, &args)
    }

    fn spawn_controller_manager(&self) -> anyhow::Result<Process> {
        let args = components::controller_manager(self.dir.path(), self.address.is_some());
        self.spawn("kube-controller-manager", &self.programs.controller_manager, &args)
    }

    fn spawn_kwok(&self) -> anyhow::Result<Option<Process>> {
        let args = components::kwok(self.dir.path());
        self.programs.kwok.as_ref().map(|program| self.spawn("kwok", program, &args)).transpose()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The whole environment of every child: no `ETCD_*`, proxy or kubeconfig variable of the caller's gets in.
pub(crate) fn environment(home: &Path) -> [(&'static str, String); 2] {
    let path = std::env::var("PATH").unwrap_or_default();
    [("PATH", path), ("HOME", home.display().to_string())]
}

/// Everything up and ready.
pub(crate) async fn boot(options: Options) -> anyhow::Result<(Site, Running, Access)> {
    let kwok = options.kwok;
    let programs = runtime::run_blocking(move || find_programs(kwok)).await?;
    let ports =
        Ports { etcd_client: Port::reserve()?, etcd_peer: Port::reserve()?, apiserver: Port::reserve()? };
    let dir = DataDir::create(options.data_dir)?;
    let site = Site { programs, ports, dir, address: options.address };
    let tokens = Tokens::generate(&options.actors, options.address.is_some())?;
    write_files(&site, &tokens)?;

    // The API server waits for etcd by itself, and meanwhile makes its certificate.
    let etcd = site.spawn_etcd()?;
    let apiserver = site.spawn_apiserver()?;
    let mut running = Running { etcd, apiserver: Some(apiserver), controller_manager: None, kwok: None };
    let access = open_access(&site, &mut running, tokens).await?;
    await_ready(&access, || ensure_running(&mut running)).await?;

    write_kubeconfigs(&site, &access)?;
    running.controller_manager = Some(site.spawn_controller_manager()?);
    running.kwok = site.spawn_kwok()?;
    await_default_account(&access, &mut running).await?;
    add_nodes(&access, &mut running, options.address.is_some()).await?;
    Ok((site, running, access))
}

fn find_programs(kwok: bool) -> anyhow::Result<Programs> {
    Ok(Programs {
        etcd: tools::ensure(Tool::Etcd)?,
        apiserver: tools::ensure(Tool::KubeApiserver)?,
        controller_manager: tools::ensure(Tool::KubeControllerManager)?,
        kubectl: tools::ensure(Tool::Kubectl)?,
        kwok: kwok.then(|| tools::ensure(Tool::Kwok)).transpose()?,
    })
}

fn write_files(site: &Site, tokens: &Tokens) -> anyhow::Result<()> {
    write_signing_keys(site.dir.path(), "service-account")?;
    write_private(&site.file("tokens.csv"), &tokens.file())?;
    write_private(&site.file("audit-policy.yaml"), POLICY)?;
    write_private(&site.file("kwok-stages.yaml"), KWOK_STAGES)
}

/// The API server makes a certificate at its first start; only with it can anybody speak to the server.
async fn open_access(site: &Site, running: &mut Running, tokens: Tokens) -> anyhow::Result<Access> {
    // The key is written after the certificate, so the certificate is whole.
    let key = site.file("certs/apiserver.key");
    wait::until("the API server's certificate", START_LIMIT, || {
        let state = ensure_running(running).map(|()| match key.exists() {
            true => Ok(()),
            false => Err(format!("{} is not there yet", key.display())),
        });
        async { state }
    })
    .await?;
    // Its certificate is for the one address or the other.
    let host = site.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let url = format!("https://{}", SocketAddr::new(host, site.ports.apiserver.number()));
    Access::new(&url, site.file("certs/apiserver.crt"), tokens)
}

/// An error with the end of the log of a program that has ended by itself.
pub(crate) fn ensure_running(running: &mut Running) -> anyhow::Result<()> {
    running.etcd.ensure_running()?;
    let others = [&mut running.apiserver, &mut running.controller_manager, &mut running.kwok];
    others.into_iter().flatten().try_for_each(Process::ensure_running)
}

/// Waits until the API server says that all its start-up work is done, RBAC's default roles included.
pub(crate) async fn await_ready(
    access: &Access,
    alive: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    await_get(access, alive, "/readyz", "readiness of the API server").await
}

/// The controller manager works once it has made the ServiceAccount that every pod needs.
async fn await_default_account(access: &Access, running: &mut Running) -> anyhow::Result<()> {
    let path = "/api/v1/namespaces/default/serviceaccounts/default";
    await_get(access, || ensure_running(running), path, "the default ServiceAccount").await
}

pub(crate) async fn await_get(
    access: &Access,
    mut alive: impl FnMut() -> anyhow::Result<()>,
    path: &str,
    what: &str,
) -> anyhow::Result<()> {
    wait::until(what, START_LIMIT, || {
        let alive = alive();
        async {
            alive?;
            Ok(access.get(path).await?.map(drop))
        }
    })
    .await
}

fn write_kubeconfigs(site: &Site, access: &Access) -> anyhow::Result<()> {
    for user in [ADMIN, CONTROLLER_MANAGER, KWOK] {
        let path = components::kubeconfig(site.dir.path(), user);
        write_private(Path::new(&path), &access.kubeconfig(user, access.token(user)?, None))?;
    }
    Ok(())
}

async fn add_nodes(access: &Access, running: &mut Running, real_nodes: bool) -> anyhow::Result<()> {
    if !real_nodes {
        let ready = json!({ "conditions": [{ "type": "Ready", "status": "True", "reason": "Always", "message": "no kubelet" }] });
        add_node(access, NODE, &json!({ "name": NODE }), &ready).await?;
    }
    if running.kwok.is_some() {
        let metadata = json!({ "name": KWOK_NODE, "labels": { "type": "kwok" } });
        add_node(access, KWOK_NODE, &metadata, &json!({})).await?;
        await_kwok_node(access, running).await?;
    }
    Ok(())
}

async fn add_node(access: &Access, name: &str, metadata: &Value, status: &Value) -> anyhow::Result<()> {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": status });
    let made = access.post("/api/v1/nodes", &node).await?;
    made.map(drop).map_err(anyhow::Error::msg).with_context(|| format!("cannot create the node {name}"))
}

async fn await_kwok_node(access: &Access, running: &mut Running) -> anyhow::Result<()> {
    wait::until("readiness of the kwok node", START_LIMIT, || {
        let alive = ensure_running(running);
        async {
            alive?;
            Ok(access.get(&format!("/api/v1/nodes/{KWOK_NODE}")).await?.and_then(|text| node_ready(&text)))
        }
    })
    .await
}

pub(crate) fn node_ready(text: &str) -> Result<(), String> {
    let node: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let ready =
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
    if ready { Ok(()) } else { Err(format!("its status is {}", node["status"])) }
}
