//! A controller that runs as a ServiceAccount of its own, with exactly the rights that a test gives it.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::controller::ControllerArgs;
use super::{SOON, Shop, eventually};

/// Of every account and of its roles; not that of the chart's.
pub const NAME: &str = "account";

/// Somebody with a token and, at first, no right.
pub struct Account {
    /// As the audit log has it.
    pub user: String,
    token: String,
}

/// The rights that the documentation asks for.
pub fn documented_rules() -> Vec<Value> {
    let text = include_str!("../../../demo/manifests/rights.yaml");
    let role: Value = serde_yaml_ng::from_str(text.split("\n---").next().unwrap()).unwrap();
    role["rules"].as_array().unwrap().clone()
}

/// The same without one verb on one resource.
pub fn documented_rules_without(verb: &str, resource: &str) -> Vec<Value> {
    let mut rules = documented_rules();
    for rule in rules.iter_mut().filter(|rule| rule["resources"] == json!([resource])) {
        rule["verbs"].as_array_mut().unwrap().retain(|has| has != verb);
    }
    rules
}

/// The same without a look at anything: writes, and reads of single objects, are all that is left.
pub fn documented_rules_without_lists() -> Vec<Value> {
    let mut rules = documented_rules();
    for rule in &mut rules {
        rule["verbs"].as_array_mut().unwrap().retain(|verb| verb != "list" && verb != "watch");
    }
    // A rule without a verb is none.
    rules.retain(|rule| rule["verbs"] != json!([]));
    rules
}

impl Shop {
    /// A new ServiceAccount in this namespace.
    pub async fn account(&self) -> Account {
        self.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME}}));
        let token = self.cluster.service_account_token(&self.namespace, NAME).await.unwrap();
        Account { user: format!("system:serviceaccount:{}:{NAME}", self.namespace), token }
    }

    /// Gives the account exactly these rights in this namespace, until the next call; returns when they hold.
    pub async fn allow(&self, account: &Account, rules: &[Value]) {
        self.bind("Role", NAME, rules);
        self.holds(account, rules, Some(&self.namespace)).await;
    }

    /// The same in every namespace.
    pub async fn allow_everywhere(&self, account: &Account, rules: &[Value]) {
        self.bind("ClusterRole", &self.namespace, rules);
        self.holds(account, rules, None).await;
    }

    /// Arguments that start the controller as this account, whose kubeconfig is for this namespace.
    pub fn controller_as(&self, account: &Account, args: &[&str]) -> ControllerArgs {
        let file = format!("account-{}", self.namespace);
        let kubeconfig = self.cluster.kubeconfig_with_token(&file, &account.token, None).unwrap();
        let text = std::fs::read_to_string(&kubeconfig).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["contexts"][0]["context"]["namespace"] = json!(self.namespace);
        std::fs::write(&kubeconfig, config.to_string()).unwrap();
        ControllerArgs { kubeconfig, args: args.iter().map(|&arg| arg.to_owned()).collect() }
    }

    fn bind(&self, kind: &str, name: &str, rules: &[Value]) {
        let api = "rbac.authorization.k8s.io/v1";
        let subject = json!({"kind": "ServiceAccount", "name": NAME, "namespace": self.namespace});
        let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        self.apply(&json!({"apiVersion": api, "kind": kind, "metadata": {"name": name}, "rules": rules}));
        self.apply(&json!({
            "apiVersion": api, "kind": format!("{kind}Binding"), "metadata": {"name": name},
            "roleRef": role, "subjects": [subject],
        }));
    }

    /// The API server learns of its own roles by a watch: until then it answers by the old ones.
    async fn holds(&self, account: &Account, rules: &[Value], namespace: Option<&str>) {
        let patches = rules.iter().any(|rule| {
            rule["resources"] == json!(["pods"])
                && rule["verbs"].as_array().unwrap().contains(&json!("patch"))
        });
        let attributes =
            json!({"verb": "patch", "resource": "pods", "version": "v1", "namespace": namespace});
        let review =
            json!({"spec": {"user": account.user, "resourceAttributes": attributes}, "metadata": {}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        eventually("the rights hold", SOON, || async {
            let answer = api.create(&PostParams::default(), &review).await.unwrap();
            answer.status.unwrap().allowed == patches
        })
        .await;
    }
}
