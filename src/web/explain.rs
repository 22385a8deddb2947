//! `GET /explain/{namespace}/{name}` and `/{pod}`: why a pod is out, and why it is not. Reads, and changes nothing.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::Pages;
use crate::api::{Explained, NotExplained, Unexplained};
use crate::cluster::doors::Reply;

/// Bytes of an answer at most.
const BODY_MAX: usize = 1024 * 1024;
/// Longest name of an object.
const NAME_MAX: usize = 253;

pub(super) async fn service(
    State(pages): State<Pages>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    answer(&pages, &namespace, &name, None).await
}

pub(super) async fn pod(
    State(pages): State<Pages>,
    Path((namespace, name, pod)): Path<(String, String, String)>,
) -> Response {
    answer(&pages, &namespace, &name, Some(&pod)).await
}

async fn answer(pages: &Pages, namespace: &str, name: &str, pod: Option<&str>) -> Response {
    let registry = pages.views.borrow().registry.clone();
    let reply = match [Some(namespace), Some(name), pod].into_iter().flatten().find(|word| !is_name(word)) {
        Some(_) => Err(NotExplained::new(
            Unexplained::BadName,
            "a name has 1 to 253 lower-case letters, digits, - and .: /explain/NAMESPACE/NAME[/POD]"
                .to_owned(),
        )),
        None if !registry.synced_in(namespace) => Err(NotExplained::new(
            Unexplained::NotReady,
            format!(
                "the KubervisorServices of namespace {namespace:?} are not all listed here: the controller has just \
                 started, or does not look after that namespace"
            ),
        )),
        None => registry.doors.ask(namespace, name, pod).await,
    };
    respond(reply)
}

fn respond(reply: Reply) -> Response {
    let (status, body) = match reply {
        Ok(explained) => (StatusCode::OK, bounded(*explained)),
        Err(not) => (status(not.reason), serde_json::to_vec(&not).unwrap_or_default()),
    };
    (
        [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")],
        (status, body).into_response(),
    )
        .into_response()
}

fn status(reason: Unexplained) -> StatusCode {
    match reason {
        Unexplained::BadName => StatusCode::BAD_REQUEST,
        Unexplained::UnknownService | Unexplained::UnknownPod => StatusCode::NOT_FOUND,
        Unexplained::NotEvaluated => StatusCode::CONFLICT,
        Unexplained::Standby | Unexplained::NotReady | Unexplained::Busy => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Of the form that names of objects have; anything else is nobody's.
fn is_name(text: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// As JSON, with as many pods as there is room for.
fn bounded(mut explained: Explained) -> Vec<u8> {
    let pods = std::mem::take(&mut explained.pods);
    let mut room = BODY_MAX.saturating_sub(serde_json::to_vec(&explained).map_or(0, |body| body.len()));
    for pod in pods {
        // With its comma.
        let length = serde_json::to_vec(&pod).map_or(0, |body| body.len() + 1);
        if length > room {
            (room, explained.more_pods) = (0, explained.more_pods + 1);
            continue;
        }
        room -= length;
        explained.pods.push(pod);
    }
    serde_json::to_vec(&explained).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ExplainedPod;

    #[test]
    fn an_answer_has_as_many_pods_as_there_is_room_for_and_says_how_many_more() {
        let pod = |number: usize| ExplainedPod {
            name: format!("pear-{number}"),
            answer: "x".repeat(10_000),
            ..ExplainedPod::default()
        };
        let whole = Explained { pods: (0..500).map(pod).collect(), more_pods: 7, ..Explained::default() };
        let body = bounded(whole);
        let read: Explained = serde_json::from_slice(&body).unwrap();
        assert!(body.len() <= BODY_MAX && body.len() > BODY_MAX - 20_000, "{}", body.len());
        assert_eq!(read.pods.len() as u64 + read.more_pods, 507);
        assert_eq!(
            read.pods.last().unwrap().name,
            format!("pear-{}", read.pods.len() - 1),
            "the first ones, in order"
        );
    }

    #[test]
    fn only_names_of_objects_are_asked_for() {
        assert!(is_name("pear-0.orchard") && is_name(&"p".repeat(253)));
        for bad in ["", "Pear", "a b", "../x", "p%2f", &"p".repeat(254)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn whoever_should_ask_again_is_told_apart_from_whoever_asked_for_nothing() {
        use Unexplained::{BadName, Busy, NotEvaluated, NotReady, Standby, UnknownPod, UnknownService};
        let all = [BadName, UnknownService, UnknownPod, NotEvaluated, Standby, NotReady, Busy];
        assert_eq!(all.map(|reason| status(reason).as_u16()), [400, 404, 404, 409, 503, 503, 503]);
    }
}
