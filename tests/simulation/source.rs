//! The sources as the controller asks them: answers computed from the counters of the cluster, with the faults of the
//! script. What was answered is kept for the checkers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kubervisor::sources::{Answer, Question, Slot, Source, SourceError};
use kubervisor_core::sample::{Reading, Row, Samples};
use tokio::time::Instant;

use super::cluster::{SCRAPE, Totals};
use super::object::Name;
use super::script::What;
use super::sim::{Shared, Sim};

/// The sources of one controller.
pub struct Sources {
    pub shared: Shared,
    pub who: usize,
}

/// What a source said of one pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Said {
    /// Good and bad events.
    Counts(f64, f64),
    Value(f64),
    Named,
    /// Nothing that could be read.
    Odd,
}

/// One answer as the checkers keep it.
#[derive(Debug, Clone)]
pub struct Told {
    pub at: Duration,
    /// `None`: it failed.
    pub rows: Option<BTreeMap<String, Said>>,
    pub partial: bool,
}

/// Who asks what, so that a breaker's answers are found by its spec.
pub fn key(question: &Question) -> String {
    match question {
        Question::Prometheus(q) => q.query.to_string(),
        Question::Custom(q) => q.endpoint.as_str().rsplit(":8080").next().unwrap_or_default().to_owned(),
    }
}

impl Source for Sources {
    fn ask<'a>(&'a self, question: &'a Question, _: Slot) -> BoxFuture<'a, Result<Arc<Answer>, SourceError>> {
        Box::pin(async move {
            let asked_at = Instant::now();
            let (id, latency) = {
                let mut sim = self.shared.lock();
                sim.asked += 1;
                (sim.asked, sim.chance.millis(2, 60, "source", sim.asked, 0))
            };
            if self.shared.lock().fault(id, |what| what == What::SourceHangs).is_some() {
                tokio::time::sleep(question.timeout()).await;
                return self.shared.lock().failed(
                    self.who,
                    question,
                    SourceError::Timeout(question.timeout()),
                );
            }
            tokio::time::sleep(latency).await;
            let mut sim = self.shared.lock();
            if sim.fault(id, |what| what == What::SourceFails).is_some() {
                return sim.failed(self.who, question, SourceError::Unreachable);
            }
            let samples = sim.samples(self.who, id, question);
            let answered_at = Instant::now();
            Ok(Arc::new(Answer { samples, asked_at, answered_at, dropped: 0, warnings: Vec::new() }))
        })
    }
}

impl Sim {
    fn failed(
        &mut self,
        who: usize,
        question: &Question,
        error: SourceError,
    ) -> Result<Arc<Answer>, SourceError> {
        let told = Told { at: self.now(), rows: None, partial: false };
        self.judge.told(who, key(question), told);
        Err(error)
    }

    fn samples(&mut self, who: usize, id: u64, question: &Question) -> Samples {
        let (service, said) = self.truth(question);
        let now = self.now();
        let partial = self.fault(id, |what| what == What::SourcePartial).is_some();
        let empty = self.fault(id, |what| what == What::SourceEmpty).is_some();
        let mut told = BTreeMap::new();
        let mut rows = Vec::new();
        let namespace = self.cluster.fleets.get(service).map(|f| f.plan.namespace).unwrap_or_default();
        for (index, ((_, pod), mut said)) in said.into_iter().enumerate() {
            let key = id * 100 + index as u64;
            let gone = empty || self.fault(key, |what| what == What::SourceGaps).is_some();
            // Half of the pods are missing, or more, while it says itself that it is incomplete.
            if gone || (partial && self.chance.happens(50, "partial", key, 0)) {
                continue;
            }
            let named = said == Said::Named;
            if !named && self.fault(key, |what| what == What::SourceNotANumber).is_some() {
                said = Said::Odd;
            }
            let elsewhere = self.fault(key, |what| what == What::SourceElsewhere).is_some();
            let twice = self.fault(key, |what| what == What::SourceTwice).is_some();
            let place = if elsewhere { "desert" } else { namespace };
            let pieces = pieces(place, &pod, said);
            if twice && !named {
                rows.extend(pieces.clone());
                said = Said::Odd;
            }
            rows.extend(pieces);
            if !elsewhere {
                told.insert(pod, said);
            }
        }
        let question = key(question);
        self.judge.told(who, question, Told { at: now, rows: Some(told), partial });
        Samples::new(rows, partial)
    }

    /// Which service a question is about, and what a perfect source would say.
    fn truth(&mut self, question: &Question) -> (usize, BTreeMap<Name, Said>) {
        let text = key(question);
        let about = |f: &super::cluster::Fleet| {
            let (ns, name) = (f.plan.namespace, f.plan.name);
            text.contains(&format!("{ns}_{name}[")) || text == format!("/{ns}/{name}")
        };
        let Some(service) = self.cluster.fleets.iter().position(about) else { return (0, BTreeMap::new()) };
        let id = self.asked;
        let lag = match self.fault(id, |what| matches!(what, What::SourceLags(_))) {
            Some(What::SourceLags(lag)) => lag,
            _ => Duration::ZERO,
        };
        let now = self.now().saturating_sub(lag);
        let bodies = self.cluster.bodies.values().filter(|b| b.service == service);
        if let Question::Custom(_) = question {
            let named = bodies.filter(|b| b.sick()).map(|b| (b.name.clone(), Said::Named));
            return (service, named.collect());
        }
        let range = text.split_once('[').and_then(|(_, rest)| rest.split_once('s')?.0.parse().ok());
        let range = Duration::from_secs(range.unwrap_or(60));
        let seen = bodies.filter_map(|b| Some((b.name.clone(), increase(&b.scrapes, now, range)?)));
        let seen: BTreeMap<_, _> = seen.collect();
        let counts = text.starts_with("sum by");
        (service, if counts { seen.into_iter().map(counted).collect() } else { ratios(&seen) })
    }
}

fn counted((name, totals): (Name, Totals)) -> (Name, Said) {
    (name, Said::Counts(totals.good.round(), totals.bad.round()))
}

/// Each pod's mean, divided by the mean of the fleet; no number where there were no requests.
fn ratios(seen: &BTreeMap<Name, Totals>) -> BTreeMap<Name, Said> {
    let value = |t: &Totals| t.value / (t.good + t.bad);
    let known: Vec<_> = seen.values().filter(|t| t.good + t.bad > 0.0).map(value).collect();
    #[allow(clippy::cast_precision_loss)]
    let mean = known.iter().sum::<f64>() / known.len().max(1) as f64;
    let said = |t: &Totals| if t.good + t.bad > 0.0 { Said::Value(value(t) / mean) } else { Said::Odd };
    seen.iter().map(|(name, t)| (name.clone(), said(t))).collect()
}

/// What happened between the first and the last scrape within the range; two are needed.
fn increase(scrapes: &[(Duration, Totals)], now: Duration, range: Duration) -> Option<Totals> {
    let within = |(at, _): &&(Duration, Totals)| *at <= now && *at + range >= now;
    let (first, last) = (scrapes.iter().find(within)?, scrapes.iter().rev().find(within)?);
    // A pod that is no longer scraped has no series any more.
    let fresh = last.0 + SCRAPE * 2 >= now;
    (first.0 < last.0 && fresh).then_some(Totals {
        good: last.1.good - first.1.good,
        bad: last.1.bad - first.1.bad,
        value: last.1.value - first.1.value,
    })
}

fn pieces(namespace: &str, pod: &str, said: Said) -> Vec<Row> {
    let row = |key: Option<&str>, reading| Row {
        namespace: Some(namespace.into()),
        pod: pod.into(),
        key: key.map(Into::into),
        reading,
    };
    match said {
        Said::Counts(good, bad) => {
            vec![row(Some("200"), Reading::of(good)), row(Some("500"), Reading::of(bad))]
        }
        Said::Value(value) => vec![row(None, Reading::of(value))],
        Said::Named => vec![row(None, Reading::of(1.0))],
        Said::Odd => vec![row(None, Reading::NotANumber)],
    }
}
