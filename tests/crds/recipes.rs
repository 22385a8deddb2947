//! Breakers that the documentation shows are such that the controller takes them.

use kubervisor::api::{Defaults, parse};
use serde_json::{Value, json};

/// Blocks of YAML that are lists.
fn recipes(page: &str) -> Vec<Value> {
    let blocks = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lists = blocks.filter(|block| block.starts_with("- name: "));
    lists.map(|block| serde_yaml_ng::from_str(block).unwrap()).collect()
}

#[test]
fn every_recipe_of_a_breaker_is_a_valid_one() {
    let recipes = recipes(include_str!("../../docs/prometheus.md"));
    assert!(recipes.len() >= 2, "{recipes:?}");
    let defaults = Defaults::default();
    for mut breakers in recipes {
        for detector in ["valueOutOfRange", "discreteValueOutOfList"] {
            if let Some(detector) = breakers[0].get_mut(detector) {
                detector["prometheusService"] = json!("prometheus.monitoring:9090");
            }
        }
        let spec = json!({"service": "checkout", "breakers": breakers});
        let parsed = parse(&spec, "shop", &defaults).unwrap();
        assert!(parsed.notes.is_empty(), "{:?}", parsed.notes);
    }
}
