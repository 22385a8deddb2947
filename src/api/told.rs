//! What the core says of breakers, as an explanation has it: the same of the controller's word as of somebody's own look.

use kubervisor_core::explain::Finding;
use kubervisor_core::policy::BreakerPolicy;

use super::{Asked, ExplainedBreaker, ExplainedFinding, stamp};
use crate::sources::Question;

impl ExplainedBreaker {
    /// As the spec has it, and nothing of what its answers said. `asked`: its question, where the spec can be read.
    #[must_use]
    pub fn of(policy: &BreakerPolicy, asked: Option<&Asked>, only_shown: bool) -> Self {
        let lookback = asked.and_then(|asked| match &asked.question {
            Question::Prometheus(question) => Some(question.lookback.as_secs_f64()),
            Question::Custom(_) => None,
        });
        Self {
            name: policy.name.to_string(),
            detector: policy.detector.kind().to_owned(),
            only_shown,
            threshold: policy.detector.threshold(),
            evaluation_period_seconds: policy.evaluation_period.as_secs_f64(),
            scrape_interval_seconds: policy.scrape_interval.as_secs_f64(),
            range_seconds: policy.range.as_secs_f64(),
            lookback_seconds: lookback,
            confirm_anomalous: policy.confirm.anomalous.into(),
            confirm_of: policy.confirm.of.into(),
            ..Self::default()
        }
    }
}

impl ExplainedFinding {
    /// Of one breaker on one pod.
    #[must_use]
    pub fn of(finding: &Finding, only_shown: bool) -> Self {
        let measured = finding.measure.and_then(Result::ok);
        let unknown = finding.measure.and_then(Result::err);
        let value = match (measured, unknown) {
            (Some(measured), _) => measured.value(),
            (None, Some(unknown)) => unknown.to_string(),
            (None, None) => "its source has not answered yet, or failed".to_owned(),
        };
        let numbers = measured.map(|m| m.evidence.numbers()).unwrap_or_default();
        Self {
            breaker: finding.breaker.to_string(),
            only_shown,
            verdict: finding.says.as_str().to_owned(),
            unknown: unknown.map(|unknown| unknown.as_str().to_owned()),
            value,
            // JSON has no word for what is not finite.
            numbers: numbers
                .into_iter()
                .filter(|(_, n)| n.is_finite())
                .map(|(name, n)| (name.to_owned(), n))
                .collect(),
            margin: measured.map(|m| m.margin),
            median: finding.median.filter(|median| median.is_finite()),
            asked_at: finding.asked.map(stamp),
            found: finding.found.into(),
            settles_until: finding.settles_until.map(stamp),
            probation: finding.probation,
        }
    }
}
