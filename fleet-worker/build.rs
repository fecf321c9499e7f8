//! Tells the program which commit it was built from: `FLEET_COMMIT` of the environment, where there is no
//! repository (an image), or else git's word.

use std::path::Path;
use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned())
}

/// The commit, with a `+` if what was built is not quite it.
fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let clean = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|s| s.is_empty());
    Some(if clean { commit } else { format!("{commit}+") })
}

fn main() {
    println!("cargo::rerun-if-env-changed=FLEET_COMMIT");
    for source in ["build.rs", "src", "../fleet-core/src", "../fleet-sinks/src", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={source}");
    }
    // What changes with every commit and every checkout.
    for name in ["HEAD", "logs/HEAD"] {
        let file = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists());
        if let Some(file) = file {
            println!("cargo::rerun-if-changed={file}");
        }
    }
    let given = std::env::var("FLEET_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(commit).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=FLEET_COMMIT={commit}");
}
