//! The same fleet, grid and table by other means: each consumer alone on servers of its own, and its table compared with
//! the same reference.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use fleet_worker::deployment::Deployment;
use fleet_worker::local::{Process, Usage, python_packages};
use fleet_worker::simulate::{Progress, Simulation, SimulationOptions};
use fleet_worker::verify::{Latency, verify};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::figures::Figures;
use crate::fleet::settings;

/// What to compare.
#[derive(Debug, Clone, Args)]
pub(crate) struct ComparisonArgs {
    /// How many vehicles; may be repeated
    #[arg(long, default_values_t = [1_000, 10_000])]
    size: Vec<u32>,
    /// How long they drive; what is measured begins after a minute and a half
    #[arg(long, default_value_t = 180)]
    seconds: u64,
    /// What makes the records; may be repeated
    #[arg(long, value_enum, default_values_t = [Consumer::Fleet, Consumer::Numpy, Consumer::Pathway])]
    consumer: Vec<Consumer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Consumer {
    /// A worker
    Fleet,
    /// examples/comparison/numpy_worker.py
    Numpy,
    /// examples/comparison/pathway_worker.py
    Pathway,
}

impl Consumer {
    fn name(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Numpy => "Python with NumPy",
            Self::Pathway => "Pathway",
        }
    }

    /// The program and its packages.
    fn python(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Fleet => None,
            Self::Numpy => Some(("numpy_worker.py", "asyncpg==0.32.0 nats-py==2.16.0 numpy==2.4.6")),
            Self::Pathway => Some(("pathway_worker.py", "asyncpg==0.32.0 nats-py==2.16.0 pathway==0.33.0")),
        }
    }
}

/// By then every row that can be waited for is stored, and the arrays of all are full.
const WARM_UP: Duration = Duration::from_secs(90);

/// Measures each consumer with each fleet.
pub(crate) async fn measure(args: &ComparisonArgs, figures: &mut Figures) {
    for &vehicles in &args.size {
        for &consumer in &args.consumer {
            let row = run(consumer, vehicles, args.seconds).await;
            eprintln!("{row:#}");
            figures.put("comparison", &["vehicles", "consumer"], vec![row]);
        }
    }
}

async fn run(consumer: Consumer, vehicles: u32, seconds: u64) -> Value {
    eprintln!("{}, {vehicles} vehicles", consumer.name());
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let config = settings(vehicles);
    let workers = usize::from(consumer == Consumer::Fleet);
    let mut deployment = Deployment::start(program, &config, workers).await.unwrap();
    let log = tempfile::NamedTempFile::new().unwrap();
    let other = match consumer.python() {
        None => None,
        Some((file, packages)) => {
            deployment.discovery.process.kill().await;
            Some(python(&deployment, file, packages, log.path()).await)
        }
    };
    let options = SimulationOptions {
        cells: deployment.config.cells.clone(),
        schema: deployment.config.schema.clone(),
        vehicles: vehicles as usize,
        duration: Some(Duration::from_secs(seconds)),
        ledger: true,
        ..SimulationOptions::default()
    };
    let simulation = Simulation::new(&deployment.config.nats.options(), options).await.unwrap();
    let progress = simulation.progress();
    let publishing = tokio::spawn(simulation.run(std::future::pending()));
    let warm = WARM_UP.min(Duration::from_secs(seconds / 2));
    sleep(warm).await;
    let before = used(&deployment, other.as_ref(), &progress);
    sleep(Duration::from_secs(seconds).saturating_sub(warm + Duration::from_secs(1))).await;
    let after = used(&deployment, other.as_ref(), &progress);
    let summary = publishing.await.unwrap().unwrap();
    let mut said = String::new();
    match other {
        None => deployment.until_released(Duration::from_secs(300)).await.unwrap(),
        Some(mut process) => {
            // What was published last is on its way.
            sleep(Duration::from_secs(5)).await;
            process.terminate().unwrap();
            match process.wait(Duration::from_secs(300)).await {
                Ok(ended) if ended.0.success() => {}
                ended => said = format!("{ended:?}: {}", process.tail()),
            }
        }
    }
    let client = deployment.client().await.unwrap();
    let verdict = verify(&client, &deployment.config.schema, &summary.ledger).await.unwrap();
    verdict.examples.iter().for_each(|example| eprintln!("  {example}"));
    deployment.stop().await;
    let messages = (after.messages - before.messages) as f64;
    let each = |of: fn(&Used) -> Usage| (of(&after).cpu - of(&before).cpu).as_secs_f64() * 1e6 / messages;
    let cpu = after.consumer.cpu.saturating_sub(before.consumer.cpu).as_secs_f64();
    json!({
        "vehicles": vehicles,
        "consumer": consumer.name(),
        "acknowledged": summary.acknowledged,
        "rate": messages / (after.at - before.at).as_secs_f64(),
        "cores": cpu / (after.at - before.at).as_secs_f64(),
        "cpu_us": each(|used| used.consumer),
        "nats_us": each(|used| used.nats),
        "postgres_us": each(|used| used.postgres),
        "peak_memory": after.consumer.peak_memory,
        "records": verdict.counts(),
        "publish_to_row": verdict.latency.map(Latency::to_json),
        "publish_to_whole_row": verdict.latency_of_whole.map(Latency::to_json),
        "said": said,
    })
}

struct Used {
    at: tokio::time::Instant,
    messages: u64,
    consumer: Usage,
    nats: Usage,
    postgres: Usage,
}

fn used(deployment: &Deployment, other: Option<&Process>, progress: &Progress) -> Used {
    let [(_, nats), (_, postgres), _, (_, workers)] = deployment.usage();
    let consumer = match other {
        None => workers,
        Some(process) => process.usage().unwrap_or_default(),
    };
    Used { at: tokio::time::Instant::now(), messages: progress.acknowledged(), consumer, nats, postgres }
}

/// Starts one of the Python programs, and waits until it reads.
async fn python(deployment: &Deployment, file: &str, packages: &str, log: &Path) -> Process {
    let packages = python_packages(packages).await.unwrap();
    let program: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../examples/comparison", file].iter().collect();
    let mut command = Command::new("python3");
    command.arg(program).arg(deployment.nats.url()).arg(deployment.postgres.url());
    command.env("PYTHONPATH", packages).env("OPENBLAS_NUM_THREADS", "1");
    let process = Process::start("python3", command, log).unwrap();
    let ready = async {
        while !process.logs().contains("ready") {
            sleep(Duration::from_millis(100)).await;
        }
    };
    let ready = timeout(Duration::from_secs(120), ready).await;
    assert!(ready.is_ok(), "{file} does not read:\n{}", process.tail());
    process
}
