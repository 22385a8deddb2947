//! Somebody at a terminal.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use localcluster::Terminal;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::harness::{SOON, Shop, program};
use crate::shell::Bash;

/// A kubeconfig and a home of one's own.
pub struct Person {
    home: tempfile::TempDir,
    kubectl: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl Person {
    /// The admin, in the namespace of this shop; the context `elsewhere` is the namespace `default`.
    pub fn admin(shop: &Shop) -> Self {
        Self::with(shop, &shop.cluster.kubeconfig("admin", None).unwrap())
    }

    /// Whoever this kubeconfig names.
    pub fn with(shop: &Shop, kubeconfig: &Path) -> Self {
        let this =
            Self { home: tempfile::tempdir().unwrap(), kubectl: shop.cluster.kubectl_path().to_owned() };
        let mut config: Value = serde_json::from_slice(&std::fs::read(kubeconfig).unwrap()).unwrap();
        let here = config["contexts"][0].clone();
        let place = |name: &str, namespace: &str| {
            let mut context = here["context"].clone();
            context["namespace"] = json!(namespace);
            json!({"name": name, "context": context})
        };
        config["contexts"] = json!([place("here", &shop.namespace), place("elsewhere", "default")]);
        config["current-context"] = json!("here");
        std::fs::write(this.config(), config.to_string()).unwrap();
        this
    }

    fn config(&self) -> PathBuf {
        self.home.path().join("config")
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = self.own(Command::new(program));
        command.stdin(Stdio::null());
        command
    }

    /// With an environment of this person's.
    fn own(&self, mut command: Command) -> Command {
        let built = crate::harness::program("kubectl-kubervisor");
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("completion");
        let path = [built.parent().unwrap(), &scripts, Path::new("/usr/bin"), Path::new("/bin")];
        command.env_clear().env("PATH", std::env::join_paths(path).unwrap());
        command.env("HOME", self.home.path()).env("KUBECONFIG", self.config()).env("LANG", "C.UTF-8");
        command.kill_on_drop(true);
        command
    }

    /// `kubectl-kubervisor WORDS`
    pub async fn runs(&self, words: &[&str]) -> Said {
        said(self.command(&program("kubectl-kubervisor")).args(words).output().await.unwrap())
    }

    /// The same, which must succeed; what it printed.
    pub async fn sees(&self, words: &[&str]) -> String {
        let said = self.runs(words).await;
        assert!(said.ok, "{words:?}: {said:?}");
        said.out
    }

    /// The same, which must fail in one sentence; that sentence.
    pub async fn is_refused(&self, words: &[&str]) -> String {
        let said = self.runs(words).await;
        assert!(!said.ok, "{words:?}: {said:?}");
        assert_eq!(said.err.lines().count(), 1, "{said:?}");
        said.err.trim_end().to_owned()
    }

    /// `kubectl WORDS`
    pub async fn kubectl(&self, words: &[&str]) -> Said {
        said(self.command(&self.kubectl).args(words).output().await.unwrap())
    }

    /// A command that goes on.
    pub fn starts(&self, words: &[&str]) -> Running {
        let mut command = self.command(&program("kubectl-kubervisor"));
        let mut child = command.args(words).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { lines, _child: child }
    }

    /// The same as `runs`, with Ctrl-C once standard error holds a line with this text.
    pub async fn interrupts(&self, words: &[&str], text: &str) -> Said {
        self.interrupts_after(words, text, Signal::INT, async {}).await
    }

    /// The same with another signal, and only after `meanwhile`.
    pub async fn interrupts_after(
        &self,
        words: &[&str],
        text: &str,
        with: Signal,
        meanwhile: impl Future<Output = ()>,
    ) -> Said {
        let mut meanwhile = Some(meanwhile);
        let mut command = self.command(&program("kubectl-kubervisor"));
        command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let all = async {
            let mut err = String::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                err += &format!("{line}\n");
                if let Some(meanwhile) = meanwhile.take_if(|_| line.contains(text)) {
                    meanwhile.await;
                    let id = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
                    kill_process(id, with).unwrap();
                }
            }
            let mut out = String::new();
            child.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
            Said { ok: child.wait().await.unwrap().success(), out, err }
        };
        tokio::time::timeout(SOON, all).await.unwrap_or_else(|_| panic!("{words:?} goes on"))
    }

    /// A bash that completes what this person types.
    pub async fn types(&self) -> Bash {
        Bash::sit(|command| self.own(command)).await
    }

    /// A command at a terminal of its own.
    pub fn sits_at(&self, terminal: &Terminal, words: &[&str]) -> Child {
        let seat = terminal.seat(&program("kubectl-kubervisor")).unwrap();
        let mut command = self.own(Command::from(seat));
        command.args(words).env("TERM", "xterm-256color");
        command.spawn().expect("setsid of util-linux is needed for tests at a terminal")
    }
}

/// Killed when dropped.
pub struct Running {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Running {
    /// The next line that holds this text.
    pub async fn prints(&mut self, text: &str) -> String {
        let find = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("it ended");
                if line.contains(text) {
                    return line;
                }
            }
        };
        let found = tokio::time::timeout(SOON, find).await;
        found.unwrap_or_else(|_| panic!("no line with {text:?} came"))
    }
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}
