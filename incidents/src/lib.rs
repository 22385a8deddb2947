//! What a fleet of pods answers, healthy or not, as pure values from a seed.
//!
//! ```text
//!   Seed ──► Load     which request is sent when, and to which of the endpoints there are
//!     └────► Model    what the pod answers to it:  Incident (who is bad, when, how) ──► Answer
//!                                                                                        │
//!                              Counters (what the pod's /metrics would say)  ◄───────────┘
//! ```
//!
//! Takes a seed, a timeline of episodes and a time since the start; gives answers and counters. Knows no
//! clock, no cluster and no chance of its own: the same seed gives the same run, on every machine. Every
//! draw is a hash of (seed, purpose, pod, request), not the next number of a sequence, so that a pod more,
//! an episode more or another order of requests changes no answer of anybody else.
//!
//! It is the one model of misbehaving pods here: the demo answers its clients from it, and `judge` its incidents.
//!
//! ```
//! use std::time::Duration;
//! use incidents::{Behaviour, Episode, Incident, Model, Pods, Seed};
//!
//! let incident = Incident::new(Behaviour::Healthy { error_share: 0.0 }).with(Episode {
//!     pods: Pods::One(3),
//!     from: Duration::from_secs(10),
//!     until: None,
//!     behaviour: Behaviour::Failing { share: 1.0 },
//! });
//! let model = Model::new(Seed::new(42), incident);
//! assert_eq!(model.answer(3, 0, Duration::from_secs(9)).code, 200);
//! assert_eq!(model.answer(3, 1, Duration::from_secs(10)).code, 500);
//! assert_eq!(model.answer(4, 1, Duration::from_secs(10)).code, 200);
//! ```

mod counters;
mod incident;
mod load;
mod model;
mod seed;

pub use counters::Counters;
pub use incident::{Behaviour, Episode, Incident, Pods, Symptoms};
pub use load::Load;
pub use model::{Answer, Model, PRICE_MEAN, Voice};
pub use seed::{Draws, Purpose, Seed};
