//! The binary as its users meet it.
#![allow(clippy::unwrap_used, reason = "a test that can not go on says why by panicking")]

use std::process::{Command, Output};

fn fleet(args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-worker"));
    // Only what the test says, not what the machine happens to set.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FLEET_") {
            command.env_remove(name);
        }
    }
    command.args(args).envs(env.iter().copied()).output().unwrap()
}

fn check(text: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.toml");
    std::fs::write(&file, text).unwrap();
    let mut all = vec!["check", "--config", file.to_str().unwrap()];
    all.extend(args);
    fleet(&all, env)
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn check_shows_the_configuration_and_says_ok() {
    let output = check("cell = \"7\"", &[], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).contains("cell = \"7\"\n") && out(&output).ends_with("\nok\n"), "{}", out(&output));
}

#[test]
fn a_database_that_does_not_answer_is_no_mistake_of_the_configuration() {
    let output = check("[sink.timescale]\nurl = \"postgres://fleet@127.0.0.1:9/fleet\"", &[], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let said = out(&output);
    assert!(said.contains("\n# database: could not be asked: ") && said.ends_with("\nok\n"), "{said}");
}

#[test]
fn the_version_names_the_commit() {
    let said = out(&fleet(&["--version"], &[]));
    let commit =
        said.trim_end().strip_prefix("fleet-worker ").and_then(|v| v.split_once(" (")?.1.strip_suffix(')'));
    let commit = commit.unwrap().trim_end_matches('+');
    // Sources without a repository know no commit.
    let git = Command::new("git").args(["rev-parse", "HEAD"]).output().unwrap();
    let head = if git.status.success() { out(&git) } else { "unknown".to_owned() };
    assert!(commit.len() >= 7 && head.starts_with(commit), "{said} but {head}");
}

#[test]
fn help_and_version_are_no_errors() {
    for flag in ["--help", "--version"] {
        let output = fleet(&[flag], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(!out(&output).is_empty());
    }
    for command in ["run", "discover", "setup", "check", "simulate", "demo"] {
        assert_eq!(fleet(&[command, "--help"], &[]).status.code(), Some(0), "{command}");
        assert!(out(&fleet(&["--help"], &[])).contains(command));
    }
}

#[test]
fn bad_usage_is_64() {
    for args in [&["fly"][..], &[][..], &["check", "--nope"][..], &["simulate", "--speed", "0"][..]] {
        let output = fleet(args, &[]);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(!err(&output).is_empty());
    }
}

#[test]
fn a_demo_has_servers_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.toml");
    for section in ["nats", "sink.timescale"] {
        std::fs::write(&file, format!("interval = \"10s\"\n[{section}]\n")).unwrap();
        let output = fleet(&["demo", "--config", file.to_str().unwrap()], &[]);
        let name = section.split('.').next().unwrap();
        assert_eq!(output.status.code(), Some(64), "{}", err(&output));
        assert!(err(&output).ends_with(&format!("leave [{name}] out\n")), "{}", err(&output));
    }
}

#[test]
fn an_unknown_key_is_named() {
    let output = check("[nats]\nulr = \"x\"", &[], &[]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(err(&output), "fleet-worker: nats.ulr: is no key of the configuration\n");
}

#[test]
fn several_problems_come_at_once_one_line_each() {
    let output = check("interval = \"0s\"\ncolour = 1\n[log]\nlevel = \"loud\"", &[], &[("FLEET_A__B", "c")]);
    assert_eq!(output.status.code(), Some(64));
    let said = err(&output);
    assert_eq!(said.lines().count(), 4, "{said}");
    for path in ["interval: ", "colour: ", "log.level: ", "FLEET_A__B: "] {
        assert!(said.contains(&format!("fleet-worker: {path}")), "{path} is missing in {said}");
    }
}

#[test]
fn the_environment_and_flags_override() {
    let env = [("FLEET_CELL", "env"), ("FLEET_WORKER__BATCH_ROWS", "9"), ("FLEET_WORKER_PORT", "x")];
    let output = check("cell = \"file\"", &["--log-level", "debug"], &env);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    for line in ["cell = \"env\"", "batch_rows = 9", "level = \"debug\""] {
        assert!(out(&output).contains(line), "{line} is missing in {}", out(&output));
    }
    assert!(out(&check("", &["--cell", "flag"], &env)).contains("cell = \"flag\""));
}

#[test]
fn no_password_is_in_any_output() {
    let urls = [
        "nats://u:sesame@h:4222",
        "http://u:sesame@h",
        "nats://u:sesame",
        "postgres://u:sesame@h/d?sslmode=disable",
        "postgres://u:sesame/d",
        "postgres://h/d?password=sesame",
    ];
    for url in urls {
        let variables = [("FLEET_NATS__URL", url), ("FLEET_SINK__TIMESCALE__URL", url)];
        let outputs = [
            fleet(&["check", "--nats-url", url], &[]),
            fleet(&["check", "--database-url", url], &[]),
            fleet(&["check", url], &[]),
            fleet(&[url], &[]),
            fleet(&["simulate", "--vehicles", url], &[]),
            fleet(&["check"], &variables),
            check("[nats]\ntoken = \"sesame\"", &[], &[]),
        ];
        for output in outputs {
            assert!(matches!(output.status.code(), Some(0 | 64)), "{output:?}");
            let said = format!("{}{}", out(&output), err(&output));
            assert!(!said.contains("sesame"), "{url}: {said}");
            assert!(!said.is_empty());
        }
    }
}

#[test]
fn what_nobody_reads_is_no_error() {
    for (arguments, code) in [
        (&["check"][..], 0),
        (&["--help"], 0),
        (&["check", "--cell", "a b"], 64),
        (&["nonsense"], 64),
        (&[], 64),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-worker"));
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child =
            command.args(arguments).stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn without_arguments_the_help_has_its_examples_whole() {
    let said = err(&fleet(&[], &[]));
    assert!(said.contains("postgres://user@host/database"), "{said}");
}

#[test]
fn shells_and_the_manual_know_every_command() {
    let bash = out(&fleet(&["completions", "bash"], &[]));
    let folder = tempfile::tempdir().unwrap();
    // Not even a configuration that is wrong is read.
    let output = fleet(&["man", folder.path().to_str().unwrap()], &[("FLEET_CELL", "a b")]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    for command in ["run", "discover", "setup", "check", "simulate", "erase", "replay", "demo"] {
        assert!(bash.contains(command), "{command}");
        let page = folder.path().join(format!("fleet-worker-{command}.1"));
        assert!(std::fs::read_to_string(page).unwrap().contains("database\\-url"), "{command}");
    }
    assert_eq!(fleet(&["man", "/dev/null/x"], &[]).status.code(), Some(64));
}
