//! Asks what the breakers ask, once, with the caller's own rights.
//!
//! Takes the questions as the controller reads them out of the spec; gives for each breaker its answers or a sentence.
//! Bounded in breakers, questions at once, time and bytes. Reads no Secret.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use futures::StreamExt;
use http::header::ACCEPT;
use http_body::Body as _;
use kube::client::Body;
use kubervisor::api::Asked;
use kubervisor::owner::Answers;
use kubervisor::sources::{Answer, Question, Source, SourceError, SourceOptions, Sources, relayed};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::route::{Backend, Place, Route, route};
use crate::fail::Ask;
use crate::objects::text;
use crate::reach::Cluster;

/// Breakers that are asked for: half of what a spec may have, and more than one screen shows.
const BREAKERS_MAX: usize = 8;
/// Breakers at a time. With two questions each, ten seconds and 32 MiB for one, the worst look takes 20 s and 256 MiB.
const AT_ONCE: usize = 4;

/// What came of asking for one breaker.
#[derive(Debug)]
pub(super) struct Came {
    /// Who was asked; empty where nobody was.
    pub(super) whom: String,
    /// The answers, or why there are none.
    pub(super) result: Result<Answers, String>,
}

/// Somebody who asks.
pub(super) struct Asker<'a> {
    cluster: &'a Cluster,
    place: Place<'a>,
    /// For an address that this machine reaches itself.
    sources: Option<Sources>,
}

impl<'a> Asker<'a> {
    /// From here.
    ///
    /// # Errors
    /// No TLS library.
    pub(super) fn new(cluster: &'a Cluster, place: Place<'a>) -> anyhow::Result<Self> {
        // What the caller names, loopback included, is the caller's choice.
        let options = SourceOptions { allow_loopback: true, ..SourceOptions::default() };
        let sources = place.given.map(|_| Sources::new(options)).transpose()?;
        Ok(Self { cluster, place, sources })
    }

    /// Asks for every breaker, in their order.
    pub(super) async fn all(&self, asked: &[Asked]) -> Vec<Came> {
        let each = asked.iter().enumerate().map(|(number, asked)| self.breaker(number, asked));
        futures::stream::iter(each).buffered(AT_ONCE).collect().await
    }

    async fn breaker(&self, number: usize, asked: &Asked) -> Came {
        let not = |why| Came { whom: String::new(), result: Err(format!("not asked: {why}")) };
        if number >= BREAKERS_MAX {
            return not(format!("one look asks for {BREAKERS_MAX} breakers"));
        }
        let values = match route(&asked.question, &self.place) {
            Ok(route) => route,
            Err(why) => return not(why),
        };
        let activity = match asked.activity.as_ref().map(|a| route(a, &self.place)).transpose() {
            Ok(route) => route,
            Err(why) => return not(why),
        };
        let whom = values.to_string();
        let both = async {
            match &activity {
                None => self.one(&values).await.map(|values| Answers { values, activity: None }),
                // One without the other is none, as for the controller.
                Some(activity) => {
                    let (values, activity) = futures::try_join!(self.one(&values), self.one(activity))?;
                    Ok(Answers { values, activity: Some(activity) })
                }
            }
        };
        Came { result: both.await, whom }
    }

    async fn one(&self, route: &Route) -> Result<Arc<Answer>, String> {
        let silent = |error: SourceError| format!("no answer of {route}: {error}");
        match (route, &self.sources) {
            (Route::Given(question), Some(sources)) => sources.ask(question, 0).await.map_err(silent),
            (Route::Given(_), None) => Err(silent(SourceError::Lost)),
            (Route::Service(backend, question), _) => {
                let within = question.timeout();
                match timeout(within, self.relay(backend, question)).await {
                    Ok(Ok(answer)) => answer.map(Arc::new).map_err(silent),
                    Ok(Err(refused)) => Err(format!("not asked: {refused}")),
                    Err(_) => Err(silent(SourceError::Timeout(within))),
                }
            }
        }
    }

    /// The outer error is the API server's.
    async fn relay(
        &self,
        backend: &Backend,
        question: &Question,
    ) -> Result<Result<Answer, SourceError>, String> {
        let resource = backend.resource();
        let ask = Ask {
            verb: "get",
            resource: "services/proxy",
            name: &resource,
            namespace: Some(&backend.namespace),
        };
        let page = format!("{}{}", backend.prefix(), relayed::page(question, question.timeout()));
        let request = http::Request::get(page).header(ACCEPT, "application/json").body(Body::empty());
        let request = request.map_err(|error| format!("{backend} makes no address ({error})"))?;
        let asked_at = Instant::now();
        let response = self.cluster.client.send(request).await;
        let response = response.map_err(|error| ask.failed(&error).to_string())?;
        let status = response.status().as_u16();
        let body = match bounded(response.into_body(), SourceOptions::default().max_body_bytes).await {
            Ok(body) => body,
            Err(error) => return Ok(Err(error)),
        };
        match refusal(status, &body) {
            Some(message) => Err(unreached(&ask, (backend, question), status, &message)),
            None => Ok(relayed::read(question, status, &body, asked_at)),
        }
    }
}

/// The body, as long as it is of a length that is read.
async fn bounded(mut body: Body, limit: usize) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(data) = frame.map_err(|_| SourceError::Truncated)?.into_data() else { continue };
        if bytes.len().saturating_add(data.len()) > limit {
            return Err(SourceError::TooLarge { limit });
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// What the API server says itself, where it has not passed the question on.
fn refusal(status: u16, body: &[u8]) -> Option<String> {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    (status != 200 && said["kind"] == "Status").then(|| text(&said, "/message").to_owned())
}

fn unreached(
    ask: &Ask<'_>,
    (backend, question): (&Backend, &Question),
    status: u16,
    message: &str,
) -> String {
    let (or, elsewhere) = match question {
        Question::Prometheus(_) => (
            ", or take `kubectl port-forward` and --prometheus-url",
            "if the source is elsewhere, --prometheus-url",
        ),
        Question::Custom(_) => ("", "correct customService"),
    };
    match status {
        401 | 403 => format!("you lack the right to {ask}: ask whoever grants roles there{or}"),
        404 => format!("there is no {backend}: {elsewhere}"),
        503 => format!("nothing is ready behind {backend}, or it has no such port ({message})"),
        _ => format!("the API server does not reach {backend} ({status}: {message}): see its pods{or}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_of_a_body_is_read_than_allowed() {
        let body = || Body::from(vec![b' '; 1_000]);
        assert_eq!(bounded(body(), 1_000).await.unwrap().len(), 1_000);
        assert_eq!(bounded(body(), 999).await, Err(SourceError::TooLarge { limit: 999 }));
        assert_eq!(bounded(Body::empty(), 999).await, Ok(Vec::new()));
    }

    #[test]
    fn the_api_servers_own_refusal_is_told_from_the_sources() {
        let status = br#"{"kind": "Status", "message": "no endpoints available"}"#;
        assert_eq!(refusal(503, status).as_deref(), Some("no endpoints available"));
        assert_eq!(refusal(400, br#"{"status": "error", "errorType": "bad_data"}"#), None);
        assert_eq!((refusal(502, b"<html>"), refusal(200, status)), (None, None));
    }
}
