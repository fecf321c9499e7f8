//! The queries of `docs/database.md` over a day that the sink has stored.

use std::time::{Duration, Instant, SystemTime};

use fleet_core::Sink;
use fleet_sinks::timescale::{MaintainOptions, TimescaleSink, maintain};
use tokio_postgres::types::ToSql;

use crate::fleet::{Fleet, INSTANTS, MIDNIGHT, vin};
use crate::{Bench, median, number};

#[path = "../../queries/queries.rs"]
mod texts;

const RUNS: usize = 9;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(MIDNIGHT.unsigned_abs()) + Duration::from_secs(seconds)
}

pub(crate) async fn over_a_day(bench: &Bench) {
    let vehicles = number("VEHICLES", 1_000);
    fill(bench, vehicles).await;
    roll_up(bench).await;
    let name = vin(vehicles / 3).as_str().to_owned();
    let hot = vin(7).as_str().to_owned();
    let (from, to, limit): (_, _, &(dyn ToSql + Sync)) = (at(0), at(86_400), &200.0_f64);
    let cases: [(&str, Vec<&(dyn ToSql + Sync)>); 9] = [
        ("one_vehicle", vec![&name, &from, &to]),
        ("fleet_average", vec![&from, &to]),
        ("last_positions", vec![]),
        ("hot_brakes", vec![limit]),
        ("hot_brakes_of_one", vec![&hot, &from, &to, limit]),
        ("hot_brakes_of_all", vec![&from, &to, limit]),
        ("low_fuel", vec![&to, &10.0_f64]),
        ("trips", vec![&name, &from, &to]),
        ("distance", vec![&name, &from, &to]),
    ];
    assert_eq!(cases.len(), texts::QUERIES.len());
    // As the page advises: compiling a plan takes longer than any of these.
    bench.client.batch_execute("set jit = off").await.unwrap();
    for (query, parameters) in cases {
        let statement = bench.client.prepare(texts::query(query)).await.unwrap();
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..RUNS {
            let begun = Instant::now();
            rows = bench.client.query(&statement, &parameters).await.unwrap().len();
            times.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        println!("{query:20} {rows:6} rows {:8.1} ms   (goal 100)", median(times));
    }
}

async fn fill(bench: &Bench, vehicles: usize) {
    let mut fleet = Fleet::new(&bench.schema, vehicles);
    let mut sink = TimescaleSink::new(bench.connector(), &bench.schema);
    let (mut took, mut rows) = (Duration::ZERO, 0);
    for _ in 0..8_640 / INSTANTS {
        let batch = fleet.batch();
        let begun = Instant::now();
        sink.accept(&batch).await.unwrap();
        took += begun.elapsed();
        rows += batch.len();
    }
    println!(
        "{rows} rows stored, a day of {vehicles} vehicles: {:.0} rows a second",
        rows as f64 / took.as_secs_f64()
    );
    // What the states would hold, and four trips of five hours each.
    bench
        .client
        .batch_execute(
            "insert into vehicle_latest (vehicle_id, epoch, ts, latitude, longitude, speed_kmh, \
               fuel_level_pct, brake_fluid_temp_c, quality) \
             select vehicle_id, 1, ts, latitude, longitude, speed_kmh, fuel_level_pct, brake_fluid_temp_c, quality \
             from telemetry where ts = (select max(ts) from telemetry); \
             insert into trip select vehicle_id, t, t + interval '5 hours' from vehicle, \
               generate_series(timestamptz '2026-02-01 00:00+00', '2026-02-01 18:00+00', interval '6 hours') t",
        )
        .await
        .unwrap();
    bench.client.batch_execute("vacuum analyze").await.unwrap();
}

async fn roll_up(bench: &Bench) {
    let options = MaintainOptions { partitions_ahead: 1, retention: None };
    let (begun, mut minutes) = (Instant::now(), 0);
    loop {
        let done = maintain(&bench.connector(), &options).await.unwrap();
        minutes += done.minutes;
        if !done.more {
            break;
        }
    }
    let millis = begun.elapsed().as_secs_f64() * 1e3;
    println!("rolled up {minutes} minutes, {:.1} ms each", millis / minutes as f64);
    // As it is while the fleet drives: the last three minutes are read from the rows.
    let notes = "insert into fleet_touched select timestamptz '2026-02-01 23:57+00' + n * interval '1 minute' \
                 from generate_series(0, 2) n";
    bench.client.batch_execute(notes).await.unwrap();
}
