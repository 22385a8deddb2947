//! Storms: nothing is cut in one, and none is told of where there is none.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::super::ask::Ask;
use super::super::object::{Kind, Object};
use super::super::rules::{Breaker, Rule, Rules};
use super::super::seen::View;
use super::super::sim::Sim;
use super::super::source::{Said, Told};
use super::GRACE;
use super::acts::{beyond, near_median, serving_names, softened};
use super::floor::members;

impl Sim {
    /// Nothing is cut while most are bad by the last two answers of the same breaker.
    pub(super) fn no_storm(
        &self,
        who: usize,
        view: &View,
        resource: &Object,
        rules: &Rules,
        breaker: &Breaker,
    ) -> Result<(), (&'static str, String)> {
        let Some(service) = view.services.get(&(resource.name.0.clone(), rules.service.clone())) else {
            return Ok(());
        };
        let names = serving_names(view, service);
        let told = self.judge.told.get(&(who, breaker.key.clone())).into_iter().flatten();
        let share = |t: &Told| {
            let rows = t.rows.as_ref().filter(|_| !t.partial)?;
            let known: Vec<_> =
                names.iter().filter_map(|n| rows.get(*n)).filter(|s| **s != Said::Odd).collect();
            let near = |name: &str| match breaker.rule {
                Rule::Deviation(max) => near_median(t, name, max, &names),
                Rule::Share(_) | Rule::Named => false,
            };
            let bad =
                names.iter().filter(|n| rows.get(**n).is_some_and(|s| beyond(&breaker.rule, *s)) && !near(n));
            let bad = bad.count();
            Some((bad, if breaker.rule == Rule::Named { names.len() } else { known.len() }))
        };
        let last: Vec<_> = told.rev().take(2).map(share).collect();
        let rough = |s: &Option<(usize, usize)>| {
            s.is_some_and(|(bad, of)| bad >= 3 && bad as u64 * 100 > of as u64 * (rules.storm + 20))
        };
        let storm = last.len() == 2 && last.iter().all(rough);
        if storm { Err(("storm", format!("bad of known: {last:?}"))) } else { Ok(()) }
    }

    /// A status that begins to tell of a storm: among all that has been found for as long as it may count, more than the
    /// limit may have been anomalous or cut, and somebody who was not cut.
    pub(super) fn check_weather(&mut self, who: usize, ask: &Ask) {
        let Some(stored) = self.store.get(Kind::Resources, &ask.full_name()).cloned() else { return };
        // While nothing is evaluated, as without its Service, a storm neither begins nor ends.
        let told = |type_: &str| condition(&ask.body, type_);
        let Some(held) = told("Held").filter(|_| told("Running").is_some_and(|c| c["status"] == "True"))
        else {
            return;
        };
        if !tells_of_storm(held) {
            self.judge.stormy.remove(&stored.uid);
            return;
        }
        // A process that starts goes on from what is stored, also where the word that it was over could not be written.
        let goes_on = condition(&stored.value, "Held").is_some_and(tells_of_storm);
        if !self.judge.stormy.insert(stored.uid.clone()) || goes_on {
            return;
        }
        let seen = &self.wires[who].seen;
        let Some(resource) = seen.now.resources.get(&ask.full_name()) else { return };
        let rules = seen.rules(&resource.uid, self.now(), GRACE);
        // What began before an edit is told of until it has been calm for long enough.
        let [rules] = rules.as_slice() else { return };
        let Some(service) = seen.now.services.get(&(resource.name.0.clone(), rules.service.clone())) else {
            return;
        };
        if rules.breakers.iter().all(|b| !b.enforced) {
            return;
        }
        let out = members(&seen.now, service).filter(|p| p.timed_cut() || seen.spending(&p.uid));
        let cut: BTreeSet<_> = out.map(|p| p.name.1.clone()).collect();
        let (mut ill, mut known) = (cut.clone(), cut.clone());
        for breaker in rules.breakers.iter().filter(|b| b.enforced) {
            let (found, seen) = self.lately(who, breaker);
            ill.extend(found);
            known.extend(seen);
        }
        // Whoever has gone is not counted among the rest.
        let serving: BTreeSet<_> = serving_names(&seen.now, service).into_iter().map(str::to_owned).collect();
        known.retain(|name| serving.contains(name) || cut.contains(name));
        let (bad, of) = (ill.len() as u64, known.union(&ill).count() as u64);
        let found = ill.difference(&cut).count();
        // Half of the limit: how many were too young or too idle to be known, nobody outside can tell.
        if found == 0 || bad < 2 || bad * 200 <= of * rules.storm {
            let text = format!(
                "[{who}] {}: {bad} of {of} at most, {} cut: {}",
                ask.path,
                cut.len(),
                held["message"]
            );
            self.violate("false storm", text);
        }
    }

    /// Pods that a breaker may still call anomalous, and those that each of its last answers knew.
    fn lately(&self, who: usize, breaker: &Breaker) -> (BTreeSet<String>, BTreeSet<String>) {
        let horizon = (breaker.period * 3).max(breaker.range * 2).max(Duration::from_secs(120)) + GRACE;
        let since = self.now().saturating_sub(horizon);
        let told = self.judge.told.get(&(who, breaker.key.clone())).into_iter().flatten();
        let rows = || told.clone().filter(|t| t.at >= since && !t.partial).filter_map(|t| t.rows.as_ref());
        let soft = softened(&breaker.rule);
        let ill = rows().flatten().filter(|(_, said)| beyond(&soft, **said));
        let names = |rows: &BTreeMap<String, Said>| -> BTreeSet<String> {
            rows.iter().filter(|(_, said)| **said != Said::Odd).map(|(pod, _)| pod.clone()).collect()
        };
        let always = rows().map(names).reduce(|all, some| &all & &some).unwrap_or_default();
        (ill.map(|(pod, _)| pod.clone()).collect(), always)
    }
}

fn condition<'a>(resource: &'a Value, type_: &str) -> Option<&'a Value> {
    resource["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == type_)
}

/// As the first gate, or behind others.
fn tells_of_storm(held: &Value) -> bool {
    held["reason"] == "Storm"
        || held["message"].as_str().is_some_and(|text| text.contains("% of the pods were anomalous"))
}
