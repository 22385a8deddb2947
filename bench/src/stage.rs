//! A real API server that holds the objects, written as people and the controller write them.

use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, Request};
use kube::{Api, Client};
use kubervisor::api::{GROUP, KubervisorService, PLURAL, VERSION};
use kubervisor::cluster::{FIELD_MANAGER, crd::register};
use localcluster::{ADMIN, Cluster, Options};

use crate::objects::{COUNT, NAMESPACES, name, namespace, object, status};

/// The definition is served within a second or two.
const SERVED_WITHIN: Duration = Duration::from_secs(60);
/// Writes at once: more only wait in the API server.
const AT_ONCE: usize = 16;
/// Objects that are weighed: more are in no page of a list.
const WEIGHED: u32 = 500;

/// A cluster with the objects in it.
pub struct Stage {
    /// Gone with the stage.
    pub cluster: Cluster,
    /// JSON of an object as the API server gives it, on the average.
    pub bytes: usize,
}

impl Stage {
    /// Starts the cluster and fills it.
    ///
    /// # Errors
    /// It does not start, or refuses an object.
    pub async fn set() -> anyhow::Result<Self> {
        let cluster = Cluster::start(Options::default()).await?;
        let client = cluster.client(ADMIN)?;
        register(&client).await.context("the kind KubervisorService cannot be registered")?;
        let services: Api<KubervisorService> = Api::all(client.clone());
        localcluster::until("the kind KubervisorService", SERVED_WITHIN, || async {
            let asked = services.list(&ListParams::default().limit(1)).await;
            Ok(asked.map(drop).map_err(|error| error.to_string()))
        })
        .await?;
        for number in 0..NAMESPACES {
            let name = Some(namespace(number));
            let namespace =
                Namespace { metadata: ObjectMeta { name, ..ObjectMeta::default() }, ..Namespace::default() };
            Api::all(client.clone())
                .create(&PostParams::default(), &namespace)
                .await
                .context("a namespace is refused")?;
        }
        let writes = stream::iter((0..COUNT).map(|number| write(client.clone(), number)));
        let () = writes.buffer_unordered(AT_ONCE).try_collect().await?;
        let bytes = weigh(&client).await?;
        Ok(Self { cluster, bytes })
    }
}

async fn write(client: Client, number: usize) -> anyhow::Result<()> {
    let (name, namespace) = (name(number), namespace(number));
    let api: Api<KubervisorService> = Api::namespaced(client, &namespace);
    let refused = || format!("the API server refuses KubervisorService {namespace}/{name}");
    let by = |writer: &str| PatchParams { field_manager: Some(writer.into()), ..PatchParams::default() };
    let object = object(number);
    api.patch(&name, &by("helm").force(), &Patch::Apply(&object)).await.with_context(refused)?;
    let status = serde_json::json!({ "status": status(number) });
    api.patch_status(&name, &by(FIELD_MANAGER), &Patch::Merge(&status)).await.with_context(refused)?;
    Ok(())
}

/// As whoever lists them gets them: with what the server adds.
async fn weigh(client: &Client) -> anyhow::Result<usize> {
    let path = format!("/apis/{GROUP}/{VERSION}/{PLURAL}");
    let request = Request::new(path).list(&ListParams::default().limit(WEIGHED))?;
    let page = client.request_text(request).await.context("the objects cannot be listed")?;
    Ok(page.len() / usize::try_from(WEIGHED)?)
}
