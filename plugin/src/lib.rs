//! `kubectl kubervisor`: see what Kubervisor does, understand why, and steer it.
//!
//! ```text
//!   args     verbs and flags, as kubectl has them
//!   reach    kubeconfig, context and namespace -> a client with the caller's own rights
//!   objects  KubervisorServices as the server has them
//!   controller   the controller's own pages;  values   what breakers measured last, from there
//!   news     one list, one watch, begun anew where it breaks
//!   get, get_watch, describe, explain, version   verbs that show; complete, papers   for shells and readers
//!   screen   the live screen
//!   steer, freeze, pods (asked, pod, governs), release   verbs that steer
//!   activate (templates), deactivate (ground)   the key in a Service's selector
//!   table, age, bar, rules, words, out  how it is printed;  fail   what is said when it fails;  again   what is pasted next
//!   check    manifests -> findings; no cluster
//! ```
//! A verb is a file: it takes its flags and the cluster, and gives text. Lists are asked for once a kind, never once an
//! object.
#![forbid(unsafe_code)]

pub mod activate;
pub mod again;
pub mod age;
pub mod args;
pub mod asked;
pub mod bar;
pub mod check;
pub mod complete;
pub mod controller;
pub mod deactivate;
pub mod describe;
pub mod explain;
pub mod fail;
pub mod freeze;
pub mod get;
pub mod get_watch;
pub mod governs;
pub mod ground;
pub mod news;
pub mod objects;
pub mod out;
pub mod papers;
pub mod pod;
pub mod pods;
pub mod reach;
pub mod release;
pub mod rules;
pub mod screen;
pub mod steer;
pub mod table;
pub mod templates;
#[cfg(test)]
mod testing;
pub mod values;
pub mod version;
pub mod words;

use args::{Cli, Verb};
use reach::Cluster;

/// Carries a command out.
///
/// # Errors
/// A sentence: what failed, on which object, and what to do.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { reach, name, verb } = cli;
    match verb {
        None => get::original(&reach, name.as_deref()).await,
        Some(Verb::Get(args)) if args.watch => get_watch::run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Get(args)) => get::run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Describe(args)) => describe::run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Explain(args)) => explain::run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Watch(args)) => screen::run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Version(args)) => version::run(&reach, &args).await,
        Some(Verb::Completion(args)) => papers::completion(args.shell),
        Some(Verb::Man(args)) => papers::man(&args.folder),
        Some(Verb::Complete(args)) => complete::run(&args.words).await,
        Some(Verb::Check(args)) => check::run(&args, &reach),
        Some(Verb::Activate(args)) => activate::run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Deactivate(args)) => deactivate::run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Hold(args)) => steer::hold(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Resume(args)) => steer::resume(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::DryRun(args)) => steer::dry_run(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Freeze(args)) => freeze::freeze(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Thaw(args)) => freeze::thaw(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Cut(args)) => pods::cut(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Restore(args)) => pods::restore(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Override(args)) => pods::word_on(&Cluster::reach(&reach).await?, &args).await,
        Some(Verb::Release(args)) => release::run(&reach, &args).await,
    }
}
