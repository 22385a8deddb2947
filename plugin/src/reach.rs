//! The way to the cluster: kubeconfig, context, namespace; and what to say where it ends.

use std::time::Duration;

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use kubervisor::cluster::client::client;

use crate::args::Reach;
use crate::fail::nearest;

/// An API server that is there at all answers within that.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// A cluster, and where in it the verbs look.
pub struct Cluster {
    /// As the caller, with the caller's rights.
    pub client: Client,
    /// `None`: every namespace.
    pub scope: Option<String>,
    /// Namespace of things that are named singly.
    pub namespace: String,
    /// For what talks to the API server in its own way.
    pub config: Config,
}

impl Cluster {
    /// Reads the kubeconfig as kubectl does.
    ///
    /// # Errors
    /// There is none, or it has no such context.
    pub async fn reach(reach: &Reach) -> anyhow::Result<Self> {
        let options = KubeConfigOptions {
            context: reach.context.clone(),
            cluster: reach.cluster.clone(),
            user: reach.user.clone(),
        };
        // Two crypto providers in one process make rustls panic at the first connection. It fails where one is installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config(reach, &options).await?;
        // Whoever waits at a terminal is told of a refusal at once; and what was refused is not done twice.
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.auth_info.impersonate.clone_from(&reach.as_user);
        if !reach.as_groups.is_empty() {
            config.auth_info.impersonate_groups = Some(reach.as_groups.clone());
        }
        let namespace = reach.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = client(config.clone()).context("the kubeconfig does not make a connection")?;
        let scope = (!reach.all_namespaces).then(|| namespace.clone());
        Ok(Self { client, scope, namespace, config })
    }

    /// That things are looked for in one namespace: by a name alone they cannot be found in all of them.
    ///
    /// # Errors
    /// They are looked for everywhere.
    pub fn single(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.scope.is_some(),
            "a resource cannot be retrieved by name across all namespaces: leave out -A, or the name"
        );
        Ok(())
    }
}

async fn config(reach: &Reach, options: &KubeConfigOptions) -> anyhow::Result<Config> {
    let read = match &reach.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("{}: cannot be read as a kubeconfig", path.display()))?;
            Config::from_custom_kubeconfig(file, options).await
        }
        None => Config::from_kubeconfig(options).await,
    };
    match read {
        Ok(config) => Ok(config),
        // In a pod, as kubectl does; only where nothing was asked for by name.
        Err(_) if reach.kubeconfig.is_none() && options.context.is_none() && Config::incluster().is_ok() => {
            Config::incluster().context("the pod's own account cannot be used")
        }
        Err(error) => bail!("{}", unusable(&error.to_string(), reach)),
    }
}

/// Of a context that is not there: kubectl's sentence, with the one that may be meant.
fn unusable(error: &str, reach: &Reach) -> String {
    let see = "see `kubectl config get-contexts`, or name another --kubeconfig or --context";
    let read = match &reach.kubeconfig {
        Some(path) => Kubeconfig::read_from(path),
        None => Kubeconfig::read(),
    };
    let contexts: Vec<_> = read.map(|file| file.contexts).unwrap_or_default();
    match &reach.context {
        Some(wanted) if !contexts.iter().any(|context| context.name == *wanted) => {
            let meant = nearest(wanted, contexts.iter().map(|context| context.name.as_str()));
            let meant = meant.map(|meant| format!("did you mean {meant:?}? ")).unwrap_or_default();
            format!("context {wanted:?} does not exist: {meant}{see}")
        }
        _ => format!("the kubeconfig leads to no cluster ({error}): {see}"),
    }
}
