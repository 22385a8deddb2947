//! The one mechanism that leaves nothing behind: a small shell process that outlives this one by a moment.
//!
//! Takes the process groups and folders that must not survive us. Acts when our end of its pipe closes, which the
//! kernel does after a return from `main`, a panic, Ctrl-C and SIGKILL alike. `PR_SET_PDEATHSIG` was the rejected
//! neighbour: it fires when the *thread* that forked ends, and every Rust test is a thread.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::Context;

const SCRIPT: &str = include_str!("reaper.sh");

struct Reaper {
    /// Never waited for: it ends after us.
    child: Child,
    pipe: Mutex<ChildStdin>,
}

/// Has the process group killed when this process ends.
pub(crate) fn add_group(pgid: u32) -> anyhow::Result<()> {
    tell(&format!("add {pgid}"))
}

/// Forgets a process group that has ended, so that a later process of the same number is safe.
pub(crate) fn drop_group(pgid: u32) -> anyhow::Result<()> {
    tell(&format!("drop {pgid}"))
}

/// Has the folder removed when this process ends.
pub(crate) fn add_dir(path: &Path) -> anyhow::Result<()> {
    tell(&format!("dir {}", line_safe(path)?))
}

/// Has the control groups of this name removed, in every hierarchy, when this process ends.
pub(crate) fn add_cgroup(name: &str) -> anyhow::Result<()> {
    tell(&format!("cgroup {name}"))
}

/// Forgets a folder that was removed.
pub(crate) fn drop_dir(path: &Path) -> anyhow::Result<()> {
    tell(&format!("undir {}", line_safe(path)?))
}

/// The reaper's own process id; it is started by the first call.
pub(crate) fn pid() -> anyhow::Result<u32> {
    Ok(reaper()?.child.id())
}

fn line_safe(path: &Path) -> anyhow::Result<&str> {
    let text = path
        .to_str()
        .with_context(|| format!("the folder {} is not valid UTF-8; choose another", path.display()))?;
    anyhow::ensure!(!text.contains('\n'), "the folder {text:?} has a line break in its name; choose another");
    Ok(text)
}

fn tell(line: &str) -> anyhow::Result<()> {
    let reaper = reaper()?;
    let mut pipe = reaper.pipe.lock().unwrap_or_else(PoisonError::into_inner);
    // One write per line: lines of several threads must not mix.
    pipe.write_all(format!("{line}\n").as_bytes()).with_context(|| {
        format!(
            "the process that cleans up after this one (pid {}) is gone; was it killed?",
            reaper.child.id()
        )
    })
}

fn reaper() -> anyhow::Result<&'static Reaper> {
    static REAPER: OnceLock<Result<Reaper, String>> = OnceLock::new();
    let started = REAPER.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    started.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn start() -> anyhow::Result<Reaper> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", SCRIPT, "localcluster-reaper"])
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Its own group: Ctrl-C in a terminal goes to the whole foreground group.
        .process_group(0)
        .spawn()
        .context("cannot start /bin/sh, which is to clean up after this process")?;
    let pipe = child.stdin.take().context("the clean-up process has no input pipe")?;
    Ok(Reaper { child, pipe: Mutex::new(pipe) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_goes_also_where_path_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap().keep();
        std::fs::write(folder.join("plum"), "").unwrap();
        let mut reaper = Command::new("/bin/sh");
        reaper.args(["-c", SCRIPT]).env("PATH", "/no/such/folder").stdin(Stdio::piped());
        let mut reaper = reaper.spawn().unwrap();
        let mut pipe = reaper.stdin.take().unwrap();
        writeln!(pipe, "dir {}", folder.display()).unwrap();
        drop(pipe);
        assert!(reaper.wait().unwrap().success());
        assert!(!folder.exists());
    }
}
