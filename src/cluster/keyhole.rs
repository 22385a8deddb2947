//! The key in a Service's selector, as the Service was seen.

use std::sync::Arc;

use super::slim::SlimService;
use crate::api::key;

/// A Service, as far as the key in its selector is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyhole {
    #[allow(missing_docs)]
    pub namespace: Arc<str>,
    #[allow(missing_docs)]
    pub name: Arc<str>,
    #[allow(missing_docs)]
    pub uid: Arc<str>,
    /// resourceVersion.
    pub version: u64,
    /// The traffic key's value in its selector.
    pub key: Option<Arc<str>>,
    /// Uid of the KubervisorService that answers for the key: it takes it out again.
    pub managed_by: Option<Arc<str>>,
}

impl Keyhole {
    /// Of a Service as the server tells it.
    #[must_use]
    pub fn of(service: &SlimService) -> Self {
        let meta = &service.metadata;
        let value = |text: Option<&String>| text.map(|text| Arc::from(text.as_str()));
        Self {
            namespace: Arc::from(meta.namespace.as_str()),
            name: Arc::from(meta.name.as_str()),
            uid: Arc::from(meta.uid.as_str()),
            version: meta.resource_version.parse().unwrap_or(0),
            key: value(service.spec.selector.as_ref().and_then(|s| s.get(key::TRAFFIC))),
            managed_by: value(meta.annotations.get(key::MANAGED_BY)),
        }
    }

    /// Its selector sends traffic to `yes`.
    #[must_use]
    pub fn turned(&self) -> bool {
        self.key.as_deref() == Some(key::YES)
    }

    pub(super) fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/services/{}", self.namespace, self.name)
    }
}
