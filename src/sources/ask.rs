//! [`Sources`]: the one real [`Source`].

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout, timeout_at};

use super::http::{Http, Weighed};
use super::probe::Probes;
use super::sharing::{Boarding, Landing, Outcome, Sharing, arrive};
use super::turns::{Turn, Turns};
use super::{
    Answer, MAX_TIMEOUT, PromQuestion, Question, Secrets, Slot, Source, SourceError, custom, prometheus,
};

/// A query that took longer shares its turns with the other slow ones from then on. At the shortest period of 1 s it
/// occupies a turn for good.
const SLOW: Duration = Duration::from_secs(1);
/// For a probe, which holds its question's turn.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// How the sources may be asked.
#[derive(Clone)]
pub struct SourceOptions {
    /// Whether loopback addresses may be asked: for tests and the demo.
    pub allow_loopback: bool,
    /// Addresses that may never be asked: the API server's. Link-local ones never may.
    pub refused_addresses: BTreeSet<IpAddr>,
    /// Queries that one server (scheme, host, port) sees at a time. 4: at 3 ms each that is 1,300 a second, while a
    /// Prometheus that hangs holds 4 of the 20 that it runs at once by default.
    pub max_in_flight_per_endpoint: usize,
    /// Size of a body. 32 MiB: 100,000 series of 335 bytes; one with pod, namespace and code has 117.
    pub max_body_bytes: usize,
    /// Series, or named pods, of one answer. 100,000: as many pods as one controller is made for; 11 MB of rows.
    pub max_series: usize,
    /// Where credentials of tenants are read.
    pub secrets: Arc<dyn Secrets>,
    /// Told of every question.
    pub observer: Arc<dyn Observer>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            allow_loopback: false,
            refused_addresses: BTreeSet::new(),
            max_in_flight_per_endpoint: 4,
            max_body_bytes: 32 * 1024 * 1024,
            max_series: 100_000,
            secrets: Arc::new(()),
            observer: Arc::new(()),
        }
    }
}

impl fmt::Debug for SourceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceOptions")
            .field("allow_loopback", &self.allow_loopback)
            .field("refused_addresses", &self.refused_addresses)
            .field("max_in_flight_per_endpoint", &self.max_in_flight_per_endpoint)
            .field("max_body_bytes", &self.max_body_bytes)
            .field("max_series", &self.max_series)
            .finish_non_exhaustive()
    }
}

/// Whoever counts questions. `()` does not.
pub trait Observer: Send + Sync + 'static {
    /// Called once for each query that was sent or refused, and once for each asker that shared one.
    fn asked(&self, asked: &Asked);
}

impl Observer for () {
    fn asked(&self, _: &Asked) {}
}

/// One question, for the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// `prometheus` or `custom`.
    pub source: &'static str,
    /// `Ok`, or [`SourceError::as_str`].
    pub outcome: &'static str,
    /// Whether it was answered by somebody else's query, running or done.
    pub shared: bool,
    /// From the question to its answer, with the wait for a turn.
    pub took: Duration,
}

/// Why there are no [`Sources`].
#[derive(Debug, thiserror::Error)]
#[error("cannot make an HTTP client for the sources")]
pub struct SourcesError(#[from] reqwest::Error);

/// Asks over the network, within limits, each question once a slot. Cheap to clone.
#[derive(Clone)]
pub struct Sources(Arc<Inner>);

struct Inner {
    http: Http,
    sharing: Arc<Sharing>,
    turns: Turns,
    probes: Probes,
    options: SourceOptions,
}

impl Sources {
    /// Ready to ask. Installs ring as the process's TLS provider, unless there is one.
    ///
    /// # Errors
    /// When the TLS library cannot be set up.
    pub fn new(options: SourceOptions) -> Result<Self, SourcesError> {
        Ok(Self(Arc::new(Inner {
            http: Http::new(&options)?,
            sharing: Arc::default(),
            turns: Turns::new(options.max_in_flight_per_endpoint),
            probes: Probes::default(),
            options,
        })))
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sources").field(&self.0.options).finish()
    }
}

impl Source for Sources {
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<Answer>, SourceError>> {
        async move {
            let started = Instant::now();
            match self.0.sharing.board(question, slot) {
                Boarding::Join(arrival) => {
                    let outcome = arrive(arrival).await;
                    self.0.observe(question, &outcome, true, started);
                    outcome
                }
                Boarding::Start { landing, arrival, slow } => {
                    tokio::spawn(Arc::clone(&self.0).fly(question.clone(), landing, slow));
                    arrive(arrival).await
                }
            }
        }
        .boxed()
    }

    /// Found out after the first answer.
    fn bounds_age(&self, question: &PromQuestion) -> Option<bool> {
        self.0.probes.honoured(&question.endpoint)
    }
}

impl Inner {
    /// One query, and what it teaches.
    async fn fly(self: Arc<Self>, question: Question, landing: Landing, slow: bool) {
        let started = Instant::now();
        let (result, turn) = self.query(&question, slow).await;
        let weight = result.as_ref().map_or(0, |weighed| weighed.weight);
        let outcome = result.map(|weighed| Arc::new(weighed.answer));
        self.observe(&question, &outcome, false, started);
        let answered = outcome.is_ok();
        let slow = is_slow(&outcome, turn.is_some());
        landing.land(outcome, weight, slow);
        // Only behind an answer: a server in trouble is not asked for more, and nobody waits any longer.
        if let (Question::Prometheus(question), true) = (&question, answered) {
            self.probe(question).await;
        }
        drop(turn);
    }

    async fn query(&self, question: &Question, slow: bool) -> (Result<Weighed, SourceError>, Option<Turn>) {
        let limit = question.timeout().min(MAX_TIMEOUT);
        let deadline = Instant::now() + limit;
        let turn = match timeout_at(deadline, self.turns.take(question.endpoint().origin(), slow)).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) => return (Err(SourceError::Lost), None),
            Err(_) => return (Err(SourceError::Crowded(limit)), None),
        };
        let answer = timeout_at(deadline, self.send(question, deadline)).await;
        (answer.unwrap_or(Err(SourceError::Timeout(limit))), Some(turn))
    }

    async fn send(&self, question: &Question, deadline: Instant) -> Result<Weighed, SourceError> {
        let (http, limit) = (&self.http, self.options.max_series);
        match question {
            Question::Prometheus(question) => {
                let left = deadline.saturating_duration_since(Instant::now());
                prometheus::ask(http, question, left, limit).await
            }
            Question::Custom(question) => custom::ask(http, question, limit).await,
        }
    }

    async fn probe(&self, question: &PromQuestion) {
        let endpoint = &question.endpoint;
        if !self.probes.due(endpoint, Instant::now()) {
            return;
        }
        let probe = timeout(PROBE_TIMEOUT, prometheus::honours_lookback(&self.http, question));
        if let Ok(Some(honoured)) = probe.await {
            self.probes.found(endpoint, honoured, Instant::now());
        }
    }

    fn observe(&self, question: &Question, outcome: &Outcome, shared: bool, started: Instant) {
        let source = match question {
            Question::Prometheus(_) => "prometheus",
            Question::Custom(_) => "custom",
        };
        let outcome = outcome.as_ref().err().map_or("Ok", SourceError::as_str);
        self.options.observer.asked(&Asked { source, outcome, shared, took: started.elapsed() });
    }
}

/// Whether the server was slow to answer, if it was asked at all.
fn is_slow(outcome: &Outcome, asked: bool) -> Option<bool> {
    match outcome {
        Ok(answer) => Some(answer.answered_at.duration_since(answer.asked_at) > SLOW),
        Err(SourceError::Timeout(_)) => Some(true),
        Err(_) => asked.then_some(false),
    }
}
