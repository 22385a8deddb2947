//! Nothing is left behind, however the process ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends this way; clippy knows only its outermost function"
)]

mod fixtures;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use fixtures::becomes;
use localcluster::{Cluster, Options};
use rustix::process::{Pid, Signal, kill_process};

/// Set in a copy of this test binary, which then starts a cluster and panics.
const PANIC: &str = "LOCALCLUSTER_TEST_PANIC";

#[tokio::test]
async fn sigkill_leaves_nothing_behind() {
    let (mut program, traces) = start_program();
    program.kill().unwrap();
    program.wait().unwrap();
    traces.are_gone().await;
}

#[tokio::test]
async fn ctrl_c_leaves_nothing_behind() {
    let (mut program, traces) = start_program();
    signal(&program, Signal::INT);
    assert!(program.wait().unwrap().success());
    traces.are_gone().await;
}

/// At the first trace of it, which is the moment when the fewest know what to clean up; many times, as it is a race.
#[tokio::test]
async fn ctrl_c_during_the_start_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let count = || temporary.path().read_dir().unwrap().count();
    for end in [Signal::INT, Signal::KILL].repeat(10) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_localcluster"));
        let mut program = command.env("TMPDIR", temporary.path()).spawn().unwrap();
        // No pause between the looks: it would miss the moment.
        while count() == 0 {
            assert!(program.try_wait().unwrap().is_none(), "it ended before it had begun");
        }
        signal(&program, end);
        assert_eq!(program.wait().unwrap().success(), end == Signal::INT);
        becomes(0, || async { count() }).await;
    }
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() {
    if std::env::var_os(PANIC).is_some() {
        let cluster = Cluster::start(Options::default()).await.unwrap();
        println!("export KUBECONFIG={}", cluster.kubeconfig("admin", None).unwrap().display());
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).unwrap();
        panic!("as asked");
    }
    let mut copy = Command::new(std::env::current_exe().unwrap());
    copy.args(["--exact", "a_panic_leaves_nothing_behind", "--nocapture"]).env(PANIC, "1");
    // Its panic is meant; in a log it would be taken for a failure.
    copy.stderr(Stdio::null());
    let (mut copy, traces) = start(&mut copy);
    drop(copy.stdin.take());
    assert!(!copy.wait().unwrap().success());
    traces.are_gone().await;
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing_behind() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let mut traces = Traces::read(cluster.data_dir());
    // Serves the other tests of this binary as well.
    traces.pids.retain(|(name, _)| name != "reaper");
    drop(cluster);
    traces.are_gone().await;
}

/// What a running cluster could leave.
struct Traces {
    pids: Vec<(String, u32)>,
    folder: PathBuf,
}

impl Traces {
    fn read(folder: &Path) -> Traces {
        let lines = std::fs::read_to_string(folder.join("pids")).unwrap();
        let parse =
            |line: &str| line.split_once(' ').map(|(name, pid)| (name.to_owned(), pid.parse().unwrap()));
        let traces = Traces { pids: lines.lines().filter_map(parse).collect(), folder: folder.to_owned() };
        assert!(traces.pids.len() >= 4, "{lines}");
        assert!(traces.pids.iter().all(|(_, pid)| alive(*pid)), "{lines}");
        traces
    }

    async fn are_gone(&self) {
        becomes(Vec::<&str>::new(), || async {
            self.pids.iter().filter(|(_, pid)| alive(*pid)).map(|(name, _)| name.as_str()).collect()
        })
        .await;
        becomes(false, || async { self.folder.exists() }).await;
    }
}

/// Not dead and not a zombie: whoever inherits an orphan may be slow to bury it.
fn alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let state = status.lines().find_map(|line| line.strip_prefix("State:")).map(str::trim);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

fn start_program() -> (Child, Traces) {
    start(&mut Command::new(env!("CARGO_BIN_EXE_localcluster")))
}

/// Returns when the program has said where its kubeconfig is.
fn start(command: &mut Command) -> (Child, Traces) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut kubeconfigs = lines.filter_map(|line| line.strip_prefix("export KUBECONFIG=").map(PathBuf::from));
    let kubeconfig = kubeconfigs.next().expect("the program says where its kubeconfig is");
    // Read on to the end, or the program would die of its own greeting.
    std::thread::spawn(move || kubeconfigs.count());
    (child, Traces::read(kubeconfig.parent().unwrap()))
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}
