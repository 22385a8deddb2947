//! A control plane: etcd, the API server, the controller manager and, on wish, kwok as the kubelet.

use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, ObjectMeta, PostParams};
use serde_json::{Value, json};

use crate::access::{Access, install_crypto, write_private};
use crate::audit::Audit;
use crate::boot::{self, Running, Site};
use crate::options::Options;
use crate::tools::{self, Tool};
use crate::{components, reaper, runtime, wait};

/// A running control plane on 127.0.0.1. Dropping it kills its processes and removes its folder; so does the end of this
/// process, however it ends.
pub struct Cluster {
    // Dropped in this order: the processes before the folder that they write to.
    running: Mutex<Running>,
    access: Arc<Access>,
    site: Site,
}

impl Cluster {
    /// Starts a control plane; it is ready when this returns: the API server has done its start-up work, the controller
    /// manager has made the ServiceAccount `default` in the namespace `default`, and the kwok node is Ready. May be
    /// called on any tokio runtime, and outlives it.
    ///
    /// # Errors
    /// When a program is missing and cannot be built, ends early, or is not ready within two minutes; with the end of
    /// its log.
    pub async fn start(options: Options) -> anyhow::Result<Cluster> {
        runtime::run(async move {
            let (site, running, access) = boot::boot(options).await?;
            let cluster = Cluster { running: Mutex::new(running), access: Arc::new(access), site };
            cluster.write_pids()?;
            Ok(cluster)
        })
        .await
    }

    /// One cluster with the default options for the whole test binary, started by the first call and gone with the
    /// process. Blocks until it is ready; safe in any test, as nothing of it runs on the caller's runtime.
    ///
    /// # Panics
    /// When it cannot be started, as a test would.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| start_shared(Options::default()))
    }

    /// As [`Cluster::shared`], another one, with kwok.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn shared_with_kwok() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| start_shared(Options { kwok: true, ..Options::default() }))
    }

    /// `https://127.0.0.1:PORT`, or at [`Options::address`]. The same after the API server was away.
    pub fn url(&self) -> String {
        self.access.url()
    }

    /// The certificate authority (PEM) of the API server's certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.data_dir().join("certs/apiserver.crt")
    }

    /// The folder with logs (`NAME.log`), the audit log, kubeconfigs and `pids`, a line `NAME PID` for each process.
    pub fn data_dir(&self) -> &Path {
        self.site.dir.path()
    }

    /// Plain data for a client of this actor. Retries and timeouts are kube's defaults: change them to those of the
    /// program under test. An actor that the options did not name gets no token and so 401 or 403 from the API server.
    pub fn config(&self, actor: &str) -> kube::Config {
        self.access.config(actor)
    }

    /// The actor's bearer token.
    ///
    /// # Errors
    /// When the options did not name this actor.
    pub fn token(&self, actor: &str) -> anyhow::Result<&str> {
        self.access.token(actor)
    }

    /// A client that belongs to the runtime that it is made on: one for each test.
    ///
    /// # Errors
    /// When the options did not name this actor.
    pub fn client(&self, actor: &str) -> anyhow::Result<kube::Client> {
        self.access.token(actor)?;
        client(self.config(actor))
    }

    /// Writes a kubeconfig file of this actor into the data folder. `server` stands in for the API server's URL, for a
    /// [`FaultProxy`](crate::FaultProxy).
    ///
    /// # Errors
    /// When the options did not name this actor, or the file cannot be written.
    pub fn kubeconfig(&self, actor: &str, server: Option<&str>) -> anyhow::Result<PathBuf> {
        self.kubeconfig_with_token(actor, self.access.token(actor)?, server)
    }

    /// As [`Cluster::kubeconfig`], for whoever holds this token; `user` only names the file.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn kubeconfig_with_token(
        &self,
        user: &str,
        token: &str,
        server: Option<&str>,
    ) -> anyhow::Result<PathBuf> {
        let text = self.access.kubeconfig(user, token, server);
        let own = server.map(|url| url.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let file = own.map_or_else(|| user.to_owned(), |server| format!("{user}-{server}"));
        let path = PathBuf::from(components::kubeconfig(self.data_dir(), &file));
        write_private(&path, &text)?;
        Ok(path)
    }

    /// A token of this ServiceAccount, good for a day: the way to run a program with exactly the rights of its Role. Its
    /// user in the audit log is `system:serviceaccount:NAMESPACE:NAME`.
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub async fn service_account_token(&self, namespace: &str, name: &str) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let body = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": { "expirationSeconds": 86_400 } });
        let access = Arc::clone(&self.access);
        let answer = runtime::run(async move { access.post(&path, &body).await }).await?;
        let text = answer.map_err(anyhow::Error::msg);
        let text =
            text.with_context(|| format!("cannot get a token of the ServiceAccount {namespace}/{name}"))?;
        let request: Value =
            serde_json::from_str(&text).context("the API server's TokenRequest is not JSON")?;
        request["status"]["token"]
            .as_str()
            .map(str::to_owned)
            .context("the API server's TokenRequest has no token")
    }

    /// As [`Cluster::config`], for whoever holds this token.
    pub fn config_with_token(&self, token: &str) -> kube::Config {
        self.access.config_with_token(Some(token))
    }

    /// Runs kubectl as this actor and waits for it; its output and status are the caller's to judge.
    ///
    /// # Errors
    /// When it cannot be run, or the options did not name this actor.
    pub fn kubectl(&self, actor: &str, args: &[&str], stdin: Option<&str>) -> anyhow::Result<Output> {
        let mut command = Command::new(&self.site.programs.kubectl);
        command.env_clear().envs(boot::environment(self.data_dir()));
        command.arg("--kubeconfig").arg(self.kubeconfig(actor, None)?).args(args).stdin(input(stdin)?);
        command.output().with_context(|| format!("cannot run kubectl {}", args.join(" ")))
    }

    /// Runs helm as this actor and waits for it, as [`Cluster::kubectl`] does. Builds helm first, where there is none.
    ///
    /// # Errors
    /// When it cannot be built or run, or the options did not name this actor.
    pub fn helm(&self, actor: &str, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(tools::ensure(Tool::Helm)?);
        command.env_clear().envs(boot::environment(self.data_dir()));
        // What it remembers, it remembers of this cluster.
        for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(home, self.data_dir().join("helm").join(home));
        }
        command.arg("--kubeconfig").arg(self.kubeconfig(actor, None)?).args(args).stdin(Stdio::null());
        command.output().with_context(|| format!("cannot run helm {}", args.join(" ")))
    }

    /// The kubectl that fits this API server.
    pub fn kubectl_path(&self) -> &Path {
        &self.site.programs.kubectl
    }

    /// Who has asked what of the API server.
    pub fn audit(&self) -> Audit {
        let path = self.data_dir().join("audit.log");
        Audit { path, access: Arc::clone(&self.access), within: None }
    }

    /// Kills the API server: connections break, new ones are refused. Does nothing when it is away already.
    ///
    /// # Errors
    /// When the list of processes cannot be written.
    pub async fn stop_apiserver(&self) -> anyhow::Result<()> {
        let server = self.running().apiserver.take();
        runtime::drop_blocking(server).await?;
        self.write_pids()
    }

    /// Starts the API server again, on the same port and with the same data, and waits until it is ready. Does nothing
    /// when it is there.
    ///
    /// # Errors
    /// When it ends early or is not ready within two minutes; with the end of its log.
    pub async fn start_apiserver(&self) -> anyhow::Result<()> {
        {
            let mut running = self.running();
            if running.apiserver.is_none() {
                running.apiserver = Some(self.site.spawn_apiserver()?);
            }
        }
        self.write_pids()?;
        boot::await_ready(&self.access, || boot::ensure_running(&mut self.running())).await
    }

    /// Creates a namespace `PREFIX-xxxxx` and waits until pods can be created in it, which is when it has its default
    /// ServiceAccount.
    ///
    /// # Errors
    /// When the client may not create namespaces, or the ServiceAccount does not come within a minute.
    pub async fn new_namespace(&self, client: &kube::Client, prefix: &str) -> anyhow::Result<String> {
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let namespace = Namespace { metadata, ..Namespace::default() };
        let made = Api::all(client.clone()).create(&PostParams::default(), &namespace).await;
        let made = made.with_context(|| format!("cannot create a namespace {prefix}-..."))?;
        let name = made.metadata.name.context("the API server gave a namespace without a name")?;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &name);
        wait::until("the namespace's default ServiceAccount", Duration::from_secs(60), || async {
            Ok(accounts.get("default").await.map(drop).map_err(|error| error.to_string()))
        })
        .await?;
        Ok(name)
    }

    /// Name and process id of everything that runs for this cluster now.
    pub fn pids(&self) -> Vec<(String, u32)> {
        self.running().processes().map(|process| (process.name().to_owned(), process.pid())).collect()
    }

    pub(crate) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_pids(&self) -> anyhow::Result<()> {
        let mut pids = self.pids();
        pids.push(("reaper".to_owned(), reaper::pid()?));
        let lines: String = pids.iter().map(|(name, pid)| format!("{name} {pid}\n")).collect();
        write_private(&self.data_dir().join("pids"), &lines)
    }
}

/// On a thread of its own, for the caller may be inside a runtime, where one may not block on another.
#[expect(clippy::panic, reason = "shared clusters are for tests, which end this way")]
fn start_shared(options: Options) -> Cluster {
    let started = std::thread::spawn(|| runtime::runtime().block_on(Cluster::start(options))).join();
    match started {
        Ok(Ok(cluster)) => cluster,
        Ok(Err(error)) => panic!("the shared local cluster did not start: {error:#}"),
        Err(cause) => std::panic::resume_unwind(cause),
    }
}

/// A kube client; makes sure that rustls has a crypto provider, without which it panics.
pub(crate) fn client(config: kube::Config) -> anyhow::Result<kube::Client> {
    install_crypto();
    let url = config.cluster_url.to_string();
    kube::Client::try_from(config).with_context(|| format!("cannot make a client for {url}"))
}

/// A file, not a pipe: kubectl may write much before it has read everything.
fn input(text: Option<&str>) -> anyhow::Result<Stdio> {
    let Some(text) = text else { return Ok(Stdio::null()) };
    let mut file = tempfile::tempfile().context("cannot create a file for kubectl's input")?;
    file.write_all(text.as_bytes()).and_then(|()| file.rewind()).context("cannot write kubectl's input")?;
    Ok(file.into())
}
