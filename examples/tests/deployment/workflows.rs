//! `.github/workflows` and what they call. Where there is Go, `.ci/run` has actionlint look at them too.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::{examples, python, run};

fn root() -> PathBuf {
    examples().join("..")
}

fn checked(folder: &Path) -> Result<Value, String> {
    python("workflows.py", &[folder], b"")
}

/// All that a workflow has a shell do.
fn shell(workflow: &Value) -> String {
    let steps =
        workflow["jobs"].as_object().unwrap().values().flat_map(|job| job["steps"].as_array().unwrap());
    steps.filter_map(|step| step["run"].as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn githubs_schema_takes_them_and_they_call_what_there_is() {
    let workflows =
        checked(&root().join(".github/workflows")).unwrap_or_else(|problems| panic!("{problems}"));
    let (ci, release) = (shell(&workflows["ci"]), shell(&workflows["release"]));
    assert!(ci.contains(".ci/run") && release.contains(".ci/notes"));
    let manifest: toml::Table = std::fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    assert!(ci.contains(&format!("rustup toolchain install {rust} ")));
    assert_eq!(workflows["release"]["jobs"]["binaries"]["env"]["RUSTUP_TOOLCHAIN"], rust.as_str());
    let worker: toml::Table =
        std::fs::read_to_string(root().join("fleet-worker/Cargo.toml")).unwrap().parse().unwrap();
    let features = release.split("--features ").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(worker["features"].get(features).is_some(), "fleet-worker has no feature {features}");
    assert!(release.contains("--build-arg FLEET_COMMIT=") && release.contains("--file examples/Dockerfile"));
    // The package has what the workflow puts there.
    let assets = worker["package"]["metadata"]["deb"]["assets"].as_array().unwrap();
    let assets: Vec<_> = assets.iter().map(|asset| asset[0].as_str().unwrap()).collect();
    for made in ["man/*", "fleet-worker.bash", "fleet-worker.zsh", "fleet-worker.fish"] {
        let made = format!("../target/package/{made}");
        assert!(assets.contains(&made.as_str()), "{made} is not in {assets:?}");
    }
}

#[test]
fn a_mistake_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(root().join(".github/workflows/ci.yml")).unwrap();
    let commit = text.split("actions/checkout@").nth(1).unwrap().split_whitespace().next().unwrap();
    for (right, wrong, said) in [
        (commit, "v7", "run: actions/checkout@v7 is not pinned by a commit"),
        ("permissions: {}", "permissions: write-all", "permissions: the workflow's must be {}"),
        ("    timeout-minutes: 120\n", "", "run: there is no timeout-minutes"),
        ("runs-on:", "run-on:", "jobs.run"),
    ] {
        assert!(text.contains(right), "{right}");
        std::fs::write(folder.path().join("ci.yml"), text.replacen(right, wrong, 1)).unwrap();
        let problems = checked(folder.path()).unwrap_err();
        assert!(problems.contains(said), "{said}: {problems}");
    }
}

/// What `.ci/notes` makes of a tag in a folder with this changelog.
fn notes(tag: &str, changelog: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("CHANGELOG.md"), changelog).unwrap();
    let manifest =
        "[workspace]\nmembers = []\n\n[workspace.package]\nversion = \"0.2.0\"\nedition = \"2024\"\n";
    std::fs::write(folder.path().join("Cargo.toml"), manifest).unwrap();
    let mut command = Command::new(root().join(".ci/notes"));
    command.arg(tag).arg(folder.path());
    let output = run(command, b"");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn a_release_has_its_section_of_the_changelog_or_is_refused() {
    let good = "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n### Added\n\n- A.\n\n## [0.1.0]\n\n- B.\n";
    assert_eq!(notes("v0.2.0", good).unwrap(), "### Added\n\n- A.");
    let refused = |tag, changelog: &str| notes(tag, changelog).unwrap_err();
    assert_eq!(refused("v0.3.0", good), "the tag is v0.3.0, but Cargo.toml says 0.2.0");
    assert_eq!(refused("v0.2.0", &good.replace("[0.2.0]", "[0.2.1]")), "CHANGELOG.md says nothing of 0.2.0");
    let left = good.replace("[Unreleased]\n", "[Unreleased]\n\n- C.\n");
    assert_eq!(refused("v0.2.0", &left), "CHANGELOG.md has something left under Unreleased");
}
