//! A real node: pods run behind a ClusterIP, and nothing of it is left, however it ends. Needs root and Linux, and fails
//! where it cannot run, with what is missing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends this way; clippy knows only its outermost function"
)]

mod fixtures;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use fixtures::becomes;
use localcluster::node;
use localcluster::tools::{self, Tool};
use rustix::process::{Pid, Signal, kill_process};

/// Two pods behind a ClusterIP, taken out of it by the label `traffic`.
const PEARS: &str = r#"{ "apiVersion": "v1", "kind": "List", "items": [
    { "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "pear" },
      "spec": { "replicas": 2, "selector": { "matchLabels": { "app": "pear" } },
        "template": { "metadata": { "labels": { "app": "pear", "traffic": "yes" } },
          "spec": { "terminationGracePeriodSeconds": 0, "containers": [{ "name": "pear", "image": "web:1",
            "readinessProbe": { "httpGet": { "port": 8080 }, "periodSeconds": 1 },
            "securityContext": { "runAsNonRoot": true, "readOnlyRootFilesystem": true } }] } } } },
    { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "pear" },
      "spec": { "selector": { "app": "pear", "traffic": "yes" }, "clusterIP": "10.96.7.7",
        "ports": [{ "port": 80, "targetPort": 8080 }] } }] }"#;

/// 40 new connections to the ClusterIP; prints the body of each answer, a line each.
const ASK: &str = r"for i in {1..40}; do
    exec 3<>/dev/tcp/10.96.7.7/80 && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && tail -n 1 <&3; echo; exec 3>&-
done";

#[tokio::test]
async fn pods_answer_behind_a_cluster_ip_until_their_label_is_flipped_and_nothing_is_left_after_the_end() {
    let mut node = Running::start();
    let pods = node.run_pears().await;
    becomes(pods.clone(), || async { node.answers() }).await;

    let out = pods.first().unwrap();
    node.kubectl(&["label", "pod", out, "traffic=no", "--overwrite"], None);
    let left: BTreeSet<_> = pods.iter().skip(1).cloned().collect();
    becomes(left, || async { node.answers() }).await;
    let logs = node.kubectl(&["logs", out], None);
    assert!(logs.contains("listening on port 8080"), "{logs}");

    node.signal(Signal::TERM);
    assert!(node.program.wait().unwrap().success());
    node.traces.are_gone().await;
}

#[tokio::test]
async fn sigkill_of_the_outer_program_leaves_nothing_of_the_pods_behind() {
    let mut node = Running::start();
    node.run_pears().await;
    assert!(!cgroups(&node.traces.folder).is_empty());
    node.program.kill().unwrap();
    node.program.wait().unwrap();
    node.traces.are_gone().await;
}

#[tokio::test]
async fn what_the_inner_program_says_at_its_end_is_handed_out() {
    assert_can_run();
    let mut program = program(&["--image", "/no/such/image.tar"]);
    let mut said = String::new();
    program.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(program.wait().unwrap().code(), Some(1));
    assert!(said.contains("/no/such/image.tar"), "{said}");
}

/// At the first trace of it and when the inner program begins, which are the moments when the fewest know what to do.
#[tokio::test]
async fn a_signal_during_the_start_leaves_nothing_behind() {
    assert_can_run();
    let temporary = tempfile::tempdir().unwrap();
    let folders = || temporary.path().read_dir().unwrap().map(|entry| entry.unwrap().path());
    for (end, trace) in
        [Signal::INT, Signal::KILL].into_iter().flat_map(|end| [(end, ""), (end, "pid")]).cycle().take(8)
    {
        let mut command = Command::new(env!("CARGO_BIN_EXE_localcluster"));
        let mut program = command.arg("node").env("TMPDIR", temporary.path()).spawn().unwrap();
        // No pause between the looks: it would miss the moment.
        while !folders().any(|folder| folder.join(trace).exists()) {
            assert!(program.try_wait().unwrap().is_none(), "it ended before it had begun");
        }
        let folder = folders().next().unwrap();
        kill_process(Pid::from_child(&program), end).unwrap();
        program.wait().unwrap();
        becomes(Vec::new(), || async { cgroups(&folder) }).await;
        becomes(0, || async { folders().count() }).await;
    }
}

fn assert_can_run() {
    let missing = node::missing();
    assert!(missing.is_empty(), "this test needs a machine on which a node can run:\n{}", missing.join("\n"));
}

fn program(args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_localcluster"));
    command.arg("node").args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// `localcluster node`, ready.
struct Running {
    program: Child,
    kubeconfig: String,
    traces: Traces,
}

impl Running {
    fn start() -> Running {
        assert_can_run();
        let settings = settings();
        let mut program = program(&[]);
        let mut lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
        let kubeconfig = lines.find_map(|line| line.strip_prefix("export KUBECONFIG=").map(str::to_owned));
        let Some(kubeconfig) = kubeconfig else {
            let mut said = String::new();
            program.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("it did not start: {said}");
        };
        // Read on to the end, or the program would die of its own greeting.
        std::thread::spawn(move || lines.count());
        let folder = Path::new(&kubeconfig).ancestors().nth(2).unwrap().to_owned();
        Running { program, kubeconfig, traces: Traces::read(folder, settings) }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.program), signal).unwrap();
    }

    /// The names of the two, which are Ready.
    async fn run_pears(&self) -> BTreeSet<String> {
        self.kubectl(&["apply", "-f", "-"], Some(PEARS));
        let path = r#"jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
        let names = || {
            let pods = self.kubectl(&["get", "pods", "-l", "app=pear", "-o", path], None);
            let ready = pods.lines().filter_map(|line| line.strip_suffix(" True")).map(str::to_owned);
            ready.collect::<BTreeSet<_>>()
        };
        becomes(2, || async { names().len() }).await;
        names()
    }

    /// Who answers at the ClusterIP.
    fn answers(&self) -> BTreeSet<String> {
        let said = self.inside(&["bash", "-c", ASK], None);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// What it says; it must not fail.
    fn kubectl(&self, args: &[&str], stdin: Option<&str>) -> String {
        let kubectl = tools::ensure(Tool::Kubectl).unwrap();
        let before = [kubectl.to_str().unwrap(), "--kubeconfig", &self.kubeconfig];
        let output = self.inside(&[&before, args].concat(), stdin);
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn inside(&self, command: &[&str], stdin: Option<&str>) -> Output {
        let input = stdin.map_or_else(Stdio::null, |text| {
            use std::io::{Seek, Write};
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).and_then(|()| file.rewind()).unwrap();
            file.into()
        });
        let mut nsenter = Command::new("nsenter");
        nsenter.args(["--all", "--target", &self.traces.first_pid.to_string()]).args(command);
        nsenter.stdin(input).output().unwrap()
    }
}

/// A test that fails must not leave it either.
impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// What a node could leave outside.
struct Traces {
    folder: PathBuf,
    /// Of the first inner process, as seen outside.
    first_pid: u32,
    namespace: PathBuf,
    /// Before the start.
    settings: Vec<String>,
}

impl Traces {
    /// Of a running node, which is apart already.
    fn read(folder: PathBuf, settings: Vec<String>) -> Traces {
        let first_pid: u32 = std::fs::read_to_string(folder.join("pid")).unwrap().trim().parse().unwrap();
        let namespace = |pid: &str, kind: &str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        for kind in ["net", "mnt", "pid"] {
            assert_ne!(namespace(&first_pid.to_string(), kind), namespace("self", kind));
        }
        let namespace = namespace(&first_pid.to_string(), "pid");
        let traces = Traces { folder, first_pid, namespace, settings };
        assert!(traces.processes().len() > 8, "{:?}", traces.processes());
        assert_eq!(traces.mounts(), Vec::<String>::new(), "a mount is seen outside");
        traces
    }

    async fn are_gone(&self) {
        becomes(Vec::new(), || async { self.processes() }).await;
        becomes(Vec::new(), || async { cgroups(&self.folder) }).await;
        becomes(false, || async { self.folder.exists() }).await;
        assert_eq!(self.mounts(), Vec::<String>::new());
        assert_eq!(settings(), self.settings, "kubelet has changed the machine");
    }

    /// All in its pid namespace; those of pods are in others, and show as control groups that cannot be removed.
    fn processes(&self) -> Vec<String> {
        let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
        let ours =
            all.filter(|path| std::fs::read_link(path.join("ns/pid")).is_ok_and(|ns| ns == self.namespace));
        ours.map(|path| std::fs::read_to_string(path.join("comm")).unwrap_or_default()).collect()
    }

    fn mounts(&self) -> Vec<String> {
        let name = self.name();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts.lines().filter(|line| line.contains(name)).map(str::to_owned).collect()
    }

    fn name(&self) -> &str {
        self.folder.file_name().unwrap().to_str().unwrap()
    }
}

/// Of the node with this folder, in each hierarchy.
fn cgroups(folder: &Path) -> Vec<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let own =
        hierarchies.chain([root.to_owned()]).map(|hierarchy| hierarchy.join(folder.file_name().unwrap()));
    own.filter(|path| path.exists()).collect()
}

/// Of the kernel, those that kubelet would like otherwise.
fn settings() -> Vec<String> {
    let settings = ["vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops"];
    settings.map(|name| std::fs::read_to_string(format!("/proc/sys/{name}")).unwrap()).to_vec()
}
