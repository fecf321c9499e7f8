//! Roll-ups and retention over time: by several processes at once, after downtime, beside writers, and
//! for a schema that grows.

use std::time::Duration;

use fleet_core::Sink;
use fleet_core::batch::{BatchBuilder, Quality, Row};
use fleet_core::bind::{ClaimRequest, StateStore};
use fleet_core::time::{MINUTE, Micros, SECOND};
use fleet_sinks::timescale::{
    Edition, MaintainOptions, ReplacingSink, SetupOptions, TimescaleSink, TimescaleStates, erase, maintain,
    setup,
};

use crate::fixture::{Fixture, NOON, Random, Record, seal, speed, vin};
use crate::server::Server;
use crate::setup::{changed, tyre};
use crate::views::{answer, filled, keep_up, run_jobs};

const HOUR: Micros = 60 * MINUTE;
const DAY: Micros = 24 * HOUR;
const NOTHING_DROPPED: MaintainOptions = MaintainOptions { partitions_ahead: 1, retention: None };

/// What the views must say, from the rows alone.
async fn of_rows(f: &Fixture, width: &str) -> Vec<String> {
    let query = format!(
        "select date_bin('{width}', ts, timestamptz '2000-01-01+00') as ts, \
           count(distinct vehicle_id) as vehicles, count(*) as records, \
           avg(speed_kmh::float8) as speed_kmh_avg, max(speed_kmh::float8) as speed_kmh_max \
         from telemetry group by 1 order by 1"
    );
    answer(&f.client, &query).await
}

async fn of_views(f: &Fixture, view: &str) -> Vec<String> {
    let columns = "ts, vehicles, records, speed_kmh_avg, speed_kmh_max";
    answer(&f.client, &format!("select {columns} from {view} order by ts")).await
}

async fn right(f: &Fixture) {
    assert_eq!(of_views(f, "fleet_minute").await, of_rows(f, "1 minute").await);
    assert_eq!(of_views(f, "fleet_hour").await, of_rows(f, "1 hour").await);
}

async fn one(f: &Fixture, query: &str) -> i64 {
    f.client.query_one(query, &[]).await.unwrap().get(0)
}

/// Speeds that add up exactly.
fn drive(random: &mut Random, from: Micros, minutes: u64, correction: bool) -> Vec<Record> {
    let mut record = |_| {
        let ts = from + random.below(minutes * 6) as i64 * 10 * SECOND;
        let record = speed(random.below(5) as usize, ts, random.below(200) as f64 / 2.0);
        Record { correction, ..record }
    };
    (0..200).map(&mut record).collect()
}

#[tokio::test]
async fn several_processes_take_turns_and_catch_up() {
    for server in [Server::plain().await, Server::apache().await] {
        let mut f = Fixture::on(server).await;
        let mut random = Random(5);
        // Nobody maintained for two days.
        for hour in 0..6 {
            f.store(&drive(&mut random, NOON + hour * 8 * HOUR, 90, false)).await;
        }
        right(&f).await;
        let touched = "select count(distinct ts) from fleet_touched";
        let waiting = one(&f, touched).await;
        assert!(waiting > 300, "{waiting}");
        let connector = f.server.connector();
        let run = || maintain(&connector, &NOTHING_DROPPED);
        let (a, b, c) = tokio::join!(run(), run(), run());
        let last = run().await.unwrap();
        // Each minute once, by whomever.
        let minutes = [a.unwrap(), b.unwrap(), c.unwrap(), last].map(|done| done.minutes);
        assert_eq!(minutes.iter().sum::<u64>(), waiting.unsigned_abs(), "{minutes:?}");
        assert_eq!(one(&f, touched).await, 0);
        right(&f).await;

        // Corrections far back.
        f.store(&drive(&mut random, NOON + 16 * HOUR, 90, true)).await;
        right(&f).await;
        assert!(run().await.unwrap().minutes > 0);
        right(&f).await;
        assert_eq!(run().await.unwrap().minutes, 0);
    }
}

#[tokio::test]
async fn what_is_replaced_is_rolled_up_anew() {
    let mut f = Fixture::on(Server::plain().await).await;
    let connector = f.server.connector();
    let rows: Vec<_> = (0..60).map(|n| speed(1, NOON + n * 10 * SECOND, n as f64)).collect();
    f.store(&rows).await;
    maintain(&connector, &NOTHING_DROPPED).await.unwrap();
    let mut sink = ReplacingSink::new(TimescaleSink::new(connector.clone(), &f.schema), NOON..NOON + HOUR);
    // Ten minutes become one, and one that had no row.
    let rows = [speed(1, NOON + 10 * SECOND, 7.0), speed(1, NOON + 20 * MINUTE, 8.0)];
    sink.accept(&seal(&mut f.builder, &rows)).await.unwrap();
    right(&f).await;
    maintain(&connector, &NOTHING_DROPPED).await.unwrap();
    right(&f).await;
    assert_eq!(of_views(&f, "fleet_minute").await.len(), 2);
}

#[tokio::test]
async fn a_vehicle_that_is_erased_leaves_the_roll_ups() {
    let mut f = Fixture::on(Server::plain().await).await;
    let rows = (0..60).flat_map(|n| [1, 2].map(|vehicle| speed(vehicle, NOON + n * 10 * SECOND, n as f64)));
    let mut rows: Vec<_> = rows.collect();
    rows.push(speed(2, NOON + 3 * HOUR, 7.0));
    rows.push(speed(1, NOON + 5 * HOUR, 7.0));
    f.store(&rows).await;
    keep_up(&f).await;
    right(&f).await;
    let erased = erase(&f.server.connector(), &vin(2)).await.unwrap();
    assert_eq!(erased.records, 61);
    keep_up(&f).await;
    right(&f).await;
    assert_eq!((of_views(&f, "fleet_minute").await.len(), of_views(&f, "fleet_hour").await.len()), (11, 2));
}

#[tokio::test]
async fn what_is_written_meanwhile_is_not_forgotten() {
    let mut f = Fixture::on(Server::plain().await).await;
    let connector = f.server.connector();
    let writing = async {
        let mut random = Random(6);
        for n in 0..40 {
            f.store(&drive(&mut random, NOON, 30, n % 2 == 1)).await;
        }
    };
    let maintaining = async {
        for _ in 0..60 {
            maintain(&connector, &NOTHING_DROPPED).await.unwrap();
        }
    };
    tokio::join!(writing, maintaining);
    right(&f).await;
    maintain(&connector, &NOTHING_DROPPED).await.unwrap();
    assert_eq!(one(&f, "select count(*) from fleet_touched").await, 0);
    right(&f).await;
}

/// The begin of this day or hour by the server's clock.
async fn begin_of(f: &Fixture, width: &str) -> Micros {
    let begin = format!("date_bin('{width}', now(), timestamptz '2000-01-01+00')");
    one(f, &format!("select extract(epoch from {begin})::bigint")).await * SECOND
}

#[tokio::test]
async fn retention_drops_exactly_what_is_old() {
    let (plain, community, apache) = tokio::join!(Server::plain(), Server::timescale(), Server::apache());
    for server in [plain, community, apache] {
        old_goes(Fixture::on(server).await).await;
    }
}

async fn old_goes(mut f: Fixture) {
    const KEPT: i64 = 30;
    let today = begin_of(&f, "1 day").await;
    let retention = Some(Duration::from_secs(KEPT as u64 * 86_400));
    let ages: [i64; 8] = [60, 33, 32, 31, 30, 29, 1, 0];
    let rows: Vec<_> = ages.iter().map(|age| speed(1, today - age * DAY, *age as f64)).collect();
    f.store(&rows).await;
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    for (vehicle, age) in [(1, 40), (2, 40), (3, 10)] {
        let at = today - age * DAY;
        let request = ClaimRequest { vehicle: vin(vehicle), on_time: at, started_at: at, told_at: at };
        states.claim(&[request], at, MINUTE).await.unwrap();
        if vehicle != 2 {
            states.end_trips(&[(vin(vehicle), at + HOUR)]).await.unwrap();
        }
    }
    keep_up(&f).await;
    let rolled_up = of_views(&f, "fleet_minute").await;
    let hours = of_views(&f, "fleet_hour").await;
    assert_eq!((rolled_up.len(), hours.len()), (8, 8));

    let options = MaintainOptions { retention, ..NOTHING_DROPPED };
    let run = async |f: &Fixture| {
        let options = SetupOptions { retention, ..SetupOptions::default() };
        setup(&f.server.connector(), &f.schema, &options).await.unwrap();
        f.client.batch_execute("update fleet_upkeep set swept_at = '-infinity'").await.unwrap();
        let done = maintain(&f.server.connector(), &MaintainOptions { retention, ..NOTHING_DROPPED }).await;
        run_jobs(f, "policy_retention").await;
        run_jobs(f, "policy_refresh_continuous_aggregate").await;
        done.unwrap()
    };
    let done = run(&f).await;
    // On community too: the server's own job does not run here unless it is told to.
    assert_eq!(done.dropped, 4);
    assert_eq!(done.trips, 1);
    let left = "select string_agg(speed_kmh::text, ' ' order by ts) from telemetry";
    let left = async |f: &Fixture| f.client.query_one(left, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(left(&f).await, "30 29 1 0");
    let trips = "select vin, duration is null as open from fleet_trip order by vin";
    assert_eq!(
        answer(&f.client, trips).await,
        ["{\"vin\":\"V0002\",\"open\":true}", "{\"vin\":\"V0003\",\"open\":false}"]
    );
    // Roll-ups hold no vehicle and are kept.
    assert_eq!(of_views(&f, "fleet_minute").await, rolled_up);
    assert_eq!(of_views(&f, "fleet_hour").await, hours);
    assert_eq!(maintain(&f.server.connector(), &options).await.unwrap().dropped, 0);

    // A row that comes after its day was dropped goes again, and its minute stays as it was.
    f.store(&[speed(3, today - 32 * DAY, 99.0)]).await;
    assert_eq!(of_views(&f, "fleet_minute").await, rolled_up);
    run(&f).await;
    assert_eq!(left(&f).await, "30 29 1 0");
    assert_eq!(of_views(&f, "fleet_minute").await, rolled_up);
    assert_eq!(of_views(&f, "fleet_hour").await, hours);
}

#[tokio::test]
async fn roll_ups_outlive_a_growing_schema() {
    let (plain, community, apache) = tokio::join!(Server::plain(), Server::timescale(), Server::apache());
    for server in [plain, community, apache] {
        grows(filled(server).await).await;
    }
}

async fn grows(f: Fixture) {
    keep_up(&f).await;
    let old = "select ts, vehicles, records, speed_kmh_avg, brake_fluid_temp_c_max from";
    let known = "where ts < timestamptz '2026-03-01' order by ts";
    let seen = async |f: &Fixture| {
        let minutes = answer(&f.client, &format!("{old} fleet_minute {known}")).await;
        [minutes, answer(&f.client, &format!("{old} fleet_hour {known}")).await]
    };
    let before = seen(&f).await;
    assert_eq!((before[0].len(), before[1].len()), (5, 2));
    // From now on nothing can be computed once more.
    f.client.batch_execute("delete from telemetry").await.unwrap();

    let more = changed(|c| c.signal.push(tyre()));
    setup(&f.server.connector(), &more, &SetupOptions::default()).await.unwrap();
    assert_eq!(seen(&f).await, before);
    let mut sink = TimescaleSink::new(f.server.connector(), &more);
    let mut builder = BatchBuilder::new(&more);
    let hour = begin_of(&f, "1 hour").await - HOUR;
    for (vehicle, bar) in [(1, 2.5), (2, 3.5)] {
        let key = builder.vehicle(&vin(vehicle), 1);
        let values = [f64::NAN, f64::NAN, f64::NAN, f64::NAN, f64::NAN, bar];
        builder.push(key, Row { ts: hour, values: &values, quality: Quality::Held.at(4), correction: false });
    }
    sink.accept(&builder.seal().unwrap()).await.unwrap();
    // A worker that does not know the new signal yet.
    let mut narrow = TimescaleSink::new(f.server.connector(), &f.schema);
    narrow.accept(&seal(&mut BatchBuilder::new(&f.schema), &[speed(3, hour, 50.0)])).await.unwrap();
    let new = "select vehicles, records, speed_kmh_avg, order_avg, order_min, order_max from";
    let expected = "{\"vehicles\":3,\"records\":3,\"speed_kmh_avg\":50,\"order_avg\":3,\
                    \"order_min\":2.5,\"order_max\":3.5}";
    for _ in 0..2 {
        for view in ["fleet_minute", "fleet_hour"] {
            let recent = format!("{new} {view} where ts >= timestamptz '2026-03-01'");
            assert_eq!(answer(&f.client, &recent).await, [expected]);
        }
        assert_eq!(seen(&f).await, before);
        setup(&f.server.connector(), &more, &SetupOptions::default()).await.unwrap();
        if f.edition != Edition::Community {
            keep_up(&f).await;
        }
    }
}

/// What nothing is read of would be refreshed for ever.
#[tokio::test]
async fn signals_added_one_soon_after_another_leave_no_empty_roll_ups() {
    let f = filled(Server::timescale().await).await;
    keep_up(&f).await;
    let before = (of_views(&f, "fleet_minute").await, of_views(&f, "fleet_hour").await);
    let aggregates = async || {
        let select = "select string_agg(view_name, ' ' order by view_name) \
                      from timescaledb_information.continuous_aggregates";
        f.client.query_one(select, &[]).await.unwrap().get::<_, String>(0)
    };
    let options = SetupOptions::default();
    let more = changed(|c| c.signal.push(tyre()));
    setup(&f.server.connector(), &more, &options).await.unwrap();
    assert_eq!(aggregates().await, "fleet_hour_1 fleet_hour_2 fleet_minute_1 fleet_minute_2");
    // Within the hour, whatever the clock says.
    f.client
        .batch_execute("update fleet_generation set since = date_trunc('hour', now()) where number = 2")
        .await
        .unwrap();
    let still_more = changed(|c| {
        let mut oil = tyre();
        oil.name = "oil".into();
        oil.columns[0].name = "oil_bar".into();
        c.signal.extend([tyre(), oil]);
    });
    setup(&f.server.connector(), &still_more, &options).await.unwrap();
    assert_eq!(aggregates().await, "fleet_hour_1 fleet_hour_3 fleet_minute_1 fleet_minute_3");
    assert_eq!((of_views(&f, "fleet_minute").await, of_views(&f, "fleet_hour").await), before);
    keep_up(&f).await;
    setup(&f.server.connector(), &still_more, &options).await.unwrap();
    assert_eq!(aggregates().await, "fleet_hour_1 fleet_hour_3 fleet_minute_1 fleet_minute_3");
    answer(&f.client, "select oil_bar_avg, order_avg from fleet_minute").await;
}
