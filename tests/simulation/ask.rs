//! A request as the model API server reads it.

use std::collections::BTreeMap;

use http::{Method, Request};
use kube::client::Body;
use serde_json::{Value, json};

use super::object::{Kind, Name};
use super::seen::Step;

#[derive(Debug, Clone)]
pub struct Ask {
    pub method: Method,
    pub kind: Option<Kind>,
    pub group: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub part: Option<String>,
    pub query: BTreeMap<String, String>,
    pub body: Value,
    pub path: String,
}

impl Ask {
    pub async fn read(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await.unwrap_or_default();
        let path = parts.uri.path().to_owned();
        let mut segments = path.trim_start_matches('/').split('/').map(str::to_owned).peekable();
        let group = match segments.next().as_deref() {
            Some("apis") => segments.next().unwrap_or_default(),
            _ => String::new(),
        };
        segments.next();
        let mut namespace = None;
        if segments.peek().is_some_and(|s| s == "namespaces") {
            segments.next();
            namespace = segments.next();
        }
        let kind = segments.next().and_then(|plural| Kind::of(&plural));
        let query = parts.uri.query().unwrap_or_default();
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        Self {
            method: parts.method,
            kind,
            group,
            namespace,
            name: segments.next(),
            part: segments.next(),
            query: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            body: serde_json::from_slice(&bytes).unwrap_or_else(|_| json!({})),
            path,
        }
    }

    pub fn full_name(&self) -> Name {
        (self.namespace.clone().unwrap_or_default(), self.name.clone().unwrap_or_default())
    }

    pub fn watches(&self) -> bool {
        self.query.get("watch").is_some_and(|w| w == "true")
    }

    pub fn writes(&self) -> bool {
        self.method != Method::GET
    }

    /// What it does to a pod.
    pub fn step(&self) -> Option<Step> {
        if self.kind != Some(Kind::Pods) || !self.writes() {
            return None;
        }
        if self.part.as_deref() == Some("eviction") {
            return Some(Step::Evict);
        }
        let meta = &self.body["metadata"];
        Some(match meta["labels"]["kubervisor/traffic"].as_str() {
            Some("no") => Step::Cut,
            Some("pause") => Step::Pause,
            Some("yes") if meta["annotations"]["kubervisor.k8s.io/restored-at"].is_string() => Step::Restore,
            Some("yes") => Step::Label,
            _ => Step::Other,
        })
    }

    /// The pod and the version that a write is meant for.
    pub fn aim(&self) -> (String, u64) {
        let meta = match self.part.as_deref() {
            Some("eviction") => &self.body["deleteOptions"]["preconditions"],
            _ => &self.body["metadata"],
        };
        let version = meta["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0);
        (meta["uid"].as_str().unwrap_or_default().to_owned(), version)
    }
}
