//! Records answers of a real Prometheus into `tests/fixtures/prometheus/NAME.STATUS.json`, byte for byte, for the tests
//! of `sources`. Times and extrapolated counts differ from one recording to the next; the tests rely on neither.
//!
//! Not recorded, because a single Prometheus cannot be made to say it: an answer that is partial for want of a store
//! (Thanos, federated reads), and VictoriaMetrics' `isPartial`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use localcluster::{MetricsTarget, Prometheus, PrometheusOptions, ScrapeTarget, install_crypto};
use serde_json::{Value, json};

/// File name, query, and the parameters that differ from the usual ones.
type Question = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const QUESTIONS: &[Question] = &[
    ("by_code", "sum by (code, namespace, pod) (increase(http_requests_total[4s]))", &[]),
    ("ratio", "latency_ratio", &[]),
    ("not_finite", "broken_ratio", &[]),
    ("no_namespace", "sum by (pod) (latency_ratio)", &[]),
    ("escaped_labels", "odd_names", &[]),
    ("two_series_for_one_pod", "sum by (code, pod) (http_requests_total)", &[]),
    (
        "no_pod_label",
        "label_replace(latency_ratio{pod=\"checkout-1\"}, \"pod\", \"\", \"\", \"\") or latency_ratio",
        &[],
    ),
    ("native_histogram", "request_seconds", &[]),
    ("histogram_among_numbers", "request_seconds or on () latency_ratio or latency_ratio", &[]),
    ("empty", "no_such_metric", &[]),
    ("scalar", "scalar(vector(1))", &[]),
    ("string", "\"checkout-0\"", &[]),
    ("matrix", "latency_ratio[3s]", &[]),
    ("warnings", "quantile by (namespace, pod) (2, latency_ratio)", &[]),
    ("infos", "rate(latency_ratio[4s])", &[]),
    ("bad_query", "sum by (pod (http_requests_total)", &[]),
    ("bad_lookback", "vector(1)", &[("lookback_delta", "nonsense")]),
    ("ambiguous_match", "http_requests_total * on (namespace) http_requests_total", &[]),
    ("out_of_time", "latency_ratio", &[("timeout", "0.000001")]),
];

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    install_crypto();
    let page = MetricsTarget::start().await?;
    page.set(metrics(0));
    let options = PrometheusOptions {
        targets: vec![ScrapeTarget::new("pods", page.address())],
        ..PrometheusOptions::default()
    };
    let prometheus = Prometheus::start(options).await?;
    let http = client()?;
    read_native_histograms(&prometheus, &http).await?;
    serve_traffic(&page, &prometheus).await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/prometheus");
    forget_old(&folder)?;
    for question in QUESTIONS {
        let file = record(&prometheus, &http, question, &folder).await?;
        println!("{}", file.display());
    }
    Ok(())
}

fn client() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().tls_certs_only([]).no_proxy().build()?)
}

/// Makes Prometheus keep classic histograms as native ones with the same buckets: the text format has no other way
/// to give it one.
async fn read_native_histograms(prometheus: &Prometheus, http: &reqwest::Client) -> anyhow::Result<()> {
    let file = prometheus.data_dir().join("prometheus.yaml");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let scrapes = config["scrape_configs"].as_array_mut().context("a configuration without scrapes")?;
    for scrape in scrapes {
        scrape["scrape_native_histograms"] = json!(true);
        scrape["convert_classic_histograms_to_nhcb"] = json!(true);
    }
    std::fs::write(&file, config.to_string())?;
    let answer = http.post(format!("{}/-/reload", prometheus.url())).send().await?;
    ensure!(answer.status().is_success(), "Prometheus refuses {config}");
    Ok(())
}

/// Counts on until there is an increase to ask for. Prometheus first looks for targets 5 seconds after its start.
async fn serve_traffic(page: &MetricsTarget, prometheus: &Prometheus) -> anyhow::Result<()> {
    for second in 1..=60_u32 {
        page.set(metrics(second));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let counted = prometheus.query("count(increase(http_requests_total[4s])) > 5").await?;
        let spread = prometheus.query("histogram_count(request_seconds) > 0").await?;
        if [counted, spread].iter().all(|data| data["result"] != json!([])) {
            return Ok(());
        }
    }
    anyhow::bail!("Prometheus scraped nothing within a minute")
}

/// The page of three pods after some seconds of traffic.
fn metrics(second: u32) -> String {
    let mut page = String::from("# TYPE http_requests_total counter\n");
    for (pod, good, bad) in [("checkout-0", 10, 0), ("checkout-1", 9, 1), ("checkout-2", 2, 8)] {
        for (code, rate) in [("200", good), ("500", bad)] {
            let labels = format!("code=\"{code}\",namespace=\"shop\",pod=\"{pod}\"");
            let _ = writeln!(page, "http_requests_total{{{labels}}} {}", rate * second);
        }
    }
    page.push_str(
        "# TYPE latency_ratio gauge\n\
         latency_ratio{namespace=\"shop\",pod=\"checkout-0\"} 1\n\
         latency_ratio{namespace=\"shop\",pod=\"checkout-1\"} 0.5\n\
         latency_ratio{namespace=\"shop\",pod=\"checkout-2\"} 1500000\n\
         # TYPE broken_ratio gauge\n\
         broken_ratio{namespace=\"shop\",pod=\"checkout-0\"} NaN\n\
         broken_ratio{namespace=\"shop\",pod=\"checkout-1\"} +Inf\n\
         broken_ratio{namespace=\"shop\",pod=\"checkout-2\"} -Inf\n\
         # TYPE odd_names gauge\n\
         odd_names{namespace=\"shop\",pod=\"a\\\"b\\\\c\\nd<é>\"} 1\n\
         # TYPE request_seconds histogram\n",
    );
    let count = 10 * second;
    for (le, share) in [("0.1", 6), ("1", 9), ("+Inf", 10)] {
        let _ = writeln!(
            page,
            "request_seconds_bucket{{namespace=\"shop\",pod=\"checkout-0\",le=\"{le}\"}} {}",
            share * second
        );
    }
    let _ = writeln!(page, "request_seconds_sum{{namespace=\"shop\",pod=\"checkout-0\"}} {second}");
    let _ = writeln!(page, "request_seconds_count{{namespace=\"shop\",pod=\"checkout-0\"}} {count}");
    page
}

fn forget_old(folder: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Asks as the controller does: by POST, with a timeout and a lookback.
async fn record(
    prometheus: &Prometheus,
    http: &reqwest::Client,
    (name, query, changed): &Question,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    let usual = [("query", *query), ("timeout", "5000ms"), ("lookback_delta", "60000ms")];
    let form = usual.iter().filter(|(key, _)| changed.iter().all(|(other, _)| other != key)).chain(*changed);
    let request = http.post(format!("{}/api/v1/query", prometheus.url()));
    let answer = request.form(&form.collect::<Vec<_>>()).send().await?;
    let file = folder.join(format!("{name}.{}.json", answer.status().as_u16()));
    std::fs::write(&file, answer.bytes().await?)?;
    Ok(file)
}
