//! The way to the cluster: kubeconfig, context, namespace; and what to say where it ends.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use kubervisor::cluster::client::client;

use crate::again::Again;
use crate::args::Reach;
use crate::fail::{auth, login, nearest};

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
    /// What leads here once more.
    pub again: Again,
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
        let client = client(config.clone()).map_err(|error| no_connection(error, &config))?;
        let scope = (!reach.all_namespaces).then(|| namespace.clone());
        Ok(Self { client, scope, namespace, config, again: Again::new(reach) })
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

/// What stands in the kubeconfig.
///
/// # Errors
/// There is none, or it is no kubeconfig.
pub fn kubeconfig(reach: &Reach) -> Result<Kubeconfig, KubeconfigError> {
    reach.kubeconfig.as_ref().map_or_else(found, Kubeconfig::read_from)
}

async fn config(reach: &Reach, options: &KubeConfigOptions) -> anyhow::Result<Config> {
    let read = match (kubeconfig(reach), &reach.kubeconfig) {
        (Ok(file), _) => Config::from_custom_kubeconfig(file, options).await,
        (Err(error), Some(path)) => {
            return Err(error).with_context(|| format!("{}: cannot be read as a kubeconfig", path.display()));
        }
        (Err(error), None) => Err(error),
    };
    match read {
        Ok(config) => Ok(config),
        // In a pod, as kubectl does.
        Err(_) if nothing_named(reach, std::env::var_os("KUBECONFIG").as_deref(), kept()) && in_pod() => {
            Config::incluster().context("the pod's own account cannot be used")
        }
        Err(error) => bail!("{}", unusable(&error.to_string(), reach)),
    }
}

/// What KUBECONFIG lists, or else the file in the home folder.
fn found() -> Result<Kubeconfig, KubeconfigError> {
    let listed = std::env::var_os("KUBECONFIG").map(|paths| listed(&paths)).transpose()?.flatten();
    listed.map_or_else(Kubeconfig::read, Ok)
}

/// As kubectl merges them: a file that is not there is none, and a context without a name is not chosen. `None`: no
/// file is there.
fn listed(paths: &OsStr) -> Result<Option<Kubeconfig>, KubeconfigError> {
    let mut all: Option<Kubeconfig> = None;
    for path in std::env::split_paths(paths).filter(|path| !path.as_os_str().is_empty()) {
        let mut file = match Kubeconfig::read_from(&path) {
            Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        file.current_context = file.current_context.filter(|context| !context.is_empty());
        all = Some(match all {
            Some(first) => first.merge(file)?,
            None => file,
        });
    }
    Ok(all)
}

/// Somebody who means a cluster, and errs, must not act on another one as the pod's own account.
fn nothing_named(reach: &Reach, variable: Option<&OsStr>, kept: bool) -> bool {
    let Reach {
        kubeconfig,
        context,
        cluster,
        user,
        as_user: _,
        as_groups: _,
        namespace: _,
        all_namespaces: _,
    } = reach;
    let flags = kubeconfig.is_some() || context.is_some() || cluster.is_some() || user.is_some();
    !flags && variable.is_none_or(OsStr::is_empty) && !kept
}

/// Whether the home has a kubeconfig; one that may not be looked at is there.
fn kept() -> bool {
    std::env::home_dir().is_some_and(|home| home.join(".kube/config").try_exists().unwrap_or(true))
}

fn in_pod() -> bool {
    Config::incluster().is_ok()
}

fn no_connection(error: kube::Error, config: &Config) -> anyhow::Error {
    match auth(&error) {
        Some(auth) => anyhow::anyhow!(login(auth, config.auth_info.exec.as_ref())),
        None => anyhow::Error::new(error).context("the kubeconfig does not make a connection"),
    }
}

/// Of a context that is not there: kubectl's sentence, with the one that may be meant.
fn unusable(error: &str, reach: &Reach) -> String {
    let see = "see `kubectl config get-contexts`, or name another --kubeconfig or --context";
    let contexts: Vec<_> = kubeconfig(reach).map(|file| file.contexts).unwrap_or_default();
    match &reach.context {
        Some(wanted) if !contexts.iter().any(|context| context.name == *wanted) => {
            let meant = nearest(wanted, contexts.iter().map(|context| context.name.as_str()));
            let meant = meant.map(|meant| format!("did you mean {meant:?}? ")).unwrap_or_default();
            format!("context {wanted:?} does not exist: {meant}{see}")
        }
        _ => format!("the kubeconfig leads to no cluster ({error}): {see}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_there_and_contexts_without_a_name_are_passed_over_in_a_list() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(at(name), text).unwrap();
        write("unset", "current-context: \"\"\nclusters: []\n");
        write("orchard", "current-context: orchard\n");
        write("meadow", "current-context: meadow\n");
        write("torn", "clusters: [\n");
        let read = |names: &[&str]| listed(&std::env::join_paths(names.iter().map(|name| at(name))).unwrap());
        let all = read(&["gone", "unset", "orchard", "gone too", "meadow"]).unwrap().unwrap();
        assert_eq!(all.current_context.as_deref(), Some("orchard"));
        assert!(read(&["gone"]).unwrap().is_none());
        assert!(read(&["orchard", "torn"]).is_err(), "one that is there and broken is not passed over");
    }

    #[test]
    fn the_account_of_the_pod_is_taken_only_where_nothing_names_a_cluster() {
        let none = Reach::default();
        assert!(nothing_named(&none, None, false) && nothing_named(&none, Some(OsStr::new("")), false));
        assert!(!nothing_named(&none, None, true), "a kubeconfig at home, even a broken one");
        assert!(!nothing_named(&none, Some(OsStr::new("/typo")), false));
        let some = || Some("prod".to_owned());
        for named in [
            Reach { kubeconfig: Some("/typo".into()), ..Reach::default() },
            Reach { context: some(), ..Reach::default() },
            Reach { cluster: some(), ..Reach::default() },
            Reach { user: some(), ..Reach::default() },
        ] {
            assert!(!nothing_named(&named, None, false), "{named:?}");
        }
        let within = Reach { namespace: some(), as_user: some(), ..Reach::default() };
        assert!(nothing_named(&within, None, false), "these name no cluster");
    }
}
