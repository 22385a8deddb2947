//! How good are the verdicts: labelled incidents, played against Kubervisor and its peers.
//!
//! ```text
//!   file (YAML) --> case: one fleet size, one scrape interval --> play --> score --> page
//!                     who is alive, who is bad, what each answers    ^
//!                                                                    | who is out, each second
//!                     world: requests, counters, scrapes  <------>  contender
//! ```
//!
//! - [`file`]: an incident as people write it; [`case`]: one of its fleets, as a function of the second.
//! - [`world`]: requests are spread over the pods that are not out; what they count is scraped. [`scrapes`] answers
//!   what PromQL's `increase` would.
//! - [`contender`]: decides each second who is out. Ours is the production code: the API's parser, the cache, the
//!   tick, the patches. The others are written from their published rules.
//! - [`play`]: one case against one contender. [`score`]: what it cost and what it saved. [`page`]: the tables.
//!
//! Everything is drawn from the incident's name: the same files give the same page, to the last digit.
#![forbid(unsafe_code)]

pub mod case;
pub mod contender;
pub mod file;
pub mod page;
pub mod play;
pub mod score;
pub mod scrapes;
pub mod world;
