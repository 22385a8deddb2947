//! What a pod answers: the one function that detectors are judged against.

use std::time::Duration;

use crate::{Draws, Incident, Purpose, Seed, Symptoms};

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
        Voice::new(self.seed, pod).answer(&self.incident.behaviour(pod, at).symptoms(), request)
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

/// The answers of one pod, for whoever asks it often and knows how it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voice {
    code: Draws,
    price: Draws,
    latency: Draws,
}

impl Voice {
    /// Of the pod of this ordinal.
    #[inline]
    pub const fn new(seed: Seed, pod: u32) -> Self {
        let pod = pod as u64;
        Self {
            code: seed.draws(Purpose::Code, pod),
            price: seed.draws(Purpose::Price, pod),
            latency: seed.draws(Purpose::Latency, pod),
        }
    }

    /// Whether its request of this number is answered 500.
    #[inline]
    pub fn fails(&self, symptoms: &Symptoms, request: u64) -> bool {
        self.code.unit(request) < symptoms.error_share
    }

    /// What it answers to its request of this number.
    #[inline]
    pub fn answer(&self, symptoms: &Symptoms, request: u64) -> Answer {
        let failed = self.fails(symptoms, request);
        let price = PRICE_MEAN * (1.0 + PRICE_SPREAD * (2.0 * self.price.unit(request) - 1.0));
        Answer {
            code: if failed { 500 } else { 200 },
            price: (!failed).then_some(price * symptoms.price_factor + symptoms.price_offset),
            latency: latency(self.latency.unit(request), symptoms.latency_factor),
        }
    }
}

/// Right-skewed, as latencies are. A cube, not an exponential: the last bit of a logarithm differs between
/// platforms, and a run must not.
fn latency(unit: f64, factor: f64) -> Duration {
    LATENCY_MIN.mul_f64(factor * (1.0 + LATENCY_SPREAD * unit * unit * unit))
}
