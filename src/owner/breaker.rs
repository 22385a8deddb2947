//! The breaker task: asks the sources, each detector at its own period.
//!
//! Takes what a spec asks; gives answers, each with the time it came. Decides nothing. One question that is slow
//! delays no other one, and never the owner.

use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::backoff::hash;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Parts;
use crate::api::Asked;
use crate::sources::{Answer, SourceError};

/// Answers that wait for the owner: 16 breakers, twice. A full queue slows the asking, which is right.
const QUEUE: usize = 32;

/// What came back for one breaker.
#[derive(Debug)]
pub struct Answered {
    /// Who asked.
    pub breaker: Arc<str>,
    /// What was said.
    pub result: Result<Arc<Answer>, SourceError>,
    /// Which asking it belongs to: an edit of the spec makes older answers void.
    round: u64,
}

/// All questions of one service.
pub struct Asking {
    parts: Parts,
    asked: Vec<Task>,
    rounds: u64,
    send: mpsc::Sender<Answered>,
    receive: mpsc::Receiver<Answered>,
}

struct Task {
    asked: Asked,
    round: u64,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Asking {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (send, receive) = mpsc::channel(QUEUE);
        Self { parts, asked: Vec::new(), rounds: 0, send, receive }
    }

    /// Asks exactly this from now on. What did not change goes on undisturbed; the names of the rest are returned.
    pub fn follow(&mut self, wanted: &[Asked]) -> Vec<Arc<str>> {
        self.asked.retain(|task| wanted.contains(&task.asked));
        let new: Vec<_> = wanted.iter().filter(|w| self.asked.iter().all(|t| t.asked != **w)).collect();
        let names = new.iter().map(|asked| Arc::clone(&asked.breaker)).collect();
        for asked in new {
            self.rounds += 1;
            let handle = self.parts.tasks.spawn(ask(
                self.parts.clone(),
                asked.clone(),
                self.rounds,
                self.send.clone(),
            ));
            self.asked.push(Task { asked: asked.clone(), round: self.rounds, handle });
        }
        names
    }

    /// Asks nothing any more.
    pub fn stop(&mut self) {
        self.asked.clear();
    }

    /// The next answer.
    pub async fn next(&mut self) -> Option<Answered> {
        self.receive.recv().await
    }

    /// All answers that are there, the last one of each breaker, without those that nobody asks for any more.
    pub fn drain(&mut self, first: Answered) -> Vec<Answered> {
        let mut answers = vec![first];
        while let Ok(answer) = self.receive.try_recv() {
            answers.retain(|a| a.breaker != answer.breaker);
            answers.push(answer);
        }
        answers.retain(|a| self.asked.iter().any(|t| t.round == a.round));
        answers
    }
}

/// Asks one question once a period, for ever.
async fn ask(parts: Parts, asked: Asked, round: u64, send: mpsc::Sender<Answered>) {
    let phase = phase(&asked);
    let mut slot = Slot::after(parts.started.elapsed(), asked.period, phase);
    loop {
        tokio::time::sleep_until(parts.started + slot.at).await;
        let result = parts.source.ask(&asked.question, slot.number()).await;
        let answered = Answered { breaker: Arc::clone(&asked.breaker), result, round };
        if send.send(answered).await.is_err() {
            return;
        }
        slot = Slot::after(parts.started.elapsed().max(slot.at), asked.period, phase);
    }
}

/// Where in its period a question is asked: the same for equal questions, so that they share one query, and spread
/// over the period for different ones.
fn phase(asked: &Asked) -> Duration {
    let text = format!("{:?}", asked.question);
    let millis = u64::try_from(asked.period.as_millis()).unwrap_or(u64::MAX).max(1);
    Duration::from_millis(hash(0, text.as_bytes()) % millis)
}

/// A moment to ask at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot {
    at: Duration,
}

impl Slot {
    /// The first one after `now`. Missed ones are left out, not made up for.
    fn after(now: Duration, period: Duration, phase: Duration) -> Self {
        let period = period.as_millis().max(1);
        let passed = now.saturating_sub(phase).as_millis();
        let periods = if now < phase { 0 } else { passed / period + 1 };
        let millis = u64::try_from(periods * period).unwrap_or(u64::MAX);
        Self { at: phase.saturating_add(Duration::from_millis(millis)) }
    }

    /// The same for all who ask the same question with the same period.
    fn number(self) -> u64 {
        u64::try_from(self.at.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn slots_keep_their_period_and_leave_out_what_was_missed() {
        let at = |now_millis| Slot::after(Duration::from_millis(now_millis), SECOND * 5, SECOND * 2).at;
        assert_eq!(at(0), SECOND * 2);
        assert_eq!(at(2_000), SECOND * 7);
        assert_eq!(at(6_999), SECOND * 7);
        assert_eq!(at(23_000), SECOND * 27);
    }
}
