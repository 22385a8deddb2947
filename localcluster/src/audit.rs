//! The API server's audit log: who did what, countably.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;

use crate::access::{ADMIN, Access};
use crate::{runtime, wait};

/// Metadata for everything, bodies for pods, what hangs below them, and Services. Watches are recorded when they start: their end
/// may come an hour later.
pub(crate) const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Request
  resources: [{group: "", resources: [pods, "pods/*", services]}]
- level: Metadata
"#;

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// One request that the API server has answered, or a watch that it has begun.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRecord {
    /// When the API server received it.
    pub time: Timestamp,
    /// The authenticated user, for an actor its name.
    pub user: String,
    /// What the client calls itself; empty when it says nothing.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for the core group and for paths without a resource.
    pub group: String,
    /// Plural, such as `pods`; empty for paths without a resource, such as `/readyz`.
    pub resource: String,
    /// Such as `status` or `eviction`; empty for the resource itself.
    pub subresource: String,
    /// Empty for what is not in a namespace.
    pub namespace: String,
    /// Empty for lists, watches and creations whose name the server chose.
    pub name: String,
    /// HTTP status of the answer; 0 when there was none.
    pub code: u16,
    /// Path and query.
    pub uri: String,
    /// The body sent; recorded for pods, their subresources and Services only.
    pub request_object: Option<serde_json::Value>,
}

/// Reads the audit log of one [`Cluster`](crate::Cluster).
#[derive(Clone)]
pub struct Audit {
    pub(crate) path: PathBuf,
    pub(crate) access: Arc<Access>,
    /// Only lines that contain this are parsed.
    pub(crate) within: Option<String>,
}

impl Audit {
    /// Only what was done in this namespace, which spares the parsing of everything else: for a test that looks again
    /// and again at the log of a cluster that it shares.
    #[must_use]
    pub fn within(mut self, namespace: &str) -> Audit {
        self.within = Some(format!("\"namespace\":{}", serde_json::Value::from(namespace)));
        self
    }

    /// Creations, updates, patches and deletions by this user since then, refused ones included (look at `code`), in the
    /// order of arrival. Call [`Audit::settle`] first when the count matters.
    ///
    /// # Errors
    /// When the log cannot be read or holds a line that is no audit event.
    pub fn writes_by(&self, user: &str, since: Timestamp) -> anyhow::Result<Vec<AuditRecord>> {
        let mut records = self.all_by(user, since)?;
        records.retain(|record| WRITES.contains(&record.verb.as_str()));
        Ok(records)
    }

    /// Everything by this user since then, reads and watches too, in the order of arrival.
    ///
    /// # Errors
    /// As [`Audit::writes_by`].
    pub fn all_by(&self, user: &str, since: Timestamp) -> anyhow::Result<Vec<AuditRecord>> {
        // Most lines are other users': a search for the bytes spares their parsing.
        let needle = format!("\"username\":{}", serde_json::Value::from(user));
        let mut by_id = BTreeMap::new();
        for line in self.lines(&needle)? {
            let event: Event = serde_json::from_str(&line)
                .with_context(|| format!("a line of {} is no audit event: {line}", self.path.display()))?;
            if event.user.username == user && event.request_received_timestamp >= since {
                // A watch has two stages; the later one wins.
                by_id.insert(event.audit_id.clone(), AuditRecord::from(event));
            }
        }
        let mut records: Vec<_> = by_id.into_values().collect();
        records.sort_by_key(|record| record.time);
        Ok(records)
    }

    /// Waits until the log has caught up: a request of our own, made now, is in it.
    ///
    /// The API server writes a record before it ends its answer, so what was answered before this call is then in the
    /// log too.
    ///
    /// # Errors
    /// When the API server does not answer, or its log shows nothing for 10 s.
    pub async fn settle(&self) -> anyhow::Result<()> {
        let audit = Audit { within: None, ..self.clone() };
        runtime::run(async move { audit.settle_here().await }).await
    }

    async fn settle_here(&self) -> anyhow::Result<()> {
        let since = Timestamp::now();
        let marker = format!("/version?settle={}", since.as_nanosecond());
        self.access
            .get(&marker)
            .await?
            .map_err(|reason| anyhow::anyhow!("the API server does not answer: {reason}"))?;
        wait::until("the record of our own request in the audit log", Duration::from_secs(10), || async {
            let seen =
                self.all_by(ADMIN, since - Duration::from_secs(1))?.iter().any(|record| record.uri == marker);
            Ok(if seen { Ok(()) } else { Err(format!("{} does not have it", self.path.display())) })
        })
        .await
    }

    /// Whole lines that contain the needle; a line still being written has no end yet and is left out.
    fn lines(&self, needle: &str) -> anyhow::Result<Vec<String>> {
        let file = File::open(&self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        let mut reader = BufReader::new(file);
        let mut found = Vec::new();
        let mut line = String::new();
        while reader.read_line(&mut line).with_context(|| format!("cannot read {}", self.path.display()))? > 0
        {
            let within = self.within.as_ref().is_none_or(|within| line.contains(within.as_str()));
            if within && line.ends_with('\n') && line.contains(needle) {
                found.push(line.clone());
            }
            line.clear();
        }
        Ok(found)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    #[serde(rename = "requestURI", default)]
    request_uri: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
    request_object: Option<serde_json::Value>,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ResponseStatus {
    code: u16,
}

impl From<Event> for AuditRecord {
    fn from(event: Event) -> AuditRecord {
        AuditRecord {
            time: event.request_received_timestamp,
            user: event.user.username,
            user_agent: event.user_agent,
            verb: event.verb,
            group: event.object_ref.api_group,
            resource: event.object_ref.resource,
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            code: event.response_status.code,
            uri: event.request_uri,
            request_object: event.request_object,
        }
    }
}
