//! The order in which everything of ours locks, and what a setup does while others are in its way.
//!
//! 1. The turn: the row of `fleet_deployment` ([`TURN`](super::deployment::TURN)), by whoever changes tables.
//! 2. The turn of maintenance: the row of `fleet_upkeep`.
//! 3. `fleet_late`, by whoever writes rows that are a day old or more, and by whoever takes such a day out of the
//!    database, who locks the others out ([`days`](super::days)).
//! 4. The views, which readers lock before what they read.
//! 5. The tables of roll-ups, which readers of their views lock before `telemetry`.
//! 6. The table `vehicle_latest`.
//! 7. `telemetry`, its rows in the order of its key.
//! 8. Rows of `vehicle_latest` in the order of `vehicle_id`.
//! 9. `trip`.
//!
//! A merge and a replacement read epochs (6), write rows (7), and lock the epochs (8) for the moment of their commit;
//! a claim raises epochs (6, 8) and begins trips (9), an erasure does all of it; who shows newest samples locks rows
//! (8) alone, and passes over those that are locked; roll-ups and retention have their turn (2) first. A setup that
//! adds columns takes all of 1 to 7 but `fleet_late` before it changes anything.

use std::time::Duration;

use fleet_core::error::{Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

use super::connect::Connection;
use super::views;

/// How long a setup's statement waits for a lock: everybody else waits behind it. Less than the server's
/// `deadlock_timeout` of 1 s: whoever is in a circle with it goes on, and the setup gives way.
const SHORT: Duration = Duration::from_millis(500);

/// After so many tries more than `deadlock_timeout`, when the server ends an autovacuum that is in the way.
const SHORT_TRIES: u32 = 4;
const LONG: Duration = Duration::from_secs(2);

/// A client that stands still in a setup's transaction would hold everybody up: the server ends it.
const IDLE: Duration = Duration::from_secs(30);

/// Locks all that adding columns changes, in order. The tables must be there.
pub(super) async fn lock_tables(connection: &Connection) -> Result<()> {
    const WHAT: &str = "lock the tables";
    // `lock table` would lock what a view reads too, in an order of its own; to change nothing locks the view.
    const VIEWS: &str = "select coalesce(string_agg(format('alter view %I alter column %I drop default; ', \
          c.relname, a.attname), '' order by n), ''), to_regclass('fleet_rollup_minute') is not null \
        from unnest($1::text[]) with ordinality v(name, n) join pg_class c on c.oid = to_regclass(v.name) \
          join pg_attribute a on a.attrelid = c.oid and a.attnum = 1";
    let client = connection.client();
    let asked = client.query_one(VIEWS, &[&views::NAMES.as_slice()]).await;
    let asked = asked.map_err(connection.failed(WHAT))?;
    let (views, rolled): (&str, bool) = (asked.get(0), asked.get(1));
    let rollups = if rolled { "fleet_rollup_minute, fleet_rollup_hour, " } else { "" };
    let lock = format!(
        "select from fleet_upkeep for update; {views}\
         lock table {rollups}vehicle_latest, only telemetry in access exclusive mode"
    );
    client.batch_execute(&lock).await.map_err(connection.failed(WHAT))
}

/// The tries of a setup's transaction: while others' locks, or anything else that passes, are in its way, it
/// gives way, lets them go on, and comes again.
pub(super) struct Tries<'a> {
    connection: &'a Connection,
    deadline: Instant,
    pause: Duration,
    number: u32,
}

impl<'a> Tries<'a> {
    /// For `patience` in all.
    pub(super) fn new(connection: &'a Connection, patience: Duration) -> Self {
        let (deadline, pause) = (Instant::now() + patience, Duration::from_millis(100));
        Self { connection, deadline, pause, number: 0 }
    }

    /// What begins the transaction.
    pub(super) fn begin(&self) -> String {
        let wait = if self.number < SHORT_TRIES { SHORT } else { LONG }.as_millis();
        let idle = IDLE.as_millis();
        format!(
            "begin; set local lock_timeout = {wait}; set local idle_in_transaction_session_timeout = {idle}"
        )
    }

    /// After a try that failed: returns when it is time for the next.
    ///
    /// # Errors
    /// That of the try, if another can't help or the time is over; with who holds the tables.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        if self.connection.is_closed() {
            return Err(error);
        }
        let rollback = self.connection.client().batch_execute("rollback").await;
        rollback.map_err(self.connection.failed("roll back"))?;
        if error.kind() != ErrorKind::Unavailable {
            return Err(error);
        }
        let holders = holders(self.connection).await?;
        if Instant::now() + self.pause >= self.deadline {
            let held = if holders.is_empty() { String::new() } else { format!("; in its way: {holders}") };
            return Err(Error::unavailable(format!("{error}{held}")));
        }
        tracing::warn!(%error, holders, "the tables are in use, trying again");
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(Duration::from_secs(2));
        self.number += 1;
        Ok(())
    }
}

/// The processes that hold locks on our tables, with their roles.
async fn holders(connection: &Connection) -> Result<String> {
    const HOLDERS: &str = "select coalesce(string_agg(distinct format('process %s of the role %s%s', a.pid, \
           a.usename, coalesce(format(' (%s for %s s)', a.state, \
             extract(epoch from clock_timestamp() - a.xact_start)::int), '')), ', '), '') \
         from pg_locks l join pg_stat_activity a on a.pid = l.pid \
         where l.granted and l.pid <> pg_backend_pid() and l.relation in (select c.oid from pg_class c \
           where c.relnamespace = current_schema()::regnamespace \
             and (c.relname in ('telemetry', 'vehicle_latest') or c.relname like 'fleet\\_%')) \
           and coalesce(a.xact_start < clock_timestamp() - interval '400 ms', true)";
    let found = connection.client().query_one(HOLDERS, &[]).await;
    Ok(found.map_err(connection.failed("ask who holds the tables"))?.get(0))
}
