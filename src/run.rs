//! Where everything meets: builds the parts, starts the tasks, waits for the end.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use kube::{Client, Config};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::api::{KubervisorService, crd};
use crate::args::{ReleaseArgs, RunArgs};
use crate::cluster::brake::Brake;
use crate::cluster::call;
use crate::cluster::crd::{Registered, register};
use crate::cluster::release::{Selectors, release_all};
use crate::cluster::scope::{Scope, cluster_allowed};
use crate::cluster::secrets::ClusterSecrets;
use crate::cluster::server_addresses::server_addresses;
use crate::metrics::Metrics;
use crate::own_access::defaults;
use crate::sources::{Source, SourceOptions, Sources};
use crate::turn::{Outside, Turn};
use crate::{elect, telemetry, web};

/// Pause between two tries of something at start that the cluster does not allow yet.
const START_RETRY: Duration = Duration::from_secs(2);
/// A definition just stored is waited for: tries, and the pause between them.
const SERVED_TRIES: u32 = 100;
const SERVED_PAUSE: Duration = Duration::from_millis(100);
/// A controller that may only look at its own namespace asks this often whether it may look at all.
const ASK_AGAIN: Duration = Duration::from_mins(1);
/// Time for everything under way at the end, writes and pages: a call's own, and a little.
const GOODBYE: Duration = Duration::from_secs(6);
/// Time to give the Lease up after that.
const LAST_WORD: Duration = Duration::from_secs(1);

/// `kubervisor run`
///
/// # Errors
/// A flag that cannot be used, no configuration for the cluster, a port in use.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::start(args.log_format);
    install_crypto();
    let defaults = defaults(&args)?;
    let config = config().await?;
    let client = client(config.clone())?;
    let stop = stop_on_signal()?;
    let listener = web::listen(args.http_addr).await?;
    let address = listener.local_addr()?;
    let metrics = Metrics::new();
    let (views, seen) = watch::channel(web::Views::default());
    let pages = web::Pages { metrics: metrics.clone(), views: seen };
    let mut served = tokio::spawn(web::serve(listener, pages, stop.clone()));
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "kubervisor starts");
    if args.register_crds {
        register_crd(&client, &stop).await;
    }
    let api_server = addresses(&config, &client, args.allow_loopback_sources).await;
    let (mandate, mut campaign) = elect::stand(&args, &config, &client, &metrics).await;
    let brake = Brake::new(args.max_cuts_per_minute);
    let (mut deadline, mut clean) = (Instant::now(), true);
    while !stop.is_cancelled() {
        let (scope, settled) = scope(&args, &config, &client, &stop).await?;
        views.send_replace(web::Views::default());
        let web::Views { cache, registry } = views.borrow().clone();
        let source = source(&args, &client, &metrics, &api_server)?;
        let turn = Turn {
            outside: Outside::real(client.clone(), source),
            cache,
            registry,
            mandate: mandate.clone(),
            brake: brake.clone(),
            metrics: metrics.clone(),
            defaults: defaults.clone(),
            dry_run: args.dry_run,
            stop: stop.child_token(),
        };
        let mut running = turn.start(&scope);
        let end = tokio::select! {
            biased;
            () = wait_for_end(&client, settled, &stop) => Ok(()),
            // Each of them runs until it is told to stop: one that has ended by itself leaves the controller blind
            // or lame, and a restart is better than that.
            ended = running.parts.join_next() => Err(anyhow!("a part of the controller ended by itself: {ended:?}")),
            ended = &mut served => Err(anyhow!("the pages are no longer served: {ended:?}")),
            why = campaign.broken() => Err(anyhow!("nobody looks after the Lease any more: {why}")),
        };
        deadline = Instant::now() + GOODBYE;
        // A write of which nobody knows how it ended may be carried out yet: a successor must wait for it.
        clean = running.end(deadline).await && views.borrow().cache.doubtful() == 0;
        end?;
    }
    campaign.end(clean, deadline + LAST_WORD).await;
    // A page half asked for must not keep the process.
    let _ = tokio::time::timeout_at(deadline, served).await;
    tracing::info!("kubervisor ends; what is cut stays cut until it runs again");
    Ok(())
}

/// Blocks until the end, or until a wider scope is allowed.
async fn wait_for_end(client: &Client, settled: bool, stop: &CancellationToken) {
    if settled {
        return stop.cancelled().await;
    }
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(ASK_AGAIN) => {}
        }
        if matches!(cluster_allowed(client).await, Ok(true)) {
            tracing::info!("all namespaces may be looked at now; starting again with all of them");
            return;
        }
    }
}

/// Which namespaces to look at, and whether that is settled for good.
async fn scope(
    args: &RunArgs,
    config: &Config,
    client: &Client,
    stop: &CancellationToken,
) -> anyhow::Result<(Scope, bool)> {
    if !args.namespaces.is_empty() {
        tracing::info!(namespaces = ?args.namespaces, "looking after the namespaces that --namespace names");
        return Ok((Scope::of(&args.namespaces).map_err(|e| anyhow!("--namespace: {e}"))?, true));
    }
    loop {
        match cluster_allowed(client).await {
            Ok(true) => {
                tracing::info!("looking after all namespaces: pods may be watched everywhere");
                return Ok((Scope::Cluster, true));
            }
            Ok(false) => {
                let own = config.default_namespace.clone();
                tracing::info!(
                    namespace = own,
                    "looking after our own namespace only: pods may not be watched \
                    everywhere; asked again every minute"
                );
                let own = Scope::of(&[own]).map_err(|e| anyhow!("the namespace of the kubeconfig: {e}"))?;
                return Ok((own, false));
            }
            Err(error) => tracing::warn!(%error, "cannot ask what is allowed; trying again"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok((Scope::Cluster, true)),
            () = tokio::time::sleep(START_RETRY) => {}
        }
    }
}

async fn register_crd(client: &Client, stop: &CancellationToken) {
    loop {
        match register(client).await {
            Ok(Registered::Applied) => {
                served(client).await;
                return tracing::info!("the CustomResourceDefinition is registered");
            }
            Ok(Registered::Newer) => {
                return tracing::info!("a newer CustomResourceDefinition is served and left alone");
            }
            Ok(Registered::NotAllowed) => {
                return tracing::info!(
                    "no right to register the CustomResourceDefinition; using the one served"
                );
            }
            Err(error) if kind_is_served(client).await => {
                return tracing::warn!(%error, "the CustomResourceDefinition could not be registered; using the one served");
            }
            Err(error) => tracing::warn!(%error, "the CustomResourceDefinition could not be registered yet"),
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(START_RETRY) => {}
        }
    }
}

async fn kind_is_served(client: &Client) -> bool {
    let api: Api<KubervisorService> = Api::all(client.clone());
    call(api.list_metadata(&ListParams::default().limit(1))).await.is_ok()
}

/// A definition is served a moment after it is stored. The watch would wait for it too, with a warning.
async fn served(client: &Client) {
    let api: Api<KubervisorService> = Api::all(client.clone());
    for _ in 0..SERVED_TRIES {
        match call(api.list_metadata(&ListParams::default().limit(1))).await {
            Err(error) if error.code() == Some(404) => tokio::time::sleep(SERVED_PAUSE).await,
            Ok(_) | Err(_) => return,
        }
    }
}

/// Real sources. None may be where the API server is: a question would carry nothing, but its answer might tell
/// something.
fn source(
    args: &RunArgs,
    client: &Client,
    metrics: &Metrics,
    api_server: &BTreeSet<IpAddr>,
) -> anyhow::Result<Arc<dyn Source>> {
    let options = SourceOptions {
        allow_loopback: args.allow_loopback_sources,
        observer: Arc::new(metrics.clone()),
        refused_addresses: api_server.clone(),
        secrets: Arc::new(ClusterSecrets::new(client.clone())),
        ..SourceOptions::default()
    };
    Ok(Arc::new(Sources::new(options)?))
}

/// Where the API server listens, by its name and by its own word; loopback left out where sources may be there too.
async fn addresses(config: &Config, client: &Client, allow_loopback: bool) -> BTreeSet<IpAddr> {
    let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
    let mut all = server_addresses(client).await;
    match tokio::net::lookup_host((host, 443)).await {
        Ok(found) => all.extend(found.map(|address| address.ip())),
        Err(error) => {
            tracing::warn!(host, %error, "the API server's name does not resolve: its address is not kept from sources");
        }
    }
    all.retain(|ip| !(allow_loopback && ip.is_loopback()));
    tracing::debug!(addresses = ?all, "no source is asked where the API server listens");
    all
}

/// Two crypto providers in one process make rustls panic at the first connection: ours is installed first.
fn install_crypto() {
    // Fails only where one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Inside a pod its own ServiceAccount, unless a kubeconfig is named.
async fn config() -> anyhow::Result<Config> {
    if std::env::var_os("KUBECONFIG").is_none() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return Config::incluster().context("the pod's ServiceAccount cannot be read");
    }
    Config::infer().await.context("no cluster is configured: set KUBECONFIG, or run in a pod")
}

/// A client that never retries by itself: a refused eviction would be tried for minutes, out of the budget's sight.
fn client(mut config: Config) -> anyhow::Result<Client> {
    config.connect_timeout = Some(crate::cluster::CALL_TIMEOUT);
    crate::cluster::client::client(config).context("the configuration of the cluster cannot be used")
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

/// `kubervisor crds`
///
/// # Errors
/// Standard output is closed.
pub fn print_crds() -> anyhow::Result<()> {
    use std::io::Write;
    let yaml = serde_yaml_ng::to_string(&crd())?;
    std::io::stdout().write_all(yaml.as_bytes()).context("the definitions cannot be printed")
}

/// `kubervisor release`
///
/// # Errors
/// Pods are still held, or Services still hold the key, by name.
pub async fn release(args: ReleaseArgs) -> anyhow::Result<()> {
    telemetry::start(telemetry::LogFormat::Text);
    install_crypto();
    let config = config().await?;
    let client = client(config.clone())?;
    release_as(&args, &config, &client).await?;
    tracing::info!(
        "every pod is given back; stop the controller now, if one runs: one that goes on cuts again"
    );
    Ok(())
}

/// The same for whoever has a client already, which must not retry by itself.
///
/// # Errors
/// Pods are still held, or Services still hold the key, by name.
pub async fn release_as(args: &ReleaseArgs, config: &Config, client: &Client) -> anyhow::Result<()> {
    let scope = if args.all {
        Scope::Cluster
    } else {
        Scope::of(&args.namespaces).map_err(|e| anyhow!("--namespace: {e}"))?
    };
    let stop = stop_on_signal()?;
    let selectors = match (args.open_selectors, args.accept_dark) {
        (true, _) => Selectors::Open,
        (false, true) => Selectors::AcceptDark,
        (false, false) => Selectors::Refuse,
    };
    are_there(client, &scope).await?;
    let (mandate, campaign) = elect::seize(&args.lease, config, client, &stop).await?;
    let released = release_all(client, &scope, &args.except, selectors, &mandate, &stop).await;
    // Not given up: a controller that is on its way out must not act once more before it is gone.
    let released = match (released, args.keep_lease) {
        (Ok(()), Some(keep)) => campaign.keep(keep).await,
        (released, _) => {
            campaign.end(false, Instant::now() + LAST_WORD).await;
            released
        }
    };
    released
        .map_err(|error| anyhow!("{error:#}; stop the controller, if one runs: one that goes on cuts again"))
}

/// In a namespace that is not there every pod is free, and whoever mistyped it would believe that his pods are. Without
/// the right to ask, nothing is known of it.
async fn are_there(client: &Client, scope: &Scope) -> anyhow::Result<()> {
    for namespace in scope.each().into_iter().flatten() {
        let api: Api<Namespace> = Api::all(client.clone());
        if let Err(error) = call(api.get_metadata(&namespace)).await {
            anyhow::ensure!(
                error.code() != Some(404),
                "nothing is released: there is no namespace {namespace:?} in this cluster"
            );
        }
    }
    Ok(())
}
