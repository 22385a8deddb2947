//! `valueOutOfRange`: a value beyond a fixed bound.

use crate::verdict::{Evidence, Measured, SEVERITY_MAX};

/// The rule: v < min or v > max.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// Lower bound.
    pub min: Option<f64>,
    /// Upper bound.
    pub max: Option<f64>,
    /// Activity below which nothing is said, where an activity query is given.
    pub min_activity: Option<f64>,
}

impl Bounds {
    /// The measure of one value: 1 at a bound, more beyond it and less within, by the distance in parts of the bound or
    /// of the width of the range, whichever is more.
    pub(super) fn measure(&self, value: f64) -> Measured {
        let Self { min, max, .. } = *self;
        let width = max.zip(min).map_or(0.0, |(max, min)| (max - min).abs());
        let above = max.map(|max| (value - max, max.abs().max(width)));
        let below = min.map(|min| (min - value, min.abs().max(width)));
        let margin = |(distance, scale): (f64, f64)| match distance {
            _ if scale > 0.0 => 1.0 + distance / scale,
            beyond if beyond > 0.0 => SEVERITY_MAX,
            _ => 0.0,
        };
        let beyond = [above, below].into_iter().flatten().any(|(distance, _)| distance > 0.0);
        let margin = [above, below].into_iter().flatten().map(margin).fold(0.0, f64::max);
        Measured::new(beyond, margin, Evidence::Bounds { value, min, max })
    }
}
