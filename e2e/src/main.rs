//! `make e2e`: the chart and the image on a real node. Exit status: 0 all promises kept, 1 some broken, 2 it could not run.

use std::io::{Write, stdout};
use std::path::PathBuf;
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
    // In there is no network to build these with.
    for tool in [Tool::Helm, Tool::Prometheus] {
        tools::ensure(tool)?;
    }
    node::enter()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start threads")?;
    runtime.block_on(async {
        // The first process of its namespace is ended by no signal that it does not ask for.
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let (mut interrupt, mut end) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        tokio::select! {
            biased;
            done = play(args, &programs) => done,
            _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
            _ = end.recv() => Err(anyhow::anyhow!("interrupted")),
        }
    })
}

async fn play(args: &Args, programs: &Programs) -> anyhow::Result<bool> {
    let shared = Shared::begin();
    let stage = Box::pin(Stage::set(programs, &shared)).await?;
    let (play, played) = Box::pin(perform(stage)).await;
    let promises = play.promises().to_vec();
    let kept = promises.iter().filter(|Promise { kept, text: _ }| *kept).count();
    let broken = promises.len() - kept;
    if let Some(path) = &args.seconds {
        let lines = shared.record().seconds(Default::default(), shared.now());
        std::fs::write(path, lines).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if played.is_err() || broken > 0 {
        let args =
            ["-n", RELEASE, "logs", "--selector=app.kubernetes.io/name=kubervisor", "--tail=40", "--prefix"];
        let log = play.stage.hands.kubectl(&args).await;
        eprintln!("the controllers' last words:\n{}", log.unwrap_or_else(|error| format!("none: {error:#}")));
    }
    let struck = play.stage.strike().await;
    played.and(struck)?;
    // A reader who has gone is nobody's fault.
    drop(writeln!(stdout(), "\n{}\n{kept} passed, {broken} failed", list(&promises)));
    Ok(broken == 0)
}

/// A program that was built with this one.
fn beside(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    built(own.with_file_name(name))
}
