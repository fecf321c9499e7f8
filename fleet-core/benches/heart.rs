//! What the heart costs: decode, align and batch, without any edge.
//! `cargo bench -p fleet-core --bench heart`
//!
//! 10,000 vehicles at the scenario's pace in one lane, one sample a message in frame v1, five minutes of
//! them after five minutes of warm-up. CPU time is that of the thread.
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
use fleet_core::time::{MINUTE, SECOND};
use fleet_core::{Micros, Schema, VehicleId};
use rustix::time::{ClockId, clock_gettime};

const VEHICLES: u32 = 10_000;

/// Seconds between the samples of position, speed, fuel and brake: 20 messages a minute.
const PACES: [f64; 4] = [8.0, 8.0, 20.0, 30.0];

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
}

impl Fleet {
    fn new(schema: &Schema) -> Self {
        let mut dice = Dice(1);
        let mut first = |pace: f64| (START + (pace * dice.share() * 1e6) as Micros, 0);
        let sensors = (0..VEHICLES).map(|_| PACES.map(&mut first)).collect();
        Self { schema: schema.clone(), dice, sensors }
    }

    /// Every message before `until`, in the order of arrival.
    fn messages(&mut self, until: Micros) -> Vec<Message> {
        let mut messages = Vec::new();
        for (vehicle, sensors) in (0..).zip(&mut self.sensors) {
            for (index, signal) in self.schema.indexed() {
                let (time, sequence) = &mut sensors[index.index()];
                while *time < until {
                    let mut samples = Samples::new(signal.columns.len());
                    let values: Vec<f64> =
                        signal.columns.iter().map(|_| 10.0 + 40.0 * self.dice.share()).collect();
                    samples.push(*time / 1_000 * 1_000, &values);
                    let mut payload = Vec::new();
                    encode(signal, *sequence, &samples, &mut payload).unwrap();
                    let (slot, topic) = (Slot(vehicle), Topic::Signal(index));
                    let arrival = *time + 50_000;
                    messages.push(Message { slot, topic, payload: payload.into(), arrival, live: true });
                    *sequence = sequence.wrapping_add(1);
                    *time += (PACES[index.index()] * (0.6 + 0.8 * self.dice.share()) * 1e6) as Micros;
                }
            }
        }
        messages.sort_by_key(|message| message.arrival);
        messages
    }
}

fn lane(schema: &Schema) -> Lane {
    let mut lane = Lane::with_built_ins(schema).unwrap();
    for v in 0..VEHICLES {
        let vehicle = VehicleId::new(&format!("WVWZZZ1KZ8W{v:06}")).unwrap();
        let binding =
            Binding { vehicle, epoch: 1, start: START, on_time: START, floor: None, horizon: Vec::new() };
        let slot = lane.bind(&binding);
        lane.caught_up(slot, START);
    }
    lane
}

/// Feeds the messages, lets time pass four times a second and seals once a second, as the driver does.
/// Gives the rows.
fn feed(lane: &mut Lane, messages: &[Message]) -> usize {
    let (mut rows, mut tick) = (0, 0);
    for message in messages {
        lane.message(message, message.arrival);
        if message.arrival / 250_000 > tick {
            tick = message.arrival / 250_000;
            lane.tick(message.arrival);
            if tick % 4 == 0 {
                rows += lane.seal().unwrap().len();
            }
        }
    }
    rows
}

/// CPU seconds per million of `count`, and what it allocated.
fn timed(count: usize, work: impl FnOnce()) -> (f64, AllocationInfo) {
    let mut took = Duration::ZERO;
    let allocated = measure(|| {
        let begun = cpu();
        work();
        took = cpu() - begun;
    });
    (took.as_secs_f64() * 1e6 / count as f64, allocated)
}

fn decode_only(schema: &Schema, messages: &[Message]) -> f64 {
    let mut samples = Samples::default();
    let (seconds, _) = timed(messages.len(), || {
        for message in messages {
            let Topic::Signal(index) = message.topic else { continue };
            let signal = schema.signal(index);
            samples.reset(signal.columns.len());
            AnyDecoder.decode(signal, &message.payload, &mut samples).unwrap();
            black_box(check(schema, index, &mut samples, message.arrival));
        }
    });
    seconds
}

/// Nanoseconds to decode one of the 64 samples of a full frame.
fn full_frame(schema: &Schema) -> f64 {
    let signal = schema.signal(SignalIndex(1));
    let mut samples = Samples::new(1);
    (0..64).for_each(|i| samples.push(START + i * SECOND, &[i as f64]));
    let mut payload = Vec::new();
    encode(signal, 0, &samples, &mut payload).unwrap();
    let payload = Bytes::from(payload);
    let frames = 100_000;
    let (seconds, _) = timed(frames * 64, || {
        for _ in 0..frames {
            samples.reset(1);
            AnyDecoder.decode(signal, black_box(&payload), &mut samples).unwrap();
        }
    });
    seconds * 1e3
}

fn main() {
    let schema = Schema::default();
    let mut fleet = Fleet::new(&schema);
    let mut lane_of = None;
    let warm_up: Vec<Vec<Message>> = (1..=5).map(|m| fleet.messages(START + m * MINUTE)).collect();
    let (_, held) = timed(1, || {
        let mut lane = lane(&schema);
        warm_up.iter().for_each(|messages| drop(feed(&mut lane, messages)));
        lane_of = Some(lane);
    });
    drop(warm_up);
    let mut lane = lane_of.unwrap();
    let mut rounds: Vec<(f64, f64, f64)> = Vec::new();
    let (mut samples, mut rows, mut allocations) = (0, 0, 0);
    for minute in 6..=10 {
        let messages = fleet.messages(START + minute * MINUTE);
        let mut sealed = 0;
        let (heart, allocated) = timed(messages.len(), || sealed = feed(&mut lane, &messages));
        let idle = timed(messages.len(), || (0..240).for_each(|_| lane.tick(START + minute * MINUTE))).0;
        rounds.push((heart, decode_only(&schema, &messages), idle));
        samples += messages.len();
        rows += sealed;
        allocations += allocated.count_total;
    }
    let median = |part: fn(&(f64, f64, f64)) -> f64| {
        let mut seconds: Vec<f64> = rounds.iter().map(part).collect();
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let (heart, decode, ticks) = (median(|r| r.0), median(|r| r.1), median(|r| r.2));
    println!("{VEHICLES} vehicles, {samples} samples in 5 minutes, {rows} rows; medians of 5 rounds");
    println!("the heart, CPU seconds per million samples    {heart:8.3}   (goal 0.2)");
    println!("  of it decoding and checking                 {decode:8.3}");
    println!("  of it looking for silent signals            {ticks:8.3}");
    println!("allocations per sample, batches included      {:8.4}", allocations as f64 / samples as f64);
    let bytes = held.bytes_current as f64 / f64::from(VEHICLES);
    println!("bytes per vehicle, the lane's all included    {bytes:8.0}   (goal 2048, aim 1024)");
    println!("a sample of a frame of 64, nanoseconds        {:8.1}   (goal 50)", full_frame(&schema));
}
