//! Kubervisor's decisions: pure functions over one service's fleet.
//!
//! ```text
//!  now, seed   Fleet ---------------------> judge (detector/) --> Verdicts
//!     |          |                                                   |
//!     |        Budget (floor of the whole fleet) --> breaker + activator: proposals, worst first
//!     |          |                                                   |
//!     +----------+-------------------> gates ------------------>   tick --> Plan
//! ```
//!
//! - [`fleet`]: every pod that one KubervisorService governs, at one instant, writes in flight included.
//! - [`sample`]: what a source said of each pod; everything that is not a plain number has a name.
//! - [`detector`]: `judge` turns samples into [`verdict`]s. Unknown is never a reason to act.
//! - [`budget`]: the floor and what may still be spent, counted over the whole fleet.
//! - [`breaker`] and [`activator`]: propose cuts, and restores, pauses and evictions.
//! - [`gates`]: reasons to hold an action now.
//! - [`input`]: all that a tick looks at.
//! - [`mod@tick`]: repair, what is due, cuts; gives a [`plan`], whose post-conditions are asserted there. [`memory`] is
//!   what it keeps for the next one.
//! - [`explain`]: why a pod is out, and why it is not; asked by people, never by a tick.
//! - [`notice`]: what happened, in words for people.
//!
//! Nothing here reads a clock, a socket, the environment or a random number: time and chance are arguments, so that
//! the controller, a dry run, a replay of history and the simulator run the same code.
#![forbid(unsafe_code)]

use std::time::Duration;

mod words;

pub mod activator;
pub mod backoff;
pub mod breaker;
pub mod budget;
mod confirm;
pub mod detector;
pub mod elsewhere;
pub mod explain;
pub mod fleet;
pub mod gates;
pub mod input;
mod known;
pub mod memory;
pub mod notice;
pub mod plan;
pub mod policy;
mod probation;
pub mod sample;
pub mod shadow;
mod storm;
pub mod suspects;
pub mod tick;
pub mod traffic;
pub mod verdict;

#[cfg(test)]
pub(crate) mod fixtures;

/// The instant of a decision, on two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Wall time: only for what is stored on pods or read from them, since it must survive a restart.
    pub wall: jiff::Timestamp,
    /// Time since some fixed start; never goes back. Every window, age and cool-down uses it.
    pub mono: Duration,
}

impl Now {
    /// Both clocks moved on by `by`.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self { wall: add(self.wall, by), mono: self.mono.saturating_add(by) }
    }
}

/// `at + by`, kept within the range of a timestamp.
#[must_use]
pub fn add(at: jiff::Timestamp, by: Duration) -> jiff::Timestamp {
    at.saturating_add(by).unwrap_or(jiff::Timestamp::MAX)
}
