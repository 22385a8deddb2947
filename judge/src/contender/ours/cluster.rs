//! The pods as an API server holds them, and the controller's own cache fed with them.
//!
//! Takes births, deaths and actions; gives the fleet as the controller sees it and who the Service does not reach.
//! Every write is seen by the watch at once.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use kubervisor::api::{cut_patch, forgive_patch, keep_out_patch, key, pause_patch, restore_patch};
use kubervisor::cluster::cache::Cache;
use kubervisor::cluster::index::Governor;
use kubervisor::cluster::slim::{SlimPod, SlimService};
use kubervisor::cluster::snapshot::View;
use kubervisor::cluster::watch::Sink;
use kubervisor::cluster::writes::Demands;
use kubervisor_core::budget::floor;
use kubervisor_core::plan::{Action, What};
use kubervisor_core::policy::ServicePolicy;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::case::Case;
use crate::world::World;

/// Where all of it happens.
pub const NAMESPACE: &str = "shop";
/// Of the KubervisorService.
pub const UID: &str = "5e5d0c1e-checkout";
/// Its name.
const NAME: &str = "checkout";
/// Second 0 by the wall clock.
pub const START: Timestamp = Timestamp::constant(1_800_000_000, 0);
/// Pods that are there in second 0 have been Ready for so long.
const READY_FOR: SignedDuration = SignedDuration::from_hours(2);

/// The API server, for one Service.
pub struct Cluster {
    cache: Arc<Cache>,
    /// As stored, by ordinal; `None` where it does not exist.
    pods: Vec<Option<Value>>,
    version: u64,
}

/// The name of a pod; names sort as ordinals do.
#[must_use]
pub fn name_of(pod: u32) -> String {
    format!("checkout-{pod:04}")
}

impl Cluster {
    /// The Service with the key in its selector, its KubervisorService, and no pod yet.
    ///
    /// # Errors
    /// Where the Service is not what the controller reads.
    pub fn new(service: &Arc<str>, case: &Case) -> anyhow::Result<Self> {
        let cache = Arc::new(Cache::default());
        let object = json!({
            "metadata": {"name": &**service, "namespace": NAMESPACE},
            "spec": {"selector": {"app": "checkout", key::TRAFFIC: key::YES}},
        });
        cache.services(None).apply(serde_json::from_value::<SlimService>(object)?);
        let governor = Governor {
            name: Arc::from(NAME),
            service: Arc::clone(service),
            created: START.saturating_sub(READY_FOR)?,
            labels: true,
            manages: false,
            changed: Arc::new(Notify::new()),
        };
        cache.govern(NAMESPACE, UID, governor);
        Ok(Self { cache, pods: vec![None; case.pods() as usize], version: 1 })
    }

    /// Births and deaths up to the world's second. Returns whether there were any.
    pub fn follow(&mut self, world: &World<'_>, now: Timestamp) -> bool {
        let mut changed = false;
        for pod in 0..world.case.pods() {
            let alive = world.case.life(pod).contains(&world.second);
            let exists = self.pods[pod as usize].is_some();
            if alive && !exists {
                let since =
                    if world.second == 0 { now.saturating_sub(READY_FOR).unwrap_or(now) } else { now };
                self.store(pod, born(pod, since));
            } else if !alive && exists {
                self.delete(pod);
            }
            changed |= alive != exists;
        }
        changed
    }

    /// The fleet as the controller sees it.
    #[must_use]
    pub fn view(&self) -> Option<View> {
        self.cache.view(NAMESPACE, UID)
    }

    /// Carries out one action as the controller's writer does; `size` is the fleet's capacity. Returns whether it
    /// was accepted.
    pub fn act(&mut self, action: &Action, policy: &ServicePolicy, size: u32, now: Timestamp) -> bool {
        let Some(pod) = self.ordinal(action) else { return false };
        let needed = |n: u32| floor(policy, n.max(size));
        let demands = Demands { floor: &needed, limits: &policy.limits };
        if self.cache.begin(NAMESPACE, UID, action, &demands).is_err() {
            return false;
        }
        let patch = match &action.what {
            What::Cut(order) => cut_patch(NAME, order),
            What::KeepOut => keep_out_patch(NAME),
            What::Restore { strikes, .. } => restore_patch(now, strikes.as_ref()),
            What::Forgive(strikes) => forgive_patch(strikes),
            What::Pause { .. } => pause_patch(),
            // No breaker of the manifest climbs that far; a disruption budget refuses it.
            What::Evict { .. } => {
                self.cache.refused(&action.uid);
                return false;
            }
        };
        if let Some(mut object) = self.pods[pod as usize].take() {
            merge(&mut object, &patch);
            self.store(pod, object);
        }
        true
    }

    /// Whether the Service does not reach the pod.
    #[must_use]
    pub fn out(&self, pod: u32) -> bool {
        let label = |object: &Value| object["metadata"]["labels"][key::TRAFFIC] == key::YES;
        self.pods[pod as usize].as_ref().is_some_and(|object| !label(object))
    }

    fn ordinal(&self, action: &Action) -> Option<u32> {
        let named = |object: &Option<Value>| {
            object.as_ref().is_some_and(|object| object["metadata"]["uid"] == *action.uid)
        };
        self.pods.iter().position(named).and_then(|place| u32::try_from(place).ok())
    }

    fn store(&mut self, pod: u32, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if let Some(slim) = slim(&object) {
            self.cache.pods(None).apply(slim);
        }
        self.pods[pod as usize] = Some(object);
    }

    fn delete(&mut self, pod: u32) {
        let gone = self.pods[pod as usize].take();
        if let Some(slim) = gone.as_ref().and_then(slim) {
            self.cache.pods(None).delete(slim);
        }
    }
}

fn slim(object: &Value) -> Option<SlimPod> {
    serde_json::from_value(object.clone()).ok()
}

/// Ready since `since`, with the traffic label of its template.
fn born(pod: u32, since: Timestamp) -> Value {
    json!({
        "metadata": {
            "name": name_of(pod),
            "namespace": NAMESPACE,
            "uid": format!("uid-{pod:04}"),
            "labels": {"app": "checkout", key::TRAFFIC: key::YES},
            "annotations": {},
            "creationTimestamp": since.to_string(),
            "ownerReferences": [{"kind": "ReplicaSet", "controller": true}],
        },
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": since.to_string()}],
        },
    })
}

/// A JSON merge patch (RFC 7386).
fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(object) = target.as_object_mut() else { return };
    for (key, value) in fields {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use kubervisor_core::fleet::Member;

    use super::*;
    use crate::file::parse;

    fn cluster(fleet: u32) -> Cluster {
        let text = "title: t\nfleet: [4]\nscrapeSeconds: [5]\nseconds: 9\nload: {requestsPerSecondPerPod: 1}";
        let case = Case::new(Arc::new(parse("t", text).unwrap()), fleet, 5);
        let mut cluster = Cluster::new(&Arc::from("checkout"), &case).unwrap();
        assert!(cluster.follow(&World::new(&case, true), START));
        cluster
    }

    #[test]
    fn a_merge_patch_removes_what_is_null_and_keeps_what_it_does_not_name() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "d": 3});
        merge(&mut object, &json!({"a": {"b": null, "e": {"f": null, "g": 5}}}));
        assert_eq!(object, json!({"a": {"c": 2, "e": {"g": 5}}, "d": 3}));
    }

    #[test]
    fn the_controller_sees_every_pod_serving_and_a_pause_takes_one_out_under_the_floor() {
        let mut cluster = cluster(2);
        let fleet = cluster.view().unwrap().fleet;
        assert!(fleet.members.len() == 2 && fleet.members.iter().all(Member::serving));
        let pause = |place: usize| Action {
            pod: Arc::clone(&fleet.members[place].name),
            uid: Arc::clone(&fleet.members[place].uid),
            resource_version: fleet.members[place].resource_version,
            what: What::Pause { breaker: None, strikes: 1 },
        };
        let policy = ServicePolicy::returns_only();
        assert!(cluster.act(&pause(1), &policy, 2, START));
        assert_eq!([0, 1].map(|pod| cluster.out(pod)), [false, true]);
        assert!(!cluster.act(&pause(0), &policy, 2, START), "the floor is one");
    }
}
