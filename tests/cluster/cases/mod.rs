//! One file a chapter.

mod floor;
mod hands;
mod main_job;
mod services;
