//! The CustomResourceDefinition, made from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::KubervisorService;

/// Annotation with [`CRD_VERSION`]: a controller leaves a newer schema than its own alone.
pub const CRD_VERSION_KEY: &str = "kubervisor.k8s.io/crd-version";
/// Raised with every change of the schema.
pub const CRD_VERSION: u32 = 3;

/// The definition of KubervisorService.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = KubervisorService::crd();
    crd.metadata.annotations.get_or_insert_default().insert(CRD_VERSION_KEY.into(), CRD_VERSION.to_string());
    // A CRD that the original registered through the old API version keeps unknown fields; say no explicitly.
    crd.spec.preserve_unknown_fields = Some(false);
    tidied(&crd).unwrap_or(crd)
}

/// Without number formats that API servers warn of. `nullable` stays on every optional field: the API server drops the
/// explicit nulls of a POST or PUT by itself, but a server-side apply that has any is refused without it. Not on enums:
/// with it, a null is refused by all three (1.36).
fn tidied(crd: &CustomResourceDefinition) -> Option<CustomResourceDefinition> {
    let mut value = serde_json::to_value(crd).ok()?;
    for version in value.pointer_mut("/spec/versions")?.as_array_mut()? {
        tidy(version.pointer_mut("/schema/openAPIV3Schema")?);
    }
    serde_json::from_value(value).ok()
}

fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("format").is_some_and(Value::is_string) {
                map.remove("format");
            }
            if map.contains_key("enum") {
                map.remove("nullable");
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
