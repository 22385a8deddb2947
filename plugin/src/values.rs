//! What breakers measured last, by the controller's own word: for `describe`, beside what is stored.

use std::fmt::Write as _;

use kubervisor::api::{Explained, ExplainedFinding, ExplainedPod};
use serde_json::Value;

use crate::controller::{Heard, Way, explained};
use crate::objects::{name, namespace};

/// Pods that are named for each breaker, the worst.
const NAMED_MAX: usize = 3;

/// An `Err` says why they are not known.
pub type Values = Result<Explained, String>;

/// Of this object.
pub async fn of(way: &Way, object: &Value) -> Values {
    read(way.ask(&format!("/explain/{}/{}", namespace(object), name(object))).await)
}

fn read(heard: Heard) -> Values {
    let answer = match heard {
        Heard::Told(answer) => answer,
        Heard::Refused(not) => return Err(not.error),
        Heard::Silent(why) | Heard::Unasked(why) => return Err(why),
    };
    explained(answer).map_err(|error| format!("{error:#}"))
}

/// The worst of a breaker's pods with their values, each with its share of the limit; none where nothing was measured.
#[must_use]
pub fn worst(explained: &Explained, breaker: &str) -> Option<String> {
    let findings = explained.pods.iter().flat_map(|pod| pod.findings.iter().map(move |f| (pod, f)));
    let mut known: Vec<_> = findings
        .filter(|(_, f)| f.breaker == breaker && f.unknown.is_none() && !f.value.is_empty())
        .collect();
    let margin = |(_, finding): &(&ExplainedPod, &ExplainedFinding)| finding.margin.unwrap_or_default();
    known.sort_by(|a, b| margin(b).total_cmp(&margin(a)).then_with(|| a.0.name.cmp(&b.0.name)));
    let median = known.iter().find_map(|(_, finding)| finding.median);
    let named = known.iter().take(NAMED_MAX).map(|(pod, finding)| match finding.margin {
        Some(margin) => format!("{} {} ({margin:.2} of the limit)", pod.name, finding.value),
        None => format!("{} {}", pod.name, finding.value),
    });
    let mut text = named.collect::<Vec<_>>().join("; ");
    if text.is_empty() {
        return None;
    }
    if let Some(more) = known.len().checked_sub(NAMED_MAX).filter(|more| *more > 0) {
        let _ = write!(text, "; {more} more");
    }
    if let Some(median) = median {
        let _ = write!(text, "; the median is {median:.4}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pears() -> Explained {
        let pod = |name: &str, findings: Value| json!({"name": name, "findings": findings});
        let errors = |bad: &str, margin: f64| json!({"breaker": "errors", "value": bad, "margin": margin});
        let answer = json!({"version": 1, "pods": [
            pod("pear-0", json!([errors("bad 3 % of 9", 0.1)])),
            pod("pear-1", json!([errors("bad 62 % of 9", 2.07),
                {"breaker": "price", "value": "0.2500", "median": 0.2}])),
            pod("pear-2", json!([{"breaker": "errors", "unknown": "NoSeries", "value": "no series"}])),
            pod("pear-3", json!([errors("bad 0 % of 9", 0.0)])),
            pod("pear-4", json!([errors("bad 0 % of 9", 0.0)])),
        ]});
        read(Heard::Told(answer)).unwrap()
    }

    #[test]
    fn the_worst_are_named_first_and_who_is_unknown_has_no_value() {
        let told = worst(&pears(), "errors").unwrap();
        assert_eq!(
            told,
            "pear-1 bad 62 % of 9 (2.07 of the limit); pear-0 bad 3 % of 9 (0.10 of the limit); \
             pear-3 bad 0 % of 9 (0.00 of the limit); 1 more"
        );
        assert_eq!(worst(&pears(), "price").unwrap(), "pear-1 0.2500; the median is 0.2000");
        assert_eq!(worst(&pears(), "latency"), None);
    }

    #[test]
    fn an_answer_of_a_newer_form_is_not_guessed_at() {
        assert!(read(Heard::Told(json!({"version": 99}))).unwrap_err().contains("update it"));
    }
}
