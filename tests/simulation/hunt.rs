//! Many seeds at once, what they reached, and the shortest story of one that failed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kubervisor::owner::Decide;
use kubervisor_core::backoff::hash;
use kubervisor_core::gates::Gate;

use super::coverage::{actions, refusals};
use super::drive::{Outcome, run};
use super::script::{Event, Script, What, script};

/// Lines of the trace before a violation that a story shows.
const STORY_LINES: usize = 40;
/// Runs that are spent on making a story shorter.
const SHRINK_RUNS: usize = 60;

/// A run takes a second or two of a processor. One that takes this long spins at one instant of its own, and nothing but
/// the end of the process ends it. Not by the clock: a machine may be busy elsewhere.
const SPINS: Duration = Duration::from_mins(3);

/// What many runs came to.
#[derive(Default)]
pub struct Hunt {
    pub runs: u64,
    pub simulated: Duration,
    /// Of all traces: the same seeds give the same one.
    pub hash: u64,
    pub counts: BTreeMap<String, u64>,
    /// Seeds that failed, with the checker.
    pub failed: BTreeMap<u64, &'static str>,
}

/// Plays seeds `0..seeds`, as many at once as there are processors. Stops early once `enough` seeds have failed.
pub fn hunt(seeds: u64, enough: usize, decide: &(dyn Fn() -> Decide + Sync)) -> Hunt {
    let (next, found) = (AtomicU64::new(0), Mutex::new(Hunt::default()));
    let under_way = Mutex::new(BTreeMap::new());
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || found.lock().unwrap().failed.len() >= enough {
                return;
            }
            under_way.lock().unwrap().insert(seed, worked());
            let outcome = run(&script(seed), &decide());
            under_way.lock().unwrap().remove(&seed);
            // The table comes at the end only.
            if let (true, Some(first)) = (enough > 1, outcome.violations.first()) {
                eprintln!("SEED={seed}: {}: {}", first.checker, first.text);
            }
            found.lock().unwrap().add(seed, &outcome);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        while workers.iter().any(|worker| !worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            // The others work meanwhile, as much each.
            let (now, most) = (worked(), SPINS * u32::try_from(threads).unwrap_or(u32::MAX));
            let spins = |since: Duration| now.saturating_sub(since) > most;
            let spins = under_way.lock().unwrap().iter().find(|(_, since)| spins(**since)).map(|(s, _)| *s);
            if let Some(seed) = spins {
                eprintln!("SEED={seed} does not end: play it with LIVE=1, its last lines say where");
                std::process::abort();
            }
        }
    });
    found.into_inner().unwrap()
}

/// Time that processors have given this process.
fn worked() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

impl Hunt {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.runs += 1;
        self.simulated += outcome.simulated;
        // A sum: in which order the runs end is nobody's.
        self.hash = self.hash.wrapping_add(hash(seed, &outcome.hash.to_le_bytes()));
        for (what, count) in &outcome.counts {
            *self.counts.entry(what.clone()).or_default() += count;
        }
        if let Some(first) = outcome.violations.first() {
            self.failed.insert(seed, first.checker);
        }
    }

    fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    /// Everything that has a name, how often it was there, and how often it must be: faults and actions 100 times,
    /// gates entered and left 20 times, refusals once.
    fn rows(&self) -> Vec<(String, u64, u64)> {
        let row = |what: &str, least| (what.to_owned(), self.of(what), least);
        let mut rows: Vec<_> = Event::NAMES.iter().chain(What::NAMES).map(|name| row(name, 100)).collect();
        rows.extend(actions().map(|name| row(&name, 100)));
        let both = |gate: &&str| [format!("entered {gate}"), format!("left {gate}")];
        rows.extend(Gate::WORDS.iter().flat_map(both).map(|name| row(&name, 20)));
        rows.extend(refusals().map(|name| row(&name, 1)));
        rows.push(row("late loss", 1));
        rows.extend(["key added", "key taken"].map(|name| row(name, 100)));
        rows.push(row("eviction refused by a budget", 1));
        rows
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} runs, {} simulated hours, hash of all traces {:016x}\n",
            self.runs,
            self.simulated.as_secs() / 3_600,
            self.hash
        );
        for (what, times, least) in self.rows() {
            let mark = if times < least { "  TOO RARE" } else { "" };
            let _ = writeln!(text, "{what:<34} {times:>9}  (at least {least}){mark}");
        }
        text
    }

    /// What was reached too rarely.
    pub fn rare(&self) -> Vec<String> {
        self.rows().into_iter().filter(|(_, times, least)| times < least).map(|(what, ..)| what).collect()
    }
}

/// The story of a seed that fails: as little of its script as still makes the same checker speak, and the end of its
/// trace.
pub fn story(seed: u64, decide: &Decide) -> String {
    let whole = script(seed);
    let Some(first) = run(&whole, decide).violations.into_iter().next() else { return "no violation".into() };
    let short = shrink(whole, first.checker, decide);
    let outcome = run(&short, decide);
    let Some(violation) = outcome.violations.iter().find(|v| v.checker == first.checker) else {
        return "the story is lost".into();
    };
    let from = violation.line.saturating_sub(STORY_LINES);
    let lines = outcome.lines[from..violation.line.min(outcome.lines.len())].join("\n");
    let services: Vec<_> = short.services.iter().map(|s| format!("{s:?}")).collect();
    format!(
        "SEED={seed}: {} at {:.3} s: {}\nservices:\n  {}\nevents: {:#?}\nfaults: {:#?}\nthe last lines:\n{lines}\n",
        violation.checker,
        violation.at.as_secs_f64(),
        violation.text,
        services.join("\n  "),
        short.events,
        short.faults,
    )
}

/// Leaves out events and faults, one after the other, while the same checker still speaks.
fn shrink(mut script: Script, checker: &str, decide: &Decide) -> Script {
    let fails = |script: &Script| run(script, decide).violations.iter().any(|v| v.checker == checker);
    let mut runs = 0;
    for index in (0..script.faults.len() + script.events.len()).rev() {
        let mut less = script.clone();
        match index.checked_sub(script.faults.len()) {
            Some(event) => drop(less.events.remove(event)),
            None => drop(less.faults.remove(index)),
        }
        runs += 1;
        if runs <= SHRINK_RUNS && fails(&less) {
            script = less;
        }
    }
    script
}
