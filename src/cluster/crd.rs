//! Registers the CustomResourceDefinition at start.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};

use super::{CallError, FIELD_MANAGER, call};
use crate::api::{CRD_VERSION, CRD_VERSION_KEY, crd};

/// What registration came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// The definition is ours now.
    Applied,
    /// A newer one is served; it is left alone.
    Newer,
    /// No right to write it; another one is served.
    NotAllowed,
}

/// Applies the definition, unless the one that is served is newer than ours.
///
/// # Errors
/// The server cannot be reached, or refuses and serves none.
pub async fn register(client: &Client) -> Result<Registered, CallError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let crd = crd();
    let name = crd.name_any();
    match call(api.get_opt(&name)).await {
        Ok(Some(served)) if version(&served) > CRD_VERSION => return Ok(Registered::Newer),
        Ok(_) => {}
        // A namespaced Role cannot read definitions; then the watch will tell whether the kind is served.
        Err(error) if error.code() == Some(403) => return Ok(Registered::NotAllowed),
        Err(error) => return Err(error),
    }
    // Forced: the other manager is an older controller, helm or the original; the annotation says which is newer.
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match call(api.patch(&name, &params, &Patch::Apply(&crd))).await {
        Ok(_) => Ok(Registered::Applied),
        Err(error) if error.code() == Some(403) => Ok(Registered::NotAllowed),
        Err(error) => Err(error),
    }
}

fn version(crd: &CustomResourceDefinition) -> u32 {
    crd.annotations().get(CRD_VERSION_KEY).and_then(|v| v.parse().ok()).unwrap_or(0)
}
