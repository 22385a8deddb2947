//! What the wire can do to an answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use wiremock::matchers::{any, body_string_contains, header, method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::testing::{
    GOOD, Gated, Told, custom, impatient, ok, options, prom, question, serve, serve_bytes, sources,
};
use super::{
    Answer, PromQuestion, Question, ResultType, ServerFault, Source, SourceError, SourceOptions, Sources,
};

type Outcome = Result<Arc<Answer>, SourceError>;

async fn ask(url: &str) -> Outcome {
    sources().ask(&question(url, "up"), 1).await
}

/// A server that answers every question so, and knows about lookbacks.
async fn answering(answer: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    let refusal = ResponseTemplate::new(400).set_body_string(r#"{"status":"error","errorType":"bad_data"}"#);
    let probe = Mock::given(body_string_contains("nonsense")).respond_with(refusal);
    probe.with_priority(1).mount(&server).await;
    Mock::given(any()).respond_with(answer).mount(&server).await;
    server
}

async fn asked(answer: ResponseTemplate) -> Outcome {
    ask(&answering(answer).await.uri()).await
}

async fn asked_body(body: &str) -> Outcome {
    asked(ResponseTemplate::new(200).set_body_string(body)).await
}

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/prometheus/", $name, ".json"))
    };
}

#[tokio::test]
async fn a_good_answer_becomes_samples() {
    let answer = asked_body(recorded!("ratio.200")).await.unwrap();
    assert_eq!(answer.samples.of("shop", "checkout-1").len(), 1);
    assert!(answer.asked_at <= answer.answered_at && !answer.samples.partial);
}

#[tokio::test]
async fn the_question_goes_out_by_post_with_timeout_and_lookback() {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/tenant/prometheus/api/v1/query"))
        .and(header("accept", "application/json"))
        .and(body_string_contains("query=sum%28up%29"))
        .and(body_string_contains("lookback_delta=60000ms"))
        .and(body_string_contains("timeout="))
        .respond_with(ResponseTemplate::new(200).set_body_string(GOOD))
        .mount(&server)
        .await;
    let url = format!("{}/tenant/prometheus/", server.uri());
    assert!(sources().ask(&question(&url, "sum(up)"), 1).await.is_ok());
    let request = &server.received_requests().await.unwrap()[0];
    assert!(request.headers.get("accept-encoding").is_none(), "compression is not offered");
}

#[tokio::test]
async fn nobody_listening_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(ask(&format!("http://{address}")).await, Err(SourceError::Refused));
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_unresolved() {
    assert_eq!(ask("http://prometheus.invalid:9090").await, Err(SourceError::Unresolved));
}

#[tokio::test]
async fn what_does_not_speak_http_or_tls_is_told_apart() {
    let nonsense = serve_bytes("220 mail.example.com ESMTP\r\n").await;
    assert_eq!(ask(&nonsense).await, Err(SourceError::Unreachable));
    assert_eq!(ask(&nonsense.replace("http:", "https:")).await, Err(SourceError::Tls));
    assert_eq!(ask(&serve_bytes("").await).await, Err(SourceError::Unreachable));
}

#[tokio::test]
async fn slow_headers_end_with_the_timeout() {
    let server = answering(ResponseTemplate::new(200).set_delay(Duration::from_secs(20))).await;
    let outcome = sources().ask(&impatient(&server.uri()), 1).await;
    assert_eq!(outcome, Err(SourceError::Timeout(Duration::from_millis(300))));
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_timeout() {
    let url = serve(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await;
        while stream.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let outcome = sources().ask(&impatient(&url), 1).await;
    assert_eq!(outcome, Err(SourceError::Timeout(Duration::from_millis(300))));
}

#[tokio::test]
async fn a_server_that_answers_nobody_makes_the_next_ones_wait_no_longer_than_their_timeout() {
    let (server, limit) = (Gated::start().await, Duration::from_millis(300));
    let sources = Sources::new(SourceOptions { max_in_flight_per_endpoint: 1, ..options() }).unwrap();
    let patient = question(&server.url, "up");
    let first = tokio::spawn({
        let sources = sources.clone();
        async move { sources.ask(&patient, 1).await }
    });
    server.seen(1).await;
    assert_eq!(sources.ask(&impatient(&server.url), 1).await, Err(SourceError::Crowded(limit)));
    server.let_out(1);
    assert!(first.await.unwrap().is_ok());
}

#[tokio::test]
async fn a_status_is_told_and_its_body_is_not() {
    for status in [401, 403, 404, 429, 500, 502, 503, 204] {
        let error = asked(ResponseTemplate::new(status).set_body_string("token=hunter2")).await.unwrap_err();
        let told = if matches!(status, 401 | 403) { SourceError::Denied } else { SourceError::Status };
        assert_eq!(error, told(status));
        assert!(!error.to_string().contains("hunter2") && !error.permanent());
    }
}

#[tokio::test]
async fn only_the_servers_own_verdict_on_the_query_is_permanent() {
    let own = asked(ResponseTemplate::new(400).set_body_string(recorded!("bad_query.400"))).await;
    assert_eq!(own, Err(SourceError::BadQuery));
    assert!(own.unwrap_err().permanent());
    let proxy = asked(ResponseTemplate::new(400).set_body_string("<html>Bad Request</html>")).await;
    assert_eq!(proxy, Err(SourceError::Status(400)));
    // Prometheus 3 says bad_data also when time runs out while it reads the query.
    let late = asked(ResponseTemplate::new(400).set_body_string(recorded!("out_of_time.400"))).await;
    assert_eq!(late, Err(SourceError::Execution(ServerFault::Timeout)));
}

#[tokio::test]
async fn a_query_that_fails_while_it_runs_is_told_apart() {
    let ambiguous = ResponseTemplate::new(422).set_body_string(recorded!("ambiguous_match.422"));
    assert_eq!(asked(ambiguous).await, Err(SourceError::Execution(ServerFault::Execution)));
    let timeout = ResponseTemplate::new(503).set_body_string(r#"{"status":"error","errorType":"timeout"}"#);
    assert_eq!(asked(timeout).await, Err(SourceError::Execution(ServerFault::Timeout)));
}

#[tokio::test]
async fn html_and_nothing_are_not_json() {
    assert_eq!(asked_body("<!doctype html><title>Prometheus</title>").await, Err(SourceError::NotJson));
    assert_eq!(asked_body("").await, Err(SourceError::NotJson));
}

#[tokio::test]
async fn an_answer_that_ends_early_is_truncated() {
    assert_eq!(asked_body(&GOOD[..60]).await, Err(SourceError::Truncated));
    let broken_off = &ok(GOOD)[..ok(GOOD).len() - 30];
    assert_eq!(ask(&serve_bytes(broken_off).await).await, Err(SourceError::Truncated));
}

#[tokio::test]
async fn an_answer_of_10_megabytes_is_read_and_one_over_the_limit_is_not() {
    let padded = format!("{GOOD}{}", " ".repeat(10 << 20));
    assert!(asked_body(&padded).await.is_ok());
    let small = Sources::new(SourceOptions { max_body_bytes: 1 << 20, ..options() }).unwrap();
    let server = answering(ResponseTemplate::new(200).set_body_string(padded)).await;
    let limit = Err(SourceError::TooLarge { limit: 1 << 20 });
    assert_eq!(small.ask(&question(&server.uri(), "up"), 1).await, limit);
}

#[tokio::test]
async fn a_body_without_an_announced_length_ends_at_the_limit() {
    let url = serve(|_, mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
        while stream.write_all(&[b' '; 65_536]).await.is_ok() {}
    })
    .await;
    let limit = options().max_body_bytes;
    assert_eq!(ask(&url).await, Err(SourceError::TooLarge { limit }));
}

#[tokio::test]
async fn what_comes_compressed_is_not_unpacked() {
    let bomb =
        ResponseTemplate::new(200).insert_header("content-encoding", "gzip").set_body_bytes([0x1f, 0x8b]);
    assert_eq!(asked(bomb).await, Err(SourceError::NotJson));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = answering(ResponseTemplate::new(200).set_body_string(GOOD)).await;
    for status in [301, 302, 307, 308] {
        let redirect = ResponseTemplate::new(status).insert_header("location", elsewhere.uri());
        assert_eq!(asked(redirect).await, Err(SourceError::Redirect(status)));
    }
    assert!(elsewhere.received_requests().await.unwrap().is_empty());
}

#[tokio::test]
async fn results_of_another_type_are_refused() {
    let wrong = |result| Err(SourceError::WrongType(result));
    assert_eq!(asked_body(recorded!("scalar.200")).await, wrong(ResultType::Scalar));
    assert_eq!(asked_body(recorded!("string.200")).await, wrong(ResultType::String));
    assert_eq!(asked_body(recorded!("matrix.200")).await, wrong(ResultType::Matrix));
}

#[tokio::test]
async fn warnings_make_samples_partial() {
    let answer = asked_body(recorded!("warnings.200")).await.unwrap();
    assert!(answer.samples.partial && answer.warnings.len() == 1);
    assert!(!asked_body(recorded!("infos.200")).await.unwrap().samples.partial);
}

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    assert!(asked_body(recorded!("empty.200")).await.unwrap().samples.is_empty());
}

#[tokio::test]
async fn more_series_than_are_kept_are_an_error() {
    let few = Sources::new(SourceOptions { max_series: 2, ..options() }).unwrap();
    let server = answering(ResponseTemplate::new(200).set_body_string(recorded!("ratio.200"))).await;
    let error = few.ask(&question(&server.uri(), "up"), 1).await.unwrap_err();
    assert_eq!(error, SourceError::TooManySeries { limit: 2 });
}

#[tokio::test]
async fn addresses_that_may_not_be_asked_are_not_asked() {
    let server = answering(ResponseTemplate::new(200).set_body_string(GOOD)).await;
    let strict = Sources::new(SourceOptions::default()).unwrap();
    for host in ["127.0.0.1", "localhost", "0.0.0.0", "[::ffff:127.0.0.1]", "0x7f.1"] {
        let url = format!("http://{host}:{}", server.address().port());
        let error = strict.ask(&question(&url, "up"), 1).await.unwrap_err();
        assert!(matches!(error, SourceError::Forbidden(_)), "{host}: {error:?}");
    }
    assert!(server.received_requests().await.unwrap().is_empty());
    let metadata = ask("http://169.254.169.254").await;
    assert!(matches!(metadata, Err(SourceError::Forbidden(_))), "even where loopback is allowed");
}

#[tokio::test]
async fn a_server_is_asked_once_whether_it_honours_the_lookback() {
    let server = answering(ResponseTemplate::new(200).set_body_string(GOOD)).await;
    let (sources, asked) = (sources(), prom(&server.uri(), "up"));
    assert_eq!(sources.bounds_age(&asked), None);
    for slot in 1..=5 {
        sources.ask(&question(&server.uri(), "up"), slot).await.unwrap();
        found(&sources, &asked).await;
    }
    assert_eq!(sources.bounds_age(&asked), Some(true));
    assert_eq!(server.received_requests().await.unwrap().len(), 6);
}

#[tokio::test]
async fn a_server_that_takes_any_lookback_does_not_honour_it() {
    let url = serve_bytes(ok(GOOD)).await;
    let (sources, asked) = (sources(), prom(&url, "up"));
    sources.ask(&question(&url, "up"), 1).await.unwrap();
    found(&sources, &asked).await;
    assert_eq!(sources.bounds_age(&asked), Some(false));
}

/// Waits for the probe behind the first answer.
async fn found(sources: &Sources, question: &PromQuestion) {
    let found = async {
        while sources.bounds_age(question).is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("a finding");
}

#[tokio::test]
async fn a_question_may_not_wait_longer_than_the_highest_timeout() {
    let forever = PromQuestion { timeout: Duration::MAX, ..prom("http://prometheus.invalid", "up") };
    assert!(sources().ask(&Question::Prometheus(forever), 1).await.is_err());
}

#[tokio::test]
async fn failures_reach_the_metrics_by_name() {
    let told = Arc::new(Told::default());
    let sources = Sources::new(SourceOptions { observer: Arc::clone(&told) as _, ..options() }).unwrap();
    let server = answering(ResponseTemplate::new(500)).await;
    let _ = sources.ask(&custom(&server.uri()), 1).await;
    let told = told.0.lock().unwrap()[0];
    assert_eq!((told.source, told.outcome, told.shared), ("custom", "Status", false));
}

async fn named(answer: ResponseTemplate) -> Outcome {
    let server = answering(answer).await;
    sources().ask(&custom(&format!("{}/bad?fleet=cart", server.uri())), 1).await
}

#[tokio::test]
async fn a_custom_service_names_pods() {
    let list = r#"{"kind":"PodList","items":[{"metadata":{"name":"cart-1","namespace":"shop"}}]}"#;
    let answer = named(ResponseTemplate::new(200).set_body_string(list)).await.unwrap();
    assert_eq!((answer.samples.len(), answer.samples.of("shop", "cart-1").len()), (1, 1));
    let none = named(ResponseTemplate::new(200).set_body_string(r#"{"items":[]}"#)).await.unwrap();
    assert!(none.samples.is_empty());
}

#[tokio::test]
async fn a_custom_service_is_asked_by_get_at_its_very_page() {
    let server = answering(ResponseTemplate::new(200).set_body_string(r#"{"items":[]}"#)).await;
    sources().ask(&custom(&format!("{}/bad/pods/?fleet=cart", server.uri())), 1).await.unwrap();
    let request = &server.received_requests().await.unwrap()[0];
    assert_eq!((request.method.as_str(), request.url.path()), ("GET", "/bad/pods/"));
    assert_eq!(request.url.query(), Some("fleet=cart"));
}

#[tokio::test]
async fn a_custom_service_that_fails_names_nobody() {
    let body = |body: &str| ResponseTemplate::new(200).set_body_string(body);
    assert_eq!(named(ResponseTemplate::new(500)).await, Err(SourceError::Status(500)));
    assert_eq!(named(body("<html>")).await, Err(SourceError::NotJson));
    assert_eq!(named(body("{\"items\":[{")).await, Err(SourceError::Truncated));
    assert!(matches!(named(body(GOOD)).await, Err(SourceError::Malformed(_))));
    let redirect = ResponseTemplate::new(302).insert_header("location", "http://127.0.0.1/");
    assert_eq!(named(redirect).await, Err(SourceError::Redirect(302)));
    let slow = named(body("{}").set_delay(Duration::from_millis(100))).await;
    assert!(matches!(slow, Err(SourceError::Malformed(_))));
}
