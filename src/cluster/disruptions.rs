//! PodDisruptionBudgets: how far they are known, and what they have to spare.
//!
//! A pod that is cut stays Ready, so the budget's own controller still counts it. What it has to spare is therefore
//! counted here, over all pods that it covers. A namespace whose budgets may not be read is not one without budgets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::fleet::DisruptionBudget;
use tokio::time::Instant;

use super::budget::{Budget, SlimBudget};
use super::cache::Cache;
use super::index::{Namespace, State, entry};
use super::lists::{Feed, scope_of};
use super::watch::{Failure, Sink};
use super::within::{Within, is_ready_and_out};

/// What to do where they may not be read.
pub const FORBIDDEN: &str = "PodDisruptionBudgets may not be read: allow list and watch on poddisruptionbudgets (group \
     policy), or set limits.podDisruptionBudgets to KillsOnly";

/// Before the first list.
pub const NOT_YET: &str = "PodDisruptionBudgets have not been listed yet";

/// How far the budgets of a namespace are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Time since the server last answered for them.
    Since(Duration),
    /// Not listed yet.
    NotYet,
    /// The server does not allow it.
    Forbidden,
}

impl Cache {
    /// Where the watch of PodDisruptionBudgets of one namespace, or of all, delivers.
    #[must_use]
    pub fn budgets(self: &Arc<Self>, scope: Option<Arc<str>>) -> BudgetSink {
        BudgetSink { cache: Arc::clone(self), scope, list: 0, told: None }
    }

    /// How far the PodDisruptionBudgets of this namespace are known.
    #[must_use]
    pub fn budgets_known(&self, namespace: &str) -> Known {
        let state = self.lock();
        let Some(feed) = scope_of(&state.budgets, namespace) else { return Known::NotYet };
        match (feed.forbidden, feed.synced, feed.proved) {
            (true, _, _) => Known::Forbidden,
            (false, true, Some(at)) => Known::Since(at.elapsed()),
            (false, _, _) => Known::NotYet,
        }
    }
}

impl Cache {
    /// Time since the server last answered for them, of the watch that is the furthest behind; `None` where it never did.
    #[must_use]
    pub fn budgets_age(&self) -> Option<Duration> {
        let state = self.lock();
        state.budgets.values().filter_map(|feed| feed.proved).min().map(|at| at.elapsed())
    }
}

/// Budgets over these members, by name.
pub(super) fn over(state: &State, within: &Within<'_>) -> Vec<DisruptionBudget> {
    let of = |(name, budget): (&Arc<str>, &Budget)| {
        let Budget { selector, .. } = budget;
        let members =
            within.positions(|labels| selector.may_match(labels), |pod| selector.takes(|key| pod.mark(key)));
        let spare = || spare(state, within.ns, budget);
        (!members.is_empty()).then(|| DisruptionBudget { name: Arc::clone(name), spare: spare(), members })
    };
    within.ns.budgets.iter().filter_map(of).collect()
}

/// What is left of a budget once every Ready pod of it that is out counts as disrupted.
fn spare(state: &State, ns: &Namespace, budget: &Budget) -> i64 {
    let Some(room) = budget.room else { return 0 };
    let sets = ns.sets.iter().filter(|(labels, _)| budget.selector.may_match(labels));
    let pods = sets.flat_map(|(_, names)| names).filter_map(|name| ns.pods.get(name));
    let disrupted =
        pods.filter(|pod| budget.selector.takes(|key| pod.mark(key)) && is_ready_and_out(state, pod));
    room.saturating_sub(i64::try_from(disrupted.count()).unwrap_or(i64::MAX))
}

/// See [`Cache::budgets`].
#[derive(Debug)]
pub struct BudgetSink {
    cache: Arc<Cache>,
    scope: Option<Arc<str>>,
    /// Lists that have begun; objects remember the last one that had them.
    list: u32,
    /// Code of the last failure that was told: a missing right is news once.
    told: Option<u16>,
}

impl BudgetSink {
    fn feed<'a>(&self, state: &'a mut State) -> &'a mut Feed {
        state.budgets.entry(self.scope.clone()).or_default()
    }
}

impl Sink<SlimBudget> for BudgetSink {
    fn begin(&mut self) {
        self.list += 1;
    }

    fn apply(&mut self, object: SlimBudget) {
        let mut state = self.cache.lock();
        let (_, ns) = entry(&mut state.namespaces, &object.metadata.namespace);
        let name: Arc<str> = Arc::from(object.metadata.name.as_str());
        match Budget::read(object, self.list) {
            Some(budget) => ns.budgets.insert(name, budget),
            None => ns.budgets.remove(&name),
        };
    }

    fn delete(&mut self, object: SlimBudget) {
        let mut state = self.cache.lock();
        if let Some(ns) = state.namespaces.get_mut(object.metadata.namespace.as_str()) {
            ns.budgets.remove(object.metadata.name.as_str());
        }
    }

    fn end(&mut self) {
        let mut state = self.cache.lock();
        let within = |name: &Arc<str>| self.scope.as_ref().is_none_or(|scope| scope == name);
        let namespaces: &mut BTreeMap<Arc<str>, Namespace> = &mut state.namespaces;
        for (_, ns) in namespaces.iter_mut().filter(|(name, _)| within(name)) {
            ns.budgets.retain(|_, budget| budget.list == self.list);
        }
        self.feed(&mut state).synced = true;
    }

    fn proved(&mut self, at: Instant) {
        self.feed(&mut self.cache.lock()).prove(at);
        self.told = None;
    }

    fn failed(&mut self, failure: &Failure) {
        self.feed(&mut self.cache.lock()).fail(failure);
        if failure.code != Some(403) {
            tracing::warn!(resource = "poddisruptionbudgets", error = %failure, "the watch failed and is tried again");
        } else if self.told != failure.code {
            tracing::warn!(error = %failure, "{FORBIDDEN}");
        }
        self.told = failure.code;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{floor_of, governor, orchard, pod, service};
    use crate::cluster::writes::{Demands, NotSent};
    use kubervisor_core::plan::{Action, What, Why};
    use kubervisor_core::policy::{Disruption, Limits};
    use serde_json::{Value, json};

    fn budget(selector: &Value, status: &Value) -> SlimBudget {
        let meta = json!({"name": "press", "namespace": "orchard", "resourceVersion": "1", "generation": 2});
        serde_json::from_value(json!({"metadata": meta, "spec": {"selector": selector}, "status": status}))
            .unwrap()
    }

    fn counted(healthy: i64, desired: i64) -> Value {
        json!({"currentHealthy": healthy, "desiredHealthy": desired, "observedGeneration": 2})
    }

    fn pears() -> Value {
        json!({"matchLabels": {"app": "pear"}})
    }

    fn seen(cache: &Cache) -> Vec<DisruptionBudget> {
        cache.view("orchard", "k1").unwrap().fleet.disruptions
    }

    #[test]
    fn ready_pods_that_are_out_are_taken_from_what_a_budget_has_to_spare() {
        let cache = orchard(4);
        cache.budgets(None).apply(budget(&pears(), &counted(4, 1)));
        assert_eq!(
            seen(&cache),
            [DisruptionBudget { name: "press".into(), spare: 3, members: vec![0, 1, 2, 3] }]
        );
        cache.pods(None).apply(pod("pear-0", 8, "no"));
        cache.pods(None).apply(pod("pear-1", 8, "pause"));
        assert_eq!(seen(&cache)[0].spare, 1);
        let cut = Action {
            pod: "pear-2".into(),
            uid: "uid-of-pear-2".into(),
            resource_version: 7,
            what: What::Pause { breaker: None, strikes: 1 },
        };
        cache.begin("orchard", "k1", &cut, &floor_of!(1)).unwrap();
        assert_eq!(seen(&cache)[0].spare, 0, "a write in flight counts too");
    }

    #[test]
    fn pods_of_other_services_are_counted_in_a_budget_over_both() {
        let cache = orchard(2);
        let mut plum = pod("plum-0", 7, "no");
        plum.metadata.labels.insert("app".into(), "plum".into());
        cache.pods(None).apply(plum);
        let both =
            json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["pear", "plum"]}]});
        cache.budgets(None).apply(budget(&both, &counted(3, 1)));
        assert_eq!((seen(&cache)[0].spare, seen(&cache)[0].members.as_slice()), (1, &[0, 1][..]));
    }

    #[test]
    fn a_budget_that_its_controller_has_not_counted_has_nothing_to_spare() {
        let cache = orchard(2);
        let older = json!({"currentHealthy": 9, "desiredHealthy": 1, "observedGeneration": 1});
        let failed = json!({"currentHealthy": 9, "desiredHealthy": 1, "observedGeneration": 2,
            "conditions": [{"type": "DisruptionAllowed", "reason": "SyncFailed"}]});
        for status in [older, failed, json!({})] {
            cache.budgets(None).apply(budget(&pears(), &status));
            assert_eq!(seen(&cache)[0].spare, 0, "{status}");
        }
        cache.budgets(None).apply(budget(&pears(), &counted(1, 2)));
        assert_eq!(seen(&cache)[0].spare, -1, "it is violated already");
    }

    #[test]
    fn a_budget_over_the_traffic_label_covers_only_pods_that_have_it() {
        let cache = orchard(3);
        cache.pods(None).apply(pod("pear-1", 8, "no"));
        let in_traffic = json!({"matchLabels": {"kubervisor/traffic": "yes"}});
        cache.budgets(None).apply(budget(&in_traffic, &counted(2, 1)));
        assert_eq!((seen(&cache)[0].spare, seen(&cache)[0].members.as_slice()), (1, &[0, 2][..]));
    }

    #[test]
    fn a_budget_without_a_selector_or_over_others_is_none_of_ours_and_an_empty_one_covers_all() {
        let cache = orchard(2);
        let mut sink = cache.budgets(None);
        sink.apply(budget(&json!({"matchLabels": {"app": "plum"}}), &counted(1, 1)));
        assert_eq!(seen(&cache), []);
        sink.apply(budget(&json!({}), &counted(2, 1)));
        assert_eq!(seen(&cache).len(), 1);
        sink.apply(budget(&Value::Null, &counted(2, 1)));
        assert_eq!(seen(&cache), []);
    }

    #[test]
    fn a_relist_drops_budgets_that_vanished_meanwhile() {
        let cache = orchard(2);
        let mut sink = cache.budgets(None);
        sink.apply(budget(&pears(), &counted(2, 1)));
        sink.begin();
        sink.end();
        assert_eq!(seen(&cache), []);
    }

    #[tokio::test(start_paused = true)]
    async fn budgets_that_may_not_be_read_are_not_known_to_have_room() {
        let cache = orchard(2);
        cache.expect(&[None]);
        assert_eq!(cache.budgets_known("orchard"), Known::NotYet);
        let mut sink = cache.budgets(None);
        sink.proved(Instant::now());
        sink.end();
        assert_eq!(cache.budgets_known("orchard"), Known::Since(Duration::ZERO));
        sink.failed(&Failure::refused(403, "who are you"));
        assert_eq!(cache.budgets_known("orchard"), Known::Forbidden);
        sink.proved(Instant::now());
        assert_eq!(cache.budgets_known("orchard"), Known::Since(Duration::ZERO));
        sink.failed(&Failure::refused(500, "not now"));
        assert_eq!(cache.budgets_known("orchard"), Known::Since(Duration::ZERO), "it ages instead");
    }

    fn keep_out(name: &str) -> Action {
        let (pod, uid) = (name.into(), format!("uid-of-{name}").into());
        Action { pod, uid, resource_version: 7, what: What::KeepOut }
    }

    #[test]
    fn not_sent_for_elsewhere_of_two_cuts_decided_at_once_under_one_budget_by_two_owners() {
        let cache = orchard(3);
        for i in 0..3 {
            let mut plum = pod(&format!("plum-{i}"), 7, "yes");
            plum.metadata.labels.insert("app".into(), "plum".into());
            cache.pods(None).apply(plum);
        }
        cache.services(None).apply(service("plums", &json!({"app": "plum", "kubervisor/traffic": "yes"})));
        cache.govern("orchard", "k2", governor("stew", "plums", 6));
        cache.budgets(None).apply(budget(&json!({}), &counted(6, 5)));
        let cut = |governor, name| cache.begin("orchard", governor, &keep_out(name), &floor_of!(1));
        assert_eq!(cut("k1", "pear-0"), Ok(()));
        assert_eq!(cut("k2", "plum-0"), Err(NotSent::Elsewhere(Why::Disruption("press".into()))));
        let limits = Limits { disruption: Disruption::KillsOnly, ..Limits::default() };
        let demands = Demands { floor: &|_| 1, limits: &limits };
        assert_eq!(cache.begin("orchard", "k2", &keep_out("plum-0"), &demands), Ok(()));
    }
}
