//! One seed: some vehicles, some workers, one table.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::align::{Aligner, Methods};
use fleet_core::batch::{Quality, Record};
use fleet_core::bind::memory::{MemoryBinder, MemoryQueue, MemoryStates};

use fleet_core::ids::SignalIndex;
use fleet_core::lane::{Lane, LaneCounters};
use fleet_core::message::Refusal;
use fleet_core::pipeline::{Pipeline, PipelineOptions};
use fleet_core::reference::{self, Samples, Table};
use fleet_core::schema::Schema;
use fleet_core::sink::memory::MemorySink;
use fleet_core::sink::{Backoff, Retry};
use fleet_core::source::memory::{MemorySource, MemoryStream};
use fleet_core::time::SECOND;
use fleet_core::{Micros, VehicleId};
use tokio::time::Instant;

use super::aside::Aside;
use super::edges::{Flaky, Log, Mortal, Raw, Remote, payload};
use super::traffic::{self, Dice, Drive, LATEST, Post, START, Trip, What, drive};
use crate::compare::difference;

/// What is done wrong on purpose, to see that it is caught.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Fault {
    None,
    /// The sink says durable of what it has yet to write.
    DurableTooEarly,
    /// The sink keeps to itself that it has set rows aside.
    AsideInSecret,
    /// A new holder begins with what comes from now on.
    NoReplay,
    /// A holder is not told that its vehicles were claimed behind its back.
    Unnoticed,
    /// A signal that is behind another by more than so much event time holds nothing back, though its next sample
    /// may still be joined to its last one.
    PastTooEarly(Micros),
    /// A holder that ends says that all came that was stored so much later.
    CarriesTooMuch(Micros),
}

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) deaths: u64,
    pub(super) failures: u64,
    /// Rows that the sink stored later than others of their batch.
    pub(super) set_aside: u64,
    /// Beyond the first of each vehicle.
    pub(super) trips: u64,
    /// Messages of a backlog: stored later than the window after their first sample.
    pub(super) backlog: u64,
    /// Of these the messages that come after a time offline in which a dead signal would be let go.
    pub(super) long_offline: u64,
    /// Vehicles that were caught up after the sink had not kept up.
    pub(super) catch_ups: u64,
    /// Vehicles that a holder lost to a claim of which nobody told it.
    pub(super) lost: u64,
    /// Times that a silent signal no longer held anything back.
    pub(super) past: u64,
    /// Vehicles that a holder left to the next one on purpose.
    pub(super) handed_over: u64,
    /// And those that went on from there.
    pub(super) carried: u64,
    pub(super) counters: LaneCounters,
    /// Every row of every batch in the order in which the sinks got them.
    pub(super) batches: Vec<u8>,
}

impl std::ops::AddAssign<LaneCounters> for Seen {
    fn add_assign(&mut self, lane: LaneCounters) {
        self.counters.corrections += lane.corrections;
        self.counters.duplicates += lane.duplicates;
        self.counters.late += lane.late;
        for refusal in Refusal::ALL {
            (0..lane.refused.of(refusal)).for_each(|_| self.counters.refused.add(refusal));
        }
    }
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.deaths += other.deaths;
        self.failures += other.failures;
        self.set_aside += other.set_aside;
        self.trips += other.trips;
        self.backlog += other.backlog;
        self.long_offline += other.long_offline;
        self.catch_ups += other.catch_ups;
        self.lost += other.lost;
        self.past += other.past;
        self.handed_over += other.handed_over;
        self.carried += other.carried;
        *self += other.counters;
    }
}

struct World {
    schema: Schema,
    stream: MemoryStream,
    queue: MemoryQueue,
    states: Arc<MemoryStates>,
    table: MemorySink,
    log: Arc<Log>,
    fault: Fault,
}

/// One vehicle: what its table and its trips must be.
struct Expected {
    vehicle: VehicleId,
    table: Table,
    trips: Vec<Trip>,
    /// Between trips: from the last sample of one to the first of the next.
    pauses: Vec<(Micros, Micros)>,
}

/// The stream's clock runs so many times as fast as the test's, which is paused.
const SPEED: u64 = 2;

/// Plays a seed on a runtime of its own.
///
/// # Errors
/// What is wrong with the table or the trips.
pub(super) fn play(seed: u64, fault: Fault) -> Result<Seen, String> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(seed, fault)).map_err(|error| format!("seed {seed}: {error}"))
}

async fn run(seed: u64, fault: Fault) -> Result<Seen, String> {
    let mut dice = Dice(seed);
    let schema = traffic::schema(&mut dice);
    let world = World {
        table: MemorySink::new(&schema),
        stream: MemoryStream::new(),
        queue: MemoryQueue::new(),
        states: Arc::new(MemoryStates::new()),
        log: Arc::default(),
        schema,
        fault,
    };
    let silence = world.aligner().silence();
    let (mut posts, mut vehicles, mut strikes) = (Vec::new(), Vec::new(), Vec::new());
    for v in 0..=dice.below(3) {
        let vehicle = VehicleId::new(&format!("V{v}")).unwrap();
        let Drive { posts: of_vehicle, trips, returns } = drive(&mut dice, &vehicle, silence);
        let table = expected(&world.schema, &of_vehicle);
        let pauses = pauses(&of_vehicle, &trips);
        strikes.extend(returns.into_iter().map(|back| back + dice.below(LATEST)));
        vehicles.push(Expected { vehicle, table, trips, pauses });
        posts.extend(of_vehicle);
    }
    posts.sort_by_key(|post| post.stored);
    let later_than = |late: Micros| {
        let is_late = |post: &&Post| match &post.what {
            What::Samples(_, samples) => post.stored - samples[0].0 > late,
            _ => false,
        };
        posts.iter().filter(is_late).count() as u64
    };
    let (backlog, long_offline) = (later_than(world.schema.window()), later_than(silence));
    let mut seen = Seen { backlog, long_offline, ..Seen::default() };
    strikes.sort_unstable();
    work(&world, &mut dice, posts, strikes.into(), &mut seen).await?;
    seen.trips = vehicles.iter().map(|v| v.trips.len() as u64 - 1).sum();
    seen.set_aside = world.log.set_aside.load(Ordering::Relaxed);
    seen.past = world.log.past.load(Ordering::Relaxed);
    seen.failures = world.log.failures.load(Ordering::Relaxed);
    seen.batches = std::mem::take(&mut *world.log.batches.lock().unwrap());
    vehicles.iter().try_for_each(|vehicle| compare(&world, vehicle))?;
    Ok(seen)
}

/// Workers that die or are asked to end, one after the other, until nothing is left to do: some of their own, and whoever there is at a
/// strike.
async fn work(
    world: &World,
    dice: &mut Dice,
    posts: Vec<Post>,
    mut strikes: VecDeque<Micros>,
    seen: &mut Seen,
) -> Result<(), String> {
    let begin = Instant::now();
    let publisher = tokio::spawn(publish(world.stream.clone(), world.queue.clone(), posts));
    let failures = dice.below(30);
    let mut lives = dice.below(12);
    loop {
        world.queue.redeliver();
        let pipeline = world.pipeline(dice, failures);
        let counters = pipeline.counters();
        let is_done = || publisher.is_finished() && world.queue.active() == 0;
        lives -= 1;
        let leaves = (lives >= 0 && dice.one_in(3)).then(|| dice.below(40_000).unsigned_abs());
        let leaves = leaves.map(|after| Instant::now() + Duration::from_millis(after));
        let done = async {
            while !is_done() && leaves.is_none_or(|leaves| Instant::now() < leaves) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let polls =
            if lives < 0 { i64::MAX } else { 1 << dice.below(if leaves.is_some() { 30 } else { 14 }) };
        let passed = |strike: Micros| begin + Duration::from_micros((strike - START).unsigned_abs() / SPEED);
        strikes.retain(|strike| passed(*strike) > Instant::now());
        let strike = strikes.front().map(|strike| passed(*strike));
        let struck = async move {
            match strike {
                Some(strike) => tokio::time::sleep_until(strike).await,
                None => std::future::pending().await,
            }
        };
        let worker = Mortal { worker: Box::pin(pipeline.run(done)), polls, struck: Box::pin(struck) };
        let end = tokio::time::timeout(Duration::from_secs(1_800), worker);
        let end = end.await.map_err(|_| "the vehicles were not released in 1,800 s".to_owned())?;
        *seen += counters.lane();
        seen.catch_ups += counters.catch_ups.load(Ordering::Relaxed);
        seen.lost += counters.lost.load(Ordering::Relaxed);
        seen.handed_over += counters.handed_over.load(Ordering::Relaxed);
        seen.carried += counters.carried.load(Ordering::Relaxed);
        match end {
            None => {
                seen.deaths += 1;
                let late = world.log.claim.lock().unwrap().clone().filter(|_| dice.one_in(2));
                if let Some(late) = late {
                    let after = Duration::from_millis(dice.below(10_000).unsigned_abs());
                    tokio::spawn(late.arrive(after, world.states()));
                }
            }
            Some(result) if result.is_err() || is_done() => {
                return result.map_err(|error| error.to_string());
            }
            Some(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(dice.below(3_000).unsigned_abs())).await;
    }
}

async fn publish(stream: MemoryStream, queue: MemoryQueue, posts: Vec<Post>) {
    let mut now = START;
    for Post { stored, vehicle, what } in posts {
        let pause = (stored - now).max(0).unsigned_abs();
        tokio::time::sleep(Duration::from_micros(pause / SPEED)).await;
        now = now.max(stored);
        match what {
            What::On => {
                stream.on(&vehicle, stored);
                queue.offer(&vehicle, stored);
            }
            What::Off => stream.off(&vehicle, stored),
            What::Samples(signal, samples) => {
                let signal = SignalIndex(u8::try_from(signal).unwrap());
                stream.publish(&vehicle, signal, payload(&samples), stored);
            }
        }
    }
    // The clock goes on, or patience would never end.
    stream.advance(now + 60 * SECOND);
}

impl World {
    fn aligner(&self) -> Aligner {
        Aligner::new(&self.schema, &Methods::default()).unwrap()
    }

    fn states(&self) -> Remote {
        let (inner, log) = (Arc::clone(&self.states), Arc::clone(&self.log));
        Remote { inner, table: self.table.clone(), fault: self.fault, log }
    }

    fn pipeline(&self, dice: &mut Dice, failures: i64) -> Pipeline<MemorySource, MemoryBinder<Remote>> {
        let lane = Lane::new(&self.schema, Arc::new(Raw), self.aligner());
        let secret = self.fault == Fault::AsideInSecret;
        // By dice of their own, so that all else is as without.
        let mut of_aside = Dice(dice.0 ^ 0xA51D);
        let aside = (of_aside.one_in(2) || secret)
            .then(|| Aside::new(self.table.clone(), &self.schema, of_aside, secret));
        let sink = Flaky {
            aside,
            inner: self.table.gathering(dice.of(&[1, 1, 4, 50])),
            dice: Dice(dice.roll()),
            failures,
            fault: self.fault,
            pending: VecDeque::new(),
            log: Arc::clone(&self.log),
        };
        let backoff = Backoff { first: Duration::from_millis(50), ..Backoff::default() };
        let binder = MemoryBinder::new(&self.queue, Arc::new(self.states()), lane.context());
        let mut millis =
            |from: i64, more: i64| Duration::from_millis((from + dice.below(more)).unsigned_abs());
        let options = PipelineOptions {
            batch_age: millis(100, 900),
            max_lag: millis(500, 10_000),
            save_interval: millis(200, 5_000),
            batch_rows: 1 + dice.below(40) as usize,
            max_waiting_rows: dice.of(&[20, 200_000]),
            patience: Duration::from_secs(2),
            ..PipelineOptions::default()
        };
        let source = MemorySource::new(&self.stream);
        Pipeline::new(source, binder, Retry::new(sink, "flaky", backoff), lane, options)
    }
}

/// What the table of a vehicle must be, by the plain reference.
fn expected(schema: &Schema, posts: &[Post]) -> Table {
    let mut samples = vec![Samples::new(); schema.signals().len()];
    for post in posts {
        if let What::Samples(signal, of_message) = &post.what {
            of_message.iter().for_each(|(time, values)| reference::add(&mut samples[*signal], *time, values));
        }
    }
    reference::table(schema, &samples)
}

fn pauses(posts: &[Post], trips: &[Trip]) -> Vec<(Micros, Micros)> {
    let times = posts.iter().flat_map(|post| match &post.what {
        What::Samples(_, samples) => samples.iter().map(|s| s.0).collect(),
        _ => Vec::new(),
    });
    let times: Vec<Micros> = times.collect();
    let pause = |(on, _): &Trip| {
        let last = times.iter().copied().filter(|t| t < on).max()?;
        Some((last, times.iter().copied().filter(|t| t >= on).min().unwrap_or(Micros::MAX)))
    };
    trips.iter().skip(1).filter_map(pause).collect()
}

fn compare(world: &World, expected: &Expected) -> Result<(), String> {
    let Expected { vehicle, table, trips, pauses } = expected;
    let stored = world.table.rows().into_iter().filter(|((v, _), _)| v == vehicle);
    let stored: Table = stored.map(|((_, ts), record)| (ts, record)).collect();
    // After a trip a value may be held for `max_gap`, until the next trip's first sample at most. A
    // holder that begins the next trip without the last one's samples can't know it.
    let kept = |table: &Table| -> Table {
        let held_on = |ts: &Micros, record: &Record| {
            (0..4).all(|s| matches!(Quality::of(record.quality, s), Quality::Missing | Quality::Held))
                && pauses.iter().any(|(last, first)| (last + 1..*first).contains(ts))
        };
        table.iter().filter(|(ts, record)| !held_on(ts, record)).map(|(ts, r)| (*ts, r.clone())).collect()
    };
    if let Some(difference) = difference(&world.schema, &kept(&stored), &kept(table)) {
        return Err(format!("{vehicle}: {difference}"));
    }
    let want: Vec<(Micros, Option<Micros>)> = trips.iter().map(|(on, off)| (*on, Some(*off))).collect();
    let got = world.states.trips(vehicle);
    if got == want { Ok(()) } else { Err(format!("{vehicle} has the trips {got:?}, not {want:?}")) }
}
