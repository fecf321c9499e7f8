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
use fleet_core::Schema;
use fleet_core::decode::frame::encode;
use fleet_core::decode::{AnyDecoder, Decoder, check};
use fleet_core::ids::SignalIndex;
use fleet_core::lane::Lane;
use fleet_core::message::{Message, Topic};
use fleet_core::sample::Samples;
use fleet_core::time::{MINUTE, SECOND};
use rustix::time::{ClockId, clock_gettime};

#[path = "shared/fleet.rs"]
mod fleet;

use fleet::{Dice, Fleet, START, feed, lane, patient};

/// How many vehicles, unless an argument says another number.
const VEHICLES: u32 = 10_000;

fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
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

/// What the heart costs with signals that are waited for as the schema says.
fn report(schema: &Schema, vehicles: u32) {
    let mut fleet = Fleet::new(schema, vehicles);
    let mut made = None;
    let (_, held) = timed(|| made = Some(lane(schema, vehicles)));
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
    report(&patient("45s"), vehicles);
    println!("\npatience 30 s: fuel may pause for 42 s, then rows go without it and again with it");
    report(&patient("30s"), vehicles);
    println!("\nthe default: rows go without fuel and again with it, and half of them without brake");
    report(&Schema::default(), vehicles);
    println!();
    let [near, far] = [1 << 20, 1 << 26].map(|bytes| far_read(bytes, &mut Dice(1)));
    println!("a read from 1 MiB, from 64 MiB, ns          {near:8.1} {far:8.1}");
    let schema = Schema::default();
    for (name, index) in [("speed", SignalIndex(1)), ("position", SignalIndex(0))] {
        let [one, many] = [1, 64].map(|count| frame(&schema, index, count));
        println!("a {name:8} in a frame of 1, of 64, ns     {one:8.1} {many:8.1}   (goal 50)");
    }
}
