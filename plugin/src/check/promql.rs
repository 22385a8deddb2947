//! What can be told of a query's result without asking anybody: its type, its labels, its ranges.
//!
//! Takes a query that was read; says only what holds whatever the series are. A selector's series may carry any label,
//! so a label is lost only where something in the query takes it away.

use std::time::Duration;

use kubervisor::sources::read_bounded;
use promql_parser::label::MatchOp;
use promql_parser::parser::value::ValueType;
use promql_parser::parser::{
    AggregateExpr, BinaryExpr, Call, Expr, LabelModifier, VectorMatchCardinality, VectorSelector,
};

/// Functions that compare samples of a range with one another: with fewer than two they say nothing.
const DIFFERENCES: [&str; 11] = [
    "changes",
    "delta",
    "deriv",
    "double_exponential_smoothing",
    "holt_winters",
    "idelta",
    "increase",
    "irate",
    "predict_linear",
    "rate",
    "resets",
];

/// Parts of a query that is looked into. People write some tens; each may be a level, and a level costs frames of the
/// stack: some 2 KiB in a debug build.
const PARTS_MAX: usize = 400;

/// A query that can be looked into; `None` where it is too large, or no PromQL that the parser knows.
#[must_use]
pub fn read(query: &str) -> Option<Expr> {
    read_bounded(query).filter(|expr| parts(expr).len() <= PARTS_MAX)
}

/// Why no series of the result can carry `label`; `None` where one may.
#[must_use]
pub fn lost(expr: &Expr, label: &str) -> Option<String> {
    match inside(expr) {
        Expr::Aggregate(aggregate) => lost_in_aggregate(aggregate, label),
        Expr::Binary(binary) => lost_in_binary(binary, label),
        Expr::Call(call) => lost_in_call(call, label),
        Expr::Subquery(subquery) => lost(&subquery.expr, label),
        Expr::VectorSelector(selector) => lost_in_selector(selector, label),
        Expr::MatrixSelector(matrix) => lost_in_selector(&matrix.vs, label),
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Some("a number has no labels".to_owned()),
        Expr::Paren(_) | Expr::Unary(_) | Expr::Extension(_) => None,
    }
}

/// Without brackets and signs: there may be thousands around each other, and each call costs a frame of the stack.
fn inside(mut expr: &Expr) -> &Expr {
    loop {
        expr = match expr {
            Expr::Paren(paren) => &paren.expr,
            Expr::Unary(unary) => &unary.expr,
            _ => return expr,
        };
    }
}

fn lost_in_selector(selector: &VectorSelector, label: &str) -> Option<String> {
    let without = |value: &str, op: &MatchOp| value.is_empty() && *op == MatchOp::Equal;
    let mut matchers = selector.matchers.matchers.iter();
    let named = matchers.any(|m| m.name == label && without(&m.value, &m.op));
    named.then(|| format!("{label}=\"\" selects series without it"))
}

fn lost_in_aggregate(aggregate: &AggregateExpr, label: &str) -> Option<String> {
    let op = aggregate.op.to_string();
    if matches!(op.as_str(), "topk" | "bottomk" | "limitk" | "limit_ratio") {
        return lost(&aggregate.expr, label);
    }
    if op == "count_values" && aggregate.param.as_deref().is_some_and(|param| is_text(param, label)) {
        return None;
    }
    match &aggregate.modifier {
        None => Some(format!("`{op}` without `by` leaves no label")),
        Some(LabelModifier::Include(kept)) if !kept.labels.iter().any(|l| l == label) => {
            Some(format!("`{op} by ({kept})` leaves it out"))
        }
        Some(LabelModifier::Exclude(dropped)) if dropped.labels.iter().any(|l| l == label) => {
            Some(format!("`{op} without ({dropped})` takes it away"))
        }
        Some(LabelModifier::Include(_) | LabelModifier::Exclude(_)) => lost(&aggregate.expr, label),
    }
}

fn lost_in_binary(binary: &BinaryExpr, label: &str) -> Option<String> {
    let (left, right) = (&binary.lhs, &binary.rhs);
    if left.value_type() == ValueType::Scalar {
        return lost(right, label);
    }
    if right.value_type() == ValueType::Scalar {
        return lost(left, label);
    }
    let op = binary.op.to_string();
    let matching = binary.modifier.as_ref().and_then(|modifier| modifier.matching.as_ref());
    let (compared, dropped) = match matching {
        None => (true, None),
        Some(LabelModifier::Include(on)) => {
            let named = on.labels.iter().any(|l| l == label);
            (named, (!named).then(|| format!("`{op} on ({on})` leaves it out")))
        }
        Some(LabelModifier::Exclude(ignored)) => {
            let named = ignored.labels.iter().any(|l| l == label);
            (!named, named.then(|| format!("`{op} ignoring ({ignored})` takes it away")))
        }
    };
    // A series with the label finds no partner on a side where none has it, unless one is made up.
    let filled =
        binary.modifier.as_ref().is_some_and(|m| m.fill_values.lhs.is_some() || m.fill_values.rhs.is_some());
    let partner = |side: &Expr| {
        let why = (compared && !filled).then(|| lost(side, label)).flatten()?;
        Some(format!("no series that has it finds a partner on one side of `{op}`, where {why}"))
    };
    match op.as_str() {
        "or" => lost(left, label).filter(|_| lost(right, label).is_some()),
        "unless" => lost(left, label),
        "and" => lost(left, label).or_else(|| partner(right)),
        _ => match binary.modifier.as_ref().map(|modifier| &modifier.card) {
            Some(VectorMatchCardinality::ManyToOne(brought)) => {
                joined((left, right), &brought.labels, label, partner)
            }
            Some(VectorMatchCardinality::OneToMany(brought)) => {
                joined((right, left), &brought.labels, label, partner)
            }
            Some(VectorMatchCardinality::OneToOne | VectorMatchCardinality::ManyToMany) | None => {
                dropped.or_else(|| partner(left)).or_else(|| partner(right))
            }
        },
    }
}

/// `group_left`, and `group_right` the other way round: labels of the many, and those brought from the one.
fn joined(
    (many, one): (&Expr, &Expr),
    brought: &[String],
    label: &str,
    partner: impl Fn(&Expr) -> Option<String>,
) -> Option<String> {
    if brought.iter().any(|l| l == label) {
        lost(one, label)
    } else {
        lost(many, label).or_else(|| partner(one))
    }
}

fn lost_in_call(call: &Call, label: &str) -> Option<String> {
    let (name, args) = (call.func.name, &call.args.args);
    let is = |at: usize| args.get(at).is_some_and(|arg| is_text(arg, label));
    match name {
        "label_replace" | "label_join" | "histogram_quantiles" if is(1) => return None,
        // It brings labels of series that no selector names.
        "info" => return None,
        "absent" | "absent_over_time" => {
            let named = args.first().is_some_and(|arg| match inside(arg) {
                Expr::VectorSelector(selector) => equals(selector, label).is_some(),
                Expr::MatrixSelector(matrix) => equals(&matrix.vs, label).is_some(),
                _ => false,
            });
            return (!named).then(|| format!("`{name}` has the labels of its selector only"));
        }
        _ => {}
    }
    let series = args.iter().find(|arg| matches!(arg.value_type(), ValueType::Vector | ValueType::Matrix));
    match series.filter(|_| call.func.return_type == ValueType::Vector) {
        Some(series) => lost(series, label),
        None => Some(format!("`{name}()` has no labels")),
    }
}

fn is_text(expr: &Expr, text: &str) -> bool {
    matches!(inside(expr), Expr::StringLiteral(literal) if literal.val == text)
}

/// The one value that a selector allows for a label.
#[must_use]
pub fn equals<'s>(selector: &'s VectorSelector, label: &str) -> Option<&'s str> {
    let mut matchers = selector.matchers.matchers.iter();
    matchers
        .find(|m| m.name == label && m.op == MatchOp::Equal && !m.value.is_empty())
        .map(|m| m.value.as_str())
}

/// Whether a selector asks for a label at all.
#[must_use]
pub fn asks_for(selector: &VectorSelector, label: &str) -> bool {
    selector.matchers.matchers.iter().any(|m| m.name == label)
}

/// Every part of an expression, itself first.
fn parts(expr: &Expr) -> Vec<&Expr> {
    let mut parts = vec![expr];
    let mut next = 0;
    while let Some(expr) = parts.get(next).copied() {
        next += 1;
        match expr {
            Expr::Aggregate(aggregate) => {
                parts.extend(aggregate.param.as_deref());
                parts.push(&aggregate.expr);
            }
            Expr::Unary(unary) => parts.push(&unary.expr),
            Expr::Binary(binary) => parts.extend([&*binary.lhs, &*binary.rhs]),
            Expr::Paren(paren) => parts.push(&paren.expr),
            Expr::Subquery(subquery) => parts.push(&subquery.expr),
            Expr::Call(call) => parts.extend(call.args.args.iter().map(AsRef::as_ref)),
            Expr::NumberLiteral(_)
            | Expr::StringLiteral(_)
            | Expr::VectorSelector(_)
            | Expr::MatrixSelector(_)
            | Expr::Extension(_) => {}
        }
    }
    parts
}

/// Every selector.
#[must_use]
pub fn selectors(expr: &Expr) -> Vec<&VectorSelector> {
    fn selector(part: &Expr) -> Option<&VectorSelector> {
        match part {
            Expr::VectorSelector(selector) => Some(selector),
            Expr::MatrixSelector(matrix) => Some(&matrix.vs),
            _ => None,
        }
    }
    parts(expr).into_iter().filter_map(selector).collect()
}

/// Whether a function writes this label.
#[must_use]
pub fn writes(expr: &Expr, label: &str) -> bool {
    parts(expr).into_iter().any(|part| {
        matches!(part, Expr::Call(call) if matches!(call.func.name, "label_replace" | "label_join")
            && call.args.args.get(1).is_some_and(|arg| is_text(arg, label)))
    })
}

/// The shortest range within which samples are compared with one another, and by what.
#[must_use]
pub fn shortest_difference(expr: &Expr) -> Option<(Duration, &'static str)> {
    let differences = parts(expr).into_iter().filter_map(|part| match part {
        Expr::Call(call) if DIFFERENCES.contains(&call.func.name) => Some(call),
        _ => None,
    });
    let ranges = differences.flat_map(|call| {
        call.args.args.iter().filter_map(|arg| match inside(arg) {
            Expr::MatrixSelector(matrix) => Some((matrix.range, call.func.name)),
            _ => None,
        })
    });
    ranges.min()
}

/// A division of counts by counts, both of pods, that nothing keeps from small numbers: what it divides by.
#[must_use]
pub fn unguarded_ratio(expr: &Expr, pod: &str) -> Option<String> {
    let all = parts(expr);
    let guard =
        |part: &&Expr| matches!(part, Expr::Binary(b) if b.op.is_comparison_operator() && !b.return_bool());
    if all.iter().any(guard) {
        return None;
    }
    let counts = |expr: &Expr| {
        let counting = |part: &&Expr| matches!(part, Expr::Call(call) if matches!(call.func.name, "rate" | "increase" | "irate"));
        parts(expr).iter().any(counting)
    };
    // What has no pods is a mean of the fleet, which is no small number.
    let of_pods = |side: &Expr| side.value_type() == ValueType::Vector && lost(side, pod).is_none();
    let ratio = all.into_iter().find_map(|part| match part {
        Expr::Binary(b) if b.op.to_string() == "/" => {
            Some(b).filter(|b| of_pods(&b.lhs) && of_pods(&b.rhs) && counts(&b.rhs))
        }
        _ => None,
    });
    ratio.map(|ratio| ratio.rhs.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expr(query: &str) -> Expr {
        read(query).unwrap_or_else(|| panic!("{query}"))
    }

    #[test]
    fn a_label_is_lost_where_prometheus_takes_it_away() {
        for query in [
            "sum(x)",
            "sum by (code) (x)",
            "sum without (pod) (x)",
            "sum by (pod) (sum by (code) (x))",
            "count_values(\"v\", x)",
            "vector(1)",
            "1 + 1",
            "scalar(x)",
            "-(sum(x))",
            "sum(x) * 2",
            "2 / sum(x)",
            "abs(sum(x))",
            "absent(x{job=\"a\"})",
            "absent(absent(x{pod=\"a\"}))",
            "minute()",
            "x{pod=\"\"}",
            "x / on (instance) y",
            "x * ignoring (pod) y",
            "sum by (pod) (x) / sum(y)",
            "sum by (pod) (x) and sum(y)",
            "sum(x) unless y",
            "sum(x) or vector(0)",
            "sum(x) * on (job) group_left () y",
            "x * on (instance) group_left (pod) sum by (instance) (y)",
            "sum by (instance) (y) * on (instance) group_right () sum by (instance) (x)",
            "max_over_time(sum(x)[5m:1m])",
            "histogram_quantile(0.9, sum by (le) (rate(x[5m])))",
            "label_replace(sum(x), \"node\", \"$1\", \"pod\", \"(.*)\")",
            "topk(3, sum(x))",
        ] {
            assert!(lost(&expr(query), "pod").is_some(), "{query}");
        }
    }

    #[test]
    fn a_label_that_may_be_there_is_not_lost() {
        for query in [
            "x",
            "sum by (namespace, pod) (x)",
            "sum without (instance) (x)",
            "topk by (code) (3, x)",
            "count_values by (code) (\"pod\", x)",
            "x / scalar(sum(x))",
            "x / on () group_left () sum(x)",
            "x / ignoring (code) group_left () y",
            "x and on (pod) y",
            "x and on () sum(y)",
            "x unless sum(y)",
            "sum(x) or y",
            "sum by (pod_ip) (x) * on (pod_ip) group_left (namespace, pod) kube_pod_info",
            "kube_pod_info * on (pod_ip) group_right (pod) sum by (pod_ip) (x)",
            "label_replace(sum by (instance) (x), \"pod\", \"$1\", \"instance\", \"(.*):.*\")",
            "label_join(sum by (a) (x), \"pod\", \"-\", \"a\")",
            "histogram_quantile(0.9, sum by (le, pod) (rate(x[5m])))",
            "absent(x{pod=\"a\"})",
            "max_over_time((sum by (pod) (x))[5m:1m])",
            "round(x, 0.1)",
            "hour(x)",
        ] {
            assert_eq!(lost(&expr(query), "pod"), None, "{query}");
        }
    }

    #[test]
    fn the_sentence_names_what_takes_it_away() {
        let told = |query| lost(&expr(query), "pod").unwrap();
        assert_eq!(told("abs(sum by (code, job) (x))"), "`sum by (code, job)` leaves it out");
        assert_eq!(
            told("sum by (pod) (x) / sum(y)"),
            "no series that has it finds a partner on one side of `/`, where `sum` without `by` leaves no label"
        );
    }

    #[test]
    fn the_shortest_range_of_a_difference_is_found_and_others_are_not_counted() {
        let of = |query| shortest_difference(&expr(query)).map(|(range, by)| (range.as_secs(), by));
        assert_eq!(of("rate(a[5m]) / increase(b[30s])"), Some((30, "increase")));
        assert_eq!(of("max_over_time(up[15s])"), None);
        assert_eq!(of("rate((x)[5m:1m])"), None);
    }

    #[test]
    fn a_ratio_of_counts_is_found_unless_it_is_guarded_or_over_the_fleet() {
        let found = |query| unguarded_ratio(&expr(query), "pod").is_some();
        assert!(found("sum by (pod) (rate(e[1m])) / sum by (pod) (rate(a[1m]))"));
        assert!(!found(
            "(sum by (pod) (rate(e[1m])) / sum by (pod) (rate(a[1m]))) and sum by (pod) (rate(a[1m])) > 1"
        ));
        assert!(!found("rate(x[1m]) / scalar(avg(rate(x[1m])))"));
        assert!(!found("rate(x[1m]) / on () group_left () avg(rate(x[1m]))"));
        assert!(!found("memory_used_bytes / memory_limit_bytes"));
    }

    #[test]
    fn no_depth_of_nesting_overflows_the_stack() {
        for deep in [
            format!("{}x[1m]{}", "(".repeat(2_045), ")".repeat(2_045)),
            format!("{}x{}", "abs(".repeat(800), ")".repeat(800)),
            format!("x{}", "/x".repeat(2_040)),
        ] {
            assert!(read(&deep).is_none());
        }
        let deepest = [
            format!("{}x{}", "abs(".repeat(399), ")".repeat(399)),
            format!("x{}", "/y".repeat(199)),
            format!("{}x{}", "(x/on(pod)group_left()".repeat(130), ")".repeat(130)),
        ];
        for query in deepest {
            let expr = expr(&query);
            assert!(lost(&expr, "pod").is_none() && unguarded_ratio(&expr, "pod").is_none());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(query in "[a-z0-9 (){}\\[\\]:@,\"'#~=!.+*/-]{0,80}|((sum|avg|topk)( by \\((pod|a)\\))? \\(|x|rate\\(|\\)|/|[+*]| on \\(pod\\) |\\[1m\\]){0,20}") {
            if let Some(expr) = read(&query) {
                let _ = (lost(&expr, "pod"), unguarded_ratio(&expr, "pod"), shortest_difference(&expr), selectors(&expr));
            }
        }
    }
}
