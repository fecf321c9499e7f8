//! The maintenance watches what TimescaleDB does by itself.

use std::time::Duration;

use fleet_core::time::{Micros, SECOND};
use fleet_sinks::timescale::{
    JobFault, JobTrouble, MaintainOptions, Maintained, SetupOptions, maintain, setup,
};

use crate::fixture::{Fixture, speed};
use crate::server::Server;
use crate::views::run_jobs;

const DAY: Micros = 86_400 * SECOND;

async fn run(f: &Fixture, retention: Option<Duration>) -> Maintained {
    f.client.batch_execute("update fleet_upkeep set swept_at = '-infinity'").await.unwrap();
    let options = MaintainOptions { partitions_ahead: 1, retention };
    maintain(&f.server.connector(), &options).await.unwrap()
}

async fn job(f: &Fixture, proc_name: &str) -> i32 {
    let select = "select min(job_id) from timescaledb_information.jobs where proc_name = $1";
    f.client.query_one(select, &[&proc_name]).await.unwrap().get(0)
}

/// What the server's scheduler, which is not at work here, would note of a run that began so long ago.
async fn note(f: &Fixture, job: i32, minutes_ago: i32, next_in: i32, success: bool) {
    let note = format!(
        "delete from _timescaledb_internal.bgw_job_stat where job_id = {job}; \
         insert into _timescaledb_internal.bgw_job_stat (job_id, last_start, last_finish, next_start, \
           last_successful_finish, last_run_success, total_runs, total_duration, total_duration_failures, \
           total_successes, total_failures, total_crashes, consecutive_failures, consecutive_crashes) \
         select {job}, t, t, now() + interval '{next_in} min', '-infinity', {success}, 1, '1s', '1s', 0, 1, 0, 1, 0 \
         from (select now() - interval '{minutes_ago} min' as t) at"
    );
    f.client.batch_execute(&note).await.unwrap();
}

fn said(done: &Maintained) -> Vec<(&str, JobFault)> {
    done.jobs.iter().map(|JobTrouble { name, fault, .. }| (name.as_str(), *fault)).collect()
}

#[tokio::test]
async fn jobs_that_fail_are_told_and_those_that_do_not_are_not() {
    let f = Fixture::on(Server::timescale().await).await;
    assert!(run(&f, None).await.jobs.is_empty(), "they may still come");
    let aged = "update fleet_migration set applied_at = now() - interval '2 hours'";
    f.client.batch_execute(aged).await.unwrap();
    let never: Vec<_> = run(&f, None).await.jobs.iter().map(|trouble| trouble.fault).collect();
    assert_eq!(never, [JobFault::Overdue; 3]);
    let all = f.client.query("select job_id from timescaledb_information.jobs", &[]).await.unwrap();
    for job in &all {
        note(&f, job.get(0), 59, 1, true).await;
    }
    assert!(run(&f, None).await.jobs.is_empty());

    let (compression, refresh) =
        (job(&f, "policy_compression").await, job(&f, "policy_refresh_continuous_aggregate").await);
    // Every hour: one that is late by less has its time.
    for (late, overdue) in [(50, 0), (70, 1)] {
        note(&f, compression, 180, -late, true).await;
        assert_eq!(run(&f, None).await.jobs.len(), overdue, "{late} min");
    }
    note(&f, compression, 5, 55, false).await;
    let error = "insert into _timescaledb_internal.bgw_job_stat_history (job_id, execution_finish, succeeded, data) \
        values ($1, now(), false, '{\"error_data\": {\"message\": \"cannot drop portal\", \"sqlerrcode\": \"24000\"}}')";
    f.client.execute(error, &[&compression]).await.unwrap();
    let done = run(&f, None).await;
    assert_eq!(said(&done), [("policy_compression of telemetry", JobFault::Failed)]);
    assert_eq!((done.jobs[0].job, &*done.jobs[0].detail), (compression, "cannot drop portal (24000)"));
    // Roll-ups are jobs too.
    note(&f, refresh, 1, 1, false).await;
    assert_eq!(run(&f, None).await.jobs.len(), 2);
    note(&f, refresh, 1, 1, true).await;
    note(&f, compression, 5, 55, true).await;
    assert!(run(&f, None).await.jobs.is_empty());
    // Who pauses one knows it.
    note(&f, compression, 5, 55, false).await;
    f.client.batch_execute(&format!("select alter_job({compression}, scheduled => false)")).await.unwrap();
    assert!(run(&f, None).await.jobs.is_empty());
}

#[tokio::test]
async fn other_editions_have_no_jobs() {
    for server in [Server::plain().await, Server::apache().await] {
        let f = Fixture::on(server).await;
        assert!(run(&f, None).await.jobs.is_empty());
    }
}

#[tokio::test]
async fn retention_is_done_where_the_server_does_not() {
    let mut f = Fixture::on(Server::timescale().await).await;
    let today = "select extract(epoch from date_trunc('day', now() at time zone 'UTC'))::bigint";
    let today: Micros = f.client.query_one(today, &[]).await.unwrap().get::<_, i64>(0) * SECOND;
    let retention = Some(Duration::from_secs(30 * 86_400));
    setup(&f.server.connector(), &f.schema, &SetupOptions { retention, ..SetupOptions::default() })
        .await
        .unwrap();
    let rows =
        |ages: &[i64]| ages.iter().map(|age| speed(1, today - age * DAY, *age as f64)).collect::<Vec<_>>();
    let left = async |f: &Fixture| {
        let left = "select string_agg(speed_kmh::text, ' ' order by ts) from telemetry";
        f.client.query_one(left, &[]).await.unwrap().get::<_, String>(0)
    };
    // Where the server does, nothing is left to do.
    f.store(&rows(&[60, 33, 29, 0])).await;
    run_jobs(&f, "policy_retention").await;
    assert_eq!(left(&f).await, "29 0");
    assert_eq!(run(&f, retention).await.dropped, 0);
    f.store(&rows(&[60, 33])).await;
    f.client.batch_execute("select compress_chunk(c) from show_chunks('telemetry') c limit 1").await.unwrap();
    assert_eq!(run(&f, retention).await.dropped, 2);
    assert_eq!(left(&f).await, "29 0");
    // Another's table of the same name is not ours to look at.
    let foreign = "create schema other; create table other.telemetry (ts timestamptz not null); \
        select create_hypertable('other.telemetry', 'ts'); insert into other.telemetry values ('2020-01-01')";
    f.client.batch_execute(foreign).await.unwrap();
    assert_eq!(run(&f, retention).await.dropped, 0);
    let theirs = "select count(*) from other.telemetry";
    assert_eq!(f.client.query_one(theirs, &[]).await.unwrap().get::<_, i64>(0), 1);
    setup(&f.server.connector(), &f.schema, &SetupOptions { retention, ..SetupOptions::default() })
        .await
        .unwrap();
    // Nor is anything dropped that is to be kept.
    f.store(&rows(&[60, 33])).await;
    assert_eq!(run(&f, None).await.dropped, 0);
    assert_eq!(left(&f).await, "60 33 29 0");
}
