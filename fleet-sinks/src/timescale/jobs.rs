//! Whether TimescaleDB's jobs do what is left to them: it tells nobody itself.

use fleet_core::error::Result;

use super::connect::Connection;

/// A job of the server, of our tables and roll-ups, that does not do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobTrouble {
    /// Its number at the server.
    pub job: i32,
    /// Such as `policy_retention of telemetry`.
    pub name: String,
    /// What is wrong.
    pub fault: JobFault,
    /// The server's words, or since when the job should have run.
    pub detail: String,
}

/// What is wrong with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobFault {
    /// Its last run failed.
    Failed,
    /// It has not run for longer than its interval, ten minutes at least.
    Overdue,
}

impl std::fmt::Display for JobFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Failed => "its last run failed",
            Self::Overdue => "it does not run",
        })
    }
}

/// Of a job that never ran the server does not say when it was due: no sooner than the tables were there.
const TROUBLES: &str = "with job as ( \
      select j.job_id, format('%s of %s', j.proc_name, j.hypertable_name) as name, j.schedule_interval, \
        s.last_run_status is not distinct from 'Failed' as failed, \
        s.job_status is not distinct from 'Running' as runs, \
        greatest(s.next_start, s.last_run_started_at, (select max(applied_at) from fleet_migration)) as due \
      from timescaledb_information.jobs j join timescaledb_information.job_stats s using (job_id) \
      where j.scheduled and (j.hypertable_schema = current_schema() and j.hypertable_name = 'telemetry' \
        or exists (select from timescaledb_information.continuous_aggregates a \
          where a.view_schema = current_schema() and a.view_name like 'fleet\\_%' \
            and j.hypertable_name in (a.view_name, a.materialization_hypertable_name)))) \
    select job_id, name, failed, case when failed then ( \
        select left(format('%s (%s)', err_message, sqlerrcode), 200) \
        from timescaledb_information.job_errors e where e.job_id = job.job_id \
        order by start_time desc limit 1) \
      else to_char(due at time zone 'UTC', '\"due at\" YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') end \
    from job \
    where failed or not runs and due < now() - greatest(schedule_interval, interval '10 minutes') \
    order by job_id";

/// The jobs that are in trouble now.
pub(super) async fn troubles(connection: &Connection) -> Result<Vec<JobTrouble>> {
    let client = connection.client();
    let asked = async {
        let there = "select to_regclass('timescaledb_information.job_errors') is not null";
        if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        client.query(TROUBLES, &[]).await
    };
    let rows = asked.await.map_err(connection.failed("look at the server's jobs"))?;
    let trouble = |row: &tokio_postgres::Row| JobTrouble {
        job: row.get(0),
        name: row.get(1),
        fault: if row.get(2) { JobFault::Failed } else { JobFault::Overdue },
        detail: row.get::<_, Option<String>>(3).unwrap_or_default(),
    };
    Ok(rows.iter().map(trouble).collect())
}
