//! A setup beside everybody else: it gives way, and nobody can stop it, or the sink, who may only read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::batch::BatchBuilder;
use fleet_core::bind::{ClaimRequest, StateStore, VehicleState};
use fleet_core::sample::NewestSamples;
use fleet_core::schema::{ColumnConfig, Schema, SignalConfig};
use fleet_core::time::SECOND;
use fleet_core::{ErrorKind, Sink};
use fleet_sinks::timescale::{SetupOptions, TimescaleSink, TimescaleStates, setup};
use fleet_worker::local::Postgres;
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use crate::fixture::{Fixture, NOON, seal, speed, vin};
use crate::server::{PASSWORD, Server};
use crate::setup::{changed, tyre};

/// Nothing here takes that long unless it waits for ever.
const FOR_EVER: Duration = Duration::from_secs(120);

/// The scenario's signals and so many more.
fn wider(more: usize) -> Schema {
    let signal = |n: usize| {
        let column = ColumnConfig { name: format!("more_{n}"), ..tyre().columns[0].clone() };
        SignalConfig { name: format!("more_{n}"), columns: vec![column], ..tyre() }
    };
    changed(|c| c.signal.extend((0..more).map(signal)))
}

/// A login that may read the views, as dashboards have it.
async fn reader(f: &Fixture) -> Client {
    let Server::Plain(server) = &f.server else { unreachable!("on PostgreSQL") };
    f.client.batch_execute(&format!("create role grafana login password '{PASSWORD}'")).await.unwrap();
    let options = SetupOptions { reader: Some("grafana".to_owned()), ..SetupOptions::default() };
    setup(&f.server.connector(), &f.schema, &options).await.unwrap();
    login(server, "grafana").await
}

async fn login(server: &Postgres, user: &str) -> Client {
    let url = format!("postgres://{user}:{PASSWORD}@127.0.0.1:{}/postgres?sslmode=disable", server.port());
    let (client, driver) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(driver);
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_waits_for_vehicle_latest_does_not_hold_telemetry() {
    let mut f = Fixture::on(Server::plain().await).await;
    f.store(&[speed(1, NOON, 1.0)]).await;
    // As a merge does it: first the claims, then the rows.
    f.client.batch_execute("begin; lock table vehicle_latest in row share mode").await.unwrap();
    let (connector, schema) = (f.server.connector(), wider(1));
    let growing = tokio::spawn(async move { setup(&connector, &schema, &SetupOptions::default()).await });
    let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
                 and application_name = 'fleet'";
    let watcher = f.server.client().await;
    let waiting = async || watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0;
    timeout(FOR_EVER, async { while !waiting().await {} }).await.unwrap();
    let write = "update telemetry set speed_kmh = 2; commit";
    f.client.batch_execute(write).await.expect("the merge is not the one to give way");
    timeout(FOR_EVER, growing).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_setups_beside_writers_claims_and_readers_deadlock_with_none() {
    const VEHICLES: usize = 40;
    let f = Fixture::on(Server::plain().await).await;
    let reader = reader(&f).await;
    let stop = Arc::new(AtomicBool::new(false));
    let turns = Arc::new(AtomicU64::new(0));
    let mut busy = Vec::new();
    for writer in 0..3_usize {
        let (connector, schema) = (f.server.connector(), f.schema.clone());
        let (stop, turns) = (Arc::clone(&stop), Arc::clone(&turns));
        busy.push(tokio::spawn(async move {
            let mut sink = TimescaleSink::new(connector.clone(), &schema);
            let states = TimescaleStates::new(connector, &schema);
            let mut builder = BatchBuilder::new(&schema);
            let mine = || (0..VEHICLES).map(|n| writer * VEHICLES + n);
            let requests: Vec<_> = mine()
                .map(|n| ClaimRequest { vehicle: vin(n), on_time: NOON, started_at: NOON, told_at: NOON })
                .collect();
            let mut turn = 0_i64;
            while !stop.load(Ordering::Relaxed) {
                let at = NOON + turn % 50 * SECOND;
                let claims = states.claim(&requests, NOON, 0).await.expect("a claim");
                let epoch = claims[0].epoch;
                let rows: Vec<_> = mine().map(|n| speed(n, at, turn as f64).epoch(epoch)).collect();
                sink.accept(&seal(&mut builder, &rows)).await.expect("a copy");
                let again: Vec<_> =
                    mine().map(|n| speed(n, at, 0.5 + turn as f64).epoch(epoch).correction()).collect();
                sink.accept(&seal(&mut builder, &again)).await.expect("a merge");
                let saved: Vec<_> = claims
                    .iter()
                    .map(|claim| VehicleState {
                        vehicle: claim.vehicle.clone(),
                        epoch: claim.epoch,
                        resume_at: NOON,
                        floor: Some(at),
                        horizon: Vec::new(),
                        newest: Vec::new(),
                        released_at: None,
                        latest: None,
                        samples: NewestSamples::default(),
                        carry: None,
                    })
                    .collect();
                states.save(&saved).await.expect("a save");
                turn += 1;
                turns.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let looked = Arc::clone(&stop);
    busy.push(tokio::spawn(async move {
        while !looked.load(Ordering::Relaxed) {
            for view in ["fleet_record", "fleet_last", "fleet_minute", "fleet_hour"] {
                reader.query(&format!("select count(*) from {view}"), &[]).await.expect("a look");
            }
        }
    }));

    for more in 1..=20 {
        let (connector, schema) = (f.server.connector(), wider(more));
        let both = async {
            let options = SetupOptions::default();
            tokio::join!(setup(&connector, &schema, &options), setup(&connector, &schema, &options))
        };
        let (one, other) = timeout(FOR_EVER, both).await.unwrap();
        one.unwrap();
        other.unwrap();
        // Everybody goes on between two of them.
        let before = turns.load(Ordering::Relaxed);
        timeout(FOR_EVER, async {
            while turns.load(Ordering::Relaxed) < before + 3 && busy.iter().all(|task| !task.is_finished()) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    for task in busy {
        task.await.unwrap();
    }
    let deadlocks = "select deadlocks from pg_stat_database where datname = current_database()";
    assert_eq!(f.client.query_one(deadlocks, &[]).await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_readers_advisory_locks_stop_neither_setup_nor_sink_nor_maintenance() {
    let mut f = Fixture::on(Server::plain().await).await;
    let reader = reader(&f).await;
    // Those that earlier versions waited for.
    reader
        .batch_execute("select pg_advisory_lock(x'666c656574'::bigint + n) from generate_series(0, 1) n")
        .await
        .unwrap();
    let (connector, options) = (f.server.connector(), SetupOptions::default());
    timeout(FOR_EVER, setup(&connector, &wider(1), &options)).await.unwrap().unwrap();
    // A day without a partition.
    let years_ago = NOON - 3_000 * 86_400 * SECOND;
    timeout(FOR_EVER, f.store(&[speed(1, years_ago, 1.0)])).await.unwrap();
    let noted = "select count(*) from fleet_touched";
    let before: i64 = f.client.query_one(noted, &[]).await.unwrap().get(0);
    assert!(before > 0);
    fleet_sinks::timescale::maintain(
        &connector,
        &fleet_sinks::timescale::MaintainOptions { partitions_ahead: 7, retention: None },
    )
    .await
    .unwrap();
    assert_eq!(f.client.query_one(noted, &[]).await.unwrap().get::<_, i64>(0), 0, "nothing was rolled up");
    // What it waits for now, a reader may not lock.
    for lock in [
        "select from fleet_deployment for update",
        "select from fleet_upkeep for update",
        "lock table fleet_deployment in share row exclusive mode",
        "lock table telemetry in share mode",
    ] {
        let refused = reader.batch_execute(&format!("begin; {lock}")).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{lock}");
        reader.batch_execute("rollback").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_gives_way_to_a_reader_and_says_who_it_is() {
    let mut f = Fixture::on(Server::plain().await).await;
    let reader = reader(&f).await;
    reader.batch_execute("begin; select count(*) from fleet_record").await.unwrap();
    let pid: i32 = reader.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
    let (connector, schema) = (f.server.connector(), wider(1));
    let options = SetupOptions { patience: Duration::from_secs(4), ..SetupOptions::default() };
    let waiting = tokio::spawn(async move { setup(&connector, &schema, &options).await });
    // Meanwhile rows go in: nobody waits for as long as the setup does.
    let mut stored = 0;
    while !waiting.is_finished() {
        f.store(&[speed(1, NOON + stored * SECOND, 1.0)]).await;
        stored += 1;
    }
    let error = waiting.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let said = error.to_string();
    assert!(said.contains(&format!("process {pid} of the role grafana")) && said.contains("55P03"), "{said}");
    assert!(stored > 1, "{stored}");
    let column = "select count(*) from pg_attribute where attname = 'more_0'";
    assert_eq!(f.client.query_one(column, &[]).await.unwrap().get::<_, i64>(0), 0);
    reader.batch_execute("commit").await.unwrap();
    setup(&f.server.connector(), &wider(1), &SetupOptions::default()).await.unwrap();
}
