//! Rows of days, long gone, that a device's clock makes up.

use fleet_core::Sink;
use fleet_core::time::{MINUTE, Micros, SECOND, YEAR_2000};

use crate::fixture::{Fixture, NOON, Record, seal, speed, vin};
use crate::server::Server;

const DAY: Micros = 24 * 60 * MINUTE;

/// What one vehicle's batch may make: see `MOST` in `spans.rs`.
const MADE: usize = 32;

/// Partitions or chunks, and how many of them were made by one transaction at most.
async fn made(f: &Fixture) -> (i64, i64) {
    let each = match f.server {
        Server::Plain(_) => "select xmin::text from pg_class where relname ~ '^telemetry_p[0-9]{8}$'",
        Server::Timescale(_) => {
            "select c.xmin::text from _timescaledb_catalog.chunk c \
             join _timescaledb_catalog.hypertable h on h.id = c.hypertable_id \
             where h.table_name = 'telemetry'"
        }
    };
    let count = format!(
        "select coalesce(sum(n), 0)::bigint, coalesce(max(n), 0)::bigint \
         from (select count(*) n from ({each}) each (xmin) group by xmin) made"
    );
    let row = f.client.query_one(&count, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// A row a day from 2000 on.
fn a_row_a_day(vehicle: usize) -> Vec<Record> {
    let days = (NOON - YEAR_2000) / DAY;
    (0..days).map(|day| speed(vehicle, YEAR_2000 + day * DAY + 10 * SECOND, 1.0)).collect()
}

async fn a_vehicle_makes_few_days_and_the_others_go_on(server: Server) {
    let mut f = Fixture::on(server).await;
    f.store(&[speed(2, NOON, 1.0)]).await;
    let before = made(&f).await.0;
    let mut rows = a_row_a_day(1);
    let days = rows.len();
    rows.extend((1..50).map(|i| speed(2, NOON + i * 10 * SECOND, 2.0)));
    rows.extend((1..20).map(|i| speed(3, NOON - i * DAY, 3.0).correction()));
    let batch = seal(&mut f.builder, &rows);
    let progress = f.sink.accept(&batch).await.unwrap();

    assert_eq!(progress.durable, batch.sequence());
    assert!(progress.rejected.iter().all(|row| row.vehicle == vin(1)));
    let reason = &progress.rejected[0].reason;
    assert!(reason.starts_with("ts 2000-01-01T00:00:10Z: rows of its vehicle need "), "{reason}");
    let table = f.table().await;
    let of = |vehicle: usize| table.keys().filter(move |(v, _)| *v == vin(vehicle)).map(|(_, ts)| *ts);
    assert_eq!((of(2).count(), of(3).count()), (50, 19), "the others' are there");
    assert_eq!(of(1).count() + progress.rejected.len(), days, "nothing is lost without a word");
    let newest = rows[..days].iter().map(|row| row.ts).rev();
    // Days that the third vehicle makes as well don't count for less.
    assert!(of(1).rev().eq(newest.take(MADE)), "{:?}", of(1).collect::<Vec<_>>());
    let (all, at_once) = made(&f).await;
    assert!((1..=MADE as i64 + 19).contains(&(all - before)), "{all} after {before}");
    assert!(at_once <= 8 || f.edition == fleet_sinks::timescale::Edition::Plain, "{at_once}");

    // Again, and the next ones have their turn: no batch makes more.
    let progress = f.sink.accept(&batch).await.unwrap();
    assert_eq!(progress.rejected.len(), days - 2 * MADE);
    assert!(made(&f).await.0 <= all + MADE as i64);
}

#[tokio::test]
async fn a_vehicle_makes_few_partitions() {
    a_vehicle_makes_few_days_and_the_others_go_on(Server::plain().await).await;
}

#[tokio::test]
async fn a_vehicle_makes_few_chunks() {
    a_vehicle_makes_few_days_and_the_others_go_on(Server::timescale().await).await;
}

#[tokio::test]
async fn a_vehicle_makes_few_chunks_on_the_apache_edition() {
    a_vehicle_makes_few_days_and_the_others_go_on(Server::apache().await).await;
}

/// An outage in the middle, played by a trigger.
#[tokio::test]
async fn partitions_are_made_in_pieces_that_stay() {
    let mut f = Fixture::on(Server::plain().await).await;
    let rows: Vec<_> = (0..30).map(|day| speed(1, NOON + day * DAY, 1.0)).collect();
    f.store(&[speed(2, NOON - DAY, 1.0)]).await;
    let before = made(&f).await.0;
    f.client
        .batch_execute(
            "create function stop() returns event_trigger language plpgsql as $$ begin \
               if to_regclass('telemetry_p20260221') is not null then raise exception 'no more'; end if; \
             end $$; \
             create event trigger stop on ddl_command_end execute function stop()",
        )
        .await
        .unwrap();
    let mut all = rows.clone();
    all.push(speed(2, NOON - DAY + SECOND, 2.0));
    let batch = seal(&mut f.builder, &all);
    f.sink.accept(&batch).await.unwrap_err();
    // 1 to 16 February; the 21st is the fifth of the third piece.
    assert_eq!(made(&f).await.0 - before, 16);
    let stored: Vec<_> = f.table().await.into_keys().collect();
    assert!(stored.contains(&(vin(2), NOON - DAY + SECOND)), "what needs nothing is stored: {stored:?}");
    assert_eq!(stored.iter().filter(|(vehicle, _)| *vehicle == vin(1)).count(), 16);

    f.client.batch_execute("drop event trigger stop").await.unwrap();
    let progress = f.sink.accept(&batch).await.unwrap();
    assert!(progress.rejected.is_empty(), "{:?}", progress.rejected);
    assert_eq!((made(&f).await.0 - before, f.table().await.len()), (30, 32));
    let in_pieces = "select max(n) from (select count(*) n from pg_class \
                     where relname between 'telemetry_p20260201' and 'telemetry_p20260302' \
                       and relkind = 'r' group by xmin::text) each";
    assert_eq!(f.client.query_one(in_pieces, &[]).await.unwrap().get::<_, i64>(0), 8);
}
