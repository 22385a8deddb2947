//! Which namespaces the controller looks at.

use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};

use super::{CallError, call};

/// Where pods, Services and KubervisorServices are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Cluster,
    /// In these namespaces.
    Namespaces(Vec<String>),
}

impl Scope {
    /// One for each watch of a kind: a namespace, or none for all.
    #[must_use]
    pub fn each(&self) -> Vec<Option<Arc<str>>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().map(|ns| Some(Arc::from(ns.as_str()))).collect(),
        }
    }
}

/// Path of a resource, in one namespace or in all.
#[must_use]
pub fn request_path(prefix: &str, namespace: Option<&str>, plural: &str) -> String {
    match namespace {
        None => format!("{prefix}/{plural}"),
        Some(ns) => format!("{prefix}/namespaces/{ns}/{plural}"),
    }
}

/// Whether pods may be watched in every namespace.
///
/// # Errors
/// The server did not answer.
pub async fn cluster_allowed(client: &Client) -> Result<bool, CallError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some("watch".into()),
                resource: Some("pods".into()),
                version: Some("v1".into()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = call(Api::all(client.clone()).create(&PostParams::default(), &review)).await?;
    Ok(answer
        .status
        .is_some_and(|s: k8s_openapi::api::authorization::v1::SubjectAccessReviewStatus| s.allowed))
}
