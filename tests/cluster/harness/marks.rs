//! What stands on pods: read, and written as an earlier controller would have left it.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Shop;
use super::shop::NAME;

const RESTORE_AT: &str = "kubervisor.k8s.io/restore-at";

impl Shop {
    /// The value of a label, or else of an annotation, of a pod.
    pub async fn mark_of(&self, pod: &str, key: &str) -> Option<String> {
        let pod = self.pods_api().get(pod).await.unwrap();
        pod.labels().get(key).or_else(|| pod.annotations().get(key)).cloned()
    }

    /// When the pod's cut ends, as stored on it.
    pub async fn restore_at(&self, pod: &str) -> Timestamp {
        self.mark_of(pod, RESTORE_AT).await.expect("the pod is not cut").parse().unwrap()
    }

    /// Lets a cut end after so many seconds from now; returns the time stored.
    pub async fn due_in(&self, pod: &str, seconds: i64) -> Timestamp {
        let due = Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        self.mark(pod, json!({}), json!({ RESTORE_AT: due.to_string() })).await;
        due
    }

    /// Marks a pod as cut by `breaker` a second ago, until `due`.
    pub async fn as_cut(&self, pod: &str, breaker: &str, due: Timestamp) {
        let at = Timestamp::now() - jiff::SignedDuration::from_secs(1);
        let labels =
            json!({"kubervisor/traffic": "no", "kubervisor/name": NAME, "kubervisor/strategy": breaker});
        let annotations = json!({
            "breaker/breakAt": at.to_string(), "breaker/retryCount": "1", RESTORE_AT: due.to_string(),
            "kubervisor.k8s.io/strikes": json!({ breaker: 1 }).to_string(),
        });
        self.mark(pod, labels, annotations).await;
    }

    /// Waits until no pod is out, whoever took it out.
    pub async fn none_is_out(&self) {
        let open =
            || async { self.labelled("no").await.is_empty() && self.labelled("pause").await.is_empty() };
        super::eventually("no pod is out", super::SOON, open).await;
    }

    /// Creates objects, or changes them, by kubectl as the admin.
    pub fn apply(&self, object: &Value) {
        let words = ["-n", &self.namespace, "apply", "-f", "-"];
        let applied = self.cluster.kubectl("admin", &words, Some(&object.to_string())).unwrap();
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    }
}
