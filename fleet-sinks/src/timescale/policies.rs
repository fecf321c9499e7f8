//! What TimescaleDB's community edition does to `telemetry` by jobs of its own: compression and retention.

use std::time::Duration;

use fleet_core::error::Result;

use super::connect::Connection;
use super::migrate::{SetupOptions, by_turns};

/// How often a job looks for what has become old enough.
const EVERY: &str = "1 hour";

/// A job that does something to chunks of an age.
pub(super) struct Policy {
    /// What the server calls it: `policy_<name>`, made by `add_<name>_policy`.
    name: &'static str,
    /// Where its configuration has the age.
    key: &'static str,
    /// None for no such job.
    age: Option<Duration>,
}

/// That compresses.
pub(super) fn compression(options: &SetupOptions) -> Policy {
    Policy { name: "compression", key: "compress_after", age: Some(options.compress_after) }
}

/// That drops.
pub(super) fn retention(options: &SetupOptions) -> Policy {
    Policy { name: "retention", key: "drop_after", age: options.retention }
}

impl Policy {
    /// The job as it should be; the server checks what it is given.
    pub(super) async fn set(&self, connection: &Connection, options: &SetupOptions) -> Result<()> {
        let Self { name, key, .. } = self;
        let job = self.job();
        // A job that was changed runs at once: its next run may be a day away.
        let statements = match self.age() {
            Some(age) => format!(
                "do $$ declare job int; fits boolean; begin \
                   select job_id, (config->>'{key}')::interval = {age} \
                     and schedule_interval = interval '{EVERY}' into job, fits from {job}; \
                   if not found then \
                     perform add_{name}_policy('telemetry', {age}, schedule_interval => interval '{EVERY}'); \
                   elsif fits is not true then \
                     perform alter_job(job, schedule_interval => interval '{EVERY}', next_start => now(), \
                       config => jsonb_set(config, '{{{key}}}', to_jsonb({age}))) \
                       from timescaledb_information.jobs where job_id = job; \
                   end if; end $$"
            ),
            None => format!("select remove_{name}_policy('telemetry', if_exists => true)"),
        };
        by_turns(connection, options, &format!("set the {name}"), &statements).await
    }

    /// What [`set`](Self::set) would change, in words.
    pub(super) async fn change(&self, connection: &Connection) -> Result<Option<String>> {
        let Self { name, key, .. } = self;
        let job = self.job();
        let fits = match self.age() {
            Some(age) => format!(
                "exists (select from {job} and (config->>'{key}')::interval = {age} \
                   and schedule_interval = interval '{EVERY}')"
            ),
            None => format!("not exists (select from {job})"),
        };
        let fits = connection.client().query_one(&format!("select {fits}"), &[]).await;
        if fits.map_err(connection.failed(&format!("look at the {name}")))?.get(0) {
            return Ok(None);
        }
        Ok(Some(match self.age {
            Some(age) => format!("{name} by the server after {} s, looked for every {EVERY}", age.as_secs()),
            None => format!("no {name} by the server any more"),
        }))
    }

    fn age(&self) -> Option<String> {
        self.age.map(|age| format!("interval '{} s'", age.as_secs()))
    }

    fn job(&self) -> String {
        format!(
            "timescaledb_information.jobs where proc_name = 'policy_{}' \
               and hypertable_schema = current_schema() and hypertable_name = 'telemetry'",
            self.name
        )
    }
}
