//! The deployment files against published schemas and against the code that they are for.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod compose;
mod kubernetes;
mod scaleway;
mod trial;
mod versions;
mod workflows;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use fleet_worker::config::Config;
use fleet_worker::local::python_packages;
use serde_json::Value;

fn examples() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The packages of `requirements.txt`, fetched once.
fn packages() -> &'static Path {
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    FETCHED.get_or_init(|| {
        let fetched = python_packages(include_str!("requirements.txt"));
        // Beside the runtime that a test may have.
        let fetch = || tokio::runtime::Runtime::new().unwrap().block_on(fetched).unwrap();
        std::thread::scope(|scope| scope.spawn(fetch).join().unwrap())
    })
}

/// Runs a script of this folder on `input`; the JSON that it prints, or what it says is wrong.
fn python(script: &str, arguments: &[&Path], input: &[u8]) -> Result<Value, String> {
    let mut python = Command::new("python3");
    python
        .arg(examples().join("tests/deployment").join(script))
        .args(arguments)
        .env("PYTHONPATH", packages());
    let output = run(python, input);
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn run(mut command: Command, input: &[u8]) -> Output {
    use std::io::Write as _;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// The configuration that a program has in its container: the files that it names are there.
fn config(text: &str, mounted: &str, env: &[(&str, &str)]) -> Config {
    let folder = tempfile::tempdir().unwrap();
    let text = text.replace(mounted, folder.path().to_str().unwrap());
    let ca = rcgen::generate_simple_self_signed(["db".to_owned()]).unwrap().cert.pem();
    let url = "postgres://fleet:x@db/fleet?sslmode=require";
    let files = [
        ("login/seed", "x"),
        ("login/creds", "x"),
        ("nats/ca.crt", &ca),
        ("database/ca.pem", &ca),
        ("database/url", url),
    ];
    for (file, text) in files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Config::parse("fleet.toml", &text, env, &[]).unwrap_or_else(|problems| panic!("{problems:?}"))
}
