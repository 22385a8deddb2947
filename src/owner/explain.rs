//! The owner's answer to people who ask why.
//!
//! Takes the fleet as the cache has it, what the ticks left behind, and the spec; gives an [`Explained`]. Changes
//! nothing, asks nobody, and makes no tick due.

use kubervisor_core::activator::Step;
use kubervisor_core::explain::{Explanation, Looked, Sum};
use kubervisor_core::fleet::{Member, Wish};
use kubervisor_core::gates::Gate;
use kubervisor_core::plan::{Refusal, Why};
use kubervisor_core::policy::{BreakerPolicy, Mode};
use kubervisor_core::tick::Input;
use kubervisor_core::traffic::{Move, Traffic};

use super::Owner;
use crate::api::{
    EXPLAINED_PODS_MAX, EXPLAINED_VERSION, Explained, ExplainedBreaker, ExplainedBudget, ExplainedFinding,
    ExplainedGate, ExplainedPod, ExplainedRefusal, NotExplained, Unexplained, stamp,
};
use crate::cluster::doors::{Question, Reply};
use crate::cluster::snapshot::View;

impl Owner {
    /// One of those who wait: a page over ten thousand pods takes a fraction of a second, and no turn waits for more.
    pub(super) fn answer_one(&mut self) {
        if let Ok(question) = self.door.questions.try_recv() {
            self.answer(question);
        }
    }

    pub(super) fn answer(&self, Question { pod, reply }: Question) {
        // Whoever asked may have gone.
        if !reply.is_closed() {
            let _ = reply.send(self.explain(pod.as_deref()));
        }
    }

    fn explain(&self, pod: Option<&str>) -> Reply {
        let name = format!("KubervisorService {}/{}", self.id.namespace, self.id.name);
        let not = |reason, text: String| Err(NotExplained::new(reason, text));
        let view = self.parts.cache.view(&self.id.namespace, &self.id.uid);
        let Some(view) = view.filter(|_| self.parts.cache.synced_in(&self.id.namespace)) else {
            return not(
                Unexplained::NotReady,
                format!("{name}: its pods are not all listed yet; ask again in a moment"),
            );
        };
        if let Some(fault) = view.service.fault() {
            return not(Unexplained::NotEvaluated, format!("{name}: {fault}"));
        }
        if self.policy.mode == Mode::Disabled {
            return not(
                Unexplained::NotEvaluated,
                format!("{name} is in mode Disabled: no pod is judged, and none is kept out by it"),
            );
        }
        if let Some(pod) = pod
            && !view.fleet.members.iter().any(|m| *m.name == *pod)
        {
            let text = format!("{name} has no pod {pod:?}");
            let members = view.fleet.members.iter().map(|m| &*m.name);
            return Err(NotExplained::new(Unexplained::UnknownPod, text).meant(pod, members));
        }
        Ok(Box::new(self.explained(&view, pod)))
    }

    fn explained(&self, view: &View, pod: Option<&str>) -> Explained {
        let (gates, kills) = (self.gates(view), self.kills.records());
        let (policy, now, seed) = (&self.policy, self.parts.now(), self.seed);
        let input =
            Input { fleet: &view.fleet, answers: &[], policy, gates: &gates, kills: &kills, now, seed };
        let real = Looked::at(&input, &self.memory, &self.refused);
        if !policy.has_shadow() {
            return self.compose(view, &real, None, pod);
        }
        self.shadow.look(&input, policy, &self.shown_refused, |shown| {
            if policy.mode == Mode::DryRun {
                self.compose(view, shown, None, pod)
            } else {
                self.compose(view, &real, Some(shown), pod)
            }
        })
    }

    /// `shown`: what breakers in dry run beside the others see.
    fn compose(
        &self,
        view: &View,
        main: &Looked<'_>,
        shown: Option<&Looked<'_>>,
        pod: Option<&str>,
    ) -> Explained {
        let wanted = |m: &&Member| pod.is_none_or(|pod| *m.name == *pod);
        let members: Vec<_> = main.members().iter().filter(wanted).collect();
        let only_shown = self.policy.mode == Mode::DryRun;
        let one = |member: &&Member| {
            let mut it = self.pod(view, main, member);
            if only_shown {
                it.answer = format!("Dry run, in which nothing is carried out: {}", it.answer);
            }
            if let Some((shown, member)) =
                shown.and_then(|s| Some((s, s.members().iter().find(|m| m.uid == member.uid)?)))
            {
                self.add_shown(&mut it, shown, member);
            }
            it
        };
        let inert = self.report.as_ref().and_then(|report| report.inert.clone());
        Explained {
            version: EXPLAINED_VERSION,
            at: stamp((self.parts.wall)()),
            namespace: self.id.namespace.to_string(),
            name: self.id.name.to_string(),
            service: self.spec.parsed.as_ref().map(|p| p.service.to_string()).unwrap_or_default(),
            only_shown,
            budget: ExplainedBudget { inert, ..budget(main.sum()) },
            gates: main.gates().iter().map(gate).collect(),
            breakers: self.policy.breakers.iter().map(|b| self.breaker(b)).collect(),
            more_pods: members.len().saturating_sub(EXPLAINED_PODS_MAX) as u64,
            pods: members.iter().take(EXPLAINED_PODS_MAX).map(one).collect(),
        }
    }

    fn breaker(&self, policy: &BreakerPolicy) -> ExplainedBreaker {
        let name = &policy.name;
        let report = self.report.as_ref().and_then(|r| r.breakers.iter().find(|b| b.name == *name));
        let asked = self.spec.parsed.as_ref().ok();
        let asked = asked.and_then(|p| p.asked.iter().find(|asked| asked.breaker == *name));
        let only_shown = self.policy.mode == Mode::DryRun || !policy.enforced;
        ExplainedBreaker {
            healthy: report.map_or(0, |r| r.healthy),
            anomalous: report.map_or(0, |r| r.anomalous),
            unknown: report.map_or(0, |r| r.unknown),
            error: self.failing.get(name).map(ToString::to_string),
            doubt: self.doubts.get(name).map(|text| (*text).to_owned()),
            ..ExplainedBreaker::of(policy, asked, only_shown)
        }
    }

    fn pod(&self, view: &View, looked: &Looked<'_>, member: &Member) -> ExplainedPod {
        let evidence = view.why.iter().find(|(name, _)| *name == member.name).map(|(_, why)| why.to_string());
        let it = looked.pod(member, evidence.as_deref());
        let cut = match &member.traffic {
            Traffic::Cut(cut) | Traffic::OpenedByHand(cut) => Some(cut),
            Traffic::Unlabelled
            | Traffic::Open
            | Traffic::KeptOut
            | Traffic::CutByHand
            | Traffic::Paused
            | Traffic::Odd => None,
        };
        let Explanation { answer, change, held, refusals, due, quiet_until, hold_off_until, findings } = it;
        let (due_at, then) = due.unzip();
        let names = |line: &&String| line.split([' ', ':']).any(|word| *word == *member.name);
        ExplainedPod {
            name: member.name.to_string(),
            uid: member.uid.to_string(),
            answer,
            change,
            traffic: member.traffic.as_str().to_owned(),
            serving: member.serving(),
            ready: member.ready,
            terminating: member.terminating,
            ready_since: stamp(member.ready_since),
            cut_at: cut.and_then(|cut| cut.at).map(stamp),
            cut_by: cut.and_then(|cut| cut.breaker.as_ref()).map(ToString::to_string),
            evidence,
            due_at: due_at.map(stamp),
            then: then.map(|then| step(then).to_owned()),
            restored_at: member.restored_at.map(stamp),
            strikes: member.strikes.0.iter().map(|(name, k)| (name.to_string(), *k)).collect(),
            wish: member.wish.map(|wish| word(wish).to_owned()),
            in_flight: member.in_flight.map(|step| step.as_str().to_owned()),
            quiet_until: quiet_until.map(stamp),
            hold_off_until: hold_off_until.map(stamp),
            held: held.map(|why| refusal(Move::Cut, None, &why)),
            refusals: refusals.iter().map(refused).collect(),
            findings: findings
                .iter()
                .map(|f| ExplainedFinding::of(f, self.policy.mode == Mode::DryRun))
                .collect(),
            recent: self.recent.iter().filter(names).cloned().collect(),
        }
    }

    /// What breakers in dry run say of a pod beside the others.
    fn add_shown(&self, it: &mut ExplainedPod, shown: &Looked<'_>, member: &Member) {
        let dry = |name: &str| self.policy.breaker(name).is_some_and(|b| !b.enforced);
        let there = shown.pod(member, None);
        let found = there.findings.iter().filter(|f| dry(&f.breaker));
        it.findings.extend(found.map(|f| ExplainedFinding::of(f, true)));
        if let Traffic::Cut(cut) = &member.traffic
            && it.traffic != member.traffic.as_str()
            && let Some(breaker) = cut.breaker.as_deref().filter(|name| dry(name))
        {
            it.answer = format!("{}; breaker {breaker}, in dry run, would have cut it", it.answer);
        }
    }
}

fn step(step: Step) -> &'static str {
    match step {
        Step::Restore => Move::Restore.as_str(),
        Step::Pause => Move::Pause.as_str(),
        Step::Evict => Move::Evict.as_str(),
    }
}

fn word(wish: Wish) -> &'static str {
    match wish {
        Wish::Never => "Never",
        Wish::Cut => "Cut",
        Wish::Serve => "Serve",
    }
}

fn gate(gate: &Gate) -> ExplainedGate {
    ExplainedGate {
        gate: gate.as_str().to_owned(),
        why: gate.to_string(),
        breaker: gate.breaker().map(str::to_owned),
        until: gate.until().map(stamp),
    }
}

fn refusal(step: Move, breaker: Option<&str>, why: &Why) -> ExplainedRefusal {
    let (step, reason) = (step.as_str().to_owned(), why.as_str().to_owned());
    ExplainedRefusal { step, breaker: breaker.map(str::to_owned), reason, why: why.to_string() }
}

fn refused(Refusal { step, breaker, why, .. }: &Refusal) -> ExplainedRefusal {
    refusal(*step, breaker.as_deref(), why)
}

fn budget(sum: Sum) -> ExplainedBudget {
    let Sum { budget, floor, max_out, max_recent_cuts, window, in_flight, not_ready, present, headroom } =
        sum;
    ExplainedBudget {
        size: budget.size,
        present,
        floor: budget.floor,
        floor_sum: floor,
        serving: budget.serving,
        not_ready,
        out: budget.out,
        max_out: budget.max_out,
        max_out_sum: max_out,
        cuts: budget.recent_cuts,
        max_cuts: budget.max_recent_cuts,
        max_cuts_sum: max_recent_cuts,
        cut_window_seconds: window.as_secs_f64(),
        in_flight,
        headroom: headroom.0,
        limited_by: headroom.1.as_str().to_owned(),
        inert: None,
    }
}
