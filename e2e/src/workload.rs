//! A pod of the shop: answers with its name, a share of 500 when told so, and counts what it answered. Its probe stays
//! green whatever it answers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

/// Where it listens.
pub const PORT: u16 = 8080;

/// How it is to answer from now on; the body of `POST /answer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Of a hundred requests so many are answered with 500, at even distances.
    pub bad: u32,
}

/// What it has answered, and how it goes on.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    bad_percent: u32,
    /// Hundredths of a bad answer that are due.
    owed: u32,
    good: u64,
    bad: u64,
}

impl Answers {
    fn next(&mut self) -> StatusCode {
        self.owed += self.bad_percent;
        if self.owed >= 100 {
            self.owed -= 100;
            self.bad += 1;
            StatusCode::INTERNAL_SERVER_ERROR
        } else {
            self.good += 1;
            StatusCode::OK
        }
    }

    /// Namespace and pod are added by who scrapes: it knows them from the API server.
    fn page(&self) -> String {
        let Self { good, bad, .. } = self;
        format!(
            "# HELP http_requests_total Requests answered, by HTTP status.\n\
             # TYPE http_requests_total counter\n\
             http_requests_total{{code=\"200\"}} {good}\n\
             http_requests_total{{code=\"500\"}} {bad}\n"
        )
    }
}

#[derive(Clone)]
struct Pod {
    name: Arc<str>,
    answers: Arc<Mutex<Answers>>,
}

impl Pod {
    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that a pod of this name serves.
pub fn router(name: &str) -> Router {
    let pod = Pod { name: name.into(), answers: Arc::default() };
    let answer = |State(pod): State<Pod>| async move { (pod.answers().next(), pod.name.to_string()) };
    let page = |State(pod): State<Pod>| async move { pod.answers().page() };
    let routes =
        Router::new().route("/", get(answer)).route("/answer", post(ordered)).route("/metrics", get(page));
    routes.route("/healthz", get(|| async { "ok" })).with_state(pod)
}

async fn ordered(State(pod): State<Pod>, Json(order): Json<Order>) -> StatusCode {
    if order.bad > 100 {
        return StatusCode::BAD_REQUEST;
    }
    pod.answers().bad_percent = order.bad;
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_of_the_answers_is_bad_and_the_page_counts_them() {
        let mut answers = Answers { bad_percent: 33, ..Answers::default() };
        let bad = (0..100).filter(|_| answers.next() != StatusCode::OK).count();
        assert_eq!(bad, 33);
        let page = answers.page();
        assert!(page.contains("{code=\"200\"} 67\n") && page.ends_with("{code=\"500\"} 33\n"), "{page}");
    }

    #[test]
    fn bad_answers_come_at_even_distances() {
        let mut answers = Answers { bad_percent: 33, ..Answers::default() };
        let bad: Vec<_> = (0..99).filter(|_| answers.next() != StatusCode::OK).collect();
        assert!(bad.windows(2).all(|pair| (3..=4).contains(&(pair[1] - pair[0]))), "{bad:?}");
    }

    #[test]
    fn one_that_is_well_answers_well() {
        let mut answers = Answers::default();
        assert!((0..1_000).all(|_| answers.next() == StatusCode::OK));
    }
}
