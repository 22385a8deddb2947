//! `kubectl kubervisor check`: manifests as the API server, the controller and an experienced colleague would read them,
//! without a cluster.
//!
//! ```text
//!   -f FILE... --> read --> validate (schema) --> lint, sums --> report --> text | JSON | YAML, exit code
//!                   |           |                   |
//!                   +-----------+-------------------+--> findings, by the table in rules
//! ```
//! `promql` says what a query's result can hold. Nothing here talks to a cluster.

mod finding;
mod lint;
mod object;
mod promql;
mod read;
mod report;
mod rules;
mod schema;
mod sums;
#[cfg(test)]
mod testing;
mod validate;

use std::fmt;
use std::io::IsTerminal as _;

use kubervisor::sources::Endpoint;

use crate::args::{CheckArgs, Reach};
use crate::out;
use finding::Finding;
use lint::Seen;
use lint::doors::Doors;
use read::Input;
pub use rules::{RULES, Row, Rule, Severity};
use sums::Sums;
use validate::Validator;

/// Everything was said on standard output; what is left is the exit code.
#[derive(Debug)]
pub struct Faulty;

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the manifests have faults")
    }
}

impl std::error::Error for Faulty {}

/// What is known beside the manifests.
#[derive(Debug, Default)]
struct Asked {
    replicas: Option<u32>,
    prometheus: Option<Endpoint>,
}

/// All that is reported.
#[derive(Debug)]
struct Checked {
    findings: Vec<Finding>,
    sums: Vec<Sums>,
    files: usize,
    objects: usize,
    policies: usize,
    others: usize,
}

/// Checks and prints.
///
/// # Errors
/// [`Faulty`], or standard output is closed.
pub fn run(args: &CheckArgs, reach: &Reach) -> anyhow::Result<()> {
    let namespace = reach.namespace.as_deref().unwrap_or("default");
    let input = read::read(&args.files, std::io::stdin(), namespace);
    let asked = Asked { replicas: args.replicas, prometheus: args.prometheus_url.clone() };
    let checked = check(input, &asked);
    let text = match args.output {
        Some(form) => report::document(&checked, args.strict, form)?,
        None => report::text(&checked, coloured(std::io::stdout().is_terminal())),
    };
    // What was found counts, also where nobody reads to the end.
    let printed = out::print(&text);
    if report::passes(&checked, args.strict) { printed } else { Err(Faulty.into()) }
}

/// As <https://no-color.org> asks.
fn coloured(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
}

fn check(input: Input, asked: &Asked) -> Checked {
    let Input { files, objects, others, mut findings } = input;
    let validator = Validator::new(asked.prometheus.as_ref());
    let policies: Vec<_> = objects.iter().filter_map(|o| validator.validate(o, &mut findings)).collect();
    let doors = Doors::new(&objects, &policies);
    let seen = Seen { objects: &objects, policies: &policies, doors: &doors };
    findings.extend(lint::lint(seen));
    let sums = policies.iter().filter_map(|p| sums::sums(p, asked.replicas, seen, &mut findings)).collect();
    // Documents in the order of the input; what is found in one, in the order of the stages. A folder has no place in it.
    let at = |file: &String| files.iter().position(|known| known == file);
    findings.sort_by_cached_key(|finding| (at(&finding.place.file), finding.place.document));
    Checked { findings, sums, files: files.len(), objects: objects.len(), policies: policies.len(), others }
}
