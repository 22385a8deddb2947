//! `make judge`: plays the incidents and writes or prints the tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use judge::file::read_folder;
use judge::page::{play_all, tables, with_tables};

/// How good are the verdicts: labelled incidents, played against Kubervisor and its peers.
#[derive(Parser)]
struct Args {
    /// Folder of incident files (*.yaml); those of this repository where it is not given.
    #[arg(long)]
    incidents: Option<PathBuf>,
    /// Page whose tables are written again; printed where it is not given.
    #[arg(long)]
    page: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("incidents");
    let incidents: Vec<_> =
        read_folder(args.incidents.as_deref().unwrap_or(&own))?.into_iter().map(Arc::new).collect();
    let tables = tables(&incidents, &play_all(&incidents)?);
    let Some(page) = args.page else {
        print!("{tables}");
        return Ok(());
    };
    let text = std::fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let text = with_tables(&text, &tables)
        .with_context(|| format!("{}: it lacks the markers between which tables stand", page.display()))?;
    std::fs::write(&page, text).with_context(|| page.display().to_string())
}
