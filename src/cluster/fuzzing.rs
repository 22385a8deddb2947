//! What the API server tells of objects that others write: for `crate::fuzzing`.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kubervisor_core::fleet::Member;
use kubervisor_core::plan::{Action, What};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::cache::Cache;
use super::election::{Election, Next, Timing};
use super::lease::record;
use super::testing::{floor_of, orchard};
use super::watch::Sink;

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type", default)]
    word: &'a str,
    #[serde(default)]
    kind: &'a str,
}

fn feed<T: DeserializeOwned>(line: &[u8], word: &str, sink: &mut impl Sink<T>) {
    match (word, serde_json::from_slice::<T>(line)) {
        ("BEGIN", _) => sink.begin(),
        ("END", _) => sink.end(),
        ("DELETED", Ok(object)) => sink.delete(object),
        (_, Ok(object)) => sink.apply(object),
        (_, Err(_)) => sink.proved(Instant::now()),
    }
}

/// Lines of JSON, each an object with the kind and the type of its event beside its fields.
pub(crate) fn cluster_objects(text: &[u8]) {
    let cache = orchard(4);
    let (mut pods, mut services, mut budgets) = (cache.pods(None), cache.services(None), cache.budgets(None));
    for line in text.split(|byte| *byte == b'\n') {
        let Ok(Event { word, kind }) = serde_json::from_slice(line) else { continue };
        match kind {
            "Service" => feed(line, word, &mut services),
            "PodDisruptionBudget" => feed(line, word, &mut budgets),
            "Send" => send(&cache),
            _ => feed(line, word, &mut pods),
        }
        check(&cache);
    }
}

/// Keeps every member out that the floor of two can spare.
fn send(cache: &Arc<Cache>) {
    let Some(view) = cache.view("orchard", "k1") else { return };
    // An API server gives no uid twice.
    let uids: BTreeSet<_> = view.fleet.members.iter().map(|m| &m.uid).collect();
    if uids.len() < view.fleet.members.len() {
        return;
    }
    let serving = || cache.view("orchard", "k1").map_or(0, |view| view.fleet.count(Member::serving));
    for member in &view.fleet.members {
        let (before, serves) = (serving(), member.serving());
        let (pod, uid) = (Arc::clone(&member.name), Arc::clone(&member.uid));
        let action = Action { pod, uid, resource_version: member.resource_version, what: What::KeepOut };
        if cache.begin("orchard", "k1", &action, &floor_of!(2)).is_ok() {
            assert!(serving() >= 2, "{before} served, and it is sent all the same");
            assert!(!serves || serving() == before - 1, "a write that is sent is counted");
        }
    }
}

fn check(cache: &Cache) {
    let Some(view) = cache.view("orchard", "k1") else { return };
    let members = &view.fleet.members;
    assert!(members.is_sorted_by(|a, b| a.name < b.name), "sorted, and each once");
    let places = |positions: &[u32]| positions.iter().all(|at| (*at as usize) < members.len());
    assert!(view.fleet.disruptions.iter().all(|budget| places(&budget.members)));
    assert!(view.fleet.neighbours.iter().all(|other| places(&other.members)));
    assert!(view.marked.iter().all(|pod| &*pod.namespace == "orchard"));
    let _ = (
        cache.marked(),
        cache.take_unlabelled(9, |_| true),
        cache.members(),
        cache.gated(),
        cache.ownerless(),
    );
}

/// Lines of JSON, each the Lease as it stands 7 s later.
pub(crate) fn lease(text: &[u8]) {
    let timing = Timing { duration: Duration::from_secs(15) };
    let mut election = Election::new("plum".into(), timing, false);
    let mut now = Duration::from_secs(700);
    let mut sign = (None, now);
    for line in text.split(|byte| *byte == b'\n') {
        let found = serde_json::from_slice::<Lease>(line).ok().map(record);
        let others = found.as_ref().filter(|found| !found.holder.is_empty() && found.holder != "plum");
        // Its version and notes are no sign of life.
        let shown = others.map(|o| (o.holder.clone(), o.epoch, o.renewed.clone()));
        if shown.is_some() && shown != sign.0 {
            sign = (shown, now);
        }
        if let Next::Write(order) = election.looked(found.as_ref(), now) {
            assert!(i32::try_from(order.epoch).is_ok(), "no Lease can hold epoch {}", order.epoch);
            let late = others.is_none() || order.cuts_from >= sign.1 + timing.duration;
            assert!(late, "a write of the former holder may still land");
            election.accepted(&order);
        }
        now += Duration::from_secs(7);
    }
}
