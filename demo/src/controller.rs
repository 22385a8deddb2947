//! The controller: the shipped binary, as a child that does not outlive the demo.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context;
use tokio::process::{Child, Command};

const GUARD: &str = include_str!("guard.sh");
/// Bytes of the log that an error shows.
const TAIL: usize = 3_000;

/// A running controller; killed when dropped.
pub struct Controller {
    /// Holds the open end of the guard's input.
    guard: Child,
    log: PathBuf,
    port: u16,
}

/// What to run, and how.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    /// The binary.
    pub program: &'a Path,
    /// Names the API server and the user.
    pub kubeconfig: &'a Path,
    /// Such as `http://127.0.0.1:9090`.
    pub prometheus_url: &'a str,
    /// Its log, written anew.
    pub log: &'a Path,
}

/// The same path, if there is a binary.
///
/// # Errors
/// When there is none, with the remedy.
pub fn built(program: PathBuf) -> anyhow::Result<PathBuf> {
    let missing = || format!("no program at {}; run make build first", program.display());
    anyhow::ensure!(program.is_file(), missing());
    Ok(program)
}

impl Controller {
    /// Starts it; it does its work once it has found its way.
    ///
    /// # Errors
    /// When the log cannot be written, or there is no shell.
    pub fn start(orders: &Orders<'_>) -> anyhow::Result<Self> {
        let Orders { program, kubeconfig, prometheus_url, log } = orders;
        let port = free_port()?;
        let out = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let err = out.try_clone().context("cannot use one log file for both outputs")?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GUARD]).arg(program).args(["run", "--allow-loopback-sources"]);
        command.args(["--prometheus-url", prometheus_url, "--http-addr", &format!("127.0.0.1:{port}")]);
        // Ten pods are no cluster: the share of all members would end the last act, which shows the floor.
        command.args(["--max-cuts-per-minute", "30"]);
        command.env("KUBECONFIG", kubeconfig).stdin(Stdio::piped()).stdout(out).stderr(err);
        // Ctrl-C is for the demo; the guard sees its end.
        let guard = command.process_group(0).spawn().context("cannot start /bin/sh")?;
        Ok(Self { guard, log: log.to_path_buf(), port })
    }

    /// # Errors
    /// When it has ended; [`Controller::tail`] may tell why.
    pub fn ensure_running(&mut self) -> anyhow::Result<()> {
        match self.guard.try_wait().context("cannot ask for the controller's state")? {
            None => Ok(()),
            Some(status) => anyhow::bail!("the controller ended ({status})"),
        }
    }

    /// `http://127.0.0.1:PORT`: `/live`, `/ready`, `/metrics`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it logs.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The end of its log, with a head line.
    pub fn last_words(&self) -> String {
        format!("the end of the controller's log:\n{}", self.tail())
    }

    /// The same error, with its last words.
    pub fn explain(&self, error: &anyhow::Error) -> anyhow::Error {
        anyhow::anyhow!("{error:#}; {}", self.last_words())
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(TAIL)..]).into_owned()
    }
}

/// A port that nobody listens on now. The controller takes a number, not a socket, so somebody may be faster.
fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr().context("a port without an address")?.port())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A stand-in for the controller: writes its process id and its arguments, then stays or ends.
    fn started(dir: &Path, then: &str) -> Controller {
        use std::os::unix::fs::PermissionsExt;
        let program = dir.join("controller");
        std::fs::write(&program, format!("#!/bin/sh\necho $$ \"$@\"\n{then}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("made a program");
        let log = dir.join("controller.log");
        let orders = Orders { program: &program, kubeconfig: dir, prometheus_url: "http://there", log: &log };
        Controller::start(&orders).expect("started")
    }

    async fn logged(controller: &Controller) -> String {
        localcluster::until("a line in the log", Duration::from_secs(20), || async {
            let log = controller.tail();
            Ok(if log.ends_with('\n') { Ok(log) } else { Err(log) })
        })
        .await
        .expect("a line")
    }

    fn pid(log: &str) -> &str {
        log.split(' ').next().expect("a process id")
    }

    #[tokio::test]
    async fn it_does_not_outlive_us() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut controller = started(dir.path(), "exec sleep 600");
        let log = logged(&controller).await;
        assert!(log.contains("run --allow-loopback-sources --prometheus-url http://there"), "{log}");
        assert!(controller.ensure_running().is_ok());
        drop(controller);
        let process = PathBuf::from("/proc").join(pid(&log));
        let gone = localcluster::until("its end", Duration::from_secs(20), || async {
            Ok(if process.exists() { Err("it runs".to_owned()) } else { Ok(()) })
        });
        gone.await.expect("gone");
    }

    #[tokio::test]
    async fn an_early_end_is_told_and_its_log_is_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut controller = started(dir.path(), "echo lost my way; exit 3");
        let told = localcluster::until("its end", Duration::from_secs(20), || {
            let error = controller.ensure_running().err();
            async move { Ok(error.ok_or_else(|| "it runs".to_owned())) }
        });
        let error = told.await.expect("told").to_string();
        assert!(error.contains("exit status: 3") && controller.tail().contains("lost my way"), "{error}");
    }

    #[test]
    fn a_missing_binary_is_told_with_the_remedy() {
        let error = built(PathBuf::from("/nonexistent/controller")).expect_err("nothing there").to_string();
        assert!(error.contains("make build"), "{error}");
    }
}
