//! Files that are generated and checked in.

use std::path::Path;

/// Compares a file below `root` with what it should be; with `KUBERVISOR_GENERATE=1` makes it so.
pub fn generated(root: &Path, path: &str, wanted: &str, how: &str) {
    let file = root.join(path);
    if std::env::var_os("KUBERVISOR_GENERATE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let at = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let at = at.unwrap_or_else(|| found.lines().count().min(wanted.lines().count()));
    assert!(
        found == wanted,
        "{path} is not what it should be; where that is meant, run `{how}` and commit it. Line {}:\n  is      {:?}\n  should  {:?}",
        at + 1,
        found.lines().nth(at),
        wanted.lines().nth(at),
    );
}
