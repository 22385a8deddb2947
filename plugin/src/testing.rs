//! What tests print: three objects, and a moment.

use jiff::Timestamp;
use serde_json::Value;

/// One that has cut, one in dry run with a broken source, one that only the original has written.
pub fn objects() -> Vec<Value> {
    let all: Value = serde_yaml_ng::from_str(include_str!("../testdata/objects.yaml")).unwrap();
    all.as_array().unwrap().clone()
}

/// Some time after.
pub fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}
