//! What the controller may do, and what it does where it may do less.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::harness::chart::{Right, rights, used};
use crate::harness::rights::{
    Account, documented_rules, documented_rules_without, documented_rules_without_lists,
};
use crate::harness::trace::{Step, of};
use crate::harness::{Controller, FakeSource, SOON, Shop, custom_breaker, eventually, troubled};

fn returning_after(source: &FakeSource, seconds: u32) -> Value {
    let mut breaker = custom_breaker("named", source);
    breaker["activator"] = json!({"period": seconds});
    json!({"breakers": [breaker]})
}

/// Five bare pods and an account.
async fn open(prefix: &str) -> (Shop, FakeSource, Account) {
    let shop = Shop::open(prefix, 0).await;
    shop.bare_pods(5).await;
    let (source, account) = (FakeSource::start(&shop.namespace).await, shop.account().await);
    (shop, source, account)
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_writes_are_told_and_backed_off_and_a_return_happens_once_the_right_is_back() {
    let (shop, source, account) = open("withdrawn").await;
    shop.allow(&account, &documented_rules()).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let controller = Controller::ready(&shop.controller_as(&account, &[&namespace])).await;
    source.name_bad(["pear-0"]);
    shop.govern(returning_after(&source, 5)).await;
    shop.cut_are(&["pear-0"]).await;
    source.name_bad([]);
    shop.allow(&account, &documented_rules_without("patch", "pods")).await;
    let tries = || async {
        let writes = shop.pod_writes_by(&account.user).await;
        of(&writes, "pear-0").iter().filter(|write| write.step == Step::Unread).count()
    };
    eventually("its return is refused", SOON, || async { tries().await > 0 }).await;
    let until = source.answers() + 9;
    eventually("it goes on evaluating", SOON, || async { source.answers() >= until }).await;
    // After 1, 2 and 4 s: one for each tick would be nine.
    let tries = tries().await;
    assert!((2..=5).contains(&tries), "{tries} tries in nine evaluations");
    let refused = ["action=\"restore\"", "outcome=\"Refused\""];
    assert!(controller.metric("kubervisor_apply_seconds_count", &refused).await >= 2.0);
    assert!(controller.log().contains("is forbidden"), "{}", controller.log());
    shop.allow(&account, &documented_rules()).await;
    shop.cut_are(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_rights_in_its_own_namespace_only_it_says_so_and_works_there_with_the_definition_that_is_served()
{
    let (shop, source, account) = open("own").await;
    shop.allow(&account, &documented_rules()).await;
    let controller = Controller::ready(&shop.controller_as(&account, &[])).await;
    let log = controller.log();
    assert!(
        log.contains("looking after our own namespace only: pods may not be watched everywhere"),
        "{log}"
    );
    assert!(log.contains(&shop.namespace), "{log}");
    assert!(log.contains("no right to register the CustomResourceDefinition; using the one served"), "{log}");
    source.name_bad(["pear-0"]);
    shop.govern(returning_after(&source, 5)).await;
    shop.cut_are(&["pear-0"]).await;
    source.name_bad([]);
    shop.cut_are(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_read_disruption_budgets_nothing_is_cut_and_the_missing_right_is_named_once() {
    let (shop, source, account) = open("budgets").await;
    shop.allow(&account, &documented_rules_without("watch", "poddisruptionbudgets")).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let controller = Controller::ready(&shop.controller_as(&account, &[&namespace])).await;
    source.name_bad(["pear-0"]);
    shop.govern(returning_after(&source, 60)).await;
    eventually("it has answered often", SOON, || async { source.answers() >= 9 }).await;
    assert_eq!(shop.pod_writes_by(&account.user).await, []);
    shop.becomes("Held", "True").await;
    let told = shop.condition("Held").await.2;
    assert!(told.contains("allow list and watch on poddisruptionbudgets (group policy)"), "{told}");
    let log = controller.log();
    let warned =
        log.lines().filter(|l| l.contains("WARN") && l.contains("PodDisruptionBudgets may not be read"));
    assert_eq!(warned.count(), 1, "{log}");
    shop.allow(&account, &documented_rules()).await;
    shop.cut_are(&["pear-0"]).await;
    shop.becomes("Held", "False").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_list_and_watch_withdrawn_nobody_is_cut_returns_go_on_and_given_back_they_heal_it() {
    let (shop, source, account) = open("blindfold").await;
    shop.allow(&account, &documented_rules()).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let controller = Controller::ready(&shop.controller_as(&account, &[&namespace])).await;
    source.name_bad(["pear-0"]);
    let mut spec = returning_after(&source, 130);
    spec["breakers"][0]["activator"]["jitterPercent"] = json!(0);
    shop.govern(spec).await;
    shop.cut_are(&["pear-0"]).await;
    let due = shop.restore_at("pear-0").await;
    shop.allow(&account, &documented_rules_without_lists()).await;
    // A watch that runs goes on for half a minute; a minute without a proof, and nothing is believed.
    let stale = || async { controller.metric("kubervisor_held", &["gate=\"StaleView\""]).await >= 1.0 };
    eventually("the view is stale", Duration::from_secs(110), stale).await;
    assert!(Timestamp::now() < due, "too late for what follows");
    shop.becomes("Held", "True").await;
    source.name_bad(["pear-1"]);
    let asked = source.answers();
    eventually("another is condemned", SOON, || async { source.answers() >= asked + 4 }).await;
    eventually("it returns", SOON, || async { shop.labelled("no").await.is_empty() }).await;
    assert!(Timestamp::now() >= due, "before its time");
    let cuts = of(&shop.pod_writes_by(&account.user).await, "pear-0").len();
    assert_eq!((cuts, stale().await), (2, true), "it was cut and restored, behind a stale view");
    assert!(controller.log().contains("is forbidden"), "nothing says why");
    shop.allow(&account, &documented_rules()).await;
    eventually("it is cut", SOON * 3, || async { shop.labelled("no").await == ["pear-1"] }).await;
    shop.becomes("Held", "False").await;
}

/// In a cluster of its own: it ends up looking after every namespace.
#[tokio::test(flavor = "multi_thread")]
async fn rights_over_all_namespaces_that_come_later_are_noticed_within_a_minute() {
    let troubled = troubled().await;
    let shop = Shop::open_in(troubled.cluster, "wider", 0).await;
    let account = shop.account().await;
    shop.allow(&account, &documented_rules()).await;
    let controller = Controller::ready(&shop.controller_as(&account, &[])).await;
    let other = Shop::open_in(troubled.cluster, "elsewhere", 0).await;
    other.bare_pods(5).await;
    let source = FakeSource::start(&other.namespace).await;
    source.name_bad(["pear-0"]);
    other.govern(returning_after(&source, 5)).await;
    shop.allow_everywhere(&account, &documented_rules()).await;
    let noticed = || async { controller.log().contains("looking after all namespaces") };
    eventually("it asks again", Duration::from_mins(1) + SOON, noticed).await;
    other.cut_are(&["pear-0"]).await;
    source.name_bad([]);
    other.cut_are(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_every_act_uses_every_right_that_the_documentation_asks_for_and_no_other() {
    let shop = Shop::open("all", 9).await;
    let account = shop.account().await;
    shop.allow_everywhere(&account, &documented_rules()).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let _controller = Controller::ready(&shop.controller_as(&account, &[&namespace])).await;
    every_act(&shop, &account.user).await;
    let (used, granted) = (used(shop.cluster, &account.user).await, granted());
    let without_need: Vec<_> = granted.difference(&used).filter(|right| !is_reserve(right)).collect();
    assert!(without_need.is_empty(), "granted and not used: {without_need:#?}");
    let in_vain: Vec<_> = used.difference(&granted).collect();
    assert!(in_vain.is_empty(), "used and not granted: {in_vain:#?}");
}

/// What a run in which all goes well has no use for.
const RESERVE: [(&str, &str, &str); 9] = [
    ("list", "pods", "a server that does not stream lists, and every one once in ten minutes"),
    ("list", "services", "the same"),
    ("list", "kubervisorservices", "the same, and the proof that nobody holds a pod of the original"),
    ("list", "poddisruptionbudgets", "the same"),
    ("get", "pods", "a write whose answer never came"),
    ("get", "kubervisorservices", "the status, after a write of it whose answer never came"),
    ("create", "customresourcedefinitions", "the first start in a cluster"),
    ("create", "leases", "the first start in a namespace"),
    ("get", "leases", "a Lease of another"),
];

fn is_reserve((_, resource, verb): &Right) -> bool {
    RESERVE.iter().any(|(v, r, _)| v == verb && r == resource)
}

/// Label, cut, restore, pause, evict, and a release by the janitor.
pub(super) async fn every_act(shop: &Shop, user: &str) {
    shop.bare_pod_labelled("unlabelled", &json!({"app": "pears"})).await;
    let names = shop.names().await;
    let modes = ["periodic", "retryAndPause", "retryAndKill"];
    let (mut breakers, mut sources) = (Vec::new(), Vec::new());
    for (mode, pod) in modes.into_iter().zip(&names) {
        let source = FakeSource::start(&shop.namespace).await;
        source.name_bad([pod.as_str()]);
        let mut breaker = custom_breaker(&mode.to_lowercase(), &source);
        breaker["activator"] = json!({"mode": mode, "period": 3, "maxRetryCount": 0});
        breakers.push(breaker);
        sources.push(source);
    }
    shop.govern(json!({"breakers": breakers, "selectorManagement": "Managed"})).await;
    shop.key_is(true).await;
    for step in [Step::Label, Step::Cut, Step::Restore, Step::Pause, Step::Evict] {
        let done = || async { shop.pod_writes_by(user).await.iter().any(|w| w.step == step && w.accepted()) };
        eventually(&format!("{step:?}"), SOON, done).await;
    }
    shop.delete_resource().await;
    eventually("the janitor frees all", SOON, || async { shop.labelled("pause").await.is_empty() }).await;
}

fn granted() -> BTreeSet<Right> {
    documented_rules().iter().flat_map(rights).collect()
}
