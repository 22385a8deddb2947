//! Into namespaces of its own: network, mounts, processes. So a node leaves no bridge, no rule and no mount on the
//! machine, reaches nobody outside, and dies as a whole, however its program ends.
//!
//! The program that calls [`enter`] becomes two: the outer one waits, passes signals on and cleans up; the inner one,
//! started by it, is the first process of its namespaces, with whose death the kernel ends all others there.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::missing::{missing, search_path};
use crate::data_dir::DataDir;
use crate::reaper;
use crate::stop::StopSignals;
use crate::tools::{self, Tool};

/// In the environment of the inner program: the folder that the outer one removes.
const FOLDER: &str = "LOCALCLUSTER_NODE";

/// Kept free for documentation, so that it is nobody's.
pub(super) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Empty inside: nothing that is needed there may be in one of these.
const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

const SETUP: &str = include_str!("enter.sh");

/// The kernel is to kill us when our parent dies; `$0` is its number, as it may have died before we could ask for that.
const ORPHAN: &str = r#"[ "$PPID" = "$0" ] && exec "$@""#;

/// Where pods reach what listens on the node, the API server too: the value for
/// [`Options::address`](crate::Options::address).
#[must_use]
pub fn address() -> IpAddr {
    ADDRESS
}

/// Starts this program again, with the same arguments, in namespaces of its own, and returns in there only; outside it
/// waits for the inner program, passes SIGINT, SIGTERM and SIGHUP on, cleans up and ends with the same status. To be called first in `main`, after what needs the machine's network: the programs of the control plane
/// and the node are built here if they are missing, others by `tools::ensure` before.
///
/// Inside, there is loopback and a network of the node's own, and nothing else; `/run`, `/var/lib` and `/var/log` are
/// empty, and temporary files go when the program does.
///
/// # Errors
/// When the machine lacks something, or a program cannot be built; both outside.
pub fn enter() -> anyhow::Result<()> {
    if folder().is_ok() {
        // Outside, a node would change the machine.
        anyhow::ensure!(std::process::id() == 1, "{FOLDER} is for what a node starts itself; unset it");
        return Ok(());
    }
    let lacking = missing();
    anyhow::ensure!(lacking.is_empty(), "no node can run here:\n{}", lacking.join("\n"));
    is_seen_inside(&std::env::current_exe().context("cannot tell which program this is")?)?;
    let control_plane = [Tool::Etcd, Tool::KubeApiserver, Tool::KubeControllerManager, Tool::Kubectl];
    for tool in control_plane.into_iter().chain(Tool::NODE) {
        is_seen_inside(&tools::ensure(tool)?)?;
    }
    // The thread that forks has to live as long as the child, and must not be one of the caller's runtime.
    let outside = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("cannot start a runtime")?.block_on(stay_outside())
    });
    let status = outside.join().map_err(|_| anyhow::anyhow!("the outer program panicked"))??;
    std::process::exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// Whether a file or folder is where a node can see it; to be asked before [`enter`], of all that is needed inside.
///
/// # Errors
/// When it is not there, or is in a place that a node hides.
pub fn is_seen_inside(path: &Path) -> anyhow::Result<()> {
    let real = path.canonicalize().with_context(|| format!("there is no {}", path.display()))?;
    match HIDDEN.iter().find(|hidden| real.starts_with(hidden)) {
        None => Ok(()),
        Some(hidden) => anyhow::bail!(
            "{} is in {hidden}, which a node hides from what runs with it; have it in another place",
            real.display()
        ),
    }
}

/// The folder of this node.
///
/// # Errors
/// When this is not the inner program.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    folder.context("a node starts in namespaces of its own only: call node::enter() first in main")
}

/// The name of its control groups, those of all its pods.
pub(super) fn cgroup() -> anyhow::Result<String> {
    let folder = folder()?;
    let name = folder.file_name().and_then(|name| name.to_str());
    Ok(name.with_context(|| format!("{} has no name", folder.display()))?.to_owned())
}

/// A file with the number that the first inner process has outside, for `nsenter`.
pub(super) fn pid_file(folder: &Path) -> PathBuf {
    folder.join("pid")
}

async fn stay_outside() -> anyhow::Result<ExitStatus> {
    // First, so that a signal from now on cleans up as well.
    let mut stop = StopSignals::new()?;
    let folder = DataDir::create(None)?;
    is_seen_inside(folder.path()).context("no folder for the node; set TMPDIR to another, such as /tmp")?;
    let name = folder.path().file_name().context("a temporary folder without a name")?;
    reaper::add_cgroup(&name.to_string_lossy())?;
    let mut child = command(folder.path())?.spawn().context("cannot start setpriv")?;
    let inner = first_inside(&mut child).await?;
    if let Some(inner) = inner {
        std::fs::write(pid_file(folder.path()), format!("{}\n", inner.as_raw_nonzero()))
            .with_context(|| format!("cannot write into {}", folder.path().display()))?;
    }
    loop {
        tokio::select! {
            biased;
            status = child.wait() => return status.context("cannot wait for the inner program"),
            signal = stop.number() => {
                // An error means that it has just ended.
                let _ = inner.map(|inner| kill_process(inner, as_felt_by(inner, signal)));
            }
        }
    }
}

/// The kernel withholds a signal from the first process of a pid namespace if that has no handler for it, be it that it
/// is just starting. What it would do to any other process is to end it.
fn as_felt_by(first: Pid, signal: Signal) -> Signal {
    let status = std::fs::read_to_string(format!("/proc/{}/status", first.as_raw_nonzero()));
    if heeded(&status.unwrap_or_default(), signal) { signal } else { Signal::KILL }
}

/// Whether a process with this `/proc/PID/status` catches or ignores the signal.
fn heeded(status: &str, signal: Signal) -> bool {
    let bit = 1_u64 << (signal.as_raw() - 1);
    let mask = |line: &str| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok();
    let masks = status.lines().filter(|line| line.starts_with("SigCgt:") || line.starts_with("SigIgn:"));
    masks.filter_map(mask).any(|mask| mask & bit != 0)
}

fn command(folder: &Path) -> anyhow::Result<Command> {
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "/bin/sh", "-c", ORPHAN])
        .arg(std::process::id().to_string())
        .args(["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["/bin/sh", "-c", SETUP])
        .arg(folder)
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(FOLDER, folder)
        .env("LOCALCLUSTER_NODE_ADDRESS", ADDRESS.to_string())
        .env("TMPDIR", folder)
        .env("PATH", search_path());
    Ok(command)
}

/// The only child of `unshare`, once there is one; `None` when that has ended before.
async fn first_inside(unshare: &mut Child) -> anyhow::Result<Option<Pid>> {
    let id = unshare.id().context("the inner program has ended at once")?;
    let list = format!("/proc/{id}/task/{id}/children");
    loop {
        if unshare.try_wait().context("cannot wait for the inner program")?.is_some() {
            return Ok(None);
        }
        let children = std::fs::read_to_string(&list)
            .with_context(|| format!("cannot read {list}; the kernel needs CONFIG_PROC_CHILDREN"))?;
        let first = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        if let Some(pid) = first.and_then(Pid::from_raw) {
            return Ok(Some(pid));
        }
        sleep(Duration::from_millis(5)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_hides_is_refused_with_its_place_by_whatever_name() {
        assert!(is_seen_inside(Path::new("/usr")).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("plum");
        std::os::unix::fs::symlink("/var/lib", &link).unwrap();
        let said = is_seen_inside(&link).unwrap_err().to_string();
        assert!(said.starts_with("/var/lib is in /var/lib, which a node hides"), "{said}");
        let said = is_seen_inside(&folder.path().join("pear")).unwrap_err().to_string();
        assert!(said.contains("there is no"), "{said}");
    }

    #[test]
    fn a_signal_is_heeded_if_it_is_caught_or_ignored() {
        let status =
            "Name:\tplum\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000000001\nSigCgt:\t0000000000004000\n";
        let heeded = [Signal::HUP, Signal::INT, Signal::TERM].map(|signal| heeded(status, signal));
        assert_eq!(heeded, [true, false, true]);
    }
}
