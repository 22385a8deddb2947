//! The scenes. Each says what happens, waits for what is to come of it, and makes its promises with the figures.

pub mod absence;
pub mod incident;
pub mod release;
