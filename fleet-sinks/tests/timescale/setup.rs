//! The tables: made once, by however many at once, and checked against the configuration.

use fleet_core::batch::BatchBuilder;
use fleet_core::schema::{ColumnConfig, RecordsConfig, Schema, SignalConfig};
use fleet_core::{ErrorKind, Sink};
use fleet_sinks::timescale::{
    ConnectOptions, Connector, Edition, MaintainOptions, SetupOptions, TimescaleSink, check, check_writer,
    deployment_id, maintain, plan, prepare, server as ask, setup,
};

use crate::fixture::{Fixture, NOON, seal, speed};
use crate::server::Server;

pub(crate) fn tyre() -> SignalConfig {
    let column = ColumnConfig {
        name: "order".into(),
        unit: "bar".into(),
        min: 0.0,
        max: 9.0,
        wraps: false,
        kind: None,
        wire: None,
    };
    SignalConfig {
        name: "tyre".into(),
        columns: vec![column],
        interpolation: "linear".into(),
        max_gap: "60s".into(),
        sampling_period: None,
        signal_timeout: None,
    }
}

pub(crate) fn changed(change: impl FnOnce(&mut RecordsConfig)) -> Schema {
    let mut config = RecordsConfig::default();
    change(&mut config);
    config.build().unwrap()
}

#[tokio::test]
async fn plain_postgres() {
    let server = Server::plain().await;
    everything(&server, Edition::Plain).await;
    partitions_are_made_ahead_and_on_demand(Server::plain().await).await;
}

/// PostgreSQL lists what is installed beside it; this one's list is overlaid by another.
#[tokio::test]
async fn an_extension_that_is_not_loaded_is_told() {
    let server = Server::plain().await;
    let plain = ask(&server.connector()).await.unwrap();
    assert_eq!((plain.edition, plain.unloaded, plain.warning()), (Edition::Plain, false, None));
    assert!(plain.to_string().ends_with(" without TimescaleDB"), "{plain}");
    let list = "create view pg_available_extensions as \
                select 'timescaledb'::name as name, '2.23.0' as default_version, null::text as installed_version";
    server.client().await.batch_execute(list).await.unwrap();
    let url = format!("{}?options=-c%20search_path%3Dpublic,pg_catalog&sslmode=disable", server.url());
    let connector = Connector::new(&ConnectOptions::new(url.replacen("?sslmode=disable", "", 1))).unwrap();
    let planned = plan(&connector, &Schema::default(), &SetupOptions::default()).await.unwrap();
    let warning = planned.server.unwrap().warning().unwrap();
    assert!(warning.starts_with("TimescaleDB is installed, but the server does not load it"), "{warning}");
    assert!(!planned.changes.iter().any(|change| change.contains("extension")), "{:?}", planned.changes);
    let edition = setup(&connector, &Schema::default(), &SetupOptions::default()).await.unwrap();
    assert_eq!(edition, Edition::Plain);
}

#[tokio::test]
async fn timescale() {
    let server = Server::timescale().await;
    everything(&server, Edition::Community).await;
    let named = ask(&server.connector()).await.unwrap().to_string();
    assert!(named.contains(" with TimescaleDB 2.") && named.ends_with(", community edition"), "{named}");
    let client = server.client().await;
    let row = client
        .query_one(
            "select compression_enabled, (select count(*) from timescaledb_information.jobs \
               where proc_name = 'policy_compression' and hypertable_name = 'telemetry') \
             from timescaledb_information.hypertables where hypertable_name = 'telemetry'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, i64>(1)), (true, 1));
    let interval = "select time_interval::text from timescaledb_information.dimensions \
                    where hypertable_name = 'telemetry'";
    let seen = async || client.query_one(interval, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(seen().await, "1 day");
    let options = SetupOptions { vehicles: 10_000, ..SetupOptions::default() };
    let schema = changed(|c| c.signal.push(tyre()));
    setup(&server.connector(), &schema, &options).await.unwrap();
    assert_eq!(seen().await, "06:00:00");
}

async fn everything(server: &Server, edition: Edition) {
    let (connector, schema) = (server.connector(), Schema::default());
    let options = SetupOptions::default();

    // Before the setup everything says what to do.
    let mut sink = TimescaleSink::new(connector.clone(), &schema);
    let batch = seal(&mut BatchBuilder::new(&schema), &[speed(1, NOON, 1.0)]);
    for error in [sink.accept(&batch).await.unwrap_err(), check(&connector, &schema).await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().ends_with("run the setup of the database"), "{error}");
    }

    // What would be refused leaves no trace, and what would be done is said.
    let nobody = SetupOptions { reader: Some("nobody-here".to_owned()), ..SetupOptions::default() };
    setup(&connector, &schema, &nobody).await.unwrap_err();
    let planned = plan(&connector, &schema, &nobody).await.unwrap();
    assert_eq!((planned.deployment, planned.refusals.len()), (None, 1), "{:?}", planned.refusals);
    assert!(
        planned.changes.iter().any(|change| change == "create the tables for position, speed, fuel, brake")
    );
    assert_eq!(deployment_id(&connector).await.unwrap_err().kind(), ErrorKind::Configuration);

    let both = tokio::join!(
        setup(&connector, &schema, &options),
        setup(&connector, &schema, &options),
        setup(&connector, &schema, &options)
    );
    assert_eq!((both.0.unwrap(), both.1.unwrap(), both.2.unwrap()), (edition, edition, edition));
    assert_eq!(setup(&connector, &schema, &options).await.unwrap(), edition);
    assert_eq!(check(&connector, &schema).await.unwrap(), edition);
    sink.accept(&batch).await.unwrap();
    // What is there stays as it is, whatever becomes of the configuration.
    let client = server.client().await;
    let stored = async |columns: &str| {
        let query = format!("select concat_ws('|', {columns}) from telemetry order by vehicle_id, ts");
        let rows = client.query(&query, &[]).await.unwrap();
        rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>()
    };
    let all = "ts, vehicle_id, latitude, longitude, speed_kmh, fuel_level_pct, quality";
    let before = stored(all).await;
    assert_eq!((before.len(), stored("speed_kmh").await), (1, vec!["1".to_owned()]));

    // A signal at the end is added, with a name that SQL keeps to itself.
    let more = changed(|c| c.signal.push(tyre()));
    let error = check(&connector, &more).await.unwrap_err();
    assert_eq!(error.to_string(), "signal \"tyre\" is not in the database yet: run the setup");
    let id = deployment_id(&connector).await.unwrap();
    let planned = plan(&connector, &more, &options).await.unwrap();
    assert_eq!((planned.deployment.as_ref(), planned.refusals), (Some(&id), vec![]));
    assert_eq!(planned.changes, ["add the signal tyre with the columns order"]);
    check(&connector, &schema).await.unwrap();
    assert_eq!(prepare(&connector, &more, &options).await.unwrap().deployment(), id);
    check(&connector, &schema).await.expect("what is prepared and not committed is as it was");
    setup(&connector, &more, &options).await.unwrap();
    check(&connector, &more).await.unwrap();
    assert_eq!(deployment_id(&connector).await.unwrap(), id);
    assert_eq!(plan(&connector, &more, &options).await.unwrap().changes, [""; 0]);
    // Who only adds may lack what was appended since, and nothing else.
    check_writer(&connector, &schema).await.unwrap();
    let swapped = changed(|c| c.signal.swap(1, 2));
    assert!(check_writer(&connector, &swapped).await.is_err());
    assert_eq!((stored(all).await, stored("\"order\"").await), (before.clone(), vec![String::new()]));
    let mut wider = TimescaleSink::new(connector.clone(), &more);
    wider.connect().await.unwrap();
    // A worker that does not know it yet goes on, also after a reconnect.
    let mut narrow = TimescaleSink::new(connector.clone(), &schema);
    narrow.accept(&batch).await.unwrap();

    // Anything else is refused, by name, and changes nothing.
    let refused = async |schema: &Schema, part: &str| {
        for error in [
            setup(&connector, schema, &options).await.unwrap_err(),
            check(&connector, schema).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(part), "{error}");
        }
    };
    let refused_if = async |change: &dyn Fn(&mut Vec<SignalConfig>), part: &str| {
        let schema = changed(|c| {
            c.signal.push(tyre());
            change(&mut c.signal);
        });
        refused(&schema, part).await;
    };
    refused(&schema, "signal \"tyre\" is in the database but not in the configuration").await;
    let moved = "signal 2 is \"speed\" in the database and \"fuel\" in the configuration; signals can only";
    refused_if(&|signals| drop(signals.remove(1)), moved).await;
    refused_if(&|signals| signals.swap(1, 2), moved).await;
    refused_if(&|signals| signals.rotate_right(1), "signal 1 is \"position\" in the database and \"tyre\"")
        .await;
    let renamed = "signal 2 is \"speed\" in the database and \"velocity\" in the configuration";
    refused_if(&|signals| signals[1].name = "velocity".into(), renamed).await;
    let columns = |signal: &str, is: &str, configured: &str| {
        format!(
            "signal \"{signal}\" has the columns {is} in the database and {configured} in the configuration"
        )
    };
    let renamed = columns("speed", "speed_kmh", "v");
    refused_if(&|signals| signals[1].columns[0].name = "v".into(), &renamed).await;
    let fewer = columns("position", "latitude, longitude", "latitude");
    refused_if(&|signals| drop(signals[0].columns.pop()), &fewer).await;
    let swapped = columns("position", "latitude, longitude", "longitude, latitude");
    refused_if(&|signals| signals[0].columns.swap(0, 1), &swapped).await;
    let wider = columns("tyre", "order", "order, second");
    let second = ColumnConfig { name: "second".into(), ..tyre().columns[0].clone() };
    refused_if(&|signals| signals[4].columns.push(second.clone()), &wider).await;
    let other_type = changed(|c| {
        c.signal.push(tyre());
        c.signal[1].columns[0].kind = Some("double".into());
    });
    refused(&other_type, "column telemetry.speed_kmh is real, but must be double precision").await;
    client.batch_execute("alter table vehicle_latest drop column speed_kmh cascade").await.unwrap();
    refused(&more, "column vehicle_latest.speed_kmh is missing, it must be real").await;
    client.batch_execute("alter table vehicle_latest add column speed_kmh real").await.unwrap();
    check(&connector, &more).await.unwrap();

    // How values come about may change: it holds for what is computed from then on.
    let otherwise = changed(|c| {
        c.signal.push(tyre());
        c.signal[1].interpolation = "pchip".into();
        c.signal[1].max_gap = "90s".into();
        c.signal[1].columns[0].max = 500.0;
        c.interval = "5s".into();
    });
    setup(&connector, &otherwise, &options).await.unwrap();
    check(&connector, &otherwise).await.unwrap();
    // Nothing that was refused or taken has left a trace.
    let columns = "select count(*) from pg_attribute where attrelid = 'telemetry'::regclass and attnum > 0";
    assert_eq!(client.query_one(columns, &[]).await.unwrap().get::<_, i64>(0), 9);
    assert_eq!((stored(all).await, stored("\"order\"").await), (before, vec![String::new()]));

    // Tables of a newer program.
    client.batch_execute("insert into fleet_migration (version) values (999)").await.unwrap();
    let error = setup(&connector, &more, &options).await.unwrap_err();
    assert!(error.to_string().starts_with("the tables have version 999"), "{error}");
    client.batch_execute("delete from fleet_migration where version = 999").await.unwrap();
}

async fn partitions_are_made_ahead_and_on_demand(server: Server) {
    const COUNT: &str = "select count(*) from pg_inherits where inhparent = 'telemetry'::regclass";
    let mut f = Fixture::on(server).await;
    let count = async |f: &Fixture| f.client.query_one(COUNT, &[]).await.unwrap().get::<_, i64>(0);
    assert_eq!(count(&f).await, 9, "yesterday, today and a week");
    let options = MaintainOptions { partitions_ahead: 9, retention: None };
    maintain(&f.server.connector(), &options).await.unwrap();
    assert_eq!(count(&f).await, 11);

    const DAY: i64 = 86_400_000_000;
    let years_ago = NOON - 3_000 * DAY;
    f.store(&[speed(1, years_ago, 1.0), speed(2, years_ago + 5 * DAY, 2.0)]).await;
    f.store(&[speed(2, years_ago + 9 * DAY, 3.0).correction()]).await;
    assert_eq!(count(&f).await, 14);
    assert_eq!(f.table().await.len(), 3);

    // Two writers that need the same partition at once.
    let mut other = TimescaleSink::new(f.server.connector(), &f.schema);
    let batch = seal(&mut f.builder, &[speed(3, years_ago + 20 * DAY, 1.0)]);
    let second = seal(&mut f.builder, &[speed(4, years_ago + 20 * DAY, 1.0)]);
    let (one, two) = tokio::join!(f.sink.accept(&batch), other.accept(&second));
    assert!(one.unwrap().rejected.is_empty() && two.unwrap().rejected.is_empty());
    assert_eq!(count(&f).await, 15);
}
