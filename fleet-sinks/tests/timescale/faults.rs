//! Servers that go away, refuse, or are used by several at once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleet_core::batch::Quality;
use fleet_core::bind::{ClaimRequest, StateStore};
use fleet_core::sink::memory::MemorySink;
use fleet_core::sink::{Backoff, Retry};
use fleet_core::time::{MINUTE, SECOND};
use fleet_core::{ErrorKind, Sink};
use fleet_sinks::timescale::{ConnectOptions, Connector, TimescaleSink, TimescaleStates, setup};

use crate::fixture::{Fixture, NOON, Random, Record, seal, speed, table, vin};
use crate::server::{PASSWORD, Server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_holds_exactly_the_rows() {
    let mut f = Fixture::on(Server::plain().await).await;
    let mut reference = MemorySink::new(&f.schema);
    let schema = f.schema.clone();
    let mut random = Random(42);
    let batches: Vec<_> = (0..400)
        .map(|_| {
            let records: Vec<_> = (0..50).map(|_| random.record()).collect();
            seal(&mut f.builder, &records)
        })
        .collect();
    for batch in &batches {
        reference.accept(batch).await.unwrap();
    }
    let backoff = Backoff { first: Duration::from_millis(20), ..Backoff::default() };
    let mut sink = Retry::new(f.sink, "test", backoff);
    let storing = tokio::spawn(async move {
        for batch in &batches {
            let progress = sink.accept(batch).await.unwrap();
            assert!(progress.durable == batch.sequence() && progress.rejected.is_empty());
        }
        sink.into_inner()
    });
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        f.server.kill().await;
        f.server.start_again().await;
    }
    let sink = storing.await.unwrap();
    let connections = sink.counters().connections.load(std::sync::atomic::Ordering::Relaxed);
    assert!(connections > 1, "the server was never away while rows were stored");
    assert_eq!(table(&f.server.client().await, &schema).await, reference.rows());
}

#[tokio::test]
async fn a_server_that_is_away_or_read_only_is_told_by_a_probe() {
    let mut f = Fixture::on(Server::plain().await).await;
    f.sink.probe().await.unwrap();
    f.store(&[speed(1, NOON, 1.0)]).await;
    let connections = f.sink.counters();
    assert_eq!(connections.connections.load(std::sync::atomic::Ordering::Relaxed), 1, "it has its own");
    f.server.kill().await;
    let away = f.sink.probe().await.unwrap_err();
    assert_eq!(away.kind(), ErrorKind::Unavailable, "{away}");
    f.server.start_again().await;
    f.sink.probe().await.unwrap();

    // As a managed server does when its disk is full.
    let client = f.server.client().await;
    let read_only = "alter system set default_transaction_read_only = on; ";
    client.batch_execute(read_only).await.unwrap();
    client.batch_execute("select pg_reload_conf()").await.unwrap();
    let refused = async {
        loop {
            if let Err(error) = f.sink.probe().await {
                break error;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(30), refused).await.expect("it notices");
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    assert!(refused.to_string().ends_with("is read-only"), "{refused}");
}

#[tokio::test]
async fn states_reconnect_and_unavailable_is_said() {
    let mut f = Fixture::on(Server::plain().await).await;
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    let request = ClaimRequest { vehicle: vin(1), on_time: NOON, started_at: NOON, told_at: NOON };
    states.claim(std::slice::from_ref(&request), NOON, MINUTE).await.unwrap();
    f.store(&[speed(1, NOON, 1.0)]).await;
    f.server.kill().await;
    let error = states.claim(std::slice::from_ref(&request), NOON, MINUTE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let batch = seal(&mut f.builder, &[speed(1, NOON + SECOND, 2.0)]);
    let error = f.sink.accept(&batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    f.server.start_again().await;
    let claims = states.claim(std::slice::from_ref(&request), NOON, MINUTE).await.unwrap();
    assert_eq!(claims[0].epoch, 2);
    f.sink.accept(&batch).await.unwrap();
}

#[tokio::test]
async fn wrong_credentials_are_said_in_one_line_without_the_password() {
    let server = Server::plain().await;
    let url = server.url();
    let refused = async |url: String, parts: &[&str]| {
        let connector = Connector::new(&ConnectOptions::new(url)).unwrap();
        let error = setup(&connector, &Default::default(), &Default::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
        let said = format!("{error} {error:?}");
        assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        assert!(!said.contains("sesame") && !error.to_string().contains('\n'), "{said}");
    };
    let wrong = url.replace(PASSWORD, "wrong-sesame");
    refused(wrong, &["could not connect", "28P01", "check user and password"]).await;
    refused(url.replace(&format!(":{PASSWORD}"), ""), &["password missing", "check the database's URL"])
        .await;
    refused(url.replace("/postgres?", "/nowhere?"), &["\"nowhere\" does not exist", "create the database"])
        .await;
    let tls = url.replace("sslmode=disable", "sslmode=require");
    refused(tls, &["server does not support TLS"]).await;

    // A user without rights.
    let client = server.client().await;
    client.batch_execute("create user weak password 'weak-sesame'").await.unwrap();
    let weak = url.replace("fleet:", "weak:").replace(PASSWORD, "weak-sesame");
    refused(weak, &["42501", "grant the right"]).await;
}

#[tokio::test]
async fn a_changed_password_is_asked_for_when_a_connection_is_made_again() {
    let mut f = Fixture::on(Server::plain().await).await;
    let make = "create user changing superuser password 'old-sesame'";
    f.client.batch_execute(make).await.unwrap();
    let url = f.server.url().replace("fleet:", "changing:");
    let said = |password: &str| Ok(url.replace(PASSWORD, password));
    let secret: Arc<Mutex<Result<String, String>>> = Arc::new(Mutex::new(said("old-sesame")));
    let renewed = Arc::clone(&secret);
    let options = ConnectOptions {
        renewed: Some(Arc::new(move || renewed.lock().unwrap().clone())),
        ..ConnectOptions::new(url.replace(PASSWORD, "of-the-start"))
    };
    let mut sink = TimescaleSink::new(Connector::new(&options).unwrap(), &f.schema);
    sink.accept(&seal(&mut f.builder, &[speed(1, NOON, 1.0)])).await.unwrap();

    let change = "alter user changing password 'new-sesame'; \
        select pg_terminate_backend(pid) from pg_stat_activity where usename = 'changing'";
    f.client.batch_execute(change).await.unwrap();
    let batch = seal(&mut f.builder, &[speed(1, NOON + SECOND, 2.0)]);
    *secret.lock().unwrap() = Err("the file is being written".to_owned());
    // The first one finds the connection gone.
    let errors = [sink.accept(&batch).await.unwrap_err(), sink.accept(&batch).await.unwrap_err()];
    assert!(errors.iter().all(|e| e.kind() == ErrorKind::Unavailable), "{errors:?}");
    assert!(errors[1].to_string().contains("the file is being written"), "{errors:?}");
    *secret.lock().unwrap() = said("old-sesame");
    let early = sink.accept(&batch).await.unwrap_err();
    assert!(early.kind() == ErrorKind::Unavailable && early.to_string().contains("28P01"), "{early}");
    *secret.lock().unwrap() = said("new-sesame");
    sink.accept(&batch).await.unwrap();
    assert_eq!(f.table().await.len(), 2);
}

/// After an error of `copy_in` itself the library would take each reply for the one before.
#[tokio::test]
async fn nothing_counts_as_stored_after_a_failed_copy() {
    let mut f = Fixture::on(Server::plain().await).await;
    f.store(&[speed(1, NOON, 1.0)]).await;
    f.client.batch_execute("alter table telemetry rename to elsewhere").await.unwrap();
    for value in 2..5 {
        let record = speed(1, NOON + SECOND, f64::from(value));
        let batch = seal(&mut f.builder, &[record, record.correction()]);
        let error = f.sink.accept(&batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
    f.client.batch_execute("alter table elsewhere rename to telemetry").await.unwrap();
    f.store(&[speed(1, NOON + SECOND, 5.0)]).await;
    assert_eq!(f.table().await.len(), 2);
}

/// The server says of a COPY that it is done before it commits.
#[tokio::test]
async fn nothing_counts_as_stored_before_its_commit() {
    let mut f = Fixture::on(Server::plain().await).await;
    f.client
        .batch_execute(
            "create function refuse() returns trigger language plpgsql as \
                 'begin raise ''not now'' using errcode = ''40001''; end'; \
             create constraint trigger refuse after insert or update on telemetry \
                 deferrable initially deferred for each row execute function refuse()",
        )
        .await
        .unwrap();
    let record = speed(1, NOON, 1.0);
    let new = seal(&mut f.builder, &[record]);
    let correction = seal(&mut f.builder, &[record.correction()]);
    for batch in [&new, &correction] {
        let error = f.sink.accept(batch).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("not now"), "{error}");
    }
    f.client.batch_execute("alter table telemetry disable trigger refuse").await.unwrap();
    for batch in [&new, &correction] {
        f.sink.accept(batch).await.unwrap();
        assert_eq!(f.table().await.len(), 1);
    }
}

/// Futures that are dropped anywhere leave neither a transaction open nor a half batch, once the
/// batch is given again.
#[tokio::test]
async fn a_dropped_future_leaves_a_sink_that_goes_on() {
    let mut f = Fixture::on(Server::plain().await).await;
    let states = TimescaleStates::new(f.server.connector(), &f.schema);
    let request = ClaimRequest { vehicle: vin(1), on_time: NOON, started_at: NOON, told_at: NOON };
    let mut reference = MemorySink::new(&f.schema);
    let mut random = Random(7);
    let mut dropped = 0;
    for i in 0..60 {
        let records: Vec<_> = (0..300).map(|_| random.record().epoch(1_000)).collect();
        let batch = seal(&mut f.builder, &records);
        reference.accept(&batch).await.unwrap();
        let patience = Duration::from_micros(i * 400);
        if tokio::time::timeout(patience, f.sink.accept(&batch)).await.is_err() {
            dropped += 1;
            f.sink.accept(&batch).await.unwrap();
        }
        let claim = states.claim(std::slice::from_ref(&request), NOON, MINUTE);
        let _ = tokio::time::timeout(patience, claim).await;
    }
    assert!(dropped > 5, "only {dropped} were dropped");
    assert_eq!(f.table().await, reference.rows());
    states.claim(&[request], NOON, MINUTE).await.unwrap();
}

/// Each writer has another signal of the same new rows: all of them end in one row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_the_same_new_rows_store_each_once() {
    let f = Fixture::on(Server::plain().await).await;
    let mut reference = MemorySink::new(&f.schema);
    let mut writers = tokio::task::JoinSet::new();
    for signal in 0..4_usize {
        let mut sink = TimescaleSink::new(f.server.connector(), &f.schema);
        let mut builder = fleet_core::batch::BatchBuilder::new(&f.schema);
        let record = |i: usize| {
            let value = (100 * signal + i % 100) as f64;
            let ts = NOON + (i / 50) as i64 * SECOND;
            speed(i % 50, ts, value).without(1).with(signal, value, Quality::Measured)
        };
        let mut batches = Vec::new();
        for rows in (0..20_000).collect::<Vec<_>>().chunks(500) {
            let records: Vec<_> = rows.iter().map(|i| record(*i)).collect();
            batches.push(seal(&mut builder, &records));
            reference.accept(batches.last().unwrap()).await.unwrap();
        }
        writers.spawn(async move {
            for batch in &batches {
                let progress = sink.accept(batch).await.unwrap();
                assert!(progress.durable == batch.sequence() && progress.rejected.is_empty());
            }
            sink.counters().conflicts.load(std::sync::atomic::Ordering::Relaxed)
        });
    }
    let mut conflicts = 0;
    while let Some(done) = writers.join_next().await {
        conflicts += done.unwrap();
    }
    assert!(conflicts >= 40, "they never met: {conflicts} conflicts");
    assert!(f.table().await == reference.rows(), "other rows are stored");
}

/// Merges and claims of the same vehicles, from several connections and in different orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_the_same_rows_never_deadlock() {
    let f = Fixture::on(Server::plain().await).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_usize {
        let (connector, schema) = (f.server.connector(), f.schema.clone());
        writers.spawn(async move {
            let states = TimescaleStates::new(connector.clone(), &schema);
            let mut sink = TimescaleSink::new(connector, &schema);
            let mut builder = fleet_core::batch::BatchBuilder::new(&schema);
            for round in 0..15 {
                let order = |i: usize| if writer % 2 == 0 { i } else { 199 - i };
                let record = |i| {
                    let value = (round * 7 + writer) as f64;
                    Record { epoch: 1_000, ..speed(order(i) % 40, NOON + (order(i) / 40) as i64, value) }
                };
                let records: Vec<_> = (0..200).map(|i| record(i).correction()).collect();
                sink.accept(&seal(&mut builder, &records)).await.unwrap();
                let request = |i| ClaimRequest {
                    vehicle: vin(order(i) % 40),
                    on_time: NOON,
                    started_at: NOON,
                    told_at: NOON,
                };
                let requests: Vec<_> = (0..40).map(request).collect();
                states.claim(&requests, NOON, MINUTE).await.unwrap();
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(f.table().await.len(), 200);
}

/// A trigger of somebody's that dislikes a value says so with an SQLSTATE that means nothing to us.
#[tokio::test]
async fn a_row_that_is_refused_without_a_known_reason_holds_up_no_other() {
    let mut f = Fixture::on(Server::plain().await).await;
    f.client
        .batch_execute(
            "create function dislike() returns trigger language plpgsql as $$ begin
                 if new.speed_kmh = 13 then raise exception 'unlucky'; end if; return new; end $$;
             create trigger dislike before insert on telemetry for each row execute function dislike()",
        )
        .await
        .unwrap();
    // The first vehicle's are all disliked, and more than a few.
    let value = |vehicle| if vehicle == 0 { 13.0 } else { 50.0 };
    let records: Vec<_> = (0..200).map(|n| speed(n / 40, NOON + n as i64 * SECOND, value(n / 40))).collect();
    let progress = f.sink.accept(&seal(&mut f.builder, &records)).await.unwrap();
    assert_eq!((progress.durable, progress.rejected.len()), (1, 40));
    let reason = &progress.rejected[0].reason;
    assert!(reason.contains("unlucky, SQLSTATE P0001"), "{reason}");
    assert!(progress.rejected.iter().all(|row| row.vehicle == vin(0)));
    assert_eq!(f.table().await.len(), 160);

    // Where all are refused, none is to blame.
    let records: Vec<_> = (0..200).map(|n| speed(n, NOON + 10 * MINUTE, 13.0)).collect();
    let batch = seal(&mut f.builder, &records);
    let error = f.sink.accept(&batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    f.client.batch_execute("drop trigger dislike on telemetry").await.unwrap();
    assert!(f.sink.accept(&batch).await.unwrap().rejected.is_empty());
    assert_eq!(f.table().await.len(), 360);
}
