//! How old the samples of an answer may be, and with them the past of a pod that is cut.
//!
//! A selector without a range looks back as far as the question asks for, if the server reads that. Which servers do is
//! found out by asking them; the ranges of the policy follow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Owner;
use crate::sources::{FIVE_MINUTES, PromQuestion, Question, range_of};

/// Breakers whose source looks back as far as it likes, and whether that is further than they ask for.
pub(super) type Unbounded = BTreeMap<Arc<str>, bool>;

impl Owner {
    /// Brings the ranges of the policy in line with what is known of the sources.
    pub(super) fn bound_ages(&mut self) {
        let Ok(parsed) = self.spec.parsed.clone() else { return };
        for asked in &parsed.asked {
            let Question::Prometheus(question) = &asked.question else { continue };
            let unbounded = self.parts.source.bounds_age(question) == Some(false);
            if unbounded == self.unbounded.contains_key(&asked.breaker) {
                continue;
            }
            let (asked_for, taken) = ranges(question);
            let breaker = self.policy.breakers.iter_mut().find(|b| b.name == asked.breaker);
            breaker.into_iter().for_each(|b| b.range = if unbounded { taken } else { asked_for });
            if unbounded {
                self.unbounded.insert(Arc::clone(&asked.breaker), taken > asked_for);
            } else {
                self.unbounded.remove(&asked.breaker);
            }
        }
    }

    /// A sentence for each breaker whose samples may be older than asked for.
    pub(super) fn age_notes(&self) -> impl Iterator<Item = String> {
        let older = self.unbounded.iter().filter(|(_, older)| **older);
        older.map(|(breaker, _)| {
            format!(
                "{breaker}: sample age up to 5m, as its source ignores lookback_delta; cuts last at least that long"
            )
        })
    }
}

/// How far a query looks back where the server bounds the age of samples, and where it does not.
fn ranges(question: &PromQuestion) -> (std::time::Duration, std::time::Duration) {
    let of = |age| range_of(&question.query, age).range;
    (of(question.lookback), of(FIVE_MINUTES))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Endpoint;
    use std::time::Duration;

    #[test]
    fn a_selector_without_a_range_looks_back_five_minutes_where_nobody_bounds_it() {
        let ranges = |query: &str| {
            ranges(&PromQuestion {
                access: None,
                endpoint: Endpoint::parse("prometheus:9090").unwrap(),
                query: query.into(),
                pod_label: "pod".into(),
                namespace_label: "namespace".into(),
                key_label: None,
                lookback: Duration::from_secs(70),
                timeout: Duration::from_secs(5),
            })
        };
        let seconds = |a, b| (Duration::from_secs(a), Duration::from_secs(b));
        assert_eq!(ranges("queue_length"), seconds(70, 300));
        assert_eq!(ranges("rate(errors_total[40s])"), seconds(40, 40));
        assert_eq!(ranges("rate(errors_total[40s]) / queue_length"), seconds(70, 300));
    }
}
