//! `make bench`: measures, prints the table and writes it into its page.

use std::num::NonZero;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bench::page::{text, with_tables};
use bench::{kubectl, meter};
use clap::{Parser, Subcommand};

/// How fast: our programs beside those that people would use without them.
#[derive(Parser)]
struct Args {
    /// Page whose tables are written again; only printed where it is not given.
    #[arg(long)]
    page: Option<PathBuf>,
    /// Rounds that count; in each, every command runs once.
    #[arg(long, default_value = "15")]
    rounds: NonZero<u32>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Runs one command and writes down what it took.
    #[command(hide = true)]
    Meter {
        /// Where to.
        report: PathBuf,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.part {
        Some(Part::Meter { report, command }) => meter::run(&report, &command),
        None => measure(args.page, args.rounds).map(|()| ExitCode::SUCCESS),
    }
}

fn measure(page: Option<PathBuf>, rounds: NonZero<u32>) -> anyhow::Result<()> {
    anyhow::ensure!(
        !cfg!(debug_assertions),
        "figures of a debug build say nothing: run `make bench`, which builds what ships"
    );
    let tables = text(&[kubectl::section(rounds)?]);
    print!("{tables}");
    let Some(page) = page else { return Ok(()) };
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let text = with_tables(&text, &tables)
        .with_context(|| format!("{}: it lacks the markers between which tables stand", page.display()))?;
    std::fs::write(&page, text).with_context(|| page.display().to_string())
}
