//! Days whose rows have left the database for the archive, and rows that come for them late.
//!
//! `fleet_day` has a row for each day that has left, or is being looked at. A day is *closed* when it is retired: rows that
//! come for it are not stored. It is *back* while a replay from the archive holds it open, until `back_until`.
//! What roll-ups say of a day that was retired is not made anew, back or not: rows of it are the archive's.
//!
//! Who writes rows that are a day old or older locks `fleet_late` with all who do the same, and looks then
//! whether their day is closed. Who retires a day locks it against them: once to begin looking at it, from where
//! on they leave a note in it, and once more to drop it, unless there is a note.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet_core::error::{Error, Result};
use fleet_core::time::Micros;
use tokio_postgres::Client;

use super::clock::ServerTime;
use super::connect::{Connection, Connector};
use super::partition::DAY;

/// Rows that are younger go past all this: no day is retired before it is two days old.
const LATE: Micros = DAY;

/// The tables.
pub(super) const CREATE: &str = "create table if not exists fleet_day (day date primary key, looked_at timestamptz, \
       retired_at timestamptz, records bigint, back_until timestamptz); \
     create table if not exists fleet_late (day date not null); \
     alter table fleet_upkeep add column if not exists retire_turn bigint, \
       add column if not exists retire_turn_at timestamptz not null default '-infinity'";

/// Who writes late rows locks with this, many at a time.
const LOCK_IN: &str = "lock table fleet_late in row exclusive mode";

/// Waits for all who write late rows, and locks them out until the transaction ends.
#[cfg(feature = "parquet")]
pub(super) const LOCK_OUT: &str = "lock table fleet_late in exclusive mode";

/// Of rows of `fleet_day`: rows that come are not stored.
const CLOSED: &str = "retired_at is not null and back_until is null";

/// The condition that what roll-ups say of a time stays as it is, because its day was retired.
pub(super) fn frozen(ts: &str) -> String {
    format!(
        "exists (select from fleet_day d where d.retired_at is not null and d.day = ({ts} at time zone 'UTC')::date)"
    )
}

/// Whether the tables are there; a setup of before has not made them.
pub(super) async fn are_kept(client: &Client) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_one("select to_regclass('fleet_late') is not null", &[]).await?.get(0))
}

/// Days since 1970 as dates.
pub(super) fn numbers(days: &BTreeSet<i64>) -> Vec<i32> {
    days.iter().filter_map(|day| i32::try_from(*day).ok()).collect()
}

/// The days of those of these times that come late.
pub(super) fn late(time: ServerTime, times: impl Iterator<Item = Micros>) -> BTreeSet<i64> {
    let before = time.now() - LATE;
    times.filter(|ts| *ts < before).map(|ts| ts.div_euclid(DAY)).collect()
}

/// Those of these days that are closed.
pub(super) async fn closed(connection: &Connection, days: &BTreeSet<i64>) -> Result<BTreeSet<i64>> {
    let client = connection.client();
    let asked = async {
        if days.is_empty() || !are_kept(client).await? {
            return Ok(BTreeSet::new());
        }
        let ask = format!(
            "select (day - date '1970-01-01')::bigint from fleet_day \
             where {CLOSED} and day in (select date '1970-01-01' + d from unnest($1::int[]) d)"
        );
        let rows = client.query(&ask, &[&numbers(days)]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    };
    asked.await.map_err(connection.failed("look for days that have left the database"))
}

/// Within a transaction that is about to write rows of these days: none of them is retired before it ends.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) if one was closed since it was looked at; drop the connection.
pub(super) async fn hold(connection: &Connection, days: &BTreeSet<i64>) -> Result<()> {
    let client = connection.client();
    let held = async {
        if days.is_empty() || !are_kept(client).await? {
            return Ok(false);
        }
        client.batch_execute(LOCK_IN).await?;
        // A statement of its own: it sees what was committed while the lock was waited for.
        let note = format!(
            "with asked as (select day, looked_at, {CLOSED} as closed from fleet_day \
                 where day in (select date '1970-01-01' + d from unnest($1::int[]) d)), \
               noted as (insert into fleet_late select day from asked where looked_at is not null) \
             select exists (select from asked where closed)"
        );
        Ok(client.query_one(&note, &[&numbers(days)]).await?.get(0))
    };
    match held.await.map_err(connection.failed("hold days in the database"))? {
        true => Err(Error::unavailable("a day left the database while rows came for it")),
        false => Ok(()),
    }
}

/// Opens a day that has left the database, for so long or for ever, so that its rows can come back; says whether
/// it had. After that it leaves again.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable), or
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where tables or rights are missing.
pub async fn bring_back(connector: &Connector, date: &str, kept_for: Option<Duration>) -> Result<bool> {
    let connection = connector.connect().await?;
    let client = connection.client();
    let until = match kept_for {
        Some(kept) => format!("now() + interval '{} s'", kept.as_secs()),
        None => "'infinity'".to_owned(),
    };
    let opening = async {
        if !are_kept(client).await? {
            return Ok(0);
        }
        let open = format!(
            "update fleet_day set back_until = greatest(back_until, {until}) \
             where retired_at is not null and day = to_date($1, 'YYYY-MM-DD')"
        );
        client.execute(&open, &[&date]).await
    };
    Ok(opening.await.map_err(connection.failed("open a day that has left the database"))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn late_is_what_is_a_day_old_by_the_servers_clock() {
        let time = ServerTime::new(20 * DAY);
        let days = |ts: Micros| late(time, [ts].into_iter());
        assert_eq!(days(19 * DAY), BTreeSet::new());
        assert_eq!(days(19 * DAY - 1), BTreeSet::from([18]));
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!((days(20 * DAY - 1), days(20 * DAY)), (BTreeSet::from([19]), BTreeSet::new()));
    }
}
