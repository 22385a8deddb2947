//! The chart of this repository, installed by helm.

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use localcluster::Cluster;
use serde_json::Value;

use super::Shop;
use super::controller::ControllerArgs;

/// Group, resource with its subresource, verb.
pub type Right = (String, String, String);

/// A release in the namespace of a shop, gone with [`Chart::uninstall`].
pub struct Chart<'a> {
    shop: &'a Shop,
    /// As the audit log has the ServiceAccount.
    pub user: String,
}

/// The release and everything of it has this name: the charts of two tests in one cluster do not meet.
fn release(shop: &Shop) -> String {
    format!("kubervisor-{}", shop.namespace)
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("charts/kubervisor")
}

/// Runs helm as the admin; gives what it wrote.
///
/// # Panics
/// When it fails, with what it said.
pub fn helm(cluster: &Cluster, args: &[&str]) -> String {
    let output = cluster.helm("admin", args).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm {}: {said}", args.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl<'a> Chart<'a> {
    /// Installs or upgrades it with these values. Nothing here runs the pods of its Deployment: see [`Chart::controller`].
    pub fn install(shop: &'a Shop, values: &[&str]) -> Self {
        let (name, chart) = (release(shop), folder());
        let mut args =
            vec!["upgrade", "--install", &name, chart.to_str().unwrap(), "--namespace", &shop.namespace];
        // The definition is there from the other tests, as where a controller registered it before the chart came.
        args.extend(["--take-ownership", "--force-conflicts"]);
        // Nobody would run its pods, and they stand in the way of whoever counts those of the shop.
        args.push("--set=replicas=0");
        let values: Vec<_> = values.iter().map(|value| format!("--set={value}")).collect();
        args.extend(values.iter().map(String::as_str));
        helm(shop.cluster, &args);
        Self { shop, user: format!("system:serviceaccount:{}:{name}", shop.namespace) }
    }

    pub fn uninstall(self) {
        helm(self.shop.cluster, &["uninstall", &release(self.shop), "--namespace", &self.shop.namespace]);
    }

    /// What the Deployment's pods would run, with the token of the ServiceAccount and nothing else.
    pub async fn controller(&self, server: Option<&str>) -> ControllerArgs {
        let (cluster, namespace) = (self.shop.cluster, &self.shop.namespace);
        let token = cluster.service_account_token(namespace, &release(self.shop)).await.unwrap();
        let file = format!("chart-{namespace}");
        let kubeconfig = cluster.kubeconfig_with_token(&file, &token, server).unwrap();
        let api: Api<Deployment> = Api::namespaced(self.shop.client.clone(), namespace);
        let pod = api.get(&release(self.shop)).await.unwrap().spec.unwrap().template.spec.unwrap();
        let words = pod.containers[0].args.clone().unwrap();
        assert_eq!(words[0], "run");
        // Two controllers on this machine cannot share a port, and their log is read by people here.
        let ours = |word: &&String| !word.starts_with("--http-addr") && !word.starts_with("--log-format");
        ControllerArgs { kubeconfig, args: words[1..].iter().filter(ours).cloned().collect() }
    }

    /// Somebody with the token of the ServiceAccount.
    pub async fn client(&self) -> Client {
        let name = release(self.shop);
        let token = self.shop.cluster.service_account_token(&self.shop.namespace, &name).await.unwrap();
        Client::try_from(self.shop.cluster.config_with_token(&token)).unwrap()
    }

    pub async fn lease(&self) -> Lease {
        let api: Api<Lease> = Api::namespaced(self.shop.client.clone(), &self.shop.namespace);
        api.get(&release(self.shop)).await.unwrap()
    }

    /// The rights of every role that is bound to its ServiceAccount.
    pub fn granted(&self) -> BTreeSet<Right> {
        let text = helm(
            self.shop.cluster,
            &["get", "manifest", &release(self.shop), "--namespace", &self.shop.namespace],
        );
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        let objects = documents.map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap());
        let rules = objects.filter_map(|mut object| match object["kind"].as_str() {
            Some("Role" | "ClusterRole") => serde_json::from_value::<Vec<Value>>(object["rules"].take()).ok(),
            _ => None,
        });
        rules.flatten().flat_map(|rule| rights(&rule)).collect()
    }

    /// The rights that it has used.
    pub async fn used(&self) -> BTreeSet<Right> {
        used(self.shop.cluster, &self.user).await
    }
}

/// What this user has asked for, but what he may do, which everybody may ask.
pub async fn used(cluster: &Cluster, user: &str) -> BTreeSet<Right> {
    let audit = cluster.audit();
    audit.settle().await.unwrap();
    let records = audit.all_by(user, Timestamp::UNIX_EPOCH).unwrap();
    let counts = records.into_iter().filter(|r| !r.resource.is_empty() && r.group != "authorization.k8s.io");
    let name =
        |resource: String, sub: &str| if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
    counts.map(|r| (r.group, name(r.resource, &r.subresource), r.verb)).collect()
}

/// Of one rule of a role.
pub fn rights(rule: &Value) -> Vec<Right> {
    let texts = |field: &str| -> Vec<String> { serde_json::from_value(rule[field].clone()).unwrap() };
    let mut rights = Vec::new();
    for group in texts("apiGroups") {
        for resource in texts("resources") {
            rights.extend(texts("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
        }
    }
    rights
}
