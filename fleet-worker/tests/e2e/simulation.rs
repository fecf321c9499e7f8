//! The simulated fleet itself.

use std::path::Path;
use std::time::Duration;

use fleet_worker::deployment::Deployment;
use fleet_worker::local::Process;
use fleet_worker::simulate::{Simulation, SimulationOptions};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::world::{
    assert_exact, deployment, durable_deployment, eventually, finish, fleet, until_bound, vehicles,
};

/// A message in twenty is held back by some seconds: at the end more of them are unsent than acks may be
/// awaited at once.
#[tokio::test(flavor = "multi_thread")]
async fn it_ends_however_many_messages_are_held_back() {
    let deployment = deployment(1).await;
    let options = SimulationOptions { window: 8, ..vehicles(1_000, 10) };
    let fleet = fleet(&deployment, options).await;
    let finished = timeout(Duration::from_secs(60), finish(&deployment, fleet)).await;
    let (_, verdict) = finished.expect("the simulation never ends");
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_vehicle_may_have_a_connection_of_its_own() {
    let deployment = deployment(1).await;
    let fleet = fleet(&deployment, SimulationOptions { connections: 60, ..vehicles(60, 10) }).await;
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert!(summary.acknowledged > 100, "{} messages", summary.acknowledged);
    assert_exact(&deployment, &verdict);
}

/// A fleet of 40 vehicles as a program of its own, whose first messages are acknowledged.
async fn simulate(deployment: &Deployment, arguments: &[&str]) -> (Process, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
    command.args(["simulate", "--vehicles", "40", "--nats-url", &deployment.nats.url()]).args(arguments);
    let process = Process::start("fleet-worker", command, &folder.path().join("log")).unwrap();
    let js = async_nats::jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let stream = js.get_stream("TELEMETRY_0").await.unwrap();
    eventually("samples are stored", Duration::from_secs(60), async || {
        stream.get_info().await.is_ok_and(|info| info.state.messages > 0)
    })
    .await;
    (process, folder)
}

async fn says_that_acks_are_missing(simulated: &Process) {
    let said = async || simulated.logs().contains("acks are missing");
    eventually("it says that acks are missing", Duration::from_secs(60), said).await;
}

/// It ends with how many acks are missing of how many, and why.
async fn ends_without_acks(mut simulated: Process) {
    let ended = simulated.wait(Duration::from_secs(120)).await.unwrap();
    let logs = simulated.logs();
    assert_eq!(ended.0.code(), Some(69), "{logs}");
    let last = logs.lines().last().unwrap();
    let counts: Vec<u64> = last.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect();
    assert!(counts[..2].iter().all(|n| *n > 0) && counts[2..] == [40, 40], "{last}");
    assert!(last.contains("messages got no ack") && last.contains("switched off: timed out"), "{last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_it_says_so_and_can_be_stopped() {
    let mut deployment = deployment(0).await;
    let (simulated, _log) = simulate(&deployment, &[]).await;
    deployment.nats.kill().await;
    says_that_acks_are_missing(&simulated).await;
    simulated.terminate().unwrap();
    ends_without_acks(simulated).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_it_ends_after_its_time() {
    let mut deployment = deployment(0).await;
    let (simulated, _log) = simulate(&deployment, &["--seconds", "20"]).await;
    deployment.nats.kill().await;
    says_that_acks_are_missing(&simulated).await;
    ends_without_acks(simulated).await;
}

/// One signal alone, or `on` and `off`, may be what no stream takes: others' acks don't hide it.
#[tokio::test(flavor = "multi_thread")]
async fn acks_that_are_missing_among_others_are_said() {
    let deployment = deployment(0).await;
    let js = async_nats::jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    js.delete_stream("LIFECYCLE_0").await.unwrap();
    let (simulated, _log) = simulate(&deployment, &[]).await;
    says_that_acks_are_missing(&simulated).await;
    assert!(simulated.logs().contains("no stream found"), "{}", simulated.logs());
}

/// What is not acknowledged stays below a bound: readings wait.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_acks_is_bounded() {
    let mut deployment = deployment(0).await;
    let options = SimulationOptions {
        window: 64,
        duration: None,
        grace: Duration::from_secs(1),
        cells: deployment.config.cells.clone(),
        schema: deployment.config.schema.clone(),
        ..vehicles(1_000, 0)
    };
    let simulation = Simulation::new(&deployment.config.nats.options(), options).await.unwrap();
    let progress = simulation.progress();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(simulation.run(async { drop(stopped.await) }));
    eventually("it runs", Duration::from_secs(60), async || progress.acknowledged() > 1_000).await;
    deployment.nats.kill().await;
    // Each that is awaited has missed its ack twice.
    eventually("acks are missed", Duration::from_secs(60), async || {
        assert!(progress.unacknowledged() <= 64, "{} of {}", progress.unacknowledged(), progress.published());
        progress.missed() >= 128
    })
    .await;
    stop.send(()).unwrap();
    let summary = timeout(Duration::from_secs(60), running).await.unwrap().unwrap().unwrap();
    assert!(summary.unacknowledged <= 64 && summary.switched_off == 0, "{summary:?}");
}

/// A sensor whose message must be sent again reads on only afterwards: else that would be older than the window by
/// the time that it is stored, and missing in the table though it was acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_longer_than_the_window_costs_no_record() {
    let mut deployment = durable_deployment(1).await;
    let fleet = fleet(&deployment, vehicles(100, 45)).await;
    until_bound(&deployment, 100, Duration::from_secs(60)).await;
    deployment.nats.kill().await;
    sleep(Duration::from_secs(25)).await;
    deployment.nats.start_again().await.unwrap();
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert!(summary.retried > 0, "{summary:?}");
    assert_exact(&deployment, &verdict);
}
