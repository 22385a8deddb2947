//! The program `kubervisor`: see `kubervisor::args` for what it does and `kubervisor::run` for how.

use clap::Parser;
use kubervisor::args::{Cli, Command};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Run(args) => kubervisor::run::run(*args).await,
        Command::Crds => kubervisor::run::print_crds(),
        Command::Release(args) => kubervisor::run::release(args).await,
    }
}
