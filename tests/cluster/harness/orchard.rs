//! An exporter for each pod of a shop, and a real Prometheus that scrapes them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use localcluster::{MetricsTarget, Prometheus, PrometheusOptions, ScrapeTarget};
use tokio::task::JoinHandle;

use super::Shop;

/// The counters advance this often.
const STEP: Duration = Duration::from_millis(200);

/// How a pod behaves: events for each step, and what it asks for a pear.
#[derive(Clone, Copy)]
pub struct Behaviour {
    pub good: u32,
    pub bad: u32,
    pub price: f64,
}

/// Twenty good answers in a second, at the usual price.
pub const WELL: Behaviour = Behaviour { good: 4, bad: 0, price: 7.0 };

/// What each pod asks for a pear, as a share of the mean over all. A price for each answer: where a scrape is missed, the
/// rates of one pod all go wrong by the same factor.
pub fn price_by_the_mean(window: &str) -> String {
    let sum = format!("rate(price_sum_total[{window}])");
    let count = format!("rate(answers_total{{code=\"200\"}}[{window}])");
    format!("({sum} / ignoring(code) {count}) / scalar(sum({sum}) / sum({count}))")
}

/// What a pod has counted, and how it shows that.
struct Exporter {
    page: MetricsTarget,
    behaviour: Behaviour,
    silent: bool,
    good: u32,
    bad: u32,
    price_sum: f64,
}

type Exporters = Arc<Mutex<BTreeMap<String, Exporter>>>;

/// Pods under load, and the Prometheus that scrapes them every second. Cut pods go on counting: the load does not stop
/// at once, and a test wants to see them healed.
pub struct Orchard {
    pub prometheus: Prometheus,
    exporters: Exporters,
    task: JoinHandle<()>,
}

impl Drop for Orchard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Orchard {
    /// All pods of the shop behave well.
    pub async fn grow(shop: &Shop) -> Self {
        let exporters = Exporters::default();
        for pod in shop.names().await {
            let exporter = Exporter::start().await;
            exporters.lock().unwrap().insert(pod, exporter);
        }
        let options = PrometheusOptions { targets: targets(&exporters), ..PrometheusOptions::default() };
        let prometheus = Prometheus::start(options).await.unwrap();
        let task = tokio::spawn(count(shop.namespace.clone(), Arc::clone(&exporters)));
        Self { prometheus, exporters, task }
    }

    /// A pod that was born later is scraped too, and behaves well.
    pub async fn joins(&self, pod: &str) {
        let exporter = Exporter::start().await;
        self.exporters.lock().unwrap().insert(pod.to_owned(), exporter);
        self.prometheus.set_targets(&targets(&self.exporters)).await.unwrap();
    }

    /// This pod does so from now on.
    pub fn behaves(&self, pod: &str, behaviour: Behaviour) {
        self.with(pod, |exporter| exporter.behaviour = behaviour);
    }

    /// Every scrape of this pod fails from now on, or no longer.
    pub fn silence(&self, pod: &str, silent: bool) {
        self.with(pod, |exporter| exporter.silent = silent);
    }

    fn with(&self, pod: &str, change: impl FnOnce(&mut Exporter)) {
        change(self.exporters.lock().unwrap().get_mut(pod).expect("a pod without an exporter"));
    }

    /// `host:port`, as `prometheusService` takes it.
    pub fn address(&self) -> String {
        self.prometheus.url().trim_start_matches("http://").to_owned()
    }
}

impl Exporter {
    async fn start() -> Self {
        let page = MetricsTarget::start().await.unwrap();
        Self { page, behaviour: WELL, silent: false, good: 0, bad: 0, price_sum: 0.0 }
    }

    fn step(&mut self, namespace: &str, pod: &str) {
        let Behaviour { good, bad, price } = self.behaviour;
        self.good += good;
        self.bad += bad;
        self.price_sum += f64::from(good) * price;
        if self.silent {
            self.page.fail();
        } else {
            self.page.set(self.text(&format!("namespace=\"{namespace}\",pod=\"{pod}\"")));
        }
    }

    fn text(&self, of: &str) -> String {
        let Self { good, bad, price_sum, behaviour, .. } = self;
        let mut text = String::new();
        writeln!(text, "answers_total{{{of},code=\"200\"}} {good}").unwrap();
        writeln!(text, "answers_total{{{of},code=\"500\"}} {bad}").unwrap();
        writeln!(text, "price_sum_total{{{of}}} {price_sum}").unwrap();
        writeln!(text, "price{{{of}}} {}", behaviour.price).unwrap();
        // As what hands on others' metrics shows them, with a time of their own: Prometheus marks no such series stale.
        let now = Timestamp::now().as_millisecond();
        writeln!(text, "price_handed_on{{{of}}} {} {now}", behaviour.price).unwrap();
        text
    }
}

fn targets(exporters: &Exporters) -> Vec<ScrapeTarget> {
    let exporters = exporters.lock().unwrap();
    exporters.iter().map(|(pod, exporter)| ScrapeTarget::new(pod.clone(), exporter.page.address())).collect()
}

async fn count(namespace: String, exporters: Exporters) {
    loop {
        for (pod, exporter) in &mut *exporters.lock().unwrap() {
            exporter.step(&namespace, pod);
        }
        tokio::time::sleep(STEP).await;
    }
}
