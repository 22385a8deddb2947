//! Where samples come from: Prometheus, and services of the user's own.
//!
//! ```text
//!   Question, slot --> sharing --> server (turns) --> prometheus | custom --> http --> the wire
//!                         |                                  |
//!                  one query a slot                  own parsing of the body
//!                         v                                  v
//!                  Arc<Answer> or SourceError <----------- Samples
//! ```
//!
//! Takes a [`Question`] and the number of the evaluation period; gives an [`Answer`] or a [`SourceError`], always
//! within the question's timeout. Decides nothing, retries nothing (the next period asks again), follows no redirect,
//! and keeps no answer longer than its period is of use.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kubervisor_core::sample::Samples;
use tokio::time::Instant;

mod address;
mod ask;
mod custom;
mod endpoint;
mod error;
mod http;
mod json;
mod pod_list;
mod probe;
mod prometheus;
mod range;
mod sharing;
mod turns;
mod vector;

pub use ask::{Asked, Observer, SourceOptions, Sources, SourcesError};
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ResultType, ServerFault, SourceError};
pub use range::{RangeOf, range_of};

/// What is asked. Two breakers with equal questions share one query: everything that changes the answer is part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Question {
    /// An instant query.
    Prometheus(PromQuestion),
    /// A page that names the bad pods.
    Custom(CustomQuestion),
}

/// An instant query, and how pods are found in its answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromQuestion {
    /// Base of the API.
    pub endpoint: Endpoint,
    /// PromQL.
    pub query: Arc<str>,
    /// The label that holds the pod's name.
    pub pod_label: Arc<str>,
    /// The label that a discrete detector counts by.
    pub key_label: Option<Arc<str>>,
    /// Sent as `lookback_delta`: the age up to which an instant selector takes a sample.
    pub lookback: Duration,
    /// For everything: the wait for a turn, the query, the whole body. Above [`MAX_TIMEOUT`], that.
    pub timeout: Duration,
}

/// A GET whose answer is a v1 PodList of the bad pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomQuestion {
    /// The page, with its path.
    pub endpoint: Endpoint,
    /// For everything: the wait for a turn and the whole body. Above [`MAX_TIMEOUT`], that.
    pub timeout: Duration,
}

/// No question waits longer, whatever its spec says: the highest `customServiceTimeout`.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(30);

/// Number of an evaluation period. Equal questions of one slot share one query: those that come while it runs wait for
/// it, those that come later get its answer again, failures included.
pub type Slot = u64;

/// The slot at `elapsed`, a time since any fixed start that all owners share. Periods of different length never give
/// the same number: it would stand for two spans of time, and the later one would get the earlier one's answer.
#[must_use]
pub fn slot_at(elapsed: Duration, period: Duration) -> Slot {
    // 40 bits for the number (34 years of milliseconds), 24 for the period (4.6 hours of them).
    const NUMBER_BITS: u32 = 40;
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let period = millis(period).max(1);
    let number = (millis(elapsed) / period) & ((1 << NUMBER_BITS) - 1);
    (period << NUMBER_BITS) | number
}

/// Whoever can be asked: [`Sources`] in production, values in tests and in the simulator.
pub trait Source: Send + Sync + 'static {
    /// Answers `question`, or says why not. Dropping the future harms nobody: others who wait for the same answer get
    /// it.
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<Answer>, SourceError>>;
}

/// What a source said. Shared by all who asked the same.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Sorted; `partial` if the source warned.
    pub samples: Samples,
    /// When the request left, after the wait for a turn.
    pub asked_at: Instant,
    /// When the last byte was here, before parsing: from here on the time is ours.
    pub answered_at: Instant,
    /// Series that name no pod.
    pub dropped: usize,
    /// The source's warnings, at most 5 of 200 characters. For the log only: they are the server's words.
    pub warnings: Vec<String>,
}

impl Question {
    /// Whom it asks.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Prometheus(question) => &question.endpoint,
            Self::Custom(question) => &question.endpoint,
        }
    }

    /// How long an answer may take, as its spec says.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Prometheus(question) => question.timeout,
            Self::Custom(question) => question.timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_lasts_one_period_and_belongs_to_it_alone() {
        let (two, five) = (Duration::from_secs(2), Duration::from_secs(5));
        let at = |secs: f64, period| slot_at(Duration::from_secs_f64(secs), period);
        assert_eq!(at(5.0, five), at(9.999, five));
        assert_ne!(at(9.999, five), at(10.0, five));
        assert_ne!(at(7.5, five), at(3.5, two), "the same number, at another time");
        assert_eq!(slot_at(five, Duration::ZERO), slot_at(five, Duration::from_millis(1)));
    }
}
