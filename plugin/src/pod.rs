//! One pod as the server has it: what its label and a person say of it, and the writes that change that.

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{GetParams, ListParams, Patch, Request};
use kubervisor::api::{TrafficLabel, key};
use serde_json::{Value, json};

use crate::args::TryArgs;
use crate::fail::{Ask, Refused, code, unknown};
use crate::objects::{bare, name, text};
use crate::reach::Cluster;

/// Kinds that may stand before a pod's name.
pub const KINDS: [&str; 3] = ["pod", "pods", "po"];

/// What a person said of it.
#[must_use]
pub fn word(pod: &Value) -> Option<&str> {
    let annotations = pod.pointer("/metadata/annotations")?;
    annotations.get(key::OVERRIDE).and_then(Value::as_str)
}

/// Its traffic label.
#[must_use]
pub fn label(pod: &Value) -> TrafficLabel {
    let labels = pod.pointer("/metadata/labels");
    TrafficLabel::of(labels.and_then(|labels| labels.get(key::TRAFFIC)).and_then(Value::as_str))
}

/// Whether its label keeps it out of traffic.
#[must_use]
pub fn out(pod: &Value) -> bool {
    matches!(label(pod), TrafficLabel::No | TrafficLabel::Pause)
}

/// Writes the word, on this very pod and none that took its name.
///
/// # Errors
/// The server's refusal.
pub async fn say(
    cluster: &Cluster,
    pod: &Value,
    word: Option<&str>,
    only_try: &TryArgs,
) -> anyhow::Result<()> {
    let uid = text(pod, "/metadata/uid");
    let patch = json!({"metadata": {"uid": uid, "annotations": {key::OVERRIDE: word}}});
    write(cluster, name(pod), &patch, only_try).await.map(drop)
}

/// Gives the metadata as they are then.
///
/// # Errors
/// The server's refusal.
pub async fn write(cluster: &Cluster, pod: &str, patch: &Value, only_try: &TryArgs) -> anyhow::Result<Value> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
    let ask = Ask { verb: "patch", resource: "pods", name: pod, namespace: Some(&cluster.namespace) };
    let written = ask.of(api.patch_metadata(pod, &only_try.params(), &Patch::Merge(patch))).await?;
    Ok(serde_json::to_value(written)?)
}

/// A pod by its name, or `pod/NAME`.
///
/// # Errors
/// The server's refusal; for a name that is not there, with the one that may be meant.
pub async fn get(cluster: &Cluster, wanted: &str) -> anyhow::Result<Value> {
    cluster.single()?;
    let wanted = bare(wanted, &KINDS)?;
    let ask = Ask { verb: "get", resource: "pods", name: wanted, namespace: Some(&cluster.namespace) };
    let path = format!("/api/v1/namespaces/{}/pods", cluster.namespace);
    let request = Request::new(path).get(wanted, &GetParams::default())?;
    match ask.of(cluster.client.request(request)).await {
        Err(error) if code(&error) == Some(404) => {
            let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &cluster.namespace);
            // Only to help: without the right to list there is no offer.
            let others =
                api.list_metadata(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
            let names = others.iter().filter_map(|pod| pod.metadata.name.as_deref());
            Err(Refused::not_found(unknown("pods", wanted, names)).into())
        }
        answer => answer,
    }
}
