//! `activate` and `deactivate`: no request meets a Service that reaches nobody, and no pod goes dark unseen.

use std::time::Instant;

use serde_json::{Value, json};

use crate::harness::keys::KeyStep;
use crate::harness::{Controller, FakeSource, Observer, SOON, Shop, custom_breaker, eventually};
use crate::person::Person;

/// Bare pods behind a Service without the key; none of them has the label.
async fn open(prefix: &str, pods: usize) -> (Shop, Person) {
    let shop = Shop::open(prefix, 0).await;
    shop.select(&json!({"app": "pears"})).await;
    for number in 0..pods {
        shop.bare_pod_labelled(&format!("pear-{number}"), &json!({"app": "pears"})).await;
    }
    shop.serves(pods).await;
    let admin = Person::admin(&shop);
    (shop, admin)
}

async fn observe(shop: &Shop, serving: usize) -> (Observer, Instant) {
    let observer = shop.observer();
    eventually("they are seen", SOON, || async { observer.serving().len() == serving }).await;
    (observer, Instant::now())
}

fn gated() -> Value {
    json!({"app": "pears", "kubervisor/traffic": "yes"})
}

/// Returns what it printed.
async fn deactivates(shop: &Shop, admin: &Person) -> String {
    let before = shop.key_steps("admin").await.len();
    let done = admin.sees(&["deactivate", "pears"]).await;
    assert!(done.contains("service/pears deactivated") && done.contains("4 after"), "{done}");
    shop.cut_are(&[]).await;
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    assert_eq!(shop.key_steps("admin").await[before..][0], KeyStep::Take);
    shop.serves(4).await;
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_activated_behind_its_labels_and_deactivated_before_its_returns_and_always_reaches_somebody()
 {
    let (shop, admin) = open("brought-in", 4).await;
    let (observer, start) = observe(&shop, 4).await;
    let refused = admin.is_refused(&["activate", "pears"]).await;
    assert!(refused.contains("reach nobody") && refused.contains("--label"), "{refused}");
    let tried = admin.sees(&["activate", "pears", "--label", "--dry-run=server"]).await;
    assert!(tried.contains("4 endpoints now, 4 after") && tried.contains("(server dry run)"), "{tried}");
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    assert!(shop.labelled("yes").await.is_empty());
    let done = admin.sees(&["activate", "pears", "--label"]).await;
    assert!(done.contains("labelled: pear-0, pear-1, pear-2, pear-3"), "{done}");
    assert!(
        done.contains("service/pears activated") && done.contains("No KubervisorService names it"),
        "{done}"
    );
    assert_eq!(shop.selector().await, gated());
    assert!(admin.sees(&["activate", "pears"]).await.contains("holds the key already"));
    shop.serves(4).await;
    assert_eq!(observer.lowest_since(start), 4, "while it was activated");
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    source.name_bad(["pear-2"]);
    let mut breaker = custom_breaker("named", &source);
    breaker["activator"] = json!({"period": "4m"});
    shop.govern(json!({"breakers": [breaker]})).await;
    shop.cut_are(&["pear-2"]).await;
    deactivates(&shop, &admin).await;
    // Alone, too.
    controller.kill();
    shop.select(&gated()).await;
    shop.as_cut("pear-1", "named", jiff::Timestamp::now()).await;
    let done = deactivates(&shop, &admin).await;
    assert!(done.contains("back in traffic: pear-1"), "{done}");
    assert!(observer.lowest_since(start) >= 2, "{} served", observer.lowest_since(start));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_darken_pods_is_refused_until_it_is_forced() {
    let (shop, admin) = open("forced", 3).await;
    let breaker = json!({"name": "named", "customService": "judge.shop:80/bad", "minPodsAvailableCount": 3});
    shop.govern_as("pick", json!({"breakers": [breaker]})).await;
    shop.mark("pear-0", json!({"kubervisor/traffic": "yes"}), json!({})).await;
    let refused = admin.is_refused(&["activate", "pick"]).await;
    assert!(refused.contains("2 Ready pods") && refused.contains("--force"), "{refused}");
    shop.mark("pear-1", json!({"kubervisor/traffic": "yes"}), json!({})).await;
    shop.mark("pear-2", json!({"kubervisor/traffic": "no"}), json!({})).await;
    let refused = admin.is_refused(&["activate", "pick", "--label"]).await;
    assert!(refused.contains("the floor is 3"), "{refused}");
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    let (observer, start) = observe(&shop, 3).await;
    let forced = admin.sees(&["activate", "pick", "--force"]).await;
    assert!(forced.contains("loses its traffic: pear-2 (somebody cut it by hand)"), "{forced}");
    shop.serves(2).await;
    assert_eq!(observer.lowest_since(start), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_the_controllers_is_left_to_it_and_names_that_mean_nothing_are_told() {
    let (shop, admin) = open("kept", 1).await;
    let breaker = json!({"name": "named", "customService": "judge.shop:80/bad"});
    shop.govern(json!({"breakers": [breaker], "selectorManagement": "Managed"})).await;
    for verb in ["activate", "deactivate"] {
        let refused = admin.is_refused(&[verb, "pears"]).await;
        assert!(refused.contains("Managed") && refused.contains("Manual"), "{refused}");
        let unknown = admin.is_refused(&[verb, "paers"]).await;
        assert!(unknown.contains("did you mean \"pears\"?"), "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named_with_what_it_is_for() {
    let (shop, _admin) = open("no-right", 2).await;
    let account = shop.account().await;
    let reads = |resource, verbs| json!({"apiGroups": [""], "resources": [resource], "verbs": verbs});
    let all = json!({"apiGroups": ["kubervisor.k8s.io"], "resources": ["*"], "verbs": ["list"]});
    let mut rules =
        vec![all, reads("services", json!(["get", "list"])), reads("pods", json!(["list", "patch"]))];
    shop.allow(&account, &rules).await;
    let person = Person::with(&shop, &shop.controller_as(&account, &[]).kubeconfig);
    let refused = person.is_refused(&["activate", "pears", "--label"]).await;
    assert!(refused.contains("it takes the right to patch services \"pears\" in namespace"), "{refused}");
    assert_eq!(shop.labelled("yes").await.len(), 2, "it was allowed to label");
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    rules[1]["verbs"] = json!(["get", "list", "patch"]);
    shop.allow(&account, &rules).await;
    eventually("it may", SOON, || async { person.runs(&["activate", "pears"]).await.ok }).await;
    let done = person.runs(&["activate", "pears"]).await;
    assert!(done.ok && done.err.starts_with("warning: it is not known whether pods born later"), "{done:?}");
    assert!(done.err.contains("list replicasets, statefulsets and daemonsets"), "{done:?}");
    rules.truncate(1);
    shop.allow(&account, &rules).await;
    let refused = person.is_refused(&["deactivate", "pears"]).await;
    assert!(refused.contains("it takes the right to list services in namespace"), "{refused}");
}

/// Three pods of a Deployment behind a Service without the key; neither they nor the template have the label.
async fn bare_template(prefix: &str) -> (Shop, Person, String) {
    let shop = Shop::open(prefix, 0).await;
    shop.select(&json!({"app": "pears"})).await;
    let admin = Person::admin(&shop);
    let bare = r#"{"spec":{"replicas":3,"template":{"metadata":{"labels":{"app":"pears","kubervisor/traffic":null}}}}}"#;
    kubectl(&admin, &["patch", "deployment", "pears", "--type=merge", "-p", bare]).await;
    shop.serves(3).await;
    let place = format!("--controller-namespace={}", shop.namespace);
    (shop, admin, place)
}

async fn kubectl(admin: &Person, words: &[&str]) {
    let said = admin.kubectl(words).await;
    assert!(said.ok, "{words:?}: {said:?}");
}

async fn roll(admin: &Person) {
    kubectl(admin, &["rollout", "restart", "deployment", "pears"]).await;
    kubectl(admin, &["rollout", "status", "deployment", "pears", "--timeout=60s"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_whose_pods_nobody_would_label_is_refused_and_its_cure_outlasts_a_rollout() {
    let (shop, admin, place) = bare_template("next-rollout").await;
    let refused = admin.is_refused(&["activate", "pears", "--label", &place]).await;
    assert!(refused.contains("Deployment pears lacks the label"), "{refused}");
    assert!(refused.contains("no controller acts") && refused.contains("--force"), "{refused}");
    assert!(shop.labelled("yes").await.is_empty(), "nothing is written before it is known to be right");
    assert_eq!(shop.selector().await, json!({"app": "pears"}));
    let cure = refused.split('`').nth(1).unwrap();
    let words: Vec<_> = cure.split(' ').skip(1).map(|word| word.trim_matches('\'')).collect();
    kubectl(&admin, &words).await;
    kubectl(&admin, &["rollout", "status", "deployment", "pears", "--timeout=60s"]).await;
    eventually("no pod is left of the former template", SOON, || async { shop.pods().await.len() == 3 })
        .await;
    let done = admin.runs(&["activate", "pears", &place]).await;
    assert!(done.ok && !done.err.contains("warning"), "{done:?}");
    let (observer, start) = observe(&shop, 3).await;
    roll(&admin).await;
    shop.serves(3).await;
    assert!(observer.lowest_since(start) > 0, "while it rolled");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_born_dark_by_force_is_explained_and_deactivating_gives_it_back() {
    let (shop, admin, place) = bare_template("born-dark").await;
    let done = admin.runs(&["activate", "pears", "--label", "--force", &place]).await;
    assert!(done.ok && done.err.contains("warning: the pod template of Deployment pears lacks"), "{done:?}");
    roll(&admin).await;
    shop.serves(0).await;
    let born = shop.names().await[0].clone();
    let told = admin.is_refused(&["explain", &born, &place]).await;
    assert!(told.contains("Service pears does not reach it for want of the label"), "{told}");
    assert!(told.contains("deactivate service/pears"), "{told}");
    assert!(admin.runs(&["activate", "pears", &place]).await.err.contains("warning: the pod template"));
    admin.sees(&["restore", &born, &place]).await;
    shop.serves(1).await;
    admin.sees(&["deactivate", "service/pears"]).await;
    shop.serves(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_labels_makes_the_refusal_a_warning() {
    let (shop, admin, place) = bare_template("labels-later").await;
    let controller = Controller::ready(&shop.controller()).await;
    let refused = admin.is_refused(&["activate", "pears", "--label", &place]).await;
    assert!(refused.contains("no KubervisorService gives it this Service"), "{refused}");
    let source = FakeSource::start(&shop.namespace).await;
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    shop.becomes("LabelsComplete", "True").await;
    let done = admin.runs(&["activate", "pears", "--label", &place]).await;
    assert!(done.ok, "{done:?}");
    assert!(
        done.err.contains("warning: the pod template of Deployment pears lacks the label")
            && done.err.contains("while none acts"),
        "{done:?}"
    );
    roll(&admin).await;
    shop.serves(3).await;
    controller.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_kubervisorservice_and_a_service_of_one_name_it_is_said_which_is_taken() {
    let (shop, admin) = open("twins", 2).await;
    shop.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "plums"},
        "spec": {"selector": {"app": "plums"}, "ports": [{"port": 80}]},
    }));
    let breaker = json!({"name": "named", "customService": "judge.shop:80/bad"});
    shop.govern(json!({"service": "plums", "breakers": [breaker]})).await;
    let tries = |name: &'static str| {
        let admin = &admin;
        async move { admin.sees(&["deactivate", name, "--dry-run=server"]).await }
    };
    let either = tries("pears").await;
    assert!(
        either.starts_with("KubervisorService \"pears\" is meant, whose Service is \"plums\""),
        "{either}"
    );
    assert!(either.contains("say service/pears\nservice/plums: 0 endpoints"), "{either}");
    assert!(tries("kvs/pears").await.starts_with("service/plums: "));
    assert!(tries("svc/pears").await.starts_with("service/pears: 2 endpoints"));
    let refused = admin.is_refused(&["activate", "pod/pears"]).await;
    assert!(refused.contains("service/NAME or kubervisorservice/NAME"), "{refused}");
}
