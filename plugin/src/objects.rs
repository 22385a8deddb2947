//! KubervisorServices as the server has them: fields that this program does not know stay.

use kube::Client;
use kube::api::{ListParams, Request};
use kube::core::{ApiResource, GroupVersionKind};
use kubervisor::api::{GROUP, PLURAL, VERSION};
use serde_json::{Value, json};

use crate::fail::{Ask, RESOURCE, Refused, code, unknown};
use crate::reach::Cluster;

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
    let namespace = Some(cluster.namespace.as_str());
    let ask = Ask { verb: "get", resource: RESOURCE, name: wanted, namespace };
    // A name goes into a path.
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
    let all = list(&cluster.client, scope, selector).await?;
    if names.is_empty() {
        return Ok(Found { objects: all, missing: Vec::new() });
    }
    let missing = names.iter().filter(|wanted| !all.iter().any(|object| name(object) == **wanted));
    let missing = missing.map(|wanted| unknown(RESOURCE, wanted, all.iter().map(name))).collect();
    let of = |wanted: &String| all.iter().find(|object| name(object) == wanted).cloned();
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
