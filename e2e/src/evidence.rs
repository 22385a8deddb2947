//! Who wrote what to the shop's pods, as the API server wrote it down.

use jiff::Timestamp;
use localcluster::{AuditRecord, Cluster};
use serde_json::Value;

use crate::record::Names;

/// What a write did to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Out of traffic.
    Cut,
    /// Back into traffic.
    Restore,
    /// Out of the cluster, by a deletion or an eviction.
    Removal,
    /// All else, such as the first label.
    Other,
}

/// A write to a pod that the API server accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodWrite {
    /// When it came.
    pub time: Timestamp,
    /// To which pod.
    pub pod: String,
    /// What it did.
    pub step: Step,
    /// The term of the Lease in which it was sent.
    pub epoch: Option<u64>,
}

/// The accepted writes of a user to pods of a namespace since then.
///
/// # Errors
/// When the audit log cannot be read.
pub async fn pod_writes(
    cluster: &Cluster,
    namespace: &str,
    user: &str,
    since: Timestamp,
) -> anyhow::Result<Vec<PodWrite>> {
    let audit = cluster.audit().within(namespace);
    audit.settle().await?;
    Ok(audit.writes_by(user, since)?.iter().filter_map(|record| read(record, namespace)).collect())
}

fn read(record: &AuditRecord, namespace: &str) -> Option<PodWrite> {
    let evicts = record.subresource == "eviction";
    let ours = record.namespace == namespace
        && record.resource == "pods"
        && (record.subresource.is_empty() || evicts);
    let accepted = (200..300).contains(&record.code);
    (ours && accepted).then(|| {
        let body = record.request_object.as_ref().unwrap_or(&Value::Null);
        let annotations = &body["metadata"]["annotations"];
        let step = match body["metadata"]["labels"]["kubervisor/traffic"].as_str() {
            _ if evicts || record.verb.starts_with("delete") => Step::Removal,
            // Paused is out of traffic too.
            Some("no" | "pause") => Step::Cut,
            Some("yes") if annotations.get("kubervisor.k8s.io/restored-at").is_some() => Step::Restore,
            _ => Step::Other,
        };
        let epoch = annotations["kubervisor.k8s.io/epoch"].as_str().and_then(|epoch| epoch.parse().ok());
        PodWrite { time: record.time, pod: record.name.clone(), step, epoch }
    })
}

/// The writes that did this.
pub fn that(step: Step, writes: &[PodWrite]) -> impl Iterator<Item = &PodWrite> {
    writes.iter().filter(move |write| write.step == step)
}

/// Pods that were cut, returned or removed.
pub fn moved(writes: &[PodWrite]) -> Names {
    writes.iter().filter(|write| write.step != Step::Other).map(|write| write.pod.clone()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(code: u16, subresource: &str, metadata: &Value) -> AuditRecord {
        AuditRecord {
            time: Timestamp::UNIX_EPOCH,
            user: "controller".to_owned(),
            user_agent: String::new(),
            verb: "patch".to_owned(),
            group: String::new(),
            resource: "pods".to_owned(),
            subresource: subresource.to_owned(),
            namespace: "shop".to_owned(),
            name: "red".to_owned(),
            code,
            uri: String::new(),
            request_object: Some(json!({ "metadata": metadata })),
        }
    }

    #[test]
    fn a_write_is_what_its_body_does() {
        let cut = json!({ "labels": { "kubervisor/traffic": "no" }, "annotations": { "kubervisor.k8s.io/epoch": "7" } });
        let read = |record: &AuditRecord| read(record, "shop").map(|write| (write.step, write.epoch));
        assert_eq!(read(&record(200, "", &cut)), Some((Step::Cut, Some(7))));
        let back = json!({ "labels": { "kubervisor/traffic": "yes" },
            "annotations": { "kubervisor.k8s.io/restored-at": "2026-01-02T03:04:05Z" } });
        assert_eq!(read(&record(200, "", &back)), Some((Step::Restore, None)));
        let label = json!({ "labels": { "kubervisor/traffic": "yes" } });
        assert_eq!(read(&record(200, "", &label)), Some((Step::Other, None)));
        assert_eq!(read(&record(409, "", &cut)), None, "it was refused");
        assert_eq!(read(&record(200, "status", &cut)), None);
        assert_eq!(read(&record(201, "eviction", &json!({}))), Some((Step::Removal, None)));
        let deletion = AuditRecord { verb: "delete".to_owned(), ..record(200, "", &json!({})) };
        assert_eq!(read(&deletion), Some((Step::Removal, None)));
        let paused = json!({ "labels": { "kubervisor/traffic": "pause" } });
        assert_eq!(read(&record(200, "", &paused)), Some((Step::Cut, None)));
    }

    #[test]
    fn pods_that_were_only_labelled_were_not_moved() {
        let write =
            |pod: &str, step| PodWrite { time: Timestamp::UNIX_EPOCH, pod: pod.into(), step, epoch: None };
        let writes = [write("red", Step::Cut), write("blue", Step::Other), write("red", Step::Restore)];
        assert_eq!(moved(&writes), ["red".to_owned()].into());
        assert_eq!(that(Step::Cut, &writes).count(), 1);
    }
}
