//! A KubervisorService against the schema of its definition, as the API server would.
//!
//! Takes the object with its nulls taken out; gives every fault with its field. Reads the keywords that the definition
//! uses and no others, and a test refuses one that it does not know: a JSON Schema library would want the definition
//! translated first (`nullable`, int-or-string, list-map keys), and knows nothing of fields that are dropped.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use serde_json::{Map, Value};

/// Fields of an object's metadata that the API server knows.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Of an object itself.
const TOP: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// How alike a name must be to be meant: one letter in three may be wrong.
const ALIKE: f64 = 0.67;

/// What the API server does with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It refuses the object.
    Refused {
        /// Such as `spec.breakers[errors].confirm.of`.
        field: String,
        /// A sentence.
        reason: String,
    },
    /// It drops the field.
    Dropped {
        /// The field.
        field: String,
        /// What was meant, perhaps.
        meant: Option<String>,
    },
}

/// A schema, with its patterns read once.
#[derive(Debug)]
pub struct Schema {
    root: Value,
    patterns: BTreeMap<String, Regex>,
}

impl Schema {
    /// Of an object.
    #[must_use]
    pub fn new(root: Value) -> Self {
        fn patterns(schema: &Value, found: &mut BTreeMap<String, Regex>) {
            if let Some(text) = schema["pattern"].as_str()
                && let Ok(pattern) = Regex::new(text)
            {
                found.insert(text.to_owned(), pattern);
            }
            schema.as_object().into_iter().flatten().for_each(|(_, value)| patterns(value, found));
        }
        let mut found = BTreeMap::new();
        patterns(&root, &mut found);
        Self { root, patterns: found }
    }
}

/// Faults of the object, in the order of its fields. The status is the controller's: what stands there is not kept.
#[must_use]
pub fn faults(object: &Value, schema: &Schema) -> Vec<Fault> {
    let mut found = Found { faults: Vec::new(), schema };
    found.unknown("", object, &TOP);
    found.unknown("metadata", &object["metadata"], &METADATA);
    match object.get("spec") {
        Some(spec) => found.value("spec", spec, &schema.root["properties"]["spec"]),
        None => found.refuse("spec", "it is required"),
    }
    found.faults
}

/// Null members of maps, which the API server takes as absent.
#[must_use]
pub fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

/// The name among `known` that was meant, if one is like it.
#[must_use]
pub fn meant<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let lower = name.to_lowercase();
    let alike =
        known.map(|known| (strsim::normalized_damerau_levenshtein(&lower, &known.to_lowercase()), known));
    alike.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

struct Found<'s> {
    faults: Vec<Fault>,
    /// All of it: a field may belong elsewhere.
    schema: &'s Schema,
}

impl Found<'_> {
    fn refuse(&mut self, field: &str, reason: impl Into<String>) {
        self.faults.push(Fault::Refused { field: field.to_owned(), reason: reason.into() });
    }

    fn unknown(&mut self, at: &str, value: &Value, known: &[&str]) {
        let fields = value.as_object().into_iter().flatten().map(|(name, _)| name);
        for name in fields.filter(|name| !known.contains(&name.as_str())) {
            let field = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
            let alike = meant(name, known.iter().copied()).map(str::to_owned);
            let meant = alike.or_else(|| elsewhere(name, &self.schema.root));
            self.faults.push(Fault::Dropped { field, meant });
        }
    }

    fn value(&mut self, at: &str, value: &Value, schema: &Value) {
        if let Some(reason) = wrong_kind(value, schema) {
            return self.refuse(at, reason);
        }
        match value {
            Value::Object(map) => self.object(at, value, map, schema),
            Value::Array(items) => self.list(at, items, schema),
            Value::String(text) => self.text(at, text, schema),
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
                if min.is_some_and(|min| number < min) || max.is_some_and(|max| number > max) {
                    self.refuse(at, format!("{value} is {}", bounds(min, max, "")));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        let allowed = schema["enum"].as_array();
        if let Some(allowed) = allowed.filter(|allowed| !allowed.contains(value)) {
            let words: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            let meant = value.as_str().and_then(|text| meant(text, words.iter().copied()));
            let meant = meant.map(|word| format!("; did you mean {word}?")).unwrap_or_default();
            self.refuse(at, format!("{value} is none of {}{meant}", words.join(", ")));
        }
    }

    fn object(&mut self, at: &str, value: &Value, map: &Map<String, Value>, schema: &Value) {
        if schema["maxProperties"] == 0 && !map.is_empty() {
            return self.refuse(at, "it is a map where one value is wanted");
        }
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        for name in required.filter(|name| !map.contains_key(*name)) {
            self.refuse(&format!("{at}.{name}"), "it is required");
        }
        for (name, value) in map {
            let field = format!("{at}.{name}");
            if let Some(schema) = schema["properties"].get(name) {
                self.value(&field, value, schema);
            } else if let Some(schema) = schema.get("additionalProperties") {
                self.value(&field, value, schema);
            }
        }
        if let Some(known) = schema["properties"].as_object() {
            let known: Vec<_> = known.keys().map(String::as_str).collect();
            self.unknown(at, value, &known);
        }
    }

    fn list(&mut self, at: &str, items: &[Value], schema: &Value) {
        let (min, max) = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
        let length = items.len() as u64;
        if max == Some(0) && length > 0 {
            return self.refuse(at, "it is a list where one value is wanted");
        }
        if min.is_some_and(|min| length < min) || max.is_some_and(|max| length > max) {
            self.refuse(at, format!("{length} entries are {}", bounds(min, max, "")));
        }
        let key = schema["x-kubernetes-list-map-keys"][0].as_str();
        let mut seen = BTreeSet::new();
        for (number, item) in items.iter().enumerate() {
            let name = key.and_then(|key| item[key].as_str());
            if name.is_some_and(|name| !seen.insert(name)) {
                self.refuse(at, format!("the name {:?} is used twice", name.unwrap_or_default()));
            }
            let name = name.map_or_else(|| number.to_string(), str::to_owned);
            self.value(&format!("{at}[{name}]"), item, &schema["items"]);
        }
    }

    fn text(&mut self, at: &str, text: &str, schema: &Value) {
        let (min, max) = (schema["minLength"].as_u64(), schema["maxLength"].as_u64());
        let length = text.chars().count() as u64;
        if min.is_some_and(|min| length < min) || max.is_some_and(|max| length > max) {
            self.refuse(at, format!("{length} characters are {}", bounds(min, max, "")));
        }
        let pattern = schema["pattern"].as_str();
        // A pattern that cannot be read would refuse everything; a test reads all of them.
        let fits = |pattern| self.schema.patterns.get(pattern).is_some_and(|pattern| pattern.is_match(text));
        if pattern.is_some_and(|pattern| !fits(pattern)) {
            let example = if schema.get("x-kubernetes-preserve-unknown-fields").is_some() {
                "write seconds (2.5) or a text such as \"500ms\" or \"2m30s\"".to_owned()
            } else {
                format!("it must match {}", pattern.unwrap_or_default())
            };
            self.refuse(at, format!("{text:?} has not the right form; {example}"));
        }
    }
}

/// Why a value is not of the schema's type; `None` where it is.
fn wrong_kind(value: &Value, schema: &Value) -> Option<String> {
    let whole = |value: &Value| value.as_f64().is_some_and(|number| number.fract() == 0.0);
    let (wanted, fits) = if schema["x-kubernetes-int-or-string"] == true {
        ("a whole number or a text", value.is_string() || whole(value))
    } else {
        match schema["type"].as_str()? {
            "object" => ("a map", value.is_object()),
            "array" => ("a list", value.is_array()),
            "string" => ("a text", value.is_string()),
            "boolean" => ("true or false", value.is_boolean()),
            "integer" => ("a whole number", whole(value)),
            "number" => ("a number", value.is_number()),
            _ => return None,
        }
    };
    let hint = match value {
        Value::Number(_) | Value::Bool(_) if wanted == "a text" => {
            format!("; write \"{value}\", with quotes")
        }
        _ => String::new(),
    };
    let shown = match value {
        Value::Object(_) => "a map".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Null => "nothing".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    };
    (!fits).then(|| format!("{shown} is not {wanted}{hint}"))
}

fn bounds<N: std::fmt::Display>(min: Option<N>, max: Option<N>, unit: &str) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("not within {min} and {max}{unit}"),
        (Some(min), None) => format!("less than {min}{unit}"),
        (None, Some(max)) => format!("more than {max}{unit}"),
        (None, None) => "out of bounds".to_owned(),
    }
}

/// Where a field of this very name belongs: the first such place in the spec.
fn elsewhere(name: &str, schema: &Value) -> Option<String> {
    fn find(name: &str, at: &str, schema: &Value) -> Option<String> {
        let fields = schema["properties"].as_object().into_iter().flatten();
        let here = fields.clone().find(|(field, _)| *field == name).map(|_| format!("{at}.{name}"));
        here.or_else(|| {
            fields.clone().find_map(|(field, schema)| {
                let (at, items) = (format!("{at}.{field}"), &schema["items"]);
                find(name, &at, schema).or_else(|| find(name, &format!("{at}[]"), items))
            })
        })
    }
    find(name, "spec", &schema["properties"]["spec"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        let crd = serde_json::to_value(kubervisor::api::crd()).unwrap();
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
    }

    /// What is said of a spec with this breaker.
    fn told(breaker: &Value) -> Vec<String> {
        let mut spec =
            json!({"service": "orchard", "breakers": [{"name": "pears", "customService": "a.b:1/"}]});
        for (field, value) in breaker.as_object().unwrap() {
            spec["breakers"][0][field] = value.clone();
        }
        of(&json!({"metadata": {"name": "orchard"}, "spec": spec}))
    }

    fn of(object: &Value) -> Vec<String> {
        let faults = faults(&without_nulls(object), &Schema::new(schema())).into_iter();
        let told = faults.map(|fault| match fault {
            Fault::Refused { field, reason } => format!("{field}: {reason}"),
            Fault::Dropped { field, meant } => format!("{field} dropped, {}?", meant.unwrap_or_default()),
        });
        told.collect()
    }

    #[test]
    fn every_keyword_of_the_definition_is_one_that_is_read_here_or_says_nothing_of_values() {
        fn keywords(schema: &Value, found: &mut BTreeSet<String>) {
            for (word, value) in schema.as_object().into_iter().flatten() {
                found.insert(word.clone());
                match word.as_str() {
                    "properties" => value.as_object().unwrap().values().for_each(|v| keywords(v, found)),
                    "items" | "additionalProperties" => keywords(value, found),
                    "pattern" => assert!(Regex::new(value.as_str().unwrap()).is_ok(), "{value}"),
                    "x-kubernetes-list-type" => assert_eq!(value, "map"),
                    "x-kubernetes-list-map-keys" => assert_eq!(value.as_array().unwrap().len(), 1),
                    "maxProperties" => assert_eq!(value, 0),
                    _ => {}
                }
            }
        }
        let mut found = BTreeSet::new();
        keywords(&schema()["properties"]["spec"], &mut found);
        // Rules in CEL are those of the controller's own reading: a test in validate goes through them.
        let silent = ["description", "nullable", "x-kubernetes-validations"];
        let read = [
            "type",
            "properties",
            "items",
            "enum",
            "maximum",
            "minimum",
            "maxItems",
            "minItems",
            "maxLength",
            "minLength",
            "maxProperties",
            "pattern",
            "x-kubernetes-preserve-unknown-fields",
            "required",
            "additionalProperties",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-list-type",
            "x-kubernetes-int-or-string",
        ];
        let known: BTreeSet<_> = silent.into_iter().chain(read).map(str::to_owned).collect();
        assert_eq!(found, known);
    }

    #[test]
    fn each_kind_of_fault_names_its_field_and_what_is_right() {
        for (breaker, expected) in [
            (
                json!({"minPodsAvailableRatio": 101}),
                "spec.breakers[pears].minPodsAvailableRatio: 101 is not within 0 and 100",
            ),
            (
                json!({"minPodsAvailableCount": 1.5}),
                "spec.breakers[pears].minPodsAvailableCount: 1.5 is not a whole number",
            ),
            (json!({"evaluationPeriod": "soon"}), "write seconds (2.5) or a text"),
            (json!({"evaluationPeriod": -1}), "evaluationPeriod: -1 is not within 0 and 31622400"),
            (json!({"evaluationPeriod": [5]}), "it is a list where one value is wanted"),
            (json!({"evaluationPeriod": {"seconds": 5}}), "it is a map where one value is wanted"),
            (json!({"mode": "Dryrun"}), "\"Dryrun\" is none of DryRun; did you mean DryRun?"),
            (json!({"confirm": {"anomalous": 1}}), "confirm.of: it is required"),
            (json!({"customService": 7}), "7 is not a text; write \"7\", with quotes"),
            (json!({"activator": []}), "a list is not a map"),
            (json!({"name": ""}), "0 characters are not within 1 and 63"),
            (
                json!({"discreteValueOutOfList": {"goodValues": [200]}}),
                "discreteValueOutOfList.goodValues[0]: 200 is not a text; write \"200\", with quotes",
            ),
            (
                json!({"valueOutOfRange": {"prometheus": {"headers": {"X-A": 1}}}}),
                "valueOutOfRange.prometheus.headers.X-A: 1 is not a text",
            ),
        ] {
            let told = told(&breaker);
            assert!(told.iter().any(|told| told.contains(expected)), "{breaker}: {told:?}");
        }
    }

    #[test]
    fn what_is_right_is_not_spoken_of_whatever_is_null() {
        for breaker in [
            json!({"evaluationPeriod": 0.5, "scrapeInterval": "1m 30s", "activator": null, "minPodsAvailableRatio": null}),
            json!({"minPodsAvailableCount": 5.0, "confirm": {"anomalous": 1, "of": 1}}),
        ] {
            assert_eq!(told(&breaker), [""; 0], "{breaker}");
        }
        let limits = |cuts: Value| {
            let spec = json!({"service": "orchard", "breakers": [{"name": "pears"}], "limits": {"maxCutsPerPeriod": cuts}});
            of(&json!({"metadata": {"name": "orchard"}, "spec": spec}))
        };
        assert_eq!((limits(json!(3)), limits(json!("10%"))), (vec![], vec![]));
        assert!(limits(json!("ten"))[0].contains("has not the right form"));
        assert!(limits(json!(1.5))[0].contains("a whole number or a text"));
    }

    #[test]
    fn a_field_that_would_be_dropped_is_named_with_the_one_that_was_meant() {
        let told_of = |breaker| told(&breaker).remove(0);
        assert_eq!(
            told_of(json!({"minPodAvailableRatio": 50})),
            "spec.breakers[pears].minPodAvailableRatio dropped, minPodsAvailableRatio?"
        );
        assert_eq!(
            told_of(json!({"tolerance": 50})),
            "spec.breakers[pears].tolerance dropped, spec.breakers[].discreteValueOutOfList.tolerance?"
        );
        assert_eq!(
            told_of(json!({"valueOutOfRange": {"podNameKey": "pod"}})),
            "spec.breakers[pears].valueOutOfRange.podNameKey dropped, podNamekey?"
        );
        assert_eq!(told_of(json!({"colour": "red"})), "spec.breakers[pears].colour dropped, ?");
    }

    #[test]
    fn the_objects_own_fields_are_looked_at_too_and_the_status_is_not() {
        let object = json!({"metadata": {"name": "a", "label": {}}, "Spec": {}, "status": {"odd": 1}});
        assert_eq!(
            of(&object),
            ["Spec dropped, spec?", "metadata.label dropped, labels?", "spec: it is required"]
        );
        let twice = json!({"spec": {"service": "a", "breakers": [{"name": "b"}, {"name": "b"}]}});
        assert!(of(&twice).contains(&"spec.breakers: the name \"b\" is used twice".to_owned()));
        assert_eq!(of(&json!({"spec": {"breakers": []}}))[0], "spec.service: it is required");
    }
}
