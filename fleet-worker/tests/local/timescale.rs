//! TimescaleDB in WebAssembly.

use std::pin::pin;

use bytes::Bytes;
use fleet_worker::local::Timescale;
use futures_util::SinkExt;
use tokio_postgres::error::SqlState;

use crate::runs;

#[tokio::test]
async fn hypertables_compress_and_keep_rows_unique() {
    let server = Timescale::start().await.unwrap();
    let client = server.client().await.unwrap();
    client
        .batch_execute(
            "create table sample (ts timestamptz not null, vehicle int not null, speed real, \
               primary key (vehicle, ts)); \
             select create_hypertable('sample', by_range('ts', interval '1 day')); \
             alter table sample set (timescaledb.compress, timescaledb.compress_segmentby = 'vehicle'); \
             insert into sample select t, 1, 50 from \
               generate_series(timestamptz '2026-02-01', timestamptz '2026-02-02', interval '1 minute') t",
        )
        .await
        .unwrap();
    let compress = "select count(compress_chunk(c)) from show_chunks('sample') c";
    assert_eq!(client.query_one(compress, &[]).await.unwrap().get::<_, i64>(0), 2);
    let compressed = "select count(*) from timescaledb_information.chunks where is_compressed";
    assert_eq!(client.query_one(compressed, &[]).await.unwrap().get::<_, i64>(0), 2);
    let count = "select count(*) from sample where speed = $1";
    assert_eq!(client.query_one(count, &[&50_f32]).await.unwrap().get::<_, i64>(0), 1441);

    let again = "insert into sample values (timestamptz '2026-02-01', 1, 51)";
    let error = client.batch_execute(again).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    client.batch_execute("select 1").await.unwrap();
}

#[tokio::test]
async fn sessions_take_turns_and_leave_nothing() {
    let server = tokio::spawn(Timescale::start()).await.unwrap().unwrap();
    let (mut one, two) = (server.client().await.unwrap(), server.client().await.unwrap());
    one.batch_execute("create table kept (n int primary key)").await.unwrap();
    // Statements of the same name in two sessions.
    let (first, second) = (one.prepare("select 1").await.unwrap(), two.prepare("select 2").await.unwrap());
    assert_eq!(one.query_one(&first, &[]).await.unwrap().get::<_, i32>(0), 1);
    assert_eq!(two.query_one(&second, &[]).await.unwrap().get::<_, i32>(0), 2);

    // The second waits until the first is done.
    let count = "select count(*) from kept";
    let open = one.transaction().await.unwrap();
    open.execute("insert into kept values (1)", &[]).await.unwrap();
    let waiting = tokio::spawn(async move { two.query_one(count, &[]).await.unwrap().get::<_, i64>(0) });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    open.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), 1);

    // A client that goes in the middle of a transaction is rolled back.
    one.batch_execute("begin; insert into kept values (2)").await.unwrap();
    drop(one);
    let three = server.client().await.unwrap();
    assert_eq!(three.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);

    let pid = server.process().id().unwrap();
    assert!(runs(pid));
    drop(server);
    assert!(!runs(pid));
}

#[tokio::test]
async fn copies_are_stored_or_dropped() {
    let server = Timescale::start().await.unwrap();
    let client = server.client().await.unwrap();
    client.batch_execute("create table kept (n int primary key)").await.unwrap();
    let copy = async |rows: &'static str| {
        let mut sink = pin!(client.copy_in("copy kept (n) from stdin").await?);
        sink.send(Bytes::from_static(rows.as_bytes())).await?;
        sink.finish().await
    };
    assert_eq!(copy("1\n2\n").await.unwrap(), 2);
    let error = copy("3\n2\n").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    // One that is given up ends its transaction with it.
    client.batch_execute("begin").await.unwrap();
    drop(client.copy_in::<_, Bytes>("copy kept (n) from stdin").await.unwrap());
    let error = client.batch_execute("select 1").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    client.batch_execute("rollback").await.unwrap();
    let count = client.query_one("select count(*) from kept", &[]).await.unwrap();
    assert_eq!(count.get::<_, i64>(0), 2);
}
