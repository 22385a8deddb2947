//! A real Prometheus and the page that it scrapes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends this way; clippy knows only its outermost function"
)]

mod fixtures;

use fixtures::{LIMIT, becomes};
use localcluster::{MetricsTarget, Prometheus, PrometheusOptions, ScrapeTarget};

#[tokio::test]
async fn what_the_page_says_is_what_a_query_gives() {
    let page = MetricsTarget::start().await.unwrap();
    page.set("errors_total{pod=\"a\"} 41\n");
    let prometheus = scraping(&page).await;
    assert_eq!(value(&prometheus, "errors_total{job='shop',pod='a'}").await, 41.0);

    page.set("errors_total{pod=\"a\"} 42\n");
    becomes(42.0, || value(&prometheus, "errors_total")).await;
    page.fail();
    becomes(0.0, || value(&prometheus, "up{job='shop'}")).await;
    assert_eq!(prometheus.query("errors_total").await.unwrap()["result"], serde_json::json!([]));
}

#[tokio::test]
async fn samples_survive_a_restart() {
    let page = MetricsTarget::start().await.unwrap();
    page.set("before_the_kill 7\n");
    let prometheus = scraping(&page).await;
    assert_eq!(value(&prometheus, "before_the_kill").await, 7.0);
    let url = prometheus.url();

    page.set("");
    prometheus.stop().await.unwrap();
    assert!(prometheus.query("up").await.is_err());
    prometheus.start_again().await.unwrap();
    assert_eq!(prometheus.url(), url);
    assert_eq!(value(&prometheus, "max(max_over_time(before_the_kill[10m]))").await, 7.0);
}

#[tokio::test]
async fn a_query_that_prometheus_refuses_is_an_error_with_its_reason() {
    let prometheus = Prometheus::start(PrometheusOptions::default()).await.unwrap();
    let refused = prometheus.query("sum(").await.unwrap_err().to_string();
    assert!(refused.contains("sum(") && refused.contains("parse error"), "{refused}");
}

#[tokio::test]
async fn targets_may_come_later() {
    let prometheus = Prometheus::start(PrometheusOptions::default()).await.unwrap();
    let page = MetricsTarget::start().await.unwrap();
    page.set("late 1\n");
    prometheus.set_targets(&[ScrapeTarget::new("shop", page.address())]).await.unwrap();
    assert_eq!(value(&prometheus, "late").await, 1.0);
}

async fn scraping(page: &MetricsTarget) -> Prometheus {
    let targets = vec![ScrapeTarget::new("shop", page.address())];
    Prometheus::start(PrometheusOptions { targets, ..PrometheusOptions::default() }).await.unwrap()
}

async fn value(prometheus: &Prometheus, promql: &str) -> f64 {
    prometheus.await_value(promql, LIMIT).await.unwrap()
}
