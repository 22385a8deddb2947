//! `/live`, `/ready`, `/metrics` and `/explain`.

mod explain;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::cache::Cache;
use crate::cluster::lists::{List, Listed};
use crate::cluster::registry::Registry;
use crate::metrics::Metrics;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Counts and times.
    pub metrics: Metrics,
    /// The views at work now: a change of scope brings new ones.
    pub views: watch::Receiver<Views>,
}

/// What the controller knows.
#[derive(Clone, Default)]
pub struct Views {
    /// The shared index.
    pub cache: Arc<Cache>,
    /// The set of KubervisorServices.
    pub registry: Arc<Registry>,
}

/// Listens, so that a port in use is an error at start. `[::]` is every address, those of IPv4 too.
///
/// # Errors
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let mut listener = TcpListener::bind(address).await;
    if let Some(instead) = listener.as_ref().err().and_then(|error| without_ipv6(address, error)) {
        listener = TcpListener::bind(instead).await;
    }
    listener.map_err(|e| anyhow::anyhow!("cannot listen on {address}: {e}; choose another --http-addr"))
}

/// What stands for every address where the kernel was started without IPv6 and has no socket for `[::]`.
fn without_ipv6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let unknown = error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    (unknown && address.ip() == Ipv6Addr::UNSPECIFIED)
        .then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
}

/// Serves until `stop`.
///
/// # Errors
/// The listener failed.
pub async fn serve(listener: TcpListener, pages: Pages, stop: CancellationToken) -> anyhow::Result<()> {
    let routes = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/explain/{namespace}/{name}", get(explain::service))
        .route("/explain/{namespace}/{name}/{pod}", get(explain::pod))
        .with_state(pages);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await?;
    Ok(())
}

async fn ready(State(pages): State<Pages>) -> impl IntoResponse {
    let Views { cache, registry } = pages.views.borrow().clone();
    let (ready, text) = readiness(&[cache.lists(), registry.lists()].concat());
    (if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, text)
}

/// Whether a rollout may go on, and a line for every list that is not complete. A list that the server forbids may never
/// come: it holds up nothing as long as another scope can be looked after, and is named all the same.
fn readiness(lists: &[List]) -> (bool, String) {
    let whole = |scope| lists.iter().all(|list| list.scope != scope || list.state == Listed::Complete);
    let ready = lists.iter().all(|list| list.state != Listed::Awaited)
        && lists.iter().any(|list| whole(list.scope.clone()));
    let line = |list: &List| {
        let place = list.scope.as_ref().map(|scope| format!(" in namespace {scope}")).unwrap_or_default();
        match list.state {
            Listed::Complete => None,
            Listed::Awaited => Some(format!("waiting for the first list of {}{place}\n", list.resource)),
            Listed::Forbidden => Some(format!(
                "not allowed to list and watch {}{place}: nothing is looked after there\n",
                list.resource
            )),
        }
    };
    let word = if ready { "ready\n" } else { "not ready\n" };
    (ready, std::iter::once(word.to_owned()).chain(lists.iter().filter_map(line)).collect())
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let Views { cache, registry } = pages.views.borrow().clone();
    let [pods, services] = cache.view_ages();
    let mut ages = vec![pods, services, ("kubervisorservices", registry.oldest_view())];
    // Only where they are read: a right that is withheld is no API server out of reach.
    ages.extend(cache.budgets_age().map(|age| ("poddisruptionbudgets", Some(age))));
    let (_, assumed) = cache.sizes();
    pages.metrics.view(&ages, assumed);
    pages.metrics.watch_delays("pods", &cache.take_delays());
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], pages.metrics.text())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::net::TcpStream;

    use super::*;

    fn of(lists: [(&'static str, Listed); 3]) -> (bool, String) {
        let list = |(scope, state)| List { resource: "pods", scope: Some(Arc::from(scope)), state };
        readiness(&lists.map(list))
    }

    #[test]
    fn a_list_on_its_way_is_waited_for_and_named() {
        let (ready, text) =
            of([("meadow", Listed::Complete), ("orchard", Listed::Awaited), ("moor", Listed::Complete)]);
        assert!(!ready);
        assert_eq!(text, "not ready\nwaiting for the first list of pods in namespace orchard\n");
        assert!(!readiness(&[]).0, "nothing has begun");
    }

    #[test]
    fn a_namespace_that_may_not_be_listed_holds_up_no_other_and_is_named() {
        let (ready, text) =
            of([("meadow", Listed::Complete), ("orchard", Listed::Forbidden), ("orchard", Listed::Complete)]);
        assert!(ready && text.contains("not allowed to list and watch pods in namespace orchard"), "{text}");
    }

    #[test]
    fn a_controller_that_may_look_at_nothing_whole_is_not_ready() {
        let lists = [("pods", Listed::Complete), ("kubervisorservices", Listed::Forbidden)];
        let lists = lists.map(|(resource, state)| List { resource, scope: None, state });
        assert!(!readiness(&lists).0);
    }

    /// A pod has addresses of IPv4, of IPv6 or of both, and the kubelet and Prometheus come by either.
    #[tokio::test]
    async fn who_listens_on_every_address_is_reached_by_both_kinds_of_them() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut reached = 0;
        for own in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            // Not every machine has both.
            if TcpListener::bind((own, 0)).await.is_ok() {
                TcpStream::connect((own, port)).await.unwrap();
                reached += 1;
            }
        }
        assert!(reached > 0);
    }

    #[test]
    fn where_there_is_no_ipv6_every_address_is_every_one_of_ipv4() {
        let no_family = io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        let in_use = io::Error::from(io::ErrorKind::AddrInUse);
        let every = "[::]:8086".parse().unwrap();
        assert_eq!(without_ipv6(every, &no_family), "0.0.0.0:8086".parse().ok());
        assert_eq!(without_ipv6(every, &in_use), None);
        assert_eq!(without_ipv6("[fd00::1]:8086".parse().unwrap(), &no_family), None);
    }
}
