//! How far back a query looks: as long as that, a cut pod's past counts against it.

use std::time::Duration;

use promql_parser::parser::{AtModifier, Expr, Offset, VectorSelector, parse};
use promql_parser::util::parse_duration;

/// What an unreadable query counts as, and the most that a selector without a range does: Prometheus' own lookback.
pub const FIVE_MINUTES: Duration = Duration::from_secs(300);
/// Longer queries are not read. Admission refuses them above 4 KiB; deep nesting costs a stack frame a character.
const MAX_LENGTH: usize = 4_096;
/// Signs in a query that is read: far more than people write, far less than a stack of 2 MiB holds in a debug build.
/// Brackets are bounded by the length.
const MAX_SIGNS: usize = 400;

/// How far back a query looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeOf {
    /// The longest way from the moment of evaluation to a sample that counts.
    pub range: Duration,
    /// Whether the query could be read. If not, `range` is 5 minutes, or the longest time in brackets if that is
    /// more: the server may well understand it, so it is no reason to refuse it.
    pub understood: bool,
}

/// The longest range of a query: matrix selectors and subqueries (their own range and the inner one), offsets added.
/// `max_sample_age` is what a selector without a range takes (at most 5 minutes): the `lookback_delta` of the question.
#[must_use]
pub fn range_of(query: &str, max_sample_age: Duration) -> RangeOf {
    let instant = max_sample_age.min(FIVE_MINUTES);
    match read_bounded(query).and_then(|expr| reach(&expr, instant)) {
        Some(range) => RangeOf { range, understood: true },
        None => RangeOf { range: longest_in_brackets(query).max(FIVE_MINUTES), understood: false },
    }
}

/// A query, unless it is too long or too deep to be read safely.
#[must_use]
pub fn read_bounded(query: &str) -> Option<Expr> {
    if query.len() > MAX_LENGTH || signs(query) > MAX_SIGNS { None } else { read(query) }
}

/// The parser calls itself for each sign, and a thread's stack has an end.
fn signs(query: &str) -> usize {
    query.bytes().filter(|b| matches!(b, b'-' | b'+')).count()
}

/// The parser panics on some texts, such as `x[1e99]` (0.11.1); a spec may hold any text and must stop nobody.
fn read(query: &str) -> Option<Expr> {
    std::panic::catch_unwind(|| parse(query)).ok()?.ok()
}

/// `None`: something in it has no bounded reach.
fn reach(expr: &Expr, instant: Duration) -> Option<Duration> {
    let longest = |parts: &[&Expr]| {
        parts.iter().try_fold(Duration::ZERO, |so_far, part| Some(so_far.max(reach(part, instant)?)))
    };
    match expr {
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => Some(Duration::ZERO),
        Expr::VectorSelector(selector) => selected(selector, instant),
        Expr::MatrixSelector(matrix) => selected(&matrix.vs, matrix.range),
        Expr::Subquery(subquery) => {
            let inner = longest(&[&subquery.expr])?;
            Some(
                shifted(subquery.at.as_ref(), subquery.offset.as_ref(), subquery.range)?
                    .saturating_add(inner),
            )
        }
        Expr::Paren(paren) => longest(&[&paren.expr]),
        Expr::Unary(unary) => longest(&[&unary.expr]),
        Expr::Binary(binary) => longest(&[&binary.lhs, &binary.rhs]),
        Expr::Aggregate(aggregate) => match &aggregate.param {
            Some(param) => longest(&[&aggregate.expr, param]),
            None => longest(&[&aggregate.expr]),
        },
        Expr::Call(call) => longest(&call.args.args.iter().map(AsRef::as_ref).collect::<Vec<_>>()),
        Expr::Extension(_) => None,
    }
}

fn selected(selector: &VectorSelector, range: Duration) -> Option<Duration> {
    shifted(selector.at.as_ref(), selector.offset.as_ref(), range)
}

/// A negative offset is taken as none: it looks at later samples, and never makes a range longer.
fn shifted(at: Option<&AtModifier>, offset: Option<&Offset>, range: Duration) -> Option<Duration> {
    match (at, offset) {
        // A fixed moment never leaves the window.
        (Some(AtModifier::At(_)), _) => None,
        (Some(AtModifier::Start | AtModifier::End) | None, Some(Offset::Pos(offset))) => {
            Some(range.saturating_add(*offset))
        }
        (Some(AtModifier::Start | AtModifier::End) | None, Some(Offset::Neg(_)) | None) => Some(range),
    }
}

/// By eye only: a query in another dialect still writes its ranges as `[30m]`.
fn longest_in_brackets(query: &str) -> Duration {
    let inside = query.split('[').skip(1).filter_map(|rest| rest.split([']', ':']).next()).map(str::trim);
    // A bare number would be seconds, and panics where it is too large or negative.
    let times = inside.filter(|text| text.parse::<f64>().is_err());
    times.filter_map(|text| parse_duration(text).ok()).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seconds; `None` if not understood.
    fn seconds(query: &str) -> (u64, bool) {
        let RangeOf { range, understood } = range_of(query, Duration::from_secs(60));
        (range.as_secs(), understood)
    }

    #[test]
    fn the_longest_range_is_found_wherever_it_stands() {
        for (query, expected) in [
            ("sum by (code, namespace, pod) (increase(http_requests_total[1m]))", 60),
            ("increase(x[5s])", 5),
            ("increase(x[1h30m])", 5_400),
            ("rate(a[1m]) / rate(b[5m])", 300),
            ("a / on (pod) group_left avg(b)", 60),
            ("up", 60),
            ("up offset 10m", 660),
            ("up offset -10m", 60),
            ("rate(x[1m] offset 5m)", 360),
            ("rate(x[1m] offset -5m)", 60),
            ("rate(x[1m] @ end())", 60),
            ("rate(x[1m] @ start() offset 1m)", 120),
            ("max_over_time(rate(x[5m])[30m:1m])", 2_100),
            ("max_over_time(rate(x[5m])[30m:])", 2_100),
            ("max_over_time(up[30m:1m])", 1_860),
            ("max_over_time(rate(x[5m])[30m:1m] offset 1h)", 5_700),
            ("max_over_time(max_over_time(rate(x[1m])[10m:])[1h:])", 4_260),
            ("topk(scalar(count_over_time(y[7m:1m])), rate(x[1m]))", 480),
            ("-(rate(x[2m]))", 120),
            ("histogram_quantile(0.9, sum by (le, pod) (rate(x_bucket[3m])))", 180),
            ("label_replace(rate(x[2m]), \"pod\", \"$1\", \"name\", \"(.*)[9h]\")", 120),
            ("rate(x[1m]) # not [9h]", 60),
            ("# first\n  rate(x{a=~\"[0-9]+\"}[1m])", 60),
            ("absent(up{job=\"x\"}) or vector(1)", 60),
            ("vector(1)", 0),
            ("time()", 0),
            ("1 + 1", 0),
        ] {
            assert_eq!(seconds(query), (expected, true), "{query}");
        }
    }

    #[test]
    fn what_cannot_be_read_counts_as_five_minutes_or_as_what_its_brackets_say() {
        for (query, expected) in [
            ("rate(x[1m]) keep_metric_names", 300),
            ("rate(x[30m]) default 0", 1_800),
            ("rollup_rate(x[2h:1m], \"max\")", 7_200),
            ("rate(x)", 300),
            ("sum(", 300),
            ("", 300),
            ("rate(x[1m] @ 1609746000)", 300),
            ("x[]]]][[[", 300),
            ("x[1e99]", 300),
            ("x[-1", 300),
            ("x[99999999999999y]", 300),
        ] {
            assert_eq!(seconds(query), (expected, false), "{query}");
        }
    }

    #[test]
    fn a_selector_without_a_range_takes_the_sample_age_up_to_five_minutes() {
        let longest = |age| range_of("up", Duration::from_secs(age)).range.as_secs();
        assert_eq!((longest(10), longest(300), longest(1_200)), (10, 300, 300));
    }

    #[test]
    fn no_depth_of_nesting_overflows_the_stack() {
        let signs = range_of(&format!("{}x", "-".repeat(4_000)), FIVE_MINUTES);
        assert!(!signs.understood);
        let deep = format!("{}x[1m]{}", "(".repeat(2_045), ")".repeat(2_045));
        assert_eq!(seconds(&deep), (60, true));
        let chain = format!("rate(x[1m]){}", "/x".repeat(2_040));
        assert_eq!(seconds(&chain), (60, true));
        assert_eq!(seconds(&"-".repeat(100_000)), (300, false));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(query in "[a-z0-9 (){}\\[\\]:@,\"'#~=!.+*/-]{0,80}|\\PC{0,40}") {
            let RangeOf { range, understood } = range_of(&query, Duration::from_secs(60));
            prop_assert!(understood || range >= FIVE_MINUTES);
        }
    }
}
