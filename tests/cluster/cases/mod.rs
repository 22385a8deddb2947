//! One file a chapter.

mod api_away;
mod api_faults;
mod brake;
mod chart;
mod credentials;
mod disruptions;
mod events;
mod explain;
mod fence;
mod floor;
mod hands;
mod hooks;
mod keys;
mod killed;
mod lease;
mod main_job;
mod originals;
mod process;
mod quiet;
mod returns;
mod rights;
mod scraped;
mod services;
mod sources;
mod specs;
mod workloads;
