//! Several cells and lanes in one process.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use fleet_core::CellId;
use fleet_core::nats::{Names, Owner, StreamOptions, set_up};
use fleet_core::time::{SECOND, display};
use fleet_worker::cli::SetupArgs;
use fleet_worker::clock::now;
use fleet_worker::commands::erase::erase_vehicle;
use fleet_worker::commands::setup::setup;
use fleet_worker::deployment::{Deployment, Program};
use fleet_worker::local::http_get;
use fleet_worker::simulate::SimulationOptions;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::oneshot;

use crate::erase::messages_of;
use crate::failures::until_readyz;
use crate::misconfigured::Started;
use crate::replay::{replayed, short};
use crate::world::{
    ACK_WAIT, Fleet, QUICK, assert_exact, compare, count, deployment_by, endless_fleet, endless_fleet_of,
    eventually, finish, last_words, until_bound,
};

/// Vehicles of the first cell and of the second.
const VEHICLES: [u64; 2] = [20, 30];

/// Of both.
const ALL: u64 = VEHICLES[0] + VEHICLES[1];

const SOON: Duration = Duration::from_secs(30);

/// Two cells, on so many lanes.
fn two_cells(lanes: usize) -> String {
    format!("cells = [\"0\", \"west\"]\n{}", with_lanes(lanes))
}

/// [`QUICK`] on so many lanes.
pub(crate) fn with_lanes(lanes: usize) -> String {
    QUICK.replace("lanes = 1", &format!("lanes = {lanes}"))
}

/// A fleet of a cell, whose name is in the vehicles' ids.
async fn fleet_of(deployment: &Deployment, cell: &CellId, vehicles: u64) -> (Fleet, oneshot::Sender<()>) {
    let (vehicles, prefix) = (usize::try_from(vehicles).unwrap(), format!("CELL-{cell}-"));
    let options = SimulationOptions { vehicles, prefix, ..SimulationOptions::default() };
    endless_fleet_of(deployment, cell, options).await
}

/// A fleet in each cell.
struct Fleets(Vec<(Fleet, oneshot::Sender<()>)>);

impl Fleets {
    async fn start(deployment: &Deployment) -> Self {
        let mut fleets = Vec::new();
        for (cell, vehicles) in deployment.config.cells.iter().zip(VEHICLES) {
            fleets.push(fleet_of(deployment, cell, vehicles).await);
        }
        until_bound(deployment, ALL, SOON).await;
        Self(fleets)
    }

    /// Switches off, and compares.
    async fn assert_exact(self, deployment: &Deployment) {
        let mut ledgers = Vec::new();
        for (fleet, on) in self.0 {
            drop(on);
            ledgers.push(fleet.await.unwrap().unwrap().ledger);
        }
        deployment.until_released(Duration::from_secs(90)).await.unwrap();
        for ledger in ledgers {
            crate::world::assert_exact(deployment, &compare(deployment, &ledger).await);
        }
    }
}

/// A second worker's or a job's command, with the deployment's servers.
fn command(deployment: &Deployment, file: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
    command.args(arguments).arg("--config").arg(file).args(["--nats-url", &deployment.nats.url()]);
    command.args(["--database-url", &deployment.postgres.url()]);
    command
}

async fn json_of(program: &Program, path: &str) -> Value {
    let (status, body) = program.get(path).await.unwrap();
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn bound(admin: &str, of: &str) -> Option<u64> {
    fleet_worker::metrics::sum(&http_get(admin, "/metrics").await?.1, &format!("fleet_bound{of}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_worker_and_one_discovery_serve_two_cells_and_tell_of_each() {
    let deployment = deployment_by(&two_cells(2), 1).await;
    let fleets = Fleets::start(&deployment).await;
    let of = |vehicles: u64| json!({ "waiting": 0, "bound": vehicles, "active": vehicles });
    let (home, west) = (of(VEHICLES[0]), of(VEHICLES[1]));
    let mut all = of(ALL);
    all["cells"] = json!({ "0": home, "west": west });
    assert_eq!(json_of(&deployment.discovery, "/bindings").await, all);
    assert_eq!(json_of(&deployment.discovery, "/bindings/0").await, home);
    assert_eq!(json_of(&deployment.discovery, "/bindings/west").await, west);
    assert_eq!(deployment.discovery.get("/bindings/east").await.unwrap().0, 404);
    let [worker] = &deployment.workers[..] else { panic!("one worker") };
    for (cell, lane, vehicles) in [("0", 0, VEHICLES[0]), ("west", 1, VEHICLES[1])] {
        let labels = format!("{{cell=\"{cell}\",lane=\"{lane}\"}}");
        assert_eq!(bound(worker.address(), &labels).await, Some(vehicles), "{labels}");
        let enqueued = format!("fleet_discovery_enqueued_total{{cell=\"{cell}\"}}");
        assert_eq!(deployment.discovery.metric(&enqueued).await, Some(vehicles), "{enqueued}");
    }
    fleets.assert_exact(&deployment).await;
}

/// More cells than lanes: a lane has the pipelines of both.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_cells_are_taken_over_by_the_other() {
    let mut deployment = deployment_by(&two_cells(1), 2).await;
    let fleets = Fleets::start(&deployment).await;
    let had = deployment.kill_worker().await;
    assert!(had > 0, "it had none");
    until_bound(&deployment, ALL, ACK_WAIT + SOON).await;
    for (cell, vehicles) in [("0", VEHICLES[0]), ("west", VEHICLES[1])] {
        let labels = format!("{{cell=\"{cell}\"");
        assert_eq!(bound(deployment.workers[0].address(), &labels).await, Some(vehicles), "{cell}");
    }
    fleets.assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_end_gives_back_the_vehicles_of_all_lanes() {
    let mut deployment = deployment_by(&two_cells(3), 2).await;
    let fleets = Fleets::start(&deployment).await;
    let mut leaving = deployment.workers.remove(0);
    leaving.process.terminate().unwrap();
    let ended = leaving.process.wait(Duration::from_secs(20)).await.unwrap();
    assert_eq!(ended.0.code(), Some(0), "{}", leaving.process.tail());
    // Sooner than `ack_wait` would bring them.
    until_bound(&deployment, ALL, Duration::from_secs(3)).await;
    fleets.assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lanes_of_a_cell_share_its_vehicles() {
    let deployment = deployment_by(&with_lanes(3), 1).await;
    let (fleet, on) = endless_fleet(&deployment, 90).await;
    until_bound(&deployment, 90, SOON).await;
    for lane in 0..3 {
        let labels = format!("{{cell=\"0\",lane=\"{lane}\"}}");
        let has = bound(deployment.workers[0].address(), &labels).await.unwrap();
        assert!(has >= 5, "lane {lane} has only {has} of 90 vehicles");
    }
    // Each was claimed once.
    assert_eq!(count(&deployment, "select count(*) from vehicle_latest where epoch <> 1").await, 0);
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cell_without_its_streams_is_named_and_stops_no_other() {
    let mut deployment = deployment_by(&two_cells(2), 1).await;
    let [home, west] = &deployment.config.cells.clone()[..] else { panic!("two cells") };
    let (fleet, on) = fleet_of(&deployment, home, VEHICLES[0]).await;
    until_bound(&deployment, VEHICLES[0], SOON).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    for stream in ["TELEMETRY_west", "LIFECYCLE_west", "BINDINGS_west"] {
        js.delete_stream(stream).await.unwrap();
    }
    let said = "not ready: bind queue (cell west), nats storage (cell west)\n";
    until_readyz(&deployment.workers[0], 503, said).await;
    until_readyz(&deployment.discovery, 503, "not ready: on signals (cell west)\n").await;
    let (status, said) = deployment.discovery.get("/bindings").await.unwrap();
    assert!(status == 503 && said.contains("cell west"), "{status} {said}");
    assert_eq!(json_of(&deployment.discovery, "/bindings/0").await["bound"], VEHICLES[0]);

    // One that starts now serves the cell that is there.
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), two_cells(2)).unwrap();
    let late = Started::new(command(&deployment, file.path(), &["run"]));
    late.says("this cell can't be served, trying again").await;
    late.until(503, "not ready: bind queue (cell west)\n").await;
    // Nothing of it is missing among the metrics.
    let (_, text) = http_get(&late.admin, "/metrics").await.unwrap();
    for (series, value) in [
        ("fleet_ready{condition=\"bind queue\",cell=\"west\",lane=\"1\"", 0),
        ("fleet_ready{condition=\"bind queue\",cell=\"0\",lane=\"0\"", 1),
        ("fleet_refused_total{reason=\"unknown_signal\",cell=\"west\"", 0),
    ] {
        assert_eq!(fleet_worker::metrics::sum(&text, series), Some(value), "{series} in {text}");
    }
    let mut leaving = deployment.workers.remove(0);
    leaving.process.terminate().unwrap();
    leaving.process.wait(Duration::from_secs(20)).await.unwrap();
    let is_bound =
        async |labels: &'static str, vehicles: u64| bound(&late.admin, labels).await == Some(vehicles);
    eventually("the cell that is there is served", SOON, || is_bound("{cell=\"0\"", VEHICLES[0])).await;

    setup(&deployment.config, &SetupArgs::default()).await.unwrap();
    late.until(200, "").await;
    until_readyz(&deployment.discovery, 200, "ok\n").await;
    let west = fleet_of(&deployment, west, VEHICLES[1]).await;
    eventually("the other is served again", SOON, || is_bound("{cell=\"west\"", VEHICLES[1])).await;
    Fleets(vec![(fleet, on), west]).assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_ends_with_an_error_ends_the_worker_and_the_others_give_back() {
    let mut deployment = deployment_by(&two_cells(2), 1).await;
    let [home, west] = &deployment.config.cells.clone()[..] else { panic!("two cells") };
    let (fleet, on) = fleet_of(&deployment, home, VEHICLES[0]).await;
    until_bound(&deployment, VEHICLES[0], SOON).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), two_cells(2)).unwrap();
    let other = Started::new(command(&deployment, file.path(), &["run", "--cell", "0"]));
    other.until(200, "ok").await;

    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let owner = Some(Owner { deployment: Some("other".to_owned()), database: "elsewhere".to_owned() });
    let options = StreamOptions { owner, take_over: true, ..deployment.config.stream_options() };
    set_up(&js, &Names::new(west), &deployment.config.schema, &options).await.unwrap();
    let mut worker = deployment.workers.remove(0);
    let ended = worker.process.wait(SOON).await.unwrap();
    let logs = worker.process.logs();
    assert_eq!(ended.0.code(), Some(64), "{logs}");
    assert!(last_words(&logs).iter().any(|said| said.starts_with("workers on BINDINGS_west")), "{logs}");
    // Sooner than `ack_wait` would bring them.
    eventually("the other has them", Duration::from_secs(3), async || {
        bound(&other.admin, "{cell=\"0\"").await == Some(VEHICLES[0])
    })
    .await;
    until_readyz(&deployment.discovery, 503, "not ready: on signals (cell west)\n").await;
    deployment.discovery.metric("fleet_discovery_on_total{cell=\"0\"").await.unwrap();
    Fleets(vec![(fleet, on)]).assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_looks_at_all_cells_before_it_changes_one() {
    let deployment = deployment_by(QUICK, 0).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let odd = jetstream::stream::Config {
        name: "TELEMETRY_6".to_owned(),
        subjects: vec!["fence.6".to_owned()],
        retention: jetstream::stream::RetentionPolicy::Interest,
        ..jetstream::stream::Config::default()
    };
    js.create_stream(odd).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), QUICK).unwrap();
    let setup = ["setup", "--cell", "5", "--cell", "6"];
    let output = command(&deployment, file.path(), &setup).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(64) && said.contains("TELEMETRY_6: retention"), "{said}");
    assert!(js.get_stream("TELEMETRY_5").await.is_err(), "cell 5 was set up");
    js.delete_stream("TELEMETRY_6").await.unwrap();
    let output = command(&deployment, file.path(), &setup).output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    for stream in ["TELEMETRY_5", "TELEMETRY_6", "BINDINGS_6"] {
        js.get_stream(stream).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_over_all_cells_or_say_that_they_need_one() {
    // Records that are final after 23 seconds.
    let config = format!("cells = [\"0\", \"west\"]\n{}", short("linear", "20s"));
    let deployment = deployment_by(&config, 1).await;
    let begun = now() - 2 * SECOND;
    let fleets = Fleets::start(&deployment).await;
    eventually("there are rows", SOON, async || {
        let vehicles = count(&deployment, "select count(distinct vehicle_id) from telemetry").await;
        vehicles == ALL.cast_signed()
    })
    .await;
    let mut ledgers = Vec::new();
    for (fleet, on) in fleets.0 {
        drop(on);
        ledgers.push(fleet.await.unwrap().unwrap().ledger);
    }
    deployment.until_released(Duration::from_secs(90)).await.unwrap();
    let end = now();
    deployment.client().await.unwrap().batch_execute("delete from telemetry").await.unwrap();
    eventually("the records are final", Duration::from_secs(60), async || now() > end + 23 * SECOND).await;
    let said = replayed(&deployment, &config, &["--from", &display(begun)]).await;
    assert!(said.starts_with("cell 0:\n") && said.contains("\ncell west:\n"), "{said}");
    for ledger in &ledgers {
        assert_exact(&deployment, &compare(&deployment, ledger).await);
    }

    let gone = ledgers[1].vehicles()[0].clone();
    let erased = erase_vehicle(&deployment.config, &gone).await.unwrap();
    assert!(erased.messages.telemetry > 0 && erased.rows.records > 0, "{erased:?}");
    assert_eq!(messages_of(&deployment, gone.as_str()).await, 0);

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &config).unwrap();
    let job = ["replay", "--dead-letters", "--json"];
    let output = command(&deployment, file.path(), &job).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(64) && said.contains("name it with --cell"), "{said}");
}
