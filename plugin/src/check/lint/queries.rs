//! Rules over the queries of a breaker.

use std::time::Duration;

use kubervisor::api::Asked;
use kubervisor::sources::{PromQuestion, Question};
use kubervisor_core::detector::{Detector, Lists};
use kubervisor_core::policy::BreakerPolicy;
use promql_parser::parser::Expr;
use promql_parser::parser::value::ValueType;

use crate::check::finding::Finding;
use crate::check::promql::{
    asks_for, equals, lost, read, selectors, shortest_difference, unguarded_ratio, writes,
};
use crate::check::rules::Rule;
use crate::check::validate::Policy;

/// Scrapes that a range must hold: one may be lost and one late, and two are left.
const SCRAPES: u32 = 4;

/// Looks at each query of each breaker.
pub fn lint(policy: &Policy<'_>, findings: &mut Vec<Finding>) {
    let Some(parsed) = &policy.parsed else { return };
    for (breaker, Asked { question, activity, .. }) in parsed.policy.breakers.iter().zip(&parsed.asked) {
        let Some(detector) = detector_field(&breaker.detector) else { continue };
        let questions = [("promQL", Some(question)), ("activityPromQL", activity.as_ref())];
        for (field, question) in questions {
            let Some(Question::Prometheus(question)) = question else { continue };
            // What the parser does not know has its note already.
            let Some(expr) = read(&question.query) else { continue };
            let at = format!("spec.breakers[{}].{detector}.{field}", breaker.name);
            let query = Query { policy, breaker, question, expr: &expr };
            let mut found = query.result();
            found.extend(query.namespaces());
            found.extend(query.range());
            if field == "promQL" {
                found.extend(query.key());
                found.extend(query.ratio(activity.is_some()));
            }
            findings.extend(found.into_iter().map(|finding| finding.at(at.clone())));
        }
    }
}

/// `None`: it asks no Prometheus.
fn detector_field(detector: &Detector) -> Option<&'static str> {
    match detector {
        Detector::Discrete(_) => Some("discreteValueOutOfList"),
        Detector::Deviation(_) => Some("continuousValueDeviation"),
        Detector::Outlier(_) => Some("fleetOutlier"),
        Detector::Range(_) => Some("valueOutOfRange"),
        Detector::Custom => None,
    }
}

struct Query<'a> {
    policy: &'a Policy<'a>,
    breaker: &'a BreakerPolicy,
    question: &'a PromQuestion,
    expr: &'a Expr,
}

impl Query<'_> {
    fn found(&self, rule: Rule, reason: impl Into<String>) -> Finding {
        Finding::of(rule, self.policy.object, reason)
    }

    /// One series for each pod.
    fn result(&self) -> Vec<Finding> {
        let kind = match self.expr.value_type() {
            ValueType::Vector => None,
            ValueType::Scalar => Some("one number"),
            ValueType::String => Some("a text"),
            ValueType::Matrix => {
                Some("a range of samples for each series; put rate, increase or max_over_time around it")
            }
        };
        if let Some(kind) = kind {
            return vec![self.found(Rule::NotAVector, format!("the query gives {kind}"))];
        }
        let pod = &*self.question.pod_label;
        let why = lost(self.expr, pod);
        let told =
            |why| self.found(Rule::NoPodLabel, format!("no series of the result has the label {pod}: {why}"));
        why.map(told).into_iter().collect()
    }

    /// Only values in the list `\"\"` speak of series without the key.
    fn key(&self) -> Option<Finding> {
        let key = self.question.key_label.as_deref()?;
        let Detector::Discrete(rule) = &self.breaker.detector else { return None };
        let empty = match &rule.lists {
            Lists::Good(list) | Lists::Bad(list) => list.contains(""),
            Lists::Both { good, bad } => good.contains("") || bad.contains(""),
        };
        let why = lost(self.expr, key).filter(|_| !empty && self.expr.value_type() == ValueType::Vector)?;
        Some(self.found(Rule::NoKeyLabel, format!("no series of the result has the label {key}: {why}")))
    }

    fn namespaces(&self) -> Option<Finding> {
        let (label, own) = (&*self.question.namespace_label, &*self.policy.object.namespace);
        let selectors = selectors(self.expr);
        let asked: Vec<_> = selectors.iter().filter_map(|selector| equals(selector, label)).collect();
        let other = asked.first().filter(|_| {
            asked.len() == selectors.len()
                && asked.iter().all(|asked| *asked != own)
                && !writes(self.expr, label)
        });
        // Where the manifest names none, it may go anywhere.
        let fixed = self.policy.object.value.pointer("/metadata/namespace").is_some();
        if let Some(other) = other.filter(|_| fixed) {
            let reason = format!("every selector asks for {label}={other:?}, and the pods are in {own:?}");
            return Some(self.found(Rule::OtherNamespace, reason));
        }
        let why = lost(self.expr, label).filter(|_| self.expr.value_type() == ValueType::Vector)?;
        let confined = !selectors.is_empty() && selectors.iter().all(|selector| asks_for(selector, label));
        (!confined).then(|| {
            let reason = format!(
                "no series of the result has the label {label} ({why}), and not every selector asks for one: pods of one \
                 name in two namespaces become one"
            );
            let finding = self.found(Rule::NamespaceMissing, reason);
            let own = if fixed { own } else { "…" };
            finding.cured_by(format!("aggregate by {label} too, or select it: {{{label}={own:?}}}"))
        })
    }

    fn range(&self) -> Option<Finding> {
        let wanted = self.breaker.scrape_interval.saturating_mul(SCRAPES);
        let (range, by) = shortest_difference(self.expr).filter(|(range, _)| *range < wanted)?;
        let seconds = |duration: Duration| humantime::format_duration(duration).to_string();
        let reason = format!(
            "`{by}` over {} holds fewer than {SCRAPES} scrapes of {}: with one lost or late, too few are left and pods \
             are unknown",
            seconds(range),
            seconds(self.breaker.scrape_interval)
        );
        let cure =
            format!("look back {} or more, or write the scrapeInterval that you have", seconds(wanted));
        Some(self.found(Rule::RangeTooShort, reason).cured_by(cure))
    }

    fn ratio(&self, guarded: bool) -> Option<Finding> {
        let volume = match &self.breaker.detector {
            Detector::Discrete(_) | Detector::Custom => return None,
            Detector::Outlier(_) | Detector::Range(_) => true,
            Detector::Deviation(_) => false,
        };
        let divisor = unguarded_ratio(self.expr, &self.question.pod_label).filter(|_| !guarded)?;
        let reason = format!(
            "it divides by {divisor}, and nothing keeps small numbers out: one event of one is 100 %, so quiet pods look worst"
        );
        let finding = self.found(Rule::DivisionWithoutVolume, reason);
        Some(if volume {
            finding.cured_by(format!("add activityPromQL: {divisor} and the minActivity that it takes"))
        } else {
            finding.cured_by(format!("leave quiet pods out of the query: … and {divisor} > 20"))
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::check::testing::rules;

    const ONE: &str = "sum by (code, namespace, pod) (increase(http_requests_total[1m]))";

    fn discrete(query: &str) -> Vec<&'static str> {
        let detector = format!(
            "discreteValueOutOfList: {{promQL: '{query}', prometheusService: 'p:1', key: code, goodValues: ['200']}}"
        );
        breaker(&detector)
    }

    fn value(detector: &str, query: &str, more: &str) -> Vec<&'static str> {
        breaker(&format!("{detector}: {{promQL: '{query}', prometheusService: 'p:1', {more}}}"))
    }

    fn breaker(detector: &str) -> Vec<&'static str> {
        rules(&format!(
            "{{apiVersion: kubervisor.k8s.io/v1alpha1, kind: KubervisorService, metadata: {{name: a, namespace: shop}}, \
             spec: {{service: a, breakers: [{{name: b, minPodsAvailableRatio: 50, {detector}}}]}}}}"
        ))
    }

    #[test]
    fn a_good_query_breaks_no_rule() {
        assert_eq!(discrete(ONE), [""; 0]);
        assert_eq!(discrete("sum by (code, pod) (increase(x{namespace=\"shop\"}[1m]))"), [""; 0]);
    }

    #[test]
    fn not_a_vector() {
        assert_eq!(value("valueOutOfRange", "scalar(x)", "min: 1"), ["not-a-vector"]);
        assert_eq!(value("valueOutOfRange", "x[5m]", "min: 1"), ["not-a-vector"]);
        assert_eq!(value("valueOutOfRange", "x", "min: 1"), [""; 0]);
    }

    #[test]
    fn no_pod_label() {
        assert_eq!(discrete("sum by (code, namespace) (increase(x[1m]))"), ["no-pod-label"]);
        assert_eq!(discrete("sum without (pod) (increase(x[1m]))"), ["no-pod-label"]);
        let activity = "min: 1, minActivity: 1, activityPromQL: 'sum by (namespace) (x)'";
        assert_eq!(value("valueOutOfRange", "x", activity), ["no-pod-label"]);
        assert_eq!(
            value("valueOutOfRange", "sum by (namespace, name) (x)", "min: 1, podNamekey: name"),
            [""; 0]
        );
    }

    #[test]
    fn no_key_label() {
        assert_eq!(discrete("sum by (namespace, pod) (increase(x[1m]))"), ["no-key-label"]);
        let empty = "discreteValueOutOfList: {promQL: 'sum by (namespace, pod) (x)', prometheusService: 'p:1', key: code, badValues: ['']}";
        assert_eq!(breaker(empty), [""; 0]);
    }

    #[test]
    fn range_too_short() {
        assert_eq!(discrete(&ONE.replace("1m", "59s")), ["range-too-short"]);
        assert_eq!(discrete(&ONE.replace("1m", "60s")), [""; 0]);
    }

    #[test]
    fn namespace_missing() {
        assert_eq!(discrete("sum by (code, pod) (increase(x[1m]))"), ["namespace-missing"]);
        let one_of_two = "sum by (pod) (rate(a{namespace=\"shop\"}[1m])) > sum by (pod) (rate(b[1m]))";
        assert_eq!(value("valueOutOfRange", one_of_two, "max: 1"), ["namespace-missing"]);
    }

    #[test]
    fn other_namespace() {
        assert_eq!(value("valueOutOfRange", "x{namespace=\"bank\"}", "min: 1"), ["other-namespace"]);
        let joined = "x{namespace=\"edge\"} * on (ip) group_left (pod) y{namespace=\"shop\"}";
        assert_eq!(value("valueOutOfRange", joined, "min: 1"), [""; 0]);
    }

    #[test]
    fn division_without_volume() {
        let ratio = "sum by (namespace, pod) (rate(e[1m])) / sum by (namespace, pod) (rate(a[1m]))";
        assert_eq!(value("valueOutOfRange", ratio, "max: 0.5"), ["division-without-volume"]);
        assert_eq!(value("fleetOutlier", ratio, "minDelta: 0.1"), ["division-without-volume"]);
        assert_eq!(value("continuousValueDeviation", ratio, ""), ["division-without-volume"]);
        let activity =
            "minDelta: 0.1, minActivity: 1, activityPromQL: 'sum by (namespace, pod) (rate(a[1m]))'";
        assert_eq!(value("fleetOutlier", ratio, activity), [""; 0]);
        let guarded = format!("({ratio}) and sum by (namespace, pod) (rate(a[1m])) > 1");
        assert_eq!(value("continuousValueDeviation", &guarded, ""), [""; 0]);
    }
}
