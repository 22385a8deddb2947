//! Ours: the production code from the manifest to the pods' labels.
//!
//! The API's own parser reads the manifest, so that every default is the one that ships. The fleet is what the
//! controller's cache makes of the pods; the core's `tick` decides with a memory of its own; its actions are the
//! controller's own patches, carried out on the pods as an API server would. Replaced are the network and the clock.
//! Only PromQL is answered from the world's scrapes.

mod cluster;

use std::sync::Arc;
use std::time::Duration;

use incidents::Purpose;
use kubervisor::api::{self, Defaults, parse};
use kubervisor::sources;
use kubervisor_core::Now;
use kubervisor_core::backoff::hash;
use kubervisor_core::memory::Memory;
use kubervisor_core::plan::{Action, Plan};
use kubervisor_core::policy::ServicePolicy;
use kubervisor_core::sample::{Reading, Row, Samples};
use kubervisor_core::tick::{Answer, Input, tick};

use self::cluster::{Cluster, NAMESPACE, START, UID, name_of};
use super::Contender;
use super::question::{Question, manifest, range};
use crate::case::Case;
use crate::world::World;

/// Second 0 on the monotonic clock: the controller has been running for a while.
const RUNNING_FOR: Duration = Duration::from_hours(1);

/// What one breaker asks.
struct Asked {
    breaker: Arc<str>,
    period: Duration,
    values: Question,
    activity: Option<Question>,
}

/// What came back.
struct Answered {
    breaker: Arc<str>,
    values: Samples,
    activity: Option<Samples>,
}

/// The controller of one service.
pub struct Ours {
    policy: ServicePolicy,
    asked: Vec<Asked>,
    range: u32,
    /// Second of the period in which breakers ask.
    phase: u64,
    cluster: Cluster,
    memory: Memory,
    seed: u64,
    next_due: Option<Duration>,
    /// Something about the fleet changed since the last tick.
    changed: bool,
}

impl Ours {
    /// Before the first second.
    ///
    /// # Errors
    /// Where the API refuses the manifest, with all its reasons.
    pub fn new(case: &Case) -> anyhow::Result<Self> {
        let parsed = parse(&manifest(case)?["spec"], "orchard", &Defaults::default())
            .map_err(|faults| anyhow::anyhow!("manifest.yaml: {}", faults.join("; ")))?;
        let range = range(case.scrape);
        let question = |question: &sources::Question| match question {
            sources::Question::Prometheus(asked) => Question::of(&asked.query, range),
            sources::Question::Custom(_) => anyhow::bail!("manifest.yaml: nobody answers a customService"),
        };
        let asked = |asked: &api::Asked| {
            Ok(Asked {
                breaker: Arc::clone(&asked.breaker),
                period: asked.period,
                values: question(&asked.question)?,
                activity: asked.activity.as_ref().map(question).transpose()?,
            })
        };
        Ok(Self {
            asked: parsed.asked.iter().map(asked).collect::<anyhow::Result<_>>()?,
            range,
            phase: case.seed.draw(Purpose::Phase, u64::MAX, 0),
            cluster: Cluster::new(&parsed.service, case)?,
            memory: Memory::default(),
            seed: hash(0, UID.as_bytes()),
            next_due: None,
            changed: true,
            policy: parsed.policy,
        })
    }

    /// What the breakers that ask in this second are answered.
    fn answers(&self, world: &World<'_>) -> Vec<Answered> {
        let second = u64::from(world.second);
        let due = |asked: &&Asked| (second + self.phase).is_multiple_of(asked.period.as_secs().max(1));
        let answer = |asked: &Asked| Answered {
            breaker: Arc::clone(&asked.breaker),
            values: samples(asked.values, world, self.range),
            activity: asked.activity.map(|activity| samples(activity, world, self.range)),
        };
        self.asked.iter().filter(due).map(answer).collect()
    }

    fn tick(&mut self, now: Now, answers: &[Answered]) -> Option<Plan> {
        let view = self.cluster.view()?;
        let answers: Vec<_> = answers
            .iter()
            .map(|answered| Answer {
                breaker: &answered.breaker,
                asked: now.mono,
                samples: Some(&answered.values),
                activity: answered.activity.as_ref(),
            })
            .collect();
        let input = Input {
            fleet: &view.fleet,
            answers: &answers,
            policy: &self.policy,
            gates: &[],
            kills: &[],
            now,
            seed: self.seed,
        };
        Some(tick(&input, &mut self.memory))
    }

    fn carry_out(&mut self, actions: &[Action], now: Now) {
        for action in actions {
            let size = self.memory.capacity.size();
            let accepted = self.cluster.act(action, &self.policy, size, now.wall);
            self.memory.record(&action.uid, action.what.step(), accepted, now);
            self.changed = true;
        }
    }
}

fn samples(question: Question, world: &World<'_>, range: u32) -> Samples {
    let row = |series: super::question::Series| Row {
        namespace: Some(NAMESPACE.into()),
        pod: name_of(series.pod).into(),
        key: series.code.map(Into::into),
        reading: Reading::of(series.value),
    };
    Samples::new(question.answer(world, range).into_iter().map(row).collect(), false)
}

impl Contender for Ours {
    fn decide(&mut self, world: &World<'_>, out: &mut [bool]) {
        let second = Duration::from_secs(world.second.into());
        let now = Now { wall: START, mono: RUNNING_FOR }.after(second);
        self.changed |= self.cluster.follow(world, now.wall);
        let answers = self.answers(world);
        let due = self.next_due.is_some_and(|due| due <= now.mono);
        if due || !answers.is_empty() || std::mem::take(&mut self.changed) {
            self.changed = false;
            if let Some(plan) = self.tick(now, &answers) {
                self.next_due = plan.next_due;
                self.carry_out(&plan.actions, now);
            }
        }
        for (pod, out) in (0_u32..).zip(out.iter_mut()) {
            *out = self.cluster.out(pod);
        }
    }
}
