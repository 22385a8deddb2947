//! The control plane, with the real programs: does it behave as one in production would?

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends this way; clippy knows only its outermost function"
)]

mod fixtures;

use fixtures::{becomes, config_map, create, label, make_ready, pod, ready_endpoints, service};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{DeleteParams, EvictParams, ListParams};
use localcluster::{Cluster, KWOK_NODE, NODE, Options};
use serde_json::json;

#[tokio::test]
async fn a_cluster_is_ready_when_start_returns() {
    let begin = std::time::Instant::now();
    let cluster = Cluster::start(Options::default()).await.unwrap();
    eprintln!("ready after {:?}", begin.elapsed());
    let pods = Api::<Pod>::default_namespaced(cluster.client("admin").unwrap());
    create(&pods, &pod("first", None, &json!({}))).await;
    assert_eq!(cluster.pids().len(), 3);
}

#[tokio::test]
async fn an_actor_may_do_what_rbac_binds_and_nothing_else() {
    let cluster = Cluster::shared();
    let admin = cluster.client("admin").unwrap();
    let namespace = cluster.new_namespace(&admin, "rbac").await.unwrap();
    let maps = Api::<ConfigMap>::namespaced(cluster.client("observer").unwrap(), &namespace);
    assert_eq!(status(maps.list(&ListParams::default()).await), 403);

    bind_reader(&admin, &namespace, "observer").await;
    becomes(200, || async { status(maps.list(&ListParams::default()).await) }).await;
    assert_eq!(status(maps.create(&kube::api::PostParams::default(), &config_map("refused")).await), 403);
}

#[tokio::test]
async fn an_actor_that_was_not_named_is_nobody() {
    let cluster = Cluster::shared();
    assert!(cluster.client("stranger").is_err());
    assert!(cluster.kubeconfig("stranger", None).unwrap_err().to_string().contains("Options.actors"));
    let client = kube::Client::try_from(cluster.config("stranger")).unwrap();
    let answer = Api::<Pod>::all(client).list(&ListParams::default()).await;
    assert_eq!(status(answer), 403);
}

#[tokio::test]
async fn a_program_may_run_with_the_rights_of_a_service_account() {
    let cluster = Cluster::shared();
    let namespace = cluster.new_namespace(&cluster.client("admin").unwrap(), "account").await.unwrap();
    let token = cluster.service_account_token(&namespace, "default").await.unwrap();
    let file = cluster.kubeconfig_with_token("default", &token, None).unwrap();
    let args = ["--kubeconfig", file.to_str().unwrap(), "auth", "whoami", "-o", "name"];
    let output = std::process::Command::new(cluster.kubectl_path()).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let client = kube::Client::try_from(cluster.config_with_token(&token)).unwrap();
    let answer = Api::<ConfigMap>::namespaced(client, &namespace).list(&ListParams::default()).await;
    assert!(answer.unwrap_err().to_string().contains(&format!("system:serviceaccount:{namespace}:default")));
    assert!(cluster.service_account_token(&namespace, "none").await.is_err());
}

#[tokio::test]
async fn a_pod_whose_label_flips_leaves_the_endpoint_slice() {
    let cluster = Cluster::shared();
    let client = cluster.client("admin").unwrap();
    let namespace = cluster.new_namespace(&client, "traffic").await.unwrap();
    let pods = Api::<Pod>::namespaced(client.clone(), &namespace);
    let slices = Api::namespaced(client.clone(), &namespace);
    create(
        &Api::<Service>::namespaced(client, &namespace),
        &service("web", &json!({ "app": "web", "open": "yes" })),
    )
    .await;
    for (name, ip) in [("a", "10.1.0.1"), ("b", "10.1.0.2")] {
        create(&pods, &pod(name, Some(NODE), &json!({ "app": "web", "open": "yes" }))).await;
        make_ready(&pods, name, ip).await;
    }
    becomes(vec!["a".to_owned(), "b".to_owned()], || ready_endpoints(&slices, "web")).await;

    label(&pods, "a", "open", "no").await;
    becomes(vec!["b".to_owned()], || ready_endpoints(&slices, "web")).await;
}

#[tokio::test]
async fn kwok_makes_pods_ready_and_lets_them_go() {
    let cluster = Cluster::shared_with_kwok();
    let client = cluster.client("admin").unwrap();
    let namespace = cluster.new_namespace(&client, "kwok").await.unwrap();
    let pods = Api::<Pod>::namespaced(client, &namespace);
    let mut unready = pod("unready", Some(KWOK_NODE), &json!({}));
    unready.metadata.annotations = Some([("localcluster/ready".to_owned(), "false".to_owned())].into());
    create(&pods, &pod("ready", Some(KWOK_NODE), &json!({}))).await;
    create(&pods, &unready).await;
    becomes(Some((true, true)), || running(&pods, "ready")).await;
    becomes(Some((true, false)), || running(&pods, "unready")).await;

    pods.evict("ready", &EvictParams::default()).await.unwrap();
    becomes(None, || running(&pods, "ready")).await;
}

#[tokio::test]
async fn a_deployment_on_the_kwok_node_comes_up() {
    let cluster = Cluster::shared_with_kwok();
    let client = cluster.client("admin").unwrap();
    let namespace = cluster.new_namespace(&client, "deployment").await.unwrap();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": {
            "replicas": 3, "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "nodeName": KWOK_NODE, "containers": [{ "name": "main", "image": "none.invalid/none" }] },
            },
        },
    });
    let namespace = ["-n", &namespace];
    let apply = cluster.kubectl(
        "admin",
        &[&namespace[..], &["apply", "-f-"]].concat(),
        Some(&deployment.to_string()),
    );
    assert!(apply.unwrap().status.success());
    let wait = ["rollout", "status", "deployment/web", "--timeout=60s"];
    let output = cluster.kubectl("admin", &[&namespace[..], &wait].concat(), None).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_audit_log_counts_exactly_the_writes_of_one_actor() {
    let cluster =
        Cluster::start(Options { actors: vec!["writer".to_owned()], ..Options::default() }).await.unwrap();
    let admin = cluster.client("admin").unwrap();
    bind_admin(&admin, "default", "writer").await;
    let pods = Api::<Pod>::default_namespaced(cluster.client("writer").unwrap());
    becomes(200, || async { status(pods.list(&ListParams::default()).await) }).await;

    let since = Timestamp::now();
    create(&pods, &pod("counted", None, &json!({}))).await;
    label(&pods, "counted", "open", "no").await;
    pods.get("counted").await.unwrap();
    label(&Api::default_namespaced(admin), "counted", "open", "yes").await;
    pods.delete("counted", &DeleteParams::default()).await.unwrap();
    assert_eq!(status(pods.evict("counted", &EvictParams::default()).await), 404);
    cluster.audit().settle().await.unwrap();

    let writes = cluster.audit().writes_by("writer", since).unwrap();
    let told: Vec<_> =
        writes.iter().map(|write| (write.verb.as_str(), write.subresource.as_str(), write.code)).collect();
    assert_eq!(
        told,
        [("create", "", 201), ("patch", "", 200), ("delete", "", 200), ("create", "eviction", 404)]
    );
    assert_eq!(writes[1].request_object, Some(json!({ "metadata": { "labels": { "open": "no" } } })));
    assert_eq!((writes[1].namespace.as_str(), writes[1].name.as_str()), ("default", "counted"));
    assert_eq!(cluster.audit().all_by("writer", since).unwrap().len(), 5);
    assert_eq!(cluster.audit().writes_by("writer", Timestamp::now()).unwrap(), []);
}

#[tokio::test]
async fn an_api_server_comes_back_with_its_data_and_its_controllers() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let client = cluster.client("admin").unwrap();
    let maps = Api::<ConfigMap>::default_namespaced(client.clone());
    create(&maps, &config_map("kept")).await;

    cluster.stop_apiserver().await.unwrap();
    assert!(reqwest::get(cluster.url()).await.unwrap_err().is_connect());
    let begin = std::time::Instant::now();
    cluster.start_apiserver().await.unwrap();
    eprintln!("back after {:?}", begin.elapsed());

    assert!(maps.get("kept").await.is_ok());
    // Only a living controller manager makes the ServiceAccount that this waits for.
    cluster.new_namespace(&client, "after").await.unwrap();
}

#[tokio::test]
async fn a_given_data_dir_is_kept_and_not_taken_twice() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data_dir: Some(folder.path().to_owned()), ..Options::default() };
    drop(Cluster::start(options.clone()).await.unwrap());
    assert!(folder.path().join("kube-apiserver.log").is_file());
    let refused = Cluster::start(options).await.err().unwrap();
    assert!(refused.to_string().contains("not empty"), "{refused}");
}

/// 200, or the code of the API server's refusal.
fn status<T>(answer: Result<T, kube::Error>) -> u16 {
    match answer {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("no answer: {error}"),
    }
}

/// Whether it is running with an address, and ready; `None` when it is gone.
async fn running(pods: &Api<Pod>, name: &str) -> Option<(bool, bool)> {
    let status = pods.get_opt(name).await.unwrap()?.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Some((status.phase.as_deref() == Some("Running") && status.pod_ip.is_some(), ready))
}

async fn bind_reader(admin: &kube::Client, namespace: &str, user: &str) {
    let rules =
        json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"] }]);
    bind(admin, namespace, user, &rules).await;
}

async fn bind_admin(admin: &kube::Client, namespace: &str, user: &str) {
    bind(admin, namespace, user, &json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }])).await;
}

async fn bind(admin: &kube::Client, namespace: &str, user: &str, rules: &serde_json::Value) {
    let role: Role = serde_json::from_value(json!({ "metadata": { "name": user }, "rules": rules })).unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))
    .unwrap();
    create(&Api::namespaced(admin.clone(), namespace), &role).await;
    create(&Api::namespaced(admin.clone(), namespace), &binding).await;
}
