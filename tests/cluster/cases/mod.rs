//! One file a chapter.

mod api_away;
mod api_faults;
mod floor;
mod hands;
mod main_job;
mod process;
mod returns;
mod quiet;
mod services;
mod sources;
mod specs;
