//! One look at the breakers' own sources, where the controller does not answer.
//!
//! Takes the pods of the Service as they are listed now, the spec and what the sources said; gives what each breaker
//! makes of the pod, by the controller's own decision without a memory. Nothing is carried out.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use kubervisor::api::{Asked, ExplainedBreaker, ExplainedFinding, Parsed, stamp};
use kubervisor::cluster::snapshot::View;
use kubervisor::owner::doubt_of;
use kubervisor_core::Now;
use kubervisor_core::explain::{Looked, Refused};
use kubervisor_core::gates::Gate;
use kubervisor_core::memory::Memory;
use kubervisor_core::plan::Report;
use kubervisor_core::policy::{BreakerPolicy, Mode};
use kubervisor_core::tick::{Answer, Input, tick};
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::asking::{Asker, Came};
use super::route::Place;
use crate::args::ExplainArgs;
use crate::ground::Ground;
use crate::objects::{name, text};
use crate::reach::Cluster;

/// What was seen.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Look {
    /// When.
    pub(super) at: String,
    /// Why nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    /// Who was asked, by breaker.
    pub(super) asked: BTreeMap<String, String>,
    /// As in the controller's answer.
    pub(super) breakers: Vec<ExplainedBreaker>,
    /// As in the controller's answer, of this pod.
    pub(super) findings: Vec<ExplainedFinding>,
}

/// What a look is made of.
struct Seen<'a> {
    view: &'a View,
    parsed: &'a Parsed,
    /// In the order of the breakers.
    came: &'a [Came],
    at: (Timestamp, Instant),
}

/// A breaker, what it asks, and what came of it.
type One<'a> = (&'a BreakerPolicy, &'a Asked, &'a Came);

impl<'a> Seen<'a> {
    fn each(&self) -> impl Iterator<Item = One<'a>> + use<'a> {
        let Self { parsed, came, .. } = *self;
        let both = parsed.policy.breakers.iter().zip(&parsed.asked);
        both.zip(came).map(|((breaker, asked), came)| (breaker, asked, came))
    }

    /// Nothing that is stored on a pod is of a time before the first.
    fn now(&self) -> Now {
        let seconds = u64::try_from(self.at.0.as_second()).unwrap_or_default();
        Now { wall: self.at.0, mono: Duration::from_secs(seconds) }
    }

    fn answers(&self, now: Now) -> Vec<Answer<'a>> {
        let answer = |(breaker, _, came): One<'a>| {
            let answers = came.result.as_ref().ok()?;
            let passed = self.at.1.saturating_duration_since(answers.asked_at());
            Some(Answer {
                breaker: &breaker.name,
                asked: now.mono.saturating_sub(passed),
                samples: Some(&answers.values.samples),
                activity: answers.activity.as_ref().map(|activity| &activity.samples),
            })
        };
        self.each().filter_map(answer).collect()
    }

    fn only_shows(&self, breaker: &str) -> bool {
        let policy = &self.parsed.policy;
        policy.mode == Mode::DryRun || policy.breaker(breaker).is_some_and(|breaker| !breaker.enforced)
    }

    fn breaker(&self, (policy, asked, came): One<'_>, report: &Report) -> ExplainedBreaker {
        let report = report.breakers.iter().find(|report| report.name == policy.name);
        let doubt = match &came.result {
            Ok(answers) => doubt_of(Some(&policy.detector), answers, self.view),
            Err(_) => None,
        };
        ExplainedBreaker {
            healthy: report.map_or(0, |report| report.healthy),
            anomalous: report.map_or(0, |report| report.anomalous),
            unknown: report.map_or(0, |report| report.unknown),
            error: came.result.as_ref().err().cloned(),
            doubt: doubt.map(|(_, text)| text.to_owned()),
            ..ExplainedBreaker::of(policy, Some(asked), self.only_shows(&policy.name))
        }
    }
}

impl Look {
    /// At this pod of this KubervisorService.
    pub(super) async fn at(cluster: &Cluster, service: &str, pod: &Value, args: &ExplainArgs) -> Self {
        let look = Self::attempt(cluster, service, pod, args).await;
        look.unwrap_or_else(|error| Self {
            at: stamp(Timestamp::now()),
            error: Some(format!("{error:#}")),
            ..Self::default()
        })
    }

    async fn attempt(
        cluster: &Cluster,
        service: &str,
        pod: &Value,
        args: &ExplainArgs,
    ) -> anyhow::Result<Self> {
        let ground = Ground::of(cluster, service).await?;
        let Some(parsed) = ground.policy()?.filter(|_| ground.governor.as_ref().map(name) == Some(service))
        else {
            anyhow::bail!("there is no KubervisorService {service:?} that says what to ask")
        };
        anyhow::ensure!(
            parsed.policy.mode != Mode::Disabled,
            "KubervisorService {service:?} is in mode Disabled: no pod is judged"
        );
        let place = Place {
            namespace: &cluster.namespace,
            controller: &args.controller.controller_namespace,
            given: args.prometheus_url.as_ref(),
        };
        let came = Asker::new(cluster, place)?.all(&parsed.asked).await;
        let at = (Timestamp::now(), Instant::now());
        let seen = Seen { view: &ground.view()?, parsed: &parsed, came: &came, at };
        Self::judged(&seen, text(pod, "/metadata/uid"))
            .ok_or_else(|| anyhow::anyhow!("Service {} does not select {}", parsed.service, name(pod)))
    }

    /// By the decision of a controller that has just begun; `None` where the pod is no member. What that would do is not
    /// looked at, and a dry run would do nothing.
    fn judged(seen: &Seen<'_>, uid: &str) -> Option<Self> {
        let (policy, fleet, now) = (seen.parsed.policy.enforced(), &seen.view.fleet, seen.now());
        let (answers, gates) = (seen.answers(now), [Gate::DryRun]);
        let input =
            Input { fleet, answers: &answers, policy: &policy, gates: &gates, kills: &[], now, seed: 0 };
        let member = fleet.member(uid)?;
        let (mut memory, refused) = (Memory::default(), Refused::default());
        let report = tick(&input, &mut memory).report;
        let found = Looked::at(&input, &memory, &refused).pod(member, None).findings;
        let whom = seen.each().filter(|(_, _, came)| !came.whom.is_empty());
        Some(Self {
            at: stamp(seen.at.0),
            error: None,
            asked: whom.map(|(breaker, _, came)| (breaker.name.to_string(), came.whom.clone())).collect(),
            breakers: seen.each().map(|one| seen.breaker(one, &report)).collect(),
            findings: found.iter().map(|f| ExplainedFinding::of(f, seen.only_shows(&f.breaker))).collect(),
        })
    }

    /// Whether anybody answered.
    pub(super) fn answered(&self) -> bool {
        self.breakers.iter().any(|breaker| breaker.error.is_none())
    }

    /// Each breaker with what it makes of the pod.
    pub(super) fn each(&self) -> impl Iterator<Item = (&ExplainedBreaker, &ExplainedFinding)> {
        let found = |breaker: &ExplainedBreaker| self.findings.iter().find(|f| f.breaker == breaker.name);
        self.breakers.iter().filter_map(move |breaker| Some((breaker, found(breaker)?)))
    }

    /// In a few words, after the name of the pod, where it says anything.
    pub(super) fn opinion(&self) -> Option<Opinion> {
        let is = |verdict: &'static str| {
            move |(_, finding): &(&ExplainedBreaker, &ExplainedFinding)| finding.verdict == verdict
        };
        let ill = || self.each().filter(is("Anomalous"));
        if let Some((breaker, finding)) = ill().find(|(breaker, _)| !breaker.only_shown) {
            let (name, value) = (&breaker.name, &finding.value);
            return Some(Opinion::Ill(format!(
                "one look just now finds it anomalous by breaker {name} ({value})"
            )));
        }
        if let Some((breaker, finding)) = ill().next() {
            let (name, value) = (&breaker.name, &finding.value);
            return Some(Opinion::Well(format!(
                "one look just now finds it anomalous only by breaker {name}, in dry run ({value})"
            )));
        }
        self.each().find(is("Healthy"))?;
        let part =
            if self.each().all(|one| is("Healthy")(&one)) { "" } else { ", as far as it could be judged" };
        Some(Opinion::Well(format!("one look just now finds nothing wrong with it{part}")))
    }
}

/// What one look makes of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Opinion {
    /// A breaker finds it anomalous.
    Ill(String),
    /// None does that would act on it, and one at least has judged it.
    Well(String),
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::Arc;

    use kubervisor::cluster::cache::Cache;
    use kubervisor::cluster::index::Governor;
    use kubervisor::cluster::watch::Sink;
    use kubervisor::owner::Answers;
    use kubervisor::sources::{Question, relayed};
    use serde_json::json;
    use tokio::sync::Notify;

    use crate::rules::parsed;
    use crate::testing::now;

    /// Six pods that serve, but the first, which is cut.
    fn view() -> View {
        let cache = Arc::new(Cache::default());
        cache.expect(&[None]);
        let meta = |name: &str, labels: Value| {
            json!({"name": name, "namespace": "shop", "uid": format!("uid-of-{name}"), "resourceVersion": "7",
                "labels": labels, "creationTimestamp": "2026-03-01T08:00:00Z"})
        };
        let service = json!({"metadata": meta("checkout", json!({})),
            "spec": {"selector": {"app": "checkout", "kubervisor/traffic": "yes"}}});
        cache.services(None).apply(serde_json::from_value(service).unwrap());
        for number in 0..6 {
            let label = if number == 0 { "no" } else { "yes" };
            let labels = json!({"app": "checkout", "kubervisor/traffic": label});
            let ready =
                json!({"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T08:00:30Z"});
            let pod = json!({"metadata": meta(&format!("checkout-{number}"), labels), "status": {"conditions": [ready]}});
            cache.pods(None).apply(serde_json::from_value(pod).unwrap());
        }
        let governor = Governor {
            name: "checkout".into(),
            service: "checkout".into(),
            created: now(),
            labels: false,
            manages: false,
            changed: Arc::new(Notify::new()),
        };
        cache.govern("shop", "k1", governor);
        cache.view("shop", "k1").unwrap()
    }

    fn spec(mode: &str) -> Parsed {
        let source = "prometheus.monitoring:9090";
        let spec = json!({"service": "checkout", "mode": mode, "breakers": [
            {"name": "latency", "fleetOutlier": {"prometheusService": source, "promQL": "latency", "minDelta": 0.1}},
            {"name": "errors", "mode": "DryRun", "discreteValueOutOfList": {"prometheusService": source, "key": "code",
                "goodValues": ["200"], "promQL": "sum by (code, pod) (increase(answers[5m]))"}},
            {"name": "away", "valueOutOfRange": {"prometheusService": "10.0.0.7", "promQL": "up", "min": 1}},
        ]});
        parsed(&spec, "shop").unwrap()
    }

    /// As a Prometheus answers: a value for each pod, by its number.
    fn said(question: &Question, at: Instant, series: &[(usize, &str, f64)]) -> Came {
        let one = |(number, code, value): &(usize, &str, f64)| json!({"metric": {"pod": format!("checkout-{number}"), "code": code}, "value": [0, value.to_string()]});
        let result: Vec<_> = series.iter().map(one).collect();
        let body =
            json!({"status": "success", "data": {"resultType": "vector", "result": result}}).to_string();
        let values = relayed::read(question, 200, body.as_bytes(), at).unwrap();
        let whom = "Service monitoring/prometheus:9090 by way of the API server".to_owned();
        Came { whom, result: Ok(Answers { values: Arc::new(values), activity: None }) }
    }

    /// The cut one is four times as slow as the others, and half of what it answers is bad.
    fn came(parsed: &Parsed, at: Instant) -> Vec<Came> {
        let latency: Vec<_> = (0..6).map(|n| (n, "", if n == 0 { 0.8 } else { 0.2 })).collect();
        let codes = [(0, "200", 50.0), (0, "500", 60.0), (1, "200", 110.0), (2, "200", 1.0)];
        let away = Came { whom: String::new(), result: Err("not asked: it is elsewhere".to_owned()) };
        vec![said(&parsed.asked[0].question, at, &latency), said(&parsed.asked[1].question, at, &codes), away]
    }

    /// At a pod of that fleet, with a spec of this mode.
    pub fn look(mode: &str, uid: &str) -> Option<Look> {
        let (parsed, at) = (spec(mode), Instant::now());
        let came = came(&parsed, at);
        Look::judged(&Seen { view: &view(), parsed: &parsed, came: &came, at: (now(), at) }, uid)
    }

    #[test]
    fn a_look_has_what_the_controllers_answer_has_of_every_breaker_and_of_the_pod() {
        let look = look("Active", "uid-of-checkout-0").unwrap();
        insta::assert_yaml_snapshot!(look);
        let ill = "one look just now finds it anomalous by breaker latency (0.8000, +6.0 spreads away)";
        assert_eq!(look.opinion(), Some(Opinion::Ill(ill.to_owned())));
    }

    #[test]
    fn a_pod_that_is_well_as_far_as_anybody_was_asked_is_not_called_well_without_a_word_more() {
        let one = look("DryRun", "uid-of-checkout-1").unwrap();
        assert!(one.breakers.iter().all(|breaker| breaker.only_shown), "all of it is a dry run");
        let well = "one look just now finds nothing wrong with it, as far as it could be judged";
        assert_eq!(one.opinion(), Some(Opinion::Well(well.to_owned())));
        assert_eq!(Look::default().opinion(), None);
        let shown = look("DryRun", "uid-of-checkout-0").unwrap().opinion();
        let text = "one look just now finds it anomalous only by breaker latency, in dry run (0.8000, +6.0 spreads away)";
        assert_eq!(shown, Some(Opinion::Well(text.to_owned())));
        assert!(look("Active", "uid-of-somebody").is_none(), "it is no member");
    }
}
