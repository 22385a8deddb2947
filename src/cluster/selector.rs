//! The key in a Service's selector: what adding it would do, and the writes that add it and take it out.
//!
//! One way for `selectorManagement: Managed`, the janitor, `kubervisor release` and the plugin. Takes a Service as it
//! was seen; every write carries its uid and version. Who adds the key has labelled the pods first; who takes it out
//! gives pods back only once it is seen to be gone: so no request meets a Service whose selector reaches nobody.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use kube::Client;
use kubervisor_core::fleet::Member;
use kubervisor_core::traffic::{Move, Traffic};
use serde_json::{Value, json};

use super::keyhole::Keyhole;
use super::mandate::{Mandate, Withheld};
use super::slim::SlimService;
use super::snapshot::View;
use super::{CallError, FIELD_MANAGER, call};
use crate::api::key;

/// Labels must have stood for so long before the key is added: others read them by watches of their own, above all
/// what makes EndpointSlices, and whoever saw the key first would find nobody to send traffic to.
pub const SETTLED: Duration = Duration::from_secs(2);

/// What adding the key would do to the pods behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prospect {
    /// Pods that serve now.
    pub serving: Vec<Arc<str>>,
    /// Pods that carry label yes and are Ready: they serve after it.
    pub would_serve: Vec<Arc<str>>,
    /// Pods that must serve.
    pub floor: u32,
    /// Ready pods without the label: they would lose traffic, and nobody wants that.
    pub unlabelled: Vec<Arc<str>>,
    /// Ready pods that carry our mark and are out: they go back first.
    pub held: Vec<Arc<str>>,
}

impl Prospect {
    /// Of the fleet as it stands, with our writes in flight laid over.
    #[must_use]
    pub fn of(view: &View, floor: u32) -> Self {
        let up = |m: &&Member| m.ready && !m.terminating;
        let names = |is: &dyn Fn(&Member) -> bool| -> Vec<Arc<str>> {
            view.fleet.members.iter().filter(up).filter(|m| is(m)).map(|m| Arc::clone(&m.name)).collect()
        };
        let open = |m: &Member| matches!(m.traffic, Traffic::Open | Traffic::OpenedByHand(_));
        let spent = |m: &Member| m.in_flight.is_some_and(Move::spends);
        let marked = |m: &Member| view.marked.iter().any(|marked| marked.uid == m.uid);
        Self {
            serving: names(&Member::serving),
            would_serve: names(&|m| open(m) && !spent(m)),
            floor,
            unlabelled: names(&|m| m.traffic == Traffic::Unlabelled),
            held: names(&|m| !open(m) && marked(m)),
        }
    }

    /// Members that carry the label and are Ready, and too few of them.
    #[must_use]
    pub fn below_floor(&self) -> bool {
        u32::try_from(self.would_serve.len()).is_ok_and(|would_serve| would_serve < self.floor)
    }

    /// Why the key must not be added now. The floor alone would let nine of ten pods go dark: so no pod may lose its
    /// traffic for want of a label that it is about to get.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let Self { serving: _, would_serve, floor, unlabelled, held } = self;
        if self.below_floor() {
            let ready = would_serve.len();
            return Some(format!("{ready} pods carry the label and are Ready, and the floor is {floor}"));
        }
        if !unlabelled.is_empty() {
            return Some(format!("{} Ready pods lack the label", unlabelled.len()));
        }
        (!held.is_empty()).then(|| format!("{} pods that were cut are still to go back", held.len()))
    }
}

/// Writes keys.
#[derive(Clone)]
pub struct KeyWriter {
    client: Client,
    mandate: Mandate,
    field_manager: &'static str,
    only_try: bool,
}

impl KeyWriter {
    /// Of a controller, under its mandate.
    #[must_use]
    pub fn new(client: Client, mandate: Mandate) -> Self {
        Self { client, mandate, field_manager: FIELD_MANAGER, only_try: false }
    }

    /// Of a person, under this name in the server's field ownership. `only_try`: the server checks and keeps nothing.
    #[must_use]
    pub fn of_person(client: Client, field_manager: &'static str, only_try: bool) -> Self {
        Self { client, mandate: Mandate::unlimited(), field_manager, only_try }
    }

    /// Adds the key, or only the mark where the key is there. `by` answers for it from then on.
    ///
    /// # Errors
    /// What the server said, or why this process may not take traffic away now.
    pub async fn add(&self, hole: &Keyhole, by: Option<&str>) -> Result<Keyhole, CallError> {
        let epoch = self.mandate.may_spend(&hole.namespace).map_err(withheld)?;
        self.write(hole, Some(json!(key::YES)), by, epoch).await
    }

    /// Takes the key and the mark out. A key of another value is somebody else's: it stays.
    ///
    /// # Errors
    /// What the server said, or why this process may not write now.
    pub async fn take(&self, hole: &Keyhole) -> Result<Keyhole, CallError> {
        self.mandate.may_write().map_err(withheld)?;
        self.write(hole, hole.turned().then_some(Value::Null), None, None).await
    }

    async fn write(
        &self,
        hole: &Keyhole,
        value: Option<Value>,
        by: Option<&str>,
        epoch: Option<u64>,
    ) -> Result<Keyhole, CallError> {
        let mut body = json!({"metadata": {
            "uid": &*hole.uid,
            "resourceVersion": hole.version.to_string(),
        }});
        if by.is_some() || hole.managed_by.is_some() {
            body["metadata"]["annotations"] =
                json!({ key::MANAGED_BY: by, key::EPOCH: epoch.map(|epoch| epoch.to_string()) });
        }
        if let Some(value) = value {
            body["spec"] = json!({"selector": { key::TRAFFIC: value }});
        }
        let tried = if self.only_try { "&dryRun=All" } else { "" };
        let request = Request::patch(format!("{}?fieldManager={}{tried}", hole.path(), self.field_manager))
            .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
            .body(body.to_string().into_bytes())
            .map_err(|e| CallError::NotSent(e.to_string()))?;
        Ok(Keyhole::of(&call(self.client.request::<SlimService>(request)).await?))
    }

    /// The Service as the server itself has it now.
    ///
    /// # Errors
    /// What the server said.
    pub async fn read(&self, hole: &Keyhole) -> Result<Keyhole, CallError> {
        let request =
            Request::get(hole.path()).body(Vec::new()).map_err(|e| CallError::NotSent(e.to_string()))?;
        Ok(Keyhole::of(&call(self.client.request::<SlimService>(request)).await?))
    }

    /// Who wrote the Service's selector last, by the server's own word: the name of a field manager.
    ///
    /// # Errors
    /// What the server said.
    pub async fn last_writer(&self, hole: &Keyhole) -> Result<Option<String>, CallError> {
        let request =
            Request::get(hole.path()).body(Vec::new()).map_err(|e| CallError::NotSent(e.to_string()))?;
        let service = call(self.client.request::<Value>(request)).await?;
        Ok(writer_of(&service["metadata"]["managedFields"]))
    }
}

fn withheld(why: Withheld) -> CallError {
    CallError::NotSent(why.as_str().into())
}

/// The selector is one field to the server: whoever wrote it last owns it. Several own it where they wrote the same.
fn writer_of(entries: &Value) -> Option<String> {
    let owns = |entry: &&Value| entry["fieldsV1"]["f:spec"].get("f:selector").is_some();
    let last = entries.as_array()?.iter().filter(owns).max_by_key(|entry| entry["time"].as_str())?;
    last["manager"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::cache::Cache;
    use crate::cluster::testing::{orchard, pod, service};
    use crate::cluster::watch::Sink;

    fn ungated(pods: usize) -> Arc<Cache> {
        let cache = orchard(pods);
        cache.services(None).apply(service("pears", &json!({"app": "pear"})));
        cache
    }

    fn prospect(cache: &Cache, floor: u32) -> Prospect {
        Prospect::of(&cache.view("orchard", "k1").unwrap(), floor)
    }

    fn bare(cache: &Arc<Cache>, name: &str) {
        let mut born = pod(name, 8, "yes");
        born.metadata.labels.remove(key::TRAFFIC);
        cache.pods(None).apply(born);
    }

    #[test]
    fn the_key_waits_for_the_floor_then_for_every_label_then_for_every_return() {
        let cache = ungated(3);
        assert_eq!(prospect(&cache, 3).obstacle(), None);
        assert!(prospect(&cache, 4).obstacle().unwrap().contains("the floor is 4"));
        bare(&cache, "pear-9");
        assert_eq!(prospect(&cache, 3).obstacle().unwrap(), "1 Ready pods lack the label");
        let mut cut = pod("pear-9", 9, "no");
        cut.metadata.annotations.insert(key::BREAK_AT.into(), "2026-09-12T08:00:00Z".into());
        cache.pods(None).apply(cut);
        assert!(prospect(&cache, 3).obstacle().unwrap().contains("still to go back"));
    }

    #[test]
    fn pods_that_are_not_ready_or_kept_out_by_people_hold_the_key_up_only_by_the_floor() {
        let cache = ungated(2);
        cache.pods(None).apply(pod("pear-8", 8, "no"));
        let mut unready = pod("pear-9", 8, "yes");
        unready.metadata.labels.remove(key::TRAFFIC);
        unready.status.conditions.clear();
        cache.pods(None).apply(unready);
        let seen = prospect(&cache, 2);
        assert_eq!((seen.serving.len(), seen.would_serve.len(), seen.obstacle()), (3, 2, None));
        assert!(prospect(&cache, 3).below_floor());
    }

    fn entry(name: &str, second: i64, owns: &Value) -> Value {
        let time = jiff::Timestamp::from_second(second).unwrap().to_string();
        json!({"manager": name, "time": time, "fieldsV1": owns})
    }

    #[test]
    fn the_last_owner_of_the_selector_is_named_and_owners_of_other_fields_are_not() {
        let (selector, ports) = (json!({"f:spec": {"f:selector": {}}}), json!({"f:spec": {"f:ports": {}}}));
        let all =
            [entry("gitops", 7, &selector), entry("scaler", 9, &ports), entry("kubervisor", 5, &selector)];
        assert_eq!(writer_of(&json!(all)).as_deref(), Some("gitops"));
        assert_eq!(writer_of(&json!(all[1..2])), None);
    }
}
