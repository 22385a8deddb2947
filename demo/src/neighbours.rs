//! Two more services of the cluster, which the play leaves alone: a list of one would show little.

use std::fmt::Write;
use std::sync::Arc;

use localcluster::{Cluster, MetricsTarget};

use crate::shop::apply;

const WORKLOADS: &str = include_str!("../manifests/neighbours.yaml");
const POLICIES: &str = include_str!("../manifests/neighbours-policies.yaml");
/// Their StatefulSets and how many pods each has.
const PODS: [(&str, usize); 2] = [("cart", 4), ("search", 6)];
/// The one pod that is slow, and would be cut if it were not for the dry run.
const SLOW: &str = "cart-2";

/// Their metrics; gone when dropped.
pub struct Neighbours(MetricsTarget);

impl Neighbours {
    /// Their pods, on the way, and the page of their metrics.
    ///
    /// # Errors
    /// When kubectl fails, or there is no port.
    pub async fn move_in(cluster: &Arc<Cluster>) -> anyhow::Result<Self> {
        apply(cluster, WORKLOADS).await?;
        let page = MetricsTarget::start().await?;
        page.set(latencies());
        Ok(Self(page))
    }

    /// Where their metrics are, `HOST:PORT`.
    pub fn metrics(&self) -> String {
        self.0.address()
    }

    /// Their KubervisorServices, once the kind is there.
    ///
    /// # Errors
    /// When kubectl fails.
    pub async fn are_governed(&self, cluster: &Arc<Cluster>) -> anyhow::Result<()> {
        apply(cluster, POLICIES).await
    }
}

/// Constant: nothing happens to them.
fn latencies() -> String {
    let mut page = "# HELP latency_seconds Mean of a request.\n# TYPE latency_seconds gauge\n".to_owned();
    let pods = PODS.iter().flat_map(|(of, count)| (0..*count).map(move |n| format!("{of}-{n}")));
    for pod in pods {
        let seconds = if pod == SLOW { 0.8 } else { 0.2 };
        // Writing to a String cannot fail.
        let _ = writeln!(page, "latency_seconds{{namespace=\"front\",pod=\"{pod}\"}} {seconds}");
    }
    page
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_pod_of_theirs_is_on_the_page() {
        let documents = serde_yaml_ng::Deserializer::from_str(WORKLOADS);
        let all: Vec<Value> = documents.map(|one| Value::deserialize(one).expect("YAML")).collect();
        let sets = all.iter().filter(|object| object["kind"] == "StatefulSet");
        let sets: Vec<_> = sets.map(|set| (&set["metadata"]["name"], &set["spec"]["replicas"])).collect();
        let told = PODS.map(|(name, count)| (Value::from(name), Value::from(count)));
        assert_eq!(sets, told.iter().map(|(name, count)| (name, count)).collect::<Vec<_>>());
        let page = latencies();
        assert_eq!(page.lines().filter(|line| line.starts_with("latency_seconds{")).count(), 10);
        assert!(page.contains("pod=\"cart-2\"} 0.8\n") && page.contains("pod=\"search-5\"} 0.2\n"), "{page}");
    }
}
