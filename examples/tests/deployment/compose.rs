//! `examples/compose.yaml` and `examples/Dockerfile`.

use std::collections::BTreeMap;
use std::process::Command;

use clap::Parser as _;
use fleet_worker::cli::{Cli, SetupArgs};
use fleet_worker::commands::setup::setup;
use fleet_worker::config::Config;
use fleet_worker::local::{NatsServer, Postgres};
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
        assert_eq!(service["build"]["args"]["FLEET_COMMIT"], "${FLEET_COMMIT:-}");
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
fn its_prometheus_finds_the_programs_and_the_rules() {
    let compose = checked();
    let services = &compose["services"];
    for volume in services["prometheus"]["volumes"].as_array().unwrap().iter().filter(|v| v.is_object()) {
        let source = examples().join(volume["source"].as_str().unwrap());
        assert!(source.is_file(), "{}", source.display());
    }
    let config = std::fs::read_to_string(examples().join("prometheus/prometheus.yaml")).unwrap();
    assert!(config.contains("rule_files: [/etc/prometheus/rules.yaml]"), "{config}");
    for (job, service) in [("fleet-worker", "worker"), ("fleet-discovery", "discovery")] {
        assert!(services[service].is_object());
        let scraped =
            format!("job_name: {job}\n    dns_sd_configs: [{{ names: [{service}], type: A, port: 9600");
        assert!(config.contains(&scraped), "{config}");
    }
    assert_eq!(services["grafana"]["environment"]["FLEET_GRAFANA_PROMETHEUS_URL"], "http://prometheus:9090");
}

#[test]
fn a_mistake_in_it_is_seen() {
    let text = compose().replace("restart: unless-stopped", "restarts: unless-stopped");
    assert!(python("compose.py", &[], text.as_bytes()).unwrap_err().contains("'restarts' was unexpected"));
}

/// On a laptop: the server has little room for streams, and the streams ask for no more.
#[tokio::test(flavor = "multi_thread")]
async fn its_broker_has_room_for_what_setup_makes() {
    let compose = tokio::task::spawn_blocking(checked).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let text = compose["configs"]["nats"]["content"].as_str().unwrap();
    let text =
        text.replace("/data", folder.path().to_str().unwrap()).replace("http: 8222", "server_name: compose");
    let file = folder.path().join("nats.conf");
    std::fs::write(&file, text).unwrap();
    let nats = NatsServer::builder().file(&file, "compose").start().await.unwrap();
    let postgres = Postgres::builder().start().await.unwrap();
    postgres.client().await.unwrap().batch_execute("create role grafana").await.unwrap();
    let env = compose["services"]["setup"]["environment"].as_object().unwrap().iter();
    let mut env: BTreeMap<_, _> =
        env.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
    env.insert("FLEET_NATS__URL".to_owned(), nats.url());
    env.insert("FLEET_SINK__TIMESCALE__URL".to_owned(), postgres.url());
    let config = Config::parse("", "", env.clone().into_iter(), &[]).unwrap();
    assert!(config.nats.max_bytes <= 1 << 30);
    setup(&config, &SetupArgs::default()).await.unwrap();
    env.insert("FLEET_NATS__MAX_BYTES".to_owned(), "3GiB".to_owned());
    let larger = Config::parse("", "", env.into_iter(), &[]).unwrap();
    let refused = setup(&larger, &SetupArgs::default()).await.unwrap_err().to_string();
    assert!(refused.contains("whose max_bytes is reserved at once"), "{refused}");
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
    // An argument is a variable of the commands behind it.
    let (argument, build) = (text.find("\nARG FLEET_COMMIT\n"), text.find("cargo build"));
    assert!(argument.is_some() && argument < build, "`--version` would name no commit");
    let features = text.split("--features ").nth(1).unwrap().split_whitespace().next().unwrap();
    let worker = manifest("fleet-worker/Cargo.toml");
    for feature in features.split(',') {
        assert!(worker["features"].get(feature).is_some(), "fleet-worker has no feature {feature}");
    }
    let user = text.lines().filter_map(|line| line.strip_prefix("USER ")).next_back().unwrap();
    assert_eq!(user, "65532:65532");
}
