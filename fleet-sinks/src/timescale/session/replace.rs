//! Rows of a span of time in place of all that are there.

use tokio_postgres::types::ToSql;

use super::super::days;
use super::super::pieces::Replacement;
use super::super::rollup::tables;
use super::super::value::Time;
use super::{BEGIN, Fault, Load, Session, Verdict, fault, send};
use fleet_core::error::Result;

/// What a replacement did.
#[derive(Debug, Default)]
pub(in super::super) struct Replaced {
    /// Rows that were there before.
    pub(in super::super) deleted: u64,
    /// Rows that are there now.
    pub(in super::super) stored: u64,
    /// Rows that can't be stored, and why.
    pub(in super::super) bad: Vec<(u32, String)>,
    /// Vehicles that were left alone because of a newer claim.
    pub(in super::super) stale: u64,
}

const WHAT: &str = "replace records";

impl Session {
    /// Deletes what there is of a piece and stores its rows, in one transaction. A row that can't be stored is left
    /// out.
    pub(in super::super) async fn replace(
        &mut self,
        load: Load<'_>,
        piece: &Replacement,
    ) -> Result<Replaced, Fault> {
        if self.partitioned() {
            self.make_partitions(load, &piece.rows).await?;
        }
        // Again only if a vehicle was claimed meanwhile, which then is left alone.
        loop {
            self.run(WHAT, BEGIN).await?;
            days::hold(&self.connection, &self.late_days(load, &piece.rows)).await?;
            if let Some(replaced) = self.replace_within(load, piece).await? {
                self.commit(WHAT).await?;
                return Ok(replaced);
            }
            self.run(WHAT, "rollback").await?;
        }
    }

    /// The same within a transaction; nothing if it must be rolled back because of a new claim.
    async fn replace_within(
        &mut self,
        load: Load<'_>,
        piece: &Replacement,
    ) -> Result<Option<Replaced>, Fault> {
        let claims = self.claims(load, piece.vehicles.iter().copied()).await?;
        let fresh = claims.ids(load);
        let stale = (piece.vehicles.len() - fresh.len()) as u64;
        let mut replaced = Replaced { stale, ..Replaced::default() };
        let delete = tables::delete("vehicle_id = any($1) and ts >= $2 and ts < $3", self.touch.is_some());
        let span: [&(dyn ToSql + Sync); 3] = [&fresh, &Time(piece.span.start), &Time(piece.span.end)];
        let deleted = self.connection.client().query_one(&delete, &span).await;
        let deleted = deleted.map_err(|e| Fault::Lost(self.connection.error(WHAT, &e)))?;
        replaced.deleted = deleted.get::<_, i64>(0).unsigned_abs();
        let is_fresh = |row: &u32| claims.is_fresh(load.rows.vehicle(*row as usize));
        let rows: Vec<u32> = piece.rows.iter().copied().filter(is_fresh).collect();
        self.touch(WHAT, load, &rows).await?;
        let mut parts = vec![&rows[..]];
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            self.run(WHAT, "savepoint part").await?;
            let sink = self.connection.client().copy_in(&self.copy).await;
            let sink = sink.map_err(|e| self.connection.error(WHAT, &e))?;
            match send(sink, load, part, &mut self.buffer).await {
                Ok(stored) => {
                    replaced.stored += stored;
                    self.run(WHAT, "release part").await?;
                    continue;
                }
                Err(error) => match self.connection.verdict(&error) {
                    Verdict::Data | Verdict::Duplicate | Verdict::NoPartition if part.len() == 1 => {
                        replaced.bad.push((part[0], fault::describe(&error)));
                    }
                    Verdict::Data | Verdict::Duplicate | Verdict::NoPartition => {
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                    _ => return Err(Fault::Lost(self.connection.error(WHAT, &error))),
                },
            }
            self.run(WHAT, "rollback to part").await?;
        }
        Ok(self.still_hold(load, &claims).await?.then_some(replaced))
    }
}
