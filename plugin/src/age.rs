//! Ages as kubectl prints them.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// A span of time in seconds, by the rules of kubectl (`HumanDuration` of k8s.io/apimachinery): two units at most, the
/// smaller one left out where it says little.
#[must_use]
pub fn human(seconds: i64) -> String {
    // Of two units, the second only where it is not 0.
    let two = |big: i64, mark: char, small: i64, unit: char| match small {
        0 => format!("{big}{mark}"),
        small => format!("{big}{mark}{small}{unit}"),
    };
    match seconds {
        // Clocks of two machines differ a little.
        ..-1 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        s if s < 2 * MINUTE => format!("{s}s"),
        s if s < 10 * MINUTE => two(s / MINUTE, 'm', s % MINUTE, 's'),
        s if s < 3 * HOUR => format!("{}m", s / MINUTE),
        s if s < 8 * HOUR => two(s / HOUR, 'h', s % HOUR / MINUTE, 'm'),
        s if s < 2 * DAY => format!("{}h", s / HOUR),
        s if s < 8 * DAY => two(s / DAY, 'd', s % DAY / HOUR, 'h'),
        s if s < 2 * YEAR => format!("{}d", s / DAY),
        s if s < 8 * YEAR => two(s / YEAR, 'y', s % YEAR / DAY, 'd'),
        s => format!("{}y", s / YEAR),
    }
}

/// How long ago that was; `<unknown>` where it is no time, as kubectl has it.
#[must_use]
pub fn since(time: Option<&str>, now: Timestamp) -> String {
    match time.and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(at) => human(now.duration_since(at).as_secs()),
        None => "<unknown>".to_owned(),
    }
}

/// How long until then, or that it is over.
#[must_use]
pub fn until(time: Timestamp, now: Timestamp) -> String {
    match time.duration_since(now).as_secs() {
        ..=0 => "now".to_owned(),
        seconds => format!("in {}", human(seconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        let cases = [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (12_000, "3h20m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (180_000, "2d2h"),
            (691_200, "8d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text, "{seconds} s");
        }
    }

    #[test]
    fn what_is_no_time_has_no_age() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(since(Some("2023-11-14T22:13:10Z"), now), "10s");
        assert_eq!(since(Some("yesterday"), now), "<unknown>");
        assert_eq!(since(None, now), "<unknown>");
        assert_eq!(until(now, now), "now");
    }
}
