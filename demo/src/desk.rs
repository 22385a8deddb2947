//! A person's desk in the middle of the play: `kubectl kubervisor`, run as people run it.
//!
//! Takes the names of a cut pod and of one that serves; gives what the plugin says of them, and on wish pictures of a
//! terminal. Changes nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use localcluster::{ADMIN, Terminal, until};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::controller::Controller;
use crate::pictures::{Picture, Pictures};
use crate::script::{FLOOR, PODS};
use crate::shop::{NAMESPACE, SERVICE, Shop};

/// What is printed fits on a page of the README.
const COLUMNS: u16 = 110;
/// More than the longest page has.
const LINES: u16 = 80;
/// Of the live screen: three services and what stands around them.
const WATCH_LINES: u16 = 9;
/// A command takes half a second; a machine that compiles at the same time takes ten times as long.
const LIMIT: Duration = Duration::from_secs(10);

/// Where the programs are, and whom they ask.
#[derive(Clone, Debug)]
pub struct Desk {
    path: OsString,
    kubeconfig: PathBuf,
    home: PathBuf,
    controller: String,
}

/// The plugin's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// On the cut pod, in a sentence.
    pub cut: String,
    /// The breaker that cut it.
    pub cut_by: String,
    /// On the pod that serves.
    pub kept: String,
    /// What keeps it, in a word.
    pub kept_by: String,
}

impl Desk {
    /// With the plugin of this path on its PATH.
    ///
    /// # Errors
    /// When the kubeconfig cannot be written, or a folder has a colon in its name.
    pub fn new(shop: &Shop, controller: &Controller, plugin: &Path) -> anyhow::Result<Self> {
        let cluster = &shop.cluster;
        let folder = |program: &Path| program.parent().map(Path::to_path_buf).unwrap_or_default();
        let own = [folder(plugin), folder(cluster.kubectl_path())];
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = own.into_iter().chain(std::env::split_paths(&others));
        Ok(Self {
            path: std::env::join_paths(path).context("a folder with a colon in its name is in no PATH")?,
            kubeconfig: cluster.kubeconfig(ADMIN, None)?,
            home: cluster.data_dir().to_path_buf(),
            controller: controller.url(),
        })
    }

    /// The lines of a shell that make a terminal such a desk.
    pub fn exports(&self) -> String {
        let own: Vec<_> = std::env::split_paths(&self.path).take(2).collect();
        let own: Vec<_> = own.iter().map(|folder| folder.display().to_string()).collect();
        format!(
            "export KUBECONFIG={} KUBERVISOR_CONTROLLER_URL={}\nexport PATH={}:$PATH",
            self.kubeconfig.display(),
            self.controller,
            own.join(":")
        )
    }

    /// Asks the controller why, until it knows.
    ///
    /// # Errors
    /// When the plugin fails, or the controller has no such answer in time.
    pub async fn ask(&self, cut: &str, kept: &str) -> anyhow::Result<Answers> {
        let (cut, cut_by) = self.explained(cut, "/pods/0/cutBy").await?;
        let (kept, kept_by) = self.explained(kept, "/pods/0/refusals/0/reason").await?;
        Ok(Answers { cut, cut_by, kept, kept_by })
    }

    /// The answer, and what stands at this place of it, once something does. Only the controller's own has it there.
    async fn explained(&self, pod: &str, place: &str) -> anyhow::Result<(String, String)> {
        until(&format!("an explanation of {pod} with {place}"), LIMIT, || async move {
            let mut command = Command::new("kubectl");
            command.args(["kubervisor", "explain", pod, "-n", NAMESPACE, "-o", "json"]);
            let output = self.own(&mut command).stdin(Stdio::null()).output().await.context("kubectl")?;
            let words = || String::from_utf8_lossy(&output.stderr).into_owned();
            anyhow::ensure!(output.status.success(), "kubectl kubervisor explain {pod} failed: {}", words());
            let answer: Value = serde_json::from_slice(&output.stdout)?;
            let text = |at: &str| answer.pointer(at).and_then(Value::as_str).map(str::to_owned);
            Ok(text("/pods/0/answer").zip(text(place)).ok_or_else(|| answer.to_string()))
        })
        .await
    }

    /// What people see: the list, both pods explained, the live screen.
    ///
    /// # Errors
    /// When a command fails or takes too long.
    pub async fn pictures(&self, cut: &str, kept: &str) -> anyhow::Result<Pictures> {
        let explain = |pod: &str| format!("explain {pod} -n {NAMESPACE}");
        // The live screen first: it shows when the status tells of all cuts, by which the list goes.
        let watch = self.watches().await?;
        Ok(Pictures {
            list: self.prints("get -A").await?,
            cut: self.prints(&explain(cut)).await?,
            kept: self.prints(&explain(kept)).await?,
            watch,
        })
    }

    async fn prints(&self, words: &str) -> anyhow::Result<Picture> {
        let terminal = Terminal::open(COLUMNS, LINES)?;
        ends(self.sits(&terminal, words)?, words).await?;
        let screen = spawn_blocking(|| terminal.last()).await.context("the terminal's thread panicked")?;
        Ok(Picture { command: typed(words), screen })
    }

    async fn watches(&self) -> anyhow::Result<Picture> {
        let words = "watch -A";
        let mut terminal = Terminal::open(COLUMNS, WATCH_LINES)?;
        let child = self.sits(&terminal, words)?;
        // For a moment after the cuts the status has them among those that are otherwise out.
        let cut = "▒".repeat(PODS - FLOOR);
        terminal.shows(&format!("{cut}]  {FLOOR}/{PODS} floor {FLOOR}"), LIMIT).await?;
        // To the last one, which is the one that the play is about.
        terminal.press("G")?;
        terminal.shows(&format!("> {NAMESPACE}/{SERVICE}"), LIMIT).await?;
        terminal.shows(&format!("\n{SERVICE}: "), LIMIT).await?;
        let screen = terminal.screen();
        terminal.press("q")?;
        ends(child, words).await?;
        Ok(Picture { command: typed(words), screen })
    }

    fn sits(&self, terminal: &Terminal, words: &str) -> anyhow::Result<Child> {
        let mut command = Command::from(terminal.seat(Path::new("kubectl"))?);
        command.arg("kubervisor").args(words.split(' '));
        let spawned = self.own(&mut command).spawn();
        spawned.context("cannot start setsid, which is part of util-linux")
    }

    fn own<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env_clear().env("PATH", &self.path).env("HOME", &self.home).env("LANG", "C.UTF-8");
        command.env("KUBECONFIG", &self.kubeconfig).env("KUBERVISOR_CONTROLLER_URL", &self.controller);
        command.env("TERM", "xterm-256color").kill_on_drop(true)
    }
}

fn typed(words: &str) -> String {
    format!("kubectl kubervisor {words}")
}

async fn ends(mut child: Child, words: &str) -> anyhow::Result<()> {
    let status = timeout(LIMIT, child.wait()).await;
    let status = status.with_context(|| format!("{} goes on after {LIMIT:?}", typed(words)))??;
    anyhow::ensure!(status.success(), "{} failed ({status})", typed(words));
    Ok(())
}
