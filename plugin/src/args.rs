//! Verbs and flags. Names and meanings are kubectl's wherever kubectl has them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use kubervisor::cluster::election::Timing;
use kubervisor::sources::Endpoint;

use crate::words::plain;

/// See what Kubervisor does to the pods of a Service, understand why, and steer it.
///
/// Without a verb: the table of all KubervisorServices as the original printed it.
#[derive(Debug, Parser)]
#[command(name = "kubectl-kubervisor", bin_name = "kubectl kubervisor", version, about)]
#[command(disable_version_flag = true, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub reach: Reach,
    /// Only this KubervisorService, in the original's table.
    #[arg(short = 'k', value_name = "NAME", conflicts_with = "all_namespaces")]
    pub name: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Which cluster, as whom, and which namespace.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub struct Reach {
    /// Path of the kubeconfig.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, global = true)]
    pub context: Option<String>,
    /// Cluster of the kubeconfig.
    #[arg(long, global = true)]
    pub cluster: Option<String>,
    /// User of the kubeconfig.
    #[arg(long, global = true)]
    pub user: Option<String>,
    /// User to act as.
    #[arg(long = "as", global = true, value_name = "USER")]
    pub as_user: Option<String>,
    /// Group to act as; may be given several times.
    #[arg(long = "as-group", global = true, value_name = "GROUP")]
    pub as_groups: Vec<String>,
    /// Namespace. Default: that of the context.
    #[arg(short, long, global = true, value_parser = kubervisor::cluster::scope::namespace)]
    pub namespace: Option<String>,
    /// In every namespace.
    #[arg(short = 'A', long, global = true, conflicts_with = "namespace")]
    pub all_namespaces: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List KubervisorServices, or some of them by name.
    Get(GetArgs),
    /// Show one with its fleet, floor, gates, breakers, cut pods and last acts.
    Describe(DescribeArgs),
    /// Say why a pod was cut, or why it was not.
    Explain(ExplainArgs),
    /// Live screen of all of them.
    Watch(WatchArgs),
    /// Add the traffic key to the Service's selector, so that cuts take effect.
    Activate(ActivateArgs),
    /// Take the traffic key out of the Service's selector, then give its pods back.
    Deactivate(DeactivateArgs),
    /// Only show what would be done, or do it again.
    DryRun(DryRunArgs),
    /// Hold everything but returns.
    Hold(HoldArgs),
    /// End holds.
    Resume(ResumeArgs),
    /// Hold everything but returns, for all KubervisorServices.
    Freeze(FreezeArgs),
    /// End a freeze.
    Thaw(ThawArgs),
    /// Ask the controller to take a pod out of traffic, under the floor.
    Cut(PodArgs),
    /// Put a pod back into traffic.
    Restore(PodArgs),
    /// Say what may be done to a pod: never cut it, cut it, serve it; or take the word back.
    Override(OverrideArgs),
    /// Give every pod that Kubervisor holds back to its Service. Stop the controller too: one that goes on running cuts
    /// again.
    Release(ReleaseArgs),
    /// Validate manifests without a cluster, as the controller would.
    Check(CheckArgs),
    /// Print a completion script.
    Completion(CompletionArgs),
    /// Versions of this program and of the controller.
    Version(VersionArgs),
    /// Write man pages into a folder.
    #[command(hide = true)]
    Man(ManArgs),
    /// Words for kubectl's completion.
    #[command(name = "__complete", hide = true, disable_help_flag = true)]
    Complete(CompleteArgs),
}

/// `get`
#[derive(Debug, Clone, Default, Args)]
pub struct GetArgs {
    /// Names. Default: all.
    pub names: Vec<String>,
    /// Label selector.
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
    /// Form of the output.
    #[arg(short, long, value_enum)]
    pub output: Option<Output>,
    /// Go on and print what changes.
    #[arg(short, long)]
    pub watch: bool,
    /// Without the line of headers.
    #[arg(long)]
    pub no_headers: bool,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// The table with more columns.
    Wide,
    /// The objects.
    Json,
    /// The objects.
    Yaml,
    /// kind/name.
    Name,
}

/// Form of what is not a table of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// For programs.
    Json,
    /// For programs.
    Yaml,
}

/// `describe`
#[derive(Debug, Clone, Args)]
pub struct DescribeArgs {
    /// Names. Default: all of the namespace.
    pub names: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
}

/// `explain`
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Pod.
    pub pod: String,
    /// Where the controller does not answer: a Prometheus that this machine reaches, such as http://localhost:9090, asked
    /// in place of those that the KubervisorService names. Default: those, by way of the API server.
    #[arg(long, value_name = "URL", value_parser = Endpoint::parse)]
    pub prometheus_url: Option<Endpoint>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
    /// Form of the output.
    #[arg(short, long, value_enum)]
    pub output: Option<Form>,
}

/// Where the controller is.
#[derive(Debug, Clone, Default, Args)]
pub struct ControllerArgs {
    /// Where the controller answers, such as http://localhost:8086; also by KUBERVISOR_CONTROLLER_URL. Default: its Service,
    /// by way of the API server.
    #[arg(long, value_name = "URL", env = "KUBERVISOR_CONTROLLER_URL", hide_env = true)]
    pub controller_url: Option<String>,
    /// Namespace of the controller, its Service and its Lease.
    #[arg(long, value_name = "NAMESPACE", default_value = "kubervisor")]
    pub controller_namespace: String,
    /// Name of the controller's Service and Lease.
    #[arg(long, value_name = "NAME", default_value = "kubervisor")]
    pub controller_name: String,
}

/// `watch`
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Label selector.
    #[arg(short = 'l', long)]
    pub selector: Option<String>,
}

/// Whether it is only tried.
#[derive(Debug, Clone, Default, Args)]
pub struct TryArgs {
    /// `server`: the API server checks the write and does not keep it.
    #[arg(long, value_enum, value_name = "server")]
    pub dry_run: Option<DryRun>,
}

/// Where a write is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// By the API server.
    Server,
}

/// `activate`
#[derive(Debug, Clone, Args)]
pub struct ActivateArgs {
    /// KubervisorService, or a Service. Where both have the name: kubervisorservice/NAME or service/NAME.
    pub name: String,
    /// Give members without the traffic label the value yes first.
    #[arg(long)]
    pub label: bool,
    /// Also where pods would lose their traffic, now or when they are born.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// `deactivate`
#[derive(Debug, Clone, Args)]
pub struct DeactivateArgs {
    /// KubervisorService, or a Service. Where both have the name: kubervisorservice/NAME or service/NAME.
    pub name: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// `dry-run`
#[derive(Debug, Clone, Args)]
#[group(id = "switch", required = true, multiple = false)]
pub struct DryRunArgs {
    /// KubervisorService.
    #[arg(group = "what")]
    pub name: String,
    /// Only show. Pods that are cut go back.
    #[arg(long, group = "switch")]
    pub on: bool,
    /// Act.
    #[arg(long, group = "switch")]
    pub off: bool,
    /// This breaker only.
    #[arg(long)]
    pub breaker: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// Others read it in tables, and paste it.
fn reason(text: &str) -> Result<String, &'static str> {
    match text {
        _ if text.trim().is_empty() => Err("a reason is needed"),
        _ if plain(text) != text => Err("a reason is one line of text"),
        _ => Ok(text.to_owned()),
    }
}

/// `hold`
#[derive(Debug, Clone, Args)]
pub struct HoldArgs {
    /// KubervisorService.
    pub name: String,
    /// Why, for people.
    #[arg(long, value_parser = reason)]
    pub reason: String,
    /// How long, such as 30m or 2h. Default: until `resume`.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub lasts: Option<std::time::Duration>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// `resume`
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// KubervisorService.
    pub name: String,
    /// Only the hold with this reason. Default: all of them.
    #[arg(long)]
    pub reason: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// `freeze`
#[derive(Debug, Clone, Args)]
pub struct FreezeArgs {
    /// Why, for people.
    #[arg(long, value_parser = reason)]
    pub reason: String,
    /// Also in place of a freeze for another reason: one thaw then ends both.
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// `thaw`
#[derive(Debug, Clone, Args)]
pub struct ThawArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// `cut` and `restore`
#[derive(Debug, Clone, Args)]
pub struct PodArgs {
    /// Pod.
    pub pod: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// `override`
#[derive(Debug, Clone, Args)]
pub struct OverrideArgs {
    /// Pod.
    pub pod: String,
    /// What may be done to it.
    #[arg(value_enum)]
    pub word: Word,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub only_try: TryArgs,
}

/// A person's word on a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Word {
    /// It is never cut.
    Never,
    /// It is kept out, under the floor.
    Cut,
    /// It serves, and its strikes are forgiven.
    Serve,
    /// No word.
    Clear,
}

/// `release`
#[derive(Debug, Clone, Args)]
pub struct ReleaseArgs {
    /// In every namespace. The same as -A.
    #[arg(long)]
    pub all: bool,
    /// Take the traffic key out of the selectors of Services first, so that pods born later serve too.
    #[arg(long)]
    pub open_selectors: bool,
    /// Succeed although Services still hold the key: pods born later get no traffic until somebody labels them.
    #[arg(long, conflicts_with = "open_selectors")]
    pub accept_dark: bool,
    /// Once every pod is back, no controller acts for so long; 3s to 10m. For whoever takes its rights away right after.
    #[arg(long, value_name = "DURATION", value_parser = Timing::parse)]
    pub keep_lease: Option<Timing>,
    /// Take the Lease first, so that no controller acts meanwhile; false where none runs and the Lease may not be read.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub leader_elect: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
}

/// `check`
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// File or folder of manifests, or - for standard input; may be given several times.
    #[arg(short, long = "filename", required = true, value_name = "FILE", num_args = 1..)]
    pub files: Vec<PathBuf>,
    /// Show the sums for a fleet of so many pods. Default: the replicas of the workloads behind the Service, where both
    /// are in the files.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub replicas: Option<u32>,
    /// The controller's own Prometheus, for detectors that name none.
    #[arg(long, value_name = "URL", value_parser = Endpoint::parse)]
    pub prometheus_url: Option<Endpoint>,
    /// Fail on warnings too.
    #[arg(long)]
    pub strict: bool,
    /// Form of the output.
    #[arg(short, long, value_enum)]
    pub output: Option<Form>,
}

/// `completion`
#[derive(Debug, Clone, Args)]
pub struct CompletionArgs {
    /// Shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `version`
#[derive(Debug, Clone, Args)]
pub struct VersionArgs {
    /// Of this program only; no cluster is asked.
    #[arg(long)]
    pub client: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub controller: ControllerArgs,
}

/// `man`
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Folder.
    pub folder: PathBuf,
}

/// `__complete`
#[derive(Debug, Clone, Args)]
pub struct CompleteArgs {
    /// What stands on the line so far; the last one is being written.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn a_reason_is_one_line_that_shows_as_it_is() {
        assert_eq!(reason("Ada's turn: 50 %").unwrap(), "Ada's turn: 50 %");
        for odd in ["", " ", "two\nlines", "\u{1b}[2K", "a\u{202e}b"] {
            assert!(reason(odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn every_flag_is_sound() {
        Cli::command().debug_assert();
    }
}
