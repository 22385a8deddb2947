//! Each fault of the proxy, as a client sees it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends this way; clippy knows only its outermost function"
)]

mod fixtures;

use std::pin::Pin;
use std::time::{Duration, Instant};

use fixtures::{LIMIT, becomes, config_map, create};
use futures::{Stream, StreamExt, TryStreamExt};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use localcluster::{Cluster, Fault, FaultProxy, Rule};
use tokio::time::timeout;

/// Long against what an answer takes here (10 ms), short against a test.
const SILENCE: Duration = Duration::from_millis(700);
/// Surely not an accident.
const DELAY: Duration = Duration::from_millis(900);

/// A namespace seen twice: by the proxy and directly.
struct Scene {
    cluster: &'static Cluster,
    proxy: FaultProxy,
    namespace: String,
    near: Api<ConfigMap>,
    direct: Api<ConfigMap>,
}

impl Scene {
    async fn new() -> Scene {
        let cluster = Cluster::shared();
        let client = cluster.client("admin").unwrap();
        let namespace = cluster.new_namespace(&client, "proxy").await.unwrap();
        let proxy = FaultProxy::start(cluster).await.unwrap();
        // Without kube's own retries, which would hide a fault.
        let mut config = proxy.config("admin").unwrap();
        config.default_retry = false;
        let near = Api::namespaced(kube::Client::try_from(config).unwrap(), &namespace);
        Scene { cluster, proxy, near, direct: Api::namespaced(client, &namespace), namespace }
    }

    async fn create(&self, name: &str) -> kube::Result<ConfigMap> {
        self.near.create(&PostParams::default(), &config_map(name)).await
    }

    async fn raw_watch(&self) -> reqwest::Response {
        let url = format!("{}/api/v1/namespaces/{}/configmaps?watch=true", self.proxy.url(), self.namespace);
        let token = self.cluster.token("admin").unwrap();
        reqwest::Client::new().get(url).bearer_auth(token).send().await.unwrap()
    }

    /// A watch from now on, without the objects that are there.
    async fn watch(&self) -> Names {
        let version =
            self.near.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
        let events = self.near.watch(&WatchParams::default(), &version).await.unwrap();
        let added = |event: WatchEvent<ConfigMap>| async move {
            match event {
                WatchEvent::Added(map) => Ok(map.metadata.name),
                _ => Ok(None),
            }
        };
        events.try_filter_map(added).boxed()
    }
}

/// The names of created objects, as they arrive.
type Names = Pin<Box<dyn Stream<Item = kube::Result<String>> + Send>>;

async fn next(names: &mut Names) -> String {
    timeout(LIMIT, names.next()).await.expect("an event in time").expect("an open watch").unwrap()
}

#[tokio::test]
async fn without_rules_everything_passes() {
    let scene = Scene::new().await;
    let mut names = scene.watch().await;
    scene.create("a").await.unwrap();
    assert_eq!(next(&mut names).await, "a");
}

#[tokio::test]
async fn a_kubeconfig_leads_a_program_through_the_proxy() {
    let scene = Scene::new().await;
    let id = scene.proxy.inject(Rule::new(Fault::Status(403)).path("/configmaps").times(1));
    let file = scene.cluster.kubeconfig("admin", Some(&scene.proxy.url())).unwrap();
    let read = kube::config::Kubeconfig::read_from(file).unwrap();
    let config = kube::Config::from_custom_kubeconfig(read, &Default::default()).await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(kube::Client::try_from(config).unwrap(), &scene.namespace);
    assert!(maps.list(&ListParams::default()).await.is_err());
    assert!(maps.list(&ListParams::default()).await.is_ok());
    assert_eq!(scene.proxy.hits(id), 1);
}

#[tokio::test]
async fn delay_holds_a_request_back_and_then_forwards_it() {
    let scene = Scene::new().await;
    scene.proxy.inject(Rule::new(Fault::Delay(DELAY)).method(Method::POST));
    let begin = Instant::now();
    scene.create("late").await.unwrap();
    assert!(begin.elapsed() >= DELAY);
}

#[tokio::test]
async fn hold_keeps_a_request_back_until_the_rule_is_cleared() {
    let scene = Scene::new().await;
    let held = scene.proxy.inject(Rule::new(Fault::Hold).method(Method::POST).times(1));
    let cleared = async {
        becomes(1, async || scene.proxy.hits(held)).await;
        assert!(scene.direct.get_opt("held").await.unwrap().is_none());
        scene.proxy.clear(held);
    };
    let (created, ()) = tokio::join!(scene.create("held"), cleared);
    created.unwrap();
    assert_eq!(scene.proxy.answers(held), [201]);
}

#[tokio::test]
async fn status_answers_in_the_api_servers_place_so_many_times() {
    let scene = Scene::new().await;
    let id = scene.proxy.inject(Rule::new(Fault::Status(409)).path("/configmaps").times(1));
    let kube::Error::Api(refused) = scene.create("a").await.unwrap_err() else { panic!("no answer") };
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    assert!(scene.direct.get_opt("a").await.unwrap().is_none());
    scene.create("a").await.unwrap();
    assert_eq!(scene.proxy.hits(id), 1);
}

#[tokio::test]
async fn drop_closes_the_connection_and_forwards_nothing() {
    let scene = Scene::new().await;
    let id = scene.proxy.inject(Rule::new(Fault::Drop).method(Method::POST));
    assert!(!matches!(scene.create("a").await.unwrap_err(), kube::Error::Api(_)));
    assert!(scene.direct.get_opt("a").await.unwrap().is_none());
    assert_eq!(scene.proxy.hits(id), 1);
}

#[tokio::test]
async fn hang_is_silent_until_it_is_cleared_and_forwards_nothing() {
    let scene = Scene::new().await;
    let id = scene.proxy.inject(Rule::new(Fault::Hang).method(Method::POST));
    let mut create = Box::pin(scene.create("a"));
    assert!(timeout(SILENCE, &mut create).await.is_err());
    scene.proxy.clear(id);
    assert!(timeout(LIMIT, create).await.unwrap().is_err());
    assert!(scene.direct.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn a_lost_answer_belongs_to_a_write_that_was_done() {
    let scene = Scene::new().await;
    scene.proxy.inject(Rule::new(Fault::LoseAnswer).method(Method::POST));
    let since = Timestamp::now();
    let mut create = Box::pin(scene.create("a"));
    assert!(timeout(SILENCE, &mut create).await.is_err());
    becomes(true, || async { scene.direct.get_opt("a").await.unwrap().is_some() }).await;
    scene.cluster.audit().settle().await.unwrap();
    let writes = scene.cluster.audit().writes_by("admin", since).unwrap();
    assert_eq!(writes.iter().filter(|write| write.namespace == scene.namespace).count(), 1);
}

#[tokio::test]
async fn an_open_watch_is_delayed_in_order_and_catches_up() {
    let scene = Scene::new().await;
    let mut names = scene.watch().await;
    let id = scene.proxy.inject(Rule::new(Fault::DelayWatch(DELAY)).path("/configmaps"));
    let begin = Instant::now();
    scene.create("a").await.unwrap();
    scene.create("b").await.unwrap();
    assert_eq!(next(&mut names).await, "a");
    assert!(begin.elapsed() >= DELAY);
    assert_eq!(next(&mut names).await, "b");
    assert_eq!(scene.proxy.hits(id), 2);

    scene.create("c").await.unwrap();
    becomes(3, || async { scene.proxy.hits(id) }).await;
    scene.proxy.clear(id);
    scene.create("d").await.unwrap();
    assert_eq!((next(&mut names).await, next(&mut names).await), ("c".to_owned(), "d".to_owned()));
}

#[tokio::test]
async fn an_open_watch_loses_what_is_swallowed_and_nothing_after() {
    let scene = Scene::new().await;
    let mut names = scene.watch().await;
    let id = scene.proxy.inject(Rule::new(Fault::SwallowWatch).path("/configmaps"));
    scene.create("lost").await.unwrap();
    becomes(1, || async { scene.proxy.hits(id) }).await;
    assert!(timeout(SILENCE, names.next()).await.is_err());
    scene.proxy.clear(id);
    scene.create("seen").await.unwrap();
    assert_eq!(next(&mut names).await, "seen");
}

#[tokio::test]
async fn an_open_watch_is_cut_in_mid_stream() {
    let scene = Scene::new().await;
    let mut names = scene.watch().await;
    let id = scene.proxy.inject(Rule::new(Fault::CutWatch).path("/configmaps").times(1));
    // kube takes a broken connection for the end of a watch.
    assert!(timeout(LIMIT, names.next()).await.unwrap().is_none());
    assert_eq!(scene.proxy.hits(id), 1);

    let mut names = scene.watch().await;
    scene.create("a").await.unwrap();
    assert_eq!(next(&mut names).await, "a");
}

#[tokio::test]
async fn a_watch_over_raw_http_arrives_line_by_line() {
    let scene = Scene::new().await;
    let mut response = scene.raw_watch().await;
    create(&scene.direct, &config_map("raw")).await;
    let mut text = String::new();
    while !text.contains("\"name\":\"raw\"") {
        let chunk = timeout(LIMIT, response.chunk()).await.unwrap().unwrap().unwrap();
        assert_eq!(chunk.last(), Some(&b'\n'));
        text.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test]
async fn a_new_watch_is_cut_after_its_headers() {
    let scene = Scene::new().await;
    scene.proxy.inject(Rule::new(Fault::CutWatch));
    let mut response = scene.raw_watch().await;
    assert_eq!(response.status(), 200);
    assert!(timeout(LIMIT, response.chunk()).await.unwrap().is_err());
}

#[tokio::test]
async fn a_proxy_before_an_absent_api_server_gives_no_answer() {
    let cluster = Cluster::start(localcluster::Options::default()).await.unwrap();
    let proxy = FaultProxy::start(&cluster).await.unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(proxy.client("admin").unwrap());
    maps.list(&ListParams::default()).await.unwrap();
    cluster.stop_apiserver().await.unwrap();
    assert!(!matches!(maps.list(&ListParams::default()).await.unwrap_err(), kube::Error::Api(_)));
    cluster.start_apiserver().await.unwrap();
    maps.list(&ListParams::default()).await.unwrap();
}
