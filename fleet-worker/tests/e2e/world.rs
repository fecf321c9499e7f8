//! A deployment with a simulated fleet, and the comparison at the end.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use fleet_core::reference::{self, Samples};
use fleet_core::time::SECOND;
use fleet_core::{CellId, VehicleId};
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use fleet_worker::local::NatsServer;
use fleet_worker::simulate::{Ledger, Sampled, Simulation, SimulationOptions, Summary};
use fleet_worker::verify::{Verdict, verify};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// Times short enough for a test, and one lane, whatever the machine's cores are.
pub(crate) const QUICK: &str = r#"
interval = "1s"
window = "10s"
patience = "2s"

[worker]
lanes = 1
ack_wait = "4s"
save_interval = "1s"
round_interval = "500ms"
"#;

/// `ack_wait` of [`QUICK`].
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(4);

pub(crate) async fn deployment(workers: usize) -> Deployment {
    deployment_with("", workers).await
}

/// On a broker that keeps what it acknowledged even if it is killed.
pub(crate) async fn durable_deployment(workers: usize) -> Deployment {
    let nats = NatsServer::builder().jetstream("sync_interval: always").start().await.unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    Deployment::start_on(nats, program, QUICK, workers).await.unwrap()
}

/// With more lines for `[worker]`.
pub(crate) async fn deployment_with(worker: &str, workers: usize) -> Deployment {
    deployment_by(&format!("{QUICK}{worker}\n"), workers).await
}

/// By a whole configuration, but for the servers.
pub(crate) async fn deployment_by(config: &str, workers: usize) -> Deployment {
    Deployment::start(Path::new(env!("CARGO_BIN_EXE_fleet-worker")), config, workers).await.unwrap()
}

/// A fleet that publishes in the background.
pub(crate) type Fleet = JoinHandle<fleet_core::error::Result<Summary>>;

/// One that publishes for a while.
pub(crate) async fn fleet(deployment: &Deployment, options: SimulationOptions) -> Fleet {
    fleet_until(deployment, &deployment.config.cells, options, std::future::pending()).await
}

/// One of so many vehicles that publishes until the other value is dropped.
pub(crate) async fn endless_fleet(deployment: &Deployment, vehicles: usize) -> (Fleet, oneshot::Sender<()>) {
    let options = SimulationOptions { vehicles, ..SimulationOptions::default() };
    endless_fleet_of(deployment, &deployment.config.cells[0], options).await
}

/// The same in that cell, with these options.
pub(crate) async fn endless_fleet_of(
    deployment: &Deployment,
    cell: &CellId,
    options: SimulationOptions,
) -> (Fleet, oneshot::Sender<()>) {
    let (on, off) = oneshot::channel();
    let options = SimulationOptions { duration: None, ..options };
    let cells = std::slice::from_ref(cell);
    let fleet = fleet_until(deployment, cells, options, async { drop(off.await) }).await;
    (fleet, on)
}

async fn fleet_until(
    deployment: &Deployment,
    cells: &[CellId],
    options: SimulationOptions,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Fleet {
    let options = SimulationOptions {
        cells: cells.to_vec(),
        schema: deployment.config.schema.clone(),
        ledger: true,
        ..options
    };
    let simulation = Simulation::new(&deployment.config.nats.options(), options).await.unwrap();
    tokio::spawn(simulation.run(stop))
}

/// So many vehicles for so many seconds.
pub(crate) fn vehicles(vehicles: usize, seconds: u64) -> SimulationOptions {
    SimulationOptions {
        vehicles,
        duration: Some(Duration::from_secs(seconds)),
        ..SimulationOptions::default()
    }
}

/// Waits until something holds; says what did not.
pub(crate) async fn eventually<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> F,
) {
    let deadline = Instant::now() + within;
    while !holds().await {
        assert!(Instant::now() < deadline, "after {within:?} still not: {what}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the workers together hold so many vehicles.
pub(crate) async fn until_bound(deployment: &Deployment, vehicles: u64, within: Duration) {
    let bound = async || deployment.bound_by_living().await == vehicles;
    eventually(&format!("{vehicles} vehicles are bound"), within, bound).await;
}

/// Waits for the fleet's end and everything's release, and compares the table with the ledger.
pub(crate) async fn finish(deployment: &Deployment, fleet: Fleet) -> (Summary, Verdict) {
    let summary = fleet.await.unwrap().unwrap();
    deployment.until_released(Duration::from_secs(90)).await.unwrap();
    let verdict = compare(deployment, &summary.ledger).await;
    (summary, verdict)
}

pub(crate) async fn compare(deployment: &Deployment, ledger: &Ledger) -> Verdict {
    let client = deployment.client().await.unwrap();
    verify(&client, &deployment.config.schema, ledger).await.unwrap()
}

/// The table is exactly that of the samples, and there is one.
pub(crate) fn assert_exact(deployment: &Deployment, verdict: &Verdict) {
    assert!(verdict.is_good(), "{verdict:#?}\n{}", deployment.tails());
    assert!(verdict.expected > 0 && verdict.stored == verdict.expected, "{verdict:#?}");
}

/// Why programs say that they end: services in their log, which is JSON here, jobs in plain words.
pub(crate) fn last_words(said: &str) -> Vec<String> {
    let words = |line: &str| {
        if let Some(plain) = line.strip_prefix("fleet-worker: ") {
            return Some(plain.to_owned());
        }
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        (line["message"] == "fleet-worker ends" && line["level"] == "ERROR")
            .then(|| line["error"].as_str().unwrap().to_owned())
    };
    said.lines().filter_map(words).collect()
}

/// One number out of the database.
pub(crate) async fn count(deployment: &Deployment, query: &str) -> i64 {
    deployment.client().await.unwrap().query_one(query, &[]).await.unwrap().get(0)
}

/// One vehicle that is published by hand, with a ledger of its own.
pub(crate) struct Hand {
    js: async_nats::jetstream::Context,
    pub(crate) vehicle: VehicleId,
    samples: Vec<(usize, i64, Vec<f64>)>,
}

impl Hand {
    pub(crate) async fn new(deployment: &Deployment, vehicle: &str) -> Self {
        let client = async_nats::connect(deployment.nats.url()).await.unwrap();
        Self::on(async_nats::jetstream::new(client), vehicle)
    }

    /// On a connection of the caller's.
    pub(crate) fn on(js: async_nats::jetstream::Context, vehicle: &str) -> Self {
        Self { js, vehicle: VehicleId::new(vehicle).unwrap(), samples: Vec::new() }
    }

    pub(crate) async fn send(&self, last: &str, payload: impl Into<bytes::Bytes>) {
        let subject = format!("fleet.0.{}.{last}", self.vehicle);
        self.js.publish(subject, payload.into()).await.unwrap().await.unwrap();
    }

    /// A speed as plain JSON, at an event time in whole milliseconds.
    pub(crate) async fn speed(&mut self, time: i64, value: f64) {
        let time = time - time.rem_euclid(1_000);
        self.send("speed", format!("{{\"ts\":{},\"value\":{value}}}", time / 1_000)).await;
        self.samples.push((1, time, vec![value]));
    }

    /// A speed as a frame with this counter.
    pub(crate) async fn frame(&mut self, sequence: u16, time: i64, value: f64) {
        let time = time - time.rem_euclid(1_000);
        let schema = fleet_core::Schema::default();
        let mut samples = fleet_core::sample::Samples::new(1);
        samples.push(time, &[value]);
        let mut payload = Vec::new();
        fleet_core::decode::frame::encode(&schema.signals()[1], sequence, &samples, &mut payload).unwrap();
        self.send("speed", payload).await;
        self.samples.push((1, time, vec![value]));
    }

    /// Speeds of the last seconds, every 500 ms.
    pub(crate) async fn drive(&mut self, from: i64, seconds: i64) {
        for half in 0..=2 * seconds {
            self.speed(from + half * SECOND / 2, 50.0 + half as f64).await;
        }
    }

    pub(crate) fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(vec![self.vehicle.clone()]);
        self.add_to(&mut ledger, 0);
        ledger.sort();
        ledger
    }

    /// Its samples as those of a ledger's n-th vehicle.
    pub(crate) fn add_to(&self, ledger: &mut Ledger, vehicle: usize) {
        for (signal, time, values) in &self.samples {
            ledger.add(vehicle, Sampled { signal: *signal, time: *time, published: now(), values });
        }
    }

    /// Takes down a sample that somebody else publishes.
    pub(crate) fn note(&mut self, signal: usize, time: i64, values: &[f64]) {
        self.samples.push((signal, time, values.to_vec()));
    }

    /// How many rows the samples so far give.
    pub(crate) fn expected_rows(&self, deployment: &Deployment) -> usize {
        let schema = &deployment.config.schema;
        let mut samples = vec![Samples::new(); schema.signals().len()];
        for (signal, time, values) in &self.samples {
            reference::add(&mut samples[*signal], *time, values);
        }
        reference::table(schema, &samples).len()
    }

    pub(crate) async fn assert_exact(&self, deployment: &Deployment) {
        let verdict = compare(deployment, &self.ledger()).await;
        assert_exact(deployment, &verdict);
    }
}
