//! One query for all who ask the same in the same slot.
//!
//! Whoever comes first starts a *flight*, a task of its own, so that it goes on when its starter is dropped; everybody
//! waits for it to land. A flight that dies without landing (a panic) tells its waiters so. What has landed stays
//! for late comers of the slot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::{Answer, Question, Slot, SourceError};

/// What a flight brings.
pub(super) type Outcome = Result<Arc<Answer>, SourceError>;
/// Where it is waited for.
pub(super) type Arrival = watch::Receiver<Option<Outcome>>;

/// Flights kept for one question: two, so that owners who start their periods at different moments, or have different
/// periods, do not throw each other's out.
const FLIGHTS: usize = 2;
/// Questions kept: 5,000 services with 4 breakers each. About 500 bytes without the answer: 10 MB. Beyond it
/// questions are asked without being shared.
const MAX_QUESTIONS: usize = 20_000;
/// Bytes kept over all answers. 100,000 pods with two keys weigh 36 MB (117 bytes of body and a row of 64 each, which
/// is more than they take), twice for two flights. An answer that would pass it reaches those who wait, and is not
/// kept.
const MAX_WEIGHT: usize = 80 * 1024 * 1024;
/// An answer that nobody asked for this long is of no use: slots are shorter, or need no sharing.
const STALE: Duration = Duration::from_secs(60);
/// Between two searches for what is stale: one costs about a millisecond with 20,000 questions.
const SWEEP: Duration = Duration::from_secs(10);

/// The flights of all questions.
#[derive(Debug, Default)]
pub(super) struct Sharing(Mutex<Board>);

#[derive(Debug, Default)]
struct Board {
    questions: HashMap<Question, Entry>,
    weight: usize,
    swept: Option<Instant>,
}

#[derive(Debug, Default)]
struct Entry {
    flights: Vec<Flight>,
    slow: bool,
}

#[derive(Debug)]
struct Flight {
    slot: Slot,
    used: Instant,
    weight: usize,
    arrival: Arrival,
}

/// What an asker has to do.
#[derive(Debug)]
pub(super) enum Boarding {
    /// Wait.
    Join(Arrival),
    /// Fly, and wait. `slow`: the question was, the last time.
    Start { landing: Landing, arrival: Arrival, slow: bool },
}

/// The duty to land. Dropped before that, it tells everybody that the flight is lost.
#[derive(Debug)]
pub(super) struct Landing {
    sharing: Arc<Sharing>,
    question: Question,
    slot: Slot,
    sender: watch::Sender<Option<Outcome>>,
}

/// Waits for a flight to land.
pub(super) async fn arrive(mut arrival: Arrival) -> Outcome {
    match arrival.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(outcome)) => outcome.clone(),
        Ok(None) | Err(_) => Err(SourceError::Lost),
    }
}

impl Sharing {
    pub(super) fn board(self: &Arc<Self>, question: &Question, slot: Slot) -> Boarding {
        let now = Instant::now();
        let mut board = self.lock();
        if let Some(arrival) = board.find(question, slot, now) {
            return Boarding::Join(arrival);
        }
        board.sweep(now);
        let (sender, arrival) = watch::channel(None);
        let slow = board.add(question, Flight { slot, used: now, weight: 0, arrival: arrival.clone() });
        let landing = Landing { sharing: Arc::clone(self), question: question.clone(), slot, sender };
        Boarding::Start { landing, arrival, slow }
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Landing {
    /// Hands the outcome, of so many bytes, to everybody. `slow` is remembered for the next flight; `None`: as before.
    pub(super) fn land(self, outcome: Outcome, weight: usize, slow: Option<bool>) {
        self.sender.send_replace(Some(outcome));
        self.sharing.lock().landed(&self.question, self.slot, weight, slow);
    }
}

impl Board {
    fn find(&mut self, question: &Question, slot: Slot, now: Instant) -> Option<Arrival> {
        let flights = &mut self.questions.get_mut(question)?.flights;
        let flight = flights.iter_mut().find(|flight| flight.slot == slot)?;
        flight.used = now;
        Some(flight.arrival.clone())
    }

    /// Whether the question was slow the last time.
    fn add(&mut self, question: &Question, flight: Flight) -> bool {
        if self.questions.len() >= MAX_QUESTIONS && !self.questions.contains_key(question) {
            return false;
        }
        let entry = self.questions.entry(question.clone()).or_default();
        if entry.flights.len() >= FLIGHTS {
            let oldest = entry.flights.iter().enumerate().min_by_key(|(_, flight)| flight.used);
            if let Some((oldest, _)) = oldest {
                self.weight -= entry.flights.swap_remove(oldest).weight;
            }
        }
        entry.flights.push(flight);
        entry.slow
    }

    fn landed(&mut self, question: &Question, slot: Slot, weight: usize, slow: Option<bool>) {
        let Some(entry) = self.questions.get_mut(question) else { return };
        entry.slow = slow.unwrap_or(entry.slow);
        if self.weight + weight > MAX_WEIGHT {
            // Earlier answers to the same question are of the least use.
            self.weight -= entry.drop_if(|flight| flight.slot != slot);
        }
        if self.weight + weight > MAX_WEIGHT {
            self.weight -= entry.drop_if(|_| true);
        }
        if let Some(flight) = entry.flights.iter_mut().find(|flight| flight.slot == slot) {
            self.weight = self.weight - flight.weight + weight;
            flight.weight = weight;
        }
    }

    fn sweep(&mut self, now: Instant) {
        let due = self.swept.is_none_or(|swept| now.duration_since(swept) >= SWEEP);
        if !due {
            return;
        }
        self.swept = Some(now);
        let weight = &mut self.weight;
        self.questions.retain(|_, entry| {
            *weight -= entry.drop_if(|flight| now.duration_since(flight.used) >= STALE);
            !entry.flights.is_empty()
        });
    }
}

impl Entry {
    /// Gives the weight of what it dropped.
    fn drop_if(&mut self, useless: impl Fn(&Flight) -> bool) -> usize {
        self.flights.extract_if(.., |flight| useless(flight)).map(|flight| flight.weight).sum()
    }
}

#[cfg(test)]
#[path = "sharing_tests.rs"]
mod tests;
