//! A telemetry stream that is not the one that it was.

use std::time::Duration;

use async_nats::jetstream;
use fleet_core::time::display;
use fleet_worker::cli::SetupArgs;
use fleet_worker::clock::now;
use fleet_worker::commands::setup::setup;
use fleet_worker::deployment::Deployment;

use crate::alerts::Recording;
use crate::replay::replay;
use crate::world::{QUICK, deployment, endless_fleet, eventually, until_bound};

const VEHICLES: u64 = 20;

async fn js(deployment: &Deployment) -> jetstream::Context {
    jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap())
}

async fn anew(deployment: &Deployment) {
    js(deployment).await.delete_stream("TELEMETRY_0").await.unwrap();
    setup(&deployment.config, &SetupArgs::default()).await.unwrap();
}

async fn emptied(deployment: &Deployment) {
    js(deployment).await.get_stream("TELEMETRY_0").await.unwrap().purge().await.unwrap();
}

/// It happens to the stream while no worker is there.
async fn is_told(happens: impl AsyncFn(&Deployment)) {
    let mut deployment = deployment(1).await;
    let (fleet, on) = endless_fleet(&deployment, usize::try_from(VEHICLES).unwrap()).await;
    until_bound(&deployment, VEHICLES, Duration::from_secs(30)).await;
    let states = "select count(*) from vehicle_latest where ts is not null";
    eventually("states are saved", Duration::from_secs(30), async || {
        crate::world::count(&deployment, states).await == i64::try_from(VEHICLES).unwrap()
    })
    .await;
    let mut recording = Recording::of(&deployment.workers).await;
    let killed = deployment.workers[0].address().to_owned();
    deployment.kill_worker().await;
    happens(&deployment).await;
    deployment.add_worker().await.unwrap();
    let worker = &deployment.workers[0];
    eventually("every vehicle's loss is counted", Duration::from_secs(60), async || {
        worker.metric("fleet_catch_ups_unreachable_total").await == Some(VEHICLES)
    })
    .await;
    // The counter has grown before Prometheus asks for the first time.
    recording.scrape(&deployment.workers).await;
    let alerts = recording.alerts();
    let logs = worker.process.logs();
    alerts.assert_leads("FleetDataGone", &[worker.address(), "cell 0"], &logs);
    alerts.assert_says("FleetProgramDown", &["fleet-worker", &killed]);
    let told = logs.lines().filter(|line| line.contains("data is gone")).count();
    assert!((1..=3).contains(&told), "told {told} times, once for all that are bound together:\n{logs}");
    drop(on);
    fleet.await.unwrap().unwrap();
    deployment.until_released(Duration::from_secs(90)).await.unwrap();
    assert_eq!(deployment.workers[0].metric("fleet_catch_ups_unreachable_total").await, Some(VEHICLES));
}

#[tokio::test(flavor = "multi_thread")]
async fn made_anew_while_workers_are_away_is_told() {
    is_told(anew).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn emptied_while_workers_are_away_is_told() {
    is_told(emptied).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn made_anew_under_a_worker_is_told_and_nothing_that_came_is_lost() {
    let deployment = deployment(1).await;
    let mut hand = crate::world::Hand::new(&deployment, "STAYS").await;
    let begun = now();
    hand.send("on", "").await;
    hand.drive(begun - 8_000_000, 8).await;
    let worker = &deployment.workers[0];
    let rows = async || worker.metric("fleet_durable_rows_total").await.is_some_and(|rows| rows >= 7);
    eventually("it is stored", Duration::from_secs(30), rows).await;
    assert_eq!(worker.metric("fleet_source_stream_losses_total").await, Some(0));
    let mut recording = Recording::of(&deployment.workers).await;
    anew(&deployment).await;
    eventually("the loss is counted", Duration::from_secs(30), async || {
        worker.metric("fleet_source_stream_losses_total").await == Some(1)
    })
    .await;
    let logs = worker.process.logs();
    assert!(logs.contains("the stream was made anew"), "{logs}");
    recording.scrape(&deployment.workers).await;
    recording.alerts().assert_leads("FleetStreamLost", &["telemetry stream of cell 0"], &logs);
    hand.drive(begun + 500_000, 4).await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(60)).await.unwrap();
    hand.assert_exact(&deployment).await;
}

/// What a stream made anew never held can't be derived from it.
#[tokio::test(flavor = "multi_thread")]
async fn a_replay_from_before_the_stream_was_made_is_refused() {
    let deployment = deployment(1).await;
    let mut hand = crate::world::Hand::new(&deployment, "BEFORE").await;
    hand.send("on", "").await;
    hand.drive(now() - 8_000_000, 8).await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(60)).await.unwrap();
    // As long ago as if it had been a minute and a half.
    let aged = "update vehicle set first_seen = first_seen - interval '90 seconds'";
    deployment.client().await.unwrap().execute(aged, &[]).await.unwrap();
    anew(&deployment).await;
    let (from, to) = (display(now() - 600_000_000), display(now() - 300_000_000));
    let output = replay(&deployment, QUICK, &["--from", &from, "--to", &to]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("the stream no longer holds what rows before"), "{said}");
}
