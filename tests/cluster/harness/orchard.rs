//! A page of counters as the pods of a shop would show them, for a real Prometheus to scrape.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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

#[derive(Clone, Default)]
struct Counted {
    good: u32,
    bad: u32,
    price_sum: f64,
}

/// Pods under load, and the Prometheus that scrapes them every second. Cut pods go on counting: the load does not stop
/// at once, and a test wants to see them healed.
pub struct Orchard {
    pub prometheus: Prometheus,
    behaviours: Arc<Mutex<BTreeMap<String, Behaviour>>>,
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
        let page = MetricsTarget::start().await.unwrap();
        let targets = vec![ScrapeTarget::new("orchard", page.address())];
        let prometheus =
            Prometheus::start(PrometheusOptions { targets, ..PrometheusOptions::default() }).await.unwrap();
        let pods = shop.names().await.into_iter().map(|pod| (pod, WELL));
        let behaviours = Arc::new(Mutex::new(pods.collect()));
        let task = tokio::spawn(count(page, shop.namespace.clone(), Arc::clone(&behaviours)));
        Self { prometheus, behaviours, task }
    }

    /// This pod does so from now on.
    pub fn behaves(&self, pod: &str, behaviour: Behaviour) {
        self.behaviours.lock().unwrap().insert(pod.to_owned(), behaviour);
    }

    /// `host:port`, as `prometheusService` takes it.
    pub fn address(&self) -> String {
        self.prometheus.url().trim_start_matches("http://").to_owned()
    }
}

async fn count(page: MetricsTarget, namespace: String, behaviours: Arc<Mutex<BTreeMap<String, Behaviour>>>) {
    let mut counted: BTreeMap<String, Counted> = BTreeMap::new();
    loop {
        for (pod, behaviour) in &*behaviours.lock().unwrap() {
            let sums = counted.entry(pod.clone()).or_default();
            sums.good += behaviour.good;
            sums.bad += behaviour.bad;
            sums.price_sum += f64::from(behaviour.good) * behaviour.price;
        }
        page.set(text(&namespace, &counted));
        tokio::time::sleep(STEP).await;
    }
}

fn text(namespace: &str, counted: &BTreeMap<String, Counted>) -> String {
    let mut text = String::new();
    for (pod, Counted { good, bad, price_sum }) in counted {
        let of = format!("namespace=\"{namespace}\",pod=\"{pod}\"");
        writeln!(text, "answers_total{{{of},code=\"200\"}} {good}").unwrap();
        writeln!(text, "answers_total{{{of},code=\"500\"}} {bad}").unwrap();
        writeln!(text, "price_sum_total{{{of}}} {price_sum}").unwrap();
    }
    text
}
