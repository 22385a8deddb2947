//! Secrets, read one by one with a GET: nothing is listed or watched, so that the right to one Secret is enough.

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1;
use kube::{Api, Client};

use super::{CallError, call};
use crate::sources::{AUTH_LABEL, HOST_ANNOTATION, Secret, Secrets, Unread};

/// The Secrets of a cluster.
pub struct ClusterSecrets(Client);

impl ClusterSecrets {
    /// As this client may read them.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Secrets for ClusterSecrets {
    fn read<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Secret, Unread>> {
        async move {
            let api: Api<v1::Secret> = Api::namespaced(self.0.clone(), namespace);
            call(api.get(name)).await.map(slim).map_err(|error| unread(&error))
        }
        .boxed()
    }
}

fn slim(secret: v1::Secret) -> Secret {
    let label = secret.metadata.labels.unwrap_or_default().remove(AUTH_LABEL);
    Secret {
        allowed: label.as_deref() == Some("true"),
        host: secret.metadata.annotations.unwrap_or_default().remove(HOST_ANNOTATION),
        data: secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, bytes.0)).collect(),
    }
}

fn unread(error: &CallError) -> Unread {
    match error.code() {
        Some(403) => Unread::Forbidden,
        Some(404) => Unread::Missing,
        Some(_) | None => Unread::Unavailable,
    }
}
