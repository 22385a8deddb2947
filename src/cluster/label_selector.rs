//! Label selectors as Kubernetes writes them, over a pod of the index.
//!
//! Rules over labels that we write ourselves are kept apart: the index groups pods by all other labels.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::labels::{LabelSet, ours, value};

/// `matchLabels` and `matchExpressions`, as they come.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlimSelector {
    /// Every one of them must be there.
    #[serde(default)]
    pub match_labels: BTreeMap<String, String>,
    /// And every one of these must hold.
    #[serde(default)]
    pub match_expressions: Vec<SlimRequirement>,
}

/// One of `matchExpressions`.
#[derive(Debug, Clone, Deserialize)]
pub struct SlimRequirement {
    /// Label.
    pub key: String,
    /// In, NotIn, Exists, DoesNotExist.
    #[serde(default)]
    pub operator: String,
    /// Of In and NotIn.
    #[serde(default)]
    pub values: Vec<String>,
}

/// A selector, read. Without any rule it matches every pod.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// Over labels of the template: the same for all pods of a label set.
    plain: Vec<Rule>,
    /// Over labels that we write.
    marks: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    key: Box<str>,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    In(Vec<String>),
    /// A label that is not there has none of these values.
    NotIn(Vec<String>),
    Exists,
    Absent,
    /// Of a server newer than we are. It passes: what may cover a pod is honoured.
    Unknown,
}

impl Selector {
    /// Reads it.
    #[must_use]
    pub fn read(raw: SlimSelector) -> Self {
        let labels =
            raw.match_labels.into_iter().map(|(k, v)| Rule { key: k.into(), test: Test::In(vec![v]) });
        let expressions = raw.match_expressions.into_iter().map(Rule::read);
        let (marks, plain) = labels.chain(expressions).partition(|rule| ours(&rule.key));
        Self { plain, marks }
    }

    /// Whether a pod with these labels matches, whatever stands in the labels that we write.
    #[must_use]
    pub fn may_match(&self, labels: &LabelSet) -> bool {
        self.plain.iter().all(|rule| rule.holds(value(labels, &rule.key)))
    }

    /// The rest of the answer for a pod of such labels: what it carries of ours, by key.
    pub(super) fn takes<'a>(&self, mark: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.marks.iter().all(|rule| rule.holds(mark(&rule.key)))
    }
}

impl Rule {
    fn read(raw: SlimRequirement) -> Self {
        let test = match raw.operator.as_str() {
            "In" => Test::In(raw.values),
            "NotIn" => Test::NotIn(raw.values),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::Absent,
            _ => Test::Unknown,
        };
        Self { key: raw.key.into(), test }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        match &self.test {
            Test::In(values) => value.is_some_and(|have| values.iter().any(|v| v == have)),
            Test::NotIn(values) => value.is_none_or(|have| values.iter().all(|v| v != have)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Unknown => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn matches(selector: Value, labels: &[(&str, &str)]) -> bool {
        let mut set: Vec<(Arc<str>, Arc<str>)> =
            labels.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect();
        set.sort();
        Selector::read(serde_json::from_value(selector).unwrap()).may_match(&set.into())
    }

    fn expression(operator: &str, values: &[&str]) -> Value {
        json!({"matchExpressions": [{"key": "row", "operator": operator, "values": values}]})
    }

    #[test]
    fn labels_and_expressions_must_all_hold() {
        let selector = json!({"matchLabels": {"app": "pear"},
            "matchExpressions": [{"key": "row", "operator": "In", "values": ["3", "4"]}]});
        assert!(matches(selector.clone(), &[("app", "pear"), ("row", "4")]));
        assert!(!matches(selector.clone(), &[("app", "pear"), ("row", "5")]));
        assert!(!matches(selector, &[("row", "4")]));
    }

    #[test]
    fn each_operator_means_what_kubernetes_says() {
        let cases = [
            ("In", [true, false, false]),
            ("NotIn", [false, true, true]),
            ("Exists", [true, true, false]),
            ("DoesNotExist", [false, false, true]),
        ];
        for (operator, expected) in cases {
            let over = |labels: &[(&str, &str)]| matches(expression(operator, &["3"]), labels);
            assert_eq!([over(&[("row", "3")]), over(&[("row", "9")]), over(&[])], expected, "{operator}");
        }
    }

    #[test]
    fn an_empty_selector_matches_all_and_an_operator_of_tomorrow_covers_rather_than_spares() {
        assert!(matches(json!({}), &[]));
        assert!(matches(expression("Gt", &["3"]), &[]));
    }

    proptest! {
        #[test]
        fn a_label_is_in_or_not_in_and_never_both(has in "[a-c]?", list in proptest::collection::vec("[a-c]", 0..3)) {
            let labels: Vec<_> = (!has.is_empty()).then_some(("row", &*has)).into_iter().collect();
            let values: Vec<_> = list.iter().map(String::as_str).collect();
            let over = |operator| matches(expression(operator, &values), &labels);
            prop_assert!(over("In") != over("NotIn"));
            prop_assert!(over("Exists") != over("DoesNotExist"));
        }
    }
}
