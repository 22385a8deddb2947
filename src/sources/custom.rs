//! Asks a service of the user's own which pods are bad.

use reqwest::StatusCode;
use tokio::time::Instant;

use super::http::{Http, Weighed, send_error, status_error};
use super::json::Parsed;
use super::{CustomQuestion, SourceError, pod_list};

/// One GET. Whom it names is not checked here: an answer may be shared by fleets, and each meets it with its own
/// members.
pub(super) async fn ask(
    http: &Http,
    question: &CustomQuestion,
    max_pods: usize,
) -> Result<Weighed, SourceError> {
    let asked_at = Instant::now();
    let request = http.client(&question.endpoint)?.get(question.endpoint.url().clone());
    let response = request.send().await.map_err(|error| send_error(&error))?;
    if response.status() != StatusCode::OK {
        return Err(status_error(response.status()));
    }
    let parser =
        move |body: &[u8]| pod_list::parse(body, max_pods).map(|rows| Parsed { rows, ..Parsed::default() });
    http.body(response, asked_at).await?.parse(parser).await
}
