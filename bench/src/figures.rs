//! Medians, quartiles and ratios of what was measured. Pure.

use crate::meter::Taken;

/// The middle of some numbers, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half of them are below.
    pub median: f64,
    /// A quarter is below.
    pub low: f64,
    /// A quarter is above.
    pub high: f64,
}

/// Ours beside theirs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compared {
    /// Ours over theirs in time, of each round: what slows a whole round down is in neither.
    pub ratio: Spread,
    /// What ours took.
    pub ours: Typical,
    /// What theirs took.
    pub theirs: Typical,
}

/// What a command takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Typical {
    /// In most rounds: the median.
    pub seconds: f64,
    /// Of processors: the median.
    pub busy_seconds: f64,
    /// Of all rounds: the most.
    pub peak_bytes: u64,
}

/// Of numbers in any order; `None` of no numbers.
#[must_use]
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |quarters| quantile(&sorted, quarters);
    Some(Spread { low: at(1)?, median: at(2)?, high: at(3)? })
}

/// Between the two nearest where it falls on none, as R and numpy have it by default.
fn quantile(sorted: &[f64], quarters: usize) -> Option<f64> {
    let steps = quarters * sorted.len().checked_sub(1)?;
    let (below, rest) = (steps / 4, steps % 4);
    let low = *sorted.get(below)?;
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    #[expect(clippy::cast_precision_loss, reason = "0 to 3")]
    let share = rest as f64 / 4.0;
    Some(low + (high - low) * share)
}

/// Rounds, each with ours and theirs; `None` of no rounds.
#[must_use]
pub fn compare(rounds: &[(Taken, Taken)]) -> Option<Compared> {
    let ratios: Vec<_> = rounds.iter().map(|(ours, theirs)| ours.seconds / theirs.seconds).collect();
    let (ours, theirs): (Vec<_>, Vec<_>) = rounds.iter().copied().unzip();
    Some(Compared { ratio: spread(&ratios)?, ours: typical(&ours)?, theirs: typical(&theirs)? })
}

fn typical(rounds: &[Taken]) -> Option<Typical> {
    let median = |of: fn(&Taken) -> f64| spread(&rounds.iter().map(of).collect::<Vec<_>>());
    Some(Typical {
        seconds: median(|taken| taken.seconds)?.median,
        busy_seconds: median(|taken| taken.busy_seconds)?.median,
        peak_bytes: rounds.iter().map(|taken| taken.peak_bytes).max()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(seconds: f64, peak_bytes: u64) -> Taken {
        Taken { seconds, busy_seconds: seconds / 8.0, peak_bytes }
    }

    #[test]
    fn the_median_and_the_quartiles_lie_on_numbers_or_between_the_nearest() {
        let of = |values: &[f64]| spread(values).map(|s| [s.low, s.median, s.high]);
        assert_eq!(of(&[5.0, 1.0, 3.0, 2.0, 4.0]), Some([2.0, 3.0, 4.0]));
        assert_eq!(of(&[1.0, 2.0, 3.0, 4.0]), Some([1.75, 2.5, 3.25]));
        assert_eq!(of(&[7.0]), Some([7.0, 7.0, 7.0]));
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_ratio_is_that_of_each_round_and_not_of_the_medians() {
        // The machine grows slower all the time; ours takes half of theirs in each round.
        let rounds =
            [(took(1.0, 30), took(2.0, 50)), (took(4.0, 20), took(8.0, 90)), (took(9.0, 10), took(18.0, 60))];
        let compared = compare(&rounds).unwrap();
        assert_eq!(compared.ratio, Spread { low: 0.5, median: 0.5, high: 0.5 });
        assert_eq!(compared.ours, Typical { seconds: 4.0, busy_seconds: 0.5, peak_bytes: 30 });
        assert_eq!(compared.theirs, Typical { seconds: 8.0, busy_seconds: 1.0, peak_bytes: 90 });
        assert_eq!(compare(&[]), None);
    }
}
