//! The page that is checked in is what the code does.

use std::path::Path;
use std::sync::Arc;

use judge::file::read_folder;
use judge::page::{play_all, tables, with_tables};

#[test]
fn the_checked_in_tables_are_those_of_a_fresh_run() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let incidents: Vec<_> = read_folder(&here.join("incidents")).unwrap().into_iter().map(Arc::new).collect();
    let page = std::fs::read_to_string(here.join("../docs/reference/judgement.md")).unwrap();
    let fresh = with_tables(&page, &tables(&incidents, &play_all(&incidents).unwrap())).unwrap();
    let changed: Vec<_> = page.lines().zip(fresh.lines()).filter(|(old, new)| old != new).take(9).collect();
    assert!(
        page == fresh,
        "docs/reference/judgement.md is old; run `make judge`, look at what changed, keep its text true: {changed:#?}"
    );
}
