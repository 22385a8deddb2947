//! `kubectl kubervisor`: see what Kubervisor does, understand why, and steer it.
//!
//! ```text
//!   args     verbs and flags, as kubectl has them
//!   reach    kubeconfig, context and namespace -> a client with the caller's own rights
//! ```
//! A verb is a file: it takes its flags and the cluster, and gives text. Lists are asked for once a kind, never once an
//! object.
#![forbid(unsafe_code)]

pub mod args;
pub mod reach;

use anyhow::bail;

use args::{Cli, Verb};

/// Carries a command out.
///
/// # Errors
/// A sentence: what failed, on which object, and what to do.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.verb {
        None | Some(Verb::Get(_)) => bail!("not there yet"),
        Some(_) => bail!("not there yet"),
    }
}
