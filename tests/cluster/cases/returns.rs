//! Whatever goes away, pods come back: at their time, or at once when nothing holds them any more.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use kubervisor::api::KubervisorService;
use serde_json::{Value, json};

use crate::harness::trace::{Step, accepted, of};
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually, throughout};

/// From a due time to the write, on a loaded machine.
const IN_TIME: SignedDuration = SignedDuration::from_secs(5);

/// One breaker that lets pods return so.
fn returning(source: &FakeSource, activator: &Value) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = activator.clone();
    json!({"breakers": [breaker]})
}

/// Whose custom service names the first pod, which is cut.
async fn with_one_cut(
    prefix: &str,
    replicas: usize,
    activator: Value,
) -> (Shop, FakeSource, Controller, String) {
    let shop = Shop::open(prefix, replicas).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller().brief()).await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    shop.govern(returning(&source, &activator)).await;
    shop.cut_are(&[&bad]).await;
    (shop, source, controller, bad)
}

/// Each restore that the API server accepted: pod and time.
async fn restores(shop: &Shop) -> BTreeMap<String, Timestamp> {
    let writes = shop.pod_writes().await;
    let restores = writes.into_iter().filter(|w| w.accepted() && w.step == Step::Restore);
    restores.map(|w| (w.pod, w.time)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_resource_frees_its_pods_and_one_made_again_cuts_again() {
    let (shop, source, controller, bad) = with_one_cut("deleted", 4, json!({"period": "4m"})).await;
    shop.delete_resource().await;
    shop.none_is_out().await;
    let counted = || controller.metric("kubervisor_restores_total", &["reason=\"Released\""]);
    eventually("it is counted", SOON, || async { counted().await >= 1.0 }).await;
    let metrics = controller.metrics().await;
    let left: Vec<_> = metrics.lines().filter(|line| line.contains(&shop.namespace)).collect();
    assert!(left.is_empty(), "series of a resource that is gone: {left:#?}");
    for key in ["kubervisor/name", "kubervisor/strategy", "breaker/breakAt"] {
        assert_eq!(shop.mark_of(&bad, key).await, None, "{key} is left on the pod");
    }
    let asked = source.answers();
    shop.govern(returning(&source, &json!({"period": "4m"}))).await;
    shop.cut_are(&[&bad]).await;
    assert!(source.answers() > asked);
    shop.state_is("Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_resource_that_a_finalizer_still_holds_frees_its_pods_all_the_same() {
    let (shop, _source, _controller, bad) = with_one_cut("finalizer", 4, json!({"period": "4m"})).await;
    // One more, cut by the original, whose mark does not say for whom.
    shop.bare_pod("plum-0", "plums").await;
    let breaks = json!({"breaker/breakAt": "2018-09-12T08:00:00Z"});
    shop.set_finalizers(&["orchard.example/keeps"]).await;
    shop.delete_resource().await;
    shop.mark("plum-0", json!({"kubervisor/traffic": "no"}), breaks).await;
    shop.none_is_out().await;
    assert!(shop.resources().get("pears").await.is_ok(), "the finalizer did not hold it");
    assert_eq!(shop.mark_of(&bad, "kubervisor/name").await, None);
    shop.set_finalizers(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_deleted_while_no_controller_runs_frees_its_pods_at_the_next_start() {
    let (shop, _source, controller, bad) = with_one_cut("deleted-away", 4, json!({"period": "4m"})).await;
    controller.kill();
    shop.delete_resource().await;
    assert_eq!(shop.labelled("no").await, [bad]);
    let _controller = Controller::ready(&shop.controller().brief()).await;
    shop.none_is_out().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_makes_no_storm_of_errors_and_another_namespace_goes_on() {
    let (shop, dying) = (Shop::open("goes-on", 3).await, Shop::open("dying", 3).await);
    let (source, last) =
        (FakeSource::start(&shop.namespace).await, FakeSource::start(&dying.namespace).await);
    let controller = Controller::ready(&shop.controller_here_and_in(&dying).await).await;
    let (bad, cut) = (shop.names().await[0].clone(), dying.names().await[0].clone());
    last.name_bad([cut.as_str()]);
    dying.govern(returning(&last, &json!({"period": 2}))).await;
    shop.govern(returning(&source, &json!({"period": "4m"}))).await;
    dying.cut_are(&[&cut]).await;
    let namespaces: Api<Namespace> = Api::all(shop.client.clone());
    namespaces.delete(&dying.namespace, &DeleteParams::default()).await.unwrap();
    let gone = || async { namespaces.get_opt(&dying.namespace).await.unwrap().is_none() };
    eventually("the namespace is gone", SOON * 2, gone).await;
    source.name_bad([bad.as_str()]);
    shop.cut_are(&[&bad]).await;
    let log = controller.log();
    let bad_lines = || log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR"));
    assert!(bad_lines().count() <= 5, "{:#?}", bad_lines().collect::<Vec<_>>());
    let refused = dying.writes_by(shop.controller_user(), Timestamp::UNIX_EPOCH).await;
    let refused: Vec<_> = refused.iter().filter(|r| r.code >= 300).collect();
    assert!(refused.len() <= 20, "{} refused writes: {refused:#?}", refused.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_cut_before_a_sigkill_is_restored_at_its_stored_time_by_the_next_process() {
    let (shop, source, controller, bad) = with_one_cut("killed", 4, json!({"period": 12})).await;
    controller.kill();
    let due = shop.restore_at(&bad).await;
    source.name_bad([]);
    let _controller = Controller::ready(&shop.controller().brief()).await;
    assert_eq!(shop.restore_at(&bad).await, due, "the time was drawn again");
    shop.none_is_out().await;
    let late = restores(&shop).await[&bad].duration_since(due);
    assert!(late >= SignedDuration::ZERO && late < IN_TIME, "restored {late:?} after its time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_finds_twenty_cut_pods_restores_none_before_its_stored_time() {
    let shop = Shop::open("twenty", 24).await;
    let source = FakeSource::start(&shop.namespace).await;
    shop.govern(returning(&source, &json!({"period": "4m"}))).await;
    let names = shop.names().await;
    let due = |n: i64| Timestamp::now() + SignedDuration::from_secs(n);
    // Ten soon, one after the other; ten long after the test.
    let mut soon = BTreeMap::new();
    for (number, pod) in (0..20).zip(&names) {
        let due = if number < 10 { due(12 + number / 2) } else { due(200) };
        shop.as_cut(pod, "named", due).await;
        soon.extend((number < 10).then(|| (pod.clone(), due)));
    }
    let _controller = Controller::ready(&shop.controller()).await;
    shop.state_is("Running").await;
    let ten = || async { shop.labelled("no").await == names[10..20] };
    eventually("the first ten are back", SOON, ten).await;
    let back = restores(&shop).await;
    assert!(back.keys().eq(soon.keys()), "{back:?}");
    for (pod, at) in &back {
        let late = at.duration_since(soon[pod]);
        assert!(late >= SignedDuration::ZERO, "{pod} came {late:?} after its time");
    }
    // A quarter of those that were out at a time; the others wait until these are proven.
    let mut late: Vec<_> = back.iter().map(|(pod, at)| at.duration_since(soon[pod])).collect();
    late.sort();
    assert!(late[3] < IN_TIME && late[9] < SignedDuration::from_secs(15), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_retries_are_used_up_is_evicted_after_the_record_of_it_and_its_replacement_serves() {
    let shop = Shop::open("evicted", 4).await;
    let bad = shop.names().await[0].clone();
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let seen = Versions::start(&shop).await;
    source.name_bad([bad.as_str()]);
    let activator = json!({"mode": "retryAndKill", "period": 1, "maxRetryCount": 1});
    shop.govern(returning(&source, &activator)).await;
    let gone = || async { !shop.pods().await.contains_key(&bad) };
    eventually("the pod is gone", SOON, gone).await;
    let (recorded, evicted) = seen.of_kill(&bad).await;
    assert!(recorded < evicted, "recorded in version {recorded}, evicted in version {evicted}");
    shop.serves(4).await;
    let writes = shop.pod_writes().await;
    let steps: Vec<_> = of(&writes, &bad).into_iter().filter(|w| w.accepted()).map(|w| w.step).collect();
    assert_eq!(steps, [Step::Cut, Step::Restore, Step::Cut, Step::Evict]);
    let deletions = shop.writes_by(shop.controller_user(), Timestamp::UNIX_EPOCH).await;
    assert!(deletions.iter().all(|r| !r.verb.starts_with("delete")), "deleted past the eviction API");
    assert_eq!(shop.status().await["kills"][0]["pod"], json!(bad));
    shop.told("PodEvicted", "after 2 cuts by named").await;
    let done = [shop.namespace.as_str(), "outcome=\"Done\""];
    assert!(controller.metric("kubervisor_evictions_total", &done).await >= 1.0);
}

/// Versions of the API server's one store, in which every write has its place.
struct Versions {
    resources: Api<KubervisorService>,
    pods: Api<Pod>,
    from: String,
}

impl Versions {
    async fn start(shop: &Shop) -> Self {
        let (resources, pods) = (shop.resources(), shop.pods_api());
        let from = pods.list(&kube::api::ListParams::default()).await.unwrap().metadata.resource_version;
        Self { resources, pods, from: from.unwrap() }
    }

    /// Of the first status that records the eviction of this pod, and of the pod when it began to go.
    async fn of_kill(&self, pod: &str) -> (u64, u64) {
        let records =
            |r: &KubervisorService| r.status.as_ref().is_some_and(|s| s.kills.iter().any(|k| k.pod == pod));
        let goes = |p: &Pod| p.name_any() == pod && p.metadata.deletion_timestamp.is_some();
        let recorded = first_version(&self.resources, &self.from, records);
        let evicted = first_version(&self.pods, &self.from, goes);
        tokio::time::timeout(SOON, async { tokio::join!(recorded, evicted) }).await.unwrap()
    }
}

/// The version of the first object after `from` that is so, by a watch that begins in the past.
async fn first_version<K>(api: &Api<K>, from: &str, is: impl Fn(&K) -> bool) -> u64
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut events = api.watch(&WatchParams::default(), from).await.unwrap().boxed();
    loop {
        let (WatchEvent::Added(object) | WatchEvent::Modified(object)) =
            events.try_next().await.unwrap().unwrap()
        else {
            continue;
        };
        if is(&object) {
            return object.resource_version().unwrap().parse().unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_eviction_leaves_the_pod_cut_is_told_and_is_not_repeated_in_a_storm() {
    let shop = Shop::open("budget", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[0].clone();
    shop.apply(&json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "all"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"app": "pears"}}},
    }));
    source.name_bad([bad.as_str()]);
    let activator = json!({"mode": "retryAndKill", "period": 1, "maxRetryCount": 0});
    let mut spec = returning(&source, &activator);
    spec["limits"] = json!({"podDisruptionBudgets": "KillsOnly"});
    shop.govern(spec).await;
    shop.told("EvictionRefused", "it stays cut").await;
    let stays = || async { shop.labelled("no").await == [bad.clone()] };
    throughout("it stays cut", Duration::from_secs(12), stays).await;
    let writes = shop.pod_writes().await;
    let tries: Vec<_> = writes.iter().filter(|w| w.step == Step::Evict).collect();
    assert!(tries.iter().all(|w| matches!(w.code, 429 | 500)), "{tries:?}");
    // After 1, 2, 4 and 8 seconds: the fifth is due in the sixteenth.
    assert!((2..=5).contains(&tries.len()), "{tries:?}");
    let refused = [shop.namespace.as_str(), "outcome=\"Refused\""];
    assert!(controller.metric("kubervisor_evictions_total", &refused).await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_eviction_refused_for_two_disruption_budgets_leaves_the_pod_cut_and_is_told() {
    let shop = Shop::open("two-budgets", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let _controller = Controller::ready(&shop.controller()).await;
    let bad = shop.names().await[0].clone();
    for name in ["one", "another"] {
        shop.apply(&json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
            "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "pears"}}},
        }));
    }
    source.name_bad([bad.as_str()]);
    let activator = json!({"mode": "retryAndKill", "period": 1, "maxRetryCount": 0});
    shop.govern(returning(&source, &activator)).await;
    shop.told("EvictionRefused", "more than one PodDisruptionBudget").await;
    let stays = || async { shop.labelled("no").await == [bad.clone()] };
    throughout("it stays cut", Duration::from_secs(12), stays).await;
    let writes = shop.pod_writes().await;
    let steps: Vec<_> = of(&writes, &bad).iter().map(|w| (w.step, w.code)).collect();
    assert_eq!(steps[0], (Step::Cut, 200), "{steps:?}");
    assert!(steps[1..].iter().all(|step| *step == (Step::Evict, 500)), "put back into traffic: {steps:?}");
    assert!((2..=5).contains(&steps[1..].len()), "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_retries_are_used_up_is_paused_and_stays_so_over_a_restart() {
    let activator = json!({"mode": "retryAndPause", "period": 1, "maxRetryCount": 0});
    let shop = Shop::open("paused", 4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller().brief()).await;
    let bad = shop.names().await[0].clone();
    source.name_bad([bad.as_str()]);
    shop.govern(returning(&source, &activator)).await;
    let paused = || async { shop.labelled("pause").await == [bad.clone()] };
    eventually("it is paused", SOON, paused).await;
    shop.told("PodPaused", "until a person looks at it").await;
    eventually("it is counted", SOON, || async { shop.status().await["fleet"]["paused"] == 1 }).await;
    source.name_bad([]);
    controller.kill();
    let asked = source.answers();
    let _controller = Controller::ready(&shop.controller().brief()).await;
    eventually("it is judged again", SOON, || async { source.answers() > asked + 1 }).await;
    throughout("it stays paused", Duration::from_secs(5), paused).await;
    assert_eq!(accepted(&shop.pod_writes().await, Step::Evict), 0);
}

/// One pod cut and one paused by a controller that has ended, and one taken out by a person.
async fn left_behind(prefix: &str) -> (Shop, String) {
    let (shop, _source, controller, _) = with_one_cut(prefix, 4, json!({"period": "4m"})).await;
    let names = shop.names().await;
    shop.as_cut(&names[1], "named", Timestamp::now()).await;
    controller.kill();
    shop.mark(&names[1], json!({"kubervisor/traffic": "pause"}), json!({})).await;
    shop.mark(&names[2], json!({"kubervisor/traffic": "no"}), json!({})).await;
    (shop, names[2].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn release_frees_every_pod_but_fails_while_a_service_would_keep_new_ones_dark() {
    let (shop, by_hand) = left_behind("release").await;
    let (succeeded, said) = shop.release(&[]).await;
    let service = format!("{}/pears", shop.namespace);
    assert!(!succeeded && said.contains(&service) && said.contains("--accept-dark"), "{said}");
    assert_eq!((shop.labelled("no").await, shop.labelled("pause").await), (vec![by_hand.clone()], vec![]));
    assert!(said.contains(&by_hand) && said.contains("cut by hand"), "{said}");
    let (succeeded, said) = shop.release(&["--accept-dark"]).await;
    assert!(succeeded, "{said}");
    assert_eq!(selector(&shop).await, json!({"app": "pears", "kubervisor/traffic": "yes"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn release_opens_selectors_on_request_and_everything_serves() {
    let (shop, _) = left_behind("opening").await;
    let (succeeded, said) = shop.release(&["--open-selectors"]).await;
    assert!(succeeded, "{said}");
    assert_eq!(selector(&shop).await, json!({"app": "pears"}));
    shop.serves(4).await;
}

async fn selector(shop: &Shop) -> Value {
    json!(shop.services().get("pears").await.unwrap().spec.unwrap().selector)
}
