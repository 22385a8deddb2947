//! A fleet, policies and some ticks on whatever samples a target made of its input.
#![allow(clippy::unwrap_used, reason = "a fault that is found is a panic")]

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

use crate::api;

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
