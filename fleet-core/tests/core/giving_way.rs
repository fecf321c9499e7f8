//! Vehicles that go back: those that never send a sample, and all of them when a worker can't go on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::batch::Batch;
use fleet_core::bind::memory::{MemoryBinder, MemoryQueue, MemoryStates};
use fleet_core::bind::{BindEvent, Binder};
use fleet_core::error::Result;
use fleet_core::lane::Lane;
use fleet_core::pipeline::{Pipeline, PipelineOptions};
use fleet_core::sink::memory::MemorySink;
use fleet_core::sink::{Progress, Sink};
use fleet_core::source::memory::{MemorySource, MemoryStream};
use fleet_core::time::SECOND;
use fleet_core::{Error, ErrorKind, Micros, Schema, VehicleId};
use tokio::time::{sleep, timeout};

const START: Micros = 1_780_300_800 * SECOND;

fn vehicle(name: &str) -> VehicleId {
    VehicleId::new(name).unwrap()
}

/// Streams and queues of vehicles that are on; time goes on by itself.
struct World {
    schema: Schema,
    stream: MemoryStream,
    queue: MemoryQueue,
    states: Arc<MemoryStates>,
}

impl World {
    fn new() -> Self {
        let (stream, queue) = (MemoryStream::new(), MemoryQueue::new());
        let passing = stream.clone();
        tokio::spawn(async move {
            for second in 1.. {
                sleep(Duration::from_secs(1)).await;
                passing.advance(START + second * SECOND);
            }
        });
        Self { schema: Schema::default(), stream, queue, states: Arc::default() }
    }

    fn on(&self, name: &str) {
        self.stream.on(&vehicle(name), START);
        self.queue.offer(&vehicle(name), START);
    }

    fn speed(&self, name: &str, second: i64) {
        let at = START + second * SECOND;
        let payload = format!("{{\"ts\":{},\"value\":50}}", at / 1_000);
        self.stream.publish(&vehicle(name), self.schema.find("speed").unwrap(), payload.into(), at);
    }

    fn binder(&self) -> MemoryBinder<MemoryStates> {
        let lane = Lane::with_built_ins(&self.schema).unwrap();
        MemoryBinder::new(&self.queue, Arc::clone(&self.states), lane.context())
    }

    fn pipeline(
        &self,
        sink: impl Sink + 'static,
        max_vehicles: usize,
    ) -> Pipeline<MemorySource, MemoryBinder<MemoryStates>> {
        let options = PipelineOptions { max_vehicles, ..PipelineOptions::default() };
        let lane = Lane::with_built_ins(&self.schema).unwrap();
        Pipeline::new(MemorySource::new(&self.stream), self.binder(), sink, lane, options)
    }
}

#[tokio::test(start_paused = true)]
async fn a_vehicle_that_never_sends_a_sample_gives_way_and_no_other() {
    let world = World::new();
    let pipeline = world.pipeline(MemorySink::new(&world.schema), 100);
    let counters = pipeline.counters();
    world.on("REAL");
    world.speed("REAL", 0);
    (0..20).for_each(|n| world.on(&format!("GHOST-{n}")));
    let running = tokio::spawn(pipeline.run(std::future::pending()));
    sleep(Duration::from_secs(100)).await;
    let bound = || counters.bound.load(Ordering::Relaxed);
    assert_eq!(bound(), 21);
    sleep(Duration::from_secs(60)).await;
    assert_eq!((bound(), counters.without_sample.load(Ordering::Relaxed)), (1, 20));
    assert_eq!(world.queue.active(), 1, "they are not in the queue any more");
    let [(_, Some(_))] = world.states.trips(&vehicle("GHOST-7"))[..] else { panic!("their trips are ended") };
    // One that has sent samples keeps its place for the whole of `idle_timeout`.
    sleep(Duration::from_secs(600)).await;
    assert_eq!(bound(), 1);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn where_all_places_are_taken_they_give_way_sooner() {
    let world = World::new();
    let pipeline = world.pipeline(MemorySink::new(&world.schema), 10);
    let counters = pipeline.counters();
    (0..40).for_each(|n| world.on(&format!("GHOST-{n}")));
    world.on("REAL");
    world.speed("REAL", 0);
    let running = tokio::spawn(pipeline.run(std::future::pending()));
    let stored = async {
        while counters.durable_rows.load(Ordering::Relaxed) == 0 {
            world.speed("REAL", 10);
            sleep(Duration::from_secs(1)).await;
        }
    };
    // Forty in tens, each for an eighth of two minutes.
    assert!(timeout(Duration::from_secs(110), stored).await.is_ok(), "it never had its turn");
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn vehicles_without_a_sample_have_a_share_of_the_places() {
    const MANY: usize = 3_000;
    let world = World::new();
    let pipeline = world.pipeline(MemorySink::new(&world.schema), 10_000);
    let counters = pipeline.counters();
    let bound = || usize::try_from(counters.bound.load(Ordering::Relaxed)).unwrap();
    let running = tokio::spawn(pipeline.run(std::future::pending()));
    for n in 0..MANY {
        world.on(&format!("REAL-{n}"));
        world.speed(&format!("REAL-{n}"), 0);
    }
    sleep(Duration::from_secs(20)).await;
    assert_eq!(bound(), MANY, "those that send samples have all places");
    (0..MANY).for_each(|n| world.on(&format!("GHOST-{n}")));
    sleep(Duration::from_secs(10)).await;
    let ghosts = bound() - MANY;
    assert!((1_000..=2_048).contains(&ghosts), "{ghosts}");
    // They give way to those behind them sooner than where there is room for all.
    sleep(Duration::from_secs(30)).await;
    assert!(counters.without_sample.load(Ordering::Relaxed) >= 2_048);
    sleep(Duration::from_secs(120)).await;
    assert_eq!((bound(), counters.without_sample.load(Ordering::Relaxed)), (MANY, MANY as u64));
    running.abort();
}

/// Wants a person to change something.
struct Misconfigured;

impl Sink for Misconfigured {
    async fn accept(&mut self, _: &Batch) -> Result<Progress> {
        Err(Error::configuration("as told"))
    }

    async fn flush(&mut self) -> Result<Progress> {
        Ok(Progress::default())
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_can_not_go_on_gives_its_vehicles_back() {
    let world = World::new();
    world.on("CAR");
    (0..100).for_each(|second| world.speed("CAR", second));
    let error = world.pipeline(Misconfigured, 10).run(std::future::pending()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    let mut next = world.binder();
    let bound = timeout(Duration::from_secs(1), next.next(1)).await;
    let Ok(Ok(BindEvent::Bound(bindings))) = bound else { panic!("it is still held: {bound:?}") };
    assert_eq!(bindings[0].vehicle, vehicle("CAR"));
}
