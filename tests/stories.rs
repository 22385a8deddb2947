//! That every refusal and every story has a test under its name. Reads the sources: a test that is renamed or taken away
//! is missed here, and a new variant of a refusal as soon as it is written.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Enums of reasons, and how the name of the test that produces each of them begins.
const REASONS: [(&str, &str, &str); 6] = [
    ("core/plan.rs", "Why", "refused_for_"),
    ("core/gates.rs", "Gate", "refused_for_gate_"),
    ("core/budget.rs", "Limit", "refused_for_limit_"),
    ("core/plan.rs", "RestoreReason", "restored_for_"),
    ("core/verdict.rs", "Unknown", "unknown_for_"),
    ("src/cluster/writes.rs", "NotSent", "not_sent_for_"),
];

#[test]
fn every_reason_is_produced_by_a_test_named_after_it() {
    let tests = all_tests();
    let mut missing = Vec::new();
    for (file, name, begins) in REASONS {
        let source = read(file);
        let variants = variants(&source, name);
        assert!(variants.len() > 2, "{file} has only {variants:?} in {name}");
        let wanted = variants.iter().map(|variant| format!("{begins}{}", snake(variant)));
        missing.extend(wanted.filter(|wanted| !tests.iter().any(|test| named(test, wanted))));
    }
    assert!(missing.is_empty(), "no test has a name that begins with {missing:?}");
}

#[test]
fn a_reason_without_a_test_is_found() {
    let source = "pub enum Why {\n    /// A.\n    NoSlot(u32),\n    /// B.\n    Gate {\n        /// C.\n        Why: u8,\n    },\n    Quiet,\n}\nenum B {\n    X,\n}";
    assert_eq!(variants(source, "Why"), ["NoSlot", "Gate", "Quiet"]);
    assert_eq!(snake("NoSlot"), "no_slot");
    assert!(
        named("refused_for_no_slot", "refused_for_no_slot")
            && !named("refused_for_no", "refused_for_no_slot")
    );
    assert!(
        named("refused_for_no_slot_at_all", "refused_for_no_slot")
            && !named("refused_for_noon", "refused_for_no")
    );
    let tests = tests_of(
        "#[test]\nfn a() {}\nfn b() {}\n    #[tokio::test(start_paused = true)]\n    async fn c() {}",
    );
    assert_eq!(tests, ["a", "c"]);
}

#[test]
fn every_story_has_its_tests_and_every_fault_of_the_original_its_story() {
    let (page, tests) = (read("docs/reference/stories.md"), all_tests());
    let (faults, field) = page.split_once("\n## The field's\n").unwrap();
    let (faults, field) = (rows(faults), rows(field));
    assert!(faults.len() >= 20 && field.len() >= 50, "{} faults, {} stories", faults.len(), field.len());
    for (story, names) in faults.iter().chain(&field) {
        assert!(!names.is_empty(), "no test tells {story:?}");
        let missing: Vec<_> = names.iter().filter(|name| !tests.contains(**name)).collect();
        assert!(missing.is_empty(), "{story:?} is told by {missing:?}, and there is no such test");
    }
    let told: BTreeSet<_> =
        faults.iter().flat_map(|(_, names)| names.iter().map(|name| (*name).to_owned())).collect();
    let own: BTreeSet<_> = tests_of(&read("tests/original_faults.rs")).into_iter().collect();
    assert_eq!(told, own);
}

#[test]
fn every_rule_of_security_has_its_tests() {
    let (page, tests) = (read("SECURITY.md"), all_tests());
    let rules = rows(&page);
    assert!(rules.len() >= 10, "{} rules", rules.len());
    for (rule, names) in &rules {
        assert!(!names.is_empty(), "nothing shows {rule:?}");
        let missing: Vec<_> = names.iter().filter(|name| !tests.contains(**name)).collect();
        assert!(missing.is_empty(), "{rule:?} is shown by {missing:?}, and there is no such test");
    }
}

/// The rows of the tables of a page, their head left out: a story, and the names in its second column.
fn rows(page: &str) -> Vec<(&str, Vec<&str>)> {
    let cells =
        page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    let rows = cells.filter(|(_, tests)| !matches!(*tests, "test" | "tests"));
    rows.map(|(story, tests)| (story, tests.split('`').filter(|name| !name.trim().is_empty()).collect()))
        .collect()
}

/// Whether a test's name is that one, or begins with it as whole words.
fn named(test: &str, begins: &str) -> bool {
    test.strip_prefix(begins).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// Names of the variants of an enum, as they are written.
fn variants<'s>(source: &'s str, name: &str) -> Vec<&'s str> {
    let (_, body) = source.split_once(&format!("pub enum {name} {{\n")).unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let own = body.lines().filter_map(|line| line.strip_prefix("    "));
    let starts = own.filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    starts.map(|line| line.split(|c: char| !c.is_alphanumeric()).next().unwrap()).collect()
}

fn snake(name: &str) -> String {
    let words = name.split_inclusive(|_: char| true);
    let piece = |(i, c): (usize, &str)| {
        let word = i > 0 && c.chars().all(|c| c.is_ascii_uppercase());
        format!("{}{}", if word { "_" } else { "" }, c.to_lowercase())
    };
    words.enumerate().map(piece).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every test of the repository.
fn all_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    for folder in ["core", "src", "tests", "judge", "localcluster", "incidents", "demo"] {
        collect(&root().join(folder), &mut files);
    }
    let texts = files.iter().map(|path| fs::read_to_string(path).unwrap());
    let tests: BTreeSet<_> = texts.flat_map(|text| tests_of(&text)).collect();
    assert!(tests.len() > 500, "only {} tests were found", tests.len());
    tests
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn tests_of(source: &str) -> Vec<String> {
    let mut lines = source.lines().map(str::trim);
    let mut tests = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            let name = lines.find_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
            tests.extend(name.and_then(|name| name.split('(').next()).map(str::to_owned));
        }
    }
    tests
}
