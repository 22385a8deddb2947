//! The CustomResourceDefinition, made from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

use super::KubervisorService;

/// Annotation with [`CRD_VERSION`]: a controller leaves a newer schema than its own alone.
pub const CRD_VERSION_KEY: &str = "kubervisor.k8s.io/crd-version";
/// Raised with every change of the schema.
pub const CRD_VERSION: u32 = 1;

/// The definition of KubervisorService.
#[must_use]
pub fn crd() -> CustomResourceDefinition {
    let mut crd = KubervisorService::crd();
    crd.metadata.annotations.get_or_insert_default().insert(CRD_VERSION_KEY.into(), CRD_VERSION.to_string());
    // A CRD that the original registered through the old API version keeps unknown fields; say no explicitly.
    crd.spec.preserve_unknown_fields = Some(false);
    tidied(&crd).unwrap_or(crd)
}

/// Without `nullable`, so that an explicit null is dropped by the API server as if the field were absent; and
/// without number formats that API servers warn of.
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
            map.remove("nullable");
            if map.get("format").is_some_and(Value::is_string) {
                map.remove("format");
            }
            if let Some(Value::Array(variants)) = map.get_mut("enum") {
                variants.retain(|v| !v.is_null());
            }
            map.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
