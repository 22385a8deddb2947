//! The metrics pages of all pods as one text, as Prometheus scrapes it: each series with the labels `namespace`
//! and `pod`, so that the scrape must honour them.

use std::fmt::{Display, Write};

use crate::workload::Workload;

/// The content type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page: of every living pod, cut ones included.
pub fn page(workload: &Workload, namespace: &str) -> String {
    let mut page = Page { text: String::new(), namespace };
    let pods = || workload.pods().iter().filter(|(_, pod)| !pod.gone);
    page.head("http_requests_total", "Requests answered, by HTTP status.");
    for (name, pod) in pods() {
        for (code, count) in pod.counters.requests() {
            page.sample("http_requests_total", name, &format!(",code=\"{code}\""), count);
        }
    }
    page.head("price_sum", "Sum of the prices told.");
    pods().for_each(|(name, pod)| page.sample("price_sum", name, "", pod.counters.price_sum()));
    page.head("price_count", "Prices told.");
    pods().for_each(|(name, pod)| page.sample("price_count", name, "", pod.counters.price_count()));
    page.text
}

struct Page<'a> {
    text: String,
    namespace: &'a str,
}

impl Page<'_> {
    fn head(&mut self, metric: &str, help: &str) {
        self.line(format_args!("# HELP {metric} {help}\n# TYPE {metric} counter"));
    }

    /// Namespace and pod are names of Kubernetes objects: nothing in them needs an escape.
    fn sample(&mut self, metric: &str, pod: &str, more: &str, value: impl Display) {
        let namespace = self.namespace;
        self.line(format_args!("{metric}{{namespace=\"{namespace}\",pod=\"{pod}\"{more}}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use incidents::{Behaviour, Incident, Load, Model, Seed};

    use super::*;

    #[test]
    fn every_living_pod_is_on_the_page_also_without_traffic() {
        let model = Model::new(Seed::new(3), Incident::new(Behaviour::Failing { share: 1.0 }));
        let mut workload = Workload::new(model, Load::new(Seed::new(3), 2));
        ["gone", "idle", "busy"].iter().for_each(|name| workload.enrol(name));
        workload.retire("gone");
        workload.serve(&["busy"], Duration::from_secs(1));
        let page = page(&workload, "shop");
        let samples: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"http_requests_total{namespace="shop",pod="busy",code="200"} 0"#,
                r#"http_requests_total{namespace="shop",pod="busy",code="500"} 3"#,
                r#"http_requests_total{namespace="shop",pod="idle",code="200"} 0"#,
                r#"http_requests_total{namespace="shop",pod="idle",code="500"} 0"#,
                r#"price_sum{namespace="shop",pod="busy"} 0"#,
                r#"price_sum{namespace="shop",pod="idle"} 0"#,
                r#"price_count{namespace="shop",pod="busy"} 0"#,
                r#"price_count{namespace="shop",pod="idle"} 0"#,
            ]
        );
    }
}
