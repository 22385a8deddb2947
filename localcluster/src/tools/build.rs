//! Builds one tool with Go, once for all processes and users of the cache.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{FlockOperation, flock};

use super::{Tool, cache_root, first_version, printed_minor};
use crate::process::{Process, ProcessSpec};

const PROGRESS_PERIOD: Duration = Duration::from_secs(10);

/// Builds into a temporary name next to `target`, asks it for its version and renames it.
pub(super) fn build(tool: Tool, target: &Path) -> anyhow::Result<PathBuf> {
    let root = cache_root()?;
    let folder = target.parent().context("a cache path without a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    // Test binaries run side by side; the second one waits here and then finds the result.
    let _turn = lock(
        &folder.join("lock"),
        FlockOperation::LockExclusive,
        &format!("{} is being built", tool.name()),
    )?;
    if !target.is_file() {
        // Shared: keeps the Go caches from being deleted under a build.
        let _caches =
            lock(&root.join("go.lock"), FlockOperation::LockShared, "the Go caches are being deleted")?;
        let new = folder.join(format!("{}.new", tool.name()));
        run_go(tool, &root, &new)?;
        check_version(tool, &new)?;
        std::fs::rename(&new, target).with_context(|| format!("cannot move {} into place", new.display()))?;
    }
    Ok(target.to_owned())
}

/// Deletes what Go downloaded and compiled, if no other process is building.
pub(super) fn delete_go_caches(root: &Path) -> anyhow::Result<()> {
    let file = lock_file(&root.join("go.lock"))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    for folder in [go_build_cache(root), go_module_cache(root)] {
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("cannot delete {}", folder.display()))?;
        }
    }
    Ok(())
}

fn go_build_cache(root: &Path) -> PathBuf {
    root.join("go-build")
}

fn go_module_cache(root: &Path) -> PathBuf {
    root.join("go-mod")
}

fn lock_file(path: &Path) -> anyhow::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open the lock {}", path.display()))
}

/// Held until the file is closed, so also when this process dies.
fn lock(path: &Path, kind: FlockOperation, what: &str) -> anyhow::Result<File> {
    let file = lock_file(path)?;
    let at_once = match kind {
        FlockOperation::LockShared => FlockOperation::NonBlockingLockShared,
        _ => FlockOperation::NonBlockingLockExclusive,
    };
    if flock(&file, at_once).is_err() {
        eprintln!("localcluster: {what} by another process; waiting for it ({})", path.display());
        flock(&file, kind).with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn run_go(tool: Tool, root: &Path, output: &Path) -> anyhow::Result<()> {
    let source = write_module(tool)?;
    let version = tool.version()?;
    eprintln!(
        "localcluster: building {} {version} from its Go module into {} (it is neither in KUBEBUILDER_ASSETS nor, in \
         this version, on PATH, nor in the cache). Once only; about {:.0} s on two cores, \
         downloads not counted.",
        tool.name(),
        output.parent().unwrap_or(output).display(),
        tool.usual_minutes() * 60.0
    );
    let readable =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let inherited: Vec<_> = std::env::vars_os().filter_map(readable).collect();
    let env = go_env(root, &inherited);
    let args = go_args(tool, version, output)?;
    let go = ProcessSpec {
        name: "go",
        program: Path::new("go"),
        args: &args,
        dir: source.path(),
        env: Some(&env),
    };
    let mut process = Process::spawn(&go)?;
    let status = with_progress(tool, || process.wait())?;
    anyhow::ensure!(
        status.success(),
        "building {} {version} with `go build` failed ({status}); Go 1.26 and a way to the module proxy are needed, or \
         set KUBEBUILDER_ASSETS to a folder that has the program. The end of its output:\n{}",
        tool.name(),
        process.log_tail()
    );
    Ok(())
}

/// The pinned module files, in a folder of their own: the crate's source may not be on this machine, nor writable.
fn write_module(tool: Tool) -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new()
        .prefix("localcluster-build-")
        .tempdir()
        .context("cannot create a folder to build in")?;
    let module = tool.module()?;
    for (name, text) in [("go.mod", module.go_mod), ("go.sum", module.go_sum)] {
        std::fs::write(folder.path().join(name), text)
            .with_context(|| format!("cannot write {name} to build {}", tool.name()))?;
    }
    Ok(folder)
}

fn go_args(tool: Tool, version: &str, output: &Path) -> anyhow::Result<Vec<String>> {
    let mut linked = "-s -w".to_owned();
    for (variable, value) in version_variables(tool, version)? {
        linked.push_str(&format!(" -X {variable}={value}"));
    }
    let output = output.display().to_string();
    Ok(["build", "-trimpath", "-ldflags", &linked, "-o", &output, tool.package()].map(str::to_owned).to_vec())
}

/// What a release build would set. Without them Kubernetes reports v0.0.0-master, which breaks kubectl's version check.
fn version_variables(tool: Tool, version: &str) -> anyhow::Result<Vec<(String, String)>> {
    let (major, minor) = tool.minor()?;
    let kubernetes = |name: &str, value: String| (format!("k8s.io/component-base/version.{name}"), value);
    Ok(match tool {
        Tool::KubeApiserver
        | Tool::KubeControllerManager
        | Tool::Kubectl
        | Tool::Kubelet
        | Tool::KubeProxy
        | Tool::KubeScheduler => vec![
            kubernetes("gitVersion", version.to_owned()),
            kubernetes("gitMajor", major.to_string()),
            kubernetes("gitMinor", minor.to_string()),
        ],
        Tool::Prometheus => {
            let patch = version.rsplit('.').next().unwrap_or("0");
            vec![(
                "github.com/prometheus/common/version.Version".to_owned(),
                format!("{major}.{minor}.{patch}"),
            )]
        }
        Tool::Helm => vec![("helm.sh/helm/v4/internal/version.version".to_owned(), version.to_owned())],
        Tool::Etcd | Tool::Kwok => Vec::new(),
    })
}

/// The caller's environment (proxies, GOPROXY) with the caches under our root, so that they can be deleted as a whole.
fn go_env<'a>(root: &Path, inherited: &'a [(String, String)]) -> Vec<(&'a str, String)> {
    let mut env: Vec<_> = inherited.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    env.extend([
        ("GOCACHE", go_build_cache(root).display().to_string()),
        ("GOMODCACHE", go_module_cache(root).display().to_string()),
        // go.sum decides, and what is downloaded can be deleted without `go clean`.
        ("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false".to_owned()),
        ("GOWORK", "off".to_owned()),
        ("CGO_ENABLED", "0".to_owned()),
    ]);
    env
}

/// Says every 10 s that the work goes on.
fn with_progress<T>(tool: Tool, work: impl FnOnce() -> T) -> T {
    let (done, waiting): (Sender<()>, _) = channel();
    std::thread::scope(|scope| {
        scope.spawn(move || report(tool, &waiting));
        let result = work();
        drop(done);
        result
    })
}

fn report(tool: Tool, done: &Receiver<()>) {
    let start = Instant::now();
    while done.recv_timeout(PROGRESS_PERIOD) == Err(RecvTimeoutError::Timeout) {
        eprintln!("localcluster: still building {}, {} s", tool.name(), start.elapsed().as_secs());
    }
    eprintln!("localcluster: {} took {} s", tool.name(), start.elapsed().as_secs());
}

fn check_version(tool: Tool, program: &Path) -> anyhow::Result<()> {
    let printed = printed_minor(tool, program)?;
    let wanted = tool.minor()?;
    anyhow::ensure!(
        printed == Some(wanted),
        "the built {} says version {printed:?} where {wanted:?} was wanted; is its go.mod right ({:?})?",
        tool.name(),
        first_version(tool.version()?)
    );
    Ok(())
}
