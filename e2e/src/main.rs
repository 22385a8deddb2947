//! `make e2e`: the chart and the image on a real node. Exit status: 0 all promises kept, 1 some broken, 2 it could not run.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use demo::controller::built;
use demo::promises::{Promise, list};
use e2e::names::RELEASE;
use e2e::script::perform;
use e2e::shared::Shared;
use e2e::stage::{Programs, Stage};
use localcluster::node;
use localcluster::tools::{self, Tool};
use tokio::signal::unix::{SignalKind, signal};

/// The chart and the image on a real node: ten pods, real traffic, incidents, and what becomes of them.
#[derive(Parser)]
#[command(name = "e2e")]
struct Args {
    /// Also write what the clients got, a line a second, into this file.
    #[arg(long, value_name = "FILE")]
    seconds: Option<PathBuf>,
    /// The chart.
    #[arg(long, default_value = "charts/kubervisor")]
    chart: PathBuf,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("e2e: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True if all promises were kept. Nothing may have begun a thread before the namespaces are entered.
fn run(args: &Args) -> anyhow::Result<bool> {
    let missing = node::missing();
    anyhow::ensure!(missing.is_empty(), "it does not run here:\n- {}", missing.join("\n- "));
    let programs = Programs {
        controller: beside("kubervisor")?,
        workload: beside("workload")?,
        chart: std::fs::canonicalize(&args.chart).context("no chart; run it in the repository's folder")?,
    };
    node::is_seen_inside(&programs.chart)?;
    // In there is no network to build these with.
    for tool in [Tool::Helm, Tool::Prometheus] {
        node::is_seen_inside(&tools::ensure(tool)?)?;
    }
    // Now rather than after all scenes.
    if let Some(path) = &args.seconds {
        let whole = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
        whole.parent().map_or(Ok(()), node::is_seen_inside)?;
        write_seconds(path, "")?;
    }
    node::enter()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    let played = runtime.block_on(async {
        // The first process of its namespace is ended by no signal that it does not ask for.
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let (mut interrupt, mut end) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        tokio::select! {
            biased;
            done = play(args, &programs) => done,
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
            _ = end.recv() => Err(anyhow::anyhow!("interrupted")),
        }
    });
    // Not dropped: that would wait for a helm or kubectl that is waiting for minutes itself. They end with this process.
    runtime.shutdown_background();
    played
}

fn write_seconds(path: &Path, lines: &str) -> anyhow::Result<()> {
    std::fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))
}

async fn play(args: &Args, programs: &Programs) -> anyhow::Result<bool> {
    let shared = Shared::begin();
    let stage = Box::pin(Stage::set(programs, &shared)).await?;
    let (play, played) = Box::pin(perform(stage)).await;
    let promises = play.promises().to_vec();
    let kept = promises.iter().filter(|Promise { kept, text: _ }| *kept).count();
    let broken = promises.len() - kept;
    let seconds = shared.record().seconds(Default::default(), shared.now());
    let written = args.seconds.as_ref().map_or(Ok(()), |path| write_seconds(path, &seconds));
    if played.is_err() || broken > 0 {
        let args =
            ["-n", RELEASE, "logs", "--selector=app.kubernetes.io/name=kubervisor", "--tail=40", "--prefix"];
        let log = play.stage.hands.kubectl(&args).await;
        eprintln!("the controllers' last words:\n{}", log.unwrap_or_else(|error| format!("none: {error:#}")));
    }
    let struck = play.stage.strike().await;
    played?;
    // A reader who has gone is nobody's fault.
    drop(writeln!(stdout(), "\n{}\n{kept} passed, {broken} failed", list(&promises)));
    struck.and(written)?;
    Ok(broken == 0)
}

/// A program that was built with this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    built(own.with_file_name(name))
}
