//! KubervisorServices as the server has them: fields that this program does not know stay.

use kube::Client;
use kube::api::{ListParams, Request};
use kube::core::{ApiResource, GroupVersionKind};
use kubervisor::api::{GROUP, PLURAL, VERSION};
use serde_json::{Value, json};

use crate::fail::{Ask, RESOURCE, Refused, code, unknown};
use crate::reach::Cluster;

/// Kinds that may stand before the name of one.
pub const KINDS: [&str; 6] = [
    "kubervisorservice",
    "kubervisorservices",
    "kvs",
    "rdc",
    "kubervisorservice.kubervisor.k8s.io",
    "kubervisorservices.kubervisor.k8s.io",
];
/// Of a name, by the API server's own rule.
const NAME_MAX: usize = 253;
/// Objects asked for at a time, as kubectl does.
const PAGE: u32 = 500;

/// For calls with objects of any shape.
#[must_use]
pub fn kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, "KubervisorService"), PLURAL)
}

/// The path of their list.
#[must_use]
pub fn path(namespace: Option<&str>) -> String {
    let within = namespace.map(|namespace| format!("/namespaces/{namespace}")).unwrap_or_default();
    format!("/apis/{GROUP}/{VERSION}{within}/{PLURAL}")
}

/// A text in an object, by the path to it.
#[must_use]
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Its name.
#[must_use]
pub fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

/// Its namespace.
#[must_use]
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// All of them, in the server's order: by namespace and name.
///
/// # Errors
/// The server's refusal.
pub async fn list(
    client: &Client,
    scope: Option<&str>,
    selector: Option<&str>,
) -> anyhow::Result<Vec<Value>> {
    let mut params = ListParams::default().limit(PAGE);
    if let Some(selector) = selector {
        params = params.labels(selector);
    }
    pages(client, Ask { verb: "list", resource: RESOURCE, name: "", namespace: scope }, &path(scope), params)
        .await
}

/// Every object at a path, page by page, as kubectl prints it.
///
/// # Errors
/// The server's refusal.
pub async fn pages(
    client: &Client,
    ask: Ask<'_>,
    path: &str,
    mut params: ListParams,
) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    loop {
        let request = Request::new(path).list(&params)?;
        let mut page: Value = ask.of(client.request(request)).await?;
        if let Some(Value::Array(mut items)) = page.get_mut("items").map(Value::take) {
            // Half of each object, which nobody reads in a list.
            items.iter_mut().for_each(strip);
            found.extend(items);
        }
        match text(&page, "/metadata/continue") {
            "" => return Ok(found),
            token => params = params.continue_token(token),
        }
    }
}

/// One of them.
///
/// # Errors
/// The server's refusal; for a name that is not there, with the one that may be meant.
pub async fn one(cluster: &Cluster, wanted: &str) -> anyhow::Result<Value> {
    cluster.single()?;
    let wanted = bare_name(wanted)?;
    let namespace = Some(cluster.namespace.as_str());
    let ask = Ask { verb: "get", resource: RESOURCE, name: wanted, namespace };
    let request = Request::new(path(namespace)).get(wanted, &kube::api::GetParams::default())?;
    match ask.of(cluster.client.request(request)).await {
        Err(error) if code(&error) == Some(404) && !error.to_string().contains("not installed") => {
            // Only to help: without the right to list there is no offer.
            let others = list(&cluster.client, namespace, None).await.unwrap_or_default();
            Err(Refused::not_found(unknown(RESOURCE, wanted, others.iter().map(name))).into())
        }
        answer => answer,
    }
}

/// The name in `NAME` or `KIND/NAME`, as `kubectl get -o name` prints it. Names go into paths: one with a slash would
/// write to another place than it says.
///
/// # Errors
/// It is no name.
pub fn bare<'a>(given: &'a str, kinds: &[&str]) -> anyhow::Result<&'a str> {
    let name = match given.split_once('/') {
        Some((kind, name)) if kinds.iter().any(|known| kind.eq_ignore_ascii_case(known)) => name,
        _ => given,
    };
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    anyhow::ensure!(
        name.starts_with(inner)
            && name.ends_with(inner)
            && name.chars().all(|c| inner(c) || c == '-' || c == '.')
            && name.len() <= NAME_MAX,
        "{given:?} is not the name of a {}: one has small letters, digits, '-' and '.' only, and begins and ends with a \
         letter or a digit",
        kinds.first().copied().unwrap_or_default()
    );
    Ok(name)
}

/// The same, of a KubervisorService.
///
/// # Errors
/// It is no name.
pub fn bare_name(given: &str) -> anyhow::Result<&str> {
    bare(given, &KINDS)
}

/// What was found, and a sentence for each name that was not.
pub struct Found {
    /// In the order of the names, or the server's.
    pub objects: Vec<Value>,
    /// Sentences.
    pub missing: Vec<String>,
}

impl Found {
    /// The failure that names what is missing, if anything is.
    ///
    /// # Errors
    /// Anything is.
    pub fn whole(&self) -> anyhow::Result<()> {
        if self.missing.is_empty() { Ok(()) } else { Err(Refused::not_found(self.missing.join("\n")).into()) }
    }
}

/// Those of these names, or all. One call, however many they are.
///
/// # Errors
/// The server's refusal; names across all namespaces.
pub async fn find(cluster: &Cluster, names: &[String], selector: Option<&str>) -> anyhow::Result<Found> {
    let scope = cluster.scope.as_deref();
    if !names.is_empty() {
        cluster.single()?;
    }
    anyhow::ensure!(
        names.is_empty() || selector.is_none(),
        "name cannot be provided when a selector is specified: leave out -l, or the names"
    );
    if let [wanted] = names {
        return Ok(Found { objects: vec![one(cluster, wanted).await?], missing: Vec::new() });
    }
    let names: Vec<_> = names.iter().map(|given| bare_name(given)).collect::<anyhow::Result<_>>()?;
    let all = list(&cluster.client, scope, selector).await?;
    if names.is_empty() {
        return Ok(Found { objects: all, missing: Vec::new() });
    }
    let missing = names.iter().filter(|wanted| !all.iter().any(|object| name(object) == **wanted));
    let missing = missing.map(|wanted| unknown(RESOURCE, wanted, all.iter().map(name))).collect();
    let of = |wanted: &&str| all.iter().find(|object| name(object) == *wanted).cloned();
    Ok(Found { objects: names.iter().filter_map(of).collect(), missing })
}

/// Without what only the server and its writers use, as kubectl prints it.
pub fn strip(object: &mut Value) {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("managedFields");
    }
}

/// Several as one, in kubectl's form.
#[must_use]
pub fn as_list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_stand_behind_its_kind_and_what_leads_elsewhere_is_none() {
        for given in
            ["web", "kvs/web", "KubervisorService/web", "kubervisorservice.kubervisor.k8s.io/web", "rdc/web"]
        {
            assert_eq!(bare_name(given).unwrap(), "web", "{given}");
        }
        assert_eq!(bare("pods/web-0.a", &["pod", "pods"]).unwrap(), "web-0.a");
        let long = "a".repeat(NAME_MAX + 1);
        for given in [
            "",
            "kvs/",
            "web/status",
            "kvs/web/status",
            "pod/web",
            "a b",
            "..",
            "web?x=y",
            "web%2fstatus",
            "Web",
            &long,
        ] {
            let refused = bare_name(given).unwrap_err().to_string();
            assert!(refused.contains("is not the name of a kubervisorservice"), "{refused}");
        }
        assert!(
            bare("web/log", &["pod"])
                .unwrap_err()
                .to_string()
                .starts_with("\"web/log\" is not the name of a pod")
        );
    }
}
