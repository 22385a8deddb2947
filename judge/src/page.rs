//! The tables of `docs/reference/judgement.md`.
//!
//! Takes incidents; plays every case of them against everybody and gives markdown. What stands on the page outside of
//! its two markers is written by hand and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::case::{Case, cases};
use crate::contender::question::manifest_text;
use crate::contender::{Name, Nobody};
use crate::file::IncidentFile;
use crate::play::play;
use crate::score::Score;

/// The tables stand between these.
const BEGIN: &str = "<!-- tables: written by `make judge` -->";
const END: &str = "<!-- end of tables -->";

/// One case, played by all.
#[derive(Debug)]
pub struct Played {
    case: Case,
    /// Where nobody decides, then in the order of [`Name::ALL`].
    scores: Vec<Score>,
}

/// Plays every case of every incident, on all processors.
///
/// # Errors
/// Where the API refuses the manifest.
pub fn play_all(incidents: &[Arc<IncidentFile>]) -> anyhow::Result<Vec<Played>> {
    let cases: Vec<_> = incidents.iter().flat_map(cases).collect();
    let scores = play_tasks(&cases, &tasks(&cases))?;
    let of = |(place, case): (usize, Case)| {
        let own = (0..PLAYERS).filter_map(|player| scores.get(&(played_for(&cases, place, player), player)));
        Played { scores: own.cloned().collect(), case }
    };
    Ok(cases.iter().cloned().enumerate().map(of).collect())
}

/// A place among the cases, and a player: 0 is nobody, then the contenders in their order.
type Task = (usize, usize);
const PLAYERS: usize = Name::ALL.len() + 1;

/// The longest first: a fleet of a hundred at the end would leave all processors but one idle.
fn tasks(cases: &[Case]) -> Vec<Task> {
    let all = (0..cases.len()).flat_map(|place| (0..PLAYERS).map(move |player| (place, player)));
    let mut tasks: Vec<Task> =
        all.filter(|(place, player)| played_for(cases, *place, *player) == *place).collect();
    tasks.sort_by_key(|(place, _)| std::cmp::Reverse(cases[*place].pods()));
    tasks
}

/// The case that is played for this one: who does not scrape plays all scrape intervals in one.
fn played_for(cases: &[Case], place: usize, player: usize) -> usize {
    let scrapes = player.checked_sub(1).is_some_and(|contender| Name::ALL[contender].scrapes());
    let same =
        |other: &Case| other.incident.name == cases[place].incident.name && other.fleet == cases[place].fleet;
    if scrapes { place } else { cases.iter().position(same).unwrap_or(place) }
}

fn play_tasks(cases: &[Case], tasks: &[Task]) -> anyhow::Result<BTreeMap<Task, Score>> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let work = || {
            while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                let score = play_one(&cases[task.0], task.1);
                results.lock().unwrap_or_else(PoisonError::into_inner).push((*task, score));
            }
        };
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (1..processors).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().map(|(task, score)| Ok((task, score?))).collect()
}

fn play_one(case: &Case, player: usize) -> anyhow::Result<Score> {
    let Some(place) = player.checked_sub(1) else { return Ok(play(case, &mut Nobody, false)) };
    let name = Name::ALL[place];
    Ok(play(case, name.enter(case)?.as_mut(), name.scrapes()))
}

/// The page with its tables replaced; `None` where it lacks the markers.
#[must_use]
pub fn with_tables(page: &str, tables: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{tables}\n{END}{after}"))
}

/// All tables.
#[must_use]
pub fn tables(incidents: &[Arc<IncidentFile>], played: &[Played]) -> String {
    let mut text = String::from("### All incidents\n\n");
    text += &table(&played.iter().collect::<Vec<_>>());
    text += "\n### By fleet size\n\nShare of the bad time that was out of traffic / healthy pods cut.\n\n";
    text += &matrix(played, "pods", |case| case.fleet);
    text += "\n### By scrape interval\n\nShare of the bad time that was out of traffic / healthy pods cut. Those who sit \
             in the path of the requests do not scrape.\n\n";
    text += &matrix(played, "seconds", |case| case.scrape);
    for incident in incidents {
        let own: Vec<_> = played.iter().filter(|p| p.case.incident.name == incident.name).collect();
        let _ = write!(text, "\n### {}\n\n{}.\n\n", incident.name, incident.title);
        text += &table(&own);
    }
    let _ = write!(
        text,
        "\n### The manifest, at a scrape interval of 15 s\n\n```yaml\n{}```\n",
        manifest_text(15)
    );
    text
}

/// Sums of one player over some cases.
fn sum<'a>(played: impl IntoIterator<Item = &'a Played>, player: usize) -> Score {
    let mut sum = Score::default();
    played.into_iter().for_each(|one| sum.add(&one.scores[player]));
    sum
}

fn table(played: &[&Played]) -> String {
    let mut text = String::from(
        "| | bad pods cut | time to cut | bad time out | bad answers avoided | healthy pods cut | healthy pod-minutes out | capacity lost |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let alone = sum(played.iter().copied(), 0);
    for (place, name) in Name::ALL.iter().enumerate() {
        let score = sum(played.iter().copied(), place + 1);
        let _ = writeln!(text, "| {} | {} |", name.as_str(), cells(&score, &alone).join(" | "));
    }
    text
}

fn cells(score: &Score, alone: &Score) -> [String; 7] {
    let cut = format!("{} of {}", score.bad_pods_cut, score.bad_pods);
    [
        if score.bad_pods > 0 { cut } else { "–".into() },
        score.median_delay().map_or("–".into(), |seconds| format!("{seconds} s")),
        percent(score.bad_out, score.bad_time),
        avoided(score.harmed, alone.harmed),
        format!("{} of {}", score.healthy_pods_cut, score.healthy_pods),
        score.healthy_out.div_ceil(60).to_string(),
        percent(score.healthy_out, score.time),
    ]
}

fn percent(part: u64, whole: u64) -> String {
    if whole == 0 { "–".into() } else { format!("{:.1} %", hundredth(part, whole)) }
}

/// Negative where more was answered badly than without anybody: the bad ones got the share of those cut.
fn avoided(harmed: u64, alone: u64) -> String {
    if alone == 0 { "–".into() } else { format!("{:.1} %", 100.0 - hundredth(harmed, alone)) }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn hundredth(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole as f64
}

/// Contenders by a number of the case.
fn matrix(played: &[Played], unit: &str, by: impl Fn(&Case) -> u32) -> String {
    let columns: BTreeSet<u32> = played.iter().map(|one| by(&one.case)).collect();
    let head: Vec<_> = columns.iter().map(|column| format!("{column} {unit}")).collect();
    let mut text = format!("| | {} |\n|---|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for (place, name) in Name::ALL.iter().enumerate() {
        let cell = |column: &u32| {
            let score = sum(played.iter().filter(|one| by(&one.case) == *column), place + 1);
            format!("{} / {}", percent(score.bad_out, score.bad_time), score.healthy_pods_cut)
        };
        let row: Vec<_> = columns.iter().map(cell).collect();
        let _ = writeln!(text, "| {} | {} |", name.as_str(), row.join(" | "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_by_hand_around_the_tables_stays() {
        let page = format!("# Pears\nby hand\n{BEGIN}\nold\n{END}\nand after\n");
        let new = with_tables(&page, "new\n").unwrap();
        assert_eq!(new, format!("# Pears\nby hand\n{BEGIN}\n\nnew\n\n{END}\nand after\n"));
        assert_eq!(with_tables(&new, "new\n").unwrap(), new);
        assert_eq!(with_tables("# Plums", "new"), None);
    }

    #[test]
    fn what_cannot_be_divided_is_a_dash_and_harm_done_is_negative() {
        assert_eq!([percent(1, 0), percent(1, 3)], ["–", "33.3 %"]);
        assert_eq!([avoided(5, 0), avoided(120, 100), avoided(0, 7)], ["–", "-20.0 %", "100.0 %"]);
    }
}
