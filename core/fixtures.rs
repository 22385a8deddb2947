//! Builders for tests: short names, values unlike any default.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::Now;
use crate::detector::{Detector, Deviation};
use crate::fleet::{Fleet, Member, Workload};
use crate::policy::{
    ActivatorPolicy, BreakerPolicy, CutsPerPeriod, FloorPolicy, Limits, Mode, ServicePolicy,
};
use crate::sample::{Reading, Row, Samples};
use crate::traffic::{Cut, Strikes, Traffic};

/// Second 0 of the tests, as wall time.
const START: i64 = 1_700_000_000;

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

pub(crate) fn now(second: i64) -> Now {
    Now { wall: at(second), mono: Duration::from_secs(u64::try_from(second).unwrap()) }
}

pub(crate) fn open(name: &str) -> Member {
    Member {
        name: name.into(),
        uid: format!("uid-of-{name}").into(),
        resource_version: 41,
        ready: true,
        terminating: false,
        reached: true,
        traffic: Traffic::Open,
        strikes: Strikes::default(),
        ready_since: at(-3_600),
        workload: Workload::Replaced,
        in_flight: None,
    }
}

/// A member cut by `breaker` for the `strikes`-th time at second `since`, due at second `due`.
pub(crate) fn cut_by(name: &str, breaker: &str, strikes: u32, since: i64, due: i64) -> (Member, Cut) {
    let cut = Cut { at: Some(at(since)), restore_at: Some(at(due)), breaker: Some(breaker.into()) };
    let member = Member {
        reached: false,
        traffic: Traffic::Cut(cut.clone()),
        strikes: Strikes([(Arc::from(breaker), strikes)].into()),
        ..open(name)
    };
    (member, cut)
}

pub(crate) fn fleet_of(members: Vec<Member>) -> Fleet {
    Fleet { namespace: "orchard".into(), members }
}

pub(crate) fn fleet_of_open(size: usize) -> Fleet {
    fleet_of((0..size).map(|i| open(&format!("pod-{i:02}"))).collect())
}

pub(crate) fn custom() -> Detector {
    Detector::Custom
}

pub(crate) fn deviation(max_percent: f64) -> Detector {
    Detector::Deviation(Deviation { max_percent })
}

pub(crate) fn breaker(name: &str, detector: Detector) -> BreakerPolicy {
    BreakerPolicy {
        name: name.into(),
        evaluation_period: Duration::from_secs(2),
        scrape_interval: Duration::ZERO,
        range: Duration::from_secs(7),
        floor: FloorPolicy::default(),
        detector,
        activator: ActivatorPolicy::default(),
    }
}

/// Active, with limits so wide that only the floor is left.
pub(crate) fn policy_of(breakers: Vec<BreakerPolicy>) -> ServicePolicy {
    ServicePolicy {
        mode: Mode::Active,
        limits: Limits { max_cut_percent: 100, cuts_per_period: CutsPerPeriod::Count(1_000) },
        breakers,
        default_activator: ActivatorPolicy::default(),
    }
}

/// What a custom service answers when it names these pods.
pub(crate) fn naming<'a>(pods: impl IntoIterator<Item = &'a str>) -> Samples {
    let row = |pod: &str| Row { namespace: None, pod: pod.into(), key: None, reading: Reading::Number(1.0) };
    Samples::new(pods.into_iter().map(row).collect(), false)
}
