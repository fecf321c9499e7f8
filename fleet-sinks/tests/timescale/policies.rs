//! What TimescaleDB does by jobs of its own follows the configuration.

use std::time::Duration;

use fleet_core::time::{Micros, SECOND};
use fleet_sinks::timescale::{SetupOptions, plan, setup};

use crate::fixture::{Fixture, speed};
use crate::server::Server;
use crate::views::run_jobs;

const HOUR: u64 = 3_600;

/// The jobs of `telemetry`: what they do, of what age, and how often.
async fn jobs(f: &Fixture) -> Vec<String> {
    let select = "select concat_ws(' ', proc_name, coalesce(config->>'compress_after', config->>'drop_after'), \
          schedule_interval) from timescaledb_information.jobs where hypertable_name = 'telemetry' order by 1";
    f.client.query(select, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn changes(f: &Fixture, options: &SetupOptions) -> Vec<String> {
    plan(&f.server.connector(), &f.schema, options).await.unwrap().changes
}

async fn set_up(f: &Fixture, options: &SetupOptions) {
    setup(&f.server.connector(), &f.schema, options).await.unwrap();
    assert!(changes(f, options).await.is_empty());
}

#[tokio::test]
async fn settings_follow_the_configuration() {
    let f = Fixture::on(Server::timescale().await).await;
    assert_eq!(jobs(&f).await, ["policy_compression 12:00:00 01:00:00"]);
    assert!(changes(&f, &SetupOptions::default()).await.is_empty());

    let longer = SetupOptions {
        vehicles: 10_000,
        compress_after: Duration::from_secs(48 * HOUR),
        retention: Some(Duration::from_secs(720 * HOUR)),
        ..SetupOptions::default()
    };
    let said = changes(&f, &longer).await;
    let wanted = [
        "make chunks of 6 hours instead of 1 day from now on",
        "compression by the server after 172800 s, looked for every 1 hour",
        "retention by the server after 2592000 s, looked for every 1 hour",
    ];
    assert_eq!(said, wanted);
    set_up(&f, &longer).await;
    let wanted = ["policy_compression 48:00:00 01:00:00", "policy_retention 720:00:00 01:00:00"];
    assert_eq!(jobs(&f).await, wanted);
    let interval = "select time_interval::text from timescaledb_information.dimensions \
                    where hypertable_name = 'telemetry'";
    assert_eq!(f.client.query_one(interval, &[]).await.unwrap().get::<_, String>(0), "06:00:00");

    // As an earlier version made them; they stay the same jobs.
    let ids = "select string_agg(job_id::text, ' ' order by job_id) from timescaledb_information.jobs";
    let ids = async || f.client.query_one(ids, &[]).await.unwrap().get::<_, String>(0);
    let before = ids().await;
    f.client
        .batch_execute(
            "select alter_job(job_id, schedule_interval => interval '1 day') \
             from timescaledb_information.jobs where hypertable_name = 'telemetry'",
        )
        .await
        .unwrap();
    assert_eq!(changes(&f, &longer).await.len(), 2);
    set_up(&f, &longer).await;
    assert_eq!((jobs(&f).await, ids().await), (wanted.map(str::to_owned).to_vec(), before));

    let for_ever = SetupOptions { retention: None, ..longer };
    assert_eq!(changes(&f, &for_ever).await, ["no retention by the server any more"]);
    set_up(&f, &for_ever).await;
    assert_eq!(jobs(&f).await, wanted[..1]);
}

/// Not only the words of a job.
#[tokio::test]
async fn what_is_younger_is_not_compressed() {
    let mut f = Fixture::on(Server::timescale().await).await;
    let today = "select extract(epoch from date_trunc('day', now() at time zone 'UTC'))::bigint";
    let today: Micros = f.client.query_one(today, &[]).await.unwrap().get::<_, i64>(0) * SECOND;
    // Its chunk ended between one day and two ago.
    f.store(&[speed(1, today - 30 * HOUR as i64 * SECOND, 1.0)]).await;
    for (hours, compressed) in [(72, 0), (12, 1)] {
        let compress_after = Duration::from_secs(hours * HOUR);
        set_up(&f, &SetupOptions { compress_after, ..SetupOptions::default() }).await;
        run_jobs(&f, "policy_compression").await;
        let count = "select count(*) from timescaledb_information.chunks where is_compressed";
        assert_eq!(f.client.query_one(count, &[]).await.unwrap().get::<_, i64>(0), compressed, "{hours} h");
    }
}
