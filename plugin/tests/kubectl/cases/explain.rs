//! `explain`: why a pod was cut, and why one was not.

use std::collections::BTreeMap;

use localcluster::Terminal;
use serde_json::{Value, json};

use crate::exposed::{EVERYWHERE, expose};
use crate::harness::{Controller, Fake, FakeSource, SOON, Shop, discrete_breaker, eventually};
use crate::person::Person;

/// Four bare pods of which three must serve; `pear-0` is worse than `pear-1`, and both are beyond the rule.
async fn with_two_bad_of_four(prefix: &str) -> (Shop, FakeSource) {
    let shop = Shop::open(prefix, 0).await;
    shop.bare_pods(4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let counts = [("pear-0", 150.0), ("pear-1", 130.0), ("pear-2", 4.0), ("pear-3", 0.0)];
    let of = |(pod, bad): (&str, f64)| (pod.to_owned(), (200.0 - bad, bad));
    source.answer(Fake::Counts(counts.into_iter().map(of).collect::<BTreeMap<_, _>>()));
    let mut breaker = discrete_breaker("errors", &source);
    breaker["minPodsAvailableCount"] = json!(3);
    breaker["activator"] = json!({"period": 600});
    let limits = json!({"maxCutRatio": 100, "maxCutsPerPeriod": "100%"});
    shop.govern(json!({"limits": limits, "breakers": [breaker]})).await;
    (shop, source)
}

async fn everywhere(shop: &Shop) -> Controller {
    let mut args = shop.controller();
    args.args.push(EVERYWHERE.to_owned());
    Controller::ready(&args).await
}

fn place(shop: &Shop) -> String {
    format!("--controller-namespace={}", shop.namespace)
}

/// The line that begins so.
fn line<'a>(text: &'a str, begins: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(begins))
        .unwrap_or_else(|| panic!("no line {begins:?} in\n{text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_pod_one_that_the_floor_keeps_and_a_healthy_one_are_explained_by_way_of_the_api_server() {
    let (shop, _source) = with_two_bad_of_four("explain").await;
    // The API server picks any of the two, and only one of them decides.
    let (first, second) = (everywhere(&shop).await, everywhere(&shop).await);
    expose(&shop, &[&first, &second]).await;
    let (admin, place) = (Person::admin(&shop), place(&shop));
    shop.cut_are(&["pear-0"]).await;
    let explains = |pod: &'static str| {
        let (admin, place) = (&admin, &place);
        async move {
            let said = admin.kubectl(&["kubervisor", "explain", pod, place]).await;
            assert!(said.ok, "{said:?}");
            said.out
        }
    };
    eventually("the other bad one is refused", SOON, || async {
        explains("pear-1").await.contains("\nRefused: ")
    })
    .await;

    let cut = explains("pear-0").await;
    let answer = cut.lines().next().unwrap();
    assert!(answer.starts_with("pear-0 is cut since 20"), "{cut}");
    assert!(answer.contains(" by breaker errors: bad 75 % > 50 % of 200; it comes back 20"), "{cut}");
    assert!(
        line(&cut, "Traffic:").contains("Cut by breaker errors for ") && cut.contains("PodCut pear-0"),
        "{cut}"
    );

    let kept = explains("pear-1").await;
    let answer = kept.lines().next().unwrap();
    assert!(
        answer.starts_with(
            "pear-1 serves, although breaker errors finds it anomalous (bad 65 % of 200): floor reached"
        ),
        "{kept}"
    );
    assert!(
        kept.lines().nth(1).unwrap().contains("more pods must serve than the floor of 3 (now 3)"),
        "{kept}"
    );
    let sum = "  floor       3 serving - 3 = 0   floor: minPodsAvailableCount = 3, of breaker errors   <- the tightest";
    assert!(kept.lines().any(|line| line == sum), "{kept}");

    let well = explains("pod/pear-2").await;
    assert_eq!(well.lines().next(), Some("pear-2 serves: no breaker finds anything wrong with it"));
    let cells: Vec<_> =
        line(&well, "  errors ").split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[..5], ["errors", "Healthy", "bad 2 % of 200", "0.04", "-"], "{well}");
    assert!(line(&well, "  errors: ").contains("anomalous if bad > 50 % of 2 or more ("), "{well}");

    let described = admin.sees(&["describe", "pears", &place]).await;
    let measured = "    measured   pear-0 bad 75 % of 200 (1.50 of the limit); pear-1 bad 65 % of 200 (1.30 of the limit); ";
    assert!(described.contains(measured), "{described}");

    let read: Value =
        serde_json::from_str(&admin.sees(&["explain", "pear-1", &place, "-o", "json"]).await).unwrap();
    assert_eq!((&read["version"], &read["pods"][0]["refusals"][0]["reason"]), (&json!(1), &json!("floor")));
    let yaml = admin.sees(&["explain", "pear-1", &place, "-o", "yaml"]).await;
    assert_eq!(serde_yaml_ng::from_str::<Value>(&yaml).unwrap()["pods"][0]["name"], "pear-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_controller_is_away_the_marks_of_the_pod_speak_and_it_is_said_that_they_do() {
    let (shop, _source) = with_two_bad_of_four("explainaway").await;
    let (controller, admin, place) = (everywhere(&shop).await, Person::admin(&shop), place(&shop));
    shop.cut_are(&["pear-0"]).await;
    eventually("the status tells of it", SOON, || async { shop.status().await["fleet"]["cut"] == 1 }).await;
    let at = format!("--controller-url={}", controller.url);
    let own = admin.sees(&["explain", "pear-0", &at]).await;
    assert!(own.contains("\nBudget: "), "{own}");
    let terminal = Terminal::open(60, 60).unwrap();
    let mut reader = admin.sits_at(&terminal, &["explain", "pear-0", &at]);
    assert!(reader.wait().await.unwrap().success());
    let (seen, answer) = (terminal.last(), own.lines().next().unwrap());
    assert!(answer.len() > 60 && seen.replace('\n', " ").starts_with(answer), "broken within a word: {seen}");
    let unknown = admin.sees(&["explain", "pear-0", &place]).await;
    assert!(unknown.lines().nth(1).unwrap().contains("there is no Service \"kubervisor\""), "{unknown}");

    expose(&shop, &[&controller]).await;
    controller.kill();
    let away = admin.sees(&["explain", "pear-0", &place]).await;
    let lines: Vec<_> = away.lines().collect();
    assert!(
        lines[0].starts_with("pear-0 is cut since 20")
            && lines[0].contains("bad 75 % > 50 % of 200; it is due back"),
        "{away}"
    );
    assert!(
        lines[1].starts_with("The controller did not answer: no controller is ready behind Service"),
        "{away}"
    );
    assert!(
        lines[2].starts_with("So this is only what the pod's own marks and the stored status say"),
        "{away}"
    );
    assert!(
        line(&away, "Sums then:").contains("3 serve (floor 3)") && away.contains("PodCut pear-0"),
        "{away}"
    );
    let gone = admin.sees(&["explain", "pear-0", &at]).await;
    assert!(gone.lines().nth(1).unwrap().contains("nothing answers at http://0.0.0.0:"), "{gone}");
    let serves = admin.sees(&["explain", "pear-2", &place]).await;
    assert!(
        serves.starts_with("pear-2 is not cut, by its marks; why, only the controller knows\n"),
        "{serves}"
    );
    let read: Value =
        serde_json::from_str(&admin.sees(&["explain", "pear-0", &place, "-o", "json"]).await).unwrap();
    assert_eq!(
        (&read["fromMarks"], &read["cutBy"], &read["evidence"]),
        (&json!(true), &json!("errors"), &json!("bad 75 % > 50 % of 200"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_explained_is_said_in_a_sentence_with_an_action() {
    let (shop, _source) = with_two_bad_of_four("explainnot").await;
    let (controller, admin, place) = (everywhere(&shop).await, Person::admin(&shop), place(&shop));
    expose(&shop, &[&controller]).await;
    shop.cut_are(&["pear-0"]).await;
    let unknown = admin.is_refused(&["explain", "paer-0", &place]).await;
    assert!(
        unknown.starts_with("Error from server (NotFound): pods \"paer-0\" not found; did you mean \"pear-"),
        "{unknown}"
    );
    let alone = admin.is_refused(&["explain", "controller-0", &place]).await;
    assert!(alone.contains("governs pod controller-0: none names a Service that selects it"), "{alone}");
    assert!(admin.is_refused(&["explain", "pear-0", "-A"]).await.contains("leave out -A, or the name"));
    let odd = admin.is_refused(&["explain", "pear-0", "--controller-url=here"]).await;
    assert!(odd.contains("write it as http://localhost:8086"), "{odd}");

    // Everything but the right to the proxy: the pod's marks speak. Then nothing at all.
    let account = shop.account().await;
    let look = |group: &str, kind: &str| json!({"apiGroups": [group], "resources": [kind], "verbs": ["get", "list"]});
    let rules = [look("", "pods"), look("", "services"), look("kubervisor.k8s.io", "kubervisorservices")];
    shop.allow(&account, &rules).await;
    let reader = Person::with(&shop, &shop.controller_as(&account, &[]).kubeconfig);
    let words = ["explain", "pear-0", place.as_str()];
    eventually("the rights hold", SOON, || async { reader.runs(&words).await.ok }).await;
    let said = reader.sees(&words).await;
    assert!(said.starts_with("pear-0 is cut since 20"), "{said}");
    let right = format!(
        "you lack the right to get services/proxy \"kubervisor:8086\" in namespace {:?}",
        shop.namespace
    );
    assert!(said.lines().nth(1).unwrap().contains(&right), "{said}");
    let nobody = admin.is_refused(&["explain", "pear-0", "--as", "nobody", &place]).await;
    assert!(
        nobody.contains("User \"nobody\" cannot get") && nobody.contains("it takes the right to get pods"),
        "{nobody}"
    );
}
