//! What the sink stores, on PostgreSQL and on TimescaleDB.

use std::sync::atomic::Ordering::Relaxed;

use fleet_core::Sink;
use fleet_core::batch::{BatchBuilder, Quality};
use fleet_core::bind::{ClaimRequest, StateStore};
use fleet_core::sink::memory::MemorySink;
use fleet_core::time::{MINUTE, SECOND};
use fleet_sinks::timescale::{TimescaleSink, TimescaleStates};

use crate::fixture::{Fixture, NOON, Random, Record, seal, speed, vin};
use crate::server::Server;

const MEASURED: Quality = Quality::Measured;
const HELD: Quality = Quality::Held;

#[tokio::test]
async fn plain_postgres() {
    let mut fixture = Fixture::on(Server::plain().await).await;
    scenarios(&mut fixture, 25).await;
}

#[tokio::test]
async fn timescale() {
    let mut fixture = Fixture::on(Server::timescale().await).await;
    scenarios(&mut fixture, 5).await;
    fixture.empty().await;
    compressed_chunks_take_corrections(&mut fixture).await;
}

async fn scenarios(f: &mut Fixture, seeds: u64) {
    new_rows_are_copied_and_known_ones_merged(f).await;
    f.empty().await;
    equal_rows_are_not_written_again(f).await;
    f.empty().await;
    a_newer_claim_keeps_corrections_out(f).await;
    f.empty().await;
    bad_rows_are_left_out_alone(f).await;
    for seed in 0..seeds {
        f.empty().await;
        equals_the_reference(f, seed).await;
    }
}

async fn new_rows_are_copied_and_known_ones_merged(f: &mut Fixture) {
    f.store(&[speed(1, NOON, 50.0), speed(2, NOON, 60.0).with(2, 70.0, MEASURED)]).await;
    let counters = f.sink.counters();
    assert_eq!((counters.copied.load(Relaxed), counters.merged.load(Relaxed)), (2, 0));
    assert_eq!(f.speed(1, NOON).await, Some((Some(50.0), MEASURED.at(1))));

    // Known rows as if they were new: a NULL erases nothing, a value replaces with its quality.
    f.store(&[
        speed(1, NOON, 51.0),
        speed(2, NOON, 0.0).without(1).with(3, 20.0, HELD),
        speed(1, NOON + SECOND, 5.0),
    ])
    .await;
    assert_eq!(counters.conflicts.load(Relaxed), 1);
    assert_eq!(f.speed(1, NOON).await, Some((Some(51.0), MEASURED.at(1))));
    let quality = MEASURED.at(1) | MEASURED.at(2) | HELD.at(3);
    assert_eq!(f.speed(2, NOON).await, Some((Some(60.0), quality)));
    assert_eq!(f.table().await.len(), 3);

    // A correction of a known row and one of a row that is not there.
    f.store(&[speed(1, NOON, 52.0).with(1, 52.0, HELD).correction(), speed(3, NOON, 1.0).correction()]).await;
    assert_eq!(f.speed(1, NOON).await, Some((Some(52.0), HELD.at(1))));
    assert_eq!(f.speed(3, NOON).await, Some((Some(1.0), MEASURED.at(1))));
    assert_eq!((counters.conflicts.load(Relaxed), counters.connections.load(Relaxed)), (1, 1));
}

async fn equal_rows_are_not_written_again(f: &mut Fixture) {
    let rows: Vec<_> = (0..50).map(|i| speed(i % 5, NOON + i as i64 / 5 * SECOND, 50.0)).collect();
    f.store(&rows).await;
    f.store(&rows).await;
    let again: Vec<_> = rows.iter().map(|r| r.correction()).collect();
    f.store(&again).await;
    let counters = f.sink.counters();
    assert_eq!((counters.copied.load(Relaxed), counters.merged.load(Relaxed)), (50, 0));
}

async fn a_newer_claim_keeps_corrections_out(f: &mut Fixture) {
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    let request = |v| ClaimRequest { vehicle: vin(v), on_time: NOON, started_at: NOON, told_at: NOON };
    states.claim(&[request(1), request(2)], NOON, MINUTE).await.unwrap();
    f.store(&[speed(1, NOON, 1.0), speed(2, NOON, 1.0)]).await;
    states.claim(&[request(1)], NOON, MINUTE).await.unwrap();

    // Vehicle 1 is at epoch 2 now: neither its correction nor a new row of the same merge is taken.
    f.store(&[speed(1, NOON, 9.0), speed(1, NOON + SECOND, 9.0), speed(2, NOON, 2.0)]).await;
    f.store(&[speed(1, NOON, 9.0).correction()]).await;
    assert_eq!(f.speed(1, NOON).await, Some((Some(1.0), MEASURED.at(1))));
    assert_eq!(f.speed(1, NOON + SECOND).await, None);
    assert_eq!(f.speed(2, NOON).await, Some((Some(2.0), MEASURED.at(1))));
    assert_eq!(f.sink.counters().stale.load(Relaxed), 3);

    // The new holder's are; so is a COPY of anyone's, because it replaces nothing.
    f.store(&[speed(1, NOON, 3.0).epoch(2).correction()]).await;
    f.store(&[speed(1, NOON + 2 * SECOND, 4.0)]).await;
    assert_eq!(f.speed(1, NOON).await, Some((Some(3.0), MEASURED.at(1))));
    assert_eq!(f.speed(1, NOON + 2 * SECOND).await, Some((Some(4.0), MEASURED.at(1))));
}

async fn bad_rows_are_left_out_alone(f: &mut Fixture) {
    // A number that the server refuses, and a check that has nothing to do with partitions.
    f.client
        .batch_execute(
            "create or replace function refuse() returns trigger language plpgsql as $$ begin \
               if new.speed_kmh = 13 then raise exception 'no 13' using errcode = '22003'; end if; \
               return new; end $$; \
             create trigger refuse before insert on telemetry for each row execute function refuse(); \
             alter table telemetry add constraint no_14 check (speed_kmh <> 14)",
        )
        .await
        .unwrap();
    for correction in [false, true] {
        let instant = |i: usize| NOON + i as i64 * SECOND + i64::from(correction);
        let value = |i| match i {
            7 => 13.0,
            77 => 14.0,
            i => 100.0 + i as f64,
        };
        let rows = (0..100).map(|i| Record { correction, ..speed(i % 3, instant(i), value(i)) });
        let mut rows: Vec<_> = rows.collect();
        rows.push(Record { correction, ..speed(1, i64::MAX, 1.0) });
        let batch = seal(&mut f.builder, &rows);
        let progress = f.sink.accept(&batch).await.unwrap();
        assert_eq!(progress.durable, batch.sequence());
        let mut said: Vec<_> =
            progress.rejected.iter().map(|r| (r.vehicle.to_string(), r.reason.clone())).collect();
        said.sort();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].1.contains("no 13") && said[0].0 == "V0001", "{said:?}");
        assert!(said[1].1.starts_with("ts "), "{said:?}");
        assert!(said[2].1.contains("no_14") && said[2].0 == "V0002", "{said:?}");
        let row = progress.rejected.iter().find(|r| r.reason.contains("no 13")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&row.row).unwrap();
        assert_eq!(json["vehicle"], "V0001");
        assert_eq!(json["ts"], fleet_core::time::display(instant(7)));
        assert_eq!((json["speed_kmh"].as_f64(), json["latitude"].is_null()), (Some(13.0), true));
        assert_eq!(json["quality"], MEASURED.at(1));
    }
    assert_eq!(f.table().await.len(), 2 * 98);
    f.client
        .batch_execute("drop trigger refuse on telemetry; alter table telemetry drop constraint no_14")
        .await
        .unwrap();
}

/// The same batches into the sink and the reference, some twice, over two connections.
async fn equals_the_reference(f: &mut Fixture, seed: u64) {
    let mut random = Random(seed);
    let mut reference = MemorySink::new(&f.schema);
    let mut other = TimescaleSink::new(f.server.connector(), &f.schema);
    let mut builder = BatchBuilder::new(&f.schema);
    let mut last = None;
    for _ in 0..12 {
        let records: Vec<_> = (0..1 + random.below(40)).map(|_| random.record()).collect();
        let batch = match last.take() {
            Some(batch) if random.below(4) == 0 => batch,
            _ => seal(&mut builder, &records),
        };
        reference.accept(&batch).await.unwrap();
        let sink = if random.below(3) == 0 { &mut other } else { &mut f.sink };
        let progress = sink.accept(&batch).await.unwrap();
        assert!(progress.rejected.is_empty(), "seed {seed}");
        last = Some(batch);
    }
    assert_eq!(f.table().await, reference.rows(), "seed {seed}");
}

async fn compressed_chunks_take_corrections(f: &mut Fixture) {
    let rows: Vec<_> = (0..600).map(|i| speed(i % 6, NOON + i as i64 / 6 * 10 * SECOND, i as f64)).collect();
    f.store(&rows).await;
    let compressed = "select compress_chunk(c) from show_chunks('telemetry') c";
    assert_eq!(f.client.query(compressed, &[]).await.unwrap().len(), 1);
    let count = "select count(*) from timescaledb_information.chunks where is_compressed";
    assert_eq!(f.client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);

    f.store(&[speed(2, NOON, 500.0).correction(), speed(2, NOON + SECOND, 1.0).correction()]).await;
    // Unique also in what is compressed: a COPY of known rows must become a merge.
    f.store(&[speed(3, NOON, 0.0).without(1).with(2, 9.0, HELD), speed(4, NOON + SECOND, 2.0)]).await;
    assert_eq!(f.sink.counters().conflicts.load(Relaxed), 1);
    assert_eq!(f.speed(2, NOON).await, Some((Some(500.0), MEASURED.at(1))));
    assert_eq!(f.speed(3, NOON).await, Some((Some(3.0), MEASURED.at(1) | HELD.at(2))));
    assert_eq!(f.table().await.len(), 602);
}
