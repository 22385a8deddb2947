//! A real Prometheus 3 on loopback.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use crate::access::{install_crypto, write_private};
use crate::boot::environment;
use crate::data_dir::DataDir;
use crate::ports::Port;
use crate::process::{Process, ProcessSpec};
use crate::tools::{self, Tool};
use crate::{runtime, wait};

/// Usually a start takes half a second.
const START_LIMIT: Duration = Duration::from_secs(60);
/// For one query; Prometheus itself gives up after two minutes.
const QUERY_LIMIT: Duration = Duration::from_secs(130);

/// Something to scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeTarget {
    /// The label `job`; targets of the same job are told apart by `instance`, which is the address.
    pub job: String,
    /// `HOST:PORT`.
    pub address: String,
    /// Whether labels on the page win over `job` and `instance`: for a page that speaks for many pods.
    pub honor_labels: bool,
    /// Such as `/metrics`.
    pub path: String,
}

impl ScrapeTarget {
    /// Scraped at `/metrics`, with the labels on the page as they are.
    pub fn new(job: impl Into<String>, address: impl Into<String>) -> ScrapeTarget {
        ScrapeTarget {
            job: job.into(),
            address: address.into(),
            honor_labels: true,
            path: "/metrics".to_owned(),
        }
    }
}

/// What a Prometheus should have.
#[derive(Clone, Debug)]
pub struct PrometheusOptions {
    /// Also the limit of a scrape and the period of rules. 1 s by default; whole milliseconds count.
    pub scrape_interval: Duration,
    /// What to scrape; [`Prometheus::set_targets`] changes it later.
    pub targets: Vec<ScrapeTarget>,
    /// Where everything is written. `None`: a temporary folder that goes with it. A folder given here must be empty or
    /// absent, and is kept.
    pub data_dir: Option<PathBuf>,
}

impl Default for PrometheusOptions {
    fn default() -> PrometheusOptions {
        PrometheusOptions { scrape_interval: Duration::from_secs(1), targets: Vec::new(), data_dir: None }
    }
}

/// A running Prometheus; killed when dropped, or when this process ends. Accepts remote write at `/api/v1/write`.
pub struct Prometheus {
    // Dropped in this order: the process before its folder.
    process: Mutex<Option<Process>>,
    http: reqwest::Client,
    program: PathBuf,
    port: Port,
    scrape_interval: Duration,
    dir: DataDir,
}

impl Prometheus {
    /// Starts one; it answers queries when this returns. May be called on any tokio runtime, and outlives it.
    ///
    /// # Errors
    /// When the program is missing and cannot be built, or is not ready within a minute; with the end of its log.
    pub async fn start(options: PrometheusOptions) -> anyhow::Result<Prometheus> {
        runtime::run(async move {
            let program = runtime::run_blocking(|| tools::ensure(Tool::Prometheus)).await?;
            let prometheus = Prometheus {
                process: Mutex::default(),
                http: http_client()?,
                program,
                port: Port::reserve()?,
                scrape_interval: options.scrape_interval,
                dir: DataDir::create(options.data_dir)?,
            };
            prometheus.write_config(&options.targets)?;
            prometheus.start_again().await?;
            Ok(prometheus)
        })
        .await
    }

    /// `http://127.0.0.1:PORT`. The same after a restart.
    pub fn url(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// The folder with `prometheus.log`, the configuration and the data.
    pub fn data_dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process id; `None` while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Process::pid)
    }

    /// An instant query, now. Gives the field `data` of the answer: `resultType` and `result`.
    ///
    /// # Errors
    /// When Prometheus does not answer, or refuses the query; with its reason.
    pub async fn query(&self, promql: &str) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}/api/v1/query", self.url())).query(&[("query", promql)]);
        let answer = async {
            let response = request.send().await?;
            response.json::<Value>().await
        };
        let mut answer =
            answer.await.with_context(|| format!("Prometheus at {} does not answer", self.url()))?;
        anyhow::ensure!(answer["status"] == "success", "Prometheus refuses the query {promql}: {answer}");
        Ok(answer["data"].take())
    }

    /// Asks until the query gives at least one sample, and gives the first one's value (a scalar's own value).
    ///
    /// # Errors
    /// When there is none within `limit`, or Prometheus refuses the query.
    pub async fn await_value(&self, promql: &str, limit: Duration) -> anyhow::Result<f64> {
        wait::until(&format!("a sample of {promql}"), limit, || async {
            let data = self.query(promql).await?;
            Ok(first_value(&data).ok_or_else(|| data.to_string()))
        })
        .await
    }

    /// Scrapes these from now on, and nothing else.
    ///
    /// # Errors
    /// When Prometheus is stopped or refuses the new configuration.
    pub async fn set_targets(&self, targets: &[ScrapeTarget]) -> anyhow::Result<()> {
        self.write_config(targets)?;
        let request = self.http.post(format!("{}/-/reload", self.url()));
        let response = request.send().await.context("Prometheus does not answer; is it stopped?")?;
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        anyhow::ensure!(status.is_success(), "Prometheus refuses the new targets ({status}): {text}");
        Ok(())
    }

    /// Kills it: connections break, new ones are refused. What it scraped is kept. Does nothing when it is stopped.
    ///
    /// # Errors
    /// When the work cannot be handed to another thread.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let process = self.process().take();
        runtime::drop_blocking(process).await
    }

    /// Starts it again, on the same port and with the same data. Does nothing when it runs.
    ///
    /// # Errors
    /// When it is not ready within a minute; with the end of its log.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        {
            let mut process = self.process();
            if process.is_none() {
                *process = Some(self.spawn()?);
            }
        }
        wait::until("readiness of Prometheus", START_LIMIT, || async {
            self.process().as_mut().map_or(Ok(()), Process::ensure_running)?;
            let answer = self.http.get(format!("{}/-/ready", self.url())).send().await;
            let answer = answer.and_then(reqwest::Response::error_for_status);
            Ok(answer.map(drop).map_err(|error| format!("{error:?}")))
        })
        .await
    }

    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self) -> anyhow::Result<Process> {
        let dir = self.dir.path();
        let args = [
            format!("--config.file={}", self.config_file().display()),
            format!("--storage.tsdb.path={}", dir.join("tsdb").display()),
            format!("--web.listen-address={}", self.port.address()),
            "--web.enable-lifecycle".to_owned(),
            "--web.enable-remote-write-receiver".to_owned(),
        ];
        let env = environment(dir);
        Process::spawn(&ProcessSpec {
            name: "prometheus",
            program: &self.program,
            args: &args,
            dir,
            env: Some(&env),
        })
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("prometheus.yaml")
    }

    fn write_config(&self, targets: &[ScrapeTarget]) -> anyhow::Result<()> {
        // JSON is YAML.
        write_private(&self.config_file(), &config(self.scrape_interval, targets).to_string())
    }
}

/// One scrape configuration for each job, as their names must differ; the address and path tell its targets apart.
fn config(interval: Duration, targets: &[ScrapeTarget]) -> Value {
    let interval = format!("{}ms", interval.as_millis());
    let scrape = |(index, target): (usize, &ScrapeTarget)| {
        json!({
            // Unique; the label `job` is set below.
            "job_name": format!("{index}-{}", target.job),
            "honor_labels": target.honor_labels,
            "metrics_path": target.path,
            "static_configs": [{ "targets": [target.address], "labels": { "job": target.job } }],
        })
    };
    json!({
        "global": { "scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval },
        "scrape_configs": targets.iter().enumerate().map(scrape).collect::<Vec<_>>(),
    })
}

fn http_client() -> anyhow::Result<reqwest::Client> {
    install_crypto();
    // No certificates: without any of ours reqwest would load the machine's, for a client that speaks plain HTTP.
    reqwest::Client::builder()
        .tls_certs_only([])
        .no_proxy()
        .timeout(QUERY_LIMIT)
        .build()
        .context("cannot make a client for Prometheus")
}

/// The value of a scalar or of a vector's first sample.
fn first_value(data: &Value) -> Option<f64> {
    let pair = if data["resultType"] == "scalar" { &data["result"] } else { &data["result"][0]["value"] };
    pair[1].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_from_scalars_and_vectors() {
        let vector = json!({ "resultType": "vector", "result": [{ "metric": {}, "value": [1.5, "7"] }] });
        assert_eq!(first_value(&vector), Some(7.0));
        assert_eq!(
            first_value(&json!({ "resultType": "scalar", "result": [1.5, "+Inf"] })),
            Some(f64::INFINITY)
        );
        assert_eq!(first_value(&json!({ "resultType": "vector", "result": [] })), None);
    }
}
