//! Everything that reads what others wrote, as functions of bytes. What must never happen is an assertion in each.
//!
//! `make fuzz` looks for inputs that break one. Seeds, and every input that ever broke one, are in `fuzz/corpus`, and a
//! test here replays them. Not part of a build for use.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a fault that is found is a panic")]

use std::time::Duration;

use jiff::Timestamp;
use kubervisor_core::Now;
use kubervisor_core::fleet::{Fleet, Member, Workload};
use kubervisor_core::memory::Memory;
use kubervisor_core::plan::{Plan, What};
use kubervisor_core::policy::{Confirm, ServicePolicy};
use kubervisor_core::sample::{Reading, Samples};
use kubervisor_core::tick::{Answer, Input, tick};
use kubervisor_core::traffic::{Cut, Strikes, Traffic};
use kubervisor_core::verdict::SEVERITY_MAX;
use serde_json::{Value, json};

use crate::{api, cluster, sources};

pub type Target = fn(&[u8]);

pub const TARGETS: [(&str, Target); 9] = [
    ("prometheus_answer", sources::fuzzing::prometheus_answer),
    ("pod_list", sources::fuzzing::pod_list),
    ("promql", sources::fuzzing::promql),
    ("address", sources::fuzzing::address),
    ("marks", api::fuzzing::marks),
    ("duration", api::fuzzing::duration),
    ("spec", api::fuzzing::spec),
    ("cluster_objects", cluster::fuzzing::cluster_objects),
    ("lease", cluster::fuzzing::lease),
];

/// Runs one; for the programs in `fuzz/fuzz_targets`.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    target(input);
}

/// A custom service names the bad pods.
pub(crate) fn naming() -> ServicePolicy {
    policy(&json!([{"name": "named", "customService": "named.test/bad"}]))
}

/// A rule of every kind that measures.
pub(crate) fn measuring() -> ServicePolicy {
    let prometheus = |mut rule: Value| {
        (rule["promQL"], rule["prometheusService"]) = (json!("pears"), json!("prom.test"));
        rule
    };
    policy(&json!([
        {"name": "codes", "discreteValueOutOfList": prometheus(json!({"key": "code", "goodValues": ["200"]}))},
        {"name": "price", "continuousValueDeviation": prometheus(json!({}))},
        {"name": "lag", "fleetOutlier":
            prometheus(json!({"minDelta": 0.1, "activityPromQL": "plums", "minActivity": 2}))},
        {"name": "bound", "valueOutOfRange": prometheus(json!({"min": 1, "max": 300}))},
    ]))
}

/// No limit but the floor, and one verdict is enough.
fn policy(breakers: &Value) -> ServicePolicy {
    let limits = json!({"maxCutRatio": 100, "maxCutsPerPeriod": "100%", "maxAnomalousRatio": 100, "minCoverageRatio": 0});
    let spec = json!({"service": "cart", "limits": limits, "breakers": breakers});
    let mut policy = api::parse(&spec, "shop", &api::Defaults::default()).unwrap().policy;
    policy.breakers.iter_mut().for_each(|breaker| breaker.confirm = Confirm::ONCE);
    policy
}

fn member(name: &str) -> Member {
    Member {
        name: name.into(),
        uid: format!("uid-of-{name}").into(),
        resource_version: 7,
        ready: true,
        terminating: false,
        reached: true,
        traffic: Traffic::Open,
        strikes: Strikes::default(),
        ready_since: Timestamp::UNIX_EPOCH,
        workload: Workload::Replaced,
        node: None,
        zone: None,
        revision: None,
        restored_at: None,
        wish: None,
        in_flight: None,
    }
}

/// Four pods of the namespace `shop`.
pub(crate) fn fleet() -> Fleet {
    let members = ["cart-0", "cart-1", "cart-2", "cart-3"].map(member).into();
    Fleet { namespace: "shop".into(), members, ..Fleet::default() }
}

/// Decides on these samples four times, 20 s apart, and carries the plans out. Every plan keeps its post-conditions:
/// `tick` asserts them.
pub(crate) fn decide(mut fleet: Fleet, policy: &ServicePolicy, samples: &Samples) {
    let mut memory = Memory::default();
    let mut now =
        Now { wall: Timestamp::from_second(1_795_263_000).unwrap(), mono: Duration::from_secs(700) };
    for _ in 0..4 {
        let asked = now.mono;
        let answer = |name| Answer { breaker: name, asked, samples: Some(samples), activity: Some(samples) };
        let answers: Vec<_> = policy.breakers.iter().map(|breaker| answer(&*breaker.name)).collect();
        let input = Input { fleet: &fleet, answers: &answers, policy, gates: &[], kills: &[], now, seed: 17 };
        let plan = tick(&input, &mut memory);
        carry_out(&mut fleet, &plan, samples);
        now = now.after(Duration::from_secs(20));
    }
}

fn carry_out(fleet: &mut Fleet, plan: &Plan, samples: &Samples) {
    let namespace = fleet.namespace.clone();
    for action in &plan.actions {
        let member = fleet.members.iter_mut().find(|m| m.uid == action.uid).unwrap();
        match &action.what {
            What::Cut(order) => {
                assert!((1.0..=SEVERITY_MAX).contains(&order.severity), "{order:?}");
                let rows = samples.of(&namespace, &member.name);
                let known = rows.iter().any(|row| matches!(row.reading, Reading::Number(_)));
                assert!(known && !samples.partial, "cut on no evidence: {order:?}");
                let (at, restore_at) = (Some(order.at), Some(order.restore_at));
                let breaker = Some(order.breaker.clone());
                let cut = Cut { at, restore_at, breaker, severity: order.severity };
                (member.traffic, member.reached) = (Traffic::Cut(cut), false);
            }
            What::Restore { .. } => (member.traffic, member.reached) = (Traffic::Open, true),
            What::KeepOut | What::Forgive(_) | What::Pause { .. } | What::Evict { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn at(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
    }

    fn names(path: &str) -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        fs::read_dir(at(path)).unwrap().map(|entry| stem(entry.unwrap().path())).collect()
    }

    #[test]
    fn every_input_of_the_corpus_keeps_every_promise() {
        for (name, target) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(at(&format!("corpus/{name}"))).unwrap().collect();
            assert!(inputs.len() > 2, "{name} has {} inputs only", inputs.len());
            for input in inputs {
                let path = input.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let held = std::panic::catch_unwind(|| target(&bytes));
                assert!(held.is_ok(), "{} breaks {name}", path.display());
            }
        }
    }

    #[test]
    fn every_target_has_its_program_and_its_corpus_and_no_other_is_there() {
        let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("fuzz_targets"), targets);
        assert_eq!(names("corpus"), targets);
        let manifest = fs::read_to_string(at("Cargo.toml")).unwrap();
        let missing = targets.iter().filter(|name| !manifest.contains(&format!("name = \"{name}\"")));
        assert_eq!(missing.count(), 0, "fuzz/Cargo.toml lacks a program");
    }
}
