//! What receiving costs: our ways against a bare async-nats subscription, on the same messages of one server.
//!
//! One way at a time, each on a server of its own with the telemetry stream, which stores the messages too. CPU is the
//! consuming thread's, user and system. The ways take turns, and each figure is the median of the rounds.

mod consumers;
mod meter;
mod publisher;

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use fleet_core::nats::{Names, StreamOptions, set_up};
use fleet_core::{CellId, Schema, VehicleId};
use fleet_worker::local::NatsServer;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::figures::Figures;

use consumers::{Setting, Way, receive};
use meter::{Meter, Reading, pause};
use publisher::Publisher;

/// What to receive.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReceiveArgs {
    /// Messages a second; may be repeated
    #[arg(long, default_values_t = [13_333, 100_000])]
    rate: Vec<u32>,
    /// How many vehicles they are of; each has a subscription
    #[arg(long, default_value_t = 40_000)]
    vehicles: u32,
    /// How long each way is measured at each rate
    #[arg(long, default_value_t = 10)]
    window: u64,
    /// How often
    #[arg(long, default_value_t = 3)]
    rounds: u32,
}

/// How long messages come before it counts.
const WARM_UP: Duration = Duration::from_secs(3);

/// How long a thread may take for what it does at a time.
const PATIENCE: Duration = Duration::from_secs(120);

/// One way in one round.
#[derive(Debug, Clone, Copy)]
struct Run {
    way: Way,
    /// Microseconds of the thread a message.
    cpu: f64,
    /// Messages a second that were published, and the share of them that was received in that time.
    rate: f64,
    received: f64,
    /// Microseconds of the server a published message.
    server: f64,
    /// Milliseconds from publication to the consumer, half and 99 of 100 of the messages.
    wait: Option<(f64, f64)>,
}

/// Measures all ways at all rates.
pub(crate) fn measure(runtime: &Runtime, args: &ReceiveArgs, figures: &mut Figures) {
    let names = Names::new(&CellId::default());
    let vehicles = (0..args.vehicles).map(|n| VehicleId::new(&format!("WVWZZZ1KZ8W{n:06}")).unwrap());
    let vehicles: Vec<_> = vehicles.collect();
    for &rate in &args.rate {
        let mut runs = Vec::new();
        for round in 1..=args.rounds {
            for way in Way::ALL {
                let setting = Setting {
                    url: String::new(),
                    names: names.clone(),
                    schema: Schema::default(),
                    vehicles: vehicles.clone(),
                    rate: f64::from(rate),
                };
                let run = run(runtime, way, setting, Duration::from_secs(args.window));
                eprintln!("{rate} messages/s, round {round}: {run:.2?}");
                runs.push(run);
            }
        }
        let of = |way: Way, figure: &dyn Fn(&Run) -> f64| {
            median(runs.iter().filter(|run| run.way == way).map(figure).collect())
        };
        let reader = of(Way::Reader, &|run| run.cpu);
        let rows = Way::ALL.map(|way| {
            let cpu = of(way, &|run| run.cpu);
            json!({
                "rate": rate,
                "way": way.name(),
                "vehicles": args.vehicles,
                "cpu_us": cpu,
                "to_reader": cpu / reader,
                "rate_published": of(way, &|run| run.rate),
                "received": of(way, &|run| run.received),
                "server_us": of(way, &|run| run.server),
                "wait_p50_ms": of(way, &|run| run.wait.map_or(f64::NAN, |wait| wait.0)),
                "wait_p99_ms": of(way, &|run| run.wait.map_or(f64::NAN, |wait| wait.1)),
            })
        });
        figures.put("receive", &["rate", "way"], rows.to_vec());
    }
}

fn run(runtime: &Runtime, way: Way, mut setting: Setting, window: Duration) -> Run {
    let server = runtime.block_on(async {
        let server = NatsServer::start().await.unwrap();
        let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
        set_up(&js, &setting.names, &setting.schema, &StreamOptions::default()).await.unwrap();
        server
    });
    setting.url = server.url();
    let meter = Arc::<Meter>::default();
    let consumer = {
        let (setting, meter) = (setting.clone(), Arc::clone(&meter));
        std::thread::spawn(move || receive(way, &setting, &meter))
    };
    meter.until_ready(PATIENCE);
    let Setting { url, names, schema, vehicles, rate } = &setting;
    let publisher = Publisher::start(url, names, schema, vehicles, *rate);
    pause(WARM_UP);
    meter.forget_waits();
    let look = || {
        let used = server.process().usage().unwrap_or_default().cpu;
        (Instant::now(), meter.reading(PATIENCE), publisher.published(), used)
    };
    let (begun, before, published_before, used_before) = look();
    pause(window);
    let (ended, after, published, used) = look();
    let wait = meter.wait(0.5).zip(meter.wait(0.99));
    drop(publisher);
    meter.end();
    consumer.join().unwrap();
    let (Reading { cpu, messages }, published) = (after - before, (published - published_before) as f64);
    Run {
        way,
        cpu: cpu.as_secs_f64() * 1e6 / messages as f64,
        rate: published / (ended - begun).as_secs_f64(),
        received: messages as f64 / published,
        server: (used - used_before).as_secs_f64() * 1e6 / published,
        wait,
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
