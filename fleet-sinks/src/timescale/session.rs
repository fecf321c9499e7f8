//! One connection of a sink with its prepared statements: what can be done to `telemetry`.

mod claims;
mod replace;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, Hasher};
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use fleet_core::batch::BatchVehicle;
use fleet_core::time::{MINUTE, Micros, grid_at_or_before};
use fleet_core::{Error, Schema, error::Result};
use futures_util::SinkExt;
use futures_util::future::{join, join3};
use hashbrown::HashSet;
use tokio_postgres::{CopyInSink, Statement};

use super::connect::{Connection, Connector};
use super::encode::{self, Rows};
use super::fault::{self, Verdict};
use super::hot::Hot;
use super::layout::{self, Later, Layout};
use super::rollup::tables::TOUCH;
use super::spans::{Lacking, Spans};
use super::sql;
use super::value::Time;
use super::{days, layout::layout, partition};

/// Rows that are handed to the connection at once: the server takes them while the next are encoded.
const PIECE: usize = 1_024;

/// A statement sees what was committed before it: see [`claims`].
const BEGIN: &str = "begin isolation level read committed";

pub(super) struct Session {
    connection: Connection,
    layout: Layout,
    /// Of what is cut into partitions or chunks.
    spans: Option<Spans>,
    hot: Hot,
    /// The server's process.
    process: i32,
    schema: Schema,
    copy: Statement,
    /// Notes which minutes are touched, where roll-ups are made from such notes.
    touch: Option<Statement>,
    staging: Option<Staging>,
    buffer: BytesMut,
}

struct Staging {
    copy: Statement,
    merge: Statement,
}

/// Why rows were not stored. The session is still good, but for [`Fault::Lost`].
#[derive(Debug)]
pub(super) enum Fault {
    /// Some row is there already.
    Duplicate,
    /// There is no partition for some row, or it breaks a check.
    NoPartition(String),
    /// Some row can't be stored, and why.
    Data(String),
    /// Some row, or all of them, for a reason that is not listed.
    Refused(String),
    /// Anything else; drop the session.
    Lost(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

/// What a merge did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Merged {
    /// Rows that were inserted or changed.
    pub(super) changed: u64,
    /// Rows that a newer claim forbids.
    pub(super) stale: u64,
}

/// Rows of a batch on their way: `ids` and `vehicles` are those of the batch.
#[derive(Clone, Copy)]
pub(super) struct Load<'a> {
    pub(super) rows: &'a Rows<'a>,
    pub(super) vehicles: &'a [BatchVehicle],
    pub(super) ids: &'a [i32],
}

impl Session {
    pub(super) async fn open(connector: &Connector, schema: &Schema) -> Result<Self> {
        let connection = connector.connect().await?;
        layout::require(&connection, schema, Later::Ignored).await?;
        let layout = layout(&connection).await?;
        let spans = Spans::of(&connection, layout).await?;
        let hot = Hot::of(&connection, spans.as_ref().map(Spans::width)).await?;
        connection.unlimit_decompression().await?;
        let process = connection.client().query_one("select pg_backend_pid()", &[]).await;
        let process = process.map_err(connection.failed("ask for the server's process"))?.get(0);
        let copy = sql::copy_into("telemetry", schema);
        let prepare = async |sql: &str| {
            let prepared = connection.client().prepare(sql).await;
            prepared.map_err(connection.failed("prepare a COPY"))
        };
        let copy = prepare(&copy).await?;
        let touch = if layout.noted { Some(prepare(TOUCH).await?) } else { None };
        let (schema, buffer) = (schema.clone(), BytesMut::new());
        Ok(Self { connection, layout, spans, hot, process, schema, copy, touch, staging: None, buffer })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether a row may lack its partition.
    pub(super) fn partitioned(&self) -> bool {
        self.layout.partitioned
    }

    /// The server's process that does what this session asks for.
    pub(super) fn process(&self) -> i32 {
        self.process
    }

    /// How long a partition or chunk is.
    pub(super) fn width(&self) -> Option<Micros> {
        self.spans.as_ref().map(Spans::width)
    }

    /// Where the first hot chunk or partition begins.
    pub(super) async fn hot_since(&mut self) -> Result<Micros> {
        if self.hot.is_old() {
            self.hot = Hot::of(&self.connection, self.width()).await?;
        }
        Ok(self.hot.since())
    }

    /// Which partitions or chunks these rows need that are not there.
    pub(super) async fn lacking(&mut self, load: Load<'_>, rows: &[u32]) -> Result<Lacking> {
        match &mut self.spans {
            Some(spans) => spans.lacking(&self.connection, load, rows).await,
            None => Ok(Lacking::default()),
        }
    }

    /// The days of these rows that have left the database, since 1970: nothing more is stored of them.
    pub(super) async fn closed(&self, load: Load<'_>) -> Result<BTreeSet<i64>> {
        let late = days::late(self.hot.time(), (0..load.rows.len()).map(|row| load.rows.ts(row)));
        days::closed(&self.connection, &late).await
    }

    fn late_days(&self, load: Load<'_>, order: &[u32]) -> BTreeSet<i64> {
        days::late(self.hot.time(), order.iter().map(|&row| load.rows.ts(row as usize)))
    }

    /// Stores rows that are new, all or none.
    pub(super) async fn copy(&mut self, load: Load<'_>, order: &[u32]) -> Result<u64, Fault> {
        const WHAT: &str = "store records";
        let late = self.late_days(load, order);
        if !late.is_empty() {
            self.run(WHAT, "begin").await?;
            days::hold(&self.connection, &late).await?;
        }
        let begin = async { if late.is_empty() { self.run(WHAT, "begin").await } else { Ok(()) } };
        // Sent together: one wait for all.
        let copying = self.connection.client().copy_in(&self.copy);
        let (begun, touched, sink) = join3(begin, self.touch(WHAT, load, order), copying).await;
        begun?;
        touched?;
        let sink = sink.map_err(|e| self.connection.error(WHAT, &e))?;
        match send(sink, load, order, &mut self.buffer).await {
            Ok(rows) => self.commit(WHAT).await.map(|()| rows),
            Err(error) => {
                let fault = self.fault(WHAT, &error);
                Err(self.roll_back(WHAT, fault).await)
            }
        }
    }

    /// Stores rows that may be there already, all or none of those whose vehicle was not claimed anew.
    ///
    /// A claim, or a state that is saved, never waits for as long as it takes, see [`claims`](self::claims).
    pub(super) async fn merge(&mut self, load: Load<'_>, order: &[u32]) -> Result<Merged, Fault> {
        const WHAT: &str = "merge records";
        if self.staging.is_none() {
            self.staging = Some(self.make_staging().await?);
        }
        // Again only if a vehicle was claimed meanwhile, which then is left out.
        loop {
            self.run(WHAT, BEGIN).await?;
            days::hold(&self.connection, &self.late_days(load, order)).await?;
            match self.merge_within(load, order).await {
                Ok(Some(merged)) => {
                    self.commit(WHAT).await?;
                    return Ok(merged);
                }
                Ok(None) => self.run(WHAT, "rollback").await?,
                Err(fault) => return Err(self.roll_back(WHAT, fault).await),
            }
        }
    }

    /// The same within a transaction; nothing if it must be rolled back because of a new claim.
    async fn merge_within(&mut self, load: Load<'_>, order: &[u32]) -> Result<Option<Merged>, Fault> {
        const WHAT: &str = "merge records";
        let claims = self.claims(load, order.iter().map(|&row| load.rows.vehicle(row as usize))).await?;
        let is_fresh = |row: &&u32| claims.is_fresh(load.rows.vehicle(**row as usize));
        let fresh: Vec<u32> = order.iter().filter(is_fresh).copied().collect();
        let stale = (order.len() - fresh.len()) as u64;
        if fresh.is_empty() {
            return Ok(Some(Merged { changed: 0, stale }));
        }
        let Some(staging) = &self.staging else {
            return Err(Fault::Lost(Error::internal("the staging table was not prepared")));
        };
        let sink = self.connection.client().copy_in(&staging.copy).await;
        let sink = sink.map_err(|e| self.connection.error(WHAT, &e))?;
        let sent = send(sink, load, &fresh, &mut self.buffer).await;
        sent.map_err(|e| self.fault(WHAT, &e))?;
        let merging = self.connection.client().execute(&staging.merge, &[]);
        let (changed, touched) = join(merging, self.touch(WHAT, load, &fresh)).await;
        // After a failed merge the note fails too, and says less.
        let changed = changed.map_err(|e| self.fault(WHAT, &e))?;
        touched?;
        Ok(self.still_hold(load, &claims).await?.then_some(Merged { changed, stale }))
    }

    /// Notes the minutes of these rows.
    async fn touch(&self, what: &str, load: Load<'_>, order: &[u32]) -> Result<()> {
        let Some(touch) = &self.touch else { return Ok(()) };
        let mut minutes: HashSet<Micros> = HashSet::new();
        let mut last = None;
        for &row in order {
            let minute = grid_at_or_before(load.rows.ts(row as usize), MINUTE);
            // Mostly that of the row before.
            if last.replace(minute) != Some(minute) {
                minutes.insert(minute);
            }
        }
        let minutes: Vec<Time> = minutes.into_iter().map(Time).collect();
        let noted = self.connection.client().execute(touch, &[&minutes]).await;
        noted.map_err(self.connection.failed(what)).map(drop)
    }

    /// Makes the partitions that these rows need.
    pub(super) async fn make_partitions(&self, load: Load<'_>, order: &[u32]) -> Result<()> {
        let days = partition::days(order.iter().map(|&row| load.rows.ts(row as usize)));
        partition::make(&self.connection, days).await
    }

    async fn make_staging(&self) -> Result<Staging> {
        // The name is unique, because there are servers on which connections share temporary tables.
        let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
        let name = format!("fleet_staging_{random:016x}");
        self.run("prepare a merge", &sql::staging(&name, &self.schema)).await?;
        let client = self.connection.client();
        let prepared = async {
            let copy = client.prepare(&sql::copy_into(&name, &self.schema)).await?;
            let merge = client.prepare(&sql::merge(&name, &self.schema)).await?;
            Ok(Staging { copy, merge })
        };
        prepared.await.map_err(|e| self.connection.error("prepare a merge", &e))
    }

    async fn run(&self, what: &str, statement: &str) -> Result<()> {
        let done = self.connection.client().batch_execute(statement).await;
        done.map_err(self.connection.failed(what))
    }

    /// Ends a transaction for good.
    ///
    /// tokio-postgres 0.7.18 takes a COPY for done at the server's word that the statement is, and
    /// drops an error that follows it: a timeout, or the commit itself without a transaction block.
    /// And to a `commit` of what has failed the server says `ROLLBACK`, which is no error. An empty
    /// `select` is refused then.
    async fn commit(&self, what: &str) -> Result<(), Fault> {
        Ok(self.run(what, "select; commit").await?)
    }

    async fn roll_back(&self, what: &str, fault: Fault) -> Fault {
        match fault {
            Fault::Lost(_) => fault,
            _ => match self.run(what, "rollback").await {
                Ok(()) => fault,
                Err(error) => Fault::Lost(error),
            },
        }
    }

    fn fault(&self, what: &str, error: &tokio_postgres::Error) -> Fault {
        match self.connection.verdict(error) {
            Verdict::Duplicate => Fault::Duplicate,
            Verdict::NoPartition => Fault::NoPartition(fault::describe(error)),
            Verdict::Data => Fault::Data(fault::describe(error)),
            Verdict::Refused => Fault::Refused(fault::describe(error)),
            _ => Fault::Lost(self.connection.error(what, error)),
        }
    }
}

/// Errors from here on leave the connection usable; those of `copy_in` itself do not, because
/// tokio-postgres 0.7.18 then takes each reply for that of the statement before.
async fn send(
    sink: CopyInSink<Bytes>,
    load: Load<'_>,
    order: &[u32],
    buffer: &mut BytesMut,
) -> Result<u64, tokio_postgres::Error> {
    let mut sink = pin!(sink);
    buffer.clear();
    encode::begin(buffer);
    for piece in order.chunks(PIECE) {
        load.rows.encode(piece, load.ids, buffer);
        sink.feed(buffer.split().freeze()).await?;
    }
    encode::end(buffer);
    sink.feed(buffer.split().freeze()).await?;
    sink.finish().await
}
