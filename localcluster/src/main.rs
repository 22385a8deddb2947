//! `cargo run -p localcluster`: a control plane to play with, until Ctrl-C.

use std::io::Write;

use anyhow::Context;
use clap::{Parser, Subcommand};
use localcluster::{Cluster, KWOK_NODE, Options, Prometheus, PrometheusOptions, ScrapeTarget, tools};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Starts a real Kubernetes control plane on this machine, without containers, and cleans up after Ctrl-C.
#[derive(Parser)]
#[command(name = "localcluster")]
struct Args {
    #[command(subcommand)]
    command: Option<Task>,
    /// Let kwok play the kubelet of one node: pods get an address and become Ready.
    #[arg(long)]
    kwok: bool,
    /// Start a Prometheus too, which scrapes itself.
    #[arg(long)]
    prometheus: bool,
    /// Write everything into this folder (empty or absent) and keep it.
    #[arg(long)]
    data_dir: Option<std::path::PathBuf>,
}

#[derive(Subcommand)]
enum Task {
    /// Find or build every program and print its path; start nothing.
    Tools,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    match args.command {
        Some(Task::Tools) => print_tools(),
        None => serve(args).await,
    }
}

fn print_tools() -> anyhow::Result<()> {
    let mut text = String::new();
    for (tool, path) in tools::ensure_all()? {
        text.push_str(&format!("{:<24} {:<9} {}\n", tool.name(), tool.version()?, path.display()));
    }
    print(&text)
}

async fn serve(args: Args) -> anyhow::Result<()> {
    // First, so that Ctrl-C during the start cleans up as well.
    let mut stop = Stop::new()?;
    let options = Options { kwok: args.kwok, data_dir: args.data_dir, ..Options::default() };
    let started = tokio::select! {
        biased;
        () = stop.signal() => return Ok(()),
        started = start(options, args.prometheus) => started?,
    };
    print(&greeting(&started.0, started.1.as_ref(), args.kwok)?)?;
    stop.signal().await;
    eprintln!("localcluster: stopping");
    Ok(())
}

async fn start(options: Options, prometheus: bool) -> anyhow::Result<(Cluster, Option<Prometheus>)> {
    let cluster = Cluster::start(options).await?;
    let prometheus = if prometheus { Some(start_prometheus().await?) } else { None };
    Ok((cluster, prometheus))
}

async fn start_prometheus() -> anyhow::Result<Prometheus> {
    let prometheus = Prometheus::start(PrometheusOptions::default()).await?;
    let own = ScrapeTarget::new("prometheus", prometheus.url().trim_start_matches("http://"));
    prometheus.set_targets(&[own]).await?;
    Ok(prometheus)
}

/// For a shell: `eval` of all of it is harmless, as all but the exports are comments.
fn greeting(cluster: &Cluster, prometheus: Option<&Prometheus>, kwok: bool) -> anyhow::Result<String> {
    let mut text = format!("export KUBECONFIG={}\n", cluster.kubeconfig("admin", None)?.display());
    if let Some(prometheus) = prometheus {
        text.push_str(&format!("export PROMETHEUS_URL={}\n", prometheus.url()));
    }
    let folder = cluster.data_dir().display();
    text.push_str(&format!(
        "# {} is ready; kubectl is at {}\n",
        cluster.url(),
        cluster.kubectl_path().display()
    ));
    text.push_str(&format!("# logs, the audit log and a kubeconfig for each user: {folder}\n"));
    text.push_str("# try: kubectl create deployment web --image=web --replicas=3\n");
    if kwok {
        let patch = format!(r#"{{"spec":{{"template":{{"spec":{{"nodeName":"{KWOK_NODE}"}}}}}}}}"#);
        text.push_str(&format!(
            "#      kubectl patch deployment web -p '{patch}'   (there is no scheduler)\n"
        ));
    }
    text.push_str("#      kubectl expose deployment web --port=80 && kubectl get endpointslices -w\n# Ctrl-C stops it.\n");
    Ok(text)
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write to stdout")
}

/// The signals that end us politely.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> anyhow::Result<Stop> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Stop([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    async fn signal(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            biased;
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
