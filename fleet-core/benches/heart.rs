//! What the heart costs: decode, align and batch, without any edge.
//! `cargo bench -p fleet-core --bench heart`
//!
//! 10,000 vehicles, or as many as an argument says, at the scenario's pace in one lane, one sample a
//! message in frame v1, five minutes of them after twenty of warm-up: by then nearly all rings have
//! had their most samples. CPU time is that of the thread.
#![allow(clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use bytes::Bytes;
use fleet_core::bind::Binding;
use fleet_core::decode::frame::encode;
use fleet_core::decode::{AnyDecoder, Decoder, check};
use fleet_core::ids::{SignalIndex, Slot};
use fleet_core::lane::Lane;
use fleet_core::message::{Message, Topic};
use fleet_core::sample::Samples;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::{MINUTE, SECOND};
use fleet_core::{Micros, Schema, VehicleId};
use rustix::time::{ClockId, clock_gettime};

/// How many vehicles, unless an argument says another number.
const VEHICLES: u32 = 10_000;

/// Seconds between the samples of position, speed, fuel and brake, give or take 40 %: 20 messages a
/// minute.
const PACES: [f64; 4] = [7.5, 10.0, 30.0, 15.0];

const START: Micros = 1_780_000_000 * SECOND;

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// splitmix64, <https://prng.di.unimi.it/splitmix64.c>
struct Dice(u64);

impl Dice {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }
}

/// The sensors of all vehicles.
struct Fleet {
    schema: Schema,
    dice: Dice,
    /// By vehicle and signal: when it sends next, and its counter.
    sensors: Vec<[(Micros, u16); 4]>,
    /// By second, turning: the sensors that send in it.
    wheel: Vec<Vec<(u32, SignalIndex)>>,
}

/// Seconds of the wheel: more than any pause.
const WHEEL: i64 = 64;

impl Fleet {
    fn new(schema: &Schema, vehicles: u32) -> Self {
        let mut dice = Dice(1);
        let mut wheel = vec![Vec::new(); WHEEL as usize];
        let mut sensors = Vec::new();
        for vehicle in 0..vehicles {
            sensors.push(PACES.map(|pace| (START + (pace * dice.share() * 1e6) as Micros, 0)));
            for (index, _) in schema.indexed() {
                let (next, _) = sensors[vehicle as usize][index.index()];
                wheel[((next - START) / SECOND) as usize].push((vehicle, index));
            }
        }
        Self { schema: schema.clone(), dice, sensors, wheel }
    }

    /// The messages of one second after the start, in the order of arrival.
    fn second(&mut self, second: i64) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut payloads = Vec::new();
        for (vehicle, index) in std::mem::take(&mut self.wheel[(second % WHEEL) as usize]) {
            let signal = self.schema.signal(index);
            let (time, sequence) = &mut self.sensors[vehicle as usize][index.index()];
            let mut samples = Samples::new(signal.columns.len());
            // Near each other, as of one vehicle on its way.
            let near = 10.0 + f64::from(vehicle % 40);
            let values: Vec<f64> = signal.columns.iter().map(|_| near + 1e-3 * self.dice.share()).collect();
            samples.push(*time / 1_000 * 1_000, &values);
            let from = payloads.len();
            encode(signal, *sequence, &samples, &mut payloads).unwrap();
            messages.push((*time + 50_000, Slot(vehicle), index, from..payloads.len()));
            *sequence = sequence.wrapping_add(1);
            *time += (PACES[index.index()] * (0.6 + 0.8 * self.dice.share()) * 1e6) as Micros;
            self.wheel[((*time - START) / SECOND % WHEEL) as usize].push((vehicle, index));
        }
        messages.sort_unstable_by_key(|message| message.0);
        // As they come out of a socket: in one buffer.
        let buffer = Bytes::from(payloads);
        let message = |(arrival, slot, index, range)| Message {
            slot,
            topic: Topic::Signal(index),
            payload: buffer.slice(range),
            arrival,
            live: true,
        };
        messages.into_iter().map(message).collect()
    }
}

fn lane(schema: &Schema, vehicles: u32) -> Lane {
    let mut lane = Lane::with_built_ins(schema).unwrap();
    for v in 0..vehicles {
        let vehicle = VehicleId::new(&format!("WVWZZZ1KZ8W{v:06}")).unwrap();
        let binding =
            Binding { vehicle, epoch: 1, start: START, on_time: START, floor: None, horizon: Vec::new() };
        let slot = lane.bind(&binding);
        lane.caught_up(slot, START);
    }
    lane
}

/// Feeds the messages of a second and lets time pass four times, as the driver does before it seals.
fn feed(lane: &mut Lane, messages: &[Message]) {
    let quarter = |message: &Message| message.arrival / 250_000;
    for group in messages.chunk_by(|a, b| quarter(a) == quarter(b)) {
        let now = group[group.len() - 1].arrival;
        lane.messages(group);
        lane.tick(now);
    }
}

/// The CPU time that something took, and what it allocated.
fn timed(work: impl FnOnce()) -> (Duration, AllocationInfo) {
    let mut took = Duration::ZERO;
    let allocated = measure(|| {
        let begun = cpu();
        work();
        took = cpu() - begun;
    });
    (took, allocated)
}

fn decode(schema: &Schema, messages: &[Message]) {
    let mut samples = Samples::default();
    for message in messages {
        let Topic::Signal(index) = message.topic else { continue };
        let signal = schema.signal(index);
        samples.reset(signal.columns.len());
        AnyDecoder.decode(signal, &message.payload, &mut samples).unwrap();
        black_box(check(schema, index, &mut samples, message.arrival));
    }
}

/// Nanoseconds to decode one of so many samples of a frame, of speed or another signal.
fn frame(schema: &Schema, index: SignalIndex, count: u32) -> f64 {
    let signal = schema.signal(index);
    let columns = signal.columns.len();
    let mut samples = Samples::new(columns);
    (0..count).for_each(|i| samples.push(START + i64::from(i) * SECOND, &[20.0, 10.0][..columns]));
    let mut payload = Vec::new();
    encode(signal, 0, &samples, &mut payload).unwrap();
    let frames = 6_400_000 / count;
    let (took, _) = timed(|| {
        for _ in 0..frames {
            samples.reset(columns);
            AnyDecoder.decode(signal, black_box(&payload), &mut samples).unwrap();
        }
    });
    took.as_secs_f64() * 1e9 / f64::from(frames * count)
}

/// Nanoseconds of a read that must wait for the one before, somewhere in so many bytes.
fn far_read(bytes: usize, dice: &mut Dice) -> f64 {
    /// A cache line, of which each read takes one.
    #[derive(Clone)]
    #[repr(align(64))]
    struct Line(usize);
    let count = bytes / size_of::<Line>();
    let mut lines: Vec<Line> = (0..count).map(Line).collect();
    // One round through all (S. Sattolo, "An algorithm to generate a random cyclic permutation", 1986).
    for i in (1..count).rev() {
        let j = ((dice.share() * i as f64) as usize).min(i - 1);
        let at_i = lines[i].0;
        lines[i].0 = std::mem::replace(&mut lines[j].0, at_i);
    }
    let reads = 1_000_000;
    let (took, _) = timed(|| {
        black_box((0..reads).fold(0, |at: usize, _| lines[at].0));
    });
    took.as_secs_f64() * 1e9 / f64::from(reads)
}

/// What the fleet's seconds cost.
#[derive(Default)]
struct Cost {
    heart: Duration,
    decode: Duration,
    seal: Duration,
    samples: usize,
    rows: usize,
    /// Of samples and ticks, and of sealing batches.
    allocations: [u64; 2],
    bytes: i64,
}

fn drive(fleet: &mut Fleet, lane: &mut Lane, seconds: std::ops::Range<i64>) -> Cost {
    let mut cost = Cost::default();
    for second in seconds {
        let messages = fleet.second(second);
        let (fed, of_samples) = timed(|| feed(lane, &messages));
        let (sealed, of_batches) = timed(|| cost.rows += lane.seal().unwrap().len());
        cost.decode += timed(|| decode(&fleet.schema, &messages)).0;
        cost.heart += fed + sealed;
        cost.seal += sealed;
        cost.samples += messages.len();
        cost.allocations[0] += of_samples.count_total;
        cost.allocations[1] += of_batches.count_total;
        cost.bytes += of_samples.bytes_current + of_batches.bytes_current;
    }
    cost
}

/// What the heart costs with a patience, which silent signals are waited for.
fn report(patience: &str, vehicles: u32) {
    let patience = patience.to_owned();
    let schema = RecordsConfig { patience, ..RecordsConfig::default() }.build().unwrap();
    let mut fleet = Fleet::new(&schema, vehicles);
    let mut made = None;
    let (_, held) = timed(|| made = Some(lane(&schema, vehicles)));
    let mut lane = made.unwrap();
    let minutes = |m: i64| m * MINUTE / SECOND;
    let warm_up = drive(&mut fleet, &mut lane, 0..minutes(20));
    let cost = drive(&mut fleet, &mut lane, minutes(20)..minutes(25));
    let per_million = |took: Duration| took.as_secs_f64() * 1e6 / cost.samples as f64;
    println!("{vehicles} vehicles, {} samples in 5 minutes, {} rows", cost.samples, cost.rows);
    println!("the heart, CPU seconds per million samples  {:8.3}   (goal 0.2)", per_million(cost.heart));
    println!("  of it decoding and checking               {:8.3}", per_million(cost.decode));
    println!("  of it sealing batches                     {:8.3}", per_million(cost.seal));
    let [of_samples, of_batches] = cost.allocations.map(|count| count as f64 * 1e6 / cost.samples as f64);
    println!("allocations per million samples             {of_samples:8.0}   (goal 0)");
    println!("  and of the {:5} batches                  {of_batches:8.0}", minutes(5));
    let bytes = (held.bytes_current + warm_up.bytes + cost.bytes) as f64 / f64::from(vehicles);
    println!("bytes per vehicle, the lane's all included  {bytes:8.0}   (goal 2048, aim 1024)");
}

fn main() {
    let vehicles = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(VEHICLES);
    println!("patience 45 s: longer than any sensor pauses");
    report("45s", vehicles);
    println!(
        "\npatience 30 s, the default: fuel may pause for 42 s, then rows go without it and again with it"
    );
    report("30s", vehicles);
    println!();
    let [near, far] = [1 << 20, 1 << 26].map(|bytes| far_read(bytes, &mut Dice(1)));
    println!("a read from 1 MiB, from 64 MiB, ns          {near:8.1} {far:8.1}");
    let schema = Schema::default();
    for (name, index) in [("speed", SignalIndex(1)), ("position", SignalIndex(0))] {
        let [one, many] = [1, 64].map(|count| frame(&schema, index, count));
        println!("a {name:8} in a frame of 1, of 64, ns     {one:8.1} {many:8.1}   (goal 50)");
    }
}
