//! `setup` does all of it or nothing, and whose a cell is counts.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use async_nats::jetstream;
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use fleet_worker::deployment::{Deployment, Program};
use fleet_worker::local::Postgres;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::world::{Hand, QUICK, count, deployment, eventually, until_bound};

/// Without its signals; a file of theirs follows.
const SPEED: &str = r#"
[[signal]]
name = "speed"
columns = [{ name = "speed_kmh", unit = "km/h", min = 0, max = 400 }]
interpolation = "linear"
"#;

const TYRE: &str = r#"
[[signal]]
name = "tyre"
columns = [{ name = "tyre_bar", unit = "bar", min = 0, max = 9, wire = { integer = "u16", scale = 0.001 } }]
interpolation = "linear"
"#;

/// The scenario's four.
const FOUR: &str = r#"
[[signal]]
name = "position"
columns = [{ name = "latitude", unit = "deg", min = -90, max = 90 }, { name = "longitude", unit = "deg", min = -180, max = 180 }]
interpolation = "great_circle"
[[signal]]
name = "speed"
columns = [{ name = "speed_kmh", unit = "km/h", min = 0, max = 400 }]
interpolation = "linear"
[[signal]]
name = "fuel"
columns = [{ name = "fuel_level_pct", unit = "%", min = 0, max = 100 }]
interpolation = "linear"
[[signal]]
name = "brake"
columns = [{ name = "brake_fluid_temp_c", unit = "Cel", min = -60, max = 400 }]
interpolation = "linear"
"#;

/// A file with these signals.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn with(signals: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = QUICK.replacen("[worker]", &format!("{signals}[worker]"), 1);
        std::fs::write(folder.path().join("fleet.toml"), text).unwrap();
        Self { folder }
    }

    /// A program by it at a deployment's servers.
    fn command(&self, deployment: &Deployment, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
        command.args(arguments).arg("--config").arg(self.folder.path().join("fleet.toml"));
        command.args(["--nats-url", &deployment.nats.url()]);
        command.env("FLEET_SINK__TIMESCALE__URL", deployment.postgres.url());
        command.env("FLEET_ADMIN__LISTEN", "127.0.0.1:0").env("FLEET_LOG__FORMAT", "text").kill_on_drop(true);
        command
    }
}

async fn ended(mut command: Command) -> (Option<i32>, String) {
    let output: Output = command.output().await.unwrap();
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    (output.status.code(), said.concat())
}

async fn assert_ends(command: Command, code: i32, parts: &[&str]) {
    let (ended, said) = ended(command).await;
    assert_eq!(ended, Some(code), "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{parts:?} in {said}");
}

/// Every stream's and consumer's configuration.
async fn streams(deployment: &Deployment) -> Vec<Value> {
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let mut all = Vec::new();
    for subject in [
        "STREAM.INFO.TELEMETRY_0",
        "STREAM.INFO.LIFECYCLE_0",
        "STREAM.INFO.BINDINGS_0",
        "STREAM.INFO.DEADLETTER_0",
        "CONSUMER.INFO.BINDINGS_0.workers",
        "CONSUMER.INFO.LIFECYCLE_0.discovery",
    ] {
        let mut info: Value = js.request(subject, &json!({})).await.unwrap();
        all.push(info["config"].take());
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_unreachable_changes_nothing_anywhere() {
    let deployment = deployment(0).await;
    let before = streams(&deployment).await;
    assert_eq!(before[0]["subjects"].as_array().unwrap().len(), 5, "four signals and the fence");
    let columns = "select count(*) from pg_attribute where attrelid = 'telemetry'::regclass and attnum > 0";
    let had = count(&deployment, columns).await;

    let fewer = File::with(SPEED);
    for arguments in [&["setup"][..], &["setup", "--dry-run"]] {
        let mut setup = fewer.command(&deployment, arguments);
        setup.env("FLEET_NATS__MAX_BYTES", "64MiB");
        let parts =
            ["keeps position, fuel, brake", "--remove-signals", "signal 1 is \"position\" in the database"];
        assert_ends(setup, 64, &parts).await;
    }
    let same = File::with(FOUR);
    let mut setup = same.command(&deployment, &["setup"]);
    setup.env("FLEET_NATS__MAX_BYTES", "64MiB");
    setup.env("FLEET_SINK__TIMESCALE__URL", "postgres://fleet@127.0.0.1:9/fleet");
    assert_ends(setup, 69, &["127.0.0.1:9"]).await;
    let more = File::with(&(FOUR.to_owned() + TYRE));
    let mut setup = more.command(&deployment, &["setup"]);
    // More than any disk has: the server's refusal comes when the tables are changed already.
    setup.env("FLEET_NATS__MAX_BYTES", "4000000GiB");
    assert_ends(setup, 64, &["TELEMETRY_0"]).await;

    // Dry, it is said and not done.
    let mut setup = more.command(&deployment, &["setup", "--dry-run"]);
    setup.env("FLEET_NATS__MAX_BYTES", "64MiB");
    let parts = [
        "database: is PostgreSQL ",
        "add the signal tyre with the columns tyre_bar",
        "TELEMETRY_0: max_bytes 67108864",
        "fleet.0.*.tyre",
    ];
    assert_ends(setup, 0, &parts).await;

    assert_eq!(streams(&deployment).await, before);
    assert_eq!(count(&deployment, columns).await, had);
    assert_ends(same.command(&deployment, &["setup"]), 0, &[]).await;
    assert_ends(same.command(&deployment, &["setup", "--dry-run"]), 0, &["nothing would change"]).await;
    assert_ends(same.command(&deployment, &["check"]), 0, &["# database: PostgreSQL ", "\nok\n"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subjects_go_only_where_they_are_told_to() {
    let deployment = deployment(0).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    // Somebody's experiment, and somebody else's subject.
    let mut config = streams(&deployment).await[0].take();
    let subjects = config["subjects"].as_array_mut().unwrap();
    subjects.extend([json!("fleet.0.*.lidar"), json!("weather.>")]);
    let _: Value = js.request("STREAM.UPDATE.TELEMETRY_0", &config).await.unwrap();
    let file = File::with(FOUR);
    assert_ends(file.command(&deployment, &["setup"]), 64, &["keeps lidar"]).await;
    assert_eq!(streams(&deployment).await[0]["subjects"].as_array().unwrap().len(), 7);
    assert_ends(file.command(&deployment, &["setup", "--remove-signals"]), 0, &[]).await;
    let left = streams(&deployment).await[0]["subjects"].to_string();
    assert!(
        left.contains("weather.>") && left.contains("fleet.0.*.brake") && !left.contains("lidar"),
        "{left}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_set_beside_us_stays() {
    let deployment = deployment(0).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let all = streams(&deployment).await;
    for mut config in all.into_iter().take(4) {
        config["description"] = "the fleet's".into();
        config["duplicate_window"] = json!(30 * 60 * 1_000_000_000_u64);
        config["compression"] = "s2".into();
        config["metadata"]["team"] = "telematics".into();
        let subject = format!("STREAM.UPDATE.{}", config["name"].as_str().unwrap());
        let answer: Value = js.request(subject, &config).await.unwrap();
        assert_eq!(answer["error"], Value::Null, "{answer}");
    }
    let mut before = streams(&deployment).await;
    let file = File::with(FOUR);
    let mut setup = file.command(&deployment, &["setup"]);
    setup.env("FLEET_NATS__MAX_BYTES", "64MiB").env("FLEET_NATS__MAX_AGE", "2h");
    assert_ends(setup, 0, &[]).await;
    before[0]["max_bytes"] = json!(64 << 20);
    before[0]["max_age"] = json!(2 * 3_600 * 1_000_000_000_u64);
    let after = streams(&deployment).await;
    before[3]["max_bytes"] = after[3]["max_bytes"].clone();
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_deployments_programs_are_refused_in_a_cell() {
    let deployment = deployment(1).await;
    let before = streams(&deployment).await;
    let other = Postgres::builder().start().await.unwrap();
    let file = File::with(FOUR);
    let strangers = |arguments: &[&str]| {
        let mut command = file.command(&deployment, arguments);
        command.env("FLEET_SINK__TIMESCALE__URL", other.url());
        command
    };
    let theirs = ["belongs to the deployment", "--take-over"];
    assert_ends(strangers(&["setup"]), 64, &theirs).await;
    // Nothing was begun there either.
    let tables = "select count(*) from pg_class where relname like 'fleet%' or relname = 'telemetry'";
    let client = other.client().await.unwrap();
    assert_eq!(client.query_one(tables, &[]).await.unwrap().get::<_, i64>(0), 0);

    // It has a cell of its own, and takes ours by mistake.
    let mut setup = strangers(&["setup", "--cell", "7"]);
    setup.env("FLEET_NATS__MAX_BYTES", "64MiB");
    assert_ends(setup, 0, &[]).await;
    for arguments in [
        &["run"][..],
        &["discover"],
        &["setup"],
        &["replay", "--from", "1h"],
        &["erase", "--vehicle", "CAR-1"],
    ] {
        assert_ends(strangers(arguments), 64, &theirs).await;
    }
    assert_eq!(streams(&deployment).await, before);

    // An operator may say that it is meant.
    assert_ends(strangers(&["setup", "--take-over"]), 0, &[]).await;
    assert_ends(file.command(&deployment, &["run"]), 64, &theirs).await;
    let worker = &deployment.workers[0].process;
    eventually("the worker of before ends", Duration::from_secs(60), async || {
        worker.logs().contains("belongs to the deployment")
    })
    .await;
}

/// Two files stand for two builds: a worker of before, and one that knows a fifth signal.
#[tokio::test(flavor = "multi_thread")]
async fn workers_of_before_and_after_a_new_signal_share_a_deployment() {
    let mut deployment = deployment(1).await;
    let mut hand = Hand::new(&deployment, "CAR-1").await;
    hand.send("on", "").await;
    until_bound(&deployment, 1, Duration::from_secs(60)).await;
    let begun = (now() - 3 * SECOND) / SECOND * SECOND;

    let (old, new) = (File::with(FOUR), File::with(&(FOUR.to_owned() + TYRE)));
    // A worker of after waits for its setup.
    assert_ends(
        new.command(&deployment, &["run"]),
        64,
        &["tyre", "is not in the database yet: run the setup"],
    )
    .await;
    assert_ends(new.command(&deployment, &["setup"]), 0, &[]).await;

    // The old one that runs goes on.
    hand.speed(begun, 50.0).await;
    hand.speed(begun + 2 * SECOND, 52.0).await;
    let stored = "select count(*) from telemetry where speed_kmh is not null";
    eventually("the old worker stores", Duration::from_secs(60), async || {
        count(&deployment, stored).await >= 3
    })
    .await;
    deployment.kill_worker().await;

    // The new one takes over, and finds the fifth signal.
    let log = |name: &str| new.folder.path().join(name);
    let newer = Program::start(new.command(&deployment, &["run"]), log("new")).await.unwrap();
    let tyre = async |time: i64, value: f64| {
        hand.send("tyre", format!("{{\"ts\":{},\"value\":{value}}}", time / 1_000)).await;
    };
    tyre(begun, 2.5).await;
    tyre(begun + 2 * SECOND, 2.5).await;
    let kept = "select count(*) from telemetry where tyre_bar = 2.5::real and speed_kmh is not null";
    eventually("the new worker stores both", Duration::from_secs(60), async || {
        count(&deployment, kept).await >= 3
    })
    .await;
    let mut newer = newer;
    newer.process.kill().await;

    // And back: the old one starts, and what it corrects keeps the other's values and bits.
    let older = Program::start(old.command(&deployment, &["run"]), log("old")).await.unwrap();
    eventually("the old worker is back", Duration::from_secs(60), async || {
        older.metric("fleet_bound").await == Some(1)
    })
    .await;
    let corrected = "select count(*) from telemetry where speed_kmh = 51.5::real and tyre_bar = 2.5::real \
                     and (quality >> 8) & 3 <> 0 and (quality >> 2) & 3 = 1";
    hand.send("speed", format!("{{\"ts\":{},\"value\":51.5}}", (begun + SECOND) / 1_000)).await;
    eventually("a merge keeps the fifth signal", Duration::from_secs(60), async || {
        count(&deployment, corrected).await == 1
    })
    .await;
    // Whoever replaces would lose it, and its setup would not know what to do with it.
    for arguments in [&["replay", "--from", "10m", "--replace"][..], &["setup"]] {
        let why = ["\"tyre\" is in the database but not in the configuration"];
        let why = if arguments[0] == "setup" { [why[0], "keeps tyre"].to_vec() } else { why.to_vec() };
        assert_ends(old.command(&deployment, arguments), 64, &why).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_consumers_ack_wait_is_the_one_that_counts() {
    let deployment = deployment(1).await;
    let file = File::with(FOUR);
    let mut worker = file.command(&deployment, &["run"]);
    worker.env("FLEET_WORKER__ACK_WAIT", "3s");
    let log = file.folder.path().join("run");
    let worker = Program::start(worker, log).await.unwrap();
    let said = worker.process.logs();
    assert!(said.contains("worker.ack_wait differs") && said.contains("3s") && said.contains("4s"), "{said}");
    let mut setup = file.command(&deployment, &["setup"]);
    setup.env("FLEET_WORKER__ACK_WAIT", "3s");
    assert_ends(setup, 0, &[]).await;
    for process in [&worker.process, &deployment.workers[0].process] {
        eventually("a running worker takes the new one", Duration::from_secs(60), async || {
            process.logs().contains("the consumer's ack_wait was changed")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulation_without_acks_ends_and_says_why() {
    let deployment = deployment(0).await;
    // A signal that no stream takes: its messages alone get no ack.
    let more = File::with(&(FOUR.to_owned() + TYRE));
    let simulated = more.command(&deployment, &["simulate", "--vehicles", "30", "--seconds", "20"]);
    let (code, said) = tokio::time::timeout(Duration::from_secs(120), ended(simulated)).await.unwrap();
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("messages got no ack and 0 of 30 vehicles could not be switched off: "), "{said}");
}
