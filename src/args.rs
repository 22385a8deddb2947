//! Flags. Each has an environment variable `KUBERVISOR_…` of the same name.

use std::net::SocketAddr;

use clap::{Args, Parser, Subcommand};

use crate::telemetry::LogFormat;

/// Takes misbehaving pods out of a Service's traffic on evidence, never below a floor, and puts them back.
#[derive(Debug, Parser)]
#[command(name = "kubervisor", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Programs in one binary.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller.
    Run(RunArgs),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Give every pod that Kubervisor holds back to its Service. Stop the controller first: a running one cuts again.
    Release(ReleaseArgs),
}

/// `kubervisor run`
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Namespace to look after; may be given several times. Default: all, where that is allowed, else our own.
    #[arg(long = "namespace", short = 'n', env = "KUBERVISOR_NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Prometheus for detectors that name none: host:port or a URL.
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_URL")]
    pub prometheus_url: Option<String>,
    /// Where /live, /ready and /metrics are served.
    #[arg(long, env = "KUBERVISOR_HTTP_ADDR", default_value = "0.0.0.0:8086")]
    pub http_addr: SocketAddr,
    /// Decide and show, but write to no pod, whatever the resources say.
    #[arg(long, env = "KUBERVISOR_DRY_RUN")]
    pub dry_run: bool,
    /// Register the CustomResourceDefinition at start; without the right to, the one that is served is used.
    #[arg(long, env = "KUBERVISOR_REGISTER_CRDS", default_value_t = true, action = clap::ArgAction::Set)]
    pub register_crds: bool,
    /// Let sources be on loopback addresses: for tests and the demo.
    #[arg(long, env = "KUBERVISOR_ALLOW_LOOPBACK_SOURCES")]
    pub allow_loopback_sources: bool,
    /// Format of the log.
    #[arg(long, env = "KUBERVISOR_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// `kubervisor release`
#[derive(Debug, Clone, Args)]
pub struct ReleaseArgs {
    /// In every namespace.
    #[arg(long, conflicts_with = "namespaces", required_unless_present = "namespaces")]
    pub all: bool,
    /// In this namespace; may be given several times.
    #[arg(long = "namespace", short = 'n', value_delimiter = ',')]
    pub namespaces: Vec<String>,
    /// Take the traffic key out of the selectors of Services first, so that pods born later serve too.
    #[arg(long)]
    pub open_selectors: bool,
    /// Succeed although Services still hold the key: pods born later get no traffic until somebody labels them.
    #[arg(long, conflicts_with = "open_selectors")]
    pub accept_dark: bool,
}
