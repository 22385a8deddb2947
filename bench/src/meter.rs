//! One process, what it printed, what time it took and how much memory it held at the most.
//!
//! A child of the bench would begin with the bench's own memory as its peak, as the kernel counts that before `exec`
//! too. So a small process stands between: this program once more, which does nothing but this.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use wait4::Wait4 as _;

/// What a process took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    /// From its start to its end.
    pub seconds: f64,
    /// Of processors, in the program and for it in the kernel: also on a busy machine nearly the same.
    pub busy_seconds: f64,
    /// Resident memory at the most.
    pub peak_bytes: u64,
}

/// Runs commands, each in this environment and nothing else.
#[derive(Debug)]
pub struct Meter {
    itself: PathBuf,
    report: tempfile::NamedTempFile,
    environment: BTreeMap<&'static str, OsString>,
}

impl Meter {
    /// One that runs every command in this environment.
    ///
    /// # Errors
    /// There is no room for a report.
    pub fn new(environment: BTreeMap<&'static str, OsString>) -> anyhow::Result<Self> {
        let itself = std::env::current_exe().context("cannot tell where this program is")?;
        let report = tempfile::NamedTempFile::new().context("cannot create a file for a report")?;
        Ok(Self { itself, report, environment })
    }

    /// Runs a command to its end; what it took, and what it printed.
    ///
    /// # Errors
    /// It fails.
    pub fn take(&self, command: &[String]) -> anyhow::Result<(Taken, String)> {
        let line = command.join(" ");
        let mut meter = Command::new(&self.itself);
        meter.env_clear().envs(&self.environment).stdin(Stdio::null());
        meter.arg("meter").arg(self.report.path()).arg("--").args(command);
        let output = meter.output().with_context(|| format!("cannot run `{line}`"))?;
        anyhow::ensure!(
            output.status.success(),
            "`{line}` failed: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        let report = std::fs::read(self.report.path()).context("cannot read a report")?;
        let taken = serde_json::from_slice(&report).with_context(|| format!("no report of `{line}`"))?;
        Ok((taken, String::from_utf8(output.stdout).with_context(|| format!("`{line}` printed no text"))?))
    }
}

/// The process between: runs the command with its own in- and outputs and writes down what it took.
///
/// # Errors
/// It cannot be run, or the report cannot be written.
pub fn run(report: &Path, command: &[String]) -> anyhow::Result<ExitCode> {
    let [program, args @ ..] = command else { anyhow::bail!("no command") };
    let mut command = Command::new(program);
    command.args(args);
    let begin = Instant::now();
    let child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let end = child.wait4().with_context(|| format!("the system does not tell what {program} took"))?;
    let seconds = begin.elapsed().as_secs_f64();
    let usage = end.rusage;
    let busy_seconds = (usage.utime + usage.stime).as_secs_f64();
    let taken = Taken { seconds, busy_seconds, peak_bytes: usage.maxrss };
    std::fs::write(report, serde_json::to_vec(&taken)?).with_context(|| report.display().to_string())?;
    Ok(if end.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_holds_the_time_and_the_memory_of_the_command() {
        let report = tempfile::NamedTempFile::new().unwrap();
        let command = ["sh", "-c", "exit 0"].map(str::to_owned);
        assert_eq!(run(report.path(), &command).unwrap(), ExitCode::SUCCESS);
        let taken: Taken = serde_json::from_slice(&std::fs::read(report.path()).unwrap()).unwrap();
        assert!(taken.seconds > 0.0 && taken.peak_bytes > 100_000, "{taken:?}");
    }

    #[test]
    fn a_command_that_fails_is_a_failure_and_none_at_all_a_sentence() {
        let report = tempfile::NamedTempFile::new().unwrap();
        let command = ["sh", "-c", "exit 3"].map(str::to_owned);
        assert_eq!(run(report.path(), &command).unwrap(), ExitCode::FAILURE);
        assert_eq!(run(report.path(), &[]).unwrap_err().to_string(), "no command");
    }
}
