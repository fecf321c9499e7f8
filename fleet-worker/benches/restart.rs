//! What a rolling restart costs: one worker after the other is replaced, as a cluster does it. First a new one runs,
//! then the old one is asked to end.
//! `cargo bench -p fleet-worker --bench restart`
//!
//! `VEHICLES` (10,000), `WORKERS` (2) and `SECONDS` (60: how long all is quiet before each restart and after the last
//! one) change it; with `LOGS=1` the workers' own words are shown.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use fleet_core::Micros;
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use fleet_worker::simulate::{Simulation, SimulationOptions};
use fleet_worker::verify::{Latency, verify_in};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

/// How often the workers are asked.
const LOOK: Duration = Duration::from_millis(50);

/// Longer than anything takes that works.
const BOUND: Duration = Duration::from_secs(300);

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[tokio::main]
async fn main() {
    let (vehicles, workers) = (variable("VEHICLES", 10_000), variable("WORKERS", 2));
    let quiet = Duration::from_secs(variable("SECONDS", 60));
    // A fifth of the places is free, as with KEDA.
    let settings = format!("[worker]\nmax_vehicles = {}\n", vehicles / workers * 5 / 4 + 8);
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let workers = usize::try_from(workers).unwrap();
    let mut deployment = Deployment::start(program, &settings, workers).await.unwrap();
    let config = deployment.config.clone();
    let options = SimulationOptions {
        cells: config.cells.clone(),
        schema: config.schema.clone(),
        vehicles: usize::try_from(vehicles).unwrap(),
        ramp: Duration::from_secs(20),
        ledger: true,
        ..SimulationOptions::default()
    };
    let simulation = Simulation::new(&config.nats.options(), options).await.unwrap();
    let (on, off) = oneshot::channel::<()>();
    let publishing = tokio::spawn(simulation.run(async move { drop(off.await) }));
    until(&deployment, vehicles).await;
    println!("{vehicles} vehicles, {workers} workers\n\nrestart  ended s  bound s  caught up s  carried");
    let mut restarts = Vec::new();
    for number in 1..=workers {
        sleep(quiet).await;
        restarts.push(restart(&mut deployment, number, vehicles).await);
    }
    sleep(quiet).await;
    let until = now();
    drop(on);
    let summary = publishing.await.unwrap().unwrap();
    deployment.until_released(BOUND).await.unwrap();

    let client = deployment.client().await.unwrap();
    let steady = restarts.iter().zip(restarts.iter().skip(1)).map(|(one, next)| one.end..next.start);
    let steady = steady.chain(restarts.last().map(|last| last.end..until));
    let spans: Vec<_> = restarts.iter().cloned().chain(steady).collect();
    let (verdict, latencies) = verify_in(&client, &config.schema, &summary.ledger, &spans).await.unwrap();
    println!("\nfrom publish to visible row  p50 s  p99 s  max s");
    for (n, latency) in latencies.iter().enumerate() {
        let (name, of) = if n < workers { ("restart", n) } else { ("steady after restart", n - workers) };
        if let Some(Latency { p50, p99, max }) = latency {
            println!("{:28} {p50:6.2} {p99:6.2} {max:6.2}", format!("{name} {}", of + 1));
        }
    }
    println!(
        "\n{} records of {} expected; {} missing, {} wrong, {} twice, {} unexpected",
        verdict.stored,
        verdict.expected,
        verdict.missing,
        verdict.wrong,
        verdict.duplicate,
        verdict.unexpected
    );
    deployment.stop().await;
}

/// Replaces the oldest worker; from when until when what is published may be late by it.
async fn restart(deployment: &mut Deployment, number: usize, vehicles: u64) -> Range<Micros> {
    deployment.add_worker().await.unwrap();
    let mut old = deployment.workers.remove(0);
    let carried_before = carried(deployment).await;
    // What comes now may wait for its neighbours in the hands of the next worker.
    let (begun, start) = (Instant::now(), now());
    old.process.terminate().unwrap();
    let seconds = |since: Instant| since.elapsed().as_secs_f64();
    let (mut ended, mut bound) = (None, None);
    let caught_up = loop {
        if ended.is_none() && old.process.has_ended().is_some() {
            ended = Some(seconds(begun));
        }
        if bound.is_none() && deployment.bound_by_living().await >= vehicles {
            bound = Some(seconds(begun));
        }
        if bound.is_some() && ended.is_some() && catching_up(deployment).await == 0 {
            break seconds(begun);
        }
        assert!(begun.elapsed() < BOUND, "not over:\n{}", deployment.tails());
        sleep(LOOK).await;
    };
    let carried = carried(deployment).await - carried_before;
    let (ended, bound) = (ended.unwrap_or(f64::NAN), bound.unwrap_or(f64::NAN));
    println!("{number:7} {ended:8.2} {bound:8.2} {caught_up:12.2} {carried:8}");
    if variable("LOGS", 0) > 0 {
        println!("{}\n{}", old.process.tail(), deployment.tails());
    }
    start..now()
}

/// Waits until all are bound and nothing more is read from the stream.
async fn until(deployment: &Deployment, vehicles: u64) {
    let begun = Instant::now();
    while deployment.bound_by_living().await < vehicles || catching_up(deployment).await > 0 {
        assert!(begun.elapsed() < BOUND, "not all are bound:\n{}", deployment.tails());
        sleep(LOOK).await;
    }
}

async fn catching_up(deployment: &Deployment) -> u64 {
    metric(deployment, "fleet_source_catching_up").await
}

async fn carried(deployment: &Deployment) -> u64 {
    metric(deployment, "fleet_bindings_carried_total").await
}

async fn metric(deployment: &Deployment, name: &str) -> u64 {
    let mut sum = 0;
    for worker in &deployment.workers {
        sum += worker.metric(name).await.unwrap_or(0);
    }
    sum
}
