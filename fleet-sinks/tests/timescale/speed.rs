//! How fast the sink is beside a bare COPY. Not run by default; to repeat:
//! `cargo test -p fleet-sinks --config 'profile.dev.package.fleet-sinks.opt-level=3' --test timescale
//! -- speed --ignored --nocapture`

use std::time::Instant;

use bytes::Bytes;
use fleet_core::Sink;
use fleet_core::batch::{Batch, Quality};
use fleet_core::bind::{ClaimRequest, LatestRow, StateStore, VehicleState};
use fleet_core::time::{MINUTE, SECOND};
use fleet_sinks::timescale::TimescaleStates;
use futures_util::SinkExt;

use crate::fixture::{Fixture, NOON, seal, speed, vin};
use crate::server::Server;

const VEHICLES: usize = 1_000;
const BATCHES: usize = 20;
const ROWS: usize = 10_000;

fn report(what: &str, rows: usize, start: Instant) -> f64 {
    let micros = start.elapsed().as_secs_f64() * 1e6 / rows as f64;
    println!("{what}: {micros:.2} µs a row");
    micros
}

#[tokio::test]
#[ignore = "a measurement"]
async fn sink_against_bare_copy() {
    let mut f = Fixture::on(Server::plain().await).await;
    let (m, h) = (Quality::Measured, Quality::Held);
    let batches: Vec<_> = (0..BATCHES)
        .map(|batch| {
            let instant = |i: usize| NOON + (batch * ROWS / VEHICLES + i / VEHICLES) as i64 * 10 * SECOND;
            let record =
                |i| speed(i % VEHICLES, instant(i), 50.0).with(0, 48.0, m).with(2, 70.0, h).with(3, 20.0, h);
            let records: Vec<_> = (0..ROWS).map(record).collect();
            seal(&mut f.builder, &records)
        })
        .collect();
    let pieces = stored_pieces(&mut f, &batches).await;

    let (mut sink, mut bare) = (0.0, 0.0);
    for _ in 0..4 {
        f.client.batch_execute("truncate telemetry").await.unwrap();
        let start = Instant::now();
        for piece in &pieces {
            let copy = f.client.copy_in("copy telemetry from stdin (format binary)").await.unwrap();
            let mut copy = std::pin::pin!(copy);
            copy.send(piece.clone()).await.unwrap();
            assert_eq!(copy.finish().await.unwrap(), ROWS as u64);
        }
        bare += report("bare COPY", BATCHES * ROWS, start);
        f.client.batch_execute("truncate telemetry").await.unwrap();
        let start = Instant::now();
        for batch in &batches {
            f.sink.accept(batch).await.unwrap();
        }
        sink += report("sink", BATCHES * ROWS, start);
    }
    println!("the sink reaches {:.2} of the bare COPY", bare / sink);

    let start = Instant::now();
    for batch in &batches {
        f.sink.accept(batch).await.unwrap();
    }
    report("all of it again, by COPY, conflict and merge", BATCHES * ROWS, start);
}

/// Each batch as the bytes of a COPY, as the server gives them back.
async fn stored_pieces(f: &mut Fixture, batches: &[Batch]) -> Vec<Bytes> {
    let mut pieces = Vec::new();
    for batch in batches {
        f.client.batch_execute("truncate telemetry").await.unwrap();
        f.sink.accept(batch).await.unwrap();
        let copy = "copy (select * from telemetry order by vehicle_id, ts) to stdout (format binary)";
        let stream = f.client.copy_out(copy).await.unwrap();
        let parts: Vec<_> = futures_util::StreamExt::collect(stream).await;
        let parts: Vec<Bytes> = parts.into_iter().map(Result::unwrap).collect();
        pieces.push(Bytes::from(parts.concat()));
    }
    pieces
}

#[tokio::test]
#[ignore = "a measurement"]
async fn states() {
    let f = Fixture::on(Server::plain().await).await;
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    let request = |v| ClaimRequest { vehicle: vin(v), on_time: NOON, started_at: NOON };
    let requests: Vec<_> = (0..10_000).map(request).collect();
    for what in ["claim of new vehicles", "claim of known vehicles"] {
        let start = Instant::now();
        states.claim(&requests, NOON, MINUTE).await.unwrap();
        report(what, requests.len(), start);
    }
    let state = |v| VehicleState {
        vehicle: vin(v),
        epoch: 2,
        resume_at: NOON,
        floor: Some(NOON),
        horizon: vec![Some(NOON), None, Some(NOON), Some(NOON)],
        newest: vec![Some(NOON); 4],
        released_at: None,
        latest: Some(LatestRow { ts: NOON, values: vec![1.0; 5], quality: 0b01_01_01_01 }),
    };
    let saved: Vec<_> = (0..10_000).map(state).collect();
    for _ in 0..3 {
        let start = Instant::now();
        states.save(&saved).await.unwrap();
        report("save", saved.len(), start);
    }
}
