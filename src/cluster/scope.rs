//! Which namespaces the controller looks at.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Client;
use kube::api::{Api, PostParams};

use super::{CallError, call};
use crate::api::{GROUP, PLURAL};

/// Where pods, Services and KubervisorServices are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere.
    Cluster,
    /// In these namespaces.
    Namespaces(Vec<String>),
}

/// A namespace's name: a DNS label. What is none would end up in a path, where an empty one means every namespace.
///
/// # Errors
/// What is wrong, and what to write.
pub fn namespace(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = (1..=63).contains(&text.len()) && text.bytes().all(inner);
    if label && !text.starts_with('-') && !text.ends_with('-') {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no namespace: give 1 to 63 small letters, digits and -, or leave the setting out altogether"
    ))
}

impl Scope {
    /// These namespaces, each once.
    ///
    /// # Errors
    /// There is none, or one of them is no namespace.
    pub fn of(names: &[String]) -> Result<Self, String> {
        let names: BTreeSet<_> = names.iter().map(|name| namespace(name)).collect::<Result<_, _>>()?;
        if names.is_empty() {
            Err("no namespace is named".into())
        } else {
            Ok(Self::Namespaces(names.into_iter().collect()))
        }
    }

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

/// What a controller of the whole cluster must be allowed to list and watch.
const WATCHED: [(&str, &str); 3] = [("", "pods"), ("", "services"), (GROUP, PLURAL)];

/// Whether everything that is watched may be watched in every namespace.
///
/// # Errors
/// The server did not answer.
pub async fn cluster_allowed(client: &Client) -> Result<bool, CallError> {
    for (group, resource) in WATCHED {
        for verb in ["list", "watch"] {
            if !allowed(client, group, resource, verb).await? {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn allowed(client: &Client, group: &str, resource: &str, verb: &str) -> Result<bool, CallError> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                verb: Some(verb.into()),
                group: Some(group.into()),
                resource: Some(resource.into()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = call(api.create(&PostParams::default(), &review)).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_of_nothing_or_of_no_namespace_is_refused() {
        assert!(Scope::of(&[]).is_err());
        assert!(Scope::of(&["meadow".into(), String::new()]).is_err());
        let scope = Scope::of(&["meadow".into(), "hill".into(), "meadow".into()]);
        assert_eq!(scope, Ok(Scope::Namespaces(vec!["hill".into(), "meadow".into()])));
    }
}
