//! Rows of now beside rows of old days that take long.

use std::time::Duration;

use fleet_core::bind::{ClaimRequest, StateStore, VehicleState};
use fleet_core::error::Result;
use fleet_core::sample::NewestSamples;
use fleet_core::sink::Progress;
use fleet_core::sink::contract::{Stored, Subject, examine};
use fleet_core::time::{MINUTE, Micros, SECOND, display, grid_at_or_before};
use fleet_core::{Sink, VehicleId};
use fleet_sinks::timescale::{HotFirstSink, ReplacingSink, TimescaleSink, TimescaleStates};
use fleet_worker::clock;
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::contract::Database;
use crate::fixture::{Fixture, Table, seal, speed, vin};
use crate::server::Server;

const DAY: Micros = 24 * 60 * MINUTE;

/// Nothing here takes that long unless it waits for ever.
const FOR_EVER: Duration = Duration::from_secs(120);

/// More than any test gives.
const ROOM: usize = 100_000;

/// Noon five days ago, and a minute ago.
fn old_and_now() -> (Micros, Micros) {
    let now = clock::now();
    (grid_at_or_before(now, DAY) - 5 * DAY + DAY / 2, grid_at_or_before(now - MINUTE, SECOND))
}

fn sink(f: &Fixture) -> HotFirstSink {
    HotFirstSink::new(f.server.connector(), &f.schema, ROOM)
}

/// A client that holds the partition of that day until it rolls back.
async fn hold(f: &Fixture, day: Micros) -> Client {
    let holder = f.server.client().await;
    let date: String = display(day).chars().take(10).filter(char::is_ascii_digit).collect();
    let lock = format!("begin; lock table telemetry_p{date} in access exclusive mode");
    holder.batch_execute(&lock).await.unwrap();
    holder
}

/// Waits until a session of the sinks waits for a lock.
async fn until_one_waits(client: &Client) {
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                 and application_name = 'fleet'";
    let waiting = async || client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0;
    timeout(FOR_EVER, async { while !waiting().await {} }).await.unwrap();
}

/// Waits until nothing is set aside.
async fn drain(sink: &mut HotFirstSink) -> Progress {
    let drained = async {
        loop {
            let progress = sink.flush().await.unwrap();
            if progress.set_aside.is_empty() {
                return progress;
            }
        }
    };
    timeout(FOR_EVER, drained).await.expect("cold rows wait for ever")
}

fn speeds(table: &Table) -> Vec<(VehicleId, Micros, Option<f64>)> {
    table.iter().map(|((vehicle, ts), row)| (vehicle.clone(), *ts, row.values[2])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_now_do_not_wait_for_a_locked_partition_of_an_old_day() {
    let mut f = Fixture::on(Server::plain().await).await;
    let (old, now) = old_and_now();
    f.store(&[speed(1, old, 1.0), speed(2, now, 1.0)]).await;
    let holder = hold(&f, old).await;
    let mut sink = sink(&f);
    // Three batches, in each a new old row, another value for the first one, and rows of now.
    let mut batches = Vec::new();
    for n in 1..=3_i64 {
        let (at, value) = (n * 10 * SECOND, n as f64 * 10.0);
        let rows = [
            speed(1, old, value).correction(),
            speed(1, old + at, value),
            speed(1, now + at, value),
            speed(2, now, value).correction(),
            speed(2, now + at, value),
        ];
        let batch = seal(&mut f.builder, &rows);
        batches.push(batch.sequence());
        let progress =
            timeout(FOR_EVER, sink.accept(&batch)).await.expect("it waits for the old day").unwrap();
        assert_eq!(progress.durable, batch.sequence());
        let (first, before) = (batches[0], batches[0] - 1);
        assert_eq!(progress.set_aside.iter().collect::<Vec<_>>(), [(&vin(1), &first)]);
        assert!(progress.has_all_of(&vin(2), batch.sequence()));
        assert!(progress.has_all_of(&vin(1), before) && !progress.has_all_of(&vin(1), first));
    }
    let today = format!("select count(*) from telemetry where ts >= '{}' and speed_kmh >= 10", display(now));
    let stored: i64 = f.client.query_one(&today, &[]).await.unwrap().get(0);
    assert_eq!(stored, 7, "all rows of now are there");

    holder.batch_execute("rollback").await.unwrap();
    let progress = drain(&mut sink).await;
    assert!(progress.has_all_of(&vin(1), batches[2]));
    let at = |n: i64| n * 10 * SECOND;
    let mut expected = vec![(vin(1), old, Some(30.0))];
    expected.extend((1..=3).map(|n| (vin(1), old + at(n), Some(n as f64 * 10.0))));
    expected.extend((1..=3).map(|n| (vin(1), now + at(n), Some(n as f64 * 10.0))));
    expected.push((vin(2), now, Some(30.0)));
    expected.extend((1..=3).map(|n| (vin(2), now + at(n), Some(n as f64 * 10.0))));
    assert_eq!(speeds(&f.table().await), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_too_many_old_rows_wait_the_next_batch_waits_too() {
    let mut f = Fixture::on(Server::plain().await).await;
    let (old, now) = old_and_now();
    f.store(&[speed(1, old, 1.0)]).await;
    let holder = hold(&f, old).await;
    let mut sink = HotFirstSink::new(f.server.connector(), &f.schema, 5);
    let rows = |from: i64| (from..from + 5).map(|n| speed(1, old + n * SECOND, 1.0)).collect::<Vec<_>>();
    let batch = seal(&mut f.builder, &rows(1));
    timeout(FOR_EVER, sink.accept(&batch)).await.unwrap().unwrap();
    let mut more = rows(6);
    more.push(speed(2, now, 1.0));
    let batch = seal(&mut f.builder, &more);
    let accepting = tokio::spawn(async move { (sink.accept(&batch).await.map(|_| ()), sink) });
    // Its row of now is stored all the same.
    let today = format!("select count(*) from telemetry where ts >= '{}'", display(now));
    let stored = async || f.client.query_one(&today, &[]).await.unwrap().get::<_, i64>(0) == 1;
    timeout(FOR_EVER, async { while !stored().await {} }).await.unwrap();
    assert!(!accepting.is_finished(), "there is no room");
    holder.batch_execute("rollback").await.unwrap();
    let (accepted, mut sink) = timeout(FOR_EVER, accepting).await.unwrap().unwrap();
    accepted.unwrap();
    drain(&mut sink).await;
    assert_eq!(f.table().await.len(), 12);
}

/// Rows of a newer claim don't take over those of an older one that still wait.
#[tokio::test(flavor = "multi_thread")]
async fn old_rows_of_an_earlier_claim_are_not_written_under_a_later_one() {
    let mut f = Fixture::on(Server::plain().await).await;
    let (old, _) = old_and_now();
    f.store(&[speed(1, old, 1.0), speed(2, old, 1.0)]).await;
    let holder = hold(&f, old).await;
    let mut sink = sink(&f);
    // The first is on its way when the others come.
    let mut give = async |row| {
        let batch = seal(&mut f.builder, &[row]);
        timeout(FOR_EVER, sink.accept(&batch)).await.expect("it waits for the old day").unwrap();
    };
    give(speed(2, old, 2.0).correction()).await;
    until_one_waits(&f.client).await;
    give(speed(1, old, 2.0).correction()).await;
    give(speed(1, old + SECOND, 3.0).epoch(3)).await;
    holder.batch_execute("rollback").await.unwrap();
    drain(&mut sink).await;
    let expected = [(vin(1), old, Some(1.0)), (vin(1), old + SECOND, Some(3.0)), (vin(2), old, Some(2.0))];
    assert_eq!(speeds(&f.table().await), expected);
}

struct HotFirst(Database);

impl Subject for HotFirst {
    type Sink = HotFirstSink;

    async fn clear(&mut self) -> Result<()> {
        self.0.clear().await
    }

    async fn open(&mut self) -> Result<HotFirstSink> {
        Ok(sink(&self.0.fixture))
    }

    async fn claim(&mut self, vehicle: &VehicleId, epoch: i32) -> Result<()> {
        self.0.claim(vehicle, epoch).await
    }

    async fn stored(&mut self) -> Result<Stored> {
        self.0.stored().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_is_kept_by_the_session_of_cold_rows() {
    let mut subject = HotFirst(Database::on(Server::plain().await).await);
    let schema = subject.0.fixture.schema.clone();
    examine(&mut subject, &schema, 0..20).await.unwrap();
}

fn state(vehicle: usize, epoch: i32) -> VehicleState {
    VehicleState {
        vehicle: vin(vehicle),
        epoch,
        resume_at: 0,
        floor: Some(0),
        horizon: Vec::new(),
        newest: Vec::new(),
        samples: NewestSamples::default(),
        released_at: None,
        latest: None,
        carry: None,
    }
}

fn request(vehicle: usize, at: Micros) -> ClaimRequest {
    ClaimRequest { vehicle: vin(vehicle), on_time: at, started_at: at, told_at: at }
}

/// While a replacement is held in its second piece, states are saved, and a vehicle is claimed.
#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_holds_up_neither_saves_nor_claims() {
    let mut f = Fixture::on(Server::plain().await).await;
    let (old, _) = old_and_now();
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    states.claim(&[request(1, old), request(2, old)], old, 0).await.unwrap();
    let days = [old, old + DAY];
    let stored: Vec<_> = days.iter().flat_map(|&day| [speed(1, day, 1.0), speed(2, day, 1.0)]).collect();
    f.store(&stored).await;
    let holder = hold(&f, old + DAY).await;
    let span = old - SECOND..old + DAY + DAY / 2;
    let mut sink = ReplacingSink::new(TimescaleSink::new(f.server.connector(), &f.schema), span);
    let counters = sink.counters();
    let rows: Vec<_> =
        days.iter().flat_map(|&day| [1, 2].map(|vehicle| speed(vehicle, day + SECOND, 2.0))).collect();
    let batch = seal(&mut f.builder, &rows);
    let replacing = tokio::spawn(async move { sink.accept(&batch).await });
    until_one_waits(&f.client).await;
    let first_day = format!(
        "select count(*) filter (where speed_kmh = 2), count(*) from telemetry where ts < '{}'",
        display(old + DAY / 2)
    );
    let row = f.client.query_one(&first_day, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (2, 2), "the first day is replaced as a whole");
    let (saved, claimed) = ([state(1, 1), state(2, 1)], [request(2, old)]);
    let superseded =
        timeout(FOR_EVER, states.save(&saved)).await.expect("the save waits for the replacement").unwrap();
    assert!(superseded.is_empty());
    let claims = timeout(FOR_EVER, states.claim(&claimed, old, 0))
        .await
        .expect("the claim waits for the replacement")
        .unwrap();
    assert_eq!(claims[0].epoch, 2);
    assert!(!replacing.is_finished());
    holder.batch_execute("rollback").await.unwrap();
    timeout(FOR_EVER, replacing).await.unwrap().unwrap().unwrap();
    // The second vehicle's second day is somebody else's by now.
    let expected = [
        (vin(1), old + SECOND, Some(2.0)),
        (vin(1), old + DAY + SECOND, Some(2.0)),
        (vin(2), old + SECOND, Some(2.0)),
        (vin(2), old + DAY, Some(1.0)),
    ];
    assert_eq!(speeds(&f.table().await), expected);
    assert_eq!(counters.stale.load(std::sync::atomic::Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_holds_up_neither_saves_nor_claims() {
    let mut f = Fixture::on(Server::plain().await).await;
    let (old, _) = old_and_now();
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    states.claim(&[request(1, old), request(2, old)], old, 0).await.unwrap();
    f.store(&[speed(1, old, 1.0), speed(2, old, 1.0)]).await;
    let holder = hold(&f, old).await;
    let batch = seal(&mut f.builder, &[speed(1, old, 2.0).correction(), speed(2, old, 2.0).correction()]);
    let mut sink = TimescaleSink::new(f.server.connector(), &f.schema);
    let merging = tokio::spawn(async move { sink.accept(&batch).await });
    until_one_waits(&f.client).await;
    let (saved, claimed) = ([state(1, 1)], [request(2, old)]);
    timeout(FOR_EVER, states.save(&saved)).await.expect("the save waits for the merge").unwrap();
    timeout(FOR_EVER, states.claim(&claimed, old, 0)).await.expect("the claim waits for the merge").unwrap();
    holder.batch_execute("rollback").await.unwrap();
    timeout(FOR_EVER, merging).await.unwrap().unwrap().unwrap();
    assert_eq!(speeds(&f.table().await), [(vin(1), old, Some(2.0)), (vin(2), old, Some(1.0))]);
}

/// Old chunks are compressed; rows are added to them, corrected, replaced and erased.
#[tokio::test(flavor = "multi_thread")]
async fn compressed_chunks_take_rows_and_are_exact() {
    let mut f = Fixture::on(Server::timescale().await).await;
    let (old, now) = old_and_now();
    let at = |n: i64| old + n * 10 * SECOND;
    let stored: Vec<_> = (0..300).flat_map(|n| [1, 2, 3].map(|v| speed(v, at(2 * n), n as f64))).collect();
    f.store(&stored).await;
    let compress = "select count(compress_chunk(c)) from show_chunks('telemetry') c";
    assert!(f.client.query_one(compress, &[]).await.unwrap().get::<_, i64>(0) > 0);
    let mut expected: std::collections::BTreeMap<_, _> =
        stored.iter().map(|row| ((vin(row.vehicle), row.ts), row.signals[1].unwrap().0)).collect();

    let mut sink = sink(&f);
    let mut rows = Vec::new();
    for n in 0..200 {
        rows.push(speed(1, at(n), 1_000.0 + n as f64).correction());
        rows.push(speed(2, at(2 * n + 1), 2_000.0));
        rows.push(speed(3, now + n * SECOND, 3_000.0));
    }
    let batch = seal(&mut f.builder, &rows);
    let progress = sink.accept(&batch).await.unwrap();
    assert_eq!(progress.set_aside.keys().collect::<Vec<_>>(), [&vin(1), &vin(2)]);
    drain(&mut sink).await;
    expected.extend(rows.iter().map(|row| ((vin(row.vehicle), row.ts), row.signals[1].unwrap().0)));
    let is = |table: &Table| table.iter().map(|(key, row)| (key.clone(), row.values[2].unwrap())).collect();
    let found: std::collections::BTreeMap<_, _> = is(&f.table().await);
    assert!(found == expected, "{} and {}", found.len(), expected.len());

    // Again compressed, a span of two of the vehicles is replaced.
    f.client
        .query_one("select count(compress_chunk(c, true)) from show_chunks('telemetry') c", &[])
        .await
        .unwrap();
    let span = at(100)..at(200);
    let mut sink = ReplacingSink::new(TimescaleSink::new(f.server.connector(), &f.schema), span.clone());
    let rows: Vec<_> = (0..50).map(|n| speed(1, at(100 + n), 7.0)).chain([speed(2, at(199), 8.0)]).collect();
    sink.accept(&seal(&mut f.builder, &rows)).await.unwrap();
    let replaced = [vin(1), vin(2)];
    expected.retain(|(vehicle, ts), _| !(replaced.contains(vehicle) && span.contains(ts)));
    expected.extend(rows.iter().map(|row| ((vin(row.vehicle), row.ts), row.signals[1].unwrap().0)));
    let found: std::collections::BTreeMap<_, _> = is(&f.table().await);
    assert!(found == expected, "{} and {}", found.len(), expected.len());

    // And one is erased.
    let erased = fleet_sinks::timescale::erase(&f.server.connector(), &vin(2)).await.unwrap();
    let before = expected.len();
    expected.retain(|(vehicle, _), _| *vehicle != vin(2));
    assert_eq!(erased.records, (before - expected.len()) as u64);
    let found: std::collections::BTreeMap<_, _> = is(&f.table().await);
    assert!(found == expected, "{} and {}", found.len(), expected.len());
}
