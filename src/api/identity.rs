//! Which KubervisorService is meant.

use std::sync::Arc;

/// A KubervisorService, wherever something is done, told or counted for it.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name of the KubervisorService.
    pub name: Arc<str>,
    /// Its uid.
    pub uid: Arc<str>,
}
