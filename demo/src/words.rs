//! Figures as people read them.

use std::time::Duration;

/// A part of a whole, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// The part.
    pub part: u64,
    /// The whole.
    pub whole: u64,
}

impl Share {
    /// 0 to 1; of nothing: 0.
    pub fn ratio(self) -> f64 {
        if self.whole == 0 { 0.0 } else { self.part as f64 / self.whole as f64 }
    }

    /// Such as `19.3 %`.
    pub fn percent(self) -> String {
        percent(self.ratio())
    }
}

/// A ratio, 0 to 1, such as `19.3 %`.
pub fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

/// Such as `4.1 s`.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Such as `after 4.1 s`; of none: `never`.
pub fn after(time: Option<Duration>) -> String {
    time.map_or_else(|| "never".to_owned(), |time| format!("after {}", seconds(time)))
}

/// Such as `after 4.1 s and never`.
pub fn after_each(times: &[Option<Duration>]) -> String {
    times.iter().map(|time| after(*time)).collect::<Vec<_>>().join(" and ")
}

/// A time in the play, such as ` 1:04.3`.
pub fn clock(at: Duration) -> String {
    let tenths = at.as_millis() / 100;
    format!("{:>2}:{:02}.{}", tenths / 600, tenths / 10 % 60, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_is_none() {
        assert_eq!(Share { part: 0, whole: 0 }.percent(), "0.0 %");
        assert_eq!(Share { part: 1, whole: 8 }.percent(), "12.5 %");
    }

    #[test]
    fn times_read_as_a_clock() {
        assert_eq!(clock(Duration::from_millis(64_390)), " 1:04.3");
        assert_eq!(after_each(&[Some(Duration::from_millis(4_100)), None]), "after 4.1 s and never");
    }
}
