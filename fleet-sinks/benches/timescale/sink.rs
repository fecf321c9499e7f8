//! The sink against a bare COPY of the same rows into the same table, and what a row costs.

use std::collections::HashMap;
use std::hint::black_box;
use std::pin::pin;
use std::time::Instant;

use bytes::Bytes;
use fleet_core::Sink;
use fleet_core::batch::Batch;
use fleet_sinks::timescale::{TimescaleSink, copy_of};
use futures_util::SinkExt;

use crate::fleet::Fleet;
use crate::{Bench, median, number};

const VEHICLES: usize = 1_000;
const ROUNDS: usize = 5;

/// Microseconds of a row: by the clock, and of the server's backend.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    server: f64,
}

/// CPU seconds of a process.
fn cpu(pid: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // After the name, which may hold anything: state is the third field, the times the 14th and 15th.
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |field: &str| field.parse::<f64>().unwrap();
    (ticks(fields[11]) + ticks(fields[12])) / 100.0
}

/// A batch as one COPY in key order, which the fleet's is by its instants.
fn encoded(batch: &Batch, ids: &HashMap<String, i32>) -> (Bytes, f64) {
    let ids: Vec<i32> = batch.vehicles().iter().map(|v| ids[v.id.as_str()]).collect();
    assert!(ids.is_sorted());
    let vehicles = u32::try_from(ids.len()).unwrap();
    let rows = u32::try_from(batch.len()).unwrap();
    let order: Vec<u32> = (0..vehicles).flat_map(|v| (v..rows).step_by(vehicles as usize)).collect();
    let begun = Instant::now();
    // In the pieces in which the sink hands them to its connection.
    order.chunks(1_024).for_each(|piece| drop(black_box(copy_of(batch, piece, &ids))));
    let took = begun.elapsed().as_secs_f64();
    (copy_of(batch, &order, &ids).unwrap(), took)
}

pub(crate) async fn beside_a_bare_copy(bench: &Bench) {
    let mut fleet = Fleet::new(&bench.schema, VEHICLES);
    let batches: Vec<_> = (0..number("BATCHES", 40)).map(|_| fleet.batch()).collect();
    let rows: usize = batches.iter().map(Batch::len).sum();
    // Ids and partitions are made once.
    TimescaleSink::new(bench.connector(), &bench.schema).accept(&batches[0]).await.unwrap();
    let ids = bench.client.query("select vin, vehicle_id from vehicle", &[]).await.unwrap();
    let ids = ids.iter().map(|row| (row.get(0), row.get(1))).collect();
    let (mut pieces, mut encoder) = (Vec::new(), Vec::new());
    for batch in &batches {
        let (piece, took) = encoded(batch, &ids);
        pieces.push(piece);
        encoder.push(took * 1e6 / batch.len() as f64);
    }
    println!("{rows} rows of {VEHICLES} vehicles in batches of {}", batches[0].len());
    println!("encoder, µs a row                        {:7.3}   (goal 0.1)", median(encoder));

    let mut costs: HashMap<&str, Vec<Cost>> = HashMap::new();
    for _ in 0..ROUNDS {
        let mut note = |what, cost: Cost| costs.entry(what).or_default().push(cost);
        note("bare", bare(bench, &pieces, rows).await);
        note("sink", by_sink(bench, &batches, rows).await);
        bench.client.batch_execute("alter table fleet_touched rename to away").await.unwrap();
        note("without notes", by_sink(bench, &batches, rows).await);
        bench.client.batch_execute("alter table away rename to fleet_touched").await.unwrap();
        bench.client.batch_execute("drop index telemetry_ts_range").await.unwrap();
        note("bare without block ranges", bare(bench, &pieces, rows).await);
        let index = "create index telemetry_ts_range on telemetry using brin (ts) with (autosummarize = on)";
        bench.client.batch_execute(index).await.unwrap();
    }
    let of = |what: &str, part: fn(&Cost) -> f64| median(costs[what].iter().map(part).collect());
    for what in ["bare", "sink", "without notes", "bare without block ranges"] {
        println!(
            "{what:26} µs a row {:5.2}, of the server's CPU {:5.2}",
            of(what, |c| c.wall),
            of(what, |c| c.server)
        );
    }
    let ratio =
        |a: &str, b: &str| median(costs[a].iter().zip(&costs[b]).map(|(a, b)| a.wall / b.wall).collect());
    println!("the sink's rate to that of the bare COPY {:7.2}   (goal 0.9)", ratio("bare", "sink"));
    println!("server CPU, µs a row                     {:7.2}   (goal 4)", of("sink", |c| c.server));
    println!("the sink with notes to without           {:7.3}", ratio("sink", "without notes"));
    println!("COPY with block ranges to without        {:7.3}", ratio("bare", "bare without block ranges"));
    bench.client.batch_execute("truncate telemetry, fleet_touched").await.unwrap();
}

async fn bare(bench: &Bench, pieces: &[Bytes], rows: usize) -> Cost {
    let client = &bench.client;
    client.batch_execute("truncate telemetry; checkpoint").await.unwrap();
    let pid: i32 = client.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let (begun, before) = (Instant::now(), cpu(pid));
    for piece in pieces {
        let copy = client.copy_in("copy telemetry from stdin (format binary)").await.unwrap();
        let mut copy = pin!(copy);
        copy.send(piece.clone()).await.unwrap();
        copy.finish().await.unwrap();
    }
    Cost {
        wall: begun.elapsed().as_secs_f64() * 1e6 / rows as f64,
        server: (cpu(pid) - before) * 1e6 / rows as f64,
    }
}

async fn by_sink(bench: &Bench, batches: &[Batch], rows: usize) -> Cost {
    let client = &bench.client;
    client.batch_execute("truncate telemetry; checkpoint").await.unwrap();
    let mut sink = TimescaleSink::new(bench.connector(), &bench.schema);
    sink.connect().await.unwrap();
    let pid = "select pid from pg_stat_activity where application_name = 'fleet' order by backend_start desc limit 1";
    let pid: i32 = client.query_one(pid, &[]).await.unwrap().get(0);
    let (begun, before) = (Instant::now(), cpu(pid));
    for batch in batches {
        assert!(sink.accept(batch).await.unwrap().rejected.is_empty());
    }
    Cost {
        wall: begun.elapsed().as_secs_f64() * 1e6 / rows as f64,
        server: (cpu(pid) - before) * 1e6 / rows as f64,
    }
}
