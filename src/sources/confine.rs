//! A query that sees one namespace only: every selector of it gets a `namespace` matcher.
//!
//! For a Prometheus that the controller asks with its own rights, on behalf of whoever may write a KubervisorService.
//! What cannot be read, or not be written back as it was read, is refused: half a confinement is none.

use promql_parser::label::{MatchOp, Matcher, Matchers};
use promql_parser::parser::{Expr, VectorSelector};

use super::range::read_bounded;

/// The label of the Prometheus operator, kube-state-metrics and cAdvisor.
const LABEL: &str = "namespace";

/// The query, with `namespace="<namespace>"` in every selector.
///
/// # Errors
/// A sentence.
pub fn confined(query: &str, namespace: &str) -> Result<String, &'static str> {
    let mut expr = read_bounded(query).ok_or(
        "this query cannot be read here, so it cannot be kept to its namespace, which the controller enforces on its own \
         Prometheus; write it in plain PromQL, or name another Prometheus",
    )?;
    confine(&mut expr, namespace)?;
    let text = expr.to_string();
    // The printer is another's: what it printed must mean what was read. It sorts matchers.
    let sorted = |mut expr: Expr| each_selector(&mut expr, &mut sort).map(|()| expr);
    match read_bounded(&text).map(sorted).transpose()? {
        Some(again) if again == sorted(expr)? => Ok(text),
        _ => Err("this query cannot be written back with its namespace in it; write it more simply"),
    }
}

fn confine(expr: &mut Expr, namespace: &str) -> Result<(), &'static str> {
    each_selector(expr, &mut |selector| select(selector, namespace))
}

type Change<'c> = &'c mut dyn FnMut(&mut VectorSelector) -> Result<(), &'static str>;

fn each_selector(expr: &mut Expr, change: Change<'_>) -> Result<(), &'static str> {
    match expr {
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Ok(()),
        Expr::VectorSelector(selector) => change(selector),
        Expr::MatrixSelector(matrix) => change(&mut matrix.vs),
        Expr::Subquery(subquery) => each_selector(&mut subquery.expr, change),
        Expr::Paren(paren) => each_selector(&mut paren.expr, change),
        Expr::Unary(unary) => each_selector(&mut unary.expr, change),
        Expr::Binary(binary) => {
            each_selector(&mut binary.lhs, change)?;
            each_selector(&mut binary.rhs, change)
        }
        Expr::Aggregate(aggregate) => {
            if let Some(param) = &mut aggregate.param {
                each_selector(param, change)?;
            }
            each_selector(&mut aggregate.expr, change)
        }
        Expr::Call(call) if call.func.name == "info" => Err(
            "info() reads series that no selector names, so it cannot be kept to one namespace; join them yourself",
        ),
        Expr::Call(call) => call.args.args.iter_mut().try_for_each(|arg| each_selector(arg, change)),
        Expr::Extension(_) => {
            Err("this query holds what is no PromQL, so it cannot be kept to its namespace")
        }
    }
}

fn sort(selector: &mut VectorSelector) -> Result<(), &'static str> {
    selector.matchers.matchers.sort_by_key(ToString::to_string);
    Ok(())
}

/// One more matcher: all of a selector's must hold, so an own one for another namespace finds nothing.
fn select(selector: &mut VectorSelector, namespace: &str) -> Result<(), &'static str> {
    let Matchers { matchers, or_matchers } = &mut selector.matchers;
    if !or_matchers.is_empty() {
        return Err("`or` between matchers is no PromQL, so the query cannot be kept to its namespace");
    }
    matchers.push(Matcher::new(MatchOp::Equal, LABEL, namespace));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shop(query: &str) -> String {
        confined(query, "shop").unwrap_or_else(|why| panic!("{query}: {why}"))
    }

    #[test]
    fn every_selector_is_confined_wherever_it_stands() {
        for (query, expected) in [
            ("up", r#"up{namespace="shop"}"#),
            (r#"{__name__=~"a.*"}"#, r#"{__name__=~"a.*",namespace="shop"}"#),
            ("rate(x[5m])", r#"rate(x{namespace="shop"}[5m])"#),
            ("rate(x[5m] offset 1h)", r#"rate(x{namespace="shop"}[5m] offset 1h)"#),
            (
                "sum by (code, pod) (increase(x[1m]))",
                r#"sum by (code, pod) (increase(x{namespace="shop"}[1m]))"#,
            ),
            ("-up", r#"-up{namespace="shop"}"#),
            ("(up)", r#"(up{namespace="shop"})"#),
            ("topk(scalar(a), b)", r#"topk(scalar(a{namespace="shop"}), b{namespace="shop"})"#),
            ("max_over_time(rate(x[5m])[30m:1m])", r#"max_over_time(rate(x{namespace="shop"}[5m])[30m:1m])"#),
            (
                "a / on (pod) group_left () b",
                r#"a{namespace="shop"} / on (pod) group_left () b{namespace="shop"}"#,
            ),
            ("absent(up{job=\"x\"}) or vector(1)", r#"absent(up{job="x",namespace="shop"}) or vector(1)"#),
        ] {
            assert_eq!(shop(query), expected);
        }
    }

    #[test]
    fn a_matcher_for_another_namespace_is_kept_and_finds_nothing() {
        let query = shop(r#"sum(up{namespace=~"bank|shop"}) by (pod)"#);
        assert!(query.contains(r#"{namespace="shop",namespace=~"bank|shop"}"#), "{query}");
    }

    #[test]
    fn quotes_and_backslashes_survive() {
        let query = shop(r#"increase(x{code=~"5\\d\\d",path="a\"b\\c"}[1m])"#);
        assert!(query.contains(r#"code=~"5\\d\\d""#) && query.contains(r#"path="a\"b\\c""#), "{query}");
    }

    #[test]
    fn usual_queries_can_be_confined() {
        for query in [
            r#"sum by (code, namespace, pod) (increase(http_requests_total{code!~"4.."}[1m]))"#,
            "(sum by (namespace, pod) (increase(a[5s])) / sum by (namespace, pod) (increase(b[5s]))) / scalar(sum(increase(a[5s])) / sum(increase(b[5s])))",
            "histogram_quantile(0.99, sum by (le, pod) (rate(x_bucket[5m]))) > 0.5 and on (pod) sum by (pod) (rate(x_count[5m])) > 1",
            "1 - avg by (pod) (avg_over_time(up[5m] @ end()))",
            "label_replace(rate(x[2m]), \"pod\", \"$1\", \"name\", \"(.*)-[0-9]+\")",
            "sum without (instance) (rate(x[1m30s])) ^ 2 % 3e-9 >= bool 1",
            "quantile(0.5, x unless y offset -5m)",
            "count_values(\"v\", x) == Inf or -Inf < NaN * x",
            "a{b=\"\"} * ignoring (c, d) group_right (e) f",
        ] {
            let text = shop(query);
            let (selectors, confined) =
                (text.matches('{').count(), text.matches("namespace=\"shop\"").count());
            assert_eq!(selectors, confined, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_confined_is_refused_with_the_reason() {
        for (query, why) in [
            ("rate(x[1m]) keep_metric_names", "cannot be read"),
            ("sum(", "cannot be read"),
            ("", "cannot be read"),
            (r#"x{a="1" or b="2"}"#, "no PromQL"),
        ] {
            let told = confined(query, "shop").expect_err(query);
            assert!(told.contains(why), "{query}: {told}");
        }
        // Not every version of the parser knows it; either way it is refused.
        assert!(confined("info(up)", "shop").is_err());
    }

    proptest! {
        #[test]
        fn what_comes_out_has_a_matcher_in_every_selector(query in "[abx]{1,3}(\\{[ab]=~?\"[a-z.]{0,3}\"\\})?( [-+*/] [abx]{1,3}(\\{\\})?){0,3}") {
            if let Ok(text) = confined(&query, "shop") {
                let again = read_bounded(&text).unwrap();
                let mut twice = again.clone();
                confine(&mut twice, "other").unwrap();
                prop_assert_eq!(twice.to_string().matches("other").count(), text.matches("namespace=\"shop\"").count());
            }
        }

        #[test]
        fn no_text_makes_it_panic(query in "[a-z0-9 (){}\\[\\]:@,\"'#~=!.+*/-]{0,80}|\\PC{0,40}") {
            let _ = confined(&query, "shop");
        }
    }
}
