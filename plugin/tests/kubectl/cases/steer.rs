//! Verbs that change a KubervisorService, or all of them.

use serde_json::{Value, json};

use super::with_one_cut;
use crate::harness::{BRIEF, Controller, SOON, Shop, eventually};
use crate::person::Person;

async fn spec(shop: &Shop) -> Value {
    serde_json::to_value(shop.resources().get("pears").await.unwrap().spec).unwrap()
}

async fn reasons(shop: &Shop) -> Vec<String> {
    let holds = spec(shop).await["holds"].as_array().cloned().unwrap_or_default();
    let mut reasons: Vec<_> = holds.iter().map(|h| h["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    reasons
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_stops_it_and_its_end_lets_it_go_on_and_no_hold_of_others_is_lost() {
    let (shop, _source, _controller, _bad) = with_one_cut("holds").await;
    let admin = Person::admin(&shop);
    let said = admin.is_refused(&["hold", "pears/status", "--reason", "sneaky"]).await;
    assert!(said.contains("\"pears/status\" is not the name of a kubervisorservice"), "{said}");
    let tried = admin.sees(&["hold", "kvs/pears", "--reason", "picking", "--dry-run=server"]).await;
    let told = "held until it is taken back: picking (server dry run)\nNothing is kept of it. To do it: the same without --dry-run\n";
    assert!(tried.ends_with(told), "{tried}");
    assert_eq!(reasons(&shop).await, [""; 0]);
    let said = admin.kubectl(&["kubervisor", "hold", "pears", "--reason", "picking", "--for", "2h"]).await;
    assert!(said.ok && said.out.contains("kubectl kubervisor resume pears --reason picking\n"), "{said:?}");
    shop.state_is("Held").await;
    let words = ["one", "two", "three"].map(|reason| ["hold", "pears", "--reason", reason]);
    let all = words.iter().map(|words| admin.sees(words));
    futures::future::join_all(all).await;
    assert_eq!(reasons(&shop).await, ["one", "picking", "three", "two"]);
    let unknown = admin.is_refused(&["resume", "pears", "--reason", "four"]).await;
    assert!(
        unknown.contains("no hold with the reason \"four\": it has ") && unknown.contains("\"two\""),
        "{unknown}"
    );
    let one = admin.sees(&["resume", "pears", "--reason", "two"]).await;
    assert!(one.contains("ended \"two\"") && one.contains("Still held by"), "{one}");
    admin.sees(&["resume", "pears"]).await;
    shop.state_is("Running").await;
    assert!(admin.sees(&["resume", "pears"]).await.contains("has no hold: nothing is changed"));
    assert!(admin.runs(&["hold", "pears", "--reason", ""]).await.err.contains("--reason"), "a reason is one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_gives_pods_back_and_one_breaker_can_be_switched_alone() {
    let (shop, _source, _controller, bad) = with_one_cut("dry").await;
    let admin = Person::admin(&shop);
    admin.sees(&["dry-run", "pears", "--on", "--breaker", "named"]).await;
    shop.cut_are(&[]).await;
    assert_eq!(spec(&shop).await["breakers"][0]["mode"], "DryRun");
    let refused = admin.is_refused(&["dry-run", "pears", "--on", "--breaker", "name"]).await;
    assert_eq!(refused, "error: pears has no breaker \"name\": did you mean \"named\"?");
    admin.sees(&["dry-run", "pears", "--off", "--breaker", "named"]).await;
    shop.cut_are(&[&bad]).await;
    let tried = admin.sees(&["dry-run", "pears", "--on", "--dry-run=server"]).await;
    assert!(
        tried.contains("(server dry run)\nNothing is kept of it") && !tried.contains("go back"),
        "{tried}"
    );
    let on = admin.sees(&["dry-run", "pears", "--on"]).await;
    assert!(on.contains("in dry run\nPods that are cut go back"), "{on}");
    shop.state_is("DryRun").await;
    assert!(admin.sees(&["dry-run", "pears", "--on"]).await.contains("already: nothing is changed"));
    let said = admin.is_refused(&["cut", &bad]).await;
    assert!(
        said.contains("is in mode DryRun") && said.contains("kubectl kubervisor dry-run pears --off"),
        "{said}"
    );
    admin.sees(&["dry-run", "pears", "--off"]).await;
    shop.state_is("Running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_keeps_the_object_as_a_repository_has_it_is_named() {
    let shop = Shop::open("kept", 1).await;
    let admin = Person::admin(&shop);
    shop.govern(json!({"breakers": [{"name": "named", "customService": "judge.shop:80/bad"}]})).await;
    assert_eq!(admin.runs(&["dry-run", "pears", "--on"]).await.err, "");
    let limit = json!({"spec": {"limits": {"maxCutRatio": 20}}}).to_string();
    let words = ["patch", "kvs", "pears", "--type=merge", "-p", &limit, "--field-manager=argocd-controller"];
    assert!(admin.kubectl(&words).await.ok);
    let said = admin.runs(&["dry-run", "pears", "--off"]).await;
    assert!(said.ok && said.err.starts_with("warning: argocd-controller writes this object too"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_holds_all_until_the_thaw_and_needs_a_lease() {
    let shop = Shop::open("frozen", 2).await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    for words in [&["freeze", "--reason", "frost", &place][..], &["thaw", &place]] {
        let said = admin.is_refused(words).await;
        assert!(said.contains("there is no Lease") && said.contains("--leader-elect=false"), "{said}");
    }
    let controller = Controller::ready(&shop.controller().brief()).await;
    shop.govern(json!({"breakers": [{"name": "named", "customService": "127.0.0.1:1/bad"}]})).await;
    let tried = admin.sees(&["freeze", "--reason", "tried", &place, "--dry-run=server"]).await;
    assert!(
        tried.contains("(server dry run)\nNothing is kept of it") && !tried.contains("Nothing is cut"),
        "{tried}"
    );
    assert!(admin.sees(&["thaw", &place]).await.contains("is not frozen: nothing is changed"));
    let said = admin.runs(&["freeze", "--reason", "frost, Ada", &place]).await;
    assert!(
        said.ok
            && said.err.is_empty()
            && said.out.contains(&format!(
                "To end it: kubectl kubervisor thaw --controller-namespace {}\n",
                shop.namespace
            )),
        "{said:?}"
    );
    let words = ["freeze", "--reason", "storm, Grace", &place];
    let refused = admin.is_refused(&words).await;
    assert!(
        refused.contains("for another reason: \"frost, Ada\"") && refused.contains("--force"),
        "{refused}"
    );
    let forced = admin.sees(&[&words[..], &["--force"]].concat()).await;
    assert!(forced.contains("frozen: storm, Grace, no longer for: frost, Ada\n"), "{forced}");
    admin.sees(&["freeze", "--reason", "frost, Ada", &place, "--force"]).await;
    let holds = || async { shop.condition("Held").await.2.contains("frost, Ada") };
    eventually("the status says that it is frozen", SOON, holds).await;
    let said = admin.sees(&["thaw", &place]).await;
    assert!(said.contains("thawed, was frozen: frost, Ada"), "{said}");
    eventually("it goes on", SOON, || async { !shop.condition("Held").await.2.contains("frost") }).await;
    controller.kill();
    eventually("its Lease is over", BRIEF * 4, || async {
        let said = admin.runs(&["freeze", "--reason", "frost", &place]).await;
        said.ok
            && said.err.contains("warning: no controller acts now")
            && said.err.contains("last renewed the Lease")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_only_write_the_lease_freezes_and_is_told_what_is_not_known() {
    let shop = Shop::open("writeonly", 1).await;
    let _controller = Controller::ready(&shop.controller().brief()).await;
    let place = format!("--controller-namespace={}", shop.namespace);
    let account = shop.account().await;
    let writes = json!({"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["patch"]});
    shop.allow(&account, &[writes]).await;
    let writer = Person::with(&shop, &shop.controller_as(&account, &[]).kubeconfig);
    eventually("it is frozen, and that is no failure", SOON, || async {
        let said = writer.runs(&["freeze", "--reason", "frost", &place]).await;
        said.ok
            && said.out.contains("frozen: frost\n")
            && said.err.starts_with("warning: ")
            && said.err.contains("get leases")
    })
    .await;
    let thawed = Person::admin(&shop).sees(&["thaw", &place]).await;
    assert!(thawed.contains("thawed, was frozen: frost\n"), "{thawed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_says_where_gives_every_pod_back_and_names_services_that_would_be_dark() {
    let (shop, _source, controller, bad) = with_one_cut("released").await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    assert!(admin.is_refused(&["release"]).await.contains("-n NAMESPACE for one namespace, -A or --all"));
    let mistyped = admin.is_refused(&["release", "-n", "no-such-shop", &place]).await;
    assert!(mistyped.contains("nothing is released: there is no namespace \"no-such-shop\""), "{mistyped}");
    controller.kill();
    assert_eq!(shop.labelled("no").await, std::slice::from_ref(&bad));
    admin.sees(&["override", &bad, "cut"]).await;
    let words = ["release", "-n", &shop.namespace, &place];
    let said = admin.runs(&words).await;
    let clear = format!("kubectl annotate -n {} pods {bad} kubervisor.k8s.io/override-", shop.namespace);
    assert!(
        said.err.contains(&clear)
            && said.err.contains("stop the controller, if one runs: one that goes on cuts again"),
        "{said:?}"
    );
    assert!(
        !said.ok && said.err.contains(&format!("{}/pears; run again with --open-selectors", shop.namespace)),
        "{said:?}"
    );
    assert_eq!(shop.labelled("no").await, [""; 0], "the pods are back all the same");
    let said = admin.sees(&[&words[..], &["--accept-dark"]].concat()).await;
    assert!(said.starts_with("Every pod that Kubervisor held is back in its Service.\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_is_named_by_every_verb_that_writes() {
    let shop = Shop::open("rightless", 1).await;
    shop.govern(json!({"breakers": [{"name": "named", "customService": "judge.shop:80/bad"}]})).await;
    let _controller = Controller::ready(&shop.controller()).await;
    shop.becomes("Activated", "True").await;
    let pod = shop.names().await.remove(0);
    let place = format!("--controller-namespace={}", shop.namespace);
    let account = shop.account().await;
    let reads = json!({"apiGroups": ["", "kubervisor.k8s.io", "coordination.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]});
    shop.allow(&account, &[reads]).await;
    let reader = Person::with(&shop, &shop.controller_as(&account, &[]).kubeconfig);
    eventually("the rights hold", SOON, || async { reader.runs(&["get"]).await.ok }).await;
    let within = format!(" in namespace {:?}", shop.namespace);
    for (words, right) in [
        (
            &["hold", "pears", "--reason", "picking"][..],
            "patch kubervisorservices.kubervisor.k8s.io \"pears\"",
        ),
        (&["dry-run", "pears", "--on"], "patch kubervisorservices.kubervisor.k8s.io \"pears\""),
        (&["freeze", "--reason", "frost", &place], "patch leases.coordination.k8s.io \"kubervisor\""),
        (&["cut", &pod, &place], &format!("patch pods {pod:?}")),
        (&["override", &pod, "never"], &format!("patch pods {pod:?}")),
        (&["release", "-n", &shop.namespace, &place], "watch pods"),
    ] {
        let said = reader.is_refused(words).await;
        assert!(
            said.contains("it takes the right to ") && said.contains(&format!("{right}{within}")),
            "{words:?}: {said}"
        );
    }
}
