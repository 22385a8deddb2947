//! A question that somebody else carries to its source, as the plugin does by way of the API server.
//!
//! Gives the page that asks it and reads what came back as if it had come over the wire. Sends nothing itself.

use std::time::Duration;

use reqwest::StatusCode;
use tokio::time::Instant;

use super::http::status_error;
use super::json::Parsed;
use super::prometheus::{least, lookback, refused, wanted};
use super::{Answer, PromQuestion, Question, SourceError, SourceOptions, pod_list, vector};

/// Path and query of the GET that asks `question`, below its server. A GET, although our own queries are POSTs: through
/// the API server that takes another right, and changes nothing by its name.
#[must_use]
pub fn page(question: &Question, left: Duration) -> String {
    let url = match question {
        Question::Prometheus(question) => query(question, left),
        Question::Custom(question) => question.endpoint.url().clone(),
    };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", url.path())
}

fn query(question: &PromQuestion, left: Duration) -> reqwest::Url {
    let mut url = question.endpoint.url().clone();
    let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let (lookback, left) = (lookback(question), format!("{}ms", least(left)));
    let fields = [("query", &*question.query), ("lookback_delta", &lookback), ("timeout", &left)];
    url.query_pairs_mut().extend_pairs(fields);
    url
}

/// What an answer to that page means.
///
/// # Errors
/// The source refused, or what it said is no answer.
pub fn read(question: &Question, status: u16, body: &[u8], asked_at: Instant) -> Result<Answer, SourceError> {
    let answered_at = Instant::now();
    let max = SourceOptions::default().max_series;
    let status = StatusCode::from_u16(status).map_err(|_| SourceError::Status(status))?;
    let parsed = match question {
        Question::Prometheus(_) if status != StatusCode::OK => return Err(refused(status, body)),
        Question::Custom(_) if status != StatusCode::OK => return Err(status_error(status)),
        Question::Prometheus(question) => vector::parse(body, wanted(question, max))?,
        Question::Custom(_) => Parsed { rows: pod_list::parse(body, max)?, ..Parsed::default() },
    };
    Ok(parsed.answer(asked_at, answered_at))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GOOD, custom, question};
    use super::*;

    fn asked(url: &str, query: &str) -> String {
        page(&question(url, query), Duration::from_secs(5))
    }

    #[test]
    fn the_page_is_below_the_base_of_the_api_and_the_query_comes_through_whole() {
        assert_eq!(
            asked("prometheus.monitoring:9090", "up"),
            "/api/v1/query?query=up&lookback_delta=60000ms&timeout=5000ms"
        );
        let text = r#"sum by (pod) (rate(x{code=~"5..",path="/a?b&c#d+é"}[1m])) > 1"#;
        let page = asked("https://mimir:8443/prometheus/", text);
        assert!(page.starts_with("/prometheus/api/v1/query?query=sum+by+%28pod%29"), "{page}");
        let read = reqwest::Url::parse(&format!("http://x{page}")).unwrap();
        assert_eq!(read.query_pairs().next().unwrap().1, text);
        assert_eq!(
            super::page(&custom("http://judge.shop:8080/bad/pods?fleet=a%20b"), Duration::ZERO),
            "/bad/pods?fleet=a%20b"
        );
    }

    #[test]
    fn what_came_back_is_read_as_on_the_wire() {
        let (prom, page) = (question("thanos", "up"), custom("judge/bad"));
        let of = |question: &Question, status, body: &str| {
            super::read(question, status, body.as_bytes(), Instant::now())
                .map(|answer| answer.samples.of("shop", "cart-1").len())
        };
        assert_eq!(of(&prom, 200, GOOD), Ok(1));
        assert_eq!(
            of(&prom, 400, r#"{"status":"error","errorType":"bad_data"}"#),
            Err(SourceError::BadQuery)
        );
        assert_eq!(of(&prom, 302, ""), Err(SourceError::Redirect(302)));
        assert_eq!(of(&prom, 200, "<html>"), Err(SourceError::NotJson));
        assert_eq!(of(&page, 200, r#"{"items":[{"metadata":{"name":"cart-1"}}]}"#), Ok(1));
        assert_eq!(of(&page, 403, ""), Err(SourceError::Denied(403)));
    }
}
