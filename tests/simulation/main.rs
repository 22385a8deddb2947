//! The production controller on a model cluster, under a clock that the test moves: thousands of stories, each from a
//! seed, judged from outside at every step.
//!
//! ```text
//!   seed -> script (stage, events, faults)
//!             |                    client: wire (faults) -> server -> store <- cluster (pods, people, load)
//!             v                  /                                      |
//!   Turn::start of src/turn.rs  --- source: counters of the cluster     +-> watching -> seen (what was delivered)
//!             |                  \ clock: jumps                                            |
//!             +-> every request ----------------------------------> judge: G1 to G9 <------+
//! ```
//! `SEED=n` plays one story and prints it; `SEEDS=n` hunts. Nothing here is a second controller: whatever decides or
//! writes is what `kubervisor run` starts.
#![allow(
    missing_docs,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test ends this way"
)]

mod ask;
mod chance;
mod cluster;
mod coverage;
mod drive;
mod hunt;
mod judge;
mod mutants;
mod object;
#[path = "../stage/parts.rs"]
mod parts;
mod rules;
mod scenes;
mod script;
mod seen;
mod server;
mod sim;
mod source;
mod store;
mod trace;
mod watching;
mod wire;

use std::sync::Arc;

use kubervisor::owner::Decide;
use kubervisor_core::tick::tick;

use drive::run;
use script::script;

/// Seeds that `make test` plays.
const SEEDS: u64 = 200;
/// Seeds that are played twice, in two processes.
const TWICE: u64 = 10;
/// A hunt ends when so many have failed.
const FAILURES: usize = 20;

fn plain() -> Decide {
    Arc::new(tick)
}

/// Each is a wrapper around the same tick; on the same seeds the bare one is green. `MUTANT=words` tries those with these
/// words in their name.
#[test]
fn every_mutation_is_caught_by_a_checker() {
    let (mut caught, mut seeds) = (0, 0);
    let only = std::env::var("MUTANT").unwrap_or_default();
    let chosen: Vec<_> = mutants::ALL.into_iter().filter(|(name, _)| name.contains(&only)).collect();
    for (name, decide) in &chosen {
        let found = hunt::hunt(SEEDS, 1, decide);
        let first = found.failed.iter().next();
        caught += usize::from(first.is_some());
        seeds = seeds.max(found.failed.keys().max().map_or(SEEDS, |seed| seed + 1));
        let by = first.map_or("NOT CAUGHT".into(), |(seed, checker)| format!("{checker} (SEED={seed})"));
        println!("{name:<40} {by}");
    }
    let bare = hunt::hunt(seeds, 1, &plain);
    println!("caught {caught} of {}", chosen.len());
    println!("the same {seeds} seeds without any: {} fail", bare.failed.len());
    assert_eq!((caught, bare.failed.len()), (chosen.len(), 0));
    assert!(!chosen.is_empty(), "no mutation has {only:?} in its name");
}

/// What another process tells of this seed, line by line: chance that a process draws at its start shows too.
fn told_elsewhere(seed: u64) -> Vec<String> {
    let mut play = std::process::Command::new(std::env::current_exe().unwrap());
    play.args(["--exact", "every_seed_keeps_every_guarantee", "--nocapture"]);
    play.env("SEED", seed.to_string()).env_remove("LIVE");
    let told = String::from_utf8(play.output().unwrap().stdout).unwrap();
    told.lines().skip_while(|line| !line.starts_with("story of")).skip(1).map(str::to_owned).collect()
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..TWICE {
        let here = played(seed);
        let there = told_elsewhere(seed);
        assert_eq!(here.lines().zip(&there).find(|(a, b)| a != b), None, "SEED={seed}");
        assert!(there.len() >= here.lines().count(), "SEED={seed} was not played to its end");
    }
}

/// The whole trace of a seed, and its hash.
fn played(seed: u64) -> String {
    let outcome = run(&script(seed), &plain());
    format!("{}\nhash {:016x}", outcome.lines.join("\n"), outcome.hash)
}

/// `SEED=n` plays one story and prints it; `SEEDS=n` hunts through so many, and then every fault, action, gate and
/// refusal must have been there often enough.
#[test]
fn every_seed_keeps_every_guarantee() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        let outcome = run(&script(seed), &plain());
        println!("\nstory of {seed}\n{}\nhash {:016x}", outcome.lines.join("\n"), outcome.hash);
        assert!(outcome.violations.is_empty(), "{}", hunt::story(seed, &plain()));
    } else {
        let hunted = number("SEEDS");
        let found = hunt::hunt(hunted.unwrap_or(SEEDS), FAILURES, &plain);
        println!("{}", found.table());
        let story = |(seed, _): (&u64, &&str)| hunt::story(*seed, &plain());
        let stories: Vec<_> = found.failed.iter().take(1).map(story).collect();
        assert!(found.failed.is_empty(), "{:?}\n{}", found.failed, stories.join("\n"));
        assert!(hunted.is_none_or(|n| n < 1_000) || found.rare().is_empty(), "too rare: {:?}", found.rare());
    }
}
