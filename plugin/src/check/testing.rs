//! For the tests of this folder: objects from values, and what is found in a manifest.

use serde_json::Value;

use super::finding::Finding;
use super::object::Object;
use super::read;
use super::{Asked, Checked, check};

/// The object of a value.
pub fn object(value: &Value) -> Object {
    read::read(&["-".into()], value.to_string().as_bytes(), "default").objects.remove(0)
}

/// All that is found in YAML.
pub fn checked(yaml: &str) -> Checked {
    check(read::read(&["-".into()], yaml.as_bytes(), "default"), &Asked::default())
}

/// Names of the rules that a manifest breaks, each once.
pub fn rules(yaml: &str) -> Vec<&'static str> {
    let mut names: Vec<_> = checked(yaml).findings.iter().map(|f: &Finding| f.rule.row().name).collect();
    names.sort_unstable();
    names.dedup();
    names
}
