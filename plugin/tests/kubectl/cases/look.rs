//! `explain` while the controller is away: what one look at the breakers' own sources says.

use serde_json::{Value, json};

use crate::exposed::{expose, expose_at};
use crate::harness::{Behaviour, Controller, FakeSource, Orchard, SOON, Shop, breaker, eventually};
use crate::person::Person;

/// Three of four answers are bad, and at four times the usual price.
const ILL: Behaviour = Behaviour { good: 1, bad: 3, price: 28.0 };

/// Four pods that a real Prometheus scrapes, of which the first is ill and was cut; the controller is gone.
struct Away {
    shop: Shop,
    orchard: Orchard,
    /// Names `pear-3`; nobody who is asked for a Prometheus gets a series from it.
    source: FakeSource,
    place: String,
}

impl Away {
    async fn since_a_cut(prefix: &str) -> Self {
        let shop = Shop::open(prefix, 0).await;
        shop.bare_pods(4).await;
        let orchard = Orchard::grow(&shop).await;
        let source = FakeSource::start(&shop.namespace).await;
        source.name_bad(["pear-3"]);
        let place = format!("--controller-namespace={}", shop.namespace);
        let this = Self { shop, orchard, source, place };
        let controller = Controller::ready(&this.shop.controller()).await;
        this.asks(&this.orchard.address(), &[]).await;
        this.orchard.behaves("pear-0", ILL);
        this.shop.cut_are(&["pear-0"]).await;
        controller.kill();
        let bad = "sum(increase(answers_total{pod='pear-0',code='500'}[5s])) / sum(increase(answers_total{pod='pear-0'}[5s]))";
        eventually("the window holds nothing of before", SOON, || async {
            let share = this.orchard.prometheus.await_value(bad, SOON).await.unwrap();
            (share - 0.75).abs() < 0.004
        })
        .await;
        this
    }

    /// The spec asks this Prometheus, and for these breakers too.
    async fn asks(&self, prometheus: &str, more: &[Value]) {
        let errors = breaker(
            "errors",
            &json!({"scrapeInterval": 1, "discreteValueOutOfList": {
                "prometheusService": prometheus, "key": "code", "podNamekey": "pod", "goodValues": ["200"],
                "promQL": "sum by (code, namespace, pod) (increase(answers_total[5s]))",
            }}),
        );
        let price = breaker(
            "price",
            &json!({"fleetOutlier": {
                "prometheusService": prometheus, "promQL": "last_over_time(price[3s])", "minDelta": 1,
            }}),
        );
        let limits = json!({"maxCutRatio": 100, "maxCutsPerPeriod": "100%", "minPodAge": 1});
        let breakers = [&[errors, price], more].concat();
        let activator = json!({"period": "10m"});
        let spec = json!({"limits": limits, "breakers": breakers, "defaultActivator": activator});
        self.shop.govern(spec).await;
    }

    /// From now on the spec names Services, as it would in a cluster; this machine knows neither name.
    async fn behind_services(&self) {
        let (judge, own) = (self.source.custom(), &self.shop.namespace);
        let (address, page) = judge.split_once('/').unwrap();
        expose_at(&self.shop, "prom", 9090, &self.orchard.address()).await;
        expose_at(&self.shop, "judge", 8080, address).await;
        let named = json!({"name": "named", "customService": format!("judge.{own}.svc:8080/{page}")});
        let outside = json!({"name": "outside", "valueOutOfRange": {
            "prometheusService": self.source.prometheus(), "promQL": "up", "min": 1}});
        self.asks(&format!("prom.{own}:9090"), &[named, outside]).await;
    }

    async fn explained(&self, person: &Person, pod: &str, more: &[&str]) -> String {
        person.sees(&[&["explain", pod, &self.place], more].concat()).await
    }
}

/// Cells of the row of a breaker in what was looked at just now.
fn row<'a>(page: &'a str, breaker: &str) -> Vec<&'a str> {
    let (_, look) = page.split_once("\nOne look:").unwrap_or_else(|| panic!("nobody looked: {page}"));
    let row = look.lines().find(|line| line.starts_with(&format!("  {breaker} ")));
    let row = row.unwrap_or_else(|| panic!("no breaker {breaker:?} in {page}"));
    row.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_of_the_breakers_are_asked_once_by_way_of_the_api_server() {
    let away = Away::since_a_cut("look").await;
    away.behind_services().await;
    let admin = Person::admin(&away.shop);

    let ill = away.explained(&admin, "pear-0", &[]).await;
    let lines: Vec<_> = ill.lines().collect();
    assert!(
        lines[0].starts_with("pear-0 is cut since 20") && lines[0].contains("finds it anomalous"),
        "{ill}"
    );
    assert!(
        lines[1].starts_with("The controller was not reached: there is no Service \"kubervisor\""),
        "{ill}"
    );
    assert!(lines[2].contains("one look just now, by your own rights, gives"), "{ill}");
    let errors = row(&ill, "errors");
    assert!(errors[1] == "Anomalous" && errors[2].starts_with("bad 75 % of "), "{ill}");
    assert_eq!(errors[3..], ["1.50", "-"], "{ill}");
    let rule =
        "errors: anomalous if bad > 50 % of 2 or more (discreteValueOutOfList), looks back 5s; asked of ";
    assert!(ill.contains(rule), "{ill}");
    let price = row(&ill, "price");
    assert!(price[1] == "Anomalous" && price[2].starts_with("28.0000, +"), "{ill}");
    assert_eq!(price[4..], ["7.0000"], "{ill}");
    assert!(
        ill.contains("price: anomalous if > 3.5 spreads above, 1 and 1.5 times away from the median"),
        "{ill}"
    );
    assert!(
        ill.contains("named: anomalous if named by the custom service (customService); asked of "),
        "{ill}"
    );
    assert_eq!(row(&ill, "named")[1..3], ["Healthy", "not named"], "{ill}");
    let whom = format!("asked of Service {}/prom:9090 by way of the API server", away.shop.namespace);
    assert!(ill.contains(&whom), "{ill}");
    assert!(ill.contains("outside: not asked: 127.0.0.1 is no Service of this cluster"), "{ill}");
    assert_eq!(away.source.answers(), 1, "the custom service, and not the address outside");

    let named = away.explained(&admin, "pear-3", &["-o", "json"]).await;
    let read: Value = serde_json::from_str(&named).unwrap();
    let answer = "pear-3 is not cut, by its marks, although one look just now finds it anomalous by breaker named (named): \
                  why, only the controller knows";
    assert_eq!((&read["fromMarks"], &read["answer"]), (&json!(true), &json!(answer)));
    let (rules, found) = (&read["look"]["breakers"], &read["look"]["findings"]);
    assert_eq!(
        (&rules[1]["name"], &rules[1]["healthy"], &rules[1]["anomalous"]),
        (&json!("price"), &json!(3), &json!(1))
    );
    assert_eq!((&found[1]["verdict"], &found[1]["median"]), (&json!("Healthy"), &json!(7.0)));
    assert!(rules[3]["error"].as_str().unwrap().starts_with("not asked: "), "{named}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lacks_the_right_is_told_which_and_may_name_an_address_of_his_own() {
    let away = Away::since_a_cut("lookright").await;
    away.behind_services().await;
    let account = away.shop.account().await;
    let look = |group: &str, kind: &str| json!({"apiGroups": [group], "resources": [kind], "verbs": ["get", "list"]});
    let rules = [look("", "pods"), look("", "services"), look("kubervisor.k8s.io", "kubervisorservices")];
    away.shop.allow(&account, &rules).await;
    let reader = Person::with(&away.shop, &away.shop.controller_as(&account, &[]).kubeconfig);
    let words = ["explain", "pear-0", &away.place];
    eventually("the rights hold", SOON, || async { reader.runs(&words).await.ok }).await;

    let said = away.explained(&reader, "pear-0", &[]).await;
    let right = format!(
        "  errors: not asked: you lack the right to get services/proxy \"prom:9090\" in namespace {:?}: ask whoever",
        away.shop.namespace
    );
    assert!(said.contains(&right), "{said}");
    assert_eq!(row(&said, "errors")[1..3], ["-", "-"], "{said}");
    let named = format!(
        "services/proxy \"judge:8080\" in namespace {:?}: ask whoever grants roles there\n",
        away.shop.namespace
    );
    assert!(said.contains(&named), "{said}");
    let third = said.lines().nth(2).unwrap();
    assert!(
        third.starts_with("So this is only what the pod's own marks and the stored status say"),
        "{said}"
    );

    let own = format!("--prometheus-url={}", away.orchard.prometheus.url());
    let said = away.explained(&reader, "pear-0", &[&own]).await;
    assert!(row(&said, "errors")[2].starts_with("bad 75 % of "), "{said}");
    assert_eq!(row(&said, "price")[4], "7.0000", "{said}");
    assert!(said.contains(&format!("asked of {}/", away.orchard.prometheus.url())), "{said}");
    let well = away.explained(&reader, "pear-1", &[&own]).await;
    assert!(
        well.starts_with(
            "pear-1 is not cut, by its marks, and one look just now finds nothing wrong with it"
        ),
        "{well}"
    );
    assert_eq!(away.source.answers(), 0, "what the spec names outside is asked by nobody");
    away.orchard.prometheus.stop().await.unwrap();
    let gone = away.explained(&reader, "pear-0", &[&own]).await;
    assert!(
        gone.contains("  errors: no answer of http://127.0.0.1:") && gone.contains("refuses connections"),
        "{gone}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_controller_answers_nobody_else_is_asked() {
    let away = Away::since_a_cut("looknot").await;
    let mut args = away.shop.controller();
    args.args.push(crate::exposed::EVERYWHERE.to_owned());
    let controller = Controller::ready(&args).await;
    expose(&away.shop, &[&controller]).await;
    let admin = Person::admin(&away.shop);
    let other = FakeSource::start(&away.shop.namespace).await;
    let own = format!("--prometheus-url=http://{}", other.prometheus());
    eventually("the controller answers", SOON, || async {
        away.explained(&admin, "pear-0", &[&own]).await.contains("\nBudget: ")
    })
    .await;
    let before = other.answers();
    let said = away.explained(&admin, "pear-0", &[&own]).await;
    assert!(said.contains("\nBudget: ") && !said.contains("One look"), "{said}");
    assert_eq!(other.answers(), before);
}
