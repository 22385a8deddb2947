//! Two tenants of one controller, of whom one tries everything to see or to touch what is the other's.

use std::collections::BTreeSet;

use kubervisor::sources::confined;
use localcluster::{MetricsTarget, Prometheus, PrometheusOptions, ScrapeTarget};
use serde_json::{Value, json};
use wiremock::matchers::{any, body_string_contains, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use super::credentials::{answer_to, asking, bind, guarded, token};
use crate::harness::rights::documented_rules;
use crate::harness::trace::Step;
use crate::harness::{Controller, FakeSource, SOON, Shop, breaker, custom_breaker, eventually, throughout};

/// Stands in no pod, name or time by chance.
const LEAK: &str = "73317";

/// A breaker that asks this Prometheus, or the controller's, and finds every pod of more than 3 anomalous.
fn over_three(name: &str, server: Option<&str>, query: &str) -> Value {
    let mut rule = json!({"promQL": query, "max": 3});
    if let Some(server) = server {
        rule["prometheusService"] = json!(server);
    }
    breaker(name, &json!({ "valueOutOfRange": rule }))
}

async fn evaluated(controller: &Controller, shop: &Shop, labels: &[&str]) -> f64 {
    let own = format!("namespace=\"{}\"", shop.namespace);
    controller.metric("kubervisor_evaluations_total", &[&[own.as_str()], labels].concat()).await
}

/// Waits until each breaker of this many was answered three times, well or not.
async fn all_asked(controller: &Controller, shop: &Shop, breakers: &[Value]) {
    for breaker in breakers {
        let label = format!("breaker=\"{}\"", breaker["name"].as_str().unwrap());
        let asked = || async { evaluated(controller, shop, &[&label]).await >= 3.0 };
        eventually(&format!("three answers for {label}"), SOON, asked).await;
    }
}

/// A real Prometheus with series of namespaces bank and shop, and of none.
async fn vault_and_shop() -> (Prometheus, MetricsTarget) {
    let page = MetricsTarget::start().await.unwrap();
    page.set(format!(
        "answers{{namespace=\"bank\",pod=\"b-0\",code=\"200\"}} {LEAK}\n\
         answers{{namespace=\"shop\",pod=\"s-0\",code=\"200\"}} 2\n\
         target_info{{namespace=\"bank\",pod=\"b-0\",version=\"v{LEAK}\"}} 1\n\
         orphan {LEAK}\n"
    ));
    let targets = vec![ScrapeTarget::new("all", page.address())];
    let prometheus =
        Prometheus::start(PrometheusOptions { targets, ..PrometheusOptions::default() }).await.unwrap();
    prometheus.await_value("max_over_time(answers{namespace=\"bank\"}[1m:1s])", SOON).await.unwrap();
    (prometheus, page)
}

/// Ways to ask for what is the bank's.
const GREEDY: [&str; 41] = [
    "answers",
    "orphan",
    "{__name__=~\"ans.*\"}",
    "{__name__=\"answers\"}",
    "{pod!=\"\"}",
    "{\"answers\"}",
    "{\"answers\", \"namespace\"=\"bank\"}",
    "{\"answers\", \"name.space\"=\"\"}",
    "answers{namespace=\"bank\"}",
    "answers{namespace=\"bank\",namespace=~\".+\"}",
    "answers{namespace!=\"shop\"}",
    "answers{namespace=~\".*\"}",
    "answers{pod='b-0'}",
    "answers{pod=`b-0`}",
    "answers{pod!=\"{namespace=\\\"shop\\\"}\"}",
    "answers{pod!=`\"} or answers{pod!=\"`}",
    "answers{pod!='\\x22} or orphan #'}",
    "answers{pod!=\"\\042} or orphan #\"}",
    "answers{pod!=`\\`,namespace!=`\\`}",
    "answers # {namespace=\"shop\"}",
    "answers #\n or orphan",
    "answers offset 0s",
    "answers @ end()",
    "max_over_time(answers[1m])",
    "max_over_time(answers[1m:1s])",
    "max_over_time(max(answers{namespace=\"bank\"})[1m:1s] @ end())",
    "last_over_time({__name__=~\".+\",code=\"200\"}[1m])",
    "answers{namespace=\"shop\"} or answers{namespace=\"bank\"}",
    "answers and on () vector(1)",
    "answers * on () group_left () vector(1)",
    "answers{namespace=\"bank\"} unless on () absent(orphan)",
    "label_replace(answers{namespace=\"bank\"}, \"namespace\", \"shop\", \"\", \"\")",
    "label_replace(answers{namespace=\"bank\"}, \"pod\", \"s-0\", \"pod\", \".*\")",
    "label_replace(answers, \"pod\", \"}) or orphan #\", \"\", \"\")",
    "label_join(answers, \"namespace\", \"\", \"nothing\")",
    "max(max by (pod) (topk(5, bottomk(5, answers))))",
    "count_values(\"pod\", answers)",
    "-(-answers)",
    "scalar(answers{namespace=\"bank\"})",
    "absent(answers{namespace=\"nobody\"}) * scalar(max(answers))",
    "answers * on (namespace, pod) group_left (version) target_info",
];

/// Labels and values of an answer, without its times.
fn seen(data: &Value) -> String {
    let rows = match data["resultType"].as_str() {
        Some("vector") => data["result"].as_array().unwrap().clone(),
        _ => vec![json!({"value": data["result"]})],
    };
    let row = |row: &Value| format!("{} {}", row["metric"], row["value"][1]);
    rows.iter().map(row).collect()
}

/// Matchers of every selector, as Prometheus itself reads the query.
fn selectors(node: &Value, found: &mut Vec<Value>) {
    match node {
        Value::Object(fields) => {
            if fields.get("type").is_some_and(|t| t == "vectorSelector" || t == "matrixSelector") {
                found.push(fields["matchers"].clone());
            }
            fields.values().for_each(|field| selectors(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| selectors(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_kept_to_its_namespace_sees_no_series_of_another_however_it_is_written() {
    let (prometheus, _page) = vault_and_shop().await;
    let matcher = json!({"name": "namespace", "type": "=", "value": "shop"});
    for query in GREEDY {
        // Without that it would be a test of nothing.
        let leaks = || async { seen(&prometheus.query(query).await.unwrap()).contains(LEAK) };
        eventually(&format!("{query} shows the bank's"), SOON, leaks).await;
        let Ok(kept) = confined(query, "shop") else { continue };
        let url = format!("{}/api/v1/parse_query", prometheus.url());
        let request = reqwest::Client::new().get(url).query(&[("query", &kept)]);
        let tree: Value = request.send().await.unwrap().json().await.unwrap();
        let mut all = Vec::new();
        selectors(&tree["data"], &mut all);
        assert!(!all.is_empty(), "{kept}: {tree}");
        for matchers in all {
            assert!(matchers.as_array().unwrap().contains(&matcher), "{kept}: {matchers}");
        }
        let answer = prometheus.query(&kept).await.unwrap();
        assert!(!seen(&answer).contains(LEAK), "{query} as {kept} gives {answer}");
    }
    // Refusing everything would be no way to keep them apart.
    let kept = GREEDY.iter().filter(|query| confined(query, "shop").is_ok()).count();
    assert!(kept >= 30, "only {kept} of {} can be asked", GREEDY.len());
    let own = confined("answers", "shop").unwrap();
    let sees = || async { seen(&prometheus.query(&own).await.unwrap()).contains("s-0") };
    eventually("the shop sees its own", SOON, sees).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_reads_no_value_of_another_by_way_of_its_own_pods_where_queries_are_kept_apart() {
    let shop = Shop::open("reader", 3).await;
    let (prometheus, _page) = vault_and_shop().await;
    let pod = shop.names().await[0].clone();
    let query = format!("label_replace(max(answers{{namespace=\"bank\"}}), \"pod\", \"{pod}\", \"\", \"\")");
    let mut args = shop.controller();
    args.args.push(format!("--prometheus-url={}", prometheus.url()));
    let open = args.args.clone();
    args.args.push("--enforce-namespace".to_owned());
    let controller = Controller::ready(&args).await;
    // By the default, and by the same address in other words.
    let same = prometheus.url().replace("127.0.0.1", "0x7f.1");
    let breakers = [over_three("default", None, &query), over_three("same", Some(&same), &query)];
    shop.govern(json!({"limits": {"minCoverageRatio": 0}, "breakers": breakers})).await;
    for breaker in ["default", "same"] {
        let labels = [format!("breaker=\"{breaker}\""), "outcome=\"Empty\"".to_owned()];
        let empty = || async { evaluated(&controller, &shop, &[&labels[0], &labels[1]]).await >= 3.0 };
        eventually("there is nothing to see", SOON, empty).await;
    }
    let told = format!("{}{:?}{}", shop.status().await, shop.events().await, controller.log());
    assert!(!told.contains(LEAK) && shop.pod_writes().await.is_empty(), "{told}");
    drop(controller);
    // Without the flag it is there to be seen: this is what the flag is for.
    args.args = open;
    let _controller = Controller::ready(&args).await;
    shop.told("PodCut", LEAK).await;
}

fn carries(request: &Request) -> bool {
    request.headers.contains_key("authorization") || request.headers.contains_key("x-scope-orgid")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_credentials_reach_its_own_prometheus_and_no_address_that_a_tenant_thinks_of() {
    let shop = Shop::open("lure", 3).await;
    let own = guarded("own-token", &[&shop.namespace], &shop.names().await).await;
    let trap = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&trap).await;
    let away = ResponseTemplate::new(302).insert_header("location", format!("{}/stolen", trap.uri()));
    Mock::given(body_string_contains("lured")).respond_with(away).with_priority(1).mount(&own).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "own-token\n").unwrap();
    let mut args = shop.controller();
    args.args.push(format!("--prometheus-url={}", own.uri()));
    args.args.push(format!("--prometheus-bearer-token-file={}", file.path().display()));
    args.args.push("--prometheus-header=X-Scope-OrgID=all".to_owned());
    let controller = Controller::ready(&args).await;
    let port = own.address().port();
    let elsewhere = |name: &str, server: &str| over_three(name, Some(server), "pears");
    let breakers = [
        elsewhere("port", &trap.uri()),
        elsewhere("scheme", &format!("https://127.0.0.1:{port}")),
        elsewhere("host", &format!("localhost:{port}")),
        elsewhere("path", &format!("{}/other", own.uri())),
        elsewhere("spelled", &format!("http://0x7f.1:{port}/")),
        over_three("redirect", None, "lured"),
        over_three("default", None, "pears"),
        breaker("page", &json!({"customService": format!("{}/page", own.uri())})),
    ];
    shop.govern(json!({ "breakers": breakers })).await;
    all_asked(&controller, &shop, &breakers).await;
    let trapped = trap.received_requests().await.unwrap();
    assert!(!trapped.is_empty() && !trapped.iter().any(carries), "{trapped:?}");
    assert!(!trapped.iter().any(|request| request.url.path() == "/stolen"), "the redirect was followed");
    let (with, without): (Vec<_>, Vec<_>) =
        own.received_requests().await.unwrap().into_iter().partition(carries);
    let very = format!("127.0.0.1:{port}");
    let very_address =
        |r: &Request| r.headers["host"].to_str().unwrap() == very && r.url.path() == "/api/v1/query";
    assert!(with.iter().all(very_address), "{with:?}");
    let paths: BTreeSet<_> = without.iter().map(|r| r.url.path().to_owned()).collect();
    assert!(paths.contains("/other/api/v1/query") && paths.contains("/page"), "{paths:?}");
    assert!(with.len() >= 3, "{} with credentials", with.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_uses_nobody_elses_secret_and_is_not_given_the_answer_that_it_brought() {
    let (bank, thief) = (Shop::open("bank", 0).await, Shop::open("thief", 0).await);
    let pods = bank.bare_pods(4).await;
    thief.bare_pods(4).await;
    let account = bank.account().await;
    bank.allow_everywhere(&account, &documented_rules()).await;
    let scope = [&bank, &thief].map(|shop| format!("--namespace={}", shop.namespace));
    let controller = Controller::ready(&bank.controller_as(&account, &[&scope[0], &scope[1]])).await;
    // The answer condemns a pod of each.
    let server = guarded("pear-tree", &[&bank.namespace, &thief.namespace], &pods).await;
    let metadata = json!({
        "name": "prom", "labels": {"kubervisor.k8s.io/auth": "true"},
        "annotations": {"kubervisor.k8s.io/host": server.uri()},
    });
    bind(&bank, &bank);
    bank.apply(&token(&metadata, "pear-tree"));
    let with_secret = asking(Some(&server), &json!({"bearerTokenSecretRef": {"name": "prom"}}));
    let mut kept_out = with_secret.clone();
    kept_out["defaultActivator"] = json!({"period": "9m"});
    bank.govern(kept_out).await;
    thief.govern(with_secret).await;
    bank.cut_are(&[&pods[0]]).await;
    let refused = async |why: &str| {
        let told = || async { thief.condition("InitFailed").await.2.contains(why) };
        eventually(why, SOON, told).await;
    };
    // Its own namespace is the only one that a name is of, and its owner has given nothing away.
    refused(&format!("no right to read Secret prom of namespace {}", thief.namespace)).await;
    for name in [format!("{}/prom", bank.namespace), format!("prom.{}", bank.namespace)] {
        let reference = json!({"bearerTokenSecretRef": {"name": name}});
        thief.govern(asking(Some(&server), &reference)).await;
        refused(if name.contains('/') { "is not the name of a Secret" } else { "no right to read Secret" })
            .await;
    }
    // The very same question of the same moment, without the Secret.
    thief.govern(asking(Some(&server), &json!({}))).await;
    let denied = || async { evaluated(&controller, &thief, &["outcome=\"Denied\""]).await >= 5.0 };
    eventually("it is not let in", SOON, denied).await;
    thief.becomes("InitFailed", "False").await;
    assert_eq!(thief.pod_writes_by(&account.user).await, []);
    let requests = server.received_requests().await.unwrap();
    let tokens: BTreeSet<_> =
        requests.iter().map(|r| r.headers.get("authorization").map(|v| v.to_str().unwrap())).collect();
    assert_eq!(tokens, BTreeSet::from([None, Some("Bearer pear-tree")]));
    assert_eq!(bank.labelled("no").await, [pods[0].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_sources_name_anothers_pods_and_whose_pods_carry_anothers_marks_moves_none_of_them() {
    let (bank, thief) = (Shop::open("bank", 0).await, Shop::open("thief", 0).await);
    let names = bank.bare_pods(4).await;
    thief.bare_pods(4).await;
    let own = FakeSource::start(&bank.namespace).await;
    own.name_bad([names[1].as_str()]);
    // All that the thief is told is of the bank.
    let hostile = FakeSource::start(&bank.namespace).await;
    hostile.errors_of(names.iter().map(String::as_str), &[&names[0], &names[2]]);
    hostile.name_bad([names[0].as_str(), names[3].as_str()]);
    let controller = Controller::ready(&bank.controller_here_and_in(&thief).await).await;
    let mut spec = json!({"breakers": [custom_breaker("named", &own)]});
    spec["defaultActivator"] = json!({"period": "9m"});
    bank.govern(spec).await;
    bank.cut_are(&[&names[1]]).await;
    // As if the bank's KubervisorService and breaker had cut it: of the thief's own pods it is true.
    thief.as_cut(&names[2], "named", jiff::Timestamp::now()).await;
    let mut counts = crate::harness::discrete_breaker("counts", &hostile);
    counts["discreteValueOutOfList"]["podNamespaceKey"] = json!("namespace");
    let breakers = [counts, custom_breaker("named", &hostile)];
    thief.govern(json!({ "breakers": breakers })).await;
    all_asked(&controller, &thief, &breakers).await;
    thief.none_is_out().await;
    thief.delete_resource().await;
    let forgotten = || async { controller.metric("kubervisor_floor", &[&thief.namespace]).await < 1.0 };
    eventually("the thief's is forgotten", SOON, forgotten).await;
    let kept = || async { bank.labelled("no").await == names[1..2] };
    // Longer than the janitor's period.
    throughout("the bank's cut stays", std::time::Duration::from_secs(7), kept).await;
    let writes = |writes: Vec<crate::harness::trace::PodWrite>| -> Vec<_> {
        writes.into_iter().map(|write| (write.pod, write.step)).collect()
    };
    assert_eq!(writes(bank.pod_writes().await), [(names[1].clone(), Step::Cut)]);
    assert_eq!(
        writes(thief.pod_writes_by(bank.controller_user()).await),
        [(names[2].clone(), Step::Restore)]
    );
}

/// What no reader of a status, an Event, a log or a page should ever meet.
const HOSTILE: &str = "s3cret\u{1b}[31m<script>alert(1)</script>\u{202e}";

/// A server that says it wherever something can be said, at a path of its own for each way.
async fn foul_mouthed(namespace: &str, pods: &[String]) -> MockServer {
    let server = MockServer::start().await;
    let ascii = "s3cret<script>";
    let status = |code| ResponseTemplate::new(code).set_body_string(HOSTILE).insert_header("x-why", ascii);
    let fault = json!({"status": "error", "errorType": HOSTILE, "error": HOSTILE});
    let empty = json!({"resultType": "vector", "result": []});
    let warned = json!({"status": "success", "data": empty, "warnings": [HOSTILE], "infos": [HOSTILE]});
    let mut strange = answer_to(&[namespace], pods);
    for row in strange["data"]["result"].as_array_mut().unwrap() {
        row["metric"]["code"] = json!(HOSTILE);
        row["metric"][HOSTILE] = json!(HOSTILE);
    }
    let mut strangers = strange.clone();
    strangers["data"]["result"][0]["metric"]["pod"] = json!(HOSTILE);
    strangers["data"]["result"][1]["value"][1] = json!(HOSTILE);
    let item = json!({"metadata": {"name": HOSTILE, "namespace": namespace}, "status": {"reason": HOSTILE}});
    for (way, answer) in [
        ("s500", status(500)),
        ("s401", status(401).insert_header("www-authenticate", ascii)),
        ("s302", status(302).insert_header("location", "http://s3cret.invalid/")),
        ("s200", status(200)),
        ("fault400", ResponseTemplate::new(400).set_body_json(&fault)),
        ("fault200", ResponseTemplate::new(200).set_body_json(&fault)),
        ("warned", ResponseTemplate::new(200).set_body_json(warned)),
        ("strangers", ResponseTemplate::new(200).set_body_json(strangers)),
        (
            "type",
            ResponseTemplate::new(200).set_body_json(json!({
            "status": "success", "data": {"resultType": HOSTILE, "result": []}})),
        ),
        ("values", ResponseTemplate::new(200).set_body_json(strange)),
    ] {
        Mock::given(path(format!("/{way}/api/v1/query"))).respond_with(answer).mount(&server).await;
    }
    let list = json!({"apiVersion": "v1", "kind": "PodList", "items": [item]});
    let named = ResponseTemplate::new(200).set_body_json(list);
    Mock::given(path("/named")).respond_with(named).mount(&server).await;
    Mock::given(path("/away")).respond_with(status(503)).mount(&server).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_source_says_in_errors_headers_names_or_labels_is_shown_anywhere() {
    let shop = Shop::open("rude", 4).await;
    let pods = shop.names().await;
    let server = foul_mouthed(&shop.namespace, &pods).await;
    let controller = Controller::ready(&shop.controller()).await;
    let ways =
        ["s500", "s401", "s302", "s200", "fault400", "fault200", "warned", "strangers", "type", "values"];
    let counted = |way: &&str| {
        breaker(
            way,
            &json!({"discreteValueOutOfList": {
                "prometheusService": format!("{}/{way}", server.uri()), "key": "code", "goodValues": ["200"],
                "promQL": "sum by (code, namespace, pod) (increase(answers_total[1s]))",
            }}),
        )
    };
    let mut breakers: Vec<_> = ways.iter().map(counted).collect();
    for page in ["named", "away"] {
        breakers.push(breaker(page, &json!({"customService": format!("{}/{page}", server.uri())})));
    }
    shop.govern(json!({ "breakers": breakers })).await;
    all_asked(&controller, &shop, &breakers).await;
    // One of them has evidence: what was counted is told, and not what it was called.
    shop.told("PodCut", "bad ").await;
    // The status follows the ticks at a distance: only once it holds what went wrong is there something to look through.
    let all_told = || async {
        let breakers = shop.status().await["breakers"].as_array().cloned().unwrap_or_default();
        let untold = |b: &&Value| b["error"].as_str().unwrap_or_default().is_empty();
        let well: Vec<_> = breakers.iter().filter(untold).map(|b| b["name"].clone()).collect();
        !breakers.is_empty() && well == ["values", "named"]
    };
    eventually("the status tells what went wrong with every source but two", SOON, all_told).await;
    let page = format!("{}/explain/{}/pears", controller.url, shop.namespace);
    let explained = reqwest::get(page).await.unwrap().text().await.unwrap();
    let (cut, log) = (shop.labelled("no").await, controller.log());
    assert!(!log.contains(['\u{1b}', '\u{202e}']), "{log}");
    let mut told = vec![
        shop.status().await.to_string(),
        format!("{:?}", shop.events().await),
        controller.metrics().await,
        // A source's warnings are for the operator, who finds them in the log, without a character that moves a cursor.
        log.lines().filter(|line| !line.contains("the source warned")).collect(),
        explained,
    ];
    told.extend(shop.pods().await.into_values().map(|pod| json!(pod.metadata.annotations).to_string()));
    assert!(!cut.is_empty() && told[0].contains("status 500") && told[4].contains("pears"), "{told:?}");
    for text in &told {
        for piece in ["s3cret", "<script", "\u{202e}", "\\u202e", "\\u001b", "\\u{202e}"] {
            assert!(!text.contains(piece), "{piece:?} is in {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_an_address_that_may_not_be_asked_gets_it_asked() {
    let shop = Shop::open("spelled", 3).await;
    let trap = MockServer::start().await;
    Mock::given(any()).respond_with(ResponseTemplate::new(200)).mount(&trap).await;
    let controller = Controller::ready_strict(&shop.controller()).await;
    let server = shop.cluster.url().replace("https://", "");
    let port = trap.address().port();
    let local = [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ];
    let mut pages: Vec<_> = local.iter().map(|host| format!("{host}:{port}/bad")).collect();
    let metadata =
        ["169.254.169.254", "2852039166", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[fd00:ec2::254]"];
    pages.extend(metadata.iter().map(|host| format!("{host}/latest/meta-data")));
    pages.push(format!("https://{server}/api"));
    let named = |(number, page): (usize, &String)| {
        breaker(&format!("way-{number}"), &json!({ "customService": page }))
    };
    let breakers: Vec<_> = pages.iter().enumerate().map(named).collect();
    shop.govern(json!({ "breakers": breakers })).await;
    all_asked(&controller, &shop, &breakers).await;
    let refused = || async {
        let all = shop.status().await["breakers"].as_array().cloned().unwrap_or_default();
        let told = |b: &Value| b["error"].as_str().unwrap_or_default().contains("may not be asked");
        all.len() == pages.len() && all.iter().all(told)
    };
    eventually("every one is refused", SOON, refused).await;
    assert!(trap.received_requests().await.unwrap().is_empty());
}
