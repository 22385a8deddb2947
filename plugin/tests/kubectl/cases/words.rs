//! A person's word on one pod: cut, restore, override.

use serde_json::{Value, json};

use super::with_one_cut;
use crate::harness::{Controller, SOON, Shop, eventually};
use crate::person::Person;

/// The word on it, and whether its strikes are gone.
async fn word(shop: &Shop, pod: &str) -> (Option<String>, bool) {
    let mut annotations = shop.pods().await[pod].metadata.annotations.clone().unwrap_or_default();
    (annotations.remove("kubervisor.k8s.io/override"), !annotations.contains_key("breaker/retryCount"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_cut_by_the_controller_and_restored_with_no_word_left_behind() {
    let (shop, source, _controller, bad) = with_one_cut("words").await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    let good = shop.names().await.into_iter().find(|name| *name != bad).unwrap();
    // With 34 % of five only one may be out: the condemned one goes back first.
    source.name_bad([]);
    let said = admin.sees(&["restore", &bad, &place]).await;
    assert!(said.contains("restored: its strikes are forgiven") && said.contains("override"), "{said}");
    assert_eq!(word(&shop, &bad).await, (None, true));
    assert!(
        admin.sees(&["restore", &bad, &place]).await.contains("is in traffic already: nothing is changed")
    );
    let tried = admin.sees(&["cut", &good, &place, "--dry-run=server"]).await;
    assert!(tried.contains("override set to Cut (server dry run)"), "{tried}");
    assert_eq!(word(&shop, &good).await, (None, true));
    let said = admin.kubectl(&["kubervisor", "cut", &good, &place]).await;
    assert!(said.ok && said.out.contains(&format!("pod/{good} cut: ")), "{said:?}");
    assert_eq!(shop.labelled("no").await, std::slice::from_ref(&good));
    assert_eq!(word(&shop, &good).await.0.as_deref(), Some("Cut"));
    assert!(admin.sees(&["cut", &good, &place]).await.contains("is out of traffic already"));
    assert!(admin.is_refused(&["restore", &good, &place, "-A"]).await.contains("leave out -A"));
    admin.sees(&["restore", &good, &place]).await;
    assert_eq!((shop.labelled("no").await, word(&shop, &good).await), (vec![], (None, true)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_pod_goes_back_and_a_lasting_word_from_before_stays() {
    let shop = Shop::open("paused", 3).await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(json!({"breakers": [{"name": "named", "customService": "127.0.0.1:1/bad"}]})).await;
    let pod = shop.names().await.remove(0);
    shop.mark(&pod, json!({"kubervisor/traffic": "pause"}), json!({"kubervisor.k8s.io/override": "Never"}))
        .await;
    eventually("the status tells of it", SOON * 3, || async { shop.status().await["fleet"]["paused"] == 1 })
        .await;
    let out = admin.sees(&["describe", "pears"]).await;
    let row = out.lines().find(|line| line.starts_with(&format!("  {pod}"))).unwrap();
    assert!(row.contains(" paused ") && row.contains("by hand"), "{out}");
    let said = admin.sees(&["restore", &pod, &place]).await;
    assert!(said.contains("Its word is Never again"), "{said}");
    let said = admin.is_refused(&["cut", &pod, &place]).await;
    assert!(
        said.contains("is never cut (override Never)") && said.contains(&format!("override {pod} clear")),
        "{said}"
    );
    assert_eq!((shop.labelled("pause").await, word(&shop, &pod).await.0), (vec![], Some("Never".into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_is_refused_where_nobody_would_do_it() {
    let shop = Shop::open("nobody", 2).await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    let pod = shop.names().await.remove(0);
    let said = admin.is_refused(&["cut", &pod, &place]).await;
    assert!(said.contains("no KubervisorService in namespace") && said.contains("governs pod"), "{said}");
    let breaker = json!({"name": "named", "customService": "judge.shop:80/bad"});
    shop.govern(json!({"breakers": [breaker]})).await;
    let said = admin.is_refused(&["cut", &pod, &place]).await;
    assert!(said.contains("no controller acts (there is no Lease)"), "{said}");
    shop.govern_as("plums", json!({"breakers": [breaker]})).await;
    let said = admin.is_refused(&["cut", &pod, &place]).await;
    assert!(
        said.contains("several KubervisorServices govern pod") && said.contains("pears, plums"),
        "{said}"
    );
    admin.kubectl(&["delete", "kvs", "plums"]).await;
    let mut elsewhere = shop.controller();
    elsewhere.args[0] = "--namespace=default".to_owned();
    let _controller = Controller::ready(&elsewhere).await;
    let said = admin.is_refused(&["cut", &pod, &place]).await;
    assert!(said.contains("no controller has looked at KubervisorService pears yet"), "{said}");
    let wrong = format!("{pod}x");
    let said = admin.is_refused(&["cut", &wrong, &place]).await;
    assert_eq!(
        said,
        format!("Error from server (NotFound): pods {wrong:?} not found; did you mean {pod:?}?")
    );
    assert_eq!(word(&shop, &pod).await.0, None, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_that_the_floor_forbids_is_told_with_what_stands_in_the_way() {
    let shop = Shop::open("floored", 3).await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    let _controller = Controller::ready(&shop.controller()).await;
    let breaker = json!({"name": "named", "customService": "127.0.0.1:1/bad", "minPodsAvailableCount": 3});
    shop.govern(json!({"breakers": [breaker]})).await;
    shop.becomes("Inert", "True").await;
    let pod = shop.names().await.remove(0);
    let said = admin.is_refused(&["cut", &pod, &place]).await;
    assert!(
        said.contains("is not cut yet: KubervisorService pears has no headroom, limited by floor"),
        "{said}"
    );
    assert_eq!(shop.labelled("no").await, [""; 0]);
    let said = admin.sees(&["restore", &pod, &place]).await;
    assert!(said.contains("was not cut yet: the word Cut is taken back"), "{said}");
    assert_eq!(word(&shop, &pod).await.0, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_controller_a_pod_goes_back_by_hand_and_words_are_written_all_the_same() {
    let (shop, _source, controller, bad) = with_one_cut("byhand").await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    controller.kill();
    let lease = ["delete", "lease", "kubervisor"];
    assert!(admin.kubectl(&lease).await.ok);
    let said = admin.sees(&["restore", &bad, &place]).await;
    assert!(
        said.contains("labelled kubervisor/traffic=yes, as no controller acts (there is no Lease)"),
        "{said}"
    );
    shop.cut_are(&[]).await;
    let labels: Value = json!(shop.pods().await[&bad].metadata.labels);
    assert_eq!(labels.get("kubervisor/name"), None, "no mark of a cut is left");
    for (given, stored) in
        [("never", Some("Never")), ("cut", Some("Cut")), ("serve", Some("Serve")), ("clear", None)]
    {
        let said = admin.sees(&["override", &bad, given]).await;
        assert_eq!(word(&shop, &bad).await.0.as_deref(), stored, "{said}");
        assert!(admin.sees(&["override", &bad, given]).await.contains("already: nothing is changed"));
    }
}
