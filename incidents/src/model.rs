//! What a pod answers: the one function that detectors are judged against.

use std::time::Duration;

use crate::{Incident, Purpose, Seed};

/// The mean of right prices, in units of money.
pub const PRICE_MEAN: f64 = 100.0;
/// Right prices are uniform within this share of the mean on both sides: wide enough that one answer proves
/// nothing, narrow enough that the mean of fifty is within 2 %.
const PRICE_SPREAD: f64 = 0.2;
/// The quickest answer; the slowest takes nine times as long.
const LATENCY_MIN: Duration = Duration::from_millis(10);
const LATENCY_SPREAD: f64 = 8.0;

/// One answer of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// HTTP status: 200 or 500.
    pub code: u16,
    /// The price in it, in units of money; an error has none.
    pub price: Option<f64>,
    /// From request to answer.
    pub latency: Duration,
}

/// A fleet's answers: the timeline and the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    seed: Seed,
    incident: Incident,
}

impl Model {
    /// The fleet that lives through this timeline.
    pub const fn new(seed: Seed, incident: Incident) -> Self {
        Self { seed, incident }
    }

    /// What the pod of this ordinal answers to its request of this number, at this time since the start.
    /// Request numbers need not be in order; each is a draw of its own.
    pub fn answer(&self, pod: u32, request: u64, at: Duration) -> Answer {
        let behaviour = self.incident.behaviour(pod, at);
        let unit = |purpose| self.seed.unit(purpose, u64::from(pod), request);
        let failed = unit(Purpose::Code) < behaviour.error_share();
        let price = PRICE_MEAN * (1.0 + PRICE_SPREAD * (2.0 * unit(Purpose::Price) - 1.0));
        Answer {
            code: if failed { 500 } else { 200 },
            price: (!failed).then_some(price * behaviour.price_factor()),
            latency: latency(unit(Purpose::Latency)),
        }
    }

    /// The timeline.
    pub const fn incident(&self) -> &Incident {
        &self.incident
    }

    /// The timeline, for a script that goes on as the run does. Answers already given stay given: only add
    /// episodes that begin later than those.
    pub const fn incident_mut(&mut self) -> &mut Incident {
        &mut self.incident
    }
}

/// Right-skewed, as latencies are. A cube, not an exponential: the last bit of a logarithm differs between
/// platforms, and a run must not.
fn latency(unit: f64) -> Duration {
    LATENCY_MIN.mul_f64(1.0 + LATENCY_SPREAD * unit * unit * unit)
}
