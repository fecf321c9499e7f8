//! Each vehicle's newest samples are shown soon, and once a round at most.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_core::bind::memory::{MemoryBinder, MemoryQueue, MemoryStates};
use fleet_core::bind::{Newest, NewestStore};
use fleet_core::error::{Error, Result};
use fleet_core::lane::Lane;
use fleet_core::pipeline::{Pipeline, PipelineOptions};
use fleet_core::sink::memory::MemorySink;
use fleet_core::source::memory::{MemorySource, MemoryStream};
use fleet_core::time::SECOND;
use fleet_core::{Micros, Schema, VehicleId};
use tokio::time::sleep;

const START: Micros = 1_780_300_800 * SECOND;

/// A store that counts, and fails or puts off when it is told to.
#[derive(Debug, Clone, Default)]
struct Shown {
    /// A vehicle and its newest speed, with its second.
    seen: Arc<Mutex<Vec<(String, i64, f64)>>>,
    fails: Arc<AtomicBool>,
    puts_off: Arc<AtomicBool>,
}

impl NewestStore for Shown {
    async fn show(&self, newest: &[Newest]) -> Result<Vec<VehicleId>> {
        sleep(Duration::from_millis(20)).await;
        if self.fails.load(Ordering::Relaxed) {
            return Err(Error::unavailable("the database"));
        }
        if self.puts_off.load(Ordering::Relaxed) {
            return Ok(newest.iter().map(|newest| newest.vehicle.clone()).collect());
        }
        let speed = |newest: &Newest| {
            let second = (newest.samples.times[1].unwrap() - START) / SECOND;
            (newest.vehicle.to_string(), second, newest.samples.values[2].unwrap())
        };
        self.seen.lock().unwrap().extend(newest.iter().map(speed));
        Ok(Vec::new())
    }
}

impl Shown {
    fn take(&self) -> Vec<(String, i64, f64)> {
        std::mem::take(&mut *self.seen.lock().unwrap())
    }
}

struct World {
    schema: Schema,
    stream: MemoryStream,
    queue: MemoryQueue,
    shown: Shown,
}

impl World {
    /// A pipeline with these vehicles, caught up.
    async fn with(vehicles: &[&str]) -> Self {
        let (stream, queue, schema) = (MemoryStream::new(), MemoryQueue::new(), Schema::default());
        let world = Self { schema, stream, queue, shown: Shown::default() };
        for name in vehicles {
            let vehicle = VehicleId::new(name).unwrap();
            world.stream.on(&vehicle, START);
            world.queue.offer(&vehicle, START);
        }
        let lane = Lane::with_built_ins(&world.schema).unwrap();
        let binder = MemoryBinder::new(&world.queue, Arc::new(MemoryStates::new()), lane.context());
        let sink = MemorySink::new(&world.schema);
        let source = MemorySource::new(&world.stream);
        let pipeline = Pipeline::new(source, binder, sink, lane, PipelineOptions::default());
        tokio::spawn(pipeline.show_in(world.shown.clone()).run(std::future::pending()));
        sleep(Duration::from_secs(5)).await;
        world
    }

    fn speed(&self, name: &str, second: i64, value: f64) {
        let at = START + second * SECOND;
        let payload = format!("{{\"ts\":{},\"value\":{value}}}", at / 1_000);
        let vehicle = VehicleId::new(name).unwrap();
        self.stream.publish(&vehicle, self.schema.find("speed").unwrap(), payload.into(), at);
    }
}

fn seen(vehicle: &str, second: i64, value: f64) -> (String, i64, f64) {
    (vehicle.to_owned(), second, value)
}

#[tokio::test(start_paused = true)]
async fn a_sample_is_shown_soon_without_a_record_and_once() {
    let world = World::with(&["A", "B", "C"]).await;
    world.speed("B", 1, 50.0);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(world.shown.take(), [seen("B", 1, 50.0)]);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.shown.take(), [], "nothing is written where nothing changed");
}

#[tokio::test(start_paused = true)]
async fn a_vehicle_is_shown_once_a_round_with_the_newest_of_it() {
    let world = World::with(&["A", "B"]).await;
    for second in 1..=30 {
        world.speed("A", second, second as f64);
        world.speed("B", second, 0.0);
        // An older one and the same again are no news.
        world.speed("B", second, 0.0);
        sleep(Duration::from_secs(1)).await;
    }
    sleep(Duration::from_secs(4)).await;
    let shown = world.shown.take();
    let of_a: Vec<_> = shown.iter().filter(|(vehicle, ..)| vehicle == "A").collect();
    assert!((10..=12).contains(&of_a.len()), "{of_a:?}");
    assert!(
        of_a.is_sorted_by(|a, b| a.1 < b.1) && of_a.iter().all(|(_, second, value)| *second as f64 == *value)
    );
    assert_eq!(of_a.last(), Some(&&seen("A", 30, 30.0)));
    assert_eq!(shown.iter().filter(|(vehicle, ..)| vehicle == "B").count(), of_a.len());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_stored_comes_again() {
    let world = World::with(&["A"]).await;
    for (n, trouble) in (1..).zip([&world.shown.fails, &world.shown.puts_off]) {
        trouble.store(true, Ordering::Relaxed);
        world.speed("A", n, 7.0);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(world.shown.take(), []);
        trouble.store(false, Ordering::Relaxed);
        sleep(Duration::from_secs(9)).await;
        assert_eq!(world.shown.take(), [seen("A", n, 7.0)]);
    }
}
