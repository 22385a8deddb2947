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

mod access;
mod address;
mod ask;
mod confine;
mod connector;
mod custom;
mod endpoint;
mod error;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod http;
mod json;
mod logins;
mod pod_list;
mod probe;
mod prometheus;
mod range;
pub mod relayed;
mod sharing;
mod turns;
mod vector;

pub use access::{
    AUTH_LABEL, Access, AccessError, HOST_ANNOTATION, Login, Piece, Secret, Secrets, Tls, Unread,
};
pub use ask::{Asked, Observer, SourceOptions, Sources, SourcesError};
pub use confine::confined;
pub use endpoint::{Endpoint, EndpointError};
pub use error::{ResultType, ServerFault, SourceError};
pub use range::{FIVE_MINUTES, RangeOf, range_of, read_bounded};

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
    /// With what it is asked; nothing where absent.
    pub access: Option<Arc<Access>>,
    /// PromQL.
    pub query: Arc<str>,
    /// The label that holds the pod's name.
    pub pod_label: Arc<str>,
    /// The label that holds its namespace, where a series has it.
    pub namespace_label: Arc<str>,
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
/// it, those that come later get its answer again, failures included. A number must mean one span of time, whatever
/// the asker's period: with the moment at which the period began, in milliseconds, it does.
pub type Slot = u64;

/// Whoever can be asked: [`Sources`] in production, values in tests and in the simulator.
pub trait Source: Send + Sync + 'static {
    /// Answers `question`, or says why not. Dropping the future harms nobody: others who wait for the same answer get
    /// it.
    fn ask<'a>(
        &'a self,
        question: &'a Question,
        slot: Slot,
    ) -> BoxFuture<'a, Result<Arc<Answer>, SourceError>>;

    /// Whether whom it asks bounds the age of samples by the question's `lookback`; `None` while that is not known.
    /// Where it is `Some(false)`, a selector without a range takes samples of up to [`FIVE_MINUTES`].
    fn bounds_age(&self, _question: &PromQuestion) -> Option<bool> {
        None
    }
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
mod testing;
#[cfg(test)]
mod wire_tests;
