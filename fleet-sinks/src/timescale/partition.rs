//! Native partitions of `telemetry`, one for each UTC day.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use fleet_core::error::Result;
use fleet_core::time::{self, MINUTE, Micros};
use tokio_postgres::Client;

use super::connect::Connection;
use super::deployment::TURN;
use super::spans::AT_ONCE;

pub(super) const DAY: Micros = 24 * 60 * MINUTE;

/// Makes the partitions that are missing, a few in each transaction: others wait for a moment only, and
/// after an error those before are there. Drop the connection after an error.
pub(super) async fn make(connection: &Connection, days: impl IntoIterator<Item = i64> + Send) -> Result<()> {
    let days: Vec<i64> = days.into_iter().collect();
    let client = connection.client();
    let made = async {
        for some in days.chunks(AT_ONCE) {
            // A setup may have its turn for a moment; beyond that the caller tries again.
            client.batch_execute("begin; set local lock_timeout = '10s'").await?;
            make_within(client, some.to_vec()).await?;
            client.batch_execute("commit").await?;
        }
        Ok(())
    };
    made.await.map_err(connection.failed("make partitions"))
}

/// Those of these days, since 1970, that have no partition.
pub(super) async fn missing(
    client: &Client,
    days: impl IntoIterator<Item = i64, IntoIter: Send> + Send,
) -> std::result::Result<BTreeSet<i64>, tokio_postgres::Error> {
    let days: Vec<i64> = days.into_iter().collect();
    let names: Vec<String> = days.iter().copied().map(name).collect();
    // `to_regclass` goes by what the connection remembers: after a wait for the lock it may be out of date.
    let ask = "select day from unnest($1::bigint[], $2::text[]) d(day, name) where not exists ( \
                 select from pg_class c where c.relname = d.name and c.relnamespace = ( \
                   select relnamespace from pg_class where oid = 'telemetry'::regclass))";
    let rows = client.query(ask, &[&days, &names]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Yesterday to so many days ahead, by the server's clock, in days since 1970.
pub(super) async fn around_now(
    client: &Client,
    days_ahead: u16,
) -> std::result::Result<RangeInclusive<i64>, tokio_postgres::Error> {
    let row = client.query_one("select (extract(epoch from now()) / 86400)::float8", &[]).await?;
    #[allow(clippy::cast_possible_truncation, reason = "a count of days")]
    let today = row.get::<_, f64>(0).floor() as i64;
    Ok(today - 1..=today + i64::from(days_ahead))
}

/// The days of these times, in days since 1970.
pub(super) fn days(times: impl Iterator<Item = Micros>) -> BTreeSet<i64> {
    times.map(|t| t.div_euclid(DAY)).collect()
}

/// Makes the partitions that are missing, within the caller's transaction.
pub(super) async fn make_within(
    client: &Client,
    days: impl IntoIterator<Item = i64, IntoIter: Send> + Send,
) -> std::result::Result<(), tokio_postgres::Error> {
    client.batch_execute(TURN).await?;
    for day in missing(client, days).await? {
        let name = name(day);
        let (from, to) = (time::display(day * DAY), time::display((day + 1) * DAY));
        // Attaching locks readers and writers out less than creating as a partition does.
        let statements = format!(
            "create table {name} (like telemetry including all); \
             alter table telemetry attach partition {name} for values from ('{from}') to ('{to}')"
        );
        client.batch_execute(&statements).await?;
    }
    Ok(())
}

/// The days of which there are partitions, by our names: what else is attached is not ours.
pub(super) const DAYS: &str = "select to_date(right(c.relname, 8), 'YYYYMMDD') as day \
    from pg_inherits i join pg_class c on c.oid = i.inhrelid \
    where i.inhparent = 'telemetry'::regclass and c.relname ~ '^telemetry_p[0-9]{8}$'";

/// Drops the oldest partition if its day ended that long ago, within the caller's transaction.
pub(super) async fn drop_oldest(
    client: &Client,
    seconds: u64,
) -> std::result::Result<u64, tokio_postgres::Error> {
    let oldest = format!(
        "select (day - date '1970-01-01')::bigint from ({DAYS}) d \
         where (day + 1)::timestamp at time zone 'UTC' <= now() - interval '{seconds} s' order by 1 limit 1"
    );
    let Some(row) = client.query_opt(&oldest, &[]).await? else { return Ok(0) };
    client.batch_execute(&format!("drop table {}", name(row.get(0)))).await?;
    Ok(1)
}

/// `telemetry_p20260131`.
pub(super) fn name(day: i64) -> String {
    let date: String = time::display(day * DAY).chars().take(10).filter(char::is_ascii_digit).collect();
    format!("telemetry_p{date}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_utc_day() {
        let noon = 20_484 * DAY + DAY / 2;
        assert_eq!(days([noon, noon + 1, noon + DAY].into_iter()).len(), 2);
        assert_eq!(name(20_484), "telemetry_p20260131");
        assert_eq!(name(20_485), "telemetry_p20260201");
    }
}
