//! `make demo`: watch Kubervisor work. Exit status: 0 all promises kept, 1 some broken, 2 it could not run.

use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use clap::builder::FalseyValueParser;
use demo::controller::built;
use demo::play::{self, Played};
use demo::promises::{Promise, list};
use demo::screen::terminal::Terminal;
use demo::stage::{Programs, Stage};
use incidents::Seed;
use tokio::signal::ctrl_c;

/// What a person who has just seen it may want.
const AND_NOW: &str = "\
All of it is gone now. KEEP=1 make demo leaves it running, for
  kubectl kubervisor watch -A          # everything, live
  kubectl kubervisor explain POD       # why is it out, or why is it not
and make install-plugin brings the two to your own cluster.";

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
    /// Also look at `kubectl kubervisor` on a terminal, and write what it shows into this folder.
    #[arg(long, value_name = "DIR")]
    pictures: Option<PathBuf>,
    /// Decides who gets which request and every answer.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The controller [default: `kubervisor` beside this program]
    #[arg(long, env = "KUBERVISOR_BIN")]
    kubervisor: Option<PathBuf>,
    /// The plugin [default: `kubectl-kubervisor` beside this program]
    #[arg(long, env = "KUBECTL_KUBERVISOR_BIN")]
    plugin: Option<PathBuf>,
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
    let programs = Programs {
        controller: program(args.kubervisor.as_deref(), "kubervisor")?,
        plugin: program(args.plugin.as_deref(), "kubectl-kubervisor")?,
    };
    let mut terminal = Terminal::new();
    // A reader who has gone is noticed by the first line of the play.
    let say = |line: &str| drop(writeln!(stdout(), "{line}"));
    let mut stage = Stage::set(&programs, Seed::new(args.seed), say).await?;
    let played = play::perform(&mut stage, &mut terminal, args.pictures.is_some()).await;
    let Played { promises, pictures } = played.map_err(|error| stage.controller.explain(&error))?;
    terminal.say(&format!("\n{}", list(&promises)))?;
    if let Some(path) = &args.promises_file {
        write(path, &list(&promises))?;
    }
    if let Some(folder) = &args.pictures {
        for (name, text) in pictures?.blocks() {
            write(&folder.join(format!("{name}.txt")), &text)?;
        }
    }
    let kept = promises.iter().all(|Promise { kept, text: _ }| *kept);
    if !kept {
        eprintln!("{}", stage.controller.last_words());
    }
    if !args.keep {
        terminal.say(AND_NOW)?;
        return Ok(kept);
    }
    terminal.say(&stage.look_around())?;
    tokio::select! {
        biased;
        interrupted = ctrl_c() => interrupted.context("cannot wait for Ctrl-C")?,
        () = stage.shop.stay_open() => anyhow::bail!("the load generator ended"),
    }
    Ok(kept)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The one that was named, or the one of this name beside this program.
fn program(named: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    let own = || std::env::current_exe().context("cannot tell where this program is");
    let program = match named {
        Some(program) => std::path::absolute(program).context("cannot tell which folder this is")?,
        None => own()?.with_file_name(name),
    };
    built(program)
}
