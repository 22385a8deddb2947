//! Everything that reads what others wrote, as functions of bytes. What must never happen is an assertion in each.
//!
//! `make fuzz` looks for inputs that break one. Seeds, and every input that ever broke one, are in `fuzz/corpus`, and a
//! test here replays them. Not part of a build for use.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used, reason = "a fault that is found is a panic")]

pub(crate) mod trial;

use crate::{api, cluster, sources};

pub type Target = fn(&[u8]);

pub const TARGETS: [(&str, Target); 9] = [
    ("prometheus_answer", sources::fuzzing::prometheus_answer),
    ("pod_list", sources::fuzzing::pod_list),
    ("promql", sources::fuzzing::promql),
    ("address", sources::fuzzing::address),
    ("marks", api::fuzzing::marks),
    ("duration", api::fuzzing::duration),
    ("spec", api::fuzzing::spec),
    ("cluster_objects", cluster::fuzzing::cluster_objects),
    ("lease", cluster::fuzzing::lease),
];

/// Runs one; for the programs in `fuzz/fuzz_targets`.
pub fn run(name: &str, input: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    target(input);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn at(path: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(path)
    }

    fn names(path: &str) -> BTreeSet<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        fs::read_dir(at(path)).unwrap().map(|entry| stem(entry.unwrap().path())).collect()
    }

    #[test]
    fn every_input_of_the_corpus_keeps_every_promise() {
        for (name, target) in TARGETS {
            let inputs: Vec<_> = fs::read_dir(at(&format!("corpus/{name}"))).unwrap().collect();
            assert!(inputs.len() > 2, "{name} has {} inputs only", inputs.len());
            for input in inputs {
                let path = input.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                let held = std::panic::catch_unwind(|| target(&bytes));
                assert!(held.is_ok(), "{} breaks {name}", path.display());
            }
        }
    }

    #[test]
    fn every_target_has_its_program_and_its_corpus_and_no_other_is_there() {
        let targets: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(names("fuzz_targets"), targets);
        assert_eq!(names("corpus"), targets);
        let manifest = fs::read_to_string(at("Cargo.toml")).unwrap();
        let missing = targets.iter().filter(|name| !manifest.contains(&format!("name = \"{name}\"")));
        assert_eq!(missing.count(), 0, "fuzz/Cargo.toml lacks a program");
    }
}
