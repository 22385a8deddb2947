//! What is generated is checked in, and this compares it: the CustomResourceDefinition, the reference of its fields
//! and the reference of the flags.
//!
//! With `KUBERVISOR_GENERATE=1` (as `make crds reference` has it) the files are written instead.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

mod flags;
#[path = "../generated/mod.rs"]
mod generated;
mod recipes;
mod schema;
mod values;

use std::path::Path;

/// Compares a file of the repository with what it should be, or makes it so.
fn generated(path: &str, wanted: &str, how: &str) {
    generated::generated(Path::new(env!("CARGO_MANIFEST_DIR")), path, wanted, how);
}

#[test]
fn the_definition_checked_in_is_the_one_that_the_controller_registers() {
    let yaml = serde_yaml_ng::to_string(&kubervisor::api::crd()).unwrap();
    generated("crds/kubervisorservices.yaml", &yaml, "make crds");
    // The chart's own copy: helm packs nothing from outside its folder.
    generated("charts/kubervisor/files/kubervisorservices.yaml", &yaml, "make crds");
}

#[test]
fn the_reference_of_fields_is_that_of_the_schema() {
    generated("docs/reference/kubervisorservice.md", &schema::reference(), "make reference");
}

#[test]
fn the_reference_of_flags_is_that_of_the_program() {
    generated("docs/reference/flags.md", &flags::reference(), "make reference");
}

#[test]
fn the_reference_of_the_charts_values_is_that_of_the_chart() {
    let values =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/kubervisor/values.yaml"));
    generated("charts/kubervisor/README.md", &values::reference(&values.unwrap()), "make reference");
}
