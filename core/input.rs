//! What a tick looks at.
//!
//! Put together by the owner: the fleet as the cache has it, what the sources have answered, the spec, the gates, the
//! time. The decision takes nothing from elsewhere but its own memory.

use std::time::Duration;

use crate::Now;
use crate::fleet::Fleet;
use crate::gates::Gate;
use crate::plan::Kill;
use crate::policy::ServicePolicy;
use crate::sample::Samples;

/// Everything that a tick looks at.
#[derive(Debug)]
pub struct Input<'a> {
    /// All pods of the service, our writes in flight included.
    pub fleet: &'a Fleet,
    /// Breakers that have been answered since the last tick.
    pub answers: &'a [Answer<'a>],
    /// The last valid spec.
    pub policy: &'a ServicePolicy,
    /// Reasons to hold, of the service.
    pub gates: &'a [Gate],
    /// Evictions stored in the status.
    pub kills: &'a [Kill],
    /// The instant.
    pub now: Now,
    /// For jitter; the same over restarts.
    pub seed: u64,
}

/// What came back for one breaker.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// Its name.
    pub breaker: &'a str,
    /// When it was asked for, by the clock that cannot be moved: the time that its samples speak of.
    pub asked: Duration,
    /// The samples, or `None` where the source failed.
    pub samples: Option<&'a Samples>,
    /// Activity, where the detector asks for it.
    pub activity: Option<&'a Samples>,
}
