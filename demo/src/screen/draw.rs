//! The view as lines of text, for a terminal of a given size. Pure.

use std::collections::VecDeque;

use super::{Entry, Glyph, Row, Standing, View};
use crate::script::PODS;
use crate::words::{Share, clock};

/// Room for ordinal, name and standing before a row's history, and for the load after it.
const BEFORE_HISTORY: usize = 40;
const AFTER_HISTORY: usize = 9;
/// Lines that are not entries or rows: title, two blanks, sums, legend.
const FIXED_LINES: usize = 5;
/// Seconds over which the client error rate is told.
const RATE_SECONDS: usize = 2;

/// How a stretch of text is meant; the terminal decides on a colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Draws the eye.
    Strong,
    /// All is well.
    Good,
    /// Something is wrong.
    Bad,
    /// Something is odd.
    Odd,
    /// Steps back.
    Faint,
}

/// A stretch of text in one tone.
pub type Span = (Tone, String);

/// A line, no longer than the terminal is wide.
pub type Line = Vec<Span>;

/// Draws the view, at most `height` lines of at most `width` characters; entries give way first.
pub fn draw(view: &View, width: usize, height: usize) -> Vec<Line> {
    let mut lines = vec![title(view), vec![]];
    lines.extend(view.rows.iter().map(|(ordinal, row)| pod(*ordinal, row, width)));
    lines.extend([vec![], sums(view), legend()]);
    let room = height.saturating_sub(FIXED_LINES + view.rows.len());
    let skipped = view.entries.len().saturating_sub(room);
    lines.extend(view.entries.iter().skip(skipped).map(|entry| vec![(Tone::Plain, text(entry))]));
    lines.truncate(height);
    lines.into_iter().map(|line| clip(line, width)).collect()
}

/// An entry as one line, also where nothing is drawn.
pub fn text(entry: &Entry) -> String {
    let Entry { at, what, text } = entry;
    format!("{}  {what:<9} {text}", clock(*at))
}

fn title(view: &View) -> Line {
    vec![
        (Tone::Strong, format!("{}  {}", clock(view.at), view.title)),
        plain(format!("   {}", view.controller)),
    ]
}

fn pod(ordinal: u32, row: &Row, width: usize) -> Line {
    let room = width.saturating_sub(BEFORE_HISTORY + AFTER_HISTORY);
    let skipped = row.history.len().saturating_sub(room);
    let head = format!("{:>3} {:<26.26} {:<8}", ordinal + 1, row.name, row.standing.word());
    let mut line = vec![plain(format!("{head:<BEFORE_HISTORY$.BEFORE_HISTORY$}"))];
    for glyph in row.history.iter().skip(skipped) {
        let (tone, sign) = sign(*glyph);
        match line.last_mut() {
            Some((last, text)) if *last == tone => text.push(sign),
            _ => line.push((tone, sign.to_string())),
        }
    }
    line.push(plain(" ".repeat(room.saturating_sub(row.history.len()))));
    line.push(plain(format!("{:>AFTER_HISTORY$}", row.load.percent())));
    line
}

const fn sign(glyph: Glyph) -> (Tone, char) {
    match glyph {
        Glyph::Well => (Tone::Good, '·'),
        Glyph::Errors => (Tone::Bad, '✗'),
        Glyph::WrongPrices => (Tone::Odd, '$'),
        Glyph::Out(Standing::Paused) => (Tone::Faint, '‖'),
        Glyph::Out(Standing::Waiting | Standing::Serving) => (Tone::Faint, '…'),
        Glyph::Out(Standing::Cut) => (Tone::Faint, '○'),
        Glyph::Out(Standing::Gone) => (Tone::Faint, ' '),
    }
}

fn sums(view: &View) -> Line {
    let recent = view.failed.iter().rev().take(RATE_SECONDS);
    let failed = recent.fold(Share::default(), |sum, second| Share {
        part: sum.part + second.part,
        whole: sum.whole + second.whole,
    });
    let load = view.failed.back().map_or(0, |second| second.whole);
    let tone = if failed.ratio() > 0.05 { Tone::Bad } else { Tone::Good };
    vec![
        (Tone::Strong, format!("serving {} of {PODS}", view.serving)),
        plain(format!("   {load} requests/s   client errors ")),
        (tone, failed.percent()),
        plain("  ".to_owned()),
        (tone, sparkline(&view.failed)),
    ]
}

fn legend() -> Line {
    vec![(Tone::Faint, "· well   ✗ answers 500   $ wrong prices   ○ cut   ‖ paused   … waiting".to_owned())]
}

/// The last minute's errors, a sign a second; a full block is one in two or more.
fn sparkline(failed: &VecDeque<Share>) -> String {
    const SIGNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let sign = |second: &Share| {
        let eighths = (second.ratio() * 16.0).min(7.0);
        // The smallest sign that is not below the share.
        SIGNS
            .into_iter()
            .zip(0u8..)
            .find(|(_, level)| f64::from(*level) >= eighths)
            .map_or('█', |(sign, _)| sign)
    };
    failed.iter().skip(failed.len().saturating_sub(60)).map(sign).collect()
}

fn plain(text: String) -> Span {
    (Tone::Plain, text)
}

fn clip(line: Line, width: usize) -> Line {
    let mut room = width;
    let mut clipped = Vec::with_capacity(line.len());
    for (tone, text) in line {
        let kept: String = text.chars().take(room).collect();
        room -= kept.chars().count();
        clipped.push((tone, kept));
    }
    clipped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use incidents::{Counters, Episode, Incident, Load, Model, Pods, Seed};

    use super::*;
    use crate::workload::{Clients, Pod, Workload};

    /// Three seconds of two pods: one well, one that answers 500 in the second second and is out in the third.
    fn view() -> View {
        let behaviour = incidents::Behaviour::Failing { share: 1.0 };
        let second = Duration::from_secs(1);
        let incident = Incident::new(incidents::Behaviour::Healthy { error_share: 0.0 });
        let ill = Episode { pods: Pods::One(1), from: second, until: None, behaviour };
        let mut workload =
            Workload::new(Model::new(Seed::new(5), incident.with(ill)), Load::new(Seed::new(5), 40));
        let names = ["web-7c9-green".to_owned(), "web-7c9-red".to_owned()];
        names.iter().for_each(|name| workload.enrol(name));
        let mut view = View { title: "two fail".to_owned(), serving: 1, ..View::default() };
        let red = |standing| [Standing::Serving, standing];
        for (n, standings) in
            [Standing::Serving, Standing::Serving, Standing::Cut].map(red).into_iter().enumerate()
        {
            view.at = second * u32::try_from(n).expect("three");
            let endpoints = if n == 2 { &names[..1] } else { &names };
            workload.serve(endpoints, view.at + second / 2);
            let standing = |pod: &Pod| standings[pod.ordinal as usize];
            view.second(
                workload.clients(),
                workload.pods().iter().map(|(name, pod)| (name, pod, standing(pod))),
            );
        }
        view.enter(Entry {
            at: second * 2,
            what: "cut".to_owned(),
            text: "web-7c9-red: 99 % bad".to_owned(),
        });
        view
    }

    fn drawn(view: &View, width: usize, height: usize) -> Vec<String> {
        let join =
            |line: Line| line.into_iter().map(|(_, text)| text).collect::<String>().trim_end().to_owned();
        draw(view, width, height).into_iter().map(join).collect()
    }

    #[test]
    fn a_screen_shows_pods_traffic_errors_and_acts() {
        assert_eq!(
            drawn(&view(), 70, 24),
            [
                " 0:02.0  two fail",
                "",
                "  1 web-7c9-green              serving  ···                    100.0 %",
                "  2 web-7c9-red                cut      ·✗○                      0.0 %",
                "",
                "serving 1 of 10   40 requests/s   client errors 21.2 %  ▁█▁",
                "· well   ✗ answers 500   $ wrong prices   ○ cut   ‖ paused   … waiting",
                " 0:02.0  cut       web-7c9-red: 99 % bad",
            ]
        );
    }

    #[test]
    fn a_small_terminal_keeps_the_latest_entries_and_the_latest_seconds() {
        let mut view = view();
        (0..9).for_each(|n| {
            view.enter(Entry { at: Duration::from_secs(n), what: n.to_string(), text: String::new() });
        });
        let lines = drawn(&view, 51, 9);
        assert_eq!(lines.len(), 9);
        assert_eq!(lines[8], " 0:08.0  8");
        assert!(lines[3].contains("✗○") && !lines[3].contains("·✗○"), "{}", lines[3]);
    }

    #[test]
    fn no_line_is_wider_and_no_screen_higher_than_the_terminal() {
        for (width, height) in [(0, 0), (1, 1), (20, 3), (49, 30), (80, 24), (300, 100)] {
            let lines = drawn(&view(), width, height);
            assert!(lines.len() <= height && lines.iter().all(|line| line.chars().count() <= width));
        }
    }

    #[test]
    fn errors_show_by_their_share() {
        let shares = [0, 1, 25, 50, 100].map(|part| Share { part, whole: 100 });
        assert_eq!(sparkline(&shares.into_iter().collect()), "▁▂▅██");
    }

    #[test]
    fn a_gone_pod_keeps_its_row() {
        let mut view = view();
        let gone = Pod { ordinal: 1, counters: Counters::default(), gone: true };
        let name = "web-7c9-red".to_owned();
        view.rows.remove(&1);
        view.second(Clients { requests: 200, errors: 60 }, [(&name, &gone, Standing::Gone)]);
        assert!(drawn(&view, 70, 24)[3].contains("gone"));
    }
}
