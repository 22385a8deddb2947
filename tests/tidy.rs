//! The rules of this repository that no compiler or lint holds. Each rule is a function from a file to its faults, and
//! each has a test that it bites.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a test ends this way")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines of a function, its signature and braces included. Clippy's own limit is the same; it does not see tests'
/// helper macros and can be allowed away, this cannot.
const FUNCTION_LINES: usize = 70;
/// Lines of a file before its tests.
const FILE_LINES: usize = 500;

/// Columns that a page shows without scrolling.
const PICTURE_COLUMNS: usize = 120;

/// A file of the repository.
struct Source {
    path: String,
    text: String,
    /// The same lines with comments and the insides of literals blanked out.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = if is_rust(path) { blanked(text) } else { String::new() };
        Self { path: path.into(), text: text.into(), code }
    }

    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        let test_name = |part: &str| {
            matches!(
                part,
                "tests" | "tests.rs" | "properties" | "properties.rs" | "testing.rs" | "fixtures.rs"
            )
        };
        self.path.split('/').any(test_name) || self.path.ends_with("_tests.rs")
    }

    /// The code above the first `#[cfg(test)]` that opens a module with a body.
    fn production(&self) -> &str {
        let starts = self.code.match_indices("#[cfg(test)]").map(|(at, _)| at);
        let opens = |at: &usize| {
            self.code[*at..].find(['{', ';']).is_some_and(|end| self.code[at + end..].starts_with('{'))
        };
        let end = starts.filter(opens).min().unwrap_or(self.code.len());
        if self.is_test() { "" } else { &self.code[..end] }
    }
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|e| e == "rs")
}

/// Faults of one file, each with its line.
type Rule = fn(&Source) -> Vec<(usize, String)>;

const RULES: [(&str, Rule); 9] = [
    ("functions are short", long_functions),
    ("files are short", long_files),
    ("a file begins with what it is for", headless),
    ("no test is ignored", ignored_tests),
    ("no test ends early", early_returns),
    ("select! is biased where a replay must be exact", unbiased_selects),
    ("no map of random order where a replay must be exact", random_maps),
    ("names are of the project's words", foreign_words),
    ("no path or name of the machine it was written on", places),
];

#[test]
fn every_file_keeps_every_rule() {
    let mut faults = Vec::new();
    for file in tracked() {
        for (rule, find) in RULES {
            let found = find(&file).into_iter();
            faults.extend(found.map(|(line, what)| format!("{}:{line}: {what} ({rule})", file.path)));
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_metric_is_documented() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let missing = undocumented_metrics(&read("src/metrics.rs"), &read("docs/reference/metrics.md"));
    assert!(missing.is_empty(), "not in docs/reference/metrics.md: {missing:?}");
}

/// A page that lists an enum's words, from one text to another: it has these words and no others.
struct Listing {
    /// Where the enum is, and its name.
    code: (&'static str, &'static str),
    page: &'static str,
    between: (&'static str, &'static str),
    /// How they stand there.
    read: fn(&str) -> BTreeSet<String>,
    /// What stands there beside them.
    beside: &'static [&'static str],
}

const LISTINGS: [Listing; 5] = [
    Listing {
        code: ("core/gates.rs", "Gate"),
        page: "docs/reference/metrics.md",
        between: ("| `kubervisor_held`", "\n"),
        read: quoted_words,
        beside: &[],
    },
    Listing {
        code: ("core/gates.rs", "Gate"),
        page: "docs/concepts.md",
        between: ("| gate | closed while |", "\n\n"),
        read: first_cells,
        beside: &[],
    },
    Listing {
        code: ("core/plan.rs", "RestoreReason"),
        page: "docs/reference/metrics.md",
        between: ("| `kubervisor_restores_total`", "\n"),
        read: quoted_words,
        beside: &["Released", "Undone"],
    },
    Listing {
        code: ("core/plan.rs", "Why"),
        page: "docs/reference/metrics.md",
        between: ("| reason of a refusal | why |", "\n\n"),
        read: first_cells,
        beside: &[],
    },
    Listing {
        code: ("core/notice.rs", "Kind"),
        page: "docs/operating.md",
        between: ("**Events**", "\n\n`Held`"),
        read: quoted_words,
        beside: &[],
    },
];

#[test]
fn pages_that_list_the_words_of_the_core_have_all_of_them_and_no_others() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    for Listing { code: (code, name), page, between: (from, to), read: column, beside } in LISTINGS {
        let mut wanted = words_of(&read(code), name);
        assert!(wanted.len() > 5, "{code} has only {wanted:?} in {name}");
        wanted.extend(beside.iter().map(|word| (*word).to_owned()));
        assert_eq!(column(part(&read(page), from, to)), wanted, "{page}, behind {from:?}");
    }
    let (limits, page) = (words_of(&read("core/budget.rs"), "Limit"), read("docs/reference/metrics.md"));
    let row = part(&page, "| `kubervisor_refusals_total`", "\n");
    assert!(
        limits.len() == 3 && limits.iter().all(|limit| row.contains(&format!("`{limit}`"))),
        "{limits:?}"
    );
}

/// What is on the page was printed by the programs: it is never empty, and it is theirs.
#[test]
fn the_readme_shows_what_make_readme_put_there() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (makefile, page) = (read("Makefile"), read("README.md"));
    let names: Vec<_> = part(&makefile, "/^<!-- (", ")").split('|').collect();
    assert_eq!(names, ["promises", "lines", "get", "explain", "watch"]);
    let markers = page.lines().filter(|line| line.starts_with("<!-- ")).count();
    assert_eq!(markers, 2 * names.len(), "README.md has markers that `make readme` does not know");
    let blocks: Vec<_> = names.iter().map(|name| block(&page, name).unwrap()).collect();
    let [promises, _, _, explain, watch] = blocks[..] else { panic!("{names:?}") };
    assert!(promises.lines().all(|line| line.starts_with("ok      ")), "{promises}");
    for (name, picture) in names.iter().zip(&blocks).skip(2) {
        assert!(picture.starts_with(&format!("$ kubectl kubervisor {name} ")), "{name}: {picture}");
        assert!(picture.lines().all(|line| line.chars().count() <= PICTURE_COLUMNS), "{name} is too wide");
        assert!(!picture.contains("127.0.0.1"), "{name}: {picture}");
    }
    assert_eq!(explain.matches("$ kubectl kubervisor explain ").count(), 2, "{explain}");
    assert!(explain.contains("\nBudget: "), "not the controller's own word: {explain}");
    assert!(explain.contains(" is cut since ") && explain.contains("although breaker"), "{explain}");
    assert!(watch.contains(" floor 5 ") && watch.contains("\nq quit "), "{watch}");
}

#[test]
fn every_reason_of_an_event_is_read_back_by_a_cluster_test() {
    let code = std::fs::read_to_string(root().join("core/notice.rs")).unwrap();
    let cases = tracked().into_iter().filter(|file| file.path.starts_with("tests/cluster/cases/"));
    let tests: String = cases.map(|file| file.text).collect();
    assert!(reasons(&code).len() >= 18, "{:?}", reasons(&code));
    let missing: Vec<_> = reasons(&code).into_iter().filter(|reason| !reads_back(&tests, reason)).collect();
    assert!(missing.is_empty(), "no cluster test waits for {missing:?} by Shop::told");
}

#[test]
fn every_dependency_is_allowed_by_deny_toml() {
    let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
    let (rules, lock) = (read("deny.toml"), read("Cargo.lock"));
    let mut faults = refused_packages(&rules, &lock);
    let packages = packages();
    assert!(packages.len() > 100, "cargo lists {} packages only", packages.len());
    let refused = packages.iter().filter(|(_, licence)| !licence_allowed(&rules, licence));
    faults.extend(refused.map(|(name, licence)| format!("{name}: licence {licence}")));
    assert!(faults.is_empty(), "{faults:?}");
}

/// A target that no level names would be built, and silently not run.
#[test]
fn every_test_target_is_run_by_a_level() {
    let script = std::fs::read_to_string(root().join("tests/run")).unwrap();
    let targets = test_targets();
    assert!(targets.contains("cluster") && targets.contains("tidy"), "cargo lists only {targets:?}");
    let missing = not_run(&script, &targets);
    assert!(missing.is_empty(), "tests/run has no level for {missing:?}");
}

/// Name and licence of every package of this platform.
fn packages() -> Vec<(String, String)> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (text(&package["name"]), text(&package["license"]))).collect()
}

/// Names of the integration tests of every package of the workspace.
fn test_targets() -> BTreeSet<String> {
    let metadata = metadata();
    let own = metadata["packages"].as_array().unwrap().iter().filter(|package| package["source"].is_null());
    let targets = own.flat_map(|package| package["targets"].as_array().unwrap());
    let tests = targets.filter(|target| target["kind"] == serde_json::json!(["test"]));
    tests.map(|target| text(&target["name"])).collect()
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What cargo knows of this platform's packages. Offline: all of them have been fetched to build this test.
fn metadata() -> serde_json::Value {
    let rustc = Command::new("rustc").arg("-vV").output().unwrap();
    let told = String::from_utf8(rustc.stdout).unwrap();
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let flags = ["metadata", "--format-version=1", "--locked", "--offline", "--filter-platform", host];
    let metadata = Command::new(env!("CARGO")).args(flags).current_dir(root()).output().unwrap();
    serde_json::from_slice(&metadata.stdout).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files that are committed or about to be. Without git (a source archive), nothing can be told apart from build
/// output, and the test fails rather than passing over everything.
fn tracked() -> Vec<Source> {
    let git = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let listed = String::from_utf8(git.unwrap().stdout).unwrap();
    let read = |path: &str| {
        let bytes = std::fs::read(root().join(path)).ok()?;
        Some(Source::new(path, &String::from_utf8(bytes).ok()?))
    };
    let files: Vec<_> = listed.split('\0').filter(|path| !path.is_empty()).filter_map(read).collect();
    assert!(files.len() > 100, "git lists {} files only", files.len());
    files
}

fn long_functions(file: &Source) -> Vec<(usize, String)> {
    let lines: Vec<_> = file.code.lines().collect();
    let mut faults = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let is_function = words(line).any(|word| word == "fn") && !line.trim_start().starts_with("type ");
        let Some(length) = is_function.then(|| body_lines(&lines[start..])).flatten() else { continue };
        if length > FUNCTION_LINES {
            faults.push((start + 1, format!("a function of {length} lines, {FUNCTION_LINES} are allowed")));
        }
    }
    faults
}

/// Lines from the first one to the brace that closes its body; `None` where there is no body.
fn body_lines(lines: &[&str]) -> Option<usize> {
    let (mut braces, mut nested) = (0_usize, 0_usize);
    for (number, line) in lines.iter().enumerate() {
        for character in line.chars() {
            match character {
                '(' | '[' => nested += 1,
                ')' | ']' => nested = nested.saturating_sub(1),
                '{' => braces += 1,
                '}' if braces == 1 && nested == 0 => return Some(number + 1),
                '}' => braces = braces.saturating_sub(1),
                ';' if braces == 0 && nested == 0 => return None,
                _ => {}
            }
        }
    }
    None
}

fn long_files(file: &Source) -> Vec<(usize, String)> {
    let lines = file.production().lines().count();
    let fault = (lines, format!("{lines} lines before the tests, {FILE_LINES} are allowed"));
    if lines > FILE_LINES { vec![fault] } else { vec![] }
}

fn headless(file: &Source) -> Vec<(usize, String)> {
    let has_head = file.text.starts_with("//!");
    if !is_rust(&file.path) || has_head { vec![] } else { vec![(1, "no //! at its head".into())] }
}

fn ignored_tests(file: &Source) -> Vec<(usize, String)> {
    let conditional = |code: &str| code.contains("cfg_attr") && words(code).any(|word| word == "ignore");
    found(file, |code| code.trim_start().starts_with("#[ignore") || conditional(code))
}

/// A test that returns early passes without having looked. Closures and async blocks may: what they give is looked at.
fn early_returns(file: &Source) -> Vec<(usize, String)> {
    let lines: Vec<_> = file.code.lines().collect();
    let is_test = |line: &str| {
        line.trim_start().starts_with("#[test]") || line.contains("::test]") || line.contains("::test(")
    };
    let mut faults = Vec::new();
    for (start, _) in lines.iter().enumerate().filter(|(_, line)| is_test(line)) {
        let Some(signature) = lines[start..].iter().position(|line| words(line).any(|w| w == "fn")) else {
            continue;
        };
        let body = start + signature;
        let end = body + body_lines(&lines[body..]).unwrap_or(0);
        let mut inner = 0_usize;
        for (number, line) in lines.iter().enumerate().take(end).skip(body + 1) {
            let opens_inner = line.contains("async {")
                || line.contains("async move {")
                || (line.contains('|') && line.trim_end().ends_with('{'));
            let count = |brace| line.matches::<char>(brace).count();
            if inner > 0 || opens_inner {
                inner = (inner + count('{')).saturating_sub(count('}'));
            } else if words(line).any(|word| word == "return") {
                faults.push((number + 1, "return in a test".into()));
            }
        }
    }
    faults
}

/// Where the order of things decides what happens: the simulator must be able to run it again.
fn replayed(file: &Source) -> bool {
    let parts = ["src/owner/", "src/cluster/", "src/supervisor.rs", "src/janitor.rs", "src/turn.rs"];
    parts.into_iter().any(|part| file.path.starts_with(part))
}

fn unbiased_selects(file: &Source) -> Vec<(usize, String)> {
    let selects = file.code.match_indices("select!").filter(|_| replayed(file));
    let biased = |at: usize| {
        file.code[at..].split_once('{').is_some_and(|(_, body)| body.trim_start().starts_with("biased;"))
    };
    let line = |at: usize| file.code[..at].lines().count().max(1);
    selects
        .filter(|(at, _)| !biased(*at))
        .map(|(at, _)| (line(at), "select! without biased".into()))
        .collect()
}

fn random_maps(file: &Source) -> Vec<(usize, String)> {
    if !replayed(file) {
        return vec![];
    }
    found(file, |code| words(code).any(|word| matches!(word, "HashMap" | "HashSet" | "FuturesUnorderedMap")))
}

/// Names on the wire that the original chose.
const WIRE_NAMES: [&str; 2] = ["nb_pods_breaked", "nbPodsBreaked"];

fn foreign_words(file: &Source) -> Vec<(usize, String)> {
    let bad = |word: &str| {
        let lower = word.to_lowercase();
        let part = |part: &str| pieces(word).any(|piece| piece.eq_ignore_ascii_case(part));
        let refused = lower.contains("eject")
            || lower.contains("breaked")
            || ["manager", "helper", "helpers", "util", "utils", "common"].into_iter().any(part);
        // kube's own name for who owns a field.
        refused && !WIRE_NAMES.contains(&word) && !matches!(word, "field_manager" | "FIELD_MANAGER")
    };
    // Other people's crates and programs have names of their own.
    let foreign = |line: &str| {
        let path = line.trim_start().trim_start_matches("pub ").strip_prefix("use ");
        path.is_some_and(|path| {
            !["crate::", "super::", "self::", "kubervisor"].iter().any(|own| path.starts_with(own))
        })
    };
    let theirs = |word: &str| matches!(pieces(word).collect::<Vec<_>>().as_slice(), [.., a, b] | [a, b, ..] if a.eq_ignore_ascii_case("controller") && b.eq_ignore_ascii_case("manager"));
    let mut faults = Vec::new();
    for (number, line) in file.code.lines().enumerate().filter(|(_, line)| !foreign(line)) {
        let named = words(line).filter(|word| bad(word) && !theirs(word));
        faults.extend(named.map(|word| (number + 1, format!("the word {word}"))));
    }
    faults
}

/// `camelCase`, `snake_case` and `SCREAMING` names in parts.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    word.split('_').flat_map(|part| {
        let capital = |at: usize| {
            part[at..].starts_with(char::is_uppercase) && part[..at].ends_with(char::is_lowercase)
        };
        let mut cuts: Vec<_> =
            (1..part.len()).filter(|at| part.is_char_boundary(*at) && capital(*at)).collect();
        cuts.push(part.len());
        cuts.into_iter().scan(0, |start, end| Some(&part[std::mem::replace(start, end)..end]))
    })
}

fn places(file: &Source) -> Vec<(usize, String)> {
    // In two parts each, so that this file does not hold them.
    let bad = [
        ("/ho", "me/"),
        ("/ro", "ot/"),
        ("/wo", "rk/"),
        ("/Us", "ers/"),
        ("artif", "actory"),
        ("goproxy", "."),
    ];
    let lines = file.text.lines().enumerate();
    let holds = |line: &str| bad.iter().any(|(a, b)| line.contains(&format!("{a}{b}")));
    lines.filter(|(_, line)| holds(line)).map(|(at, line)| (at + 1, format!("{:.80}", line.trim()))).collect()
}

/// What `as_str` of an enum says.
fn words_of(code: &str, name: &str) -> BTreeSet<String> {
    let (_, own) = code.split_once(&format!("\nimpl {name} {{\n")).unwrap_or_default();
    let (_, body) = own.split_once("pub fn as_str").unwrap_or_default();
    let (body, _) = body.split_once("\n    }\n").unwrap_or_default();
    let arms = body.lines().filter_map(|line| line.split_once(" => \"")?.1.split('"').next());
    arms.map(str::to_owned).collect()
}

fn part<'p>(page: &'p str, from: &str, to: &str) -> &'p str {
    let (_, behind) = page.split_once(from).unwrap_or_default();
    behind.split_once(to).map_or(behind, |(part, _)| part)
}

/// What stands between the markers of this name, which `make readme` fills.
fn block<'p>(page: &'p str, name: &str) -> Result<&'p str, String> {
    let (begin, end) = (format!("<!-- {name} -->\n```text\n"), format!("\n```\n<!-- end of {name} -->\n"));
    let block = page.split_once(&begin).and_then(|(_, rest)| Some(rest.split_once(&end)?.0));
    let whole = block.filter(|block| !block.trim().is_empty() && !block.contains("<!--"));
    whole.ok_or_else(|| format!("no {name} between their markers: run `make readme`"))
}

/// Words in backticks that begin with a capital and have small letters.
fn quoted_words(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let word = |w: &&str| {
        w.starts_with(char::is_uppercase)
            && w.contains(char::is_lowercase)
            && w.chars().all(|c| c.is_ascii_alphabetic())
    };
    quoted.filter(word).map(str::to_owned).collect()
}

/// What stands in backticks at the begin of each row.
fn first_cells(table: &str) -> BTreeSet<String> {
    let cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    cells.map(str::to_owned).collect()
}

/// Metrics are registered by name, sometimes with a unit; the text that Prometheus scrapes has a prefix.
fn undocumented_metrics(code: &str, page: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for call in code.split(".register").skip(1) {
        let Some((before, rest)) = call.split_once('"') else { continue };
        if !before.trim_start_matches("_with_unit").trim_start().starts_with('(') {
            continue;
        }
        let name = rest.split('"').next().unwrap_or_default();
        let unit = if call.starts_with("_with_unit") { "_seconds" } else { "" };
        let full = format!("`kubervisor_{name}{unit}");
        if !["`", "_total`", "_info`"].iter().any(|end| page.contains(&format!("{full}{end}"))) {
            missing.push(name.to_owned());
        }
    }
    missing
}

/// The words of `Kind::as_str`.
fn reasons(code: &str) -> Vec<&str> {
    let arms = code.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""));
    arms.map(|(_, word)| word.split('"').next().unwrap_or_default()).collect()
}

fn reads_back(tests: &str, reason: &str) -> bool {
    tests.contains(&format!(".told(\"{reason}\""))
}

/// Targets that no level of the script runs. What is commented out is not run.
fn not_run<'a>(script: &str, targets: &'a BTreeSet<String>) -> Vec<&'a str> {
    let starts = ["level ", "node_level "];
    let levels = script.lines().filter(|line| starts.iter().any(|start| line.starts_with(start)));
    let words: Vec<_> = levels.flat_map(str::split_whitespace).collect();
    let named = |name: &&str| words.windows(2).any(|pair| pair == ["--test", *name]);
    targets.iter().map(String::as_str).filter(|name| !named(name)).collect()
}

/// The texts within a list of `deny.toml`.
fn list<'a>(rules: &'a str, key: &str) -> Vec<&'a str> {
    let start = rules.find(&format!("\n{key} = [")).map_or(rules.len(), |at| at + key.len() + 5);
    let entries = rules[start..].split("\n]").next().unwrap_or_default();
    let entries = if entries.lines().next().is_some_and(|l| l.contains(']')) {
        entries.lines().next().unwrap_or_default()
    } else {
        entries
    };
    let lines = entries.lines().map(|line| line.split(" #").next().unwrap_or_default());
    lines.flat_map(|line| line.split('"').skip(1).step_by(2)).collect()
}

/// By an SPDX expression: all parts of one of its alternatives.
fn licence_allowed(rules: &str, licence: &str) -> bool {
    let allowed = list(rules, "allow");
    let plain = licence.replace(['(', ')'], " ").replace('/', " OR ");
    // Where both words occur, "a AND b" binds tighter only by brackets, which no package here nests deeper than once.
    let parts: Vec<_> = plain.split(" AND ").collect();
    parts.iter().all(|part| part.split(" OR ").any(|one| allowed.contains(&one.trim())))
}

/// Banned crates, and those of another source than the registry.
fn refused_packages(rules: &str, lock: &str) -> Vec<String> {
    let (banned, registries) = (list(rules, "deny"), list(rules, "allow-registry"));
    let mut refused = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let of = |key: &str| {
            package.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'))
        };
        let name = of("name").unwrap_or_default();
        let known = |source: &str| registries.iter().any(|r| source.strip_prefix("registry+") == Some(*r));
        if banned.contains(&name) || !of("source").is_none_or(known) {
            refused.push(name.to_owned());
        }
    }
    refused
}

fn found(file: &Source, bad: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    let lines = file.code.lines().enumerate();
    lines.filter(|(_, line)| bad(line)).map(|(number, line)| (number + 1, line.trim().to_owned())).collect()
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// Comments and the insides of strings and characters as spaces, so that what is left is code. Lines keep their numbers.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let skip = skipped(rest, out.chars().next_back());
        let (blank, length) =
            if skip > 0 { (true, skip) } else { (false, rest.chars().next().map_or(1, char::len_utf8)) };
        let (piece, after) = rest.split_at(length);
        out.extend(piece.chars().map(|c| if blank && c != '\n' { ' ' } else { c }));
        rest = after;
    }
    out
}

/// Bytes of the comment or literal that `text` starts with; 0 where it starts with code.
fn skipped(text: &str, before: Option<char>) -> usize {
    let in_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if text.starts_with('"') {
        return quoted(text, 1);
    }
    let raw = text.strip_prefix('b').unwrap_or(text).strip_prefix('r');
    if let Some(raw) = raw.filter(|_| !in_name) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let start = text.len() - raw.len() + hashes + 1;
            return text[start..].find(&close).map_or(text.len(), |end| start + end + close.len());
        }
    }
    if text.starts_with('\'') { character(text) } else { 0 }
}

fn quoted(text: &str, start: usize) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(start) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character, as opposed to a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, _))) => text[at + 1..].find('\'').map_or(0, |end| at + 1 + end + 1),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

mod bites {
    use super::*;

    fn bites(rule: Rule, path: &str, bad: &str, good: &str) {
        assert!(!rule(&Source::new(path, bad)).is_empty(), "not found in:\n{bad}");
        let faults = rule(&Source::new(path, good));
        assert!(faults.is_empty(), "{faults:?} in:\n{good}");
    }

    fn function(lines: usize) -> String {
        format!("fn press(pears: [u8; 3]) -> u8 {{\n{}}}\n", "    // {\n    squeeze();\n".repeat(lines / 2))
    }

    #[test]
    fn a_long_function_is_found() {
        bites(long_functions, "src/a.rs", &function(70), &function(68));
        let many = function(40).repeat(3);
        bites(long_functions, "src/a.rs", &format!("impl A {{\n{}\n}}", function(90)), &many);
    }

    #[test]
    fn a_long_file_is_found_and_its_tests_do_not_count() {
        let lines = |n: usize| "let pear = 1;\n".repeat(n);
        let tested = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", lines(499), lines(900));
        bites(long_files, "src/a.rs", &lines(501), &tested);
        bites(long_files, "src/a.rs", &format!("#[cfg(test)]\nmod fixtures;\n{}", lines(501)), &lines(500));
        assert!(long_files(&Source::new("tests/a.rs", &lines(900))).is_empty());
    }

    #[test]
    fn a_file_without_a_head_is_found() {
        bites(headless, "src/a.rs", "use std::fmt;\n", "//! Presses pears.\nuse std::fmt;\n");
        assert!(headless(&Source::new("a.md", "# Pears")).is_empty());
    }

    #[test]
    fn an_ignored_test_is_found() {
        let good = "// #[ignore]\n#[test]\nfn a() { let x = \"#[ignore]\"; }\n";
        bites(ignored_tests, "src/a.rs", "#[test]\n#[ignore = \"slow\"]\nfn a() {}\n", good);
        bites(ignored_tests, "src/a.rs", "#[cfg_attr(slow, ignore)]\nfn a() {}\n", good);
    }

    #[test]
    fn an_early_return_of_a_test_is_found() {
        let bad = "#[tokio::test]\nasync fn a() {\n    if ripe() {\n        return;\n    }\n    assert!(true);\n}\n";
        let good = "#[test]\nfn a() {\n    let f = |x| {\n        return x;\n    };\n    assert!(f(true));\n}\nfn b() {\n    return;\n}\n";
        bites(early_returns, "tests/a.rs", bad, good);
    }

    #[test]
    fn an_unbiased_select_is_found_where_a_replay_must_be_exact() {
        let (bad, good) =
            ("tokio::select! {\n    a = b => {}\n}", "tokio::select! {\n    biased;\n    a = b => {}\n}");
        bites(unbiased_selects, "src/owner/a.rs", bad, good);
        assert!(unbiased_selects(&Source::new("src/web/a.rs", bad)).is_empty());
    }

    #[test]
    fn a_map_of_random_order_is_found_where_a_replay_must_be_exact() {
        let (bad, good) = ("use std::collections::HashMap;", "use std::collections::BTreeMap; // no HashMap");
        bites(random_maps, "src/cluster/a.rs", bad, good);
        assert!(random_maps(&Source::new("src/sources/a.rs", bad)).is_empty());
    }

    #[test]
    fn foreign_words_are_found_and_the_wire_is_excused() {
        let good = "let nb_pods_breaked = field_manager; // no Manager\nlet s = \"eject\"; let commonly = 1; ControllerManager::start();\nuse a_util::b;";
        for bad in [
            "struct PodManager;",
            "fn ejected() {}",
            "mod util;",
            "let breaked_pods = 1;",
            "use super::common;",
            "trait TestHelper {}",
        ] {
            bites(foreign_words, "src/a.rs", bad, good);
        }
    }

    #[test]
    fn a_place_on_somebodys_machine_is_found_in_any_file() {
        let bad = format!("see {}somebody/notes", ["/ho", "me/"].concat());
        bites(places, "README.md", &bad, "see ~/notes and https://example.com/");
    }

    #[test]
    fn a_test_target_that_no_level_runs_is_found() {
        let targets = ["pears", "plums", "figs"].map(str::to_owned).into();
        let script =
            "# --test figs\nlevel \"fruit\" --test pears --test plums-2\n#level \"x\" --test plums\n";
        assert_eq!(not_run(script, &targets), ["figs", "plums"]);
    }

    #[test]
    fn a_word_that_a_page_lacks_or_has_for_itself_is_found() {
        let code = "\nimpl Pear {\n    pub fn as_str(self) {\n        match self {\n            Self::Ripe => \"Ripe\",\n            \
                    Self::Red(pear) => pear.as_str(),\n            Self::Soft { .. } => \"Soft\",\n        }\n    }\n}\n";
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(words_of(code, "Pear"), words(&["Ripe", "Soft"]));
        let page = "begin: `Ripe` `key` `Soft` (`PDB`)\nend `Red`";
        assert_eq!(quoted_words(part(page, "begin", "end")), words(&["Ripe", "Soft"]));
        assert_eq!(first_cells("|---|\n| `Ripe` | not `Red` |\n| `soft` | |"), words(&["Ripe", "soft"]));
    }

    #[test]
    fn a_block_that_was_never_filled_or_has_lost_a_marker_is_found() {
        let page = |block: &str| format!("# Pears\n<!-- get -->\n{block}<!-- end of get -->\nPlums\n");
        assert_eq!(block(&page("```text\n$ get\nred\n```\n"), "get"), Ok("$ get\nred"));
        for bad in [
            "",
            "```text\n```\n",
            "```text\n\n```\n",
            "```text\na\n```\n<!-- end of lines -->\n```text\nb\n```\n",
        ] {
            assert!(block(&page(bad), "get").is_err(), "{bad:?}");
        }
        assert!(block(&page("```text\nred\n```\n"), "watch").is_err());
        assert!(block("<!-- get -->\n```text\nred\n```\n", "get").is_err());
    }

    #[test]
    fn a_metric_that_nobody_described_is_found() {
        let code = r#"r.register("pears", "Pears", x); r.register_with_unit(
            "press", "Time", y);"#;
        assert_eq!(undocumented_metrics(code, "`kubervisor_pears_total`"), ["press"]);
        assert!(undocumented_metrics(code, "`kubervisor_pears` `kubervisor_press_seconds`").is_empty());
    }

    #[test]
    fn a_reason_that_nobody_reads_back_is_found() {
        let code = "match self {\n    Self::Ripe => \"Ripe\",\n    Self::Sold => \"Sold\",\n    Self::Ripe | Self::Sold => true,\n}";
        assert_eq!(reasons(code), ["Ripe", "Sold"]);
        assert!(reads_back("shop.told(\"Ripe\", \"red\").await;", "Ripe"));
        assert!(!reads_back("shop.becomes(\"Sold\", \"True\").await;", "Sold"));
    }

    const RULES: &str = "\nallow = [\n  \"MIT\", # short\n  \"ISC\",\n]\ndeny = [\n  # x\n  { name = \"openssl\" },\n]\nallow-registry = [\"https://here\"]\n";

    #[test]
    fn a_licence_that_nobody_allowed_is_found() {
        let allowed = |licence| licence_allowed(RULES, licence);
        assert!(
            allowed("MIT")
                && allowed("GPL-3.0 OR MIT")
                && allowed("GPL-3.0/MIT")
                && allowed("(GPL-3.0 OR MIT) AND ISC")
        );
        assert!(
            !allowed("GPL-3.0")
                && !allowed("MIT AND GPL-3.0")
                && !allowed("")
                && !allowed("GPL-3.0 AND (MIT OR ISC)")
        );
    }

    #[test]
    fn a_banned_crate_and_a_foreign_source_are_found() {
        let lock = "[[package]]\nname = \"a\"\nsource = \"registry+https://here\"\n[[package]]\nname = \"openssl\"\nsource = \"registry+https://here\"\n[[package]]\nname = \"b\"\nsource = \"git+https://here\"\n[[package]]\nname = \"own\"\n";
        assert_eq!(refused_packages(RULES, lock), ["openssl", "b"]);
    }

    #[test]
    fn names_fall_into_their_parts() {
        let all = |word| pieces(word).collect::<BTreeSet<_>>();
        assert_eq!(all("PodManager"), ["Pod", "Manager"].into());
        assert_eq!(all("field_manager"), ["field", "manager"].into());
    }

    #[test]
    fn comments_and_literals_are_blanked_and_lifetimes_are_not() {
        let text = "let a = \"x { \\\" y\"; // {\nlet b: &'a str = r#\"{\"#; let c = '{'; let d = '\\'';";
        let code = blanked(text);
        assert!(!code.contains('{') && code.contains("&'a str") && code.lines().count() == 2, "{code}");
        assert!(code.ends_with(';') && code.contains("let d ="), "{code}");
    }
}
