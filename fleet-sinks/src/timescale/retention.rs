//! How long rows are kept: telemetry by whole chunks or partitions, and trips that have ended.

use std::time::Duration;

use fleet_core::error::Result;

use super::connect::Connection;
use super::layout::Layout;
use super::partition;
use super::rollup::Kept;

/// Trips that one transaction deletes, and chunks that it drops.
const TRIPS: i64 = 10_000;
const CHUNKS: i64 = 8;

/// In a database with other hypertables, perhaps of the same name.
pub(super) const OURS: &str = "hypertable_name = 'telemetry' and hypertable_schema = (select nspname from pg_class c \
    join pg_namespace n on n.oid = c.relnamespace where c.oid = 'telemetry'::regclass)";

/// After so long the server's own policy, which runs every hour, has failed.
const LATE: Duration = Duration::from_secs(2 * 60 * 60);

/// What was too old.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Partitions or chunks.
    pub(super) dropped: u64,
    pub(super) trips: u64,
}

/// Drops what is older than `retention`, piece by piece; stops early if another process is at it.
pub(super) async fn sweep(
    connection: &Connection,
    layout: Layout,
    kept: Kept,
    retention: Duration,
) -> Result<Swept> {
    let mut swept = Swept::default();
    // On the community edition the server does it by its policy; what that leaves behind is ours.
    let is_ours = kept == Kept::ByUs || {
        let late = retention.saturating_add(LATE).as_secs();
        let chunks = has_chunks(connection.client(), late).await;
        chunks.map_err(connection.failed("look for what is too old"))?
    };
    if is_ours {
        loop {
            match drop_some(connection, layout, retention).await? {
                0 => break,
                dropped => swept.dropped += dropped,
            }
        }
    }
    loop {
        let deleted = delete_trips(connection, retention).await?;
        swept.trips += deleted;
        if deleted < TRIPS.unsigned_abs() {
            return Ok(swept);
        }
    }
}

/// Dropping locks writers out, so that it waits for its lock for a moment only; it is tried again.
async fn drop_some(connection: &Connection, layout: Layout, retention: Duration) -> Result<u64> {
    const WHAT: &str = "drop what is too old";
    let client = connection.client();
    let seconds = retention.as_secs();
    let dropping = async {
        client.batch_execute("begin; set local lock_timeout = '1s'").await?;
        if !super::maintain::lock(client).await? {
            client.batch_execute("rollback").await?;
            return Ok(0);
        }
        let dropped = if layout.partitioned {
            partition::drop_oldest(client, seconds).await?
        } else {
            drop_chunks(client, seconds).await?
        };
        if dropped > 0 {
            // Whole hours: chunks and partitions end with one.
            let forget = format!(
                "update fleet_upkeep set forgotten_before = greatest(forgotten_before, \
                   date_bin('1 hour', now() - interval '{seconds} s', timestamptz '2000-01-01+00'))"
            );
            client.batch_execute(&forget).await?;
        }
        client.batch_execute("commit").await?;
        Ok(dropped)
    };
    dropping.await.map_err(connection.failed(WHAT))
}

/// The oldest chunks of those that have no row of the time to keep.
async fn drop_chunks(client: &tokio_postgres::Client, seconds: u64) -> Result<u64, tokio_postgres::Error> {
    let drop = format!(
        "select count(*) from (select drop_chunks('telemetry', older_than => ( \
           select max(range_end) from (select range_end from timescaledb_information.chunks \
             where {OURS} and range_end <= now() - interval '{seconds} s' \
             order by range_end limit {CHUNKS}) c))) dropped"
    );
    if !has_chunks(client, seconds).await? {
        return Ok(0);
    }
    let dropped: i64 = client.query_one(&drop, &[]).await?.get(0);
    Ok(dropped.unsigned_abs())
}

/// Whether there are chunks without a row of the time to keep.
async fn has_chunks(client: &tokio_postgres::Client, seconds: u64) -> Result<bool, tokio_postgres::Error> {
    let old = format!(
        "select exists (select from timescaledb_information.chunks \
           where {OURS} and range_end <= now() - interval '{seconds} s')"
    );
    Ok(client.query_one(&old, &[]).await?.get(0))
}

async fn delete_trips(connection: &Connection, retention: Duration) -> Result<u64> {
    let seconds = retention.as_secs();
    let delete = format!(
        "delete from trip where (vehicle_id, started_at) in (select vehicle_id, started_at from trip \
           where ended_at < now() - interval '{seconds} s' limit {TRIPS} for update skip locked)"
    );
    connection.client().execute(&delete, &[]).await.map_err(connection.failed("delete old trips"))
}
