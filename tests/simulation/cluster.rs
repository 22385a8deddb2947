//! The cluster around the controller: workloads that replace pods, kubelets that make them Ready, people, traffic that
//! goes to whoever serves, and the counters that a Prometheus would scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::chance::Chance;
use super::object::{Kind, Name, Object};
use super::script::{Edit, Event, Script, ServicePlan, Workload};
use super::store::Store;

/// A pod's scrape is never older than this.
pub const SCRAPE: Duration = Duration::from_secs(15);
/// Scrapes kept.
const SCRAPES_MAX: usize = 40;

/// Totals since the pod was born.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    pub good: f64,
    pub bad: f64,
    /// Sum of a value of each request; 1 is usual.
    pub value: f64,
}

/// What no API tells of a pod.
#[derive(Debug, Clone)]
pub struct Body {
    pub service: usize,
    pub name: Name,
    /// Percent of its requests that fail.
    sick: Option<(u64, Option<Duration>)>,
    ready_at: Option<Duration>,
    gone_at: Option<Duration>,
    pub totals: Totals,
    pub scrapes: Vec<(Duration, Totals)>,
    phase: u64,
}

impl Body {
    pub fn sick(&self) -> bool {
        self.sick.is_some()
    }
}

/// A workload and the wishes of people for it.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub plan: ServicePlan,
    replicas: usize,
    load: u64,
    revision: u64,
    born_sick: u64,
    made: u64,
    next_birth: Duration,
    rolling: bool,
}

/// Everything outside of the API.
pub struct Cluster {
    chance: Chance,
    pub fleets: Vec<Fleet>,
    pub bodies: BTreeMap<String, Body>,
    /// How far the controller's wall clock is off.
    pub skew: i64,
    /// Pods whose label a person set last, by uid.
    pub by_hand: BTreeMap<String, Duration>,
    /// Pods that a person has a word on.
    wished: BTreeSet<String>,
}

fn wall(at: Duration) -> String {
    stamp(at).to_string()
}

/// The API server's clock, which nobody moves.
pub fn stamp(at: Duration) -> jiff::Timestamp {
    let start = jiff::Timestamp::from_second(1_790_000_000).unwrap_or_default();
    start + jiff::SignedDuration::try_from(Duration::from_secs(at.as_secs())).unwrap_or_default()
}

impl Cluster {
    /// Stores everything that stands at the start; its pods are Ready already.
    pub fn new(script: &Script, store: &mut Store) -> Self {
        let fleet = |plan: &ServicePlan| Fleet {
            plan: plan.clone(),
            replicas: plan.replicas,
            load: plan.load.0,
            revision: 1,
            born_sick: plan.born_sick,
            made: 0,
            next_birth: Duration::ZERO,
            rolling: false,
        };
        let mut cluster = Self {
            chance: Chance(script.seed),
            fleets: script.services.iter().map(fleet).collect(),
            bodies: BTreeMap::new(),
            skew: 0,
            by_hand: BTreeMap::new(),
            wished: BTreeSet::new(),
        };
        for service in 0..cluster.fleets.len() {
            cluster.serve(service, store, Duration::ZERO);
            cluster.declare(service, store, Duration::ZERO);
            cluster.workload(service, store);
            for _ in 0..cluster.fleets[service].replicas {
                cluster.birth(service, store, Duration::ZERO, true);
            }
        }
        // A neighbour that nothing of ours selects.
        store.create(Kind::Pods, neighbour(), Duration::ZERO, &wall(Duration::ZERO));
        cluster
    }

    fn serve(&mut self, service: usize, store: &mut Store, at: Duration) {
        let plan = &self.fleets[service].plan;
        let name = (plan.namespace.to_owned(), plan.name.to_owned());
        if store.get(Kind::Services, &name).is_some() {
            return;
        }
        let mut selector = json!({"app": plan.name});
        if plan.key {
            selector["kubervisor/traffic"] = json!("yes");
        }
        let value = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": plan.namespace, "name": plan.name},
            "spec": {
                "type": "ClusterIP", "selector": selector,
                "internalTrafficPolicy": if plan.local { "Local" } else { "Cluster" },
            },
        });
        store.create(Kind::Services, value.clone(), at, &wall(at));
        if plan.neighbour && at == Duration::ZERO {
            let mut other = value;
            other["metadata"] = json!({"namespace": plan.namespace, "name": format!("{}-some", plan.name)});
            other["spec"]["selector"]["tier"] = json!("some");
            store.create(Kind::Services, other, at, &wall(at));
        }
    }

    fn declare(&mut self, service: usize, store: &mut Store, at: Duration) {
        let plan = &self.fleets[service].plan;
        for name in ["pick", "twin"] {
            let name = format!("{name}-{}", plan.name);
            store.delete(Kind::Resources, &(plan.namespace.to_owned(), name), at);
        }
        store.create(Kind::Resources, resource(plan, "pick"), at, &wall(at));
    }

    fn workload(&mut self, service: usize, store: &mut Store) {
        let plan = &self.fleets[service].plan;
        let (kind, word) = match plan.workload {
            Workload::ReplicaSet => (Kind::ReplicaSets, "ReplicaSet"),
            Workload::StatefulSet => (Kind::StatefulSets, "StatefulSet"),
            Workload::DaemonSet => (Kind::DaemonSets, "DaemonSet"),
            Workload::Bare => return,
        };
        let value = json!({
            "apiVersion": "apps/v1", "kind": word, "metadata": {"namespace": plan.namespace, "name": plan.name},
            "spec": {
                "selector": {"matchLabels": {"app": plan.name}}, "serviceName": format!("{}-headless", plan.name),
                "template": {"metadata": {"labels": {"app": plan.name}}},
            },
        });
        store.create(kind, value, Duration::ZERO, &wall(Duration::ZERO));
        if let Some(least) = plan.budget {
            let value = json!({
                "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                "metadata": {"namespace": plan.namespace, "name": plan.name},
                "spec": {"minAvailable": least, "selector": {"matchLabels": {"app": plan.name}}},
                "status": {"currentHealthy": 0, "desiredHealthy": least, "disruptionsAllowed": 0},
            });
            store.create(Kind::Budgets, value, Duration::ZERO, &wall(Duration::ZERO));
        }
    }

    fn birth(&mut self, service: usize, store: &mut Store, at: Duration, ready: bool) {
        let fleet = &mut self.fleets[service];
        fleet.made += 1;
        let (plan, made) = (&fleet.plan, fleet.made);
        let taken =
            |name: &String| store.get(Kind::Pods, &(plan.namespace.to_owned(), name.clone())).is_some();
        let name = match plan.workload {
            Workload::StatefulSet => {
                let free = (0..99).map(|i| format!("{}-{i}", plan.name)).find(|name| !taken(name));
                free.unwrap_or_default()
            }
            _ => format!("{}-{}-{:03}", plan.name, fleet.revision, made),
        };
        let since = if ready { Duration::ZERO } else { at };
        let value = pod(plan, &name, fleet.revision, made, (ready, since));
        let object = store.create(Kind::Pods, value, at, &wall(at));
        let key = (made, service as u64);
        let sick = self.chance.happens(fleet.born_sick, "born sick", key.0, key.1) && !ready;
        let body = Body {
            service,
            name: object.name.clone(),
            sick: sick.then_some((90, None)),
            ready_at: (!ready).then(|| at + self.chance.millis(2_000, 12_000, "warm", key.0, key.1)),
            gone_at: None,
            totals: Totals::default(),
            scrapes: Vec::new(),
            phase: self.chance.draw("phase", key.0, key.1) % 15,
        };
        self.bodies.insert(object.uid.clone(), body);
    }

    /// A second goes by.
    pub fn step(&mut self, store: &mut Store, at: Duration) {
        self.kubelets(store, at);
        for service in 0..self.fleets.len() {
            self.replace(service, store, at);
            self.traffic(service, store);
            self.budgets(service, store, at);
        }
        let second = at.as_secs();
        for body in self.bodies.values_mut().filter(|b| (second + b.phase).is_multiple_of(15)) {
            body.scrapes.push((at, body.totals));
            let excess = body.scrapes.len().saturating_sub(SCRAPES_MAX);
            body.scrapes.drain(..excess);
        }
    }

    fn kubelets(&mut self, store: &mut Store, at: Duration) {
        let uids: Vec<_> = self.bodies.keys().cloned().collect();
        for uid in uids {
            let Some(object) = store.pod(&uid).cloned() else {
                self.bodies.remove(&uid);
                continue;
            };
            let Some(body) = self.bodies.get_mut(&uid) else { continue };
            if object.terminating && body.gone_at.is_none() {
                let grace = self.chance.millis(2_000, 20_000, "grace", at.as_secs(), object.version);
                body.gone_at = Some(at + grace);
            }
            if body.gone_at.is_some_and(|gone| gone <= at) {
                store.delete(Kind::Pods, &object.name, at);
                self.bodies.remove(&uid);
                continue;
            }
            if body.sick.is_some_and(|(_, heals)| heals.is_some_and(|heals| heals <= at)) {
                body.sick = None;
            }
            let ready = body.ready_at.is_none_or(|ready| ready <= at);
            if ready {
                body.ready_at = None;
            }
            if object.ready() != ready {
                store.update(Kind::Pods, with_ready(&object, ready, at), at);
            }
        }
    }

    fn live<'a>(&'a self, service: usize, store: &'a Store) -> impl Iterator<Item = &'a Arc<Object>> {
        let of = move |b: &&Body| b.service == service;
        let objects = self.bodies.values().filter(of).filter_map(|b| store.get(Kind::Pods, &b.name));
        objects.filter(|pod| !pod.terminating)
    }

    fn replace(&mut self, service: usize, store: &mut Store, at: Duration) {
        let fleet = &self.fleets[service];
        if fleet.plan.workload == Workload::Bare {
            return;
        }
        let live: Vec<_> = self.live(service, store).cloned().collect();
        let revision = fleet.revision.to_string();
        let old = live.iter().find(|p| p.labels.get("pod-template-hash") != Some(&revision));
        let all = self.bodies.values().filter(|b| b.service == service).count();
        // A StatefulSet waits until the name is free; a rollout of the others goes one above what is wanted.
        let ordered = fleet.plan.workload == Workload::StatefulSet;
        let wanted = fleet.replicas + usize::from(fleet.rolling && old.is_some() && !ordered);
        let settled = live.iter().all(|p| p.ready());
        if live.len() < wanted && fleet.next_birth <= at && !(ordered && all > live.len()) {
            self.birth(service, store, at, false);
            let pause = self.chance.millis(500, 3_000, "birth", at.as_secs(), service as u64);
            self.fleets[service].next_birth = at + pause;
        } else if live.len() > fleet.replicas && (!fleet.rolling || settled) {
            let surplus = old.or_else(|| live.iter().max_by_key(|p| &p.uid));
            surplus.into_iter().for_each(|pod| terminate(store, pod, at));
        } else if let (true, true, true, Some(old)) =
            (fleet.rolling, ordered, settled && all == live.len(), old)
        {
            terminate(store, old, at);
        }
    }

    fn traffic(&mut self, service: usize, store: &Store) {
        let plan = &self.fleets[service].plan;
        let name = (plan.namespace.to_owned(), plan.name.to_owned());
        let Some(object) = store.get(Kind::Services, &name) else { return };
        let serves = |pod: &&Arc<Object>| pod.ready() && !pod.terminating && object.reaches(pod);
        let serving: Vec<_> = store.all(Kind::Pods).filter(serves).map(|pod| pod.uid.clone()).collect();
        if serving.is_empty() {
            return;
        }
        #[allow(clippy::cast_precision_loss)]
        let share = self.fleets[service].load as f64 / serving.len() as f64;
        #[allow(clippy::cast_precision_loss)]
        let overloaded = share > plan.load.1 as f64;
        for uid in serving {
            let Some(body) = self.bodies.get_mut(&uid) else { continue };
            #[allow(clippy::cast_precision_loss)]
            let percent = match body.sick {
                Some((share, _)) => share as f64,
                None if overloaded => 70.0,
                None => 0.2,
            };
            let noise = 1.0 + (body.phase % 5) as f64 / 100.0;
            body.totals.bad += share * percent / 100.0;
            body.totals.good += share * (100.0 - percent) / 100.0;
            body.totals.value += share * noise * if percent > 50.0 { 6.0 } else { 1.0 };
        }
    }

    fn budgets(&mut self, service: usize, store: &mut Store, at: Duration) {
        let plan = &self.fleets[service].plan;
        let name = (plan.namespace.to_owned(), plan.name.to_owned());
        let Some(budget) = store.get(Kind::Budgets, &name).cloned() else { return };
        let healthy = self.live(service, store).filter(|p| p.ready()).count() as u64;
        let mut value = budget.value.clone();
        let desired = value["spec"]["minAvailable"].as_u64().unwrap_or(0);
        value["status"] = json!({
            "currentHealthy": healthy, "desiredHealthy": desired,
            "disruptionsAllowed": healthy.saturating_sub(desired), "expectedPods": healthy,
        });
        store.update(Kind::Budgets, value, at);
    }

    /// Everybody is well again, and people leave things alone.
    pub fn heal(&mut self) {
        for body in self.bodies.values_mut() {
            body.sick = None;
        }
        for fleet in &mut self.fleets {
            fleet.born_sick = 0;
            fleet.plan.load.1 = u64::MAX;
        }
    }

    fn chosen(&self, service: usize, pod: usize, store: &Store) -> Option<Arc<Object>> {
        let live: Vec<_> = self.live(service, store).collect();
        (!live.is_empty()).then(|| Arc::clone(live[pod % live.len()]))
    }

    /// Something happens. Returns what was hit, for the trace; `None` where there was nothing to hit.
    pub fn happen(&mut self, event: &Event, store: &mut Store, at: Duration) -> Option<String> {
        match event {
            Event::Sicken { service, pod, share, heals } => {
                let pod = self.chosen(*service, *pod, store)?;
                self.bodies.get_mut(&pod.uid)?.sick = Some((*share, heals.map(|h| at + h)));
                Some(pod.name.1.clone())
            }
            Event::Crash { service, pod } => {
                let pod = self.chosen(*service, *pod, store)?;
                let back = at + self.chance.millis(4_000, 40_000, "restart", at.as_secs(), pod.version);
                let body = self.bodies.get_mut(&pod.uid)?;
                (body.ready_at, body.sick) = (Some(back), None);
                Some(pod.name.1.clone())
            }
            Event::Flap { service, pod, down } => {
                let pod = self.chosen(*service, *pod, store)?;
                self.bodies.get_mut(&pod.uid)?.ready_at = Some(at + *down);
                Some(pod.name.1.clone())
            }
            Event::Drain { service, pods } => {
                let mut hit = Vec::new();
                for i in 0..*pods {
                    let pod = self.chosen(*service, i * 3, store)?;
                    terminate(store, &pod, at);
                    hit.push(pod.name.1.clone());
                }
                Some(hit.join(" "))
            }
            Event::Scale { service, replicas } => {
                let fleet = &mut self.fleets[*service];
                fleet.replicas = *replicas;
                Some(format!("{} to {replicas}", fleet.plan.name))
            }
            Event::Rollout { service, sick } => {
                let fleet = &mut self.fleets[*service];
                (fleet.rolling, fleet.born_sick) = (true, *sick);
                fleet.revision += 1;
                Some(fleet.plan.name.to_owned())
            }
            Event::Surge { service, load } => {
                self.fleets[*service].load = *load;
                Some(format!("{load} a second"))
            }
            Event::Jump { seconds } => {
                self.skew += seconds;
                Some(format!("{seconds} s"))
            }
            Event::Freeze { on } => freeze(*on, store, at),
            Event::Flip { .. } | Event::Garble { .. } | Event::Wish { .. } => self.hand(event, store, at),
            Event::Unsay => {
                self.unsay(store, at);
                Some(String::new())
            }
            Event::Kill { .. } => Some(String::new()),
            Event::Edit { service, .. }
            | Event::Forget { service }
            | Event::Declare { service }
            | Event::Twin { service }
            | Event::Key { service, .. }
            | Event::Unserve { service }
            | Event::Serve { service } => self.declaration(*service, event, store, at),
        }
    }

    fn hand(&mut self, event: &Event, store: &mut Store, at: Duration) -> Option<String> {
        match event {
            Event::Flip { service, pod, to } => {
                // A person who opens a pod opens one that is out.
                let out = self.live(*service, store).find(|p| p.timed_cut() && *to == Some("yes")).cloned();
                let pod = out.or_else(|| self.chosen(*service, *pod, store))?;
                let mut value = pod.value.clone();
                match to {
                    Some(to) => value["metadata"]["labels"]["kubervisor/traffic"] = json!(to),
                    None => {
                        value["metadata"]["labels"].as_object_mut()?.remove("kubervisor/traffic");
                    }
                }
                store.update(Kind::Pods, value, at);
                self.by_hand.insert(pod.uid.clone(), at);
                Some(format!("{} to {to:?}", pod.name.1))
            }
            Event::Garble { service, pod } => {
                let pod = self.chosen(*service, *pod, store)?;
                let mut value = pod.value.clone();
                value["metadata"]["annotations"]["kubervisor.k8s.io/strikes"] = json!("{\"rule-0\": ");
                value["metadata"]["annotations"]["kubervisor.k8s.io/restore-at"] =
                    json!("9999-01-01T00:00:00Z");
                store.update(Kind::Pods, value, at);
                Some(pod.name.1.clone())
            }
            Event::Wish { service, pod, word } => {
                let pod = self.chosen(*service, *pod, store)?;
                let mut value = pod.value.clone();
                value["metadata"]["annotations"]["kubervisor.k8s.io/override"] = json!(word);
                store.update(Kind::Pods, value, at);
                self.wished.insert(pod.uid.clone());
                Some(format!("{} {word}", pod.name.1))
            }
            _ => None,
        }
    }

    /// People take back what they said of pods.
    pub fn unsay(&mut self, store: &mut Store, at: Duration) {
        for uid in std::mem::take(&mut self.wished) {
            let Some(pod) = store.pod(&uid).cloned() else { continue };
            let mut value = pod.value.clone();
            let notes = value["metadata"]["annotations"].as_object_mut();
            notes.into_iter().for_each(|notes| drop(notes.remove("kubervisor.k8s.io/override")));
            store.update(Kind::Pods, value, at);
        }
    }

    fn declaration(
        &mut self,
        service: usize,
        event: &Event,
        store: &mut Store,
        at: Duration,
    ) -> Option<String> {
        let plan = self.fleets[service].plan.clone();
        let name = (plan.namespace.to_owned(), plan.name.to_owned());
        let own = (plan.namespace.to_owned(), format!("pick-{}", plan.name));
        match event {
            Event::Edit { edit: wish, .. } => {
                let object = store.get(Kind::Resources, &own)?.clone();
                let mut value = object.value.clone();
                edit(&mut value["spec"], wish, &plan.spec);
                store.update(Kind::Resources, value, at);
            }
            Event::Forget { .. } => store.delete(Kind::Resources, &own, at),
            Event::Declare { .. } => self.declare(service, store, at),
            Event::Twin { .. } => {
                drop(store.create(Kind::Resources, resource(&plan, "twin"), at, &wall(at)));
            }
            Event::Key { on, .. } => {
                let mut value = store.get(Kind::Services, &name)?.value.clone();
                let selector = value["spec"]["selector"].as_object_mut()?;
                selector.remove("kubervisor/traffic");
                if *on {
                    selector.insert("kubervisor/traffic".into(), json!("yes"));
                }
                store.update(Kind::Services, value, at);
            }
            Event::Unserve { .. } => store.delete(Kind::Services, &name, at),
            Event::Serve { .. } => self.serve(service, store, at),
            _ => {}
        }
        Some(plan.name.to_owned())
    }
}

fn edit(spec: &mut Value, wish: &Edit, first: &Value) {
    match wish {
        Edit::Floor(percent) => spec["breakers"][0]["minPodsAvailableRatio"] = json!(percent),
        Edit::Mode(mode) => spec["mode"] = json!(mode),
        Edit::Show(on) => spec["breakers"][0]["mode"] = if *on { json!("DryRun") } else { Value::Null },
        Edit::Retries(count) => spec["defaultActivator"]["maxRetryCount"] = json!(count),
        Edit::Garbage => {
            spec["breakers"][0]["discreteValueOutOfList"] = json!({"promQL": "", "key": "code"});
            spec["breakers"][0]["continuousValueDeviation"] = Value::Null;
        }
        Edit::Keeper(word) => spec["selectorManagement"] = json!(word),
        Edit::Mend => spec["breakers"] = first["breakers"].clone(),
    }
}

fn freeze(on: bool, store: &mut Store, at: Duration) -> Option<String> {
    let lease = store.all(Kind::Leases).next().cloned()?;
    let mut value = lease.value.clone();
    value["metadata"]["annotations"]["kubervisor.k8s.io/freeze"] =
        if on { json!("people look at it") } else { Value::Null };
    if !on {
        let notes = value["metadata"]["annotations"].as_object_mut()?;
        notes.remove("kubervisor.k8s.io/freeze");
    }
    store.update(Kind::Leases, value, at);
    Some(if on { "on".into() } else { "off".into() })
}

/// Asks the kubelet of a pod to end it.
pub fn terminate(store: &mut Store, pod: &Object, at: Duration) {
    let mut value = pod.value.clone();
    if value["metadata"]["deletionTimestamp"].is_null() {
        value["metadata"]["deletionTimestamp"] = json!(wall(at));
        store.update(Kind::Pods, value, at);
    }
}

fn resource(plan: &ServicePlan, name: &str) -> Value {
    json!({
        "apiVersion": "kubervisor.k8s.io/v1alpha1", "kind": "KubervisorService",
        "metadata": {"namespace": plan.namespace, "name": format!("{name}-{}", plan.name)}, "spec": plan.spec,
    })
}

fn with_ready(object: &Object, ready: bool, at: Duration) -> Value {
    let mut value = object.value.clone();
    value["status"] = status(ready, at);
    value
}

fn status(ready: bool, since: Duration) -> Value {
    let word = if ready { "True" } else { "False" };
    json!({"phase": "Running",
        "conditions": [{"type": "Ready", "status": word, "lastTransitionTime": wall(since)}]})
}

fn pod(plan: &ServicePlan, name: &str, revision: u64, made: u64, (ready, since): (bool, Duration)) -> Value {
    let mut labels = json!({"app": plan.name, "pod-template-hash": revision.to_string()});
    if made.is_multiple_of(3) {
        labels["tier"] = json!("some");
    }
    if plan.label_in_template {
        labels["kubervisor/traffic"] = json!("yes");
    }
    let kind = match plan.workload {
        Workload::ReplicaSet => Some("ReplicaSet"),
        Workload::StatefulSet => Some("StatefulSet"),
        Workload::DaemonSet => Some("DaemonSet"),
        Workload::Bare => None,
    };
    let owners: Vec<_> = kind
        .iter()
        .map(|kind| json!({"apiVersion": "apps/v1", "kind": kind, "name": plan.name, "uid": "o", "controller": true}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": plan.namespace, "name": name, "labels": labels, "ownerReferences": owners},
        "spec": {"nodeName": format!("node-{}", made % 4)}, "status": status(ready, since),
    })
}

fn neighbour() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "orchard", "name": "stranger", "labels": {"app": "wasps"}},
        "spec": {"nodeName": "node-0"}, "status": status(true, Duration::ZERO),
    })
}
