//! What the API server's audit log holds of the controller in one namespace.

use std::collections::BTreeSet;

use jiff::Timestamp;
use localcluster::AuditRecord;
use serde_json::Value;

use super::Shop;

/// What a write to a pod was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Out of traffic.
    Cut,
    /// Back into traffic.
    Restore,
    /// Out for people to look at.
    Pause,
    /// Out for good.
    Evict,
    /// Its first label.
    Label,
    /// Refused for want of a right, before its body was read.
    Unread,
}

/// A write to a pod, accepted or not.
#[derive(Debug, Clone, PartialEq)]
pub struct PodWrite {
    /// When the API server received it.
    pub time: Timestamp,
    pub pod: String,
    pub step: Step,
    /// HTTP status of the answer.
    pub code: u16,
    /// The version that it was decided on.
    pub version: String,
    /// The epoch of the Lease that it was sent in.
    pub epoch: Option<u64>,
}

impl PodWrite {
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.code)
    }

    fn read(record: &AuditRecord) -> Self {
        let body = record.request_object.clone().unwrap_or_default();
        let step = match record.subresource.as_str() {
            "eviction" => Step::Evict,
            _ if body.is_null() => Step::Unread,
            _ => step(&body["metadata"]),
        };
        let version = body["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        let epoch = body["metadata"]["annotations"]["kubervisor.k8s.io/epoch"].as_str();
        let epoch = epoch.and_then(|epoch| epoch.parse().ok());
        Self { time: record.time, pod: record.name.clone(), step, code: record.code, version, epoch }
    }
}

fn step(meta: &Value) -> Step {
    let restored = meta["annotations"].get("kubervisor.k8s.io/restored-at");
    match (meta["labels"]["kubervisor/traffic"].as_str(), restored) {
        (Some("no"), _) => Step::Cut,
        (Some("pause"), _) => Step::Pause,
        (Some("yes"), Some(_)) => Step::Restore,
        (Some("yes"), None) => Step::Label,
        (other, _) => panic!("a write that sets kubervisor/traffic to {other:?}: {meta}"),
    }
}

impl Shop {
    /// Every write to a pod of this namespace by its controllers, in the order of arrival.
    pub async fn pod_writes(&self) -> Vec<PodWrite> {
        self.pod_writes_by(self.controller_user()).await
    }

    /// The same by another user.
    pub async fn pod_writes_by(&self, user: &str) -> Vec<PodWrite> {
        let records = self.writes_by(user, Timestamp::UNIX_EPOCH).await;
        records.iter().filter(|r| r.resource == "pods").map(PodWrite::read).collect()
    }

    /// Everything that this user has asked of this namespace, reads and watches too.
    pub async fn calls_by(&self, user: &str) -> Vec<AuditRecord> {
        let audit = self.cluster.audit().within(&self.namespace);
        audit.settle().await.unwrap();
        let mut records = audit.all_by(user, Timestamp::UNIX_EPOCH).unwrap();
        records.retain(|record| record.namespace == self.namespace);
        records
    }

    /// Every write in this namespace by this user since then, Events included.
    pub async fn writes_by(&self, user: &str, since: Timestamp) -> Vec<AuditRecord> {
        let audit = self.cluster.audit().within(&self.namespace);
        audit.settle().await.unwrap();
        let mut records = audit.writes_by(user, since).unwrap();
        records.retain(|record| record.namespace == self.namespace);
        records
    }
}

/// The writes to this pod.
pub fn of<'a>(writes: &'a [PodWrite], pod: &str) -> Vec<&'a PodWrite> {
    writes.iter().filter(|write| write.pod == pod).collect()
}

/// How many writes of this kind were accepted.
pub fn accepted(writes: &[PodWrite], step: Step) -> usize {
    writes.iter().filter(|write| write.accepted() && write.step == step).count()
}

/// The most pods that were out at once by the writes that were accepted.
pub fn most_out(writes: &[PodWrite]) -> usize {
    let (mut out, mut most) = (BTreeSet::new(), 0);
    for write in writes.iter().filter(|write| write.accepted()) {
        match write.step {
            Step::Cut | Step::Pause => out.insert(&write.pod),
            Step::Restore | Step::Evict => out.remove(&write.pod),
            Step::Label | Step::Unread => false,
        };
        most = most.max(out.len());
    }
    most
}
