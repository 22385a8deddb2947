//! How fast: our programs beside those that people would use without them, measured in turns on one machine.
//!
//! ```text
//!   objects (values from a number) --> stage: a real API server that holds them
//!                                        ^
//!   kubectl: pairs of commands --> meter: one process, its time and memory --> figures --> page
//! ```
//!
//! A ratio is what holds on another machine; times alone do not. Both of a pair run in every round, so that what else
//! the machine does falls on both, and what they print is looked at each time: a fast wrong answer is no figure.
//!
//! - [`objects`]: the KubervisorServices; [`stage`]: writes them as people and the controller do.
//! - [`meter`]: runs one process; [`figures`]: medians, quartiles, ratios; [`page`]: the table.
//! - [`kubectl`]: the pairs. Another group of rows is another file like it, which gives a [`page::Section`].
#![forbid(unsafe_code)]

pub mod figures;
pub mod kubectl;
pub mod meter;
pub mod objects;
pub mod page;
pub mod stage;
