//! Nothing dark is left behind: what the chart's hooks do before an uninstall, and before an upgrade whose scope is smaller.

use std::process::Output;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::DeleteParams;
use localcluster::{Cluster, Options, ProcessSignal};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::harness::chart::Chart;
use crate::harness::trace::{PodWrite, Step};
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually, troubled};

fn long_cuts(source: &FakeSource, more: &Value) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = json!({"period": "4m"});
    let mut spec = json!({"limits": {"maxCutRatio": 60, "maxCutsPerPeriod": "60%"}, "breakers": [breaker]});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

async fn open(prefix: &str) -> (Shop, FakeSource) {
    let shop = Shop::open(prefix, 0).await;
    shop.bare_pods(6).await;
    let source = FakeSource::start(&shop.namespace).await;
    (shop, source)
}

/// Values for these namespaces, with a Lease that is soon another's.
fn values(namespaces: &[&Shop]) -> [String; 3] {
    let names: Vec<_> = namespaces.iter().map(|shop| shop.namespace.as_str()).collect();
    let scope = format!("scope.namespaces={{{}}}", names.join(","));
    [scope, "crds.install=false".to_owned(), "lease.duration=3s".to_owned()]
}

fn words<'a>(values: &'a [String; 3], more: &[&'a str]) -> Vec<&'a str> {
    values.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

/// A release for this shop, and its controller in the middle of an incident: two pods are cut.
async fn incident<'a>(shop: &'a Shop, source: &FakeSource, spec: Value) -> (Chart<'a>, Controller) {
    let values = values(&[shop]);
    let chart = Chart::install(shop, &words(&values, &["hooks.release.backoffLimit=0"]));
    let controller = Controller::ready(&chart.controller(None).await).await;
    source.name_bad(["pear-0", "pear-1"]);
    shop.govern(spec).await;
    shop.cut_are(&["pear-0", "pear-1"]).await;
    (chart, controller)
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", told(output));
}

/// The controller's own term, in which it cuts before anybody releases.
fn own_term(writes: &[PodWrite]) -> Option<u64> {
    writes.iter().find_map(|write| write.epoch)
}

/// Accepted writes of the controller's own term behind the first one of a later term.
fn late(writes: &[PodWrite]) -> Vec<&PodWrite> {
    let own = own_term(writes);
    let first = writes.iter().position(|write| write.epoch > own).expect("the release wrote nothing");
    writes[first..].iter().filter(|write| write.accepted() && write.epoch == own).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn uninstalled_in_mid_incident_it_leaves_no_pod_out_no_key_and_nothing_of_itself() {
    let (shop, source) = open("uninstalled").await;
    // One Service whose key is the controller's, and one whose key somebody else has put there.
    shop.select(&json!({"app": "pears"})).await;
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "by-hand"},
        "spec": {"selector": {"app": "pears", "kubervisor/traffic": "yes"}, "ports": [{"port": 80}]},
    }));
    let managed = long_cuts(&source, &json!({"selectorManagement": "Managed"}));
    let (chart, controller) = incident(&shop, &source, managed).await;
    shop.key_is(true).await;
    let said = chart.uninstall().await;
    assert!(said.contains("the Lease is kept: no controller acts for so long"), "{said}");
    assert_eq!(shop.labelled("yes").await.len(), 6);
    shop.key_is(false).await;
    let by_hand = shop.services().get("by-hand").await.unwrap().spec.unwrap().selector;
    assert_eq!(json!(by_hand), json!({"app": "pears"}));
    shop.serves(6).await;
    // So does one that is born later, without any label.
    shop.bare_pod_labelled("later", &json!({"app": "pears"})).await;
    shop.serves(7).await;
    eventually("nothing of it is left", SOON, || async { chart.left().await.is_empty() }).await;
    shop.resources().get("pears").await.unwrap();
    // The controller still runs, with a token of nobody; no kubelet has ended it.
    let writes = shop.pod_writes_by(&chart.user).await;
    assert_eq!(late(&writes), Vec::<&PodWrite>::new());
    assert!(controller.log().contains("another controller holds the Lease: we wait"), "{}", controller.log());
    assert!(shop.labelled("no").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_leaves_the_scope_is_given_back_and_the_others_stay_as_they_are() {
    let ((stays, bad), (leaves, bad_there)) = tokio::join!(open("stays"), open("leaves"));
    let both = values(&[&stays, &leaves]);
    // Long enough for helm to take the rights away, short enough to see what comes after.
    let chart = Chart::install(&stays, &words(&both, &["hooks.release.keepLease=20s"]));
    let controller = Controller::ready(&chart.controller(None).await).await;
    for (shop, source) in [(&stays, &bad), (&leaves, &bad_there)] {
        source.name_bad(["pear-0", "pear-1"]);
        shop.govern(long_cuts(source, &json!({}))).await;
        shop.cut_are(&["pear-0", "pear-1"]).await;
    }
    let one = values(&[&stays]);
    let more = words(&one, &["hooks.release.keepLease=20s"]);
    let (upgraded, (released, said)) = tokio::join!(chart.upgrade(&more), chart.play("release-left"));
    assert!(released, "{said}");
    done(&upgraded);
    assert_eq!((leaves.labelled("no").await, leaves.labelled("yes").await.len()), (Vec::new(), 6));
    assert_eq!(leaves.selector().await, json!({"app": "pears"}));
    leaves.serves(6).await;
    assert_eq!(stays.labelled("no").await, ["pear-0", "pear-1"]);
    // The same process goes on, with the flags from before: it acts again where it may.
    bad.name_bad(["pear-0", "pear-1", "pear-2"]);
    stays.cut_are(&["pear-0", "pear-1", "pear-2"]).await;
    let writes = leaves.pod_writes_by(&chart.user).await;
    assert_eq!(late(&writes), Vec::<&PodWrite>::new());
    let after: Vec<_> = writes.iter().filter(|write| write.epoch > own_term(&writes)).collect();
    assert!(after.iter().all(|write| write.step == Step::Restore), "{after:?}");
    assert!(leaves.labelled("no").await.is_empty());
    drop(controller);
    // A scope that is the same, or greater, has nothing to give back: no Job is made, so helm waits for none.
    done(&chart.upgrade(&more).await);
    let wide = words(&both, &[]);
    done(&chart.upgrade(&wide).await);
    chart.remove().await;
}

/// In a cluster of its own: it looks after every namespace at first.
#[tokio::test(flavor = "multi_thread")]
async fn from_all_namespaces_to_some_every_other_one_is_given_back() {
    let troubled = troubled().await;
    let (stays, leaves) = tokio::join!(
        Shop::open_in(troubled.cluster, "stays", 2),
        Shop::open_in(troubled.cluster, "leaves", 2)
    );
    let chart = Chart::install(&stays, &["crds.install=false"]);
    for shop in [&stays, &leaves] {
        let pod = shop.names().await.remove(0);
        let mark = json!({"breaker/breakAt": Timestamp::now().to_string()});
        shop.mark(&pod, json!({"kubervisor/traffic": "no"}), mark).await;
    }
    let one = values(&[&stays]);
    let more = words(&one, &[]);
    let (upgraded, (released, said)) = tokio::join!(chart.upgrade(&more), chart.play("release-left"));
    assert!(released, "{said}");
    done(&upgraded);
    assert_eq!((leaves.labelled("no").await.len(), stays.labelled("no").await.len()), (0, 1));
    assert_eq!(leaves.selector().await, json!({"app": "pears"}));
    assert_eq!(stays.selector().await["kubervisor/traffic"], "yes");
    chart.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_and_a_rollback_leave_every_pod_as_it_is() {
    let (shop, source) = open("upgraded").await;
    let (chart, mut controller) = incident(&shop, &source, long_cuts(&source, &json!({}))).await;
    let marks = async || -> Vec<_> {
        shop.pods().await.into_values().map(|pod| (pod.metadata.labels, pod.metadata.annotations)).collect()
    };
    let before = marks().await;
    let values = values(&[&shop]);
    done(&chart.upgrade(&words(&values, &["maxCutsPerMinute=7", "podAnnotations.revision=two"])).await);
    assert_eq!(marks().await, before);
    // As the rollout does: the new one is there before the old one is told to end.
    let upgraded = chart.controller(None).await;
    assert!(upgraded.args.contains(&"--max-cuts-per-minute=7".to_owned()), "{:?}", upgraded.args);
    let second = Controller::ready(&upgraded).await;
    controller.signal(ProcessSignal::End);
    assert!(controller.ended().await);
    let until = source.answers() + 4;
    eventually("it evaluates", SOON, || async { source.answers() >= until }).await;
    assert_eq!(marks().await, before);
    done(&chart.roll_back().await);
    drop(second);
    let _third = Controller::ready(&chart.controller(None).await).await;
    source.name_bad(["pear-0", "pear-1", "pear-2"]);
    shop.cut_are(&["pear-0", "pear-1", "pear-2"]).await;
    assert_eq!(marks().await[..2], before[..2], "they were written");
    chart.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uninstall_whose_release_fails_says_why_and_takes_nothing_away() {
    let (shop, source) = open("unreleased").await;
    let (chart, _controller) = incident(&shop, &source, long_cuts(&source, &json!({}))).await;
    // Pods born later would get no traffic from it, and its value is nobody's that we know.
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "odd"},
        "spec": {"selector": {"app": "pears", "kubervisor/traffic": "odd"}, "ports": [{"port": 80}]},
    }));
    let before = chart.left().await;
    let (output, (released, said)) = tokio::join!(chart.helm_uninstall(&[]), chart.play("release"));
    assert!(!released && said.contains(&format!("get no traffic: {}/odd", shop.namespace)), "{said}");
    assert!(!output.status.success());
    println!("helm says: {}", told(&output));
    assert!(told(&output).contains(&format!("{}-release", chart.name())), "{}", told(&output));
    let now = chart.left().await;
    assert!(before.lines().all(|object| now.contains(object)), "{before}\nbecame\n{now}");
    assert!(now.contains(&format!("job.batch/{}-release", chart.name())), "its log is gone: {now}");
    shop.services().delete("odd", &DeleteParams::default()).await.unwrap();
    chart.uninstall().await;
    assert_eq!(shop.labelled("yes").await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uninstall_without_the_right_to_patch_services_waits_until_somebody_has_taken_the_keys_out() {
    let (shop, _) = open("unopened").await;
    let own = values(&[&shop]);
    let without = ["rbac.patchServices=false", "hooks.release.backoffLimit=0"];
    let chart = Chart::install(&shop, &words(&own, &without));
    let mark = json!({"breaker/breakAt": Timestamp::now().to_string()});
    shop.mark("pear-0", json!({"kubervisor/traffic": "no"}), mark).await;
    let (output, (released, said)) = tokio::join!(chart.helm_uninstall(&[]), chart.play("release"));
    assert!(!released && said.contains(&format!("get no traffic: {}/pears", shop.namespace)), "{said}");
    assert!(!output.status.success());
    assert_eq!(
        (shop.labelled("no").await, shop.selector().await["kubervisor/traffic"].clone()),
        (vec![], json!("yes"))
    );
    shop.select(&json!({"app": "pears"})).await;
    chart.uninstall().await;
    shop.serves(6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_uninstall_without_hooks_leaves_is_mended_by_a_release_by_hand() {
    let (shop, source) = open("unhooked").await;
    let (chart, controller) = incident(&shop, &source, long_cuts(&source, &json!({}))).await;
    let name = chart.name();
    chart.remove().await;
    drop(controller);
    assert_eq!(shop.labelled("no").await, ["pear-0", "pear-1"]);
    assert_eq!(shop.selector().await["kubervisor/traffic"], "yes");
    let (released, said) = shop.release(&["--open-selectors", "--lease-name", &name]).await;
    assert!(released, "{said}");
    assert_eq!(shop.labelled("yes").await.len(), 6);
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    shop.serves(6).await;
}

/// With the last policy that has a Lease as its parameter an API server stops watching Leases, and keeps what it saw last
/// until it starts anew (kubernetes issue 130887): of a new Lease that counted from the start every write would be refused.
#[tokio::test(flavor = "multi_thread")]
async fn installed_again_with_a_new_lease_it_cuts_and_gives_back_where_the_api_server_remembers_the_old_one()
{
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = || async { Cluster::start(Options { kwok: true, ..Options::default() }).await.unwrap() };
    let shop = Shop::open_in(CLUSTER.get_or_init(start).await, "again", 0).await;
    shop.bare_pods(6).await;
    let source = FakeSource::start(&shop.namespace).await;
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    let leases: Api<Lease> = Api::namespaced(shop.client.clone(), &shop.namespace);
    let own = values(&[&shop]);
    let watches = async || {
        let labels = ["resource=\"leases\"", "scope=\"cluster\"", "verb=\"WATCH\""];
        shop.server_metric("apiserver_longrunning_requests", &labels).await
    };
    let watched = OnceCell::new();
    for pod in ["pear-0", "pear-1"] {
        let chart = Chart::install_alone(&shop, &words(&own, &[]));
        let mut first = Controller::ready(&chart.controller(None).await).await;
        source.name_bad([pod]);
        shop.cut_are(&[pod]).await;
        // The Lease is of more terms than one when it goes.
        first.signal(ProcessSignal::End);
        assert!(first.ended().await);
        let second = Controller::ready(&chart.controller(None).await).await;
        source.name_bad([]);
        shop.serves(6).await;
        drop(second);
        let lease = chart.lease().await;
        println!(
            "{pod} was out and is back in terms up to {:?}",
            lease.spec.and_then(|s| s.lease_transitions)
        );
        // Of the first chart: the second one gets no watch any more.
        let watched = watched.get_or_init(watches).await;
        chart.remove().await;
        let ended = || async { watches().await < *watched };
        eventually("the API server watches Leases no more", SOON, ended).await;
        // As where its namespace goes with it.
        leases.delete(&lease.metadata.name.unwrap(), &DeleteParams::default()).await.unwrap();
    } // Also where no controller came up to make a Lease, and somebody else's mark keeps a pod out.
    let chart = Chart::install_alone(&shop, &words(&own, &[]));
    shop.mark(
        "pear-2",
        json!({"kubervisor/traffic": "no"}),
        json!({"breaker/breakAt": Timestamp::now().to_string()}),
    )
    .await;
    chart.uninstall().await;
    assert!(shop.labelled("no").await.is_empty());
}
