//! The breaker task: asks the sources, each detector at its own period.
//!
//! Takes what a spec asks; gives answers, each with the time it came. Decides nothing. One question that is slow
//! delays no other one, and never the owner.

use std::sync::Arc;
use std::time::Duration;

use kubervisor_core::backoff::hash;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Parts;
use crate::api::Asked;
use crate::sources::{self, Answer, Source, SourceError};

/// Answers that wait for the owner: 16 breakers, twice. A full queue slows the asking, which is right.
const QUEUE: usize = 32;

/// What came back for one breaker.
#[derive(Debug)]
pub struct Answered {
    /// Who asked.
    pub breaker: Arc<str>,
    /// What was said.
    pub result: Result<Answers, SourceError>,
    /// Which asking it belongs to: an edit of the spec makes older answers void.
    round: u64,
}

/// What one evaluation takes.
#[derive(Debug, Clone)]
pub struct Answers {
    /// The answer to the detector's own question.
    pub values: Arc<Answer>,
    /// How busy the pods are, where that is asked.
    pub activity: Option<Arc<Answer>>,
}

impl Answers {
    /// When it was asked for: the time that its samples speak of.
    #[must_use]
    pub fn asked_at(&self) -> Instant {
        self.values.asked_at
    }

    /// When the last byte of the last of them was here: from then on the time is ours.
    #[must_use]
    pub fn answered_at(&self) -> Instant {
        let activity = self.activity.as_ref().map(|answer| answer.answered_at);
        activity.map_or(self.values.answered_at, |at| at.max(self.values.answered_at))
    }
}

/// All questions of one service.
pub struct Asking {
    parts: Parts,
    asked: Vec<Task>,
    /// What was followed last, whether or not it is asked now.
    followed: Vec<Asked>,
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
        Self { parts, asked: Vec::new(), followed: Vec::new(), rounds: 0, send, receive }
    }

    /// Asks exactly this from now on. What is asked already goes on undisturbed. Returns the names of those whose question
    /// is another than the last one followed.
    pub fn follow(&mut self, wanted: &[Asked]) -> Vec<Arc<str>> {
        self.asked.retain(|task| wanted.contains(&task.asked));
        let silent: Vec<_> = wanted.iter().filter(|w| self.asked.iter().all(|t| t.asked != **w)).collect();
        for asked in silent {
            self.rounds += 1;
            let handle = self.parts.tasks.spawn(ask(
                self.parts.clone(),
                asked.clone(),
                self.rounds,
                self.send.clone(),
            ));
            self.asked.push(Task { asked: asked.clone(), round: self.rounds, handle });
        }
        let former = std::mem::replace(&mut self.followed, wanted.to_vec());
        let changed = wanted.iter().filter(|w| !former.contains(w));
        changed.map(|asked| Arc::clone(&asked.breaker)).collect()
    }

    /// Asks nothing any more.
    pub fn stop(&mut self) {
        self.asked.clear();
    }

    /// What is followed next is all new.
    pub fn forget(&mut self) {
        self.followed.clear();
    }

    /// The next answer.
    pub async fn next(&mut self) -> Option<Answered> {
        self.receive.recv().await
    }

    /// This answer and all that are there, the last one of each breaker, without those that nobody asks for any more.
    pub fn drain(&mut self, first: Option<Answered>) -> Vec<Answered> {
        let mut answers = Vec::from_iter(first);
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
        let result = ask_both(&*parts.source, &asked, slot.number()).await;
        let answered = Answered { breaker: Arc::clone(&asked.breaker), result, round };
        if send.send(answered).await.is_err() {
            return;
        }
        slot = Slot::after(parts.started.elapsed().max(slot.at), asked.period, phase);
    }
}

/// Both questions at the same moment, so that they speak of the same time. One answer without the other is none.
async fn ask_both(source: &dyn Source, asked: &Asked, slot: sources::Slot) -> Result<Answers, SourceError> {
    let values = source.ask(&asked.question, slot);
    let Some(activity) = &asked.activity else {
        return values.await.map(|values| Answers { values, activity: None });
    };
    let (values, activity) = futures::join!(values, source.ask(activity, slot));
    Ok(Answers { values: values?, activity: Some(activity?) })
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

    use crate::sources::{CustomQuestion, Endpoint, Question};
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use kubervisor_core::sample::Samples;
    use std::sync::Mutex;

    const SECOND: Duration = Duration::from_secs(1);

    /// Answers everything but pages whose path is `/away`; remembers the slots.
    #[derive(Default)]
    struct Half(Mutex<Vec<(String, u64)>>);

    impl Source for Half {
        fn ask<'a>(
            &'a self,
            question: &'a Question,
            slot: sources::Slot,
        ) -> BoxFuture<'a, Result<Arc<Answer>, SourceError>> {
            let page = question.endpoint().as_str().to_owned();
            self.0.lock().unwrap().push((page.clone(), slot));
            let now = Instant::now();
            let answer = Answer {
                samples: Samples::default(),
                asked_at: now,
                answered_at: now,
                dropped: 0,
                warnings: Vec::new(),
            };
            let away = page.ends_with("/away");
            async move { if away { Err(SourceError::Refused) } else { Ok(Arc::new(answer)) } }.boxed()
        }
    }

    fn page(path: &str) -> Question {
        let endpoint = Endpoint::parse_page(&format!("pears:80/{path}")).unwrap();
        Question::Custom(CustomQuestion { endpoint, timeout: SECOND })
    }

    async fn asked(
        question: &str,
        activity: Option<&str>,
    ) -> (Result<Answers, SourceError>, Vec<(String, u64)>) {
        let source = Half::default();
        let asked = Asked {
            breaker: "slow".into(),
            period: SECOND,
            question: page(question),
            activity: activity.map(page),
        };
        let outcome = ask_both(&source, &asked, 41).await;
        (outcome, source.0.into_inner().unwrap())
    }

    #[tokio::test]
    async fn values_and_activity_are_asked_in_one_slot() {
        let (outcome, asked) = asked("values", Some("activity")).await;
        assert!(outcome.unwrap().activity.is_some());
        assert_eq!(asked.iter().map(|(_, slot)| *slot).collect::<Vec<_>>(), [41, 41]);
    }

    #[tokio::test]
    async fn one_answer_without_the_other_is_none() {
        for (values, activity) in [("away", "activity"), ("values", "away")] {
            assert_eq!(asked(values, Some(activity)).await.0.unwrap_err(), SourceError::Refused);
        }
        assert!(asked("values", None).await.0.unwrap().activity.is_none());
    }

    #[test]
    fn slots_keep_their_period_and_leave_out_what_was_missed() {
        let at = |now_millis| Slot::after(Duration::from_millis(now_millis), SECOND * 5, SECOND * 2).at;
        assert_eq!(at(0), SECOND * 2);
        assert_eq!(at(2_000), SECOND * 7);
        assert_eq!(at(6_999), SECOND * 7);
        assert_eq!(at(23_000), SECOND * 27);
    }
}
