//! One file a chapter.

mod main_job;
