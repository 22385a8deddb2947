//! What the chart gives a controller: the flags of its Deployment, and a ServiceAccount with the Roles that helm renders and
//! no other right.
//!
//! Rendered once for the whole binary, then made in the namespace of each shop: helm would take seconds for each. What is for
//! the cluster, the definition and the admission policies, is left out: `cases::chart` and its like install that too.

use std::sync::OnceLock;

use futures::future::join_all;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use localcluster::Cluster;
use serde_json::{Value, json};

use super::chart::{folder, helm, objects};
use super::controller::ControllerArgs;
use super::{SOON, Shop, eventually};

/// Stands for the namespace of a shop in what is rendered.
const HERE: &str = "namespace-of-the-shop";
/// Of the release, and so of everything that it has.
const NAME: &str = "kubervisor";
/// Most tests look at what one small service may do by itself.
const VALUES: [&str; 2] = ["--set=crds.install=false", "--set=maxCutsPerMinute=1000"];

/// A controller's ServiceAccount in the namespace of a shop.
pub struct Installed {
    /// As the audit log has it.
    pub user: String,
    token: String,
}

fn rendered(cluster: &Cluster) -> &'static [Value] {
    static RENDERED: OnceLock<Vec<Value>> = OnceLock::new();
    RENDERED.get_or_init(|| {
        let (chart, scope) = (folder(), format!("--set=scope.namespaces={{{HERE}}}"));
        let words = ["template", NAME, chart.to_str().unwrap(), "--namespace", HERE, &scope];
        objects(&helm(cluster, &[&words, &VALUES[..]].concat()))
    })
}

/// Those that give rights, as they are for this namespace.
fn rights(cluster: &Cluster, namespace: &str) -> Vec<Value> {
    let kinds = ["ServiceAccount", "Role", "RoleBinding"];
    let text = |object: &&Value| serde_json::from_str(&object.to_string().replace(HERE, namespace)).unwrap();
    rendered(cluster)
        .iter()
        .filter(|o| kinds.iter().any(|kind| o["kind"] == *kind))
        .map(|o| text(&o))
        .collect()
}

/// Two shops may give rights in one namespace: there each has its own.
fn renamed(mut object: Value, name: &str) -> Value {
    object["metadata"]["name"] = json!(name);
    if object["roleRef"].is_object() {
        object["roleRef"]["name"] = json!(name);
    }
    object
}

async fn apply(client: &Client, object: &Value) {
    let (group, version) = match object["apiVersion"].as_str().unwrap().split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", object["apiVersion"].as_str().unwrap()),
    };
    let kind = GroupVersionKind::gvk(group, version, object["kind"].as_str().unwrap());
    let namespace = object["metadata"]["namespace"].as_str().unwrap();
    let api: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk(&kind));
    let name = object["metadata"]["name"].as_str().unwrap();
    api.patch(name, &PatchParams::apply("helm").force(), &Patch::Apply(object)).await.unwrap();
}

impl Installed {
    /// For the controllers of this namespace; its rights hold when this returns.
    pub async fn here(cluster: &Cluster, client: &Client, namespace: &str) -> Self {
        let objects = rights(cluster, namespace);
        assert_eq!(objects.len(), 7, "one account, three roles, three bindings");
        join_all(objects.iter().map(|object| apply(client, object))).await;
        let token = cluster.service_account_token(namespace, NAME).await.unwrap();
        let this = Self { user: format!("system:serviceaccount:{namespace}:{NAME}"), token };
        this.holds(client, &json!({"verb": "patch", "resource": "pods", "namespace": namespace})).await;
        let lease = json!({"verb": "patch", "group": "coordination.k8s.io", "resource": "leases", "name": NAME,
            "namespace": namespace});
        this.holds(client, &lease).await;
        this
    }

    /// The API server learns of its own roles by a watch: until then it answers by the old ones.
    async fn holds(&self, client: &Client, right: &Value) {
        let review = json!({"metadata": {}, "spec": {"user": self.user, "resourceAttributes": right}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let api: Api<SubjectAccessReview> = Api::all(client.clone());
        eventually("the rights hold", SOON, || async {
            api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
        })
        .await;
    }
}

impl Shop {
    /// Arguments that start the controller for this namespace, with the chart's flags and rights.
    pub fn controller(&self) -> ControllerArgs {
        self.controller_at(None)
    }

    /// The same behind a fault proxy.
    pub fn controller_at(&self, server: Option<&str>) -> ControllerArgs {
        let deployment = rendered(self.cluster).iter().find(|object| object["kind"] == "Deployment").unwrap();
        let words = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
        let words: Vec<String> = serde_json::from_value(words.clone()).unwrap();
        let file = format!("controller-{}", self.namespace);
        let token = &self.installed.token;
        ControllerArgs {
            kubeconfig: self.cluster.kubeconfig_with_token(&file, token, server).unwrap(),
            args: ControllerArgs::ours(&words)
                .iter()
                .map(|word| word.replace(HERE, &self.namespace))
                .collect(),
        }
    }

    /// The same for another shop's namespace too, as where the chart's scope has both.
    pub async fn controller_here_and_in(&self, other: &Shop) -> ControllerArgs {
        let name = format!("{NAME}-{}", self.namespace);
        for object in rights(self.cluster, &self.namespace) {
            if object["metadata"]["name"] == NAME && object["kind"] != "ServiceAccount" {
                let mut there = renamed(object, &name);
                there["metadata"]["namespace"] = json!(other.namespace);
                apply(&self.client, &there).await;
            }
        }
        let right = json!({"verb": "patch", "resource": "pods", "namespace": other.namespace});
        self.installed.holds(&self.client, &right).await;
        let mut args = self.controller();
        args.args.push(format!("--namespace={}", other.namespace));
        args
    }

    /// The controller's user, as the audit log has it.
    pub fn controller_user(&self) -> &str {
        &self.installed.user
    }
}
