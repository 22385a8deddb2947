//! A namespace of its own with a Deployment behind a Service, and a KubervisorService over it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use kubervisor::api::{KubervisorService, crd};
use localcluster::{Cluster, KWOK_NODE};
use serde_json::{Value, json};

use super::controller::sum_of;
use super::installed::Installed;
use super::{Observer, SOON, eventually};

/// The Service, the Deployment and the KubervisorService all have this name.
pub const NAME: &str = "pears";

/// The stage of one test.
pub struct Shop {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
    pub(super) installed: Installed,
}

impl Shop {
    /// A namespace with `replicas` pods that all serve, in the cluster that the tests of this binary share.
    pub async fn open(prefix: &str, replicas: usize) -> Self {
        Self::open_in(Cluster::shared_with_kwok(), prefix, replicas).await
    }

    /// The same in a cluster of the test's own, for faults that others would feel.
    pub async fn open_in(cluster: &'static Cluster, prefix: &str, replicas: usize) -> Self {
        let client = cluster.client("admin").unwrap();
        serve_crd(&client).await;
        let namespace = cluster.new_namespace(&client, prefix).await.unwrap();
        let installed = Installed::here(cluster, &client, &namespace).await;
        let shop = Self { cluster, client, namespace, installed };
        shop.create_service(NAME, &json!({"app": NAME, "kubervisor/traffic": "yes"})).await;
        shop.create_deployment(replicas).await;
        shop.serves(replicas).await;
        shop
    }

    pub fn pods_api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn resources(&self) -> Api<KubervisorService> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn create_service(&self, name: &str, selector: &Value) {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"selector": selector, "ports": [{"port": 80}]},
        });
        let service = serde_json::from_value(service).unwrap();
        self.services().create(&PostParams::default(), &service).await.unwrap();
    }

    async fn create_deployment(&self, replicas: usize) {
        let labels = json!({"app": NAME, "kubervisor/traffic": "yes"});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": NAME}},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "nodeName": KWOK_NODE,
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{"name": "shop", "image": "none"}],
                }},
            },
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        self.deployments().create(&PostParams::default(), &deployment).await.unwrap();
    }

    /// The sum of all series of the API server's metric `name` whose labels contain every text of `labels`.
    pub async fn server_metric(&self, name: &str, labels: &[&str]) -> f64 {
        let page = http::Request::get("/metrics").body(Vec::new()).unwrap();
        sum_of(&self.client.request_text(page).await.unwrap(), name, labels)
    }

    /// Waits until exactly `count` pods are behind the Service.
    pub async fn serves(&self, count: usize) {
        let observer = self.observer();
        let serve = || async {
            let serving = observer.serving();
            if serving.len() == count {
                return Ok(Ok(()));
            }
            // A pod that no slice names: what it lacks.
            let pods = self.pods().await;
            let others = pods.into_iter().filter(|(name, _)| !serving.contains(name));
            let lacks = others.map(|(_, pod)| (pod.metadata, pod.status.unwrap_or_default()));
            Ok(Err(format!("{serving:?} do; not: {}", json!(lacks.collect::<Vec<_>>()))))
        };
        localcluster::until(&format!("{count} pods serve"), SOON, serve).await.unwrap();
    }

    pub fn observer(&self) -> Observer {
        Observer::start(self.client.clone(), &self.namespace, NAME)
    }

    /// Creates or replaces the KubervisorService's spec; `service` is filled in.
    pub async fn govern(&self, spec: Value) {
        self.govern_as(NAME, spec).await;
    }

    /// The same under another name.
    pub async fn govern_as(&self, name: &str, mut spec: Value) {
        if spec.get("service").is_none() {
            spec["service"] = json!(NAME);
        }
        // In fleets of a few pods two bad ones are most of them: storms have tests of their own, which say their limit.
        if spec["limits"].get("maxAnomalousRatio").is_none() {
            spec["limits"]["maxAnomalousRatio"] = json!(100);
        }
        let object = json!({
            "apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService",
            "metadata": {"name": name}, "spec": spec,
        });
        let params = PatchParams::apply("test").force();
        self.resources().patch(name, &params, &Patch::Apply(&object)).await.unwrap();
    }

    /// The stored status; null before the first.
    pub async fn status(&self) -> Value {
        let object = self.resources().get(NAME).await.unwrap();
        serde_json::to_value(object.status).unwrap()
    }

    /// Status, reason and message of a condition.
    pub async fn condition(&self, type_: &str) -> (String, String, String) {
        let status = self.status().await;
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|c| c["type"] == type_).unwrap_or_default();
        let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    /// Waits until a condition has this status.
    pub async fn becomes(&self, type_: &str, status: &str) {
        let becomes = || async {
            let condition = self.condition(type_).await;
            Ok(if condition.0 == status { Ok(()) } else { Err(format!("{condition:?}")) })
        };
        localcluster::until(&format!("condition {type_} is {status}"), SOON, becomes).await.unwrap();
    }

    /// Waits for the word in the State column.
    pub async fn state_is(&self, state: &str) {
        eventually(&format!("state {state}"), SOON, || async { self.status().await["state"] == state }).await;
    }

    /// All pods that are not going away, by name.
    pub async fn pods(&self) -> BTreeMap<String, Pod> {
        let list = self.pods_api().list(&ListParams::default()).await.unwrap();
        let stays = list.items.into_iter().filter(|p| p.metadata.deletion_timestamp.is_none());
        stays.map(|pod| (pod.name_any(), pod)).collect()
    }

    /// Their names, sorted.
    pub async fn names(&self) -> Vec<String> {
        self.pods().await.into_keys().collect()
    }

    /// Names of pods whose traffic label has this value.
    pub async fn labelled(&self, value: &str) -> Vec<String> {
        let has = |pod: &Pod| pod.labels().get("kubervisor/traffic").is_some_and(|v| v == value);
        self.pods().await.into_iter().filter(|(_, pod)| has(pod)).map(|(name, _)| name).collect()
    }

    /// Waits until exactly these pods are cut.
    pub async fn cut_are(&self, names: &[&str]) {
        self.cut_are_within(SOON, names).await;
    }

    /// Waits longer, or less long, for the same.
    pub async fn cut_are_within(&self, limit: Duration, names: &[&str]) {
        let are = || async {
            let cut = self.labelled("no").await;
            if cut == names {
                return Ok(Ok(()));
            }
            // It may be deleted, and its pods on their way back.
            let resource = self.resources().get_opt(NAME).await.unwrap();
            let conditions = resource.and_then(|resource| resource.status).map(|status| status.conditions);
            let held = conditions.into_iter().flatten().find(|condition| condition.type_ == "Held");
            Ok(Err(format!("{cut:?} are; held: {held:?}")))
        };
        localcluster::until(&format!("cut are {names:?}"), limit, are).await.unwrap();
    }

    /// Sets or, with null, removes labels and annotations of a pod, as a person would.
    pub async fn mark(&self, pod: &str, labels: Value, annotations: Value) {
        let patch = json!({"metadata": {"labels": labels, "annotations": annotations}});
        self.pods_api().patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Replaces the Service's selector.
    pub async fn select(&self, selector: &Value) {
        let mut service = self.services().get(NAME).await.unwrap();
        service.spec.as_mut().unwrap().selector = serde_json::from_value(selector.clone()).unwrap();
        self.services().replace(NAME, &PostParams::default(), &service).await.unwrap();
    }

    /// Replaces what must be done before the KubervisorService may go.
    pub async fn set_finalizers(&self, names: &[&str]) {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": names}}));
        self.resources().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
    }

    pub async fn delete_resource(&self) {
        self.resources().delete(NAME, &DeleteParams::default()).await.unwrap();
    }

    /// Waits for an Event of this reason whose note contains this text.
    pub async fn told(&self, reason: &str, text: &str) {
        let what = format!("an Event {reason} with {text:?}");
        let found =
            || async { self.events().await.iter().any(|(r, note)| r == reason && note.contains(text)) };
        eventually(&what, SOON, found).await;
    }

    /// Reasons and notes of all Events about this namespace's objects.
    pub async fn events(&self) -> Vec<(String, String)> {
        let api: Api<k8s_openapi::api::events::v1::Event> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let list = api.list(&ListParams::default()).await.unwrap();
        let text = |event: k8s_openapi::api::events::v1::Event| {
            (event.reason.unwrap_or_default(), event.note.unwrap_or_default())
        };
        list.items.into_iter().map(text).collect()
    }
}

/// Registers the definition once; the controller under test may do it again.
pub async fn serve_crd(client: &Client) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("kubervisor").force();
    let crd = crd();
    api.patch(&crd.name_any(), &params, &Patch::Apply(&crd)).await.unwrap();
    let served: Api<KubervisorService> = Api::all(client.clone());
    let asked = || async { served.list(&ListParams::default().limit(1)).await.is_ok() };
    eventually("the kind is served", SOON, asked).await;
}

/// A breaker of that name with these fields beside it, evaluated every second; each answer is new, and the first bad
/// one is enough for a cut.
pub fn breaker(name: &str, fields: &Value) -> Value {
    let mut breaker = json!({
        "name": name, "evaluationPeriod": 1, "scrapeInterval": 0, "confirm": {"anomalous": 1, "of": 1},
    });
    for (field, value) in fields.as_object().unwrap() {
        breaker[field] = value.clone();
    }
    breaker
}

/// A breaker that asks a custom service: each answer is new, and a cut lasts one period.
pub fn custom_breaker(name: &str, source: &super::FakeSource) -> Value {
    breaker(name, &json!({"customService": source.custom()}))
}

/// A breaker over codes, asking the fake Prometheus.
pub fn discrete_breaker(name: &str, source: &super::FakeSource) -> Value {
    breaker(
        name,
        &json!({"discreteValueOutOfList": {
            "prometheusService": source.prometheus(),
            "promQL": "sum by (code, namespace, pod) (increase(http_requests_total[1s]))",
            "key": "code", "podNamekey": "pod", "goodValues": ["200"],
        }}),
    )
}
