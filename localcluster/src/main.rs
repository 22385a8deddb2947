//! `cargo run -p localcluster`: a control plane to play with, until Ctrl-C.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use localcluster::node::{self, Image, Node};
use localcluster::{
    Cluster, KWOK_NODE, Options, Prometheus, PrometheusOptions, ScrapeTarget, StopSignals, tools,
};
use tokio::net::TcpListener;

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
    Tools {
        /// Those of a real node too.
        #[arg(long)]
        node: bool,
    },
    /// A control plane with a real node, which runs pods; needs root, Linux and some Debian packages, which it names.
    Node {
        /// Images to import, archives as `docker save` writes them.
        #[arg(long = "image", value_name = "FILE")]
        images: Vec<std::path::PathBuf>,
        /// Only say what this machine lacks for it, a sentence each; then the status is 1.
        #[arg(long)]
        check: bool,
    },
    /// Answer every request on port 8080 with the name of this machine; a pod of the image web:1 does that.
    Web,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.command {
        Some(Task::Tools { node }) => print_tools(node)?,
        Some(Task::Node { check: true, .. }) => return check_node(),
        Some(Task::Node { ref images, check: false }) => {
            node::enter()?;
            serve_node(images).await?;
        }
        Some(Task::Web) => serve_web().await?,
        None => serve(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_tools(node: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    for (tool, path) in tools::ensure_all(node)? {
        text.push_str(&format!("{:<24} {:<9} {}\n", tool.name(), tool.version()?, path.display()));
    }
    print(&text)
}

async fn serve(args: Args) -> anyhow::Result<()> {
    // First, so that Ctrl-C during the start cleans up as well.
    let mut stop = StopSignals::new()?;
    let options = Options { kwok: args.kwok, data_dir: args.data_dir, ..Options::default() };
    let started = tokio::select! {
        biased;
        () = stop.next() => return Ok(()),
        started = start(options, args.prometheus) => started?,
    };
    print(&greeting(&started.0, started.1.as_ref(), args.kwok)?)?;
    stop.next().await;
    eprintln!("localcluster: stopping");
    Ok(())
}

fn check_node() -> anyhow::Result<ExitCode> {
    let missing = node::missing();
    print(&missing.iter().map(|lack| format!("{lack}\n")).collect::<String>())?;
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn serve_node(images: &[std::path::PathBuf]) -> anyhow::Result<()> {
    let mut stop = StopSignals::new()?;
    let begin = async {
        let options = Options { address: Some(node::address()), ..Options::default() };
        let cluster = Cluster::start(options).await?;
        let node = Node::start(&cluster).await?;
        node.import(&web_image(&cluster)?).await?;
        for image in images {
            node.import(image).await?;
        }
        anyhow::Ok((cluster, node))
    };
    let (cluster, node) = tokio::select! {
        biased;
        () = stop.next() => return Ok(()),
        started = begin => started?,
    };
    print(&greeting_of_node(&cluster, &node)?)?;
    stop.next().await;
    eprintln!("localcluster: stopping");
    node.stop().await
}

fn greeting_of_node(cluster: &Cluster, node: &Node) -> anyhow::Result<String> {
    let mut text = format!("export KUBECONFIG={}\n", cluster.kubeconfig("admin", None)?.display());
    let (name, way_in) = (node.name(), node::pid_file()?);
    text.push_str(&format!(
        "# {name} is ready, in a network of its own. The way in, for another terminal:\n"
    ));
    text.push_str(&format!("#   nsenter --all --target $(cat {})\n", way_in.display()));
    text.push_str(&format!("# In there, kubectl is at {}; try\n", cluster.kubectl_path().display()));
    text.push_str("#   kubectl create deployment web --image=web:1 --replicas=2\n");
    text.push_str("#   kubectl expose deployment web --port=80 --target-port=8080 && kubectl get services\n");
    text.push_str(&format!("# logs: {}\n# Ctrl-C stops it.\n", cluster.data_dir().join("node").display()));
    Ok(text)
}

/// This very program, as an image for pods.
fn web_image(cluster: &Cluster) -> anyhow::Result<std::path::PathBuf> {
    let archive = cluster.data_dir().join("web.tar");
    let program = std::env::current_exe().context("cannot tell which program this is")?;
    let mut image = Image::of_program("web:1", &program)?;
    image.entrypoint.push("web".to_owned());
    image.write(&archive)?;
    Ok(archive)
}

async fn serve_web() -> anyhow::Result<()> {
    let mut stop = StopSignals::new()?;
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").context("this machine has no name")?;
    let answer = axum::Router::new().fallback(move || async move { name });
    let listener = TcpListener::bind(("0.0.0.0", 8080)).await.context("cannot listen on port 8080")?;
    print("listening on port 8080\n")?;
    let served = axum::serve(listener, answer).with_graceful_shutdown(async move { stop.next().await });
    served.await.context("cannot serve on port 8080")
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
