//! What stands on pods and in a KubervisorService: for `crate::fuzzing`.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use kubervisor_core::sample::Samples;
use kubervisor_core::traffic::{Move, Traffic};
use kubervisor_core::verdict::SEVERITY_MAX;
use serde_json::{Value, json};

use super::{
    Cost, Defaults, Duration, KubervisorServiceSpec, Marks, Override, TrafficLabel, cut_patch,
    keep_out_patch, key, parse, pause_patch, priced, restore_patch, traffic,
};
use crate::fuzzing::trial::{decide, fleet, naming};
use crate::sources::Endpoint;

type Texts = BTreeMap<String, String>;

/// A pod's labels and annotations.
#[derive(Clone)]
struct Pod {
    labels: Texts,
    annotations: Texts,
}

impl Pod {
    fn traffic(&self) -> Traffic {
        let label = TrafficLabel::of(self.labels.get(key::TRAFFIC).map(String::as_str));
        traffic(label, Marks::read(&self.labels, &self.annotations).as_deref())
    }

    /// As the API server stores it.
    fn patched(&self, patch: Value, step: Move) -> Self {
        let patch = priced(patch, step, Cost::of(&self.annotations));
        let mut pod = self.clone();
        for (part, texts) in [("labels", &mut pod.labels), ("annotations", &mut pod.annotations)] {
            for (key, value) in patch["metadata"][part].as_object().into_iter().flatten() {
                match value {
                    Value::Null => drop(texts.remove(key)),
                    value => drop(texts.insert(key.clone(), value.as_str().unwrap().to_owned())),
                }
            }
        }
        pod
    }
}

/// Lines of `key=value`, each a label and an annotation.
pub(crate) fn marks(text: &[u8]) {
    let Ok(text) = str::from_utf8(text) else { return };
    let texts: Texts =
        text.lines().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
    let pod = Pod { labels: texts.clone(), annotations: texts };
    let _ = Override::of(pod.annotations.get(key::OVERRIDE).map(String::as_str)).wish();
    let read = Marks::read(&pod.labels, &pod.annotations).unwrap_or_default();
    assert!((0.0..=SEVERITY_MAX).contains(&read.severity) && read.strikes.0.len() <= 32);
    assert!(read.why.as_ref().is_none_or(|why| why.chars().count() <= 200));
    // Whatever stands there, each write of ours means afterwards what it is meant to.
    let restored = pod.patched(restore_patch(Timestamp::UNIX_EPOCH, None), Move::Restore);
    assert_eq!(restored.traffic(), Traffic::Open);
    assert_eq!(pod.patched(keep_out_patch("pick"), Move::Cut).traffic(), Traffic::KeptOut);
    assert_eq!(pod.patched(pause_patch(), Move::Pause).traffic(), Traffic::Paused);
    let mut member = fleet().members.remove(0);
    member.strikes = read.strikes.clone();
    member.traffic = pod.traffic();
    decide_with(&pod, member);
}

/// The pod among three good ones, named as bad: cut or restored, it ends where it should.
fn decide_with(pod: &Pod, member: kubervisor_core::fleet::Member) {
    use kubervisor_core::memory::Memory;
    use kubervisor_core::plan::What;
    use kubervisor_core::tick::{Answer, Input, tick};
    let mut fleet = fleet();
    fleet.members[0] = member;
    let policy = naming();
    let row = kubervisor_core::sample::Row {
        namespace: None,
        pod: fleet.members[0].name.clone(),
        key: None,
        reading: kubervisor_core::sample::Reading::Number(1.0),
    };
    let samples = Samples::new(vec![row], false);
    decide(fleet.clone(), &policy, &samples);
    let now = kubervisor_core::Now {
        wall: Timestamp::from_second(1_795_263_000).unwrap_or_default(),
        mono: std::time::Duration::from_secs(700),
    };
    let answers = [Answer { breaker: "named", asked: now.mono, samples: Some(&samples), activity: None }];
    let input =
        Input { fleet: &fleet, answers: &answers, policy: &policy, gates: &[], kills: &[], now, seed: 17 };
    for action in tick(&input, &mut Memory::default()).actions {
        if let What::Cut(order) = action.what {
            let Traffic::Cut(cut) = pod.patched(cut_patch("pick", &order), Move::Cut).traffic() else {
                panic!("a cut that reads back as something else")
            };
            assert_eq!((cut.at, cut.restore_at), (Some(order.at), Some(order.restore_at)));
        }
    }
}

/// JSON, or else a text.
pub(crate) fn duration(text: &[u8]) {
    let value = serde_json::from_slice(text).unwrap_or_else(|_| json!(String::from_utf8_lossy(text)));
    let Ok(duration) = serde_json::from_value::<Duration>(value.clone()) else { return };
    match duration.length() {
        Ok(length) => {
            assert!(length.as_secs() <= 366 * 86_400, "{length:?}");
            assert_eq!(json!(duration), value, "it is kept as it was written");
        }
        Err(why) => assert!(why.contains("not a duration") || why.contains("longer than a year"), "{why}"),
    }
}

/// The JSON of a spec.
pub(crate) fn spec(text: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<Value>(text) else { return };
    let defaults = Defaults {
        prometheus: Endpoint::parse("https://own.test/prometheus").ok(),
        access: None,
        enforce_namespace: true,
    };
    let parsed = match parse(&raw, "shop", &defaults) {
        Ok(parsed) => parsed,
        Err(faults) => return assert!(faults.iter().all(|fault| fault.starts_with("spec")), "{faults:?}"),
    };
    let policy = &parsed.policy;
    assert_eq!(policy.breakers.len(), parsed.asked.len());
    assert!(policy.limits.max_cut_percent <= 100);
    for breaker in &policy.breakers {
        assert!(breaker.evaluation_period.as_secs() >= 1 && breaker.range.as_secs() <= 86_400, "{breaker:?}");
        assert!(breaker.activator.period <= breaker.activator.max_period, "{breaker:?}");
    }
    // What it is stored as means the same.
    let typed: KubervisorServiceSpec = serde_json::from_value(raw).unwrap();
    assert_eq!(parse(&json!(typed), "shop", &defaults).as_ref(), Ok(&parsed));
    let names = fleet().members.into_iter().take(2).map(|member| kubervisor_core::sample::Row {
        namespace: None,
        pod: member.name,
        key: Some("500".into()),
        reading: kubervisor_core::sample::Reading::Number(1e9),
    });
    decide(fleet(), policy, &Samples::new(names.collect(), false));
}
