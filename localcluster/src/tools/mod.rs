//! Finds the programs that the control plane is made of, and builds the missing ones.
//!
//! Looked for in this order: the folder `KUBEBUILDER_ASSETS`; `PATH`, if the program there is of the same minor
//! version; the cache `${XDG_CACHE_HOME:-~/.cache}/kubervisor/tools/NAME/VERSION-OS-ARCH/NAME`. What is nowhere is
//! built from its published Go module into the cache, once.
//!
//! `KUBERVISOR_TEST_KUBERNETES=1.33` takes the API server and the controller manager of that version, the oldest that is
//! supported; everything else stays.

mod build;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

/// A program of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The store below the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// Gives EndpointSlices, Deployments, disruption budgets, ServiceAccounts and garbage collection.
    KubeControllerManager,
    /// The command line.
    Kubectl,
    /// Plays the kubelet.
    Kwok,
    /// Prometheus 3.
    Prometheus,
    /// Installs charts.
    Helm,
    /// Runs the pods of a real node.
    Kubelet,
    /// Leads a ClusterIP to pods of a real node.
    KubeProxy,
    /// Finds each pod its node.
    KubeScheduler,
}

/// One of the Go modules under `localcluster/tools`, which pin versions by `go.mod` and content by `go.sum`.
struct Module {
    go_mod: &'static str,
    go_sum: &'static str,
    /// The requirement in `go_mod` whose version is the tool's.
    requires: &'static str,
}

macro_rules! module {
    ($folder:literal, $requires:literal) => {
        Module {
            go_mod: include_str!(concat!("../../tools/", $folder, "/go.mod")),
            go_sum: include_str!(concat!("../../tools/", $folder, "/go.sum")),
            requires: $requires,
        }
    };
}

static ETCD: Module = module!("etcd", "go.etcd.io/etcd/server/v3");
static KUBERNETES: Module = module!("kubernetes", "k8s.io/kubernetes");
static KUBERNETES_1_33: Module = module!("kubernetes-1.33", "k8s.io/kubernetes");
static KWOK: Module = module!("kwok", "sigs.k8s.io/kwok");
static PROMETHEUS: Module = module!("prometheus", "github.com/prometheus/prometheus");
static HELM: Module = module!("helm", "helm.sh/helm/v4");

impl Tool {
    /// What a real node needs besides.
    pub const NODE: [Tool; 3] = [Tool::Kubelet, Tool::KubeProxy, Tool::KubeScheduler];

    /// Every tool but those of a real node, the quickest to build first.
    pub const ALL: [Tool; 7] = [
        Tool::Etcd,
        Tool::Kwok,
        Tool::KubeApiserver,
        Tool::KubeControllerManager,
        Tool::Kubectl,
        Tool::Helm,
        Tool::Prometheus,
    ];

    /// The program's file name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Tool::Etcd => "etcd",
            Tool::KubeApiserver => "kube-apiserver",
            Tool::KubeControllerManager => "kube-controller-manager",
            Tool::Kubectl => "kubectl",
            Tool::Kwok => "kwok",
            Tool::Prometheus => "prometheus",
            Tool::Helm => "helm",
            Tool::Kubelet => "kubelet",
            Tool::KubeProxy => "kube-proxy",
            Tool::KubeScheduler => "kube-scheduler",
        }
    }

    /// The version of its Go module, such as `v1.36.3`.
    ///
    /// # Errors
    /// When the module's `go.mod` does not require it, or another Kubernetes is asked for than there is.
    pub fn version(self) -> anyhow::Result<&'static str> {
        let module = self.module()?;
        required_version(module.go_mod, module.requires)
            .with_context(|| format!("the go.mod for {} does not require {}", self.name(), module.requires))
    }

    fn module(self) -> anyhow::Result<&'static Module> {
        Ok(match self {
            Tool::Etcd => &ETCD,
            Tool::KubeApiserver | Tool::KubeControllerManager => control_plane()?,
            Tool::Kubectl | Tool::Kubelet | Tool::KubeProxy | Tool::KubeScheduler => &KUBERNETES,
            Tool::Kwok => &KWOK,
            Tool::Prometheus => &PROMETHEUS,
            Tool::Helm => &HELM,
        })
    }

    /// Import path of its main package.
    fn package(self) -> &'static str {
        match self {
            Tool::Etcd => "go.etcd.io/etcd/server/v3",
            Tool::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Tool::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Tool::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Tool::Kwok => "sigs.k8s.io/kwok/cmd/kwok",
            Tool::Prometheus => "github.com/prometheus/prometheus/cmd/prometheus",
            Tool::Helm => "helm.sh/helm/v4/cmd/helm",
            Tool::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Tool::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Tool::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
        }
    }

    /// Prints the version.
    fn version_args(self) -> &'static [&'static str] {
        match self {
            Tool::Kubectl => &["version", "--client"],
            Tool::Helm => &["version"],
            Tool::Etcd
            | Tool::KubeApiserver
            | Tool::KubeControllerManager
            | Tool::Kwok
            | Tool::Prometheus
            | Tool::Kubelet
            | Tool::KubeProxy
            | Tool::KubeScheduler => &["--version"],
        }
    }

    /// Minutes that a first build takes on two cores, to tell whoever waits.
    fn usual_minutes(self) -> f32 {
        match self {
            Tool::Etcd | Tool::Kubectl => 0.7,
            Tool::Kwok | Tool::KubeControllerManager | Tool::KubeProxy | Tool::KubeScheduler => 1.0,
            Tool::KubeApiserver => 3.1,
            Tool::Helm => 1.9,
            Tool::Kubelet => 2.5,
            Tool::Prometheus => 4.0,
        }
    }

    /// Major and minor version as the program prints them.
    fn minor(self) -> anyhow::Result<(u32, u32)> {
        let (major, minor) = first_version(self.version()?).context("a module version without a minor")?;
        // Prometheus 3.15 is published as module v0.315: Go would want /v3 in its import path.
        Ok(if self == Tool::Prometheus && major == 0 { (minor / 100, minor % 100) } else { (major, minor) })
    }
}

/// The version of the control plane that the environment asks for.
fn control_plane() -> anyhow::Result<&'static Module> {
    match std::env::var("KUBERVISOR_TEST_KUBERNETES").unwrap_or_default().as_str() {
        "" => Ok(&KUBERNETES),
        "1.33" => Ok(&KUBERNETES_1_33),
        other => {
            anyhow::bail!(
                "KUBERVISOR_TEST_KUBERNETES is {other:?}: leave it unset, or say 1.33, the oldest that is supported"
            )
        }
    }
}

/// The path of a program that can be run. Builds it, if there is none: that blocks for minutes and says so on stderr.
///
/// # Errors
/// When it is nowhere and cannot be built, with the end of the build's output.
pub fn ensure(tool: Tool) -> anyhow::Result<PathBuf> {
    static FOUND: Mutex<BTreeMap<Tool, PathBuf>> = Mutex::new(BTreeMap::new());
    let known = FOUND.lock().unwrap_or_else(PoisonError::into_inner).get(&tool).cloned();
    if let Some(path) = known {
        return Ok(path);
    }
    let path = match find(tool)? {
        Some(path) => path,
        None => build::build(tool, &cached(tool)?)?,
    };
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(tool, path.clone());
    Ok(path)
}

/// Finds or builds every tool, with `node` also those of a real node, and gives their paths. With `CI=true` the Go caches (up to 12 GB) are deleted after that.
///
/// # Errors
/// As [`ensure`], for the first tool that fails.
pub fn ensure_all(node: bool) -> anyhow::Result<Vec<(Tool, PathBuf)>> {
    let of_node = Tool::NODE.iter().filter(|_| node);
    let tools = Tool::ALL.iter().chain(of_node).map(|&tool| Ok((tool, ensure(tool)?)));
    let tools = tools.collect::<anyhow::Result<Vec<_>>>()?;
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        build::delete_go_caches(&cache_root()?)?;
    }
    Ok(tools)
}

fn find(tool: Tool) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = in_assets(tool) {
        return Ok(Some(path));
    }
    if let Some(path) = on_path(tool)? {
        return Ok(Some(path));
    }
    Ok(Some(cached(tool)?).filter(|path| path.is_file()))
}

/// Taken as it is: who sets the variable has chosen the version.
fn in_assets(tool: Tool) -> Option<PathBuf> {
    let folder = std::env::var_os("KUBEBUILDER_ASSETS").filter(|value| !value.is_empty())?;
    Some(Path::new(&folder).join(tool.name())).filter(|path| path.is_file())
}

fn on_path(tool: Tool) -> anyhow::Result<Option<PathBuf>> {
    let wanted = tool.minor()?;
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let mut candidates = std::env::split_paths(&folders).map(|folder| folder.join(tool.name()));
    Ok(candidates
        .find(|path| path.is_file() && printed_minor(tool, path).is_ok_and(|minor| minor == Some(wanted))))
}

/// What the program says about itself; `None` when it says no version.
fn printed_minor(tool: Tool, program: &Path) -> anyhow::Result<Option<(u32, u32)>> {
    let output = Command::new(program)
        .args(tool.version_args())
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    anyhow::ensure!(
        output.status.success(),
        "{} {} failed ({}): {}",
        program.display(),
        tool.version_args().join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let both = [output.stdout, output.stderr].concat();
    Ok(first_version(&String::from_utf8_lossy(&both)))
}

/// `${XDG_CACHE_HOME:-~/.cache}/kubervisor`; a relative XDG_CACHE_HOME does not count, by its specification.
fn cache_root() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("kubervisor"))
        .context("there is no folder for built tools: set HOME or XDG_CACHE_HOME to an absolute path")
}

fn cached(tool: Tool) -> anyhow::Result<PathBuf> {
    let folder = format!("{}-{}-{}", tool.version()?, go_os(), go_arch());
    Ok(cache_root()?.join("tools").join(tool.name()).join(folder).join(tool.name()))
}

/// Go's word for this system.
fn go_os() -> &'static str {
    if std::env::consts::OS == "macos" { "darwin" } else { std::env::consts::OS }
}

/// Go's word for this processor.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn required_version(go_mod: &'static str, module: &str) -> Option<&'static str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    })
}

/// Major and minor of the first `1.2.3` in a text.
fn first_version(text: &str) -> Option<(u32, u32)> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
        let mut parts = word.split('.').map(str::parse);
        match (parts.next(), parts.next(), parts.next()) {
            (Some(Ok(major)), Some(Ok(minor)), Some(Ok(_))) => Some((major, minor)),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_a_version_in_its_go_mod() {
        for tool in Tool::ALL.into_iter().chain(Tool::NODE) {
            assert!(tool.minor().is_ok(), "{tool:?}");
        }
        assert_eq!(Tool::Prometheus.minor().unwrap().0, 3);
    }

    #[test]
    fn the_oldest_version_is_the_one_that_is_asked_for_by_its_minor() {
        let version = required_version(KUBERNETES_1_33.go_mod, KUBERNETES_1_33.requires);
        assert_eq!(version.and_then(first_version), Some((1, 33)));
    }

    #[test]
    fn versions_are_read_as_the_programs_print_them() {
        assert_eq!(first_version("etcd Version: 3.6.8\nGit SHA: none"), Some((3, 6)));
        assert_eq!(first_version("Kubernetes v1.36.3"), Some((1, 36)));
        assert_eq!(first_version("kwok version v0.8.0 go1.26.8 (linux/amd64)"), Some((0, 8)));
        assert_eq!(first_version("prometheus, version  (branch: , revision: unknown)"), None);
    }

    #[test]
    fn a_tool_line_is_no_requirement() {
        let go_mod = "tool example.org/tool/cmd\n\nrequire example.org/tool v1.2.3\n";
        assert_eq!(required_version(go_mod, "example.org/tool"), Some("v1.2.3"));
    }
}
