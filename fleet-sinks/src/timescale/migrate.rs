//! Makes the tables and brings older ones up to date.

use std::time::Duration;

use fleet_core::schema::Signal;
use fleet_core::{Error, ErrorKind, Schema, error::Result};

use super::connect::{Connection, Connector};
use super::deployment::{self, TURN};
use super::layout::{self, Edition, Later, edition};
use super::locks::{self, Tries};
use super::partition;
use super::plan::DatabasePlan;
use super::pooled;
use super::rollup::{Kept, aggregates, tables};
use super::server::Server;
use super::sql::{KEY, definition};
use super::{policies, rekey, views};

/// What the tables depend on beside the signals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetupOptions {
    /// How many vehicles are expected in this database: it sets the length of a chunk.
    pub vehicles: u32,
    /// Compress chunks this much older than now; longer than any catch-up reaches back.
    pub compress_after: Duration,
    /// Without TimescaleDB: how many days of partitions to make ahead.
    pub partitions_ahead: u16,
    /// How long telemetry is kept, where the server itself drops it; for ever if not set.
    pub retention: Option<Duration>,
    /// How long days are over when they leave the database for the archive; they stay if not set.
    pub retire_after: Option<Duration>,
    /// A role that may read the views and tables, such as that of dashboards.
    pub reader: Option<String>,
    /// How long others may be in the way of a change of the tables, tried again and again.
    pub patience: Duration,
}

impl Default for SetupOptions {
    /// 2,000 vehicles, compressed after 12 h, partitions for a week.
    fn default() -> Self {
        Self {
            vehicles: 2_000,
            compress_after: Duration::from_secs(12 * 60 * 60),
            partitions_ahead: 7,
            retention: None,
            retire_after: None,
            reader: None,
            patience: Duration::from_secs(120),
        }
    }
}

impl SetupOptions {
    /// The open chunk should fit a quarter of the server's memory.
    pub(super) fn chunk_interval(&self) -> &'static str {
        match self.vehicles {
            0..=2_000 => "1 day",
            2_001..=10_000 => "6 hours",
            _ => "1 hour",
        }
    }
}

/// Makes or updates the tables for these signals. May be repeated, and run by several processes at
/// once, beside workers that write. Signals that are new at the end of the configuration get their columns.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) when a table or the stored list of signals
/// does not fit (nothing is changed then), or when rights are missing;
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) when the server is, or when others hold the tables
/// for longer than [`SetupOptions::patience`].
pub async fn setup(connector: &Connector, schema: &Schema, options: &SetupOptions) -> Result<Edition> {
    prepare(connector, schema, options).await?.commit().await
}

/// Tables that are changed, but not for others yet: that comes with [`commit`](Self::commit). Dropped
/// without it, they are as they were. Writers may wait for it, and after 30 s the server undoes it.
pub struct Prepared {
    connection: Connection,
    edition: Edition,
    deployment: String,
    /// Roll-ups were begun that the server has to fill.
    begun: bool,
    options: SetupOptions,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { edition, deployment, .. } = self;
        f.debug_struct("Prepared")
            .field("edition", edition)
            .field("deployment", deployment)
            .finish_non_exhaustive()
    }
}

/// The first half of [`setup`], after which nothing of it is refused any more.
///
/// # Errors
/// As [`setup`].
pub async fn prepare(connector: &Connector, schema: &Schema, options: &SetupOptions) -> Result<Prepared> {
    let connection = connector.connect().await?;
    pooled::refuse(connector, &connection).await?;
    // NOTICEs of "if not exists" are no news.
    run(&connection, "set client_min_messages = warning").await?;
    let plan = DatabasePlan::of(&connection, schema, options).await?;
    plan.require()?;
    if let Some(warning) = plan.server.as_ref().and_then(Server::warning) {
        tracing::warn!(database = connector.target(), "{warning}");
    }
    deployment::draw(&connection).await?;
    let mut tries = Tries::new(&connection, options.patience);
    while let Err(error) = install_extension(&connection, &tries.begin()).await {
        tries.after(error).await?;
    }
    let edition = edition(&connection).await?;
    while rekey::is_due(&connection).await? {
        if let Err(error) = rekey::build(&connection, &tries).await {
            tries.after(error).await?;
        }
    }
    let begun = loop {
        let migrated = match run(&connection, &tries.begin()).await {
            Ok(()) => migrate(&connection, schema, edition, options).await,
            Err(error) => Err(error),
        };
        match migrated {
            Ok(begun) => break begun,
            Err(error) => tries.after(error).await?,
        }
    };
    let deployment = deployment::find(&connection).await?;
    let deployment =
        deployment.ok_or_else(|| Error::unavailable("the deployment's id has just been deleted"))?;
    Ok(Prepared { connection, edition, deployment, begun, options: options.clone() })
}

impl Prepared {
    /// The id of the deployment that the database belongs to.
    pub fn deployment(&self) -> &str {
        &self.deployment
    }

    /// Makes the change everybody's, and lets the server keep what it can keep by itself.
    ///
    /// # Errors
    /// [`Unavailable`](fleet_core::ErrorKind::Unavailable); the setup may be repeated.
    pub async fn commit(self) -> Result<Edition> {
        let Self { connection, edition, begun, options, .. } = self;
        run(&connection, "commit").await?;
        if edition == Edition::Community && !layout::is_partitioned(&connection).await? {
            keep_by_server(&connection, &options, begun).await?;
        }
        Ok(edition)
    }
}

async fn run(connection: &Connection, statements: &str) -> Result<()> {
    connection.client().batch_execute(statements).await.map_err(connection.failed("set up the tables"))
}

/// Creates the extension where the server offers it; without the right to it, says so and goes on.
async fn install_extension(connection: &Connection, begin: &str) -> Result<()> {
    if !Server::of(connection).await?.offered {
        return Ok(());
    }
    let create = format!("{begin}; {TURN}; create extension if not exists timescaledb; commit");
    if let Err(error) = connection.client().batch_execute(&create).await {
        let error = connection.error("create the extension timescaledb", &error);
        if connection.is_closed() || error.kind() == ErrorKind::Unavailable {
            return Err(error);
        }
        tracing::warn!(%error, "going on without TimescaleDB, although the server offers it");
        run(connection, "rollback").await?;
    }
    Ok(())
}

/// A change of the tables that is made once.
struct Step {
    version: i32,
    /// Whether it changes tables that others write to.
    locks: bool,
    statements: fn(&Schema, &Ground<'_>) -> String,
}

/// What a step stands on.
struct Ground<'a> {
    edition: Edition,
    /// Whether `telemetry` is there and partitioned natively.
    partitioned: bool,
    options: &'a SetupOptions,
}

/// Only ever appended to. Columns of signals are no steps: they follow the configuration.
const STEPS: &[Step] = &[
    Step { version: 1, locks: false, statements: telemetry },
    Step { version: 2, locks: false, statements: rollups },
    Step { version: 3, locks: true, statements: carries },
    Step { version: 4, locks: true, statements: by_vehicle },
    Step { version: 5, locks: true, statements: newest_samples },
    Step { version: 6, locks: true, statements: days },
];

/// The newest version of the tables that this program knows.
pub(super) fn newest() -> i32 {
    STEPS.last().map_or(0, |s| s.version)
}

/// The version of the tables; 0 before there are any.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) for tables of a newer program.
pub(super) async fn version(connection: &Connection) -> Result<i32> {
    const WHAT: &str = "read the version of the tables";
    let client = connection.client();
    let there = client.query_one("select to_regclass('fleet_migration') is not null", &[]).await;
    if !there.map_err(connection.failed(WHAT))?.get::<_, bool>(0) {
        return Ok(0);
    }
    let row = client.query_one("select coalesce(max(version), 0) from fleet_migration", &[]).await;
    let version: i32 = row.map_err(connection.failed(WHAT))?.get(0);
    let newest = newest();
    if version > newest {
        let text = format!("the tables have version {version}, this program knows them up to {newest}");
        return Err(Error::configuration(text));
    }
    Ok(version)
}

/// Whether roll-ups were begun that the server has to fill.
async fn migrate(
    connection: &Connection,
    schema: &Schema,
    edition: Edition,
    options: &SetupOptions,
) -> Result<bool> {
    run(connection, TURN).await?;
    run(
        connection,
        "create table if not exists fleet_migration \
         (version int primary key, applied_at timestamptz not null default now())",
    )
    .await?;
    let version = version(connection).await?;
    for step in STEPS.iter().filter(|s| s.version > version) {
        if step.locks {
            locks::lock_tables(connection).await?;
        }
        let partitioned = layout::is_partitioned(connection).await?;
        let ground = Ground { edition, partitioned, options };
        run(connection, &(step.statements)(schema, &ground)).await?;
        let noted = format!("insert into fleet_migration (version) values ({})", step.version);
        run(connection, &noted).await?;
    }
    let new = layout::compare(connection, schema, Later::Refused).await?;
    if !new.is_empty() {
        locks::lock_tables(connection).await?;
    }
    for signal in new {
        add(connection, schema, signal).await?;
    }
    // Once more: what was there before must fit too.
    layout::compare(connection, schema, Later::Refused).await?;
    let (rollups, begun) = if Kept::found(connection).await? == Some(Kept::ByServer) {
        aggregates::grow(connection, schema, options.compress_after).await?
    } else {
        tables::grow(connection, schema).await?;
        (tables::relations(connection, schema).await?, false)
    };
    views::refresh(connection, schema, &rollups).await?;
    if Kept::found(connection).await? == Some(Kept::ByServer) {
        aggregates::drop_empty(connection).await?;
    }
    if let Some(reader) = &options.reader {
        views::grant(connection, reader).await?;
    }
    if layout::is_partitioned(connection).await? {
        let made = async {
            let days = partition::around_now(connection.client(), options.partitions_ahead).await?;
            partition::make_within(connection.client(), days).await
        };
        made.await.map_err(connection.failed("make partitions"))?;
    } else if edition != Edition::Plain {
        let interval = options.chunk_interval();
        run(connection, &format!("select set_chunk_time_interval('telemetry', interval '{interval}')"))
            .await?;
    }
    Ok(begun)
}

/// Step 5: the newest sample of each signal, in the order of the signals and of their columns. Programs that don't know
/// of it may go on beside it.
fn newest_samples(_: &Schema, _: &Ground<'_>) -> String {
    "alter table vehicle_latest add column if not exists sampled_at timestamptz[], \
       add column if not exists sampled double precision[]"
        .to_owned()
}

/// Step 6: which days have left the database for the archive.
fn days(_: &Schema, _: &Ground<'_>) -> String {
    super::days::CREATE.to_owned()
}

/// Step 4: one key on all editions, and an index of time beside it.
fn by_vehicle(_: &Schema, _: &Ground<'_>) -> String {
    format!("{}; {}", rekey::DROP, rekey::BY_TIME)
}

/// Step 3: what a holder leaves to the next one. Programs that don't know of it may go on beside it. A few hundred bytes
/// that don't get smaller by compression.
fn carries(_: &Schema, _: &Ground<'_>) -> String {
    "alter table vehicle_latest add column carry bytea; \
     alter table vehicle_latest alter column carry set storage external"
        .to_owned()
}

/// Step 2: what keeps the roll-ups, and what the maintenance must know.
fn rollups(_: &Schema, ground: &Ground<'_>) -> String {
    let rollups = match Kept::best(ground.edition, ground.partitioned) {
        Kept::ByServer => aggregates::CREATE.to_owned(),
        Kept::ByUs => tables::create(),
    };
    format!(
        "create table fleet_upkeep (one boolean primary key default true check (one), \
           forgotten_before timestamptz not null default '-infinity', \
           swept_at timestamptz not null default '-infinity'); \
         insert into fleet_upkeep default values; {rollups}"
    )
}

/// Step 1.
fn telemetry(schema: &Schema, ground: &Ground<'_>) -> String {
    let (edition, options) = (ground.edition, ground.options);
    let values: String = schema.columns().map(|c| definition(c) + ", ").collect();
    let (partitioned, hypertable) = match edition {
        Edition::Plain => (" partition by range (ts)", String::new()),
        Edition::Community | Edition::Apache => {
            let interval = options.chunk_interval();
            let create = format!(
                "select create_hypertable('telemetry', 'ts', chunk_time_interval => interval '{interval}', \
                 create_default_indexes => false, if_not_exists => true);"
            );
            ("", create)
        }
    };
    format!(
        "create table if not exists fleet_signal (position int primary key, name text unique not null, \
           columns text[] not null); \
         create table if not exists vehicle (vehicle_id int generated always as identity primary key, \
           vin text unique not null, first_seen timestamptz not null default now()); \
         create table if not exists trip (vehicle_id int not null, started_at timestamptz not null, \
           ended_at timestamptz, primary key (vehicle_id, started_at)); \
         create table if not exists telemetry (ts timestamptz not null, vehicle_id int not null, \
           {values}quality bigint not null, unique ({KEY})){partitioned}; \
         create table if not exists vehicle_latest (vehicle_id int primary key, epoch int not null, \
           resume_at timestamptz, released_at timestamptz, floor timestamptz, \
           horizon timestamptz[], newest timestamptz[], ts timestamptz, {values}quality bigint) \
           with (fillfactor = 50); \
         {hypertable}"
    )
}

/// Appends a signal to the list and its columns to the tables, unless they were made with it.
async fn add(connection: &Connection, schema: &Schema, signal: &Signal) -> Result<()> {
    for column in &signal.columns {
        let definition = definition(column);
        let statements = format!(
            "alter table vehicle_latest add column if not exists {definition}; \
             alter table telemetry add column if not exists {definition}"
        );
        run(connection, &statements).await?;
    }
    let position = schema.signals().iter().position(|s| s == signal).unwrap_or_default();
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most 31")]
    let position = position as i32;
    let columns: Vec<_> = signal.columns.iter().map(|c| c.name.as_str()).collect();
    connection
        .client()
        .execute(
            "insert into fleet_signal (position, name, columns) values ($1, $2, $3)",
            &[&position, &signal.name, &columns],
        )
        .await
        .map_err(connection.failed("add a signal"))?;
    tracing::info!(signal = %signal.name, "added a signal to the tables");
    Ok(())
}

/// Turns on what the community edition does by itself: roll-ups, retention and compression. A server
/// that can't is no error: rows are stored all the same.
async fn keep_by_server(connection: &Connection, options: &SetupOptions, begun: bool) -> Result<()> {
    let mut done = Vec::new();
    if Kept::found(connection).await? == Some(Kept::ByServer) {
        if begun {
            done.push(aggregates::fill(connection).await);
        }
        done.push(aggregates::keep(connection, options).await);
        done.push(policies::retention(options).set(connection, options).await);
    }
    done.push(compress(connection, options).await);
    for error in done.into_iter().filter_map(Result::err) {
        if connection.is_closed() {
            return Err(error);
        }
        tracing::warn!(%error, "the server will not do by itself what it should");
    }
    Ok(())
}

async fn compress(connection: &Connection, options: &SetupOptions) -> Result<()> {
    let enable = "do $$ begin \
           if exists (select from timescaledb_information.hypertables \
               where hypertable_schema = current_schema() and hypertable_name = 'telemetry' \
                 and not compression_enabled) then \
             alter table telemetry set (timescaledb.compress, \
               timescaledb.compress_segmentby = 'vehicle_id', timescaledb.compress_orderby = 'ts'); \
           end if; end $$";
    by_turns(connection, options, "turn compression on", enable).await?;
    policies::compression(options).set(connection, options).await
}

/// Runs statements in a transaction of their own while no other setup is at it.
pub(super) async fn by_turns(
    connection: &Connection,
    options: &SetupOptions,
    what: &str,
    statements: &str,
) -> Result<()> {
    let mut tries = Tries::new(connection, options.patience);
    loop {
        let all = format!("{}; {TURN}; {statements}; commit", tries.begin());
        match connection.client().batch_execute(&all).await {
            Ok(()) => return Ok(()),
            Err(error) => tries.after(connection.error(what, &error)).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_get_shorter_as_the_fleet_grows() {
        let interval = |vehicles| SetupOptions { vehicles, ..SetupOptions::default() }.chunk_interval();
        assert_eq!(interval(2_000), "1 day");
        assert_eq!(interval(10_000), "6 hours");
        assert_eq!(interval(100_000), "1 hour");
    }

    #[test]
    fn steps_are_numbered_upwards() {
        assert!(STEPS.is_sorted_by(|a, b| a.version < b.version));
    }
}
