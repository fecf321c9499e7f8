//! The whole job with exactly the shipped users: setup, discovery, workers, vehicles in Rust and in C.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::jetstream;
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use fleet_worker::config::Config;
use fleet_worker::deployment::Program;
use fleet_worker::local::Postgres;
use fleet_worker::simulate::Ledger;
use fleet_worker::verify::verify;
use tokio::process::Command;

use super::guarded::{Guarded, stored};
use crate::sensor_c;
use crate::world::{Hand, QUICK, eventually};

/// Programs with logins of their own, beside one database.
pub(crate) struct Job {
    pub(super) guarded: Guarded,
    postgres: Postgres,
    config: PathBuf,
    started: usize,
}

impl Job {
    /// After `setup` with its own login.
    pub(crate) async fn start(vehicles: &[&str]) -> Self {
        let guarded = Guarded::start(vehicles).await;
        let postgres = Postgres::builder().start().await.unwrap();
        let config = guarded.config(QUICK);
        let job = Self { guarded, postgres, config, started: 0 };
        let setup = job.command("setup", "SETUP_0_A").output().await.unwrap();
        assert!(setup.status.success(), "{}", String::from_utf8_lossy(&setup.stderr));
        job
    }

    pub(crate) fn command(&self, command: &str, login: &str) -> Command {
        let mut program = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
        program.arg(command).arg("--config").arg(&self.config);
        program.env("FLEET_NATS__NKEY_FILE", self.guarded.seed_file(login));
        program.env("FLEET_SINK__TIMESCALE__URL", self.postgres.url());
        program
    }

    /// `discover` or `run`, once it is ready.
    pub(super) async fn program(&mut self, command: &str, login: &str) -> Program {
        self.started += 1;
        let log = self.guarded.folder().join(format!("{command}-{}.log", self.started));
        Program::start(self.command(command, login), log).await.unwrap()
    }

    /// The table is exactly that of all vehicles' samples.
    pub(super) async fn assert_exact(&self, hands: &[Hand]) {
        let mut ledger = Ledger::new(hands.iter().map(|hand| hand.vehicle.clone()).collect());
        for (number, hand) in hands.iter().enumerate() {
            hand.add_to(&mut ledger, number);
        }
        ledger.sort();
        let config = Config::load(Some(&self.config), std::iter::empty(), &[]).unwrap();
        let client = self.postgres.client().await.unwrap();
        let verdict = verify(&client, &config.schema, &ledger).await.unwrap();
        assert!(verdict.is_good() && verdict.expected > 3, "{verdict:#?}");
    }
}

/// How many vehicles are on, as discovery tells KEDA.
pub(super) async fn active(discovery: &Program) -> Option<u64> {
    let (status, body) = discovery.get("/bindings").await?;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<serde_json::Value>(&body).unwrap()["active"].as_u64()
}

pub(super) async fn until_active(discovery: &Program, vehicles: u64) {
    let what = format!("{vehicles} vehicles are active; {}", discovery.process.logs());
    eventually(&what, Duration::from_secs(40), async || active(discovery).await == Some(vehicles)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_permissions_are_enough_for_everything() {
    let programs = sensor_c::programs(&["sensor-tls"]).await;
    let mut job = Job::start(&["CAR-1", "CAR-2", "C-1"]).await;
    let discovery = job.program("discover", "DISCOVERY_0_A").await;
    let mut first = job.program("run", "WORKER_0_A").await;

    let mut hands = Vec::new();
    for id in ["CAR-1", "CAR-2", "C-1"] {
        let hand = Hand::on(jetstream::new(job.guarded.vehicle(id).await.0), id);
        hand.send("on", "").await;
        hands.push(hand);
    }
    until_active(&discovery, 3).await;
    let begun = now() - 8 * SECOND;
    hands[0].drive(begun, 4).await;
    hands[1].drive(begun, 4).await;
    hands[1].send("speed", "not a sample").await;

    // The third one's speed comes from the C client, by TLS and its nkey.
    let mut text = String::new();
    for n in 0..40 {
        let (time, value) = ((begun + n * SECOND / 5) / 1_000 * 1_000, 40.0 + n as f64 / 4.0);
        text += &format!("{},{value}\n", time / 1_000);
        hands[2].note(1, time, &[value]);
    }
    let (file, seed) = (programs.path().join("speeds.csv"), programs.path().join("seed"));
    std::fs::write(&file, text).unwrap();
    std::fs::write(&seed, job.guarded.vehicle_seed("C-1")).unwrap();
    let (ca, url) = (job.guarded.ca.file(), job.guarded.url());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let options = ["--ca", &text(&ca), "--creds", &text(&seed), &url, "0", "C-1", "speed", &text(&file)];
    let said = sensor_c::ended(sensor_c::start(&programs, "sensor-tls", &options)).await;
    assert!(said.starts_with("pushed 40 acknowledged 40 dropped 0"), "{said}");

    // Another worker, with the other key, claims what the first one held.
    first.process.kill().await;
    let second = job.program("run", "WORKER_0_B").await;
    let from = now() - 3 * SECOND;
    for hand in &mut hands[..2] {
        hand.drive(from, 3).await;
    }
    for hand in &hands {
        hand.send("off", "").await;
    }
    until_active(&discovery, 0).await;

    job.assert_exact(&hands).await;
    let letters = stored(&job.guarded.operator().await, "DEADLETTER_0").await;
    assert_eq!(letters, [("deadletter.0.CAR-2".to_owned(), "not a sample".to_owned())]);
    for program in [&discovery, &first, &second] {
        assert!(!program.process.logs().contains("refuses"), "{}", program.process.logs());
    }
}
