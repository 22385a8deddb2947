//! A KubervisorService as the API server and the controller would read it.
//!
//! Takes an object; gives the controller's own reading of it, where there is one, and a finding for every reason to
//! refuse it. Does not ask whether it is wise: that is lint.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use kubervisor::api::{Defaults, GROUP, Parsed, VERSION, crd, parse};
use kubervisor::sources::{Endpoint, Question};
use serde_json::Value;

use super::finding::Finding;
use super::object::Object;
use super::rules::Rule;
use super::schema::{Fault, Schema, faults, without_nulls};

/// The kind that is validated.
pub const KIND: &str = "KubervisorService";
/// It becomes a label value.
const NAME_MAX: usize = 63;
/// Stands for the controller's own where it is not known. No such name can be resolved.
const SOME_PROMETHEUS: &str = "prometheus.invalid:9090";

/// Of the definition that the controller registers.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let crd = serde_json::to_value(crd()).unwrap_or_default();
    Schema::new(crd.pointer("/spec/versions/0/schema/openAPIV3Schema").cloned().unwrap_or_default())
});

/// A KubervisorService of the input.
#[derive(Debug)]
pub struct Policy<'o> {
    /// As written.
    pub object: &'o Object,
    /// The Service that it names, as far as that can be read.
    pub service: String,
    /// As the controller reads it; `None` where it would refuse it.
    pub parsed: Option<Parsed>,
}

/// What the API server and the controller refuse by.
pub struct Validator {
    defaults: Defaults,
    /// Whether the controller's Prometheus is known.
    prometheus_known: bool,
}

impl Validator {
    /// `prometheus`: the controller's own.
    #[must_use]
    pub fn new(prometheus: Option<&Endpoint>) -> Self {
        let some = prometheus.cloned().or_else(|| Endpoint::parse(SOME_PROMETHEUS).ok());
        let defaults = Defaults { prometheus: some, ..Defaults::default() };
        Self { defaults, prometheus_known: prometheus.is_some() }
    }

    /// Reads one. `None`: it is none, or of no version that is known.
    pub fn validate<'o>(&self, object: &'o Object, findings: &mut Vec<Finding>) -> Option<Policy<'o>> {
        if object.group != GROUP {
            return None;
        }
        if object.kind != KIND || object.version != VERSION {
            findings.push(unknown_kind(object));
            return None;
        }
        let value = without_nulls(&object.value);
        let told = schema(object, &value, findings);
        name(object, findings);
        let parsed = match parse(&value["spec"], &object.namespace, &self.defaults) {
            Ok(parsed) => Some(parsed),
            Err(errors) => {
                findings.extend(errors.iter().filter_map(|error| refused(object, error, &told)));
                None
            }
        };
        if let Some(parsed) = &parsed {
            findings.extend(parsed.notes.iter().map(|note| sentence(Rule::Noted, object, note)));
            findings.extend(self.no_prometheus(object, parsed));
        }
        let service = value.pointer("/spec/service").and_then(Value::as_str).unwrap_or_default().to_owned();
        // What the schema refuses is never stored, so nothing is said of what it would do.
        Some(Policy { object, service, parsed: parsed.filter(|_| told.is_empty()) })
    }

    /// Detectors that leave it to the controller, where nobody said that it has one.
    fn no_prometheus(&self, object: &Object, parsed: &Parsed) -> Option<Finding> {
        if self.prometheus_known {
            return None;
        }
        let own = self.defaults.prometheus.as_ref();
        let left = parsed.asked.iter().filter(|asked| match &asked.question {
            Question::Prometheus(question) => Some(&question.endpoint) == own,
            Question::Custom(_) => false,
        });
        let names: Vec<_> = left.map(|asked| &*asked.breaker).collect();
        (!names.is_empty()).then(|| {
            let reason = format!(
                "no prometheusService in breaker {}: the controller's own is asked, if it has one",
                names.join(", ")
            );
            Finding::of(Rule::NoPrometheus, object, reason)
        })
    }
}

/// Gives the fields that are refused.
fn schema(object: &Object, value: &Value, findings: &mut Vec<Finding>) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    for fault in faults(value, &SCHEMA) {
        findings.push(match fault {
            Fault::Refused { field, reason } => {
                told.insert(field.clone());
                Finding::of(Rule::Schema, object, reason).at(field)
            }
            Fault::Dropped { field, meant } => {
                let reason = "there is no such field: kubectl refuses it, and where nobody does, it is dropped and the default holds";
                let finding = Finding::of(Rule::UnknownField, object, reason).at(field);
                match meant {
                    Some(meant) => finding.cured_by(format!("did you mean {meant}?")),
                    None => finding,
                }
            }
        });
    }
    told
}

fn unknown_kind(object: &Object) -> Finding {
    let Object { group, version, kind, .. } = object;
    Finding::of(Rule::UnknownKind, object, format!("{group}/{version} has no kind {kind}"))
}

/// What the API server asks of a name, and the rule of the definition.
fn name(object: &Object, findings: &mut Vec<Finding>) {
    let name = &object.name;
    let outer = |c: Option<char>| c.is_none_or(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let reason = if name.len() > NAME_MAX {
        format!("{} characters are more than {NAME_MAX}, and it becomes a label value", name.len())
    } else if !name.chars().all(inner) || !outer(name.chars().next()) || !outer(name.chars().last()) {
        format!("{name:?} is no name: small letters, digits, - and . between letters or digits")
    } else {
        return;
    };
    findings.push(Finding::of(Rule::Schema, object, reason).at("metadata.name"));
}

/// A sentence of the controller, unless the schema's word on the same field says it already.
fn refused(object: &Object, error: &str, told: &BTreeSet<String>) -> Option<Finding> {
    let field = error.split_once(": ").map_or("", |(field, _)| field);
    // All at once is more than serde can: the first fault of a type ends its reading, and the schema has told it.
    let said = told.contains(field) || (field == "spec" && !told.is_empty());
    (!said).then(|| sentence(Rule::Refused, object, error))
}

/// `field: what is wrong`, as the controller writes it.
fn sentence(rule: Rule, object: &Object, text: &str) -> Finding {
    match text.split_once(": ").filter(|(field, _)| field.starts_with("spec") && !field.contains(' ')) {
        Some((field, reason)) => Finding::of(rule, object, reason).at(field),
        None => Finding::of(rule, object, text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::object;
    use super::*;
    use serde_json::json;

    fn told(spec: &Value) -> Vec<Finding> {
        told_of("orchard", spec)
    }

    fn told_of(name: &str, spec: &Value) -> Vec<Finding> {
        let value = json!({"apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService",
            "metadata": {"name": name, "namespace": "farm"}, "spec": spec});
        let (object, mut findings) = (object(&value), Vec::new());
        let prometheus = Endpoint::parse("prom.test:9090").unwrap();
        assert!(Validator::new(Some(&prometheus)).validate(&object, &mut findings).is_some());
        findings
    }

    fn with(field: &str, value: Value) -> Value {
        let mut spec = json!({"service": "orchard", "breakers": [{"name": "pears"}]});
        spec["breakers"][0][field] = value;
        spec
    }

    #[test]
    fn every_rule_of_the_definition_that_is_written_in_cel_is_reported() {
        let own = json!({"prometheus": {"timeout": 1}, "promQL": "x", "min": 1, "minDelta": 1, "key": "k", "goodValues": ["1"]});
        let detector = |field: &str| with(field, own.clone());
        let prom = |more: Value| {
            let mut rule = json!({"promQL": "x", "prometheusService": "p:1"});
            rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            rule
        };
        let both = json!({"bearerTokenSecretRef": {"name": "a"}, "basicAuthSecretRef": {"name": "b"}});
        let mut confirm = with("customService", json!("a.b:1/"));
        confirm["breakers"][0]["confirm"] = json!({"anomalous": 3, "of": 2});
        let custom = with("customService", json!("a.b:1/"));
        let long = "n".repeat(64);
        let cases = [
            ("metadata.name: at most 63 characters, since it becomes a label value", &*long, vec![custom]),
            (
                "exactly one detector: discreteValueOutOfList, continuousValueDeviation, fleetOutlier, valueOutOfRange or customService",
                "a",
                vec![with("mode", json!("DryRun")), with("customService", json!(""))],
            ),
            ("confirm: anomalous is more than of", "a", vec![confirm]),
            (
                "prometheus: only with an own prometheusService",
                "a",
                vec![
                    detector("discreteValueOutOfList"),
                    detector("continuousValueDeviation"),
                    detector("fleetOutlier"),
                    detector("valueOutOfRange"),
                ],
            ),
            (
                "prometheus: give bearerTokenSecretRef or basicAuthSecretRef, not both",
                "a",
                vec![with("valueOutOfRange", prom(json!({"min": 1, "prometheus": both})))],
            ),
            (
                "minDelta: give one of more than 0",
                "a",
                vec![
                    with("fleetOutlier", prom(json!({}))),
                    with("fleetOutlier", prom(json!({"minDelta": 0}))),
                ],
            ),
            (
                "give both activityPromQL and minActivity, or neither",
                "a",
                vec![
                    with("fleetOutlier", prom(json!({"minDelta": 1, "minActivity": 1}))),
                    with("valueOutOfRange", prom(json!({"min": 1, "activityPromQL": "x"}))),
                ],
            ),
            ("give min, max or both", "a", vec![with("valueOutOfRange", prom(json!({})))]),
            ("min is more than max", "a", vec![with("valueOutOfRange", prom(json!({"min": 2, "max": 1})))]),
        ];
        for (rule, name, specs) in &cases {
            for spec in specs {
                let refused = |f: &Finding| matches!(f.rule, Rule::Refused | Rule::Schema);
                let told: Vec<_> = told_of(name, spec).into_iter().filter(refused).collect();
                assert_eq!(told.len(), 1, "{rule}: {told:?}");
            }
        }
        let known: BTreeSet<_> = cases.iter().map(|(rule, ..)| (*rule).to_owned()).collect();
        let mut rules = BTreeSet::new();
        cel(&serde_json::to_value(crd()).unwrap(), &mut rules);
        assert_eq!(rules, known);
    }

    fn cel(value: &Value, found: &mut BTreeSet<String>) {
        let rules = value["x-kubernetes-validations"].as_array().into_iter().flatten();
        found.extend(rules.filter_map(|rule| rule["message"].as_str()).map(str::to_owned));
        match value {
            Value::Object(map) => map.values().for_each(|value| cel(value, found)),
            Value::Array(items) => items.iter().for_each(|value| cel(value, found)),
            _ => {}
        }
    }

    #[test]
    fn one_fault_is_told_once_and_several_are_told_at_once() {
        let mut spec = with("customService", json!("a.b:1/"));
        spec["breakers"][0]["minPodsAvailableRatio"] = json!(150);
        let told = told(&spec);
        assert_eq!(told.len(), 1, "{told:?}");
        spec["breakers"][0]["confirm"] = json!({"anomalous": 3, "of": 2});
        spec["breakers"][0]["evaluationPeriod"] = json!("25h");
        spec["limits"] = json!({"maxCuts": 5});
        let found = super::tests::told(&spec).into_iter();
        let found: Vec<_> = found.map(|finding| (finding.rule, finding.field.unwrap_or_default())).collect();
        let expected = [
            (Rule::Schema, "breakers[pears].minPodsAvailableRatio"),
            (Rule::UnknownField, "limits.maxCuts"),
            (Rule::Refused, "breakers[pears].evaluationPeriod"),
            (Rule::Refused, "breakers[pears].confirm"),
        ];
        assert_eq!(found, expected.map(|(rule, field)| (rule, format!("spec.{field}"))));
    }

    #[test]
    fn names_that_the_api_server_refuses_are_found() {
        let spec = with("customService", json!("a.b:1/"));
        for name in ["Orchard", "-a", "a_b", &"n".repeat(64)] {
            let told = told_of(name, &spec);
            assert_eq!(told[0].field.as_deref(), Some("metadata.name"), "{name}: {told:?}");
        }
        assert_eq!(told_of(&"n".repeat(63), &spec), []);
    }

    #[test]
    fn a_kind_that_does_not_exist_is_found_and_others_are_left_alone() {
        let found = |api: &str, kind: &str| {
            let (object, mut findings) =
                (object(&json!({"apiVersion": api, "kind": kind, "metadata": {"name": "a"}})), Vec::new());
            assert!(Validator::new(None).validate(&object, &mut findings).is_none());
            findings.into_iter().map(|f| f.rule).collect::<Vec<_>>()
        };
        assert_eq!(found("kubervisor.k8s.io/v1alpha1", "KubervisorServce"), [Rule::UnknownKind]);
        assert_eq!(found("kubervisor.k8s.io/v1", "KubervisorService"), [Rule::UnknownKind]);
        assert_eq!(found("v1", "Service"), []);
    }

    #[test]
    fn a_detector_without_a_prometheus_passes_where_the_controllers_is_given() {
        let spec = with("valueOutOfRange", json!({"promQL": "sum by (namespace, pod) (x)", "min": 1}));
        assert_eq!(told(&spec), []);
        let value = json!({"apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": KIND, "metadata": {"name": "a"}, "spec": spec});
        let (object, mut findings) = (object(&value), Vec::new());
        let policy = Validator::new(None).validate(&object, &mut findings).unwrap();
        assert!(policy.parsed.is_some());
        assert_eq!(findings.iter().map(|f| f.rule).collect::<Vec<_>>(), [Rule::NoPrometheus]);
    }

    #[test]
    fn what_the_controller_takes_otherwise_is_told() {
        let mut spec = with("customService", json!("a.b:1/"));
        spec["breakers"][0]["evaluationPeriod"] = json!(0.2);
        let told = told(&spec);
        assert_eq!((told[0].rule, told.len()), (Rule::Noted, 1));
        assert_eq!(told[0].field.as_deref(), Some("spec.breakers[pears].evaluationPeriod"));
    }
}
