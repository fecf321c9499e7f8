//! What the examples share: a few simulated vehicles in memory, and files of samples.

pub mod align_file;
pub mod nats_users;
pub mod trial;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::bind::memory::{MemoryBinder, MemoryQueue, MemoryStates};
use fleet_core::ids::InvalidId;
use fleet_core::lane::Lane;
use fleet_core::pipeline::{Counters, Pipeline, PipelineOptions};
use fleet_core::schema::Problem;
use fleet_core::source::memory::{MemorySource, MemoryStream};
use fleet_core::time::SECOND;
use fleet_core::{Micros, Schema, Sink, VehicleId};

/// A pipeline with all its edges in memory but the sink.
pub type MemoryPipeline = Pipeline<MemorySource, MemoryBinder<MemoryStates>>;

/// When the simulated drive begins: 1 June 2026, 08:00 UTC.
pub const START: Micros = 1_780_300_800 * SECOND;

/// What went wrong before anything ran.
#[derive(Debug)]
pub enum SetupError {
    /// A vehicle's name.
    Id(InvalidId),
    /// The schema's methods.
    Schema(Vec<Problem>),
}

impl std::fmt::Display for SetupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(error) => write!(f, "{error}"),
            Self::Schema(problems) => problems.iter().try_for_each(|p| writeln!(f, "{p}")),
        }
    }
}

impl std::error::Error for SetupError {}

/// Two minutes of `vehicles` cars, already in the stream, and a pipeline that stores them in `sink`.
/// The cars publish plain JSON, each signal at a pace of its own, and switch off at the end.
///
/// # Errors
/// If the schema names a method that there is not.
pub fn memory_pipeline(
    schema: &Schema,
    sink: impl Sink + 'static,
    vehicles: usize,
) -> Result<MemoryPipeline, SetupError> {
    let (stream, queue) = (MemoryStream::new(), MemoryQueue::new());
    for number in 0..vehicles {
        let vehicle = VehicleId::new(&format!("CAR-{number}")).map_err(SetupError::Id)?;
        stream.on(&vehicle, START);
        queue.offer(&vehicle, START);
        drive(&stream, schema, &vehicle, number);
    }
    for number in 0..vehicles {
        let vehicle = VehicleId::new(&format!("CAR-{number}")).map_err(SetupError::Id)?;
        stream.off(&vehicle, START + 121 * SECOND);
    }
    let lane = Lane::with_built_ins(schema).map_err(SetupError::Schema)?;
    let binder = MemoryBinder::new(&queue, Arc::new(MemoryStates::new()), lane.context());
    let options = PipelineOptions {
        batch_age: Duration::from_millis(100),
        patience: Duration::from_millis(200),
        ..PipelineOptions::default()
    };
    Ok(Pipeline::new(MemorySource::new(&stream), binder, sink, lane, options))
}

/// Ready once that many vehicles are released: everything of them is durable.
pub async fn released(counters: Arc<Counters>, vehicles: u64) {
    while counters.released.load(Ordering::Relaxed) < vehicles {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[allow(clippy::cast_precision_loss, reason = "two minutes in microseconds are exact")]
fn drive(stream: &MemoryStream, schema: &Schema, vehicle: &VehicleId, number: usize) {
    let mut posts: Vec<(Micros, &str, String)> = Vec::new();
    let mut every = |pace: Micros, signal: &'static str, fields: &dyn Fn(f64) -> String| {
        for t in (0..120 * SECOND).step_by(usize::try_from(pace).unwrap_or(usize::MAX)) {
            let ms = (START + t) / 1_000;
            posts.push((START + t, signal, format!("{{\"ts\":{ms},{}}}", fields(t as f64 / SECOND as f64))));
        }
    };
    let shift = number as f64;
    every(5_300_000, "position", &|t| {
        let (lat, lon) = (48.10 + 0.01 * shift + t * 1.5e-4, 11.50 + t * 2e-4);
        format!("\"lat\":{lat:.7},\"lon\":{lon:.7}")
    });
    every(2_100_000, "speed", &|t| format!("\"value\":{:.2}", 60.0 + 20.0 * (t / 15.0 + shift).sin()));
    every(24_000_000, "fuel", &|t| format!("\"value\":{:.2}", 70.0 - t / 300.0));
    every(14_000_000, "brake", &|t| format!("\"value\":{:.1}", 60.0 + 15.0 * (t / 40.0 + shift).cos()));
    posts.sort_by_key(|(at, ..)| *at);
    for (at, signal, payload) in posts {
        if let Some(index) = schema.find(signal) {
            stream.publish(vehicle, index, payload.into(), at);
        }
    }
}

/// The README's code is compiled and run with the tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
