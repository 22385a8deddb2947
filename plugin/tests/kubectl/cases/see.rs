//! Verbs that show, beside what kubectl itself shows.

use localcluster::Cluster;
use serde_json::{Value, json};

use super::with_one_cut;
use crate::harness::{Controller, SOON, Shop, eventually};
use crate::person::Person;

/// Without the age, which goes on.
fn cells(line: &str) -> Vec<&str> {
    let mut cells: Vec<_> = line.split_whitespace().collect();
    cells.pop();
    cells
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_those_of_kubectl_with_the_numbers_of_the_original_beside_them() {
    let (shop, _source, _controller, _bad) = with_one_cut("lists").await;
    let admin = Person::admin(&shop);
    let (ours, theirs) = (admin.sees(&["get"]).await, admin.kubectl(&["get", "kvs"]).await.out);
    assert_eq!(
        ours.lines().next(),
        Some("NAME    SERVICE   STATE     MEMBERS   SERVING   CUT   PAUSED   FLOOR   AGE")
    );
    assert_eq!(ours.lines().map(cells).collect::<Vec<_>>(), theirs.lines().map(cells).collect::<Vec<_>>());
    let through = admin.kubectl(&["kubervisor", "get", "--no-headers"]).await.out;
    assert_eq!(cells(&through), ["pears", "pears", "Running", "5", "4", "1", "0", "1"]);
    let all = admin.sees(&["get", "-A", "-o", "wide"]).await;
    let own = all.lines().find(|line| line.contains(&shop.namespace)).unwrap();
    assert!(all.starts_with("NAMESPACE ") && own.contains("maxCutRatio") && own.contains("PodCut"), "{all}");
    let original = admin.sees(&["-k", "pears"]).await;
    assert!(original.starts_with("NAME    NAMESPACE") && original.contains("PODS BREAKED"), "{original}");
    let numbers: Vec<_> = original.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(numbers, ["pears", shop.namespace.as_str(), "Running", "5", "1", "0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_printed_as_kubectl_prints_them() {
    let shop = Shop::open("objects", 1).await;
    let admin = Person::admin(&shop);
    let breaker = json!({"name": "named", "customService": "judge.shop:80/bad"});
    for name in ["pears", "plums"] {
        shop.govern_as(name, json!({"breakers": [breaker]})).await;
    }
    let label = admin.kubectl(&["label", "kvs", "plums", "ripe=yes"]).await;
    assert!(label.ok, "{label:?}");
    for words in [
        &["get", "kvs", "-o", "json"][..],
        &["get", "kvs", "-o", "yaml"],
        &["get", "kvs", "pears", "-o", "json"],
        &["get", "kvs", "pears", "plums", "-o", "yaml"],
        &["get", "kvs", "-l", "ripe=yes", "-o", "json"],
        &["get", "kvs", "-o", "name"],
    ] {
        let ours: Vec<_> = words.iter().copied().filter(|word| *word != "kvs").collect();
        let (ours, theirs) = (admin.sees(&ours).await, admin.kubectl(words).await.out);
        if words.contains(&"name") {
            assert_eq!(ours, theirs);
        } else {
            let read = |text: &str| serde_yaml_ng::from_str::<Value>(text).unwrap();
            assert_eq!(read(&ours), read(&theirs), "{words:?}");
        }
    }
    // JSON is the same to the letter.
    let words = ["get", "kvs", "pears", "-o", "json"];
    assert_eq!(admin.sees(&["get", "pears", "-o", "json"]).await, admin.kubectl(&words).await.out);
    let (ours, theirs) =
        (admin.runs(&["get", "-l", "ripe=no"]).await, admin.kubectl(&["get", "kvs", "-l", "ripe=no"]).await);
    assert_eq!((ours.ok, ours.out, ours.err), (theirs.ok, theirs.out, theirs.err), "nothing is found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_description_has_the_pod_that_is_out_and_a_watch_tells_of_a_change() {
    let (shop, source, _controller, bad) = with_one_cut("described").await;
    let admin = Person::admin(&shop);
    let mut rows = admin.starts(&["get", "-w"]);
    rows.prints("NAME    SERVICE").await;
    let text = admin.sees(&["describe", "pears"]).await;
    for part in ["[█┃███▒]", "limited by maxCutRatio", "named by the service", &source.custom(), "PodCut"]
    {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let out = text.lines().find(|line| line.starts_with(&format!("  {bad}"))).unwrap();
    assert!(
        out.contains(" cut ") && out.contains(" in ") && out.contains("named by the custom service"),
        "{out}"
    );
    let spec = json!({"spec": {"holds": [{"reason": "the orchard is closed"}]}}).to_string();
    admin.kubectl(&["patch", "kvs", "pears", "--type=merge", "-p", &spec]).await;
    assert_eq!(cells(&rows.prints("Held").await)[..3], ["pears", "pears", "Held"]);
    let text = admin.sees(&["describe"]).await;
    assert!(text.contains("- held: the orchard is closed"), "{text}");
    let unknown = "  what they measured last is not known: there is no Service \"kubervisor\" in namespace";
    assert!(text.contains(unknown), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_allowed_or_out_of_reach_is_said_in_a_sentence_with_an_action() {
    let shop = Shop::open("refusals", 1).await;
    let admin = Person::admin(&shop);
    shop.govern(json!({"breakers": [{"name": "named", "customService": "judge.shop:80/bad"}]})).await;
    let unknown = "Error from server (NotFound): kubervisorservices.kubervisor.k8s.io \"pear\" not found; did you mean \"pears\"?";
    assert_eq!(admin.is_refused(&["get", "pear"]).await, unknown);
    assert_eq!(admin.is_refused(&["describe", "pear"]).await, unknown);
    let some = admin.runs(&["get", "pears", "pear"]).await;
    assert!(!some.ok && some.out.contains("\npears ") && some.err.trim_end() == unknown, "{some:?}");
    assert!(admin.is_refused(&["get", "pears", "-A"]).await.contains("across all namespaces"));
    // Two contexts.
    assert_eq!(
        admin.runs(&["get", "--context", "elsewhere"]).await.err,
        "No resources found in default namespace.\n"
    );
    assert!(admin.sees(&["get", "--context=elsewhere", "-n", &shop.namespace]).await.contains("pears"));
    let nowhere = admin.is_refused(&["get", "--context", "elsewere"]).await;
    assert!(
        nowhere.contains("does not exist: did you mean \"elsewhere\"? see `kubectl config get-contexts`"),
        "{nowhere}"
    );
    let nothing = admin.is_refused(&["get", "--kubeconfig", "/nonexistent"]).await;
    assert!(nothing.contains("/nonexistent"), "{nothing}");
    // No right.
    let account = shop.account().await;
    shop.allow(&account, &[]).await;
    let nobody = Person::with(&shop, &shop.controller_as(&account, &[]).kubeconfig);
    for words in [&["get"][..], &["describe"], &[], &["get", "-w"]] {
        let said = nobody.is_refused(words).await;
        let right = format!("list kubervisorservices.kubervisor.k8s.io in namespace {:?}", shop.namespace);
        let right = if words.contains(&"-w") { right.replace("list", "watch") } else { right };
        assert!(said.starts_with("Error from server (Forbidden): ") && said.contains(&right), "{said}");
    }
    let asked = admin.is_refused(&["get", "--as", "nobody"]).await;
    assert!(asked.contains("User \"nobody\" cannot list"), "{asked}");
    // No cluster.
    let away = shop.cluster.kubeconfig("admin", Some("http://127.0.0.1:1")).unwrap();
    let said = Person::with(&shop, &away).is_refused(&["get"]).await;
    assert!(said.contains("cannot be reached") && said.contains("kubectl config current-context"), "{said}");
    // No such kind.
    let bare = Person::with(&shop, &Cluster::shared().kubeconfig("admin", None).unwrap());
    let said = bare.is_refused(&["get"]).await;
    assert!(
        said.starts_with("error: the server doesn't have a resource type")
            && said.contains("kubervisor crds"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_come_through_kubectl() {
    let shop = Shop::open("versions", 1).await;
    let admin = Person::admin(&shop);
    let place = format!("--controller-namespace={}", shop.namespace);
    let none = admin.is_refused(&["version", &place]).await;
    assert!(none.contains("no controller is found") && none.contains("--controller-namespace"), "{none}");
    let controller = Controller::ready(&shop.controller()).await;
    let at = format!("--controller-url={}", controller.url);
    let theirs = format!("Controller: v{}, at {}\n", env!("CARGO_PKG_VERSION"), controller.url);
    assert!(admin.sees(&["version", &at]).await.ends_with(&theirs));
    let said = admin.kubectl(&["kubervisor", "version", &place]).await;
    let client = format!("Client Version: v{}\n", env!("CARGO_PKG_VERSION"));
    assert!(said.out.starts_with(&client) && said.out.contains("held the Lease"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_cluster_are_completed_in_bash_and_through_kubectl() {
    let shop = Shop::open("completed", 1).await;
    let admin = Person::admin(&shop);
    shop.govern(json!({"breakers": [{"name": "named", "customService": "judge.shop:80/bad"}]})).await;
    let (namespace, pod) = (shop.namespace.as_str(), shop.names().await.remove(0));
    let mut bash = admin.types().await;
    bash.completes("describe p", "describe pears ").await;
    bash.completes("dry-run pears --breaker ", "dry-run pears --breaker named ").await;
    bash.completes("cut p", &format!("cut {pod} ")).await;
    bash.completes("cut pod/p", &format!("cut pod/{pod} ")).await;
    for of in ["kvs/", "svc/", ""] {
        bash.completes(&format!("activate {of}p"), &format!("activate {of}pears ")).await;
    }
    bash.completes("hold svc/p", "hold svc/p").await;
    for flag in ["-n ", "--namespace="] {
        let part = namespace.strip_suffix(|_: char| true).unwrap();
        bash.completes(&format!("get {flag}{part}"), &format!("get {flag}{namespace} ")).await;
    }
    // Wherever the way to them stands.
    let there = format!("-n {namespace} --context elsewhere");
    bash.completes(&format!("{there} describe p"), &format!("{there} describe pears ")).await;
    bash.completes(&format!("describe {there} p"), &format!("describe {there} pears ")).await;
    bash.completes("describe --context elsewhere p", "describe --context elsewhere p").await;

    let elsewhere = ["-n", namespace, "--context", "elsewhere"];
    for (line, wanted) in [
        (&["describe", "pe"][..], "pears\n:4\n"),
        (&[&elsewhere[..], &["describe", "pe"]].concat(), "pears\n:4\n"),
        (&["describe", "--context", "elsewhere", "pe"], ":4\n"),
        (&["get", "-n", namespace], &format!("{namespace}\n:4\n")),
        (&["get", "--output=w"], "wide\tThe table with more columns\n:4\n"),
        (&["check", "-f", ""], ":0\n"),
    ] {
        let said = admin.kubectl(&[&["__complete", "kubervisor"], line].concat()).await;
        assert!(said.ok && said.out.starts_with(wanted), "{line:?}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_asked_for_once_however_many_objects_are_shown() {
    let shop = Shop::open("calls", 1).await;
    for name in ["pears", "plums", "figs"] {
        shop.govern_as(name, json!({"breakers": [{"name": "named", "customService": "judge.shop:80/bad"}]}))
            .await;
    }
    let account = shop.account().await;
    let reads = json!({"apiGroups": ["", "kubervisor.k8s.io"], "resources": ["*"], "verbs": ["get", "list"]});
    shop.allow(&account, &[reads]).await;
    let person = Person::with(&shop, &shop.controller_as(&account, &[]).kubeconfig);
    eventually("the rights hold", SOON, || async { person.runs(&["get"]).await.ok }).await;
    let calls = async |words: &[&str]| {
        let audit = shop.cluster.audit().within(&shop.namespace);
        let count = async || {
            audit.settle().await.unwrap();
            let all = audit.all_by(&account.user, jiff::Timestamp::UNIX_EPOCH).unwrap();
            all.iter().map(|call| format!("{} {}", call.verb, call.resource)).collect::<Vec<_>>()
        };
        let before = count().await.len();
        person.sees(words).await;
        let mut calls = count().await.split_off(before);
        calls.sort();
        calls
    };
    assert_eq!(calls(&["get", "-o", "wide"]).await, ["list kubervisorservices"]);
    assert_eq!(calls(&["get", "pears", "plums", "figs"]).await, ["list kubervisorservices"]);
    assert_eq!(calls(&["get", "pears"]).await, ["get kubervisorservices"]);
    assert_eq!(calls(&["describe"]).await, ["list events", "list kubervisorservices"]);
    assert_eq!(
        calls(&["describe", "pears", "plums", "figs"]).await,
        ["list events", "list kubervisorservices"]
    );
}
