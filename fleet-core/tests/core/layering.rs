//! Modules import only from layers above their own (docs/architecture.md).

use std::fs;
use std::path::{Path, PathBuf};

/// Top to bottom; modules of one row are siblings that do not know each other.
const LAYERS: &[&[&str]] = &[
    &["error", "hash", "ids", "time"],
    &["message", "sample", "schema", "batch"],
    &["source", "decode", "bind", "align", "sink", "reference"],
    &["lane"],
    &["pipeline", "nats"],
];

/// Foreign crates that only some layers may name: the heart has no runtime and no broker.
const RUNTIME: &[&str] = &["tokio", "async_nats"];
const RUNTIME_LAYERS: &[&str] = &["pipeline", "nats", "source", "bind", "sink"];

/// The first two layers know their row's mates; from the third on siblings are strangers.
const FIRST_LAYER_OF_STRANGERS: usize = 2;

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|row| row.contains(&module))
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The modules of the crate that a source text names after `crate::`, tests included.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|l| !l.trim_start().starts_with("//")).flat_map(|line| {
        line.match_indices("crate::").map(|(at, found)| {
            let rest = &line[at + found.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            &rest[..end]
        })
    })
}

fn complaints(module: &str, file: &str, text: &str) -> Vec<String> {
    let own = rank(module).unwrap_or_else(|| panic!("{file}: module {module} has no layer"));
    let mut said = Vec::new();
    for import in imports(text) {
        let Some(other) = rank(import) else {
            said.push(format!("{file}: names crate::{import}, which is no module of a layer"));
            continue;
        };
        let stranger = other == own && import != module && own >= FIRST_LAYER_OF_STRANGERS;
        if other > own || stranger {
            said.push(format!("{file}: {module} may not import {import}"));
        }
    }
    if !RUNTIME_LAYERS.contains(&module) {
        for runtime in RUNTIME.iter().filter(|r| text.contains(&format!("{r}::"))) {
            said.push(format!("{file}: {module} may not name {runtime}"));
        }
    }
    said
}

#[test]
fn modules_import_only_from_above() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    files(&src, &mut found);
    assert!(found.len() > 15, "the sources are not where this test looks");
    let mut said = Vec::new();
    for path in found.iter().filter(|p| !p.ends_with("src/lib.rs")) {
        let inside = path.strip_prefix(&src).unwrap();
        let first = inside.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        let text = fs::read_to_string(path).unwrap();
        said.extend(complaints(module, &inside.display().to_string(), &text));
    }
    assert!(said.is_empty(), "{}", said.join("\n"));
}

#[test]
fn a_breach_is_seen() {
    assert_eq!(complaints("align", "x.rs", "use crate::lane::Lane;").len(), 1);
    assert_eq!(complaints("align", "x.rs", "use crate::decode::Decoder;").len(), 1);
    assert_eq!(complaints("lane", "x.rs", "tokio::spawn(x);").len(), 1);
    assert!(complaints("align", "x.rs", "use crate::schema::Schema;\nuse crate::align::y;").is_empty());
}
