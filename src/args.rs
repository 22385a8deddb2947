//! Flags. Each has an environment variable `KUBERVISOR_…` of the same name.

use std::net::SocketAddr;

use clap::builder::BoolishValueParser;
use clap::{Args, Parser, Subcommand};

use crate::cluster::brake::CutsPerMinute;
use crate::cluster::election::Timing;
use crate::cluster::scope::namespace;
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
    Run(Box<RunArgs>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds,
    /// Give every pod that Kubervisor holds back to its Service. Stop the controller too: one that goes on running cuts
    /// again.
    Release(ReleaseArgs),
}

/// `kubervisor run`
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Namespace to look after; may be given several times. Default: all, where that is allowed, else our own. An empty
    /// value is refused: unset the variable for the default.
    #[arg(
        long = "namespace",
        short = 'n',
        env = "KUBERVISOR_NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub namespaces: Vec<String>,
    /// Prometheus for detectors that name none: host:port or a URL.
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_URL")]
    pub prometheus_url: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "clap would print it as the help of all flags")]
    pub prometheus: PrometheusArgs,
    /// Queries of KubervisorServices to that Prometheus see their own namespace only: each selector gets a matcher.
    #[arg(long, env = "KUBERVISOR_ENFORCE_NAMESPACE", requires = "prometheus_url",
        value_parser = BoolishValueParser::new())]
    pub enforce_namespace: bool,
    /// Where /live, /ready and /metrics are served; [::] is every address, those of IPv4 too.
    #[arg(long, env = "KUBERVISOR_HTTP_ADDR", default_value = "[::]:8086")]
    pub http_addr: SocketAddr,
    /// Decide and show, whatever the resources say: no pod is cut, paused, evicted or labelled. Pods that are cut
    /// already go back, so not beside an active controller, whose cuts it would undo.
    #[arg(long, env = "KUBERVISOR_DRY_RUN", value_parser = BoolishValueParser::new())]
    pub dry_run: bool,
    /// Cuts within a minute over all services at most: a number, a share of all members (that of a small cluster counts
    /// as 5), or the lesser of both; 0 cuts nothing. Above it nothing is cut until fewer are wanted for 5 minutes.
    #[arg(long, env = "KUBERVISOR_MAX_CUTS_PER_MINUTE", default_value = "30,10%",
        value_parser = CutsPerMinute::parse)]
    pub max_cuts_per_minute: CutsPerMinute,
    /// The Lease.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// A holder that shows no sign of life for so long has lost the Lease; 3s to 10m. A successor of one that was
    /// killed returns pods after this time, and cuts 5 s later.
    #[arg(long, env = "KUBERVISOR_LEASE_DURATION", default_value = "15s", value_parser = Timing::parse)]
    pub lease_duration: Timing,
    /// Register the CustomResourceDefinition at start; without the right to, the one that is served is used.
    #[arg(long, env = "KUBERVISOR_REGISTER_CRDS", default_value_t = true, action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub register_crds: bool,
    /// Let sources be on loopback addresses: for tests and the demo.
    #[arg(long, env = "KUBERVISOR_ALLOW_LOOPBACK_SOURCES", value_parser = BoolishValueParser::new())]
    pub allow_loopback_sources: bool,
    /// Format of the log.
    #[arg(long, env = "KUBERVISOR_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

/// Which Lease decides who acts.
#[derive(Debug, Clone, Args)]
pub struct LeaseArgs {
    /// Hold a Lease while acting, so that of several controllers one acts.
    // On by default: every rollout of a Deployment runs two controllers for a moment, and a node that was cut off comes
    // back with one; two would each spend the whole budget. kube-scheduler and kube-controller-manager do the same.
    #[arg(long, env = "KUBERVISOR_LEADER_ELECT", default_value_t = true, action = clap::ArgAction::Set,
        value_parser = BoolishValueParser::new())]
    pub leader_elect: bool,
    /// Name of the Lease. Controllers that look after different namespaces may each have their own; their Role must name
    /// it.
    #[arg(long, env = "KUBERVISOR_LEASE_NAME", default_value = "kubervisor")]
    pub lease_name: String,
    /// Namespace of the Lease. Default: the controller's own, or that of the kubeconfig.
    #[arg(long, env = "KUBERVISOR_LEASE_NAMESPACE", value_parser = namespace)]
    pub lease_namespace: Option<String>,
}

/// With what the controller's own Prometheus is asked. Files are read again now and then, and after a 401.
#[derive(Debug, Clone, Default, Args)]
pub struct PrometheusArgs {
    /// File with the certificate authorities (PEM) that its certificate must come from. Default: those of the machine.
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_CA_FILE", requires = "prometheus_url")]
    pub prometheus_ca_file: Option<String>,
    /// File with our own certificate (PEM).
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_CERT_FILE", requires_all = ["prometheus_url", "prometheus_key_file"])]
    pub prometheus_cert_file: Option<String>,
    /// File with the key of our own certificate (PEM).
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_KEY_FILE", requires = "prometheus_cert_file")]
    pub prometheus_key_file: Option<String>,
    /// Name that its certificate must have. Default: the host of the URL.
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_SERVER_NAME", requires = "prometheus_url")]
    pub prometheus_server_name: Option<String>,
    /// Trust any certificate of it: whoever is in between can read everything.
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_INSECURE_SKIP_VERIFY", requires = "prometheus_url",
        value_parser = BoolishValueParser::new())]
    pub prometheus_insecure_skip_verify: bool,
    /// File with a token, sent as Authorization: Bearer.
    #[arg(long, env = "KUBERVISOR_PROMETHEUS_BEARER_TOKEN_FILE", requires = "prometheus_url")]
    pub prometheus_bearer_token_file: Option<String>,
    /// File with one line, user:password, sent as Authorization: Basic.
    #[arg(
        long,
        env = "KUBERVISOR_PROMETHEUS_BASIC_AUTH_FILE",
        requires = "prometheus_url",
        conflicts_with = "prometheus_bearer_token_file"
    )]
    pub prometheus_basic_auth_file: Option<String>,
    /// Header, such as X-Scope-OrgID=shop; may be given several times.
    #[arg(
        long = "prometheus-header",
        value_name = "NAME=VALUE",
        env = "KUBERVISOR_PROMETHEUS_HEADER",
        value_delimiter = ',',
        requires = "prometheus_url"
    )]
    pub prometheus_headers: Vec<String>,
}

/// `kubervisor release`
#[derive(Debug, Clone, Args)]
pub struct ReleaseArgs {
    /// In every namespace.
    #[arg(long, conflicts_with = "namespaces", required_unless_present = "namespaces")]
    pub all: bool,
    /// In this namespace; may be given several times.
    #[arg(long = "namespace", short = 'n', value_delimiter = ',', value_parser = namespace)]
    pub namespaces: Vec<String>,
    /// With --all: not in this namespace; may be given several times.
    // What conflicts with a required flag lifts the requirement.
    #[arg(
        long,
        requires = "all",
        conflicts_with = "namespaces",
        value_name = "NAMESPACE",
        value_delimiter = ',',
        value_parser = namespace
    )]
    pub except: Vec<String>,
    /// The Lease of the controller, which is taken first.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// Once every pod is given back, no controller acts for so long, or for the Lease's own duration where that is more; 3s
    /// to 10m. For whoever takes its rights away right after.
    #[arg(long, value_name = "DURATION", value_parser = Timing::parse)]
    pub keep_lease: Option<Timing>,
    /// Take the traffic key out of the selectors of Services first, so that pods born later serve too.
    #[arg(long)]
    pub open_selectors: bool,
    /// Succeed although Services still hold the key: pods born later get no traffic until somebody labels them.
    #[arg(long, conflicts_with = "open_selectors")]
    pub accept_dark: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Command, String> {
        let words = ["kubervisor"].iter().chain(words);
        Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_no_namespace_is_refused_and_never_means_all_of_them() {
        for value in
            ["", ",", "meadow,", ",meadow", "meadow/pods", "Meadow", "..", " meadow", &"m".repeat(64)]
        {
            for words in [["release", "-n", value], ["run", "--namespace", value]] {
                let refused = read(&words).expect_err(&format!("{words:?} was taken"));
                assert!(refused.contains("is no namespace"), "{words:?}: {refused}");
            }
        }
    }

    #[test]
    fn namespaces_are_taken_apart_at_commas_and_collected() {
        let Ok(Command::Release(args)) = read(&["release", "-n", "meadow,hill-2", "-n", "9lives"]) else {
            panic!("three namespaces were refused");
        };
        assert_eq!(args.namespaces, ["meadow", "hill-2", "9lives"]);
    }

    #[test]
    fn a_release_that_says_neither_where_nor_everywhere_is_refused() {
        assert!(read(&["release"]).is_err());
        assert!(read(&["release", "--all", "-n", "meadow"]).is_err());
        assert!(read(&["release", "-n", "meadow", "--except", "hill-2"]).is_err());
        assert!(read(&["release", "--all", "--except", "hill-2"]).is_ok());
    }
}
