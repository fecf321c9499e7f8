//! A sink that is down for ten minutes: the worker holds a bounded number of rows, and afterwards
//! everything is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use allocation_counter::measure;
use fleet_core::batch::{BatchBuilder, Record, Row};
use fleet_core::bind::memory::{MemoryBinder, MemoryQueue, MemoryStates};
use fleet_core::lane::Lane;
use fleet_core::pipeline::{Counters, Pipeline, PipelineOptions};
use fleet_core::sink::fault::{Faults, Faulty};
use fleet_core::sink::memory::MemorySink;
use fleet_core::source::memory::{MemorySource, MemoryStream};
use fleet_core::time::SECOND;
use fleet_core::{Micros, Schema, VehicleId};
use tokio::time::sleep;

const VEHICLES: usize = 50;
const START: Micros = 1_780_300_800 * SECOND;
/// Seconds of the drive; the sink is down for ten minutes of it.
const DRIVE: i64 = 720;
const DOWN: std::ops::Range<i64> = 60..660;

fn vehicle(n: usize) -> VehicleId {
    VehicleId::new(&format!("CAR-{n}")).unwrap()
}

async fn drive(stream: MemoryStream, queue: MemoryQueue, schema: Schema, faults: Option<Faults>) {
    let on = |v: usize| {
        stream.on(&vehicle(v), START);
        queue.offer(&vehicle(v), START);
    };
    (0..VEHICLES).for_each(on);
    for second in 0..DRIVE {
        sleep(Duration::from_secs(1)).await;
        if let Some(faults) = &faults {
            match second {
                s if s == DOWN.start => faults.hold(),
                s if s == DOWN.end => faults.release(),
                _ => {}
            }
        }
        let at = START + second * SECOND;
        for v in 0..VEHICLES {
            // Each signal at a pace of its own.
            for (name, pace) in [("position", 5), ("speed", 2), ("fuel", 24), ("brake", 14)] {
                if second % pace == v as i64 % pace {
                    let ms = at / 1_000;
                    let payload = match name {
                        "position" => format!("{{\"ts\":{ms},\"lat\":{},\"lon\":11.5}}", 48 + second % 7),
                        _ => format!("{{\"ts\":{ms},\"value\":{}}}", 50 + (second + v as i64) % 40),
                    };
                    stream.publish(&vehicle(v), schema.find(name).unwrap(), payload.into(), at);
                }
            }
        }
    }
    (0..VEHICLES).for_each(|v| stream.off(&vehicle(v), START + DRIVE * SECOND));
    for more in 0..120 {
        sleep(Duration::from_secs(1)).await;
        stream.advance(START + (DRIVE + more) * SECOND);
    }
}

/// Rows that were emitted and are not durable, at most.
async fn watch(counters: Arc<Counters>) -> u64 {
    let mut most = 0;
    while counters.released.load(Ordering::Relaxed) < VEHICLES as u64 {
        sleep(Duration::from_millis(100)).await;
        let durable = counters.durable_rows.load(Ordering::Relaxed);
        most = most.max(counters.lane().rows.saturating_sub(durable));
    }
    most
}

/// The table, and the most rows that waited.
async fn run(max_waiting_rows: usize, outage: bool) -> (BTreeMap<(VehicleId, Micros), Record>, u64) {
    let (schema, faults) = (Schema::default(), Faults::default());
    let (stream, queue) = (MemoryStream::new(), MemoryQueue::new());
    let lane = Lane::with_built_ins(&schema).unwrap();
    let binder = MemoryBinder::new(&queue, Arc::new(MemoryStates::new()), lane.context());
    let table = MemorySink::new(&schema);
    let options = PipelineOptions { batch_rows: 50, max_waiting_rows, ..PipelineOptions::default() };
    let sink = Faulty::new(table.clone(), &faults);
    let pipeline = Pipeline::new(MemorySource::new(&stream), binder, sink, lane, options);
    let (watching, driving) =
        (watch(pipeline.counters()), drive(stream, queue, schema, outage.then_some(faults)));
    let (done, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = pipeline.run(async { drop(stopped.await) });
    let observed = async {
        let (most, ()) = tokio::join!(watching, driving);
        drop(done);
        most
    };
    let (most, ended) = tokio::join!(observed, running);
    ended.unwrap();
    (table.rows(), most)
}

#[tokio::test(start_paused = true)]
async fn ten_minutes_without_a_sink_cost_bounded_memory_and_no_row() {
    const MOST: usize = 400;
    let (expected, _) = run(200_000, false).await;
    let (stored, most) = run(MOST, true).await;
    assert_eq!(stored.len(), expected.len());
    assert!(stored == expected, "what was caught up differs");
    // Those that wait, what one more event gives, and the batch that the sink has.
    assert!((MOST as u64..=2 * MOST as u64).contains(&most), "{most}");
    // Without the bound it would be the outage's rows.
    let (_, unbounded) = run(200_000, true).await;
    assert!(unbounded > 60 * VEHICLES as u64 * 9 / 10, "{unbounded}");
}

/// What a waiting row costs: before a batch is sealed, and as the batch that the sink has.
#[test]
fn a_waiting_row_costs_less_than_200_bytes() {
    const ROWS: usize = 200_000;
    let schema = Schema::default();
    let mut batch = None;
    let info = measure(|| {
        let mut builder = BatchBuilder::new(&schema);
        for n in 0..ROWS {
            let key = builder.vehicle(&vehicle(n % 10_000), 1);
            let row = Row { ts: START, values: &[1.0; 5], quality: 0b10_10_10_10, correction: false };
            builder.push(key, row);
        }
        batch = Some((builder.seal().unwrap(), builder));
    });
    drop(batch);
    let each = info.bytes_max as f64 / ROWS as f64;
    println!("{each:.0} bytes a row, its batch included");
    assert!(each < 200.0, "{each}");
}
