//! Records what a real Prometheus makes of `increase` into `judge/fixtures/increase.json`: the samples of windows of
//! many lengths and places, and its answer for each. The test of `scrapes` computes the same answers.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use localcluster::{MetricsTarget, Prometheus, PrometheusOptions, ScrapeTarget, install_crypto};
use serde_json::{Value, json};

/// Seconds of traffic, one scrape each.
const SECONDS: u32 = 40;
const SERIES: [&str; 5] = ["even_total", "late_total", "reset_total", "bursts_total", "gaps_total"];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    install_crypto();
    let page = MetricsTarget::start().await?;
    let targets = vec![ScrapeTarget::new("pods", page.address())];
    let prometheus = Prometheus::start(PrometheusOptions { targets, ..PrometheusOptions::default() }).await?;
    page.set(metrics(0));
    prometheus.await_value("even_total", Duration::from_secs(60)).await?;
    for second in 0..SECONDS {
        page.set(metrics(second));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let end = prometheus.await_value("time()", Duration::from_secs(5)).await?;
    let mut windows = Vec::new();
    for series in SERIES {
        for range in [3, 7, 15, 30, 60] {
            for back in [0.0, 0.3, 1.75, 9.5] {
                windows.extend(window(&prometheus, series, range, end - back).await?);
            }
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/increase.json");
    let lines: Vec<_> = windows.iter().map(Value::to_string).collect();
    std::fs::write(&file, format!("[\n{}\n]\n", lines.join(",\n")))?;
    println!("{}: {} windows", file.display(), windows.len());
    Ok(())
}

/// Counters that an even one, a late one, one that starts again, one that stands still at times, and one that is not
/// always there would show.
fn metrics(second: u32) -> String {
    let mut page = String::new();
    let mut series = |name: &str, value: u32| {
        let _ = writeln!(page, "# TYPE {name} counter\n{name} {value}");
    };
    series("even_total", 500 + 7 * second);
    if second >= 25 {
        series("late_total", 3 * (second - 25));
    }
    series("reset_total", if second < 20 { 90 + 4 * second } else { 4 * (second - 20) });
    series("bursts_total", 11 * (second / 6));
    if second % 9 < 5 {
        series("gaps_total", 5 * second);
    }
    page
}

/// The window and the answer; nothing where Prometheus has no answer.
async fn window(
    prometheus: &Prometheus,
    series: &str,
    range: u32,
    end: f64,
) -> anyhow::Result<Option<Value>> {
    let ask = async |query: String| -> anyhow::Result<Value> {
        Ok(prometheus.query(&query).await?["result"][0].take())
    };
    let raw = ask(format!("{series}[{range}s] @ {end:.3}")).await?;
    let answer = ask(format!("increase({series}[{range}s] @ {end:.3})")).await?;
    let number = |text: &Value| text.as_str().and_then(|t| t.parse::<f64>().ok()).context("not a number");
    let samples = raw["values"].as_array().into_iter().flatten();
    let samples = samples.map(|s| Ok(json!([s[0], number(&s[1])?]))).collect::<anyhow::Result<Vec<_>>>()?;
    if samples.is_empty() {
        return Ok(None);
    }
    let increase = if answer.is_null() { Value::Null } else { json!(number(&answer["value"][1])?) };
    let end: f64 = format!("{end:.3}").parse()?;
    Ok(Some(json!({"series": series, "range": range, "end": end, "samples": samples, "increase": increase})))
}
