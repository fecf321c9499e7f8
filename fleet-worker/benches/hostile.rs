//! What hostile vehicles do to the others: from a message's publish to its row, and the worker's memory, in
//! peace and under each attack, as ratios.
//! `cargo bench -p fleet-worker --bench hostile`
//!
//! Each line is a deployment of its own with one worker. `VEHICLES`, `SECONDS` and `PACE` (hostile messages a
//! second) change it, and `ATTACKS=OffFlood,Nobody` leaves the others out.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

#[path = "../tests/chaos/dice.rs"]
#[allow(dead_code, reason = "shared with the chaos test")]
mod dice;
#[path = "../tests/chaos/hostile.rs"]
#[allow(dead_code, reason = "shared with the chaos test")]
mod hostile;

use std::path::Path;
use std::time::Duration;

use fleet_core::nats::NatsOptions;
use fleet_worker::deployment::Deployment;
use fleet_worker::simulate::{Simulation, SimulationOptions};
use fleet_worker::verify::{Verdict, verify};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use hostile::{Attack, attack};

const CONFIG: &str = r#"
interval = "1s"
window = "30s"
patience = "2s"
"#;

/// What a run of one attack, or of none, came to.
struct Outcome {
    sent: u64,
    verdict: Verdict,
    memory: u64,
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Messages a second that one machine sends without effort, large ones fewer.
fn pace(attack: Attack) -> u64 {
    match attack {
        Attack::OffFlood => 15_000,
        Attack::Garbage => 500,
        Attack::OldDays => 400,
        _ => 1_000,
    }
}

#[tokio::main]
async fn main() {
    let named = std::env::var("ATTACKS").ok();
    let wanted = |attack: &Attack| {
        let name = format!("{attack:?}");
        named.as_ref().is_none_or(|named| named.split(',').any(|one| one == name))
    };
    println!(
        "attack        sent   p50 s   p99 s   max s  p50 x  p99 x  worker MiB  more MiB  missing  wrong"
    );
    let peace = run(None).await;
    print("none", &peace, &peace);
    for kind in Attack::ALL.into_iter().filter(wanted) {
        print(&format!("{kind:?}"), &run(Some(kind)).await, &peace);
    }
}

#[allow(clippy::cast_precision_loss, reason = "mebibytes")]
fn print(name: &str, outcome: &Outcome, peace: &Outcome) {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let Outcome { sent, verdict, memory } = outcome;
    let (Some(is), Some(was)) = (verdict.latency, peace.verdict.latency) else {
        println!("{name:10} {sent:7}  no rows");
        return;
    };
    println!(
        "{name:10} {sent:7} {:7.2} {:7.2} {:7.2} {:6.2} {:6.2} {:11.1} {:9.1} {:8} {:6}",
        is.p50,
        is.p99,
        is.max,
        is.p50 / was.p50,
        is.p99 / was.p99,
        mib(*memory),
        mib(*memory) - mib(peace.memory),
        verdict.missing,
        verdict.wrong
    );
}

async fn run(kind: Option<Attack>) -> Outcome {
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let deployment = Deployment::start(program, CONFIG, 1).await.unwrap();
    let config = &deployment.config;
    let options = SimulationOptions {
        cells: config.cells.clone(),
        schema: config.schema.clone(),
        vehicles: usize::try_from(variable("VEHICLES", 100)).unwrap(),
        duration: Some(Duration::from_secs(variable("SECONDS", 40))),
        connections: 8,
        ledger: true,
        ..SimulationOptions::default()
    };
    let simulation = Simulation::new(&config.nats.options(), options).await.unwrap();
    let publishing = tokio::spawn(simulation.run(std::future::pending()));
    // All vehicles have begun.
    sleep(Duration::from_secs(5)).await;
    let (over, ended) = oneshot::channel::<()>();
    let hostile = kind.map(|kind| {
        let (url, names) = (deployment.nats.url(), config.names().next().unwrap());
        tokio::spawn(async move {
            let pace = variable("PACE", pace(kind));
            attack(kind, pace, NatsOptions::new(url), &names, 7, async { drop(ended.await) }).await
        })
    });
    let summary = publishing.await.unwrap().unwrap();
    let _ = over.send(());
    let sent = match hostile {
        Some(task) => task.await.unwrap(),
        None => 0,
    };
    // Not until all are released: hostile ones may be held for long.
    let client = deployment.client().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    let verdict = loop {
        let verdict = verify(&client, &config.schema, &summary.ledger).await.unwrap();
        if verdict.is_good() || Instant::now() > deadline {
            break verdict;
        }
        sleep(Duration::from_secs(1)).await;
    };
    let memory = deployment.workers[0].process.usage().map_or(0, |usage| usage.peak_memory);
    deployment.stop().await;
    Outcome { sent, verdict, memory }
}
