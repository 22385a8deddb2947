//! G6: what is done is told. Judged where nothing goes wrong on the way: an Event is sent once, and not again.

use std::time::Duration;

use super::super::object::Kind;
use super::super::seen::Step;
use super::super::sim::Sim;

/// Time in which an Event must be there.
const TOLD: Duration = Duration::from_secs(10);

/// An Event about a pod that somebody must write.
pub struct Owed {
    who: usize,
    due: Duration,
    uid: String,
    reason: &'static str,
    /// It is younger than this version of the store.
    after: u64,
}

impl Sim {
    /// A write was carried out.
    pub(super) fn owe(&mut self, who: usize, step: Step, uid: &str) {
        let reason = match step {
            Step::Cut => "PodCut",
            Step::Pause => "PodPaused",
            Step::Evict => "PodEvicted",
            Step::Restore | Step::Label | Step::Other => return,
        };
        if self.script.faults.is_empty() {
            let (due, after) = (self.now() + TOLD, self.store.version);
            self.judge.owed.push(Owed { who, due, uid: uid.to_owned(), reason, after });
        }
    }

    pub(super) fn check_told(&mut self) {
        let now = self.now();
        let (due, later) = std::mem::take(&mut self.judge.owed).into_iter().partition(|owed| owed.due <= now);
        self.judge.owed = later;
        let due: Vec<Owed> = due;
        for owed in due {
            let dead = self.wires[owed.who].dead;
            let told = self.store.all(Kind::Events).any(|event| {
                event.version > owed.after
                    && event.value["regarding"]["uid"] == owed.uid.as_str()
                    && event.value["reason"] == owed.reason
            });
            if !told && !dead {
                self.violate("G6 why", format!("nobody was told: {} of {}", owed.reason, owed.uid));
            }
        }
    }
}
