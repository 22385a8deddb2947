//! `make demo`: watch Kubervisor work. Exit status: 0 all promises kept, 1 some broken, 2 it could not run.

use std::io::{Write, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::builder::FalseyValueParser;
use demo::controller::built;
use demo::play;
use demo::promises::{Promise, list};
use demo::screen::terminal::Terminal;
use demo::stage::Stage;
use incidents::Seed;
use tokio::signal::ctrl_c;

/// A scripted incident on a real control plane: ten pods, four ways to go bad, and a controller that copes.
#[derive(Parser)]
#[command(name = "demo")]
struct Args {
    /// Keep everything when the play is over, say how to look around, and wait for Ctrl-C.
    #[arg(long, env = "KEEP", value_parser = FalseyValueParser::new())]
    keep: bool,
    /// Also write the list of promises into this file.
    #[arg(long)]
    promises_file: Option<PathBuf>,
    /// Decides who gets which request and every answer.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The controller [default: `kubervisor` beside this program]
    #[arg(long, env = "KUBERVISOR_BIN")]
    kubervisor: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = tokio::select! {
        biased;
        done = run(&args) => done,
        _ = ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// True if all promises were kept.
async fn run(args: &Args) -> anyhow::Result<bool> {
    let program = program(args)?;
    let mut terminal = Terminal::new();
    // A reader who has gone is noticed by the first line of the play.
    let say = |line: &str| drop(writeln!(stdout(), "{line}"));
    let mut stage = Stage::set(&program, Seed::new(args.seed), say).await?;
    let promises = play::perform(&mut stage, &mut terminal).await;
    let promises = promises.map_err(|error| stage.controller.explain(&error))?;
    terminal.say(&format!("\n{}", list(&promises)))?;
    if let Some(path) = &args.promises_file {
        std::fs::write(path, list(&promises)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let kept = promises.iter().all(|Promise { kept, text: _ }| *kept);
    if !kept {
        eprintln!("{}", stage.controller.last_words());
    }
    if args.keep {
        terminal.say(&stage.look_around()?)?;
        tokio::select! {
            biased;
            interrupted = ctrl_c() => interrupted.context("cannot wait for Ctrl-C")?,
            () = stage.shop.stay_open() => anyhow::bail!("the load generator ended"),
        }
    }
    Ok(kept)
}

fn program(args: &Args) -> anyhow::Result<PathBuf> {
    let own = || std::env::current_exe().context("cannot tell where this program is");
    let program = match &args.kubervisor {
        Some(program) => std::path::absolute(program).context("cannot tell which folder this is")?,
        None => own()?.with_file_name("kubervisor"),
    };
    built(program)
}
