//! Asks a Prometheus, or what speaks its query API (Thanos, Mimir, VictoriaMetrics).

use std::time::Duration;

use prometheus_http_query::InstantQueryBuilder;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tokio::time::Instant;

use super::http::{Http, Weighed, send_error, status_error};
use super::json::Text;
use super::logins::Session;
use super::vector::{Wanted, parse};
use super::{PromQuestion, ServerFault, SourceError};

/// The least that a server is told. Given less than it takes to read the query, Prometheus 3 calls the *query* bad
/// (400 bad_data, "context deadline exceeded"), which would be taken for a fault that only an edit can mend.
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
/// No server can read this as a duration.
const NONSENSE: &str = "nonsense";

/// One instant query, which teaches `http` whether its access still holds.
pub(super) async fn ask(
    http: &Http,
    question: &PromQuestion,
    left: Duration,
    max_series: usize,
) -> Result<Weighed, SourceError> {
    let outcome = query(http, question, left, max_series).await;
    if let Err(error) = &outcome {
        http.learn(&question.endpoint, question.access.as_ref(), error);
    }
    outcome
}

/// `left` is what the server is told: it then stops work that nobody waits for any more.
async fn query(
    http: &Http,
    question: &PromQuestion,
    left: Duration,
    max_series: usize,
) -> Result<Weighed, SourceError> {
    let asked_at = Instant::now();
    let session = http.session(&question.endpoint, question.access.as_ref()).await?;
    let query = instant_query(&session, &question.query)?
        .timeout(i64::try_from(least(left)).unwrap_or(i64::MAX))
        .query("lookback_delta", lookback(question));
    let response = send(query).await?;
    if response.status() != StatusCode::OK {
        return Err(refusal(http, response).await);
    }
    let question = question.clone();
    let parser = move |body: &[u8]| parse(body, wanted(&question, max_series));
    http.body(response, asked_at).await?.parse(parser).await
}

/// How pods are found in its answer.
pub(super) fn wanted(question: &PromQuestion, max_series: usize) -> Wanted<'_> {
    let PromQuestion { pod_label, namespace_label, key_label, .. } = question;
    Wanted { pod: pod_label, namespace: namespace_label, key: key_label.as_deref(), max_series }
}

/// As the parameter `lookback_delta` has it.
pub(super) fn lookback(question: &PromQuestion) -> String {
    format!("{}ms", question.lookback.as_millis().max(1))
}

/// What a server is told of the time that is left, in milliseconds.
pub(super) fn least(left: Duration) -> u128 {
    left.max(LEAST_TIMEOUT).as_millis()
}

/// Whether the server reads `lookback_delta`: it then refuses one that is no duration. `None`: it cannot be told now.
pub(super) async fn honours_lookback(http: &Http, question: &PromQuestion) -> Option<bool> {
    let session = http.session(&question.endpoint, question.access.as_ref()).await.ok()?;
    let query = instant_query(&session, "vector(1)").ok()?.query("lookback_delta", NONSENSE);
    match send(query).await.ok()?.status() {
        StatusCode::BAD_REQUEST => Some(true),
        StatusCode::OK => Some(false),
        _ => None,
    }
}

fn instant_query(session: &Session, query: &str) -> Result<InstantQueryBuilder, SourceError> {
    let client = prometheus_http_query::Client::from(session.client.clone(), session.base.as_str());
    let query = client.map_err(|_| SourceError::Unreachable)?.query(query);
    Ok(session.headers.iter().fold(query, |query, (name, value)| query.header(name.clone(), value.clone())))
}

/// By POST: a query may be longer than what proxies take in a URL.
async fn send(query: InstantQueryBuilder) -> Result<Response, SourceError> {
    query.post_raw().await.map_err(|error| send_error(&error))
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow, rename = "errorType")]
    error_type: Text<'a>,
    #[serde(borrow, default)]
    error: Option<Text<'a>>,
}

impl Refusal<'_> {
    fn out_of_time(&self) -> bool {
        let says = |words| self.error.as_ref().is_some_and(|error| error.0.contains(words));
        says("context deadline exceeded") || says("context canceled")
    }
}

async fn refusal(http: &Http, response: Response) -> SourceError {
    let status = response.status();
    if status.is_redirection() {
        return status_error(status);
    }
    refused(status, &http.error_body(response).await)
}

/// What an answer with a bad status means. The server's text is looked at and never passed on: it may quote anything.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> SourceError {
    let Ok(refusal) = serde_json::from_slice::<Refusal<'_>>(body) else { return status_error(status) };
    match &*refusal.error_type.0 {
        "bad_data" if refusal.out_of_time() => SourceError::Execution(ServerFault::Timeout),
        "bad_data" if status == StatusCode::BAD_REQUEST => SourceError::BadQuery,
        "execution" => SourceError::Execution(ServerFault::Execution),
        "timeout" => SourceError::Execution(ServerFault::Timeout),
        "canceled" => SourceError::Execution(ServerFault::Canceled),
        _ => status_error(status),
    }
}
