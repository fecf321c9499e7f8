//! The driver with all its edges in memory: whatever happens to the worker, the table is that of the
//! samples.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::align::{Aligner, Methods};
use fleet_core::batch::{Batch, Quality};
use fleet_core::bind::memory::{MemoryBinder, MemoryQueue, MemoryStates};
use fleet_core::decode::{DecodeError, Decoder};
use fleet_core::error::{Error, Result};
use fleet_core::lane::Lane;
use fleet_core::pipeline::{Pipeline, PipelineOptions};
use fleet_core::sample::Samples;
use fleet_core::schema::{RecordsConfig, Schema, Signal};
use fleet_core::sink::memory::{MemorySink, Stored};
use fleet_core::sink::{Backoff, Progress, Retry, Sink};
use fleet_core::source::memory::{MemorySource, MemoryStream};
use fleet_core::time::SECOND;
use fleet_core::{Micros, VehicleId};

use crate::reference::{self, Method, Table};

/// A user's own format: little-endian event time, then the values.
#[derive(Debug)]
struct Raw;

impl Decoder for Raw {
    fn decode(
        &self,
        signal: &Signal,
        payload: &[u8],
        out: &mut Samples,
    ) -> std::result::Result<(), DecodeError> {
        let (words, _) = payload.as_chunks::<8>();
        let values: Vec<f64> = words[1..].iter().map(|w| f64::from_le_bytes(*w)).collect();
        assert_eq!(values.len(), signal.columns.len());
        out.push(i64::from_le_bytes(words[0]), &values);
        Ok(())
    }

    fn sequence(&self, _: &[u8]) -> Option<u16> {
        None
    }
}

/// splitmix64, <https://prng.di.unimi.it/splitmix64.c>
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }
}

/// A sink that fails before or after it has written, as often as told.
struct Flaky {
    inner: MemorySink,
    dice: Dice,
    /// Of 100 batches.
    failures: u64,
}

impl Sink for Flaky {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        // Now and then slower than all that a window holds.
        let slowest = if self.dice.below(10) == 0 { 15_000 } else { 400 };
        tokio::time::sleep(Duration::from_millis(self.dice.below(slowest))).await;
        if self.dice.below(100) >= self.failures {
            return Sink::accept(&mut self.inner, batch).await;
        }
        if self.dice.below(2) == 0 {
            Sink::accept(&mut self.inner, batch).await?;
        }
        Err(Error::unavailable("the response was lost"))
    }

    async fn flush(&mut self) -> Result<Progress> {
        Sink::flush(&mut self.inner).await
    }
}

fn schema() -> Schema {
    let text = r#"
        interval = "1s"
        window = "3s"
        patience = "2s"
        [[signal]]
        name = "position"
        columns = [{ name = "latitude", unit = "deg", min = -90, max = 90 }, { name = "longitude", unit = "deg", min = -180, max = 180 }]
        interpolation = "great_circle"
        max_gap = "4s"
        [[signal]]
        name = "speed"
        columns = [{ name = "speed", unit = "km/h", min = 0, max = 400, type = "double" }]
        interpolation = "linear"
        max_gap = "5s"
        [[signal]]
        name = "door"
        columns = [{ name = "door", unit = "1", min = 0, max = 9 }]
        interpolation = "previous"
        max_gap = "3s"
    "#;
    toml::from_str::<RecordsConfig>(text).unwrap().build().unwrap()
}

/// A message on its way: when it is stored, whose, and what.
struct Post {
    stored: Micros,
    vehicle: VehicleId,
    signal: usize,
    time: Micros,
    values: Vec<f64>,
}

const START: Micros = 1_700_000_000 * SECOND;

/// Uneven samples of a minute, some out of order within the window, some twice.
fn posts(dice: &mut Dice, vehicles: usize) -> Vec<Post> {
    let mut posts = Vec::new();
    for v in 0..vehicles {
        let vehicle = VehicleId::new(&format!("V{v}")).unwrap();
        for signal in 0..3 {
            let mut time = START + dice.below(3_000_000) as i64;
            while time < START + 60 * SECOND {
                let values: Vec<f64> = match signal {
                    0 => vec![48.0 + dice.below(1_000) as f64 / 1e3, 11.0 + dice.below(1_000) as f64 / 1e3],
                    1 => vec![dice.below(2_000) as f64 / 10.0],
                    _ => vec![dice.below(9) as f64],
                };
                for _ in 0..=dice.below(10) / 9 {
                    let stored = time + dice.below(2_500_000) as i64;
                    posts.push(Post {
                        stored,
                        vehicle: vehicle.clone(),
                        signal,
                        time,
                        values: values.clone(),
                    });
                }
                // Often on the grid exactly, now and then a gap that is too long to bridge.
                time += match dice.below(12) {
                    0 => 6_500_000,
                    1..=4 => SECOND - time.rem_euclid(SECOND),
                    _ => 1 + dice.below(2_000_000) as i64,
                };
            }
        }
    }
    posts.sort_by_key(|p| p.stored);
    posts
}

/// What the table of a vehicle must be, by the plain reference.
fn expected(schema: &Schema, posts: &[Post], vehicle: &VehicleId) -> Table {
    let signals: Vec<_> = schema
        .signals()
        .iter()
        .enumerate()
        .map(|(i, signal)| reference::Signal {
            method: match signal.interpolation.as_str() {
                "linear" => Method::Linear,
                "previous" => Method::Previous,
                _ => Method::GreatCircle,
            },
            max_gap: signal.max_gap,
            samples: posts
                .iter()
                .filter(|p| p.vehicle == *vehicle && p.signal == i)
                .map(|p| (p.time, p.values.clone()))
                .collect(),
        })
        .collect();
    reference::table(&signals, schema.interval())
}

fn assert_same(
    schema: &Schema,
    seed: u64,
    vehicle: &VehicleId,
    expected: &Table,
    stored: &BTreeMap<(VehicleId, Micros), Stored>,
) {
    let at = |ts| format!("seed {seed}, {vehicle} at {}", fleet_core::time::display(ts));
    let stored: BTreeMap<Micros, &Stored> =
        stored.iter().filter(|((v, _), _)| v == vehicle).map(|((_, ts), row)| (*ts, row)).collect();
    let unexpected = stored.keys().find(|ts| !expected.contains_key(ts));
    assert_eq!(unexpected, None, "seed {seed}, {vehicle}: a row that nothing gives");
    for (ts, cells) in expected {
        let row = stored.get(ts).unwrap_or_else(|| panic!("{}: no row", at(*ts)));
        for ((i, signal), cell) in schema.signals().iter().enumerate().zip(cells) {
            let quality = Quality::of(row.quality, i) as u8;
            let values = &row.values[signal.column_range()];
            assert_eq!(quality, cell.as_ref().map_or(0, |c| c.0), "{}: quality of {}", at(*ts), signal.name);
            for (c, value) in values.iter().enumerate() {
                let wanted = cell.as_ref().map(|cell| cell.1[c]);
                let same = match (value, wanted) {
                    (Some(value), Some(wanted)) => (value - wanted).abs() < 1e-6,
                    (None, None) => true,
                    _ => false,
                };
                assert!(same, "{}: {} is {value:?} and not {wanted:?}", at(*ts), signal.name);
            }
        }
    }
}

struct World {
    schema: Schema,
    stream: MemoryStream,
    states: Arc<MemoryStates>,
    table: MemorySink,
}

impl World {
    fn pipeline(
        &self,
        queue: &MemoryQueue,
        dice: &mut Dice,
        failures: u64,
    ) -> Pipeline<MemorySource, MemoryBinder<MemoryStates>> {
        let aligner = Aligner::new(&self.schema, &Methods::default()).unwrap();
        let lane = Lane::new(&self.schema, Arc::new(Raw), aligner);
        let flaky = Flaky { inner: self.table.clone(), dice: Dice(dice.roll()), failures };
        let backoff = Backoff { first: Duration::from_millis(50), ..Backoff::default() };
        let binder = MemoryBinder::new(queue, Arc::clone(&self.states), self.schema.context());
        let options = PipelineOptions {
            batch_rows: 1 + dice.below(40) as usize,
            batch_age: Duration::from_millis(100 + dice.below(900)),
            save_interval: Duration::from_millis(200 + dice.below(5_000)),
            patience: Duration::from_secs(2),
            resume_margin: Duration::ZERO,
            ..PipelineOptions::default()
        };
        Pipeline::new(
            MemorySource::new(&self.stream),
            binder,
            Retry::new(flaky, "flaky", backoff),
            lane,
            options,
        )
    }
}

/// Plays a minute of some vehicles through workers that die now and then, and compares the table.
async fn play(seed: u64) {
    let mut dice = Dice(seed);
    let schema = schema();
    let world = World {
        table: MemorySink::new(&schema),
        stream: MemoryStream::new(),
        states: Arc::new(MemoryStates::new()),
        schema,
    };
    let vehicles = 1 + dice.below(4) as usize;
    let posts = posts(&mut dice, vehicles);
    let names: Vec<VehicleId> = (0..vehicles).map(|v| VehicleId::new(&format!("V{v}")).unwrap()).collect();
    for vehicle in &names {
        world.stream.on(vehicle, START);
    }
    let stream = world.stream.clone();
    let off = names.clone();
    let expected: Vec<Table> = names.iter().map(|vehicle| expected(&world.schema, &posts, vehicle)).collect();
    let publisher = tokio::spawn(async move {
        let mut now = START;
        for post in posts {
            // The stream's clock runs twice as fast as the test's (paused) one.
            tokio::time::sleep(Duration::from_micros((post.stored - now).max(0) as u64 / 2)).await;
            now = now.max(post.stored);
            let payload =
                [post.time.to_le_bytes()].into_iter().chain(post.values.iter().map(|v| v.to_le_bytes()));
            let payload = Bytes::from(payload.flatten().collect::<Vec<u8>>());
            let signal = fleet_core::ids::SignalIndex(post.signal as u8);
            stream.publish(&post.vehicle, signal, payload, post.stored);
        }
        for vehicle in &off {
            stream.off(vehicle, now + 1);
        }
    });
    let failures = dice.below(30);
    // Workers that die at any await.
    while !publisher.is_finished() {
        let queue = MemoryQueue::new();
        names.iter().for_each(|v| queue.offer(v, START));
        let pipeline = world.pipeline(&queue, &mut dice, failures);
        let lives = Duration::from_micros(dice.below(20_000_000));
        let _ = tokio::time::timeout(lives, pipeline.run(std::future::pending())).await;
    }
    // The last one lives until every vehicle is released.
    let queue = MemoryQueue::new();
    names.iter().for_each(|v| queue.offer(v, START));
    let pipeline = world.pipeline(&queue, &mut dice, failures);
    let (counters, states) = (pipeline.counters(), Arc::clone(&world.states));
    let released = async move {
        while counters.released.load(std::sync::atomic::Ordering::Relaxed) < vehicles as u64 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(600), pipeline.run(released))
        .await
        .expect("released in time")
        .unwrap();
    for vehicle in &names {
        let trips = states.trips(vehicle);
        assert!(matches!(trips[..], [(START, Some(_))]), "seed {seed}: {vehicle} has the trips {trips:?}");
    }
    let stored = world.table.rows();
    for (vehicle, expected) in names.iter().zip(&expected) {
        assert_same(&world.schema, seed, vehicle, expected, &stored);
    }
}

#[tokio::test(start_paused = true)]
async fn the_table_is_that_of_the_samples_whenever_workers_die() {
    for seed in 0..40 {
        play(seed).await;
    }
}
