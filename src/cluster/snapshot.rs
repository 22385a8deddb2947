//! Cache and writes in flight to the fleet of one KubervisorService, at one instant.

use std::collections::BTreeSet;
use std::sync::Arc;

use kubervisor_core::fleet::{Fleet, Member, Neighbour};

use super::cache::Cache;
use super::disruptions;
use super::index::{Governor, Namespace, Pod, Service, State};
use super::keyhole::Keyhole;
use super::labels::LabelSet;
use super::marked::{Marked, marked};
use super::within::{Within, traffic_of};
use crate::api::{TrafficLabel, key};

/// What one KubervisorService sees.
#[derive(Debug)]
pub struct View {
    /// How its Service stands.
    pub service: ServiceView,
    /// Its pods; empty without a usable Service.
    pub fleet: Fleet,
    /// Another KubervisorService that governs some of the same pods: the oldest.
    pub conflict: Option<Arc<str>>,
    /// Members that an older KubervisorService reaches too, by uid: their returns are its.
    pub elders: BTreeSet<Arc<str>>,
    /// Members whose label is missing, or has a value that is none of ours.
    pub unlabelled: usize,
    /// Why each cut member is out, in words, by pod name.
    pub why: Vec<(Arc<str>, Box<str>)>,
    /// Members that carry our mark.
    pub marked: Vec<Marked>,
    /// What the Service selects, traffic key aside.
    pub selector: Vec<(String, String)>,
    /// The Service, where there is one.
    pub keyhole: Option<Keyhole>,
}

impl View {
    fn without_pods(service: ServiceView, keyhole: Option<Keyhole>) -> Self {
        Self {
            service,
            keyhole,
            fleet: Fleet::default(),
            conflict: None,
            elders: BTreeSet::new(),
            unlabelled: 0,
            why: vec![],
            marked: vec![],
            selector: vec![],
        }
    }
}

/// A Service, as far as it can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceView {
    /// There is none of that name.
    Missing,
    /// It selects no pods of this cluster.
    External,
    /// It has no selector, or nothing is left of it without the traffic key: it would govern the whole namespace.
    NoSelector,
    /// Its traffic key has another value than `yes`.
    OddKey,
    /// It selects pods. `activated`: its selector holds the traffic key.
    Usable {
        /// Cuts have an effect.
        activated: bool,
    },
}

impl ServiceView {
    /// Why it cannot be used, and what to do.
    #[must_use]
    pub fn fault(self) -> Option<&'static str> {
        match self {
            Self::Missing => Some("the Service does not exist: create it, or correct spec.service"),
            Self::External => {
                Some("the Service is of type ExternalName and has no pods: name one with a selector")
            }
            Self::NoSelector => Some(
                "the Service's selector is empty, traffic key aside: it would govern every pod of the namespace",
            ),
            Self::OddKey => Some(
                "the Service's selector holds kubervisor/traffic with another value than \"yes\": correct it",
            ),
            Self::Usable { .. } => None,
        }
    }

    fn of(service: Option<&Service>) -> Self {
        match service {
            None => Self::Missing,
            Some(s) if s.external => Self::External,
            Some(s) if s.selector.is_empty() => Self::NoSelector,
            Some(s) if s.key.as_deref().is_some_and(|k| k != key::YES) => Self::OddKey,
            Some(s) => Self::Usable { activated: s.key.is_some() },
        }
    }
}

impl Cache {
    /// What the KubervisorService `uid` sees now; `None` where it is not governed here.
    #[must_use]
    pub fn view(&self, namespace: &str, uid: &str) -> Option<View> {
        let state = self.lock();
        let (name, ns) = state.namespaces.get_key_value(namespace)?;
        let governor = ns.governors.get(uid)?;
        let service = ns.services.get(&governor.service);
        let seen = ServiceView::of(service);
        let keyhole = service.map(|service| service.keyhole(name, &governor.service));
        let Some(service) = service.filter(|_| seen.fault().is_none()) else {
            return Some(View::without_pods(seen, keyhole));
        };
        let fleet = fleet(&state, ns, namespace, &governor.service, service);
        let unread = |pod: &Pod| matches!(pod.traffic, TrafficLabel::Absent | TrafficLabel::Odd);
        let unlabelled = ns.matching(&service.selector).filter(|(_, pod)| unread(pod)).count();
        let why = |(name, pod): (&Arc<str>, &Pod)| {
            pod.marks.as_ref()?.why.clone().map(|why| (Arc::clone(name), why))
        };
        let why = ns.matching(&service.selector).filter_map(why).collect();
        let held = ns.matching(&service.selector).filter(|(name, _)| ns.marked.contains(*name));
        let marked = held.map(|(pod, marks)| marked(&state, name, ns, pod, marks)).collect();
        let conflict = conflict(ns, uid, governor, service);
        let elders = if conflict.is_some() { elders(ns, uid, governor, service) } else { BTreeSet::new() };
        let selector = service.selector.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Some(View { service: seen, fleet, conflict, elders, unlabelled, why, marked, selector, keyhole })
    }
}

/// What is behind one Service, with our writes laid over.
pub(super) fn fleet(state: &State, ns: &Namespace, namespace: &str, name: &str, service: &Service) -> Fleet {
    let members = members(state, ns, service);
    let within = Within::new(ns, service, &members);
    let disruptions = disruptions::over(state, &within);
    let neighbours = neighbours(state, &within, name);
    Fleet { namespace: Arc::from(namespace), local: service.local, disruptions, neighbours, members }
}

/// Sorted by name.
fn members(state: &State, ns: &Namespace, service: &Service) -> Vec<Member> {
    let pods = ns.matching(&service.selector);
    let mut members: Vec<_> = pods.map(|(name, pod)| member(state, service, name, pod)).collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    members
}

fn member(state: &State, service: &Service, name: &Arc<str>, pod: &Pod) -> Member {
    Member {
        name: Arc::clone(name),
        uid: Arc::clone(&pod.uid),
        resource_version: pod.version,
        ready: pod.ready,
        terminating: pod.terminating,
        reached: service.key.as_deref().is_none_or(|k| pod.traffic.value() == Some(k)),
        traffic: traffic_of(pod),
        strikes: pod.marks.as_ref().map(|m| m.strikes.clone()).unwrap_or_default(),
        ready_since: pod.ready_since,
        workload: pod.workload,
        node: pod.node.clone(),
        zone: label(&pod.labels, key::ZONE),
        revision: key::REVISIONS.iter().find_map(|key| label(&pod.labels, key)),
        restored_at: pod.marks.as_ref().and_then(|m| m.restored_at),
        wish: pod.wish.wish(),
        in_flight: state.assumed.of(&pod.uid).map(|write| write.step),
    }
}

/// Other Services behind the same gate: those that send traffic to `yes`.
fn neighbours(state: &State, within: &Within<'_>, own: &str) -> Vec<Neighbour> {
    let gated = |(name, s): &(&Arc<str>, &Service)| &***name != own && s.key.as_deref() == Some(key::YES);
    let of = |(name, service): (&Arc<str>, &Service)| {
        let members = within.positions(|labels| service.reaches(labels), |_| true);
        let serves = |(name, pod): &(&Arc<str>, &Pod)| member(state, service, name, pod).serving();
        (!members.is_empty()).then(|| Neighbour {
            service: Arc::clone(name),
            serving: u32::try_from(within.ns.matching(&service.selector).filter(serves).count())
                .unwrap_or(u32::MAX),
            members,
        })
    };
    within.ns.services.iter().filter(gated).filter_map(of).collect()
}

fn label(labels: &LabelSet, key: &str) -> Option<Arc<str>> {
    labels.binary_search_by(|(have, _)| (**have).cmp(key)).ok().map(|at| Arc::clone(&labels[at].1))
}

/// The oldest other governor that reaches one of these pods.
fn conflict(ns: &Namespace, uid: &str, own: &Governor, service: &Service) -> Option<Arc<str>> {
    let others = ns.governors.iter().filter(|(other, _)| &***other != uid);
    let meets = |(_, other): &(&Arc<str>, &Governor)| {
        other.service == own.service
            || ns.services.get(&other.service).is_some_and(|theirs| {
                ns.matching(&service.selector).any(|(_, pod)| theirs.reaches(&pod.labels))
            })
    };
    let (_, other) = others.filter(meets).min_by_key(|(uid, g)| (g.created, Arc::clone(uid)))?;
    Some(Arc::clone(&other.name))
}

/// Pod by pod: two resources may meet in some of their pods only, and the others have nobody else who returns them.
fn elders(ns: &Namespace, uid: &str, own: &Governor, service: &Service) -> BTreeSet<Arc<str>> {
    let older = |(other, g): (&Arc<str>, &Governor)| (g.created, &**other) < (own.created, uid);
    let yields = |pod: &Pod| ns.governing(&pod.labels).any(older);
    let pods = ns.matching(&service.selector).map(|(_, pod)| pod).filter(|pod| yields(pod));
    pods.map(|pod| Arc::clone(&pod.uid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{floor_of, governor, orchard, pause, pod, service};
    use crate::cluster::watch::Sink;
    use kubervisor_core::fleet::Wish;
    use serde_json::{Value, json};

    #[test]
    fn a_service_without_the_key_reaches_every_ready_pod_whatever_its_label() {
        let cache = orchard(2);
        cache.pods(None).apply(pod("pear-0", 8, "no"));
        assert_eq!(cache.view("orchard", "k1").unwrap().fleet.count(Member::serving), 1);
        cache.services(None).apply(service("pears", &json!({"app": "pear"})));
        let view = cache.view("orchard", "k1").unwrap();
        assert_eq!(view.service, ServiceView::Usable { activated: false });
        assert_eq!(view.fleet.count(Member::serving), 2);
    }

    #[test]
    fn a_selector_that_is_only_the_key_governs_nothing() {
        let cache = orchard(2);
        cache.services(None).apply(service("pears", &json!({"kubervisor/traffic": "yes"})));
        let view = cache.view("orchard", "k1").unwrap();
        assert_eq!(view.service, ServiceView::NoSelector);
        assert!(view.fleet.members.is_empty());
    }

    #[test]
    fn of_two_governors_of_one_pod_the_younger_yields() {
        let cache = orchard(2);
        cache.services(None).apply(service("all", &json!({"app": "pear"})));
        cache.govern("orchard", "k2", governor("later", "all", 6));
        let seen = |uid| cache.view("orchard", uid).unwrap();
        assert_eq!((seen("k1").conflict.as_deref(), seen("k1").elders.len()), (Some("later"), 0));
        assert_eq!((seen("k2").conflict.as_deref(), seen("k2").elders.len()), (Some("pick"), 2));
    }

    #[test]
    fn every_pod_of_a_chain_of_conflicts_has_exactly_one_who_returns_it() {
        let cache = orchard(0);
        for (name, labels) in [("a", ["x", ""]), ("b", ["x", "y"]), ("c", ["", "y"]), ("d", ["", "z"])] {
            let mut born = pod(name, 7, "no");
            born.metadata.labels.remove("app");
            let named = labels.iter().filter(|label| !label.is_empty());
            born.metadata.labels.extend(named.map(|label| ((*label).to_owned(), "1".to_owned())));
            cache.pods(None).apply(born);
        }
        for (at, label) in [(5, "x"), (6, "y"), (7, "z")] {
            cache.services(None).apply(service(label, &json!({label: "1", "kubervisor/traffic": "yes"})));
            cache.govern("orchard", label, governor(label, label, at));
        }
        let returned = |uid| {
            let view = cache.view("orchard", uid).unwrap();
            let own = view.fleet.members.iter().filter(|m| !view.elders.contains(&m.uid));
            own.map(|m| m.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!([returned("x"), returned("y"), returned("z")], [vec!["a", "b"], vec!["c"], vec!["d"]]);
    }

    #[test]
    fn same_named_resources_in_two_namespaces_do_not_meet() {
        let cache = orchard(2);
        let mut elsewhere = pod("pear-0", 7, "yes");
        elsewhere.metadata.namespace = "meadow".into();
        cache.pods(None).apply(elsewhere);
        assert_eq!(cache.view("orchard", "k1").unwrap().fleet.members.len(), 2);
        assert!(cache.view("meadow", "k1").is_none());
    }

    #[test]
    fn a_label_taken_away_by_hand_is_a_cut_by_hand() {
        let cache = orchard(1);
        let mut bare = pod("pear-0", 8, "yes");
        bare.metadata.labels.remove("kubervisor/traffic");
        cache.pods(None).apply(bare);
        assert_eq!(
            cache.view("orchard", "k1").unwrap().fleet.members[0].traffic,
            kubervisor_core::traffic::Traffic::CutByHand
        );
        assert!(cache.take_unlabelled(9, |_| true).is_empty());
    }

    /// The only member of an orchard whose pod has these parts on top of its usual ones.
    fn member_with(metadata: &Value, rest: &Value) -> Member {
        let mut raw = json!({
            "metadata": {"name": "pear-0", "namespace": "orchard", "uid": "u", "resourceVersion": "8",
                "creationTimestamp": "2026-03-01T08:00:00Z", "labels": {"app": "pear"}},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-03-01T08:00:30Z"},
            ]},
        });
        merge(&mut raw["metadata"], metadata);
        merge(&mut raw, rest);
        let cache = orchard(0);
        cache.pods(None).apply(serde_json::from_value(raw).unwrap());
        cache.view("orchard", "k1").unwrap().fleet.members.remove(0)
    }

    fn merge(into: &mut Value, more: &Value) {
        match (into, more) {
            (Value::Object(into), Value::Object(more)) => {
                more.iter().for_each(|(k, v)| merge(into.entry(k.clone()).or_insert(Value::Null), v));
            }
            (into, more) => *into = more.clone(),
        }
    }

    fn ready_since(status: &Value) -> String {
        member_with(&json!({}), &json!({"status": status})).ready_since.to_string()
    }

    fn running(since: &str) -> Value {
        json!({"state": {"running": {"startedAt": since}}})
    }

    #[test]
    fn a_member_knows_its_node_zone_and_revision() {
        let labels =
            json!({"labels": {"topology.kubernetes.io/zone": "east-3", "pod-template-hash": "7d9f"}});
        let member = member_with(&labels, &json!({"spec": {"nodeName": "tree-4"}}));
        let known = [member.node, member.zone, member.revision].map(|text| text.unwrap().to_string());
        assert_eq!(known, ["tree-4", "east-3", "7d9f"]);
        let of_a_set = member_with(&json!({"labels": {"controller-revision-hash": "press-6c"}}), &json!({}));
        assert_eq!(of_a_set.revision.as_deref(), Some("press-6c"));
        assert_eq!((of_a_set.node, of_a_set.zone), (None, None));
    }

    #[test]
    fn a_restarted_container_makes_the_pod_new_and_one_that_is_older_does_not() {
        let restarted =
            json!({"containerStatuses": [running("2026-03-01T08:00:10Z"), running("2026-03-01T09:00:00Z")]});
        assert_eq!(ready_since(&restarted), "2026-03-01T09:00:00Z");
        let sidecar = json!({"initContainerStatuses": [running("2026-03-01T09:30:00Z")]});
        assert_eq!(ready_since(&sidecar), "2026-03-01T09:30:00Z");
        let usual =
            json!({"containerStatuses": [running("2026-03-01T08:00:10Z"), {"state": {"waiting": {}}}]});
        assert_eq!(ready_since(&usual), "2026-03-01T08:00:30Z");
    }

    #[test]
    fn a_member_that_is_not_ready_counts_from_its_birth_and_a_time_that_cannot_be_read_is_too_young() {
        let unready = json!({"conditions": [{"type": "Ready", "status": "False",
            "lastTransitionTime": "2026-03-01T10:00:00Z"}]});
        assert_eq!(ready_since(&unready), "2026-03-01T08:00:00Z");
        let garbage = json!({"containerStatuses": [running("a while ago")]});
        assert_eq!(ready_since(&garbage), jiff::Timestamp::MAX.to_string());
    }

    #[test]
    fn a_persons_word_about_a_pod_is_read_and_another_word_is_none() {
        let wish = |word: &str| {
            member_with(&json!({"annotations": {"kubervisor.k8s.io/override": word}}), &json!({})).wish
        };
        assert_eq!(wish("Serve"), Some(Wish::Serve));
        assert_eq!(wish("serve, please"), None);
    }

    #[test]
    fn a_service_whose_traffic_stays_on_a_node_is_local_either_way() {
        for policy in ["internalTrafficPolicy", "externalTrafficPolicy"] {
            let cache = orchard(1);
            assert!(!cache.view("orchard", "k1").unwrap().fleet.local);
            let spec = json!({"selector": {"app": "pear"}, policy: "Local"});
            let meta = json!({"name": "pears", "namespace": "orchard", "resourceVersion": "2"});
            cache
                .services(None)
                .apply(serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap());
            assert!(cache.view("orchard", "k1").unwrap().fleet.local, "{policy}");
        }
    }

    #[test]
    fn other_services_behind_the_gate_are_neighbours_and_those_beside_it_are_not() {
        let cache = orchard(3);
        let mut ripe = pod("pear-1", 8, "yes");
        ripe.metadata.labels.insert("ripe".into(), "true".into());
        cache.pods(None).apply(ripe.clone());
        for (name, label) in [("plum-0", "yes"), ("plum-1", "no")] {
            let mut plum = pod(name, 8, label);
            plum.metadata.labels = [("app", "plum"), ("ripe", "true"), ("kubervisor/traffic", label)]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
            cache.pods(None).apply(plum);
        }
        let gated = json!({"ripe": "true", "kubervisor/traffic": "yes"});
        cache.services(None).apply(service("jam", &gated));
        cache.services(None).apply(service("all", &json!({"app": "pear"})));
        cache.services(None).apply(service("dark", &json!({"app": "pear", "kubervisor/traffic": "no"})));
        cache.services(None).apply(service("nuts", &json!({"app": "nut", "kubervisor/traffic": "yes"})));
        let neighbours = || cache.view("orchard", "k1").unwrap().fleet.neighbours;
        assert_eq!(neighbours(), [Neighbour { service: "jam".into(), serving: 2, members: vec![1] }]);
        cache.begin("orchard", "k1", &pause("pear-1", 8), &floor_of!(1)).unwrap();
        assert_eq!(neighbours()[0].serving, 1, "a cut in flight counts");
    }
}
