//! What has to be done now and then: roll-ups, retention, and partitions ahead of time.

use std::time::{Duration, Instant};

use fleet_core::error::Result;
use tokio_postgres::Client;

use super::connect::{Connection, Connector};
use super::jobs::JobTrouble;
use super::layout::layout;
use super::rollup::Kept;
use super::rollup::tables::Roll;
use super::{days, jobs, partition, retention};

/// After so long a run leaves the rest to the next.
const BUDGET: Duration = Duration::from_secs(20);

/// What [`maintain`] is to keep up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintainOptions {
    /// Without TimescaleDB: how many days of partitions to make ahead.
    pub partitions_ahead: u16,
    /// How long telemetry and trips are kept; for ever if not set.
    pub retention: Option<Duration>,
}

/// What a run of [`maintain`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Minutes whose roll-up was made anew.
    pub minutes: u64,
    /// Chunks or partitions that were dropped for their age.
    pub dropped: u64,
    /// Trips that were deleted for their age.
    pub trips: u64,
    /// Whether there is more to do at once.
    pub more: bool,
    /// Jobs of the server that don't do what is left to them.
    pub jobs: Vec<JobTrouble>,
}

/// Does once what is due: makes partitions ahead, brings roll-ups up to date and drops what is too old,
/// each where the server doesn't do it by itself, and looks whether it does. To be called every minute by any number of processes:
/// they take turns, and what one has done is not done again.
///
/// The work goes in short transactions, newest hour first, and ends after 20 s even if there is more.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable), or
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where tables or rights are missing. What was
/// done before stays done, and the next call goes on from there.
pub async fn maintain(connector: &Connector, options: &MaintainOptions) -> Result<Maintained> {
    let connection = connector.connect().await?;
    let layout = layout(&connection).await?;
    if layout.partitioned {
        let days = partition::around_now(connection.client(), options.partitions_ahead).await;
        let days = days.map_err(connection.failed("ask for the day"))?;
        partition::make(&connection, days).await?;
    }
    let Some(kept) = Kept::found(&connection).await? else { return Ok(Maintained::default()) };
    let mut done = Maintained::default();
    if kept == Kept::ByUs {
        (done.minutes, done.more) = roll_up(&connection).await?;
    }
    if let Some(kept_for) = options.retention
        && sweep_is_due(&connection).await?
    {
        let swept = retention::sweep(&connection, layout, kept, kept_for).await?;
        swept_now(&connection).await?;
        (done.dropped, done.trips) = (swept.dropped, swept.trips);
    }
    if done.dropped + done.trips > 0 || done.minutes > 60 {
        let Maintained { minutes, dropped, trips, more, .. } = done;
        tracing::info!(minutes, dropped, trips, more, "rolled up and dropped what was due");
    }
    done.jobs = jobs::troubles(&connection).await?;
    Ok(done)
}

/// Takes the turn of maintenance for the rest of the transaction, if nobody has it: who finds it taken leaves
/// the work to the other.
pub(super) async fn lock(client: &Client) -> Result<bool, tokio_postgres::Error> {
    Ok(client.query_opt("select one from fleet_upkeep for update skip locked", &[]).await?.is_some())
}

/// Once an hour, whoever comes first, and again at once after a failure.
async fn sweep_is_due(connection: &Connection) -> Result<bool> {
    let due = "select swept_at < now() - interval '1 hour' from fleet_upkeep";
    let row = connection.client().query_one(due, &[]).await;
    Ok(row.map_err(connection.failed("look at what is due"))?.get(0))
}

async fn swept_now(connection: &Connection) -> Result<()> {
    let mark = connection.client().execute("update fleet_upkeep set swept_at = now()", &[]).await;
    mark.map_err(connection.failed("note what is done")).map(drop)
}

/// Makes roll-ups of what was touched, hour by hour; the count of minutes and whether some are left.
async fn roll_up(connection: &Connection) -> Result<(u64, bool)> {
    const WHAT: &str = "bring the roll-ups up to date";
    let begun = Instant::now();
    let roll = Roll::read(connection).await?;
    let client = connection.client();
    let rolling = async {
        // A minute is left until it is a minute old: late rows would have it made twice.
        let hours = client
            .query(
                "select date_bin('1 hour', ts, timestamptz '2000-01-01+00') as hour, \
                   min(ts), max(ts) + interval '1 minute' from fleet_touched \
                 where ts <= now() - interval '2 minutes' group by 1 order by 1 desc",
                &[],
            )
            .await?;
        let mut minutes = 0;
        for hour in hours {
            if begun.elapsed() > BUDGET {
                return Ok((minutes, true));
            }
            match roll_hour(client, &roll, &hour).await? {
                Some(rolled) => minutes += rolled,
                // Another process is at it.
                None => return Ok((minutes, false)),
            }
        }
        Ok((minutes, false))
    };
    rolling.await.map_err(connection.failed(WHAT))
}

/// The touched minutes of one hour, and the hour, in one transaction.
async fn roll_hour(
    client: &Client,
    roll: &Roll,
    hour: &tokio_postgres::Row,
) -> Result<Option<u64>, tokio_postgres::Error> {
    use super::value::Time;

    let (start, from, to): (Time, Time, Time) = (hour.get(0), hour.get(1), hour.get(2));
    // Compiling the plan would take longer than running it.
    client.batch_execute("begin; set local jit = off").await?;
    if !lock(client).await? {
        client.batch_execute("rollback").await?;
        return Ok(None);
    }
    // Of rows that are gone the roll-up is all that is known: notes of such hours go for nothing.
    let mut forgotten = "select $1::timestamptz < forgotten_before from fleet_upkeep".to_owned();
    if days::are_kept(client).await? {
        forgotten = format!("select ({forgotten}) or {}", days::frozen("$1::timestamptz"));
    }
    let rolled: i64 = if client.query_one(&forgotten, &[&start]).await?.get(0) {
        client.execute("delete from fleet_touched where ts >= $1 and ts < $2", &[&from, &to]).await?;
        0
    } else {
        let rolled = client.query_one(&roll.minutes, &[&from, &to]).await?.get(0);
        client.execute(&roll.hour, &[&start]).await?;
        rolled
    };
    client.batch_execute("commit").await?;
    Ok(Some(rolled.unsigned_abs()))
}
