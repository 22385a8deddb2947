//! Manifests in the form of the original, as every client sends them.

use kube::api::{DeleteParams, DynamicObject, PostParams};
use kube::{Api, CustomResourceExt, ResourceExt};
use kubervisor::api::KubervisorService;
use serde_json::{Value, json};

use crate::harness::Shop;

const MANIFESTS: [&str; 4] = [
    include_str!("../../fixtures/original/bakery.yaml"),
    include_str!("../../fixtures/original/quarry.yaml"),
    include_str!("../../fixtures/original/ferry.yaml"),
    include_str!("../../fixtures/original/lighthouse.json"),
];

/// As people would have to: the fixtures name namespaces of their own.
fn moved(manifest: &str, namespace: &str) -> Value {
    let mut object: Value = serde_yaml_ng::from_str(manifest).unwrap();
    object["metadata"]["namespace"] = json!(namespace);
    object
}

fn kubectl(shop: &Shop, words: &[&str], manifest: &Value) {
    let words = [words, &["-f", "-"]].concat();
    let done = shop.cluster.kubectl("admin", &words, Some(&manifest.to_string())).unwrap();
    assert!(done.status.success(), "{words:?} {manifest}: {}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_manifests_of_the_original_from_its_side_and_from_the_servers() {
    let shop = Shop::open("originals-apply", 1).await;
    for manifest in MANIFESTS {
        let object = moved(manifest, &shop.namespace);
        kubectl(&shop, &["apply", "--server-side"], &object);
        kubectl(&shop, &["delete"], &object);
        kubectl(&shop, &["apply"], &object);
        kubectl(&shop, &["apply", "--server-side", "--force-conflicts"], &object);
        kubectl(&shop, &["apply"], &object);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_and_a_put_with_explicit_nulls_are_accepted_and_mean_the_same() {
    let shop = Shop::open("originals-put", 1).await;
    let kind = KubervisorService::api_resource();
    let api: Api<DynamicObject> = Api::namespaced_with(shop.client.clone(), &shop.namespace, &kind);
    for manifest in MANIFESTS {
        let object = moved(manifest, &shop.namespace);
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let created = api.create(&PostParams::default(), &object).await.unwrap();
        let mut again = object.clone();
        again.metadata.resource_version = created.resource_version();
        let replaced = api.replace(&object.name_any(), &PostParams::default(), &again).await.unwrap();
        let parsed = |spec: &Value| {
            kubervisor::api::parse(spec, &shop.namespace, &kubervisor::api::Defaults::default()).unwrap()
        };
        assert_eq!(parsed(&replaced.data["spec"]), parsed(&object.data["spec"]));
        api.delete(&object.name_any(), &DeleteParams::default()).await.unwrap();
    }
}
