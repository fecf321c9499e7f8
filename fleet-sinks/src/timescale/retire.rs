//! Takes days out of the database that are old and known to be in the archive.
//!
//! A UTC day leaves as a whole: its partition, or its chunks. It is added up hour by hour on both sides while
//! workers write; rows that come for it meanwhile leave a note (see [`days`]), by which it stays for the next run.

mod checksum;
mod compare;

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::time::Duration;

use fleet_core::Schema;
use fleet_core::error::{Error, ErrorKind, Result};
use fleet_core::time::{MINUTE, display};
use tokio_postgres::Client;

use self::compare::{Found, compare};
use super::connect::{Connection, Connector};
use super::days;
use super::layout::{Later, Layout, layout, require};
use super::partition::{self, DAY};
use super::retention::OURS;
use super::rollup::{Kept, aggregates};
use crate::parquet::{Day, Days};

/// What [`retire`] goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetireOptions {
    /// How long a day is over before it leaves the database: two days at least.
    pub after: Duration,
    /// Where its records must be before.
    pub archive: crate::parquet::Place,
}

/// What a run of [`retire`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retired {
    /// Whether it was this process's turn; if not, nothing was done.
    pub had_turn: bool,
    /// The days that left the database, with their records.
    pub days: Vec<(String, u64)>,
    /// The days that are old enough and stay because the archive lacks something, and what.
    pub kept: Vec<(String, String)>,
}

const WHAT: &str = "take a day out of the database";

const BEGIN: &str = "begin; set local lock_timeout = '1s'";

/// How often it is tried to lock what others use, and how long they go first.
const TRIES: usize = 5;
const PAUSE: Duration = Duration::from_secs(2);

/// For so long a process has its turn, unless it takes it again.
const TURN: &str = "interval '1 hour'";

/// Takes the days out of the database that ended so long ago and of which the archive has every record: the same
/// number with the same checksum, and where they differ each one. What is not in the archive stays, and is told. Roll-ups,
/// trips and newest records stay.
///
/// To be called every minute by any number of processes: once an hour one of them does it. Any number of writers
/// may be at work, of this version; rows that come later for such a day are not stored in the database.
///
/// # Errors
/// [`Unavailable`](ErrorKind::Unavailable), also of the archive, and [`Configuration`](ErrorKind::Configuration)
/// where the setup has not made what is needed, or does not know of `after`. What was done before stays done.
pub async fn retire(connector: &Connector, schema: &Schema, options: &RetireOptions) -> Result<Retired> {
    if options.after < Duration::from_secs(2 * 86_400) {
        let text = format!("a day of {} s can't be retired yet", options.after.as_secs());
        return Err(Error::configuration(text));
    }
    let connection = connector.connect().await?;
    // A signal that only a newer program knows would leave unseen.
    require(&connection, schema, Later::Refused).await?;
    let there = days::are_kept(connection.client()).await;
    if !there.map_err(connection.failed("look for the table of days"))? {
        return Err(Error::configuration("there is no table fleet_day: run the setup"));
    }
    let Some(turn) = Turn::take(&connection).await? else { return Ok(Retired::default()) };
    let layout = layout(&connection).await?;
    let kept = Kept::found(&connection).await?;
    if kept == Some(Kept::ByServer) {
        aggregates::require_window(&connection, options.after).await?;
    }
    let run = Run { connection: &connection, schema, options, layout, kept, turn };
    run.all().await
}

/// Whose turn it is, as a number in `fleet_upkeep`.
struct Turn(i64);

impl Turn {
    async fn take(connection: &Connection) -> Result<Option<Self>> {
        let random = std::hash::RandomState::new().hash_one(0).cast_signed();
        let take = format!(
            "update fleet_upkeep set retire_turn = $1, retire_turn_at = now() \
             where retire_turn_at < now() - {TURN}"
        );
        let taken = connection.client().execute(&take, &[&random]).await;
        Ok((taken.map_err(connection.failed("take the turn of retiring"))? > 0).then_some(Self(random)))
    }

    /// Says that it goes on; after an hour without it another has its turn.
    async fn go_on(&self, connection: &Connection) -> Result<()> {
        let renew = "update fleet_upkeep set retire_turn_at = now() where retire_turn = $1";
        let renewed = connection.client().execute(renew, &[&self.0]).await;
        match renewed.map_err(connection.failed("keep the turn of retiring"))? {
            0 => Err(Self::lost()),
            _ => Ok(()),
        }
    }

    /// Whether nobody else has it now, or for the rest of the transaction.
    async fn is_held(&self, client: &Client) -> Result<bool, tokio_postgres::Error> {
        let mine = "select from fleet_upkeep where retire_turn = $1 for update";
        Ok(client.query_opt(mine, &[&self.0]).await?.is_some())
    }

    fn lost() -> Error {
        Error::unavailable("another process has taken the turn of retiring")
    }
}

/// How a try to drop a day ended.
enum Dropped {
    Yes,
    /// Rows came for it, its roll-ups are not made, or it was brought back: next time.
    NotNow(&'static str),
}

struct Run<'a> {
    connection: &'a Connection,
    schema: &'a Schema,
    options: &'a RetireOptions,
    layout: Layout,
    kept: Option<Kept>,
    turn: Turn,
}

impl Run<'_> {
    async fn all(&self) -> Result<Retired> {
        let mut done = Retired { had_turn: true, ..Retired::default() };
        let days = self.old_days().await?;
        if days.is_empty() {
            return Ok(done);
        }
        let archive = Days::open(&self.options.archive)?;
        let archived: HashSet<String> = archive.dates().await?.into_iter().collect();
        for day in days {
            let date: String = display(day * DAY).chars().take(10).collect();
            if !archived.contains(&date) {
                done.kept.push((date, "the archive lacks the day".to_owned()));
                continue;
            }
            let files = archive.day(&date).await?;
            self.begin(day).await?;
            match self.look(day, &files).await {
                Ok(Found::All(records)) => match self.drop(day, records).await? {
                    Dropped::Yes => {
                        done.days.push((date, records));
                        continue;
                    }
                    Dropped::NotNow(why) => tracing::debug!(date, why, "a day stays in the database for now"),
                },
                Ok(Found::Lacking(why)) => done.kept.push((date, why)),
                // A file that can't be read is no reason to keep the other days.
                Err(error) if error.kind() == ErrorKind::Data => done.kept.push((date, error.to_string())),
                Err(error) => return Err(error),
            }
            self.end(day).await?;
        }
        Ok(done)
    }

    /// The days that have rows, ended so long ago and are not held open, the oldest first.
    async fn old_days(&self) -> Result<Vec<i64>> {
        let days = if self.layout.partitioned {
            partition::DAYS.to_owned()
        } else {
            // Longer chunks, of others' making, are left to the retention.
            format!(
                "select distinct (range_start at time zone 'UTC')::date as day \
                 from timescaledb_information.chunks where {OURS} and \
                   (range_start at time zone 'UTC')::date \
                     = ((range_end - interval '1 microsecond') at time zone 'UTC')::date"
            )
        };
        let ask = format!(
            "select (day - date '1970-01-01')::bigint from ({days}) d \
             where (day + 1)::timestamp at time zone 'UTC' <= now() - interval '{} s' \
               and not exists (select from fleet_day f where f.day = d.day and f.back_until > now()) order by 1",
            self.options.after.as_secs()
        );
        let rows = self.connection.client().query(&ask, &[]).await;
        let rows = rows.map_err(self.connection.failed("look for old days"))?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// From here on who writes rows of the day leaves a note, and all that was written before can be seen.
    async fn begin(&self, day: i64) -> Result<()> {
        for _ in 1..TRIES {
            match self.try_to_begin(day).await {
                Err(error) => self.give_way(error).await?,
                Ok(()) => return Ok(()),
            }
        }
        self.try_to_begin(day).await
    }

    async fn try_to_begin(&self, day: i64) -> Result<()> {
        self.turn.go_on(self.connection).await?;
        let begun = async {
            let client = self.connection.client();
            client.batch_execute(BEGIN).await?;
            if !self.turn.is_held(client).await? {
                return Ok(false);
            }
            let date = format!("date '1970-01-01' + {day}");
            let statements = format!(
                "{}; insert into fleet_day (day, looked_at) values ({date}, now()) \
                   on conflict (day) do update set looked_at = now(); \
                 delete from fleet_late where day = {date}; commit",
                days::LOCK_OUT
            );
            client.batch_execute(&statements).await?;
            Ok(true)
        };
        match begun.await.map_err(self.connection.failed("begin to look at a day"))? {
            true => Ok(()),
            false => Err(Turn::lost()),
        }
    }

    /// A day that stays: nobody needs to leave a note any more, unless another has begun to look at it.
    async fn end(&self, day: i64) -> Result<()> {
        let mine = format!("exists (select from fleet_upkeep where retire_turn = {})", self.turn.0);
        let of_day = format!("day = date '1970-01-01' + {day} and {mine}");
        let statements = format!(
            "delete from fleet_day where {of_day} and retired_at is null; \
             update fleet_day set looked_at = null where {of_day}; \
             delete from fleet_late where {of_day}"
        );
        let ended = self.connection.client().batch_execute(&statements).await;
        ended.map_err(self.connection.failed("end looking at a day"))
    }

    /// Looks whether the archive has all of the day.
    async fn look(&self, day: i64, files: &Day) -> Result<Found> {
        const HOUR: i64 = 60 * MINUTE;
        let mut all = 0;
        for hour in 0..24 {
            self.turn.go_on(self.connection).await?;
            let from = day * DAY + hour * HOUR;
            match compare(self.connection, self.schema, files, from..from + HOUR).await? {
                Found::All(rows) => all += rows,
                lacking @ Found::Lacking(_) => return Ok(lacking),
            }
        }
        Ok(Found::All(all))
    }

    /// Drops the day if nothing has come for it since [`begin`](Self::begin).
    async fn drop(&self, day: i64, records: u64) -> Result<Dropped> {
        let first = format!(
            "select not exists (select from fleet_day \
               where day = date '1970-01-01' + {day} and retired_at is not null)"
        );
        let first = self.connection.client().query_one(&first, &[]).await;
        let first = first.map_err(self.connection.failed(WHAT))?.get(0);
        // What the server has not rolled up yet could never be.
        if first && self.kept == Some(Kept::ByServer) {
            let (from, to) = (display(day * DAY), display((day + 1) * DAY));
            aggregates::settle(self.connection, &from, &to).await?;
        }
        for _ in 0..TRIES {
            match self.try_to_drop(day, records, first).await {
                Err(error) => self.give_way(error).await?,
                dropped => return dropped,
            }
        }
        Ok(Dropped::NotNow("it is in use"))
    }

    /// After a try: who writes the day or reads it goes first, and everybody would wait behind us.
    ///
    /// # Errors
    /// The try's, if another can't help.
    async fn give_way(&self, error: Error) -> Result<()> {
        if error.kind() != ErrorKind::Unavailable || self.connection.is_closed() {
            return Err(error);
        }
        let rollback = self.connection.client().batch_execute("rollback").await;
        rollback.map_err(self.connection.failed(WHAT))?;
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    async fn try_to_drop(&self, day: i64, records: u64, first: bool) -> Result<Dropped> {
        let (from, to) = (display(day * DAY), display((day + 1) * DAY));
        let date = format!("date '1970-01-01' + {day}");
        let touched = match self.kept {
            Some(Kept::ByUs) if first => {
                format!("exists (select from fleet_touched where ts >= '{from}' and ts < '{to}')")
            }
            _ => "false".to_owned(),
        };
        let look = format!(
            "select exists (select from fleet_late where day = {date}), {touched}, \
               exists (select from fleet_day where day = {date} and back_until > now())"
        );
        let why = ["rows came for it", "its roll-ups are not made yet", "it was brought back"];
        let drop = match self.layout.partitioned {
            true => format!("drop table {}", partition::name(day)),
            false => format!(
                "select drop_chunks('telemetry', older_than => timestamptz '{to}', \
                   newer_than => timestamptz '{from}')"
            ),
        };
        let drop = format!(
            "{drop}; update fleet_day set looked_at = null, back_until = null, retired_at = now(), \
               records = coalesce(records, {records}) where day = {date}; commit"
        );
        let client = self.connection.client();
        let dropping = async {
            client.batch_execute(BEGIN).await?;
            if !self.turn.is_held(client).await? {
                client.batch_execute("rollback").await?;
                return Ok(Dropped::NotNow("another process has taken the turn"));
            }
            let lock = format!("{}; select from fleet_day where day = {date} for update", days::LOCK_OUT);
            client.batch_execute(&lock).await?;
            let row = client.query_one(&look, &[]).await?;
            if let Some(why) =
                why.iter().enumerate().find_map(|(i, why)| row.get::<_, bool>(i).then_some(*why))
            {
                client.batch_execute("rollback").await?;
                return Ok(Dropped::NotNow(why));
            }
            client.batch_execute(&drop).await?;
            Ok(Dropped::Yes)
        };
        let dropped: std::result::Result<_, tokio_postgres::Error> = dropping.await;
        dropped.map_err(self.connection.failed(WHAT))
    }
}
