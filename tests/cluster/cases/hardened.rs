//! What is left to who holds the controller's token, and what its pod asks of a cluster that allows little.

use http::{Method, Request};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::chart::installed;
use crate::harness::{SOON, Shop, eventually};

/// The status of an answer to this request.
async fn answered(client: &Client, method: Method, path: &str, body: &Value) -> u16 {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    let answer = client.request_text(request.body(body.to_string().into_bytes()).unwrap()).await;
    match answer {
        Ok(_) => 200,
        Err(kube::Error::Api(status)) => status.code,
        Err(error) => panic!("{path}: {error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_reads_no_secret_makes_nothing_and_reaches_no_other_namespace() {
    let (shop, other) = (Shop::open("stolen", 1).await, Shop::open("untouched", 1).await);
    let chart = installed(&shop, &[]);
    let thief = chart.client().await;
    let (own, others) =
        (format!("/api/v1/namespaces/{}", shop.namespace), format!("/api/v1/namespaces/{}", other.namespace));
    let resources =
        format!("/apis/kubervisor.k8s.io/v1alpha1/namespaces/{}/kubervisorservices", shop.namespace);
    let reads = || async { answered(&thief, Method::GET, &format!("{own}/pods"), &json!({})).await == 200 };
    eventually("the rights hold", SOON, reads).await;
    for (method, path) in [
        (Method::GET, "/api/v1/secrets".to_owned()),
        (Method::GET, format!("{own}/secrets")),
        (Method::GET, format!("{own}/secrets/prom")),
        (Method::GET, format!("{own}/configmaps")),
        (Method::GET, "/api/v1/nodes".to_owned()),
        (Method::GET, "/api/v1/pods".to_owned()),
        (Method::GET, format!("{others}/pods")),
        (Method::POST, format!("{own}/pods")),
        (Method::DELETE, format!("{own}/pods/pear-0")),
        (Method::DELETE, format!("{own}/pods")),
        (Method::POST, format!("{own}/pods/pear-0/exec?command=sh&stdin=true")),
        (Method::POST, format!("{own}/serviceaccounts/default/token")),
        (Method::DELETE, format!("{own}/services/pears")),
        (Method::POST, resources.clone()),
        (Method::DELETE, resources),
        (Method::POST, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings".to_owned()),
        (Method::GET, format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", other.namespace)),
    ] {
        let body = json!({"metadata": {"name": "x"}});
        assert_eq!(answered(&thief, method.clone(), &path, &body).await, 403, "{method} {path}");
    }
    let pods: Api<Pod> = Api::namespaced(thief, &other.namespace);
    let cut = Patch::Merge(json!({"metadata": {"labels": {"kubervisor/traffic": "no"}}}));
    let name = other.names().await[0].clone();
    let refused = pods.patch(&name, &PatchParams::default(), &cut).await.unwrap_err();
    assert!(refused.to_string().contains("forbidden"), "{refused}");
    chart.uninstall().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_token_changes_nothing_of_pods_and_services_but_the_controllers_own_marks() {
    let shop = Shop::open("marks", 0).await;
    shop.bare_pods(1).await;
    let chart = installed(&shop, &[]);
    let thief = chart.client().await;
    let pods: Api<Pod> = Api::namespaced(thief.clone(), &shop.namespace);
    let services: Api<Service> = Api::namespaced(thief, &shop.namespace);
    let on_pod = async |patch: Value| {
        let answer = pods.patch("pear-0", &PatchParams::default(), &Patch::Strategic(patch)).await;
        answer.map(drop).map_err(|error| error.to_string())
    };
    let on_service = async |patch: Value| {
        let answer = services.patch("pears", &PatchParams::default(), &Patch::Merge(patch)).await;
        answer.map(drop).map_err(|error| error.to_string())
    };
    let image = |image: &str| json!({"spec": {"containers": [{"name": "shop", "image": image}]}});
    let refuses =
        |outcome: Result<(), String>| outcome.is_err_and(|said| said.contains("changes nothing of"));
    // Before it acts they are accepted: another one each time.
    let tries = std::sync::atomic::AtomicI64::new(1000);
    let next = || tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let refused = || async { refuses(on_pod(image(&format!("evil:{}", next()))).await) };
    eventually("the policy acts on pods", SOON, refused).await;
    let away = |port: i64| json!({"spec": {"ports": [{"port": port}]}});
    let refused = || async { refuses(on_service(away(next())).await) };
    eventually("the policy acts on Services", SOON, refused).await;
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
    for (patch, why) in [
        (image("evil"), "nothing of a pod"),
        (json!({"spec": {"activeDeadlineSeconds": 1}}), "nothing of a pod"),
        (json!({"metadata": {"finalizers": ["evil/stay"]}}), "nothing of a pod"),
        (json!({"metadata": {"ownerReferences": owner}}), "nothing of a pod"),
        (json!({"metadata": {"labels": {"app": "plums"}}}), "no label of a pod"),
        (json!({"metadata": {"labels": {"app": null}}}), "no label of a pod"),
        (json!({"metadata": {"annotations": {"evil": "yes"}}}), "no annotation of a pod"),
    ] {
        let said = on_pod(patch.clone()).await.unwrap_err();
        assert!(said.contains(why), "{patch}: {said}");
    }
    for (patch, why) in [
        (away(1), "nothing of a Service"),
        (json!({"spec": {"externalIPs": ["203.0.113.7"]}}), "nothing of a Service"),
        (json!({"spec": {"type": "NodePort"}}), "nothing of a Service"),
        (json!({"spec": {"publishNotReadyAddresses": true}}), "nothing of a Service"),
        (json!({"spec": {"selector": {"app": "plums"}}}), "nothing of a selector"),
        (json!({"spec": {"selector": {"app": null}}}), "nothing of a selector"),
        (json!({"spec": {"selector": {"more": "yes"}}}), "nothing of a selector"),
        (json!({"metadata": {"annotations": {"evil": "yes"}}}), "no annotation of a Service"),
    ] {
        let said = on_service(patch.clone()).await.unwrap_err();
        assert!(said.contains(why), "{patch}: {said}");
    }
    // Its own, and other people's, it does not stand in the way of.
    let marks =
        json!({"kubervisor.k8s.io/evidence": "{}", "controller.kubernetes.io/pod-deletion-cost": "-1"});
    on_pod(json!({"metadata": {"labels": {"kubervisor/traffic": "no"}, "annotations": marks}}))
        .await
        .unwrap();
    let mark = json!({"kubervisor.k8s.io/selector-managed-by": "u"});
    let key = json!({"spec": {"selector": {"kubervisor/traffic": null}}, "metadata": {"annotations": mark}});
    on_service(key).await.unwrap();
    shop.mark("pear-0", json!({"app": "plums"}), json!({"evil": "yes"})).await;
    chart.uninstall().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_enforces_the_restricted_standard_takes_its_pods() {
    let shop = Shop::open("restricted", 0).await;
    let chart = installed(&shop, &[]);
    let namespaces: Api<Namespace> = Api::all(shop.client.clone());
    let enforced = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    namespaces.patch(&shop.namespace, &PatchParams::default(), &Patch::Merge(enforced)).await.unwrap();
    let deployments: Api<Deployment> = shop.deployments();
    let name = format!("kubervisor-{}", shop.namespace);
    let template = json!(deployments.get(&name).await.unwrap().spec.unwrap().template);
    let taken = async |template: &Value| {
        let mut pod = template.clone();
        pod["metadata"] = json!({"name": "kubervisor"});
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let answer = shop.pods_api().create(&params, &serde_json::from_value(pod).unwrap()).await;
        answer.map(drop).map_err(|error| error.to_string())
    };
    let mut rootful = template.clone();
    rootful["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = || async { taken(&rootful).await.is_err_and(|said| said.contains("violates PodSecurity")) };
    eventually("the standard is enforced", SOON, refused).await;
    taken(&template).await.unwrap();
    chart.uninstall().await;
}
