//! Databases whose key is still that of the first version, `(ts, vehicle_id)`.

use fleet_core::Sink;
use fleet_core::batch::BatchBuilder;
use fleet_core::time::{Micros, SECOND};
use fleet_sinks::timescale::{Edition, SetupOptions, TimescaleSink, plan, setup};
use tokio_postgres::Client;

use crate::fixture::{Fixture, NOON, Record, seal, speed};
use crate::server::Server;

const DAY: Micros = 86_400 * SECOND;

/// As the first version made it.
async fn age(client: &Client) {
    let old = "alter table telemetry drop constraint telemetry_vehicle_id_ts_key; \
               alter table telemetry add unique (ts, vehicle_id); \
               drop index telemetry_ts_range; delete from fleet_migration where version >= 4";
    client.batch_execute(old).await.unwrap();
}

/// The unique indexes of a relation, and how many others there are by block ranges.
async fn keys(client: &Client, relation: &str) -> (Vec<String>, i64) {
    let select = "select coalesce(array_agg(regexp_replace(pg_get_indexdef(indexrelid), '^.*\\(|\\)$', '', 'g')) \
          filter (where indisunique), '{}'), count(*) filter (where am.amname = 'brin') \
        from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam \
        where i.indrelid = $1::text::regclass";
    let row = client.query_one(select, &[&relation]).await.unwrap();
    (row.get(0), row.get(1))
}

async fn chunks(client: &Client) -> Vec<String> {
    let rows = client.query("select c::text from show_chunks('telemetry') c order by 1", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

fn days() -> Vec<Record> {
    let record =
        |(day, n): (i64, i64)| speed(n as usize % 3, NOON + day * DAY + n / 3 * 10 * SECOND, n as f64);
    (0..3).flat_map(|day| (0..30).map(move |n| (day, n))).map(record).collect()
}

#[tokio::test]
async fn a_database_of_the_old_key_is_taken_over() {
    let mut f = Fixture::on(Server::timescale().await).await;
    assert_eq!(f.edition, Edition::Community);
    age(&f.client).await;
    f.store(&days()).await;
    let oldest = chunks(&f.client).await.remove(0);
    f.client.batch_execute(&format!("select compress_chunk('{oldest}')")).await.unwrap();
    // Until then it is written to as it is.
    assert_eq!(keys(&f.client, &oldest).await, (vec!["ts, vehicle_id".to_owned()], 0));
    f.store(&days()).await;
    f.store(&[speed(1, NOON + 10 * SECOND, 77.0).correction()]).await;
    let before = f.table().await;
    assert_eq!(before.len(), 90);

    let (connector, options) = (f.server.connector(), SetupOptions::default());
    let planned = plan(&connector, &f.schema, &options).await.unwrap();
    let change = "give telemetry the key (vehicle_id, ts); writers wait while its index is made";
    assert!(planned.changes.iter().any(|said| said == change), "{:?}", planned.changes);
    setup(&connector, &f.schema, &options).await.unwrap();
    for relation in [chunks(&f.client).await, vec!["telemetry".to_owned()]].concat() {
        assert_eq!(keys(&f.client, &relation).await, (vec!["vehicle_id, ts".to_owned()], 1), "{relation}");
    }
    let compressed = "select count(*) from timescaledb_information.chunks where is_compressed";
    assert_eq!(f.client.query_one(compressed, &[]).await.unwrap().get::<_, i64>(0), 1);
    assert_eq!(f.table().await, before);
    let planned = plan(&connector, &f.schema, &options).await.unwrap();
    assert_eq!((planned.changes, planned.refusals), (vec![], vec![]));

    // A sink from before and one from now find what is there, compressed or not.
    let again: Vec<_> = days().into_iter().filter(|r| (r.vehicle, r.ts) != (1, NOON + 10 * SECOND)).collect();
    f.store(&again).await;
    f.sink = TimescaleSink::new(f.server.connector(), &f.schema);
    f.store(&again).await;
    assert_eq!(f.table().await, before);
    for day in 0..3 {
        f.store(&[speed(1, NOON + day * DAY, 88.0).correction()]).await;
        assert_eq!(f.speed(1, NOON + day * DAY).await.unwrap().0, Some(88.0));
    }
    assert_eq!(f.table().await.len(), 90);
}

#[tokio::test]
async fn an_index_that_a_setup_left_is_used() {
    let mut f = Fixture::on(Server::timescale().await).await;
    age(&f.client).await;
    let left = "create unique index telemetry_by_vehicle on telemetry (vehicle_id, ts)";
    f.client.batch_execute(left).await.unwrap();
    f.store(&days()).await;
    // Both keys at once.
    f.store(&days()).await;
    setup(&f.server.connector(), &f.schema, &SetupOptions::default()).await.unwrap();
    assert_eq!(keys(&f.client, "telemetry").await, (vec!["vehicle_id, ts".to_owned()], 1));
    f.store(&days()).await;
    assert_eq!(f.table().await.len(), 90);
}

/// On PostgreSQL, whose sessions run at once.
#[tokio::test]
async fn writers_go_on_beside_the_change() {
    let f = Fixture::on(Server::plain().await).await;
    age(&f.client).await;
    let (schema, connector) = (f.schema.clone(), f.server.connector());
    let write = |writer: usize| {
        let (mut sink, mut builder) =
            (TimescaleSink::new(connector.clone(), &schema), BatchBuilder::new(&schema));
        async move {
            for n in 0..60 {
                // The half of them are there already.
                let at = |m: i64| NOON + (n / 2 * 20 + m) * SECOND;
                let records: Vec<_> = (0..20).map(|m| speed(writer, at(m), m as f64)).collect();
                let progress = sink.accept(&seal(&mut builder, &records)).await.unwrap();
                assert!(progress.rejected.is_empty(), "{:?}", progress.rejected);
            }
        }
    };
    let options = SetupOptions::default();
    let (done, ..) = tokio::join!(setup(&connector, &schema, &options), write(1), write(2), write(3));
    done.unwrap();
    assert_eq!(keys(&f.client, "telemetry").await, (vec!["vehicle_id, ts".to_owned()], 1));
    assert_eq!(f.table().await.len(), 3 * 30 * 20);
}
