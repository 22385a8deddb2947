//! A person's word on one pod: cut, restore, override.

use http::Method;
use localcluster::{Fault, ProcessSignal, Rule};
use rustix::process::Signal;
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
    let said = admin.sees(&["restore", &format!("pod/{bad}"), &place]).await;
    assert_eq!(said, format!("pod/{bad} is in traffic already: nothing is changed\n"));
    for odd in [format!("{bad}/status"), "a b".to_owned(), String::new()] {
        let said = admin.is_refused(&["override", &odd, "never"]).await;
        assert!(said.contains("is not the name of a pod"), "{said}");
    }
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
    let said = admin.sees(&["restore", &pod, &place]).await;
    assert!(
        said.contains("in traffic already") && said.contains(&format!("Its word is Never: it is never cut. To take that back: kubectl kubervisor override {pod} clear")),
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
    let other = Shop::open("looked-after", 0).await;
    let place = format!("--controller-namespace={}", other.namespace);
    let _controller = Controller::ready(&other.controller()).await;
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
    let said = admin.runs(&["cut", &pod, &place]).await;
    assert!(
        !said.ok
            && said.err.starts_with(&format!("pod/{pod} override set to Cut: waiting for the controller"))
            && said.err.contains("is not cut yet: KubervisorService pears has no headroom, limited by floor")
            && said.err.contains("the word stays"),
        "{said:?}"
    );
    assert_eq!(word(&shop, &pod).await.0.as_deref(), Some("Cut"));
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

#[tokio::test(flavor = "multi_thread")]
async fn whoever_presses_ctrl_c_leaves_no_word_behind() {
    let shop = Shop::open("pressed", 3).await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    let controller = Controller::ready(&shop.controller()).await;
    shop.govern(json!({"breakers": [{"name": "named", "customService": "127.0.0.1:1/bad"}]})).await;
    shop.becomes("Activated", "True").await;
    let names = shop.names().await;
    shop.as_cut(&names[0], "named", jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).await;
    admin.sees(&["hold", "pears", "--reason", "picking"]).await;
    shop.state_is("Held").await;
    let said = admin.interrupts(&["cut", &names[1], &place], "waiting for the controller").await;
    let told =
        format!("error: interrupted: pod {} is in traffic, and the word Cut is taken back\n", names[1]);
    assert!(!said.ok && said.err.ends_with(&told), "{said:?}");
    assert_eq!(word(&shop, &names[1]).await.0, None);
    // A controller that hangs: its Lease still stands for a while.
    controller.signal(ProcessSignal::Freeze);
    let said = admin.interrupts(&["restore", &names[0], &place], "waiting for the controller").await;
    let told =
        format!("error: interrupted: pod {} is out of traffic, and the word Serve is taken back\n", names[0]);
    assert!(!said.ok && said.err.ends_with(&told), "{said:?}");
    assert_eq!((word(&shop, &names[0]).await.0, shop.labelled("no").await), (None, vec![names[0].clone()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_away_for_a_moment_ends_no_wait_and_keeps_no_word() {
    let shop = Shop::open("moment", 3).await;
    let admin = Person::admin(&shop);
    let proxy = shop.proxy().await;
    let far = Person::with(&shop, &shop.cluster.kubeconfig("admin", Some(&proxy.url())).unwrap());
    let place = format!("--controller-namespace={}", shop.namespace);
    let _controller = Controller::ready(&shop.controller()).await;
    shop.govern(json!({"breakers": [{"name": "named", "customService": "127.0.0.1:1/bad"}]})).await;
    shop.becomes("Activated", "True").await;
    admin.sees(&["hold", "pears", "--reason", "picking"]).await;
    shop.state_is("Held").await;
    let pod = shop.names().await[0].clone();
    let path = format!("/pods/{pod}");
    let away = async {
        let looks = proxy.inject(Rule::new(Fault::Drop).method(Method::GET).path(&path).times(3));
        eventually("it has looked in vain", SOON, || async { proxy.hits(looks) == 3 }).await;
        proxy.inject(Rule::new(Fault::Status(503)).method(Method::PATCH).path(&path).times(1));
    };
    // A terminal that is closed.
    let words = ["cut", &pod, &place];
    let said = far.interrupts_after(&words, "waiting for the controller", Signal::HUP, away).await;
    let told = format!("error: interrupted: pod {pod} is in traffic, and the word Cut is taken back\n");
    assert!(!said.ok && said.err.ends_with(&told), "{said:?}");
    assert_eq!(word(&shop, &pod).await.0, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_controller_looks_after_other_namespaces_a_pod_goes_back_by_hand_and_none_is_cut() {
    let shop = Shop::open("elsewhere", 3).await;
    let other = Shop::open("looked-after", 0).await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", other.namespace);
    shop.govern(json!({"breakers": [{"name": "named", "customService": "judge.shop:80/bad"}]})).await;
    // As one has left it that looked after this namespace once.
    let stale = json!({"status": {"state": "Running"}}).to_string();
    let words = ["patch", "kvs", "pears", "--subresource=status", "--type=merge", "-p", &stale];
    let patched = admin.kubectl(&words).await;
    assert!(patched.ok, "{patched:?}");
    let names = shop.names().await;
    shop.as_cut(&names[0], "named", jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).await;
    shop.mark(&names[0], json!({}), json!({"kubervisor.k8s.io/override": "Never"})).await;
    let _controller = Controller::ready(&other.controller()).await;
    let (restore, cut) = (["restore", &names[0], &place], ["cut", &names[1], &place]);
    let (restored, refused) = tokio::join!(admin.runs(&restore), admin.runs(&cut));
    assert!(
        restored.ok
            && restored
                .out
                .contains("labelled kubervisor/traffic=yes, as no controller gave it back within 30s"),
        "{restored:?}"
    );
    assert_eq!(word(&shop, &names[0]).await.0.as_deref(), Some("Never"), "as before");
    assert!(
        !refused.ok
            && refused.err.contains("no controller seems to look after namespace")
            && refused.err.ends_with("; the word Cut is taken back\n"),
        "{refused:?}"
    );
    assert_eq!((word(&shop, &names[1]).await.0, shop.labelled("no").await), (None, vec![]));
}
