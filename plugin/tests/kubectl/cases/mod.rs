//! What people do.

mod see;
