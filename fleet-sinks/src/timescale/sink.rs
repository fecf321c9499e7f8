//! The sink: optimistic `COPY`, merge where rows are there already, bisection where one is bad.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use fleet_core::batch::Batch;
use fleet_core::error::Result;
use fleet_core::sink::{Progress, Pulse, RejectedRow, Sink};
use fleet_core::time::display;
use fleet_core::{Error, Micros, Schema, VehicleId};

use super::connect::Connector;
use super::encode::Rows;
use super::partition::DAY;
use super::pieces::{self, sort};
use super::reject::reject;
use super::session::{Fault, Load, Session};
use super::suspects::{Doubt, Patience, Suspects};
use super::vehicles::VehicleIds;
use super::{pooled, pulse};

/// What a sink has done since it was made.
#[derive(Debug, Default)]
pub struct SinkCounters {
    /// Connections opened.
    pub connections: AtomicU64,
    /// Rows stored by `COPY`.
    pub copied: AtomicU64,
    /// Rows inserted or changed by a merge.
    pub merged: AtomicU64,
    /// Rows deleted to be replaced.
    pub deleted: AtomicU64,
    /// How often a `COPY` met rows that were stored already.
    pub conflicts: AtomicU64,
    /// Rows left out because another holder has claimed their vehicle since.
    pub stale: AtomicU64,
    /// Rows left out because they can't be stored.
    pub rejected: AtomicU64,
    /// Rows left out because their day has left the database: only the archive has them.
    pub retired: AtomicU64,
}

/// Stores records in `telemetry`. Every accepted batch is durable on return.
///
/// It connects when it must, and again after an error, so that making one needs no server.
/// Corrections, and rows that are stored already, change only vehicles whose epoch in
/// `vehicle_latest` is not newer than the batch's; a vehicle without a row there is anyone's.
pub struct TimescaleSink {
    connector: Connector,
    schema: Schema,
    session: Option<Session>,
    ids: VehicleIds,
    durable: u64,
    counters: Arc<SinkCounters>,
    patience: Patience,
    /// The server's process of the session, 0 before there is one.
    process: Arc<AtomicI32>,
    archived: bool,
}

impl std::fmt::Debug for TimescaleSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimescaleSink")
            .field("connector", &self.connector)
            .field("connected", &self.session.is_some())
            .field("durable", &self.durable)
            .finish_non_exhaustive()
    }
}

/// Rows `from..to` of the order, and how they go in.
#[derive(Debug, Clone, Copy)]
struct Task {
    from: usize,
    to: usize,
    merge: bool,
    /// Whether they need partitions that are not there.
    makes: bool,
    partitions_made: bool,
}

impl Task {
    /// A merge of a piece of rows that begin there.
    fn merge_of(self, piece: Range<usize>, begin: usize) -> Self {
        Self { from: begin + piece.start, to: begin + piece.end, merge: true, ..self }
    }
}

/// Rows that go in together: new ones, and those that may be there.
#[derive(Debug, Clone, Default)]
struct Piece {
    new: Vec<u32>,
    corrections: Vec<u32>,
}

impl TimescaleSink {
    /// A sink for records of this schema; it needs [`setup`](super::setup) to be done before its first
    /// batch.
    pub fn new(connector: Connector, schema: &Schema) -> Self {
        Self {
            connector,
            schema: schema.clone(),
            session: None,
            ids: VehicleIds::default(),
            durable: 0,
            counters: Arc::default(),
            patience: Patience::default(),
            process: Arc::default(),
            archived: false,
        }
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Another, with a session of its own, that counts together with this one.
    pub(super) fn beside(&self) -> Self {
        let counters = Arc::clone(&self.counters);
        Self { counters, archived: self.archived, ..Self::new(self.connector.clone(), &self.schema) }
    }

    /// Asks, for [`Retry`](fleet_core::sink::Retry::asking), whether the server answers while rows are written.
    pub fn pulse(&self) -> Pulse {
        pulse::pulse(&self.connector, &self.process)
    }

    /// The same for rows that an archive has or gets too: of days that have left the database for it they are only
    /// counted. Without that they are refused.
    #[must_use]
    pub fn beside_archive(mut self) -> Self {
        self.archived = true;
        self
    }

    /// Connects now, to learn at the start whether server, rights and tables are fit for use.
    ///
    /// # Errors
    /// As [`accept`](Sink::accept).
    pub async fn connect(&mut self) -> Result<()> {
        let session = self.take_session().await?;
        pooled::refuse(&self.connector, session.connection()).await?;
        self.session = Some(session);
        Ok(())
    }

    /// Counters that go on counting while the sink is owned elsewhere.
    pub fn counters(&self) -> Arc<SinkCounters> {
        Arc::clone(&self.counters)
    }

    /// The session leaves `self` while it is used, so that an error or a dropped future closes it.
    async fn take_session(&mut self) -> Result<Session> {
        if let Some(session) = self.session.take().filter(|s| !s.connection().is_closed()) {
            return Ok(session);
        }
        self.ids.clear();
        let session = Box::pin(Session::open(&self.connector, &self.schema)).await?;
        self.process.store(session.process(), Ordering::Relaxed);
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        Ok(session)
    }

    /// Stores the rows of a batch from a time on.
    async fn store(
        &mut self,
        session: &mut Session,
        batch: &Batch,
        from: Micros,
    ) -> Result<Vec<RejectedRow>> {
        let rows = Rows::of(batch)?;
        let vehicles: Vec<(&VehicleId, i32)> = batch.vehicles().iter().map(|v| (&v.id, v.epoch)).collect();
        let ids = self.ids.resolve(session.connection(), &vehicles).await?;
        let load = Load { rows: &rows, vehicles: batch.vehicles(), ids: &ids };

        let closed = session.closed(load).await?;
        let chosen: Vec<u32> = (0..u32::try_from(rows.len()).unwrap_or(u32::MAX))
            .filter(|&row| rows.ts(row as usize) >= from)
            .collect();
        let lacking = session.lacking(load, &chosen).await?;
        let mut rejected = Vec::new();
        let mut pieces = vec![Piece::default(); lacking.pieces()];
        pieces[0].new.reserve(chosen.len());
        for row in chosen {
            let correction = batch.corrections()[row as usize];
            let (vehicle, ts) = (rows.vehicle(row as usize), rows.ts(row as usize));
            let has_left = closed.contains(&ts.div_euclid(DAY));
            if has_left && self.archived {
                self.counters.retired.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let piece = match rows.refused(row as usize) {
                Some(why) => Err(why),
                None if has_left => Err(left(ts)),
                None => lacking.piece(vehicle, ts),
            };
            match piece {
                Err(why) => rejected.push(reject(batch, &rows, &self.schema, row as usize, why)),
                Ok(piece) if correction => pieces[piece].corrections.push(row),
                Ok(piece) => pieces[piece].new.push(row),
            }
        }

        let (mut order, mut tasks) = (Vec::with_capacity(rows.len()), Vec::new());
        for (n, Piece { mut new, mut corrections }) in pieces.into_iter().enumerate() {
            let makes = n > 0 && session.partitioned();
            let task = Task { from: 0, to: 0, merge: false, makes, partitions_made: false };
            sort(&mut new, load);
            let from = order.len();
            order.append(&mut new);
            tasks.push(Task { from, to: order.len(), ..task });
            let merges = pieces::cut(&mut corrections, load, session.width());
            let from = order.len();
            order.append(&mut corrections);
            tasks.extend(merges.into_iter().map(|piece| task.merge_of(piece, from)));
        }
        // What needs nothing new comes first: it waits for nobody else's partitions.
        tasks.reverse();
        let mut suspects = Suspects::default();
        while let Some(mut task) = tasks.pop() {
            let part = &order[task.from..task.to];
            if part.is_empty() {
                continue;
            }
            if std::mem::take(&mut task.makes) {
                session.make_partitions(load, part).await?;
                task.partitions_made = true;
            }
            match self.attempt(session, load, part, task.merge).await {
                Ok(()) => suspects.stored(part[0]),
                Err(Fault::Lost(error)) => return Err(error),
                Err(Fault::Duplicate) if !task.merge => {
                    self.counters.conflicts.fetch_add(1, Ordering::Relaxed);
                    let merges = pieces::cut(&mut order[task.from..task.to], load, session.width());
                    tasks.extend(merges.into_iter().rev().map(|piece| task.merge_of(piece, task.from)));
                }
                Err(Fault::NoPartition(_)) if session.partitioned() && !task.partitions_made => {
                    session.make_partitions(load, part).await?;
                    tasks.push(Task { partitions_made: true, ..task });
                }
                Err(Fault::Refused(why)) if part.len() == 1 => {
                    suspects.refused(part[0], why);
                    match suspects.doubt() {
                        Doubt::No => {}
                        Doubt::Known(row) => {
                            if self.attempt(session, load, &[row], true).await.is_err() {
                                return Err(suspects.error(self.connector.target()));
                            }
                            suspects.stored(row);
                        }
                        // Perhaps they are one vehicle's, and another's are stored.
                        Doubt::Unknown => {
                            if let Some(far) = tasks.iter().position(|task| task.from < task.to) {
                                let far = tasks.remove(far);
                                tasks.push(far);
                            }
                        }
                        Doubt::All => return Err(suspects.error(self.connector.target())),
                    }
                }
                Err(fault) if part.len() == 1 => {
                    rejected.push(reject(batch, &rows, &self.schema, part[0] as usize, why(fault)));
                }
                Err(_) => {
                    let middle = task.from + part.len() / 2;
                    tasks.push(Task { from: middle, ..task });
                    tasks.push(Task { to: middle, ..task });
                }
            }
        }
        if !suspects.is_empty() {
            let convicted = self.judge(session, load, &suspects, batch.sequence()).await?;
            let convicted = convicted.into_iter();
            rejected
                .extend(convicted.map(|(row, why)| reject(batch, &rows, &self.schema, row as usize, why)));
        }
        self.counters.rejected.fetch_add(rejected.len() as u64, Ordering::Relaxed);
        Ok(rejected)
    }

    /// Rows are to blame if they are refused once more, while one is taken that was taken before.
    async fn judge(
        &mut self,
        session: &mut Session,
        load: Load<'_>,
        suspects: &Suspects,
        batch: u64,
    ) -> Result<Vec<(u32, String)>> {
        let target = self.connector.target().to_owned();
        let refused = || suspects.error(&target);
        let Some(known) = suspects.known() else {
            // With none beside them to compare with, time must tell.
            let over = self.patience.is_over(batch);
            return if over { Ok(suspects.rows().to_vec()) } else { Err(refused()) };
        };
        let mut convicted = Vec::new();
        self.attempt(session, load, &[known], true).await.map_err(|_| refused())?;
        for (row, _) in suspects.rows() {
            match self.attempt(session, load, &[*row], true).await {
                Ok(()) => {}
                Err(Fault::Refused(why)) => convicted.push((*row, why)),
                Err(_) => return Err(refused()),
            }
        }
        self.attempt(session, load, &[known], true).await.map_err(|_| refused())?;
        Ok(convicted)
    }

    /// Takes the rows of a batch from that time on; the others are left out.
    pub(super) async fn accept_from(&mut self, batch: &Batch, from: Micros) -> Result<Progress> {
        let mut rejected = Vec::new();
        if !batch.is_empty() {
            if batch.record().num_columns() != self.schema.column_count() + 3 {
                return Err(Error::internal("a batch has another schema than its sink"));
            }
            let mut session = self.take_session().await?;
            rejected = self.store(&mut session, batch, from).await?;
            self.session = Some(session);
        }
        self.durable = batch.sequence();
        Ok(Progress { rejected, ..Progress::up_to(self.durable) })
    }

    /// Where the first hot chunk or partition of `telemetry` begins.
    pub(super) async fn hot_since(&mut self) -> Result<Micros> {
        let mut session = self.take_session().await?;
        let since = session.hot_since().await?;
        self.session = Some(session);
        Ok(since)
    }

    /// See [`ReplacingSink`](super::ReplacingSink).
    pub(super) async fn replace(&mut self, batch: &Batch, span: &Range<Micros>) -> Result<Progress> {
        let mut session = self.take_session().await?;
        let rows = Rows::of(batch)?;
        let vehicles: Vec<(&VehicleId, i32)> = batch.vehicles().iter().map(|v| (&v.id, v.epoch)).collect();
        let ids = self.ids.resolve(session.connection(), &vehicles).await?;
        let load = Load { rows: &rows, vehicles: batch.vehicles(), ids: &ids };
        let outside = |row: usize| {
            let outside = !span.contains(&rows.ts(row));
            rows.refused(row).or_else(|| outside.then(|| "ts is not within what is replaced".to_owned()))
        };
        let all = 0..u32::try_from(rows.len()).unwrap_or(u32::MAX);
        let mut bad: Vec<(u32, String)> =
            all.clone().filter_map(|row| Some((row, outside(row as usize)?))).collect();
        let mut order: Vec<u32> = all.filter(|row| outside(*row as usize).is_none()).collect();
        let closed = session.closed(load).await?;
        let is_open = |row: &u32| !closed.contains(&rows.ts(*row as usize).div_euclid(DAY));
        let closed: Vec<u32> = order.iter().copied().filter(|row| !is_open(row)).collect();
        order.retain(is_open);
        if self.archived {
            self.counters.retired.fetch_add(closed.len() as u64, Ordering::Relaxed);
        } else {
            bad.extend(closed.into_iter().map(|row| (row, left(rows.ts(row as usize)))));
        }
        sort(&mut order, load);
        let width = session.width().unwrap_or(DAY);
        for piece in pieces::replacements(load, &order, span, width, self.schema.interval()) {
            let replaced = session.replace(load, &piece).await.map_err(|fault| match fault {
                Fault::Lost(error) => error,
                other => Error::internal(why(other)),
            })?;
            bad.extend(replaced.bad);
            self.counters.copied.fetch_add(replaced.stored, Ordering::Relaxed);
            self.counters.deleted.fetch_add(replaced.deleted, Ordering::Relaxed);
            self.counters.stale.fetch_add(replaced.stale, Ordering::Relaxed);
        }
        self.counters.rejected.fetch_add(bad.len() as u64, Ordering::Relaxed);
        let rejected =
            bad.into_iter().map(|(row, why)| reject(batch, &rows, &self.schema, row as usize, why));
        let rejected = rejected.collect();
        self.session = Some(session);
        self.durable = batch.sequence();
        Ok(Progress { rejected, ..Progress::up_to(self.durable) })
    }

    async fn attempt(
        &self,
        session: &mut Session,
        load: Load<'_>,
        part: &[u32],
        merge: bool,
    ) -> Result<(), Fault> {
        if merge {
            let merged = session.merge(load, part).await?;
            self.counters.merged.fetch_add(merged.changed, Ordering::Relaxed);
            self.counters.stale.fetch_add(merged.stale, Ordering::Relaxed);
        } else {
            let copied = session.copy(load, part).await?;
            self.counters.copied.fetch_add(copied, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn left(ts: Micros) -> String {
    format!("ts {}: its day has left the database for the archive", display(ts))
}

fn why(fault: Fault) -> String {
    match fault {
        Fault::NoPartition(why) | Fault::Data(why) | Fault::Refused(why) => why,
        Fault::Duplicate => "another row has what a unique index of the table allows once".to_owned(),
        Fault::Lost(error) => error.to_string(),
    }
}

impl Sink for TimescaleSink {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        self.accept_from(batch, Micros::MIN).await
    }

    async fn flush(&mut self) -> Result<Progress> {
        Ok(Progress::up_to(self.durable))
    }

    /// One short query over the connection that batches take, which is opened if there is none.
    async fn probe(&mut self) -> Result<()> {
        let session = self.take_session().await?;
        session.connection().takes_writes().await?;
        self.session = Some(session);
        Ok(())
    }
}
