//! The promises of a tick, each by its name.

mod clocks;
mod cuts;
mod doubts;
mod evidence;
mod ladder;
mod returns;
mod unknown;
mod wishes;
