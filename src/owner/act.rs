//! Carries a plan out, one action after the other started worst first, a few at a time; and gives back what nothing
//! holds any more.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use kubervisor_core::Now;
use kubervisor_core::budget::floor;
use kubervisor_core::gates::Gate;
use kubervisor_core::notice::{Kind, Notice};
use kubervisor_core::plan::{Action, Plan, Refusal, What, Why};
use kubervisor_core::policy::Mode;
use kubervisor_core::traffic::Move;
use tokio::time::Instant;

use super::Owner;
use super::breaker::Answered;
use crate::api::stamp;
use crate::cluster::CallError;
use crate::cluster::apply::Outcome;
use crate::cluster::marked::Marked;
use crate::cluster::release::free;
use crate::cluster::snapshot::{ServiceView, View};
use crate::cluster::status::RECENT_MAX;
use crate::cluster::writes::{Demands, NotSent};

/// Actions of one service on their way at once; the writer bounds them over all services.
const AT_ONCE: usize = 4;

impl Owner {
    /// Returns whether anything was tried.
    pub(super) async fn carry_out(&mut self, plan: &Plan, answers: &[Answered], now: Now) -> bool {
        let evicts = |action: &&Action| action.what.step() == Move::Evict;
        let first: Vec<_> = plan.actions.iter().filter(|a| !evicts(a)).collect();
        let outcomes = self.send(first, now).await;
        self.note_all(outcomes, answers, now);
        // Last: each waits for its record, and nothing else shall wait for that.
        for action in plan.actions.iter().filter(evicts) {
            // No record, no kill: the cap must hold over a restart.
            if self.record_kill(action, now).await {
                let outcomes = self.send(vec![action], now).await;
                self.note_all(outcomes, answers, now);
            } else {
                self.memory.record(&action.uid, Move::Evict, false, self.parts.now());
            }
        }
        !plan.actions.is_empty()
    }

    fn note_all(&mut self, outcomes: Vec<(&Action, Outcome, Instant)>, answers: &[Answered], now: Now) {
        for (action, outcome, at) in outcomes {
            if let (What::Cut(order), Outcome::Done) = (&action.what, &outcome) {
                let answer = answers.iter().find(|a| a.breaker == order.breaker);
                if let Some(Ok(answer)) = answer.map(|a| a.result.as_ref()) {
                    self.parts.metrics.reacted(at.saturating_duration_since(answer.answered_at()));
                }
            }
            self.note(action, &outcome, now);
        }
    }

    /// Started in the order of the plan, a few at a time.
    async fn send<'a>(&self, actions: Vec<&'a Action>, now: Now) -> Vec<(&'a Action, Outcome, Instant)> {
        let size = self.memory.capacity.size();
        let needed = |n: u32| floor(&self.policy, n.max(size));
        let demands = Demands { floor: &needed, limits: &self.policy.limits };
        let mut waiting = actions.into_iter();
        let mut running = FuturesUnordered::new();
        let mut ended = Vec::new();
        loop {
            while running.len() < AT_ONCE {
                let Some(action) = waiting.next() else { break };
                running.push(self.send_one(action, demands, now));
            }
            match running.next().await {
                Some(one) => ended.push(one),
                None => return ended,
            }
        }
    }

    async fn send_one<'a>(
        &self,
        action: &'a Action,
        demands: Demands<'_>,
        now: Now,
    ) -> (&'a Action, Outcome, Instant) {
        let outcome = self.parts.writer.act(&self.id, action, demands, now.wall).await;
        (action, outcome, Instant::now())
    }

    async fn record_kill(&mut self, action: &Action, now: Now) -> bool {
        let kills = self.kills.with(action, now.wall, now.mono);
        match self.status.record_kill(self.version(), kills.rows()).await {
            Ok(version) => {
                self.inbox.version.fetch_max(version, Ordering::AcqRel);
                self.kills = kills;
                true
            }
            Err(error) => {
                tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, pod = %action.pod, %error,
                    "the eviction could not be recorded and is not asked for");
                false
            }
        }
    }

    fn note(&mut self, action: &Action, outcome: &Outcome, now: Now) {
        let step = action.what.step();
        match outcome {
            Outcome::Done | Outcome::Unknown(_) => {
                self.memory.record(&action.uid, step, true, self.parts.now());
            }
            // The pod changed meanwhile: that is nobody's fault, and the next tick decides on what it is now.
            Outcome::NotSent(_) => self.memory.dropped(&action.uid, step),
            Outcome::Refused(error) if error.code() == Some(409) => self.memory.dropped(&action.uid, step),
            Outcome::Refused(_) => self.memory.record(&action.uid, step, false, self.parts.now()),
        }
        if step == Move::Evict {
            self.parts.metrics.evicted(&self.id, outcome.as_str());
            // Nothing was done, for sure: its record would spend the cap and keep the next pod waiting for a successor.
            if matches!(outcome, Outcome::NotSent(_) | Outcome::Refused(_)) {
                self.kills.refused(&action.uid);
            }
        }
        match outcome {
            Outcome::Done => self.note_done(action, now.wall),
            Outcome::NotSent(why) => {
                if *why == NotSent::ClusterStorm {
                    self.parts.metrics.refused(&self.id, "ClusterStorm");
                }
                tracing::info!(namespace = %self.id.namespace, name = %self.id.name, pod = %action.pod,
                    step = step.as_str(), ?why, "not sent: the cluster changed since the decision");
            }
            Outcome::Refused(error) => self.note_refused(action, error, now.wall),
            Outcome::Unknown(error) => {
                self.fates.doubt(action, now.wall);
                tracing::warn!(namespace = %self.id.namespace, name = %self.id.name, pod = %action.pod,
                    step = step.as_str(), %error, "no answer: the write is assumed until the watch shows what became of it");
            }
        }
    }

    pub(super) fn note_done(&mut self, action: &Action, at: Timestamp) {
        let (kind, text) = match &action.what {
            What::Cut(order) => {
                self.parts.metrics.cut(&self.id, &order.breaker, true);
                let (breaker, evidence, budget) = (&order.breaker, &order.evidence, &order.budget);
                let strikes = order.strikes.of(breaker);
                let until = stamp(order.restore_at);
                (
                    Kind::PodCut,
                    format!("cut by {breaker}: {evidence} (strike {strikes}, until {until}); {budget}"),
                )
            }
            What::KeepOut => (
                Kind::PodCut,
                "kept out: a person asked for it (override Cut); it returns when the override is taken away"
                    .to_owned(),
            ),
            What::Forgive(strikes) => {
                tracing::info!(namespace = %self.id.namespace, name = %self.id.name, pod = %action.pod,
                    strikes = strikes.total(), "one strike is forgiven: it served well for long enough");
                return;
            }
            What::Restore { reason, .. } => {
                self.parts.metrics.restored(&self.id, reason.as_str());
                (Kind::PodRestored, format!("restored: {reason}"))
            }
            What::Pause { breaker, strikes } => {
                self.parts.metrics.paused(&self.id);
                let breaker = breaker.as_deref().unwrap_or("an unknown breaker");
                (
                    Kind::PodPaused,
                    format!(
                        "paused after {strikes} cuts by {breaker}: it stays out until a person looks at it"
                    ),
                )
            }
            What::Evict { breaker, strikes } => {
                let breaker = breaker.as_deref().unwrap_or("an unknown breaker");
                (Kind::PodEvicted, format!("evicted after {strikes} cuts by {breaker}"))
            }
        };
        self.act_told(action, kind, at, text);
    }

    fn note_refused(&mut self, action: &Action, error: &CallError, at: Timestamp) {
        if action.what.step() == Move::Evict && error.code() != Some(404) {
            let text = format!("{error}: it stays cut and is tried again later");
            self.act_told(action, Kind::EvictionRefused, at, text);
            return;
        }
        // 404, 409 and 422 mean that the pod changed or went away: the next tick sees what it is now.
        tracing::info!(namespace = %self.id.namespace, name = %self.id.name, pod = %action.pod,
            step = action.what.step().as_str(), %error, "refused");
    }

    pub(super) fn act_told(&mut self, action: &Action, kind: Kind, at: Timestamp, text: String) {
        let notice = Notice::of_pod(&action.pod, &action.uid, kind, at, text);
        self.remember(&notice, at);
        self.parts.events.tell(&self.id, notice);
    }

    fn remember(&mut self, notice: &Notice, at: Timestamp) {
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        let sentence: String = format!("{} {notice}", stamp(at)).chars().take(400).collect();
        self.recent.push_back(sentence);
    }

    /// Pods that are ours and that nothing holds any more: mode Disabled or DryRun, no key in the selector, or put
    /// back by a person, whose marks are tidied away. A spec that is refused changes nothing of that: the last valid one
    /// goes on ending cuts.
    pub(super) async fn free_unheld(&mut self, view: &View, now: Now) -> bool {
        let all = match (self.policy.mode, view.service) {
            (Mode::Disabled, _) => Some("mode Disabled"),
            (Mode::DryRun, _) => Some("mode DryRun"),
            (_, ServiceView::Usable { activated: false }) => {
                Some("the Service's selector does not hold the key")
            }
            _ => None,
        };
        let all = all.filter(|_| !self.opens_first(view));
        let wanted = view.marked.iter().filter_map(|pod| match (all, pod.opened_by_hand) {
            (_, true) => Some((pod, "put back by a person")),
            (Some(why), false) => Some((pod, why)),
            (None, false) => None,
        });
        let free_now = |pod: &Marked| {
            !pod.in_flight && !view.elders.contains(&pod.uid) && self.memory.may_write(&pod.uid, now)
        };
        let writer = &self.parts.writer;
        let mut running = FuturesUnordered::new();
        for (pod, why) in wanted.filter(|(pod, _)| free_now(pod)) {
            running.push(async move { (pod, why, free(writer, pod, now.wall).await) });
        }
        let mut ended = Vec::new();
        while let Some(one) = running.next().await {
            ended.push(one);
        }
        drop(running);
        ended.iter().fold(false, |freed, (pod, why, outcome)| self.note_freed(pod, outcome, why) || freed)
    }

    /// Returns whether the pod went back.
    fn note_freed(&mut self, pod: &Marked, outcome: &Outcome, why: &str) -> bool {
        let now = self.parts.now();
        let done = matches!(outcome, Outcome::Done);
        match outcome {
            Outcome::Done | Outcome::Unknown(_) => self.memory.record(&pod.uid, Move::Restore, true, now),
            Outcome::NotSent(_) => {}
            Outcome::Refused(_) => self.memory.record(&pod.uid, Move::Restore, false, now),
        }
        if done {
            self.parts.metrics.restored(&self.id, "Released");
            let text = format!("restored: {why}");
            let notice = Notice::of_pod(&pod.name, &pod.uid, Kind::PodRestored, now.wall, text);
            self.remember(&notice, now.wall);
            self.parts.events.tell(&self.id, notice);
        }
        done
    }

    /// `answered`: without an answer nothing is wanted, which is not the same as nothing being held.
    pub(super) fn count_refusals(&self, plan: &Plan, answered: bool) {
        let braked =
            |r: &&Refusal| r.step == Move::Cut && matches!(r.why, Why::Gate(Gate::ClusterStorm { .. }));
        let pods: BTreeSet<_> = plan.refusals.iter().filter(braked).map(|refusal| &refusal.pod).collect();
        let wanted = u32::try_from(pods.len()).unwrap_or(u32::MAX);
        if answered {
            self.parts.writer.brake().wants(&self.id.uid, wanted, Instant::now());
        }
        for refusal in &plan.refusals {
            self.parts.metrics.refused(&self.id, refusal.why.as_str());
            tracing::debug!(namespace = %self.id.namespace, name = %self.id.name, pod = %refusal.pod,
                step = refusal.step.as_str(), reason = refusal.why.as_str(), "{}", refusal.why);
        }
    }
}
