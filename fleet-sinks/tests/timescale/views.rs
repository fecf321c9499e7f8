//! The views: the same SQL gives the same answers on every edition, and a schema grows under them.

use std::time::{Duration, SystemTime};

use fleet_core::ErrorKind;
use fleet_core::batch::Quality;
use fleet_core::bind::{ClaimRequest, LatestRow, StateStore, VehicleState};
use fleet_core::sample::NewestSamples;
use fleet_core::time::{MINUTE, Micros, SECOND};
use fleet_sinks::timescale::{Edition, MaintainOptions, SetupOptions, TimescaleStates, maintain, setup};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::fixture::{Fixture, NOON, Record, speed, vin};
use crate::server::Server;
use crate::setup::{changed, tyre};

#[path = "../../queries/queries.rs"]
#[allow(dead_code, reason = "the benchmark looks them up by name")]
mod texts;

/// What a dashboard may ask.
const QUERIES: &[&str] = &[
    "select * from fleet_record order by vin, ts",
    "select vin, ts, speed_kmh from fleet_record where vin = 'V0002' \
       and ts >= timestamptz '2026-02-01 12:58:00+00' and ts < timestamptz '2026-02-01 12:59:00+00' order by ts",
    "select speed_how, count(*) from fleet_record group by 1 order by 1",
    "select * from fleet_minute order by ts",
    "select ts, speed_kmh_avg from fleet_minute where ts >= timestamptz '2026-02-01 12:58:00+00' \
       and ts < timestamptz '2026-02-01 13:00:00+00' order by ts",
    "select count(*), sum(records)::bigint, max(vehicles) from fleet_minute",
    "select * from fleet_hour order by ts",
    "select ts, vehicles from fleet_hour where ts > timestamptz '2026-02-01 12:30:00+00'",
    "select * from fleet_last order by vin",
    "select * from fleet_trip order by vin, started_at",
];

pub(crate) async fn answer(client: &Client, query: &str) -> Vec<String> {
    let rows = client.query(&format!("select row_to_json(q)::text from ({query}) q"), &[]).await;
    rows.unwrap_or_else(|e| panic!("{query}: {e:?}")).iter().map(|row| row.get(0)).collect()
}

/// Minutes on both sides of an hour's end. Halves, so that sums are exact in whatever order.
fn records() -> Vec<Record> {
    let at = |vehicle: usize, n: i64| {
        let ts = NOON + 57 * MINUTE + n * 10 * SECOND;
        speed(vehicle, ts, 40.0 + vehicle as f64 + n as f64 / 2.0)
            .with(0, 10.0 + n as f64 / 2.0, Quality::Interpolated)
            .with(2, 80.0 - n as f64 / 2.0, Quality::Held)
            .with(3, 20.5, Quality::Measured)
    };
    let mut records: Vec<_> = (0..30).flat_map(|n| (1..4).map(move |v| at(v, n))).collect();
    // The third vehicle is silent for a minute and has no fuel gauge.
    records.retain(|r| r.vehicle != 3 || !(12..18).contains(&((r.ts - NOON - 57 * MINUTE) / (10 * SECOND))));
    records.into_iter().map(|r| if r.vehicle == 3 { r.without(2) } else { r }).collect()
}

/// Other values for some of them, and one row that was not there.
fn corrections() -> Vec<Record> {
    let first = NOON + 57 * MINUTE;
    vec![
        speed(1, first, 200.5).correction(),
        speed(2, first + 70 * SECOND, 0.5).with(3, 99.5, Quality::Interpolated).correction(),
        speed(3, first + 120 * SECOND, 10.5).correction(),
    ]
}

async fn trips(f: &Fixture) {
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    let claim = |v, at: Micros| ClaimRequest { vehicle: vin(v), on_time: at, started_at: at, told_at: at };
    let requests: Vec<_> = (1..5).map(|v| claim(v, NOON)).collect();
    states.claim(&requests, NOON, MINUTE).await.unwrap();
    let latest = |v: usize| LatestRow { ts: NOON, values: vec![1.0, 2.0, v as f64, 3.0, 4.0], quality: 0x55 };
    let state = |v| VehicleState {
        vehicle: vin(v),
        epoch: 1,
        resume_at: NOON,
        floor: None,
        horizon: vec![None; 4],
        newest: vec![None; 4],
        released_at: None,
        latest: Some(latest(v)),
        samples: NewestSamples::default(),
        carry: None,
    };
    // The fourth has a trip but no record yet.
    states.save(&[state(1), state(2), state(3)]).await.unwrap();
    states.end_trips(&[(vin(1), NOON + MINUTE), (vin(3), NOON + MINUTE)]).await.unwrap();
    states.begin_trip(&vin(3), NOON + 2 * MINUTE, NOON + 2 * MINUTE).await.unwrap();
}

pub(crate) async fn filled(server: Server) -> Fixture {
    let mut f = Fixture::on(server).await;
    f.store(&records()).await;
    f.store(&corrections()).await;
    // Rows that are there already, by way of a conflict.
    f.store(&records()[..7]).await;
    f.store(&corrections()).await;
    trips(&f).await;
    f
}

#[tokio::test]
async fn every_edition_answers_alike() {
    let (mut plain, mut community, mut apache) = tokio::join!(
        async { filled(Server::plain().await).await },
        async { filled(Server::timescale().await).await },
        async { filled(Server::apache().await).await },
    );
    assert_eq!((plain.edition, community.edition), (Edition::Plain, Edition::Community));
    assert_eq!(apache.edition, Edition::Apache);
    let refused = apache.client.batch_execute("alter table telemetry set (timescaledb.compress)").await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "0A000");

    // From rows, from roll-ups, and from both.
    let mut before = alike(&plain, &community, &apache).await;
    averages_are_those_of_the_rows(&plain).await;
    for more in [vec![], late(0), late(5)] {
        for f in [&mut plain, &mut community, &mut apache] {
            f.store(&more).await;
            // What the server keeps doesn't show a correction before it is refreshed.
            if more.is_empty() || f.edition == Edition::Community {
                keep_up(f).await;
            }
        }
        let after = alike(&plain, &community, &apache).await;
        assert_eq!(after == before, more.is_empty());
        before = after;
        keep_up(&plain).await;
        assert_eq!(alike(&plain, &community, &apache).await, before);
    }
    the_documented_queries(&plain, &community, &apache).await;
    for f in [&plain, &apache] {
        keep_up(f).await;
        roll_ups_are_what_is_read(f).await;
    }
}

/// The answers, which must be the same.
async fn alike(plain: &Fixture, community: &Fixture, apache: &Fixture) -> Vec<Vec<String>> {
    let mut answers = Vec::new();
    for query in QUERIES {
        let expected = answer(&plain.client, query).await;
        assert!(!expected.is_empty(), "{query}");
        assert_eq!(answer(&community.client, query).await, expected, "community: {query}");
        assert_eq!(answer(&apache.client, query).await, expected, "apache: {query}");
        answers.push(expected);
    }
    answers
}

/// A correction in a minute that was rolled up, a new row in it and one in a new minute.
fn late(n: i64) -> Vec<Record> {
    let ts = NOON + 57 * MINUTE;
    vec![
        speed(1, ts + n * MINUTE / 5, 150.5 + n as f64).correction(),
        speed(4, ts + 20 * SECOND + n * MINUTE / 5, 3.5),
        speed(2, ts + 20 * MINUTE + n * SECOND, 3.5),
    ]
}

/// Brings the roll-ups up to date by whoever keeps them.
pub(crate) async fn keep_up(f: &Fixture) {
    let options = MaintainOptions { partitions_ahead: 1, retention: None };
    maintain(&f.server.connector(), &options).await.unwrap();
    run_jobs(f, "policy_refresh_continuous_aggregate").await;
}

/// Runs the server's jobs of a kind, where it has any.
pub(crate) async fn run_jobs(f: &Fixture, kind: &str) {
    if f.edition != Edition::Community {
        return;
    }
    let jobs = "select job_id from timescaledb_information.jobs where proc_name = $1 order by 1";
    let jobs = f.client.query(jobs, &[&kind]).await.unwrap();
    assert!(!jobs.is_empty(), "{kind}");
    for job in jobs {
        f.client.batch_execute(&format!("call run_job({})", job.get::<_, i32>(0))).await.unwrap();
    }
}

/// Those of `docs/database.md`, word by word, on every edition.
async fn the_documented_queries(plain: &Fixture, community: &Fixture, apache: &Fixture) {
    let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/database.md")).unwrap();
    let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs((NOON / SECOND + seconds) as u64);
    let (noon, from, to, now) = (at(0), at(57 * 60), at(62 * 60), at(59 * 60 + 30));
    for (name, text) in texts::QUERIES {
        assert!(docs.contains(text.trim()), "docs/database.md lacks {name}.sql");
        let parameters: Vec<&(dyn ToSql + Sync)> = match *name {
            "one_vehicle" | "distance" => vec![&"V0001", &from, &to],
            "trips" => vec![&"V0001", &noon, &to],
            "fleet_average" => vec![&from, &to],
            "last_positions" => vec![],
            "hot_brakes" => vec![&3.0_f64],
            "hot_brakes_of_one" => vec![&"V0002", &from, &to, &20.0_f64],
            "hot_brakes_of_all" => vec![&from, &to, &20.0_f64],
            "low_fuel" => vec![&now, &100.0_f64],
            other => panic!("{other}"),
        };
        // Functions of angles differ in their last digit.
        let columns = if *name == "distance" { "round(km::numeric, 6) as km" } else { "*" };
        let query = format!("select row_to_json(a)::text from (select {columns} from ({text}) q) a");
        let mut answers = Vec::new();
        for f in [plain, community, apache] {
            let rows = f.client.query(&query, &parameters).await;
            let rows = rows.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            answers.push(rows.iter().map(|row| row.get(0)).collect::<Vec<String>>());
        }
        assert_eq!(answers[0], answers[1], "community: {name}");
        assert_eq!(answers[0], answers[2], "apache: {name}");
        let said =
            |part: &str| assert!(answers[0].iter().any(|a| a.contains(part)), "{name}: {:?}", answers[0]);
        match *name {
            "one_vehicle" => assert_eq!(answers[0].len(), 30),
            "fleet_average" => assert_eq!(answers[0].len(), 5),
            "last_positions" => assert_eq!(answers[0].len(), 3),
            // All three have 4 degrees; nobody else has a record.
            "hot_brakes" => assert_eq!(answers[0].len(), 3),
            "hot_brakes_of_one" => said("\"hottest\":99.5"),
            "hot_brakes_of_all" => {
                let rows = "select vin, min(ts) as first, max(brake_fluid_temp_c) as hottest, count(*) as records \
                    from fleet_record where ts >= timestamptz '2026-02-01 12:57:00+00' \
                      and ts < timestamptz '2026-02-01 13:02:00+00' and brake_fluid_temp_c >= 20 \
                    group by vin order by hottest desc, vin";
                assert_eq!(answers[0], answer(&plain.client, rows).await);
                said("\"vin\":\"V0002\"");
            }
            // Sixteen records of ten minutes; the third has no gauge. The median of 80 to 72.5.
            "low_fuel" => said("{\"vin\":\"V0001\",\"fuel_level_pct\":76.25}"),
            "trips" => said("\"ended_at\":\"2026-02-01T12:01:00+00:00\""),
            _ => {
                let km: f64 = answers[0][0].trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
                assert!((km - driven()).abs() < 1e-3, "{km}, not {}", driven());
            }
        }
    }
}

/// Half a degree north and half a degree west in each of 29 steps, by the law of cosines.
fn driven() -> f64 {
    let step = |n: f64| {
        let (from, to) = ((10.0 + n / 2.0).to_radians(), (10.5 + n / 2.0).to_radians());
        let cosine = from.sin() * to.sin() + from.cos() * to.cos() * 0.5_f64.to_radians().cos();
        6_371.008_8 * cosine.acos()
    };
    (0..29).map(|n| step(f64::from(n))).sum()
}

/// Not the rows beneath them.
async fn roll_ups_are_what_is_read(f: &Fixture) {
    assert!(answer(&f.client, "select * from fleet_touched").await.is_empty());
    f.client
        .batch_execute("update fleet_rollup_minute set records = 7; update fleet_rollup_hour set records = 9")
        .await
        .unwrap();
    let seen = "select distinct m.records as m, h.records as h from fleet_minute m, fleet_hour h";
    assert_eq!(answer(&f.client, seen).await, ["{\"m\":7,\"h\":9}"]);
}

/// By a computation that shares nothing with the views.
async fn averages_are_those_of_the_rows(f: &Fixture) {
    let table = f.table().await;
    let minute = NOON + 57 * MINUTE;
    let speeds: Vec<f64> = table
        .iter()
        .filter(|((_, ts), _)| (minute..minute + MINUTE).contains(ts))
        .filter_map(|(_, record)| record.values[2])
        .collect();
    let row = f
        .client
        .query_one(
            "select vehicles, records, speed_kmh_avg, speed_kmh_max, fuel_level_pct_min from fleet_minute \
             where ts = timestamptz '2026-02-01 12:57:00+00'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (3, 18));
    assert_eq!(row.get::<_, f64>(2), speeds.iter().sum::<f64>() / speeds.len() as f64);
    assert_eq!((row.get::<_, f64>(3), row.get::<_, f64>(4)), (200.5, 77.5));
    let hours = "select vehicles, records from fleet_hour order by ts";
    let hours: Vec<(i64, i64)> =
        f.client.query(hours, &[]).await.unwrap().iter().map(|r| (r.get(0), r.get(1))).collect();
    assert_eq!(hours, [(3, 49), (3, 36)]);
    let on = "select string_agg(vin, ' ' order by vin) from fleet_last where is_on";
    assert_eq!(f.client.query_one(on, &[]).await.unwrap().get::<_, String>(0), "V0002 V0003");
}

#[tokio::test]
async fn a_schema_grows_under_the_views() {
    let f = filled(Server::plain().await).await;
    keep_up(&f).await;
    f.client.batch_execute("create view theirs as select ts, speed_kmh_avg from fleet_minute").await.unwrap();
    let before = answer(&f.client, "select * from theirs order by ts").await;
    let names = async || {
        let all = "select string_agg(attname, ' ' order by attnum) from pg_attribute \
                   where attrelid = 'fleet_record'::regclass and attnum > 0";
        f.client.query_one(all, &[]).await.unwrap().get::<_, String>(0)
    };
    let old = names().await;
    let more = changed(|c| c.signal.push(tyre()));
    setup(&f.server.connector(), &more, &SetupOptions::default()).await.unwrap();
    assert_eq!(names().await, format!("{old} order tyre_how"));
    assert_eq!(answer(&f.client, "select * from theirs order by ts").await, before);
    for view in ["fleet_record", "fleet_last"] {
        let query = format!("select \"order\" from {view} where \"order\" is not null");
        assert!(answer(&f.client, &query).await.is_empty());
    }
    for view in ["fleet_minute", "fleet_hour"] {
        let query = format!("select order_avg, order_min, order_max from {view} limit 1");
        let nothing = "{\"order_avg\":null,\"order_min\":null,\"order_max\":null}";
        assert_eq!(answer(&f.client, &query).await, [nothing]);
    }
    // A column that has no average any more goes, and only with what others built on it.
    let wraps = changed(|c| {
        c.signal.push(tyre());
        c.signal[1].columns[0].wraps = true;
    });
    let error = setup(&f.server.connector(), &wraps, &SetupOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.to_string().contains("view theirs depends on view fleet_minute"), "{error}");
    f.client.batch_execute("drop view theirs").await.unwrap();
    setup(&f.server.connector(), &wraps, &SetupOptions::default()).await.unwrap();
    let gone = f.client.query("select speed_kmh_avg from fleet_minute", &[]).await.unwrap_err();
    assert_eq!(gone.code().unwrap().code(), "42703");
}

#[tokio::test]
async fn a_reader_reads_and_does_nothing_else() {
    let servers = tokio::join!(Server::plain(), Server::timescale(), Server::apache());
    for server in [servers.0, servers.1, servers.2] {
        let f = filled(server).await;
        let options = SetupOptions { reader: Some("dash board".into()), ..SetupOptions::default() };
        let error = setup(&f.server.connector(), &f.schema, &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().starts_with("the reader \"dash board\" is no role"), "{error}");
        f.client.batch_execute("create role \"dash board\"").await.unwrap();
        setup(&f.server.connector(), &f.schema, &options).await.unwrap();
        f.client.batch_execute("set role \"dash board\"").await.unwrap();
        for query in QUERIES {
            answer(&f.client, query).await;
        }
        answer(&f.client, "select * from telemetry join vehicle using (vehicle_id)").await;
        let refused = f.client.batch_execute("delete from telemetry").await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501");
        f.client.batch_execute("reset role").await.unwrap();
    }
}
