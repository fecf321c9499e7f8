//! `examples/compose.yaml` and `examples/Dockerfile`.

use std::process::Command;

use clap::Parser as _;
use fleet_worker::cli::Cli;
use fleet_worker::config::Config;
use fleet_worker::local::NatsServer;
use serde_json::Value;

use crate::{examples, packages, python, run};

fn compose() -> String {
    std::fs::read_to_string(examples().join("compose.yaml")).unwrap()
}

fn checked() -> Value {
    python("compose.py", &[], compose().as_bytes()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The services that are ours: those of our image.
fn programs(compose: &Value) -> Vec<(&String, &Value)> {
    let all = compose["services"].as_object().unwrap().iter();
    all.filter(|(_, service)| service["image"] == "fleet-worker").collect()
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap())
}

#[test]
fn the_specification_takes_it_and_the_programs_take_their_part() {
    let compose = checked();
    let services = &compose["services"];
    let mut commands = Vec::new();
    for (name, service) in programs(&compose) {
        let cli = Cli::try_parse_from(["fleet-worker"].into_iter().chain(texts(&service["command"])));
        let cli = cli.unwrap_or_else(|e| panic!("{name}: {e}"));
        let env = service["environment"].as_object().unwrap().iter();
        let env = env.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        let config = Config::parse("", "", env, &cli.global.overrides());
        let config = config.unwrap_or_else(|problems| panic!("{name}: {problems:?}"));
        assert_eq!(config.admin.unwrap().port(), 9600);
        let database = config.need_timescale().unwrap();
        assert!(database.url.expose().contains("@timescaledb:5432/fleet"), "{name}");
        assert_eq!(config.nats.url.expose(), "nats://nats:4222");
        assert!(services["nats"].is_object() && services["timescaledb"].is_object());
        assert_eq!((&service["read_only"], &service["cap_drop"][0]), (&true.into(), &"ALL".into()));
        commands.push(texts(&service["command"]).next().unwrap().to_owned());
    }
    commands.sort();
    assert_eq!(commands, ["discover", "run", "setup", "simulate"]);
    assert_eq!(services["worker"]["deploy"]["replicas"], 2);
}

#[test]
fn a_mistake_in_it_is_seen() {
    let text = compose().replace("restart: unless-stopped", "restarts: unless-stopped");
    assert!(python("compose.py", &[], text.as_bytes()).unwrap_err().contains("'restarts' was unexpected"));
}

#[tokio::test]
async fn its_broker_starts() {
    let compose = tokio::task::spawn_blocking(checked).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = compose["configs"]["nats"]["content"].as_str().unwrap();
    let text =
        text.replace("/data", folder.path().to_str().unwrap()).replace("http: 8222", "server_name: compose");
    let file = folder.path().join("nats.conf");
    std::fs::write(&file, text).unwrap();
    NatsServer::builder().file(&file, "compose").start().await.unwrap();
}

#[test]
fn the_image_is_built_from_what_there_is() {
    let file = examples().join("Dockerfile");
    let mut hadolint = Command::new(packages().join("bin/hadolint"));
    hadolint.arg(&file);
    let output = run(hadolint, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));

    let text = std::fs::read_to_string(&file).unwrap();
    let manifest = |path: &str| -> toml::Table {
        std::fs::read_to_string(examples().join("..").join(path)).unwrap().parse().unwrap()
    };
    let rust = manifest("Cargo.toml")["workspace"]["package"]["rust-version"].as_str().unwrap().to_owned();
    assert!(text.contains(&format!("rust:{rust}-")), "the compiler is {rust}");
    let features = text.split("--features ").nth(1).unwrap().split_whitespace().next().unwrap();
    let worker = manifest("fleet-worker/Cargo.toml");
    for feature in features.split(',') {
        assert!(worker["features"].get(feature).is_some(), "fleet-worker has no feature {feature}");
    }
    let user = text.lines().filter_map(|line| line.strip_prefix("USER ")).next_back().unwrap();
    assert_eq!(user, "65532:65532");
}
