//! The program `kubectl-kubervisor`: see `plugin::args` for what it does.

use std::process::ExitCode;

use clap::Parser;

#[tokio::main]
async fn main() -> ExitCode {
    match plugin::run(plugin::args::Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if plugin::out::closed(&error) => ExitCode::SUCCESS,
        // It has said everything.
        Err(error) if error.is::<plugin::check::Faulty>() => ExitCode::FAILURE,
        Err(error) => {
            // What the server says has kubectl's own beginning.
            let prefix = if plugin::fail::code(&error).is_some() { "" } else { "error: " };
            plugin::out::say(&format!("{prefix}{error:#}"));
            ExitCode::FAILURE
        }
    }
}
