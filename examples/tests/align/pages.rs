//! What pages show of the program is what it does.

use std::path::Path;

use fleet_core::align::Methods;
use fleet_examples::align_file::{self, default_config};

use crate::NOW;

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)).unwrap()
}

/// The page's blocks of CSV: what goes in, and what comes out.
fn blocks(page: &str) -> [String; 2] {
    let blocks: Vec<_> =
        page.split("```csv\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    blocks.try_into().unwrap()
}

/// What comes out of a page's input, which must be what the page shows; and how many samples were late.
fn shown(name: &str) -> u64 {
    let (schema, [input, output]) = (default_config().unwrap(), blocks(&page(name)));
    let aligned = align_file::align(&schema, &Methods::default(), input.as_bytes(), NOW);
    let (table, report) = aligned.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out.csv");
    align_file::write(&schema, &table, &file).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap(), output, "{name}");
    assert_eq!(report.refused, 0, "{name}");
    report.late
}

#[test]
fn gaps_are_filled_as_the_page_shows() {
    assert_eq!(shown("gap-filling.md"), 0);
}

#[test]
fn late_samples_count_as_the_page_shows() {
    assert_eq!(shown("late-data.md"), 1);
}
