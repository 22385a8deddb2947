//! With what sources are asked, who allowed it, and where no source may be.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};
use wiremock::matchers::{any, header};
use wiremock::{Mock, MockServer, ResponseTemplate};

use crate::harness::rights::{NAME, documented_rules};
use crate::harness::{Controller, SOON, Shop, breaker, custom_breaker, eventually};

/// That of these pods of each namespace the first has errors only.
pub(super) fn answer_to(namespaces: &[&str], pods: &[String]) -> Value {
    let code = |pod: &String| if *pod == pods[0] { "500" } else { "200" };
    let row = |namespace: &str, pod: &String| json!({"metric": {"namespace": namespace, "pod": pod, "code": code(pod)}, "value": [1, "200"]});
    let rows = namespaces.iter().flat_map(|namespace| pods.iter().map(|pod| row(namespace, pod)));
    json!({"status": "success", "data": {"resultType": "vector", "result": rows.collect::<Vec<_>>()}})
}

/// A Prometheus that answers so only to this token.
pub(super) async fn guarded(token: &str, namespaces: &[&str], pods: &[String]) -> MockServer {
    let server = MockServer::start().await;
    let body = answer_to(namespaces, pods);
    let good = Mock::given(header("authorization", format!("Bearer {token}").as_str()));
    good.respond_with(ResponseTemplate::new(200).set_body_json(body)).with_priority(2).mount(&server).await;
    let denied = ResponseTemplate::new(401).set_body_string("s3cret of the server");
    Mock::given(any()).respond_with(denied).mount(&server).await;
    server
}

pub(super) fn asking(server: Option<&MockServer>, prometheus: &Value) -> Value {
    let mut rule = json!({
        "promQL": "sum by (code, namespace, pod) (increase(answers_total[1s]))",
        "key": "code", "goodValues": ["200"],
    });
    if let Some(server) = server {
        rule["prometheusService"] = json!(server.uri());
        rule["prometheus"] = prometheus.clone();
    }
    json!({"breakers": [breaker("errors", &json!({"discreteValueOutOfList": rule}))]})
}

pub(super) fn token(metadata: &Value, token: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": token}})
}

/// Lets the controller's account, which is of `home`, read this one Secret, as the namespace's owner would.
pub(super) fn bind(shop: &Shop, home: &Shop) {
    let api = "rbac.authorization.k8s.io/v1";
    let rule =
        json!({"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["prom"], "verbs": ["get"]});
    let subject = json!({"kind": "ServiceAccount", "name": NAME, "namespace": home.namespace});
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "prom"});
    shop.apply(&json!({"apiVersion": api, "kind": "Role", "metadata": {"name": "prom"}, "rules": [rule]}));
    shop.apply(&json!({
        "apiVersion": api, "kind": "RoleBinding", "metadata": {"name": "prom"}, "roleRef": role,
        "subjects": [subject],
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_used_once_its_owner_bound_a_role_and_labelled_it_for_the_host_and_again_when_it_changes()
{
    let shop = Shop::open("token", 0).await;
    let pods = shop.bare_pods(4).await;
    let account = shop.account().await;
    shop.allow(&account, &documented_rules()).await;
    let namespace = format!("--namespace={}", shop.namespace);
    let controller = Controller::ready(&shop.controller_as(&account, &[&namespace])).await;
    let server = guarded("pear-tree", &[&shop.namespace], &pods).await;
    shop.govern(asking(Some(&server), &json!({"bearerTokenSecretRef": {"name": "prom"}}))).await;
    let refused = async |why: &str| {
        let told = || async { shop.condition("InitFailed").await.2.contains(why) };
        eventually(&format!("InitFailed says {why:?}"), SOON, told).await;
    };
    refused("no right to read Secret prom of namespace").await;
    bind(&shop, &shop);
    refused("there is no Secret prom").await;
    shop.apply(&token(&json!({"name": "prom"}), "old"));
    refused("lacks the label kubervisor.k8s.io/auth=true").await;
    let mut metadata = json!({"name": "prom", "labels": {"kubervisor.k8s.io/auth": "true"}});
    shop.apply(&token(&metadata, "old"));
    refused("its annotation kubervisor.k8s.io/host must name that host").await;
    assert!(server.received_requests().await.unwrap().is_empty(), "something was sent before it was allowed");
    metadata["annotations"] = json!({"kubervisor.k8s.io/host": "127.0.0.1"});
    shop.apply(&token(&metadata, "old"));
    let denied = || async { shop.status().await["breakers"][0]["error"].to_string().contains("status 401") };
    eventually("the old token is refused", SOON, denied).await;
    shop.becomes("InitFailed", "False").await;
    shop.apply(&token(&metadata, "pear-tree"));
    shop.cut_are(&[&pods[0]]).await;
    let told = format!("{}{:?}{}", shop.status().await, shop.events().await, controller.log());
    assert!(!told.contains("s3cret") && !told.contains("pear-tree"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_controllers_own_prometheus_is_asked_with_its_credentials_about_one_namespace_only() {
    let shop = Shop::open("enforced", 3).await;
    let server = guarded("own-token", &[&shop.namespace], &shop.names().await).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "own-token\n").unwrap();
    let mut args = shop.controller();
    args.args.push(format!("--prometheus-url={}", server.uri()));
    args.args.push(format!("--prometheus-bearer-token-file={}", file.path().display()));
    args.args.extend(["--prometheus-header=X-Scope-OrgID=all", "--enforce-namespace"].map(str::to_owned));
    let _controller = Controller::ready(&args).await;
    shop.govern(asking(None, &Value::Null)).await;
    shop.cut_are(&[&shop.names().await[0]]).await;
    let requests = server.received_requests().await.unwrap();
    let confined = format!("answers_total%7Bnamespace%3D%22{}%22%7D", shop.namespace);
    let bodies: Vec<_> = requests.iter().map(|r| String::from_utf8_lossy(&r.body).into_owned()).collect();
    let queries: Vec<_> = bodies.iter().filter(|body| !body.contains("nonsense")).collect();
    assert!(!queries.is_empty() && queries.iter().all(|body| body.contains(&confined)), "{queries:?}");
    assert!(requests.iter().all(|r| r.headers["x-scope-orgid"] == "all"));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_source_is_asked_where_the_api_server_listens() {
    let shop = Shop::open("server", 3).await;
    // An API server on loopback has no endpoint of its own: one of a control plane elsewhere.
    let elsewhere = "203.0.113.77";
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "elsewhere", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [elsewhere]}], "ports": [{"port": 6443}],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(shop.client.clone(), "default");
    slices.create(&PostParams::default(), &serde_json::from_value(slice).unwrap()).await.unwrap();
    let services: Api<Service> = Api::namespaced(shop.client.clone(), "default");
    let cluster_ip = services.get("kubernetes").await.unwrap().spec.unwrap().cluster_ip.unwrap();
    let _controller = Controller::ready(&shop.controller()).await;
    let addresses = [elsewhere.to_owned(), cluster_ip];
    for address in addresses {
        let page = json!({"customService": format!("{address}:443/api")});
        shop.govern(json!({"breakers": [breaker("named", &page)]})).await;
        let said = format!("address {address} may not be asked");
        let told = || async { shop.status().await["breakers"][0]["error"].to_string().contains(&said) };
        eventually(&said, SOON, told).await;
    }
    let source = crate::harness::FakeSource::start(&shop.namespace).await;
    shop.govern(json!({"breakers": [custom_breaker("named", &source)]})).await;
    shop.state_is("Running").await;
}
