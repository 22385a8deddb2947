//! The chart of this repository, installed by helm.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Output};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use localcluster::Cluster;
use serde_json::{Value, json};

use super::controller::ControllerArgs;
use super::{SOON, Shop};

/// Group, resource with its subresource, verb.
pub type Right = (String, String, String);

/// A release in the namespace of a shop, gone with [`Chart::uninstall`] or [`Chart::remove`].
pub struct Chart<'a> {
    shop: &'a Shop,
    /// As the audit log has the ServiceAccount.
    pub user: String,
}

/// The release and everything of it has this name: the charts of two tests in one cluster do not meet.
fn release(shop: &Shop) -> String {
    format!("kubervisor-{}", shop.namespace)
}

/// Once no policy of a cluster has the Lease as its parameter any more, an API server sees no change of any Lease until
/// it starts anew (kubernetes issue 130887). Here charts come and go: this one stays, and is about nothing.
fn keep_leases_watched(cluster: &Cluster) {
    let name = "leases-are-watched";
    let both = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "paramKind": {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"},
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["nobody.invalid"], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["nothing"],
                }]},
                "validations": [{"expression": "true"}],
            },
        },
        {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "paramRef": {"name": name, "namespace": "default", "parameterNotFoundAction": "Allow"},
            },
        },
    ]});
    // By the server: two tests at once would both find nothing and both create.
    let words = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    let applied = cluster.kubectl("admin", &words, Some(&both.to_string())).unwrap();
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
}

/// Of this repository, in which the plugin's tests have a folder of their own.
pub fn folder() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let charts = own.ancestors().map(|folder| folder.join("charts/kubervisor"));
    charts.into_iter().find(|chart| chart.is_dir()).expect("the chart of this repository")
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
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
    /// Installs it with these values. Nothing here runs the pods of its Deployment: see [`Chart::controller`].
    pub fn install(shop: &'a Shop, values: &[&str]) -> Self {
        keep_leases_watched(shop.cluster);
        Self::install_alone(shop, values)
    }

    /// The same where no other policy has a Lease as its parameter.
    pub fn install_alone(shop: &'a Shop, values: &[&str]) -> Self {
        let name = release(shop);
        let chart = Self { shop, user: format!("system:serviceaccount:{}:{name}", shop.namespace) };
        helm(shop.cluster, &borrowed(&chart.upgrade_words(values)));
        chart
    }

    fn upgrade_words(&self, values: &[&str]) -> Vec<String> {
        let chart = folder().display().to_string();
        let words = ["upgrade", "--install", &self.name(), &chart, "--namespace", &self.shop.namespace];
        let mut words = words.map(str::to_owned).to_vec();
        // The definition is there from the other tests, as where a controller registered it before the chart came.
        words.extend(["--take-ownership", "--force-conflicts"].map(str::to_owned));
        // Nobody would run its pods, and they stand in the way of whoever counts those of the shop.
        words.push("--set=replicas=0".to_owned());
        words.extend(values.iter().map(|value| format!("--set={value}")));
        words
    }

    /// Its name and that of everything of it.
    pub fn name(&self) -> String {
        release(self.shop)
    }

    /// Upgrades it to these values and to nothing else.
    pub async fn upgrade(&self, values: &[&str]) -> Output {
        self.run(self.upgrade_words(values)).await
    }

    /// `helm rollback` to the revision before.
    pub async fn roll_back(&self) -> Output {
        self.run(["rollback", &self.name(), "--namespace", &self.shop.namespace].map(str::to_owned).to_vec())
            .await
    }

    /// `helm uninstall`, with these words behind.
    pub async fn helm_uninstall(&self, more: &[&str]) -> Output {
        let words = ["uninstall", &self.name(), "--namespace", &self.shop.namespace];
        self.run([&words, more].concat().into_iter().map(str::to_owned).collect()).await
    }

    /// While helm waits, others go on.
    async fn run(&self, words: Vec<String>) -> Output {
        let cluster = self.shop.cluster;
        tokio::task::spawn_blocking(move || cluster.helm("admin", &borrowed(&words)).unwrap()).await.unwrap()
    }

    /// `helm uninstall`, whose hook is carried out; gives what that one said.
    pub async fn uninstall(&self) -> String {
        let (output, (succeeded, said)) = tokio::join!(self.helm_uninstall(&[]), self.play("release"));
        assert!(succeeded, "{said}");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// Takes it away where nothing is cut.
    pub async fn remove(self) {
        let output = self.helm_uninstall(&["--no-hooks"]).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Does what a kubelet would do with the pod of this Job: runs the program with its arguments and the token of its
    /// ServiceAccount, and reports how it ended; gives that, and what it said.
    pub async fn play(&self, job: &str) -> (bool, String) {
        let job = format!("{}-{job}", self.name());
        let labels = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
        let born = async || {
            let pods = self.shop.pods_api().list(&labels).await.unwrap().items;
            let waits = |pod: &Pod| pod.status.as_ref().is_none_or(|s| s.phase.as_deref() == Some("Pending"));
            Ok(pods.into_iter().find(waits).ok_or("no pod of it waits".to_owned()))
        };
        let pod = localcluster::until(&format!("Job {job}"), SOON, born).await.unwrap();
        let (name, spec) = (pod.name_any(), pod.spec.unwrap());
        let account = spec.service_account_name.unwrap();
        let token = self.shop.cluster.service_account_token(&self.shop.namespace, &account).await.unwrap();
        let kubeconfig = self.shop.cluster.kubeconfig_with_token(&name, &token, None).unwrap();
        let mut command = Command::new(super::program("kubervisor"));
        command.args(spec.containers[0].args.clone().unwrap()).env("KUBECONFIG", kubeconfig);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
        let phase = if output.status.success() { "Succeeded" } else { "Failed" };
        let patch = Patch::Merge(json!({"status": {"phase": phase}}));
        self.shop.pods_api().patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What is there of it, as kubectl names it.
    pub async fn left(&self) -> String {
        let mut kinds =
            "deployments,jobs,pods,services,serviceaccounts,poddisruptionbudgets,roles,rolebindings,\
            clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings"
                .to_owned();
        if self.shop.labels_at_birth().await {
            kinds += ",mutatingadmissionpolicies,mutatingadmissionpolicybindings";
        }
        let labels = format!("app.kubernetes.io/instance={}", self.name());
        let words = ["get", &kinds, "--all-namespaces", "--selector", &labels, "--output=name"];
        let output = self.shop.cluster.kubectl("admin", &words, None).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
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
        ControllerArgs { kubeconfig, args: ControllerArgs::ours(&words) }
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

    /// What helm has installed.
    pub fn objects(&self) -> Vec<Value> {
        let text = helm(
            self.shop.cluster,
            &["get", "manifest", &release(self.shop), "--namespace", &self.shop.namespace],
        );
        objects(&text)
    }

    /// The rights of every role that is bound to its ServiceAccount.
    pub fn granted(&self) -> BTreeSet<Right> {
        let rules = self.objects().into_iter().filter_map(|mut object| match object["kind"].as_str() {
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

/// What helm has rendered.
pub fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    documents.map(|document| <Value as serde::Deserialize>::deserialize(document).unwrap()).collect()
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
