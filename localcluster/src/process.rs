//! A child process in a group of its own, with a log file, that cannot outlive us.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::reaper;

/// Waits for its group to be known to the reaper, then becomes the program. So there is no instant at which our death
/// leaves a running child: without the word on its input it exits by itself.
const GATE: &str = r#"read -r word && [ "$word" = go ] && exec "$0" "$@" </dev/null"#;

/// What to run.
pub struct ProcessSpec<'a> {
    /// For messages, and the name of the log.
    pub name: &'a str,
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: &'a [String],
    /// Working folder; the log `NAME.log` is written there.
    pub dir: &'a Path,
    /// Whole environment, if not ours: a stray `ETCD_*` or proxy variable must not change a test.
    pub env: Option<&'a [(&'a str, String)]>,
}

/// See [`Process::signal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessSignal {
    /// SIGTERM
    End,
    /// SIGSTOP
    Freeze,
    /// SIGCONT
    Thaw,
}

/// A running child; killed with its whole group when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started, or its log cannot be written.
    pub fn spawn(spec: &ProcessSpec<'_>) -> anyhow::Result<Process> {
        let log = spec.dir.join(format!("{}.log", spec.name));
        let child = command(spec, &log)?
            .spawn()
            .with_context(|| format!("cannot start {} ({})", spec.name, spec.program.display()))?;
        let mut process = Process { name: spec.name.to_owned(), child, log };
        reaper::add_group(process.pid())?;
        process.open_gate()?;
        Ok(process)
    }

    fn open_gate(&mut self) -> anyhow::Result<()> {
        let mut gate = self.child.stdin.take().context("a child without an input pipe")?;
        gate.write_all(b"go\n").with_context(|| format!("{} ended before it began", self.name))
    }

    /// Process id, also of its group.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The exit status, if it has ended.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn exited(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask for the state of {}", self.name))
    }

    /// Blocks until it has ended.
    pub(crate) fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// An error that shows the end of the log, if it has ended.
    pub(crate) fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.exited()? {
            None => Ok(()),
            Some(status) => anyhow::bail!(
                "{} ended early ({status}); the end of its log:\n{}",
                self.name,
                self.log_tail()
            ),
        }
    }

    /// The last lines of the log, 4,000 bytes at most.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log, 4_000).unwrap_or_else(|error| format!("(no log at {}: {error})", self.log.display()))
    }

    /// Where it logs.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Asks it to end, freezes it or thaws it.
    ///
    /// # Errors
    /// It is gone.
    pub fn signal(&self, signal: ProcessSignal) -> anyhow::Result<()> {
        let signal = match signal {
            ProcessSignal::End => Signal::TERM,
            ProcessSignal::Freeze => Signal::STOP,
            ProcessSignal::Thaw => Signal::CONT,
        };
        let group =
            i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a process without a number")?;
        kill_process_group(group, signal).with_context(|| format!("{} is gone", self.name))
    }

    /// SIGKILL to the whole group, then waits until it has ended. An API server drains for a minute on SIGTERM.
    pub fn kill(&mut self) {
        if let Some(group) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // An error means that the group is gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        // An error means that the reaper is gone: then nobody could use the number wrongly either.
        let _ = reaper::drop_group(self.pid());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn command(spec: &ProcessSpec<'_>, log: &Path) -> anyhow::Result<Command> {
    let out = open_log(log)?;
    let err = out.try_clone().context("cannot use one log file for both outputs")?;
    let mut command = Command::new("/bin/sh");
    command.args(["-c", GATE]).arg(spec.program).args(spec.args);
    if let Some(env) = spec.env {
        command.env_clear().envs(env.iter().map(|(name, value)| (name, value)));
    }
    command.current_dir(spec.dir).stdin(Stdio::piped()).stdout(out).stderr(err).process_group(0);
    Ok(command)
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    // Appended: a restarted API server must not wipe what it said before.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write the log {}", path.display()))
}

fn tail(path: &Path, bytes: u64) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}
