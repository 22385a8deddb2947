//! `GET /explain`: why a pod is out, and why it is not, as the controller itself knows it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{
    Controller, Fake, FakeSource, SOON, Shop, custom_breaker, discrete_breaker, eventually,
};

/// What the controller answers, with its status.
async fn ask(controller: &Controller, path: &str) -> (u16, Value) {
    let answer = reqwest::get(format!("{}/explain/{path}", controller.url)).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// The one pod of an answer.
async fn of_pod(shop: &Shop, controller: &Controller, pod: &str) -> Value {
    let (status, answer) = ask(controller, &format!("{}/pears/{pod}", shop.namespace)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["morePods"], answer["pods"].as_array().unwrap().len()), (&json!(0), 1));
    answer["pods"][0].clone()
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

/// Four bare pods of which three must serve; `pear-0` is worse than `pear-1`, and both are beyond the rule.
async fn two_bad_of_four(shop: &Shop, source: &FakeSource, mode: &str) {
    let counts = [("pear-0", 150.0), ("pear-1", 130.0), ("pear-2", 4.0), ("pear-3", 0.0)];
    let of = |(pod, bad): (&str, f64)| (pod.to_owned(), (200.0 - bad, bad));
    source.answer(Fake::Counts(counts.into_iter().map(of).collect::<BTreeMap<_, _>>()));
    let mut breaker = discrete_breaker("errors", source);
    breaker["minPodsAvailableCount"] = json!(3);
    breaker["activator"] = json!({"period": 600});
    let limits = json!({"maxCutRatio": 100, "maxCutsPerPeriod": "100%"});
    shop.govern(json!({"mode": mode, "limits": limits, "breakers": [breaker]})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_pod_one_that_the_floor_keeps_and_a_healthy_one_are_explained_with_their_numbers() {
    let shop = Shop::open("why", 0).await;
    shop.bare_pods(4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    two_bad_of_four(&shop, &source, "Active").await;
    shop.cut_are(&["pear-0"]).await;
    eventually("the cut is explained", SOON, || async {
        text(&of_pod(&shop, &controller, "pear-0").await, "traffic") == "Cut"
    })
    .await;

    let cut = of_pod(&shop, &controller, "pear-0").await;
    assert!(text(&cut, "answer").starts_with("pear-0 is cut since 20"), "{cut}");
    assert!(
        text(&cut, "answer").contains(" by breaker errors: bad 75 % > 50 % of 200; it comes back 20"),
        "{cut}"
    );
    assert_eq!(
        (&cut["cutBy"], &cut["then"], &cut["strikes"]),
        (&json!("errors"), &json!("restore"), &json!({"errors": 1}))
    );
    assert!(cut["recent"][0].as_str().unwrap().contains("PodCut"), "{cut}");

    eventually("the other one is refused", SOON, || async {
        of_pod(&shop, &controller, "pear-1").await["refusals"][0]["reason"] == "floor"
    })
    .await;
    let (_, whole) = ask(&controller, &format!("{}/pears/pear-1", shop.namespace)).await;
    let kept = &whole["pods"][0];
    assert!(
        text(kept, "answer").starts_with(
            "pear-1 serves, although breaker errors finds it anomalous (bad 65 % of 200): floor reached: of 4: 3 serve \
             (floor 3), 1 out"
        ),
        "{kept}"
    );
    assert!(text(kept, "change").contains("more pods must serve than the floor of 3 (now 3)"), "{kept}");
    let budget = &whole["budget"];
    let sums = ["floor", "serving", "out", "headroom", "size", "inFlight"]
        .map(|field| budget[field].as_u64().unwrap());
    assert_eq!(sums, [3, 3, 1, 0, 4, 0]);
    assert_eq!(
        (&budget["floorSum"], &budget["limitedBy"]),
        (&json!("minPodsAvailableCount = 3, of breaker errors"), &json!("floor"))
    );

    let well = of_pod(&shop, &controller, "pear-2").await;
    assert_eq!(text(&well, "answer"), "pear-2 serves: no breaker finds anything wrong with it");
    let finding = &well["findings"][0];
    assert_eq!((text(finding, "verdict"), text(finding, "value")), ("Healthy", "bad 2 % of 200"));
    assert_eq!(well["held"]["reason"], "floor", "it could not be cut now either: {well}");
    let rule = &whole["breakers"][0];
    assert_eq!((text(rule, "threshold"), &rule["confirmOf"]), ("bad > 50 % of 2 or more", &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_said_to_be_not_there_and_nothing_but_a_look_is_allowed() {
    let shop = Shop::open("whynot", 0).await;
    shop.bare_pods(4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    two_bad_of_four(&shop, &source, "DryRun").await;
    let all = format!("{}/pears", shop.namespace);
    let shown = || async { ask(&controller, &all).await.1["pods"][0]["traffic"] == "Cut" };
    eventually("the dry run has cut the worst", SOON, shown).await;
    let (_, answer) = ask(&controller, &all).await;
    let names: Vec<_> = answer["pods"].as_array().unwrap().iter().map(|pod| text(pod, "name")).collect();
    assert_eq!(
        (names.as_slice(), &answer["onlyShown"]),
        (&["pear-0", "pear-1", "pear-2", "pear-3"][..], &json!(true))
    );
    let first = text(&answer["pods"][0], "answer");
    assert!(first.starts_with("Dry run, in which nothing is carried out: pear-0 is cut since"), "{first}");
    assert_eq!(shop.labelled("no").await, Vec::<String>::new(), "nothing was carried out");

    let said = |(status, answer): (u16, Value)| (status, answer["reason"].clone(), answer["error"].clone());
    let (status, reason, error) = said(ask(&controller, &format!("{all}/pear-4")).await);
    assert_eq!((status, reason), (404, json!("UnknownPod")));
    assert!(error.as_str().unwrap().contains("has no pod \"pear-4\"; did you mean \"pear-"), "{error}");
    let (status, reason, error) = said(ask(&controller, &format!("{}/pear", shop.namespace)).await);
    assert_eq!((status, reason), (404, json!("UnknownService")));
    assert!(error.as_str().unwrap().ends_with("did you mean \"pears\"?"), "{error}");
    let (status, reason, _) = said(ask(&controller, "elsewhere/pears").await);
    assert_eq!((status, reason), (503, json!("NotReady")));
    let (status, reason, _) = said(ask(&controller, &format!("{all}/UP")).await);
    assert_eq!((status, reason), (400, json!("BadName")));
    let url = format!("{}/explain/{all}", controller.url);
    let posted = reqwest::Client::new().post(url).send().await.unwrap().status().as_u16();
    assert_eq!(posted, 405);
    shop.govern(json!({"mode": "Disabled", "breakers": [discrete_breaker("errors", &source)]})).await;
    let disabled = || async { said(ask(&controller, &all).await).1 == "NotEvaluated" };
    eventually("a service that is disabled explains nothing", SOON, disabled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_in_dry_run_has_its_word_beside_those_that_act() {
    let shop = Shop::open("whydry", 0).await;
    let names = shop.bare_pods(4).await;
    let source = FakeSource::start(&shop.namespace).await;
    let controller = Controller::ready(&shop.controller()).await;
    source.errors_of(names.iter().map(String::as_str), &[]);
    source.name_bad(["pear-3"]);
    let mut tried = custom_breaker("tried", &source);
    tried["mode"] = json!("DryRun");
    shop.govern(json!({"breakers": [discrete_breaker("errors", &source), tried]})).await;
    let path = format!("{}/pears/pear-3", shop.namespace);
    eventually("it has an owner", SOON, || async { ask(&controller, &path).await.0 == 200 }).await;
    let answer = "pear-3 serves: no breaker finds anything wrong with it; breaker tried, in dry run, would have cut it";
    let told = || async {
        let said = text(&of_pod(&shop, &controller, "pear-3").await, "answer").to_owned();
        Ok(if said == answer { Ok(()) } else { Err(said) })
    };
    localcluster::until("both breakers have their word", SOON, told).await.unwrap();
    let it = of_pod(&shop, &controller, "pear-3").await;
    assert_eq!((text(&it, "traffic"), &it["serving"]), ("Open", &json!(true)));
    let said = |finding: &Value| {
        (
            text(finding, "breaker").to_owned(),
            finding["onlyShown"] == true,
            text(finding, "verdict").to_owned(),
        )
    };
    let findings: Vec<_> = it["findings"].as_array().unwrap().iter().map(said).collect();
    let wanted = [("errors", false, "Healthy"), ("tried", true, "Anomalous")];
    assert_eq!(
        findings,
        wanted.map(|(breaker, shown, verdict)| (breaker.to_owned(), shown, verdict.to_owned()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_waits_for_the_lease_says_so() {
    let shop = Shop::open("whywait", 3).await;
    let source = FakeSource::start(&shop.namespace).await;
    two_bad_of_four(&shop, &source, "Active").await;
    let args = shop.controller();
    let first = Controller::ready(&args).await;
    let path = format!("{}/pears", shop.namespace);
    eventually("the first one answers", SOON, || async { ask(&first, &path).await.0 == 200 }).await;
    let second = Controller::ready(&args).await;
    let (status, answer) = ask(&second, &path).await;
    assert_eq!((status, &answer["reason"]), (503, &json!("Standby")));
    assert!(text(&answer, "error").contains("another one holds the Lease"), "{answer}");
}
