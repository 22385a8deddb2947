//! The shipped binary as a child process.

use std::path::PathBuf;

use localcluster::{Process, ProcessSignal, ProcessSpec};

use super::{SOON, eventually};

/// How it is started.
pub struct ControllerArgs {
    /// Names the API server (or a fault proxy) and the user.
    pub kubeconfig: PathBuf,
    /// After `kubervisor run`.
    pub args: Vec<String>,
}

impl ControllerArgs {
    /// Of the words of a Deployment those that are good for a test: two controllers on this machine cannot share a port, and
    /// their log is read by people here.
    pub fn ours(words: &[String]) -> Vec<String> {
        assert_eq!(words[0], "run");
        let ours = |word: &&String| !word.starts_with("--http-addr") && !word.starts_with("--log-format");
        words[1..].iter().filter(ours).cloned().collect()
    }
}

/// A running controller; killed when dropped.
pub struct Controller {
    process: Process,
    pub url: String,
    _dir: tempfile::TempDir,
}

impl Controller {
    /// Started, and serving its pages; not necessarily synced.
    pub async fn start(args: &ControllerArgs) -> Self {
        Self::start_with(args, &["run", "--allow-loopback-sources"]).await
    }

    /// As in production: no source of a test can be asked. Its first lists are complete.
    pub async fn ready_strict(args: &ControllerArgs) -> Self {
        let this = Self::start_with(args, &["run"]).await;
        eventually("the controller is ready", SOON, || this.is_ready()).await;
        this
    }

    async fn start_with(args: &ControllerArgs, words: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut words: Vec<_> = words.iter().map(|&word| word.to_owned()).collect();
        // One that pods' addresses reach is asked for by who needs it.
        if !args.args.iter().any(|arg| arg.starts_with("--http-addr")) {
            words.push("--http-addr=127.0.0.1:0".to_owned());
        }
        words.extend(args.args.iter().cloned());
        let env = [
            ("KUBECONFIG", args.kubeconfig.display().to_string()),
            ("RUST_LOG", "info,kubervisor=debug".to_owned()),
        ];
        let spec = ProcessSpec {
            name: "kubervisor",
            program: &super::program("kubervisor"),
            args: &words,
            dir: dir.path(),
            env: Some(&env),
        };
        let process = Process::spawn(&spec).unwrap();
        let mut this = Self { process, url: String::new(), _dir: dir };
        this.url = this.address().await;
        this
    }

    /// Started, and its first lists complete.
    pub async fn ready(args: &ControllerArgs) -> Self {
        let this = Self::start(args).await;
        eventually("the controller is ready", SOON, || this.is_ready()).await;
        this
    }

    async fn address(&self) -> String {
        let find = || async {
            let log = self.log();
            let at = log.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next());
            Ok(at.map(|address| format!("http://{address}")).ok_or(log))
        };
        localcluster::until("the controller says where it listens", SOON, find).await.unwrap()
    }

    async fn is_ready(&self) -> bool {
        match reqwest::get(format!("{}/ready", self.url)).await {
            Ok(answer) => answer.status().is_success(),
            Err(_) => false,
        }
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.process.log()).unwrap_or_default()
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.url);
        reqwest::get(url).await.unwrap().text().await.unwrap()
    }

    /// The sum of all series of `name` whose labels contain every text of `labels`, such as `reason="Floor"`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        sum_of(&self.metrics().await, name, labels)
    }

    /// SIGKILL, at this very moment.
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// SIGTERM, SIGSTOP or SIGCONT.
    pub fn signal(&self, signal: ProcessSignal) {
        self.process.signal(signal).unwrap();
    }

    /// Waits until it has ended by itself, and says whether with success.
    pub async fn ended(&mut self) -> bool {
        let deadline = tokio::time::Instant::now() + SOON;
        loop {
            if let Some(status) = self.process.exited().unwrap() {
                return status.success();
            }
            assert!(tokio::time::Instant::now() < deadline, "the controller does not end; {}", self.log());
            tokio::time::sleep(std::time::Duration::from_millis(25)).await;
        }
    }
}

pub(super) fn sum_of(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    let wanted = |line: &&str| {
        let series = line.split(' ').next().unwrap_or_default();
        series.split('{').next() == Some(name) && labels.iter().all(|label| series.contains(label))
    };
    metrics.lines().filter(wanted).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
