//! The tables of `docs/reference/benchmarks.md`.
//!
//! Takes what was compared; gives markdown. What stands on the page outside of its two markers is written by hand and
//! kept.

use std::fmt::Write as _;

use crate::figures::{Compared, Typical};

/// The tables stand between these.
const BEGIN: &str = "<!-- tables: written by `make bench` -->";
const END: &str = "<!-- end of tables -->";

/// A group of rows that were measured together.
#[derive(Debug)]
pub struct Section {
    /// Its header.
    pub title: &'static str,
    /// What was measured: builds, sizes, machine, rounds.
    pub what: String,
    /// Whom ours is compared with.
    pub theirs: &'static str,
    /// In the order in which they are shown.
    pub rows: Vec<Row>,
}

/// One comparison.
#[derive(Debug)]
pub struct Row {
    /// Our command.
    pub ours: String,
    /// Theirs.
    pub theirs: String,
    /// What came of it.
    pub compared: Compared,
}

/// All sections.
#[must_use]
pub fn text(sections: &[Section]) -> String {
    sections.iter().map(section).collect::<Vec<_>>().join("\n")
}

fn section(section: &Section) -> String {
    let Section { title, what, theirs, rows } = section;
    let mut text = format!(
        "### {title}\n\n{what}\n\n\
         | ours | {theirs} | ratio | quartiles | our time | {theirs}'s | our processor time | {theirs}'s | our memory | {theirs}'s |\n\
         |---|---|---|---|---|---|---|---|---|---|\n"
    );
    for Row { ours, theirs, compared } in rows {
        let Compared { ratio, ours: our, theirs: their } = compared;
        let _ = writeln!(
            text,
            "| `{ours}` | `{theirs}` | **{:.2}** | {:.2} to {:.2} | {} |",
            ratio.median,
            ratio.low,
            ratio.high,
            cells(our, their).join(" | "),
        );
    }
    text
}

fn cells(ours: &Typical, theirs: &Typical) -> [String; 6] {
    [
        time(ours.seconds),
        time(theirs.seconds),
        time(ours.busy_seconds),
        time(theirs.busy_seconds),
        memory(ours.peak_bytes),
        memory(theirs.peak_bytes),
    ]
}

fn time(seconds: f64) -> String {
    let digits = if seconds < 0.1 { 1 } else { 0 };
    format!("{:.digits$} ms", seconds * 1_000.0)
}

fn memory(bytes: u64) -> String {
    format!("{} MB", (bytes + 500_000) / 1_000_000)
}

/// The page with its tables replaced; `None` where it lacks the markers.
#[must_use]
pub fn with_tables(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Spread;

    #[test]
    fn a_row_has_both_commands_their_medians_the_ratio_and_its_quartiles() {
        let compared = Compared {
            ratio: Spread { low: 0.04, median: 0.051, high: 0.06 },
            ours: Typical { seconds: 0.0123, busy_seconds: 0.0051, peak_bytes: 11_400_000 },
            theirs: Typical { seconds: 0.246, busy_seconds: 0.1, peak_bytes: 45_600_000 },
        };
        let row = Row { ours: "pears".into(), theirs: "plums".into(), compared };
        let sections = [Section { title: "Fruit", what: "Ripe.".into(), theirs: "kitchen", rows: vec![row] }];
        let text = text(&sections);
        assert!(text.starts_with("### Fruit\n\nRipe.\n\n| ours | kitchen |"), "{text}");
        let row = "| `pears` | `plums` | **0.05** | 0.04 to 0.06 | 12.3 ms | 246 ms | 5.1 ms | 100 ms | 11 MB | 46 MB |\n";
        assert!(text.ends_with(row), "{text}");
        let cells: Vec<_> =
            text.lines().filter(|line| line.starts_with('|')).map(|line| line.matches('|').count()).collect();
        assert_eq!(cells, [11, 11, 11]);
    }

    #[test]
    fn the_page_that_is_checked_in_can_be_written_again_and_keeps_what_is_written_by_hand() {
        let page = include_str!("../../docs/reference/benchmarks.md");
        let new = with_tables(page, "new\n").unwrap();
        assert!(new.contains("\n\nnew\n\n<!-- end of tables -->"), "{new}");
        let outside = |page: &str| {
            let end = page.split_once(END).map(|(_, after)| after.to_owned());
            (page.split_once(BEGIN).map(|(before, _)| before.to_owned()), end)
        };
        assert_eq!(outside(&new), outside(page));
        assert_eq!(with_tables("# Plums", "new"), None);
    }
}
