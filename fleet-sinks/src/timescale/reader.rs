//! Reads for people who look: the newest record of every vehicle, and one vehicle's of late.

use std::time::Duration;

use fleet_core::batch::Record;
use fleet_core::error::{Error, Result};
use fleet_core::schema::ColumnType;
use fleet_core::time::Micros;
use fleet_core::{Schema, VehicleId};
use tokio::sync::Mutex;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::connect::{Connection, Connector};
use super::sql::quote;
use super::value::Time;

/// No answer within this is none; the server gives up a little earlier by itself.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A transaction's settings and not the session's, so that a pooler may stand between.
const BEGIN: &str = "begin read only; set local statement_timeout = '2500ms'";

/// Reads over one small connection of its own, one question at a time, and never writes.
///
/// It connects when it must. A question that fails, takes longer than 3 s or is dropped half-way
/// closes the connection.
pub struct TimescaleReader {
    connector: Connector,
    schema: Schema,
    connection: Mutex<Option<Connection>>,
}

impl std::fmt::Debug for TimescaleReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TimescaleReader").field("connector", &self.connector).finish_non_exhaustive()
    }
}

/// The fleet as it was stored last.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Vehicles that have a record.
    pub vehicles: u64,
    /// Those of them that are on.
    pub on: u64,
    /// The vehicles with the newest records, newest first.
    pub newest: Vec<Newest>,
}

/// A vehicle with its newest record.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// Whether its last trip has no end.
    pub on: bool,
    /// The record's instant.
    pub ts: Micros,
    /// What it holds; values that it lacks are those of the record before.
    pub record: Record,
}

impl TimescaleReader {
    /// A reader of the records that are made by `schema`. Connects on the first question.
    pub fn new(connector: Connector, schema: &Schema) -> Self {
        Self { connector, schema: schema.clone(), connection: Mutex::new(None) }
    }

    /// How many vehicles there are, and the newest records of at most `most` of them. States are saved
    /// coalesced, so that these are as old as the workers' `save_interval` at most.
    ///
    /// # Errors
    /// [`Unavailable`](fleet_core::ErrorKind::Unavailable) when there is no answer in time,
    /// [`Configuration`](fleet_core::ErrorKind::Configuration) when rights or tables are missing.
    pub async fn fleet(&self, most: u32) -> Result<Fleet> {
        let columns = self.columns();
        let select = format!(
            "select ts, {columns}quality, vin, is_on, count(*) over (), \
               count(*) filter (where is_on) over () \
             from fleet_last order by ts desc, vin limit $1"
        );
        let rows = self.query("read the newest records", &select, &[&i64::from(most)]).await?;
        let mut fleet = Fleet { vehicles: 0, on: 0, newest: Vec::with_capacity(rows.len()) };
        let at = self.schema.column_count() + 2;
        for row in rows {
            // A name that no message could bring was put there by hand.
            let Ok(vehicle) = VehicleId::new(row.get(at)) else { continue };
            let count = |i: usize| row.get::<_, i64>(i).unsigned_abs();
            (fleet.vehicles, fleet.on) = (count(at + 2), count(at + 3));
            let (ts, record) = self.record(&row);
            fleet.newest.push(Newest { vehicle, on: row.get(at + 1), ts, record });
        }
        Ok(fleet)
    }

    /// The records of one vehicle in the last `span` microseconds before its newest, oldest first; of
    /// more than `most` the newest. `None` where the vehicle has none at all.
    ///
    /// # Errors
    /// As [`fleet`](Self::fleet).
    pub async fn records(
        &self,
        vehicle: &VehicleId,
        span: Micros,
        most: u32,
    ) -> Result<Option<Vec<(Micros, Record)>>> {
        const NEWEST: &str = "select vehicle_id, ts from fleet_last where vin = $1";
        let what = "read a vehicle's records";
        let found = self.query(what, NEWEST, &[&vehicle.as_str()]).await?;
        let Some(found) = found.first() else { return Ok(None) };
        let (id, newest): (i32, Time) = (found.get(0), found.get(1));
        // With the times as parameters only the chunks in question are looked at.
        let columns = self.columns();
        let select = format!(
            "select ts, {columns}quality from telemetry \
             where vehicle_id = $1 and ts > $2 order by ts desc limit $3"
        );
        let since = Time(newest.0.saturating_sub(span));
        let rows = self.query(what, &select, &[&id, &since, &i64::from(most)]).await?;
        Ok(Some(rows.iter().rev().map(|row| self.record(row)).collect()))
    }

    /// `"latitude", …, `
    fn columns(&self) -> String {
        self.schema.columns().map(|c| quote(&c.name) + ", ").collect()
    }

    /// Of a row that begins with `ts`, the columns and `quality`.
    fn record(&self, row: &Row) -> (Micros, Record) {
        let value = |(i, kind)| match kind {
            ColumnType::Double => row.get::<_, Option<f64>>(i),
            ColumnType::Real => row.get::<_, Option<f32>>(i).map(f64::from),
        };
        let values = self.schema.columns().enumerate().map(|(i, c)| value((i + 1, c.kind))).collect();
        let quality = row.get(self.schema.column_count() + 1);
        (row.get::<_, Time>(0).0, Record { values, quality })
    }

    async fn query(&self, what: &str, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>> {
        let mut kept = self.connection.lock().await;
        let asked = Box::pin(async {
            let connection = match kept.take().filter(|c| !c.is_closed()) {
                Some(connection) => connection,
                None => self.connector.connect().await?,
            };
            let client = connection.client();
            let rows = async {
                client.batch_execute(BEGIN).await?;
                let rows = client.query(sql, values).await?;
                client.batch_execute("commit").await?;
                Ok(rows)
            };
            let rows = rows.await.map_err(connection.failed(what))?;
            Ok((connection, rows))
        });
        let late = |_| {
            let target = self.connector.target();
            Error::unavailable(format!("could not {what}: {target} did not answer within {TIMEOUT:?}"))
        };
        let (connection, rows) = tokio::time::timeout(TIMEOUT, asked).await.map_err(late)??;
        *kept = Some(connection);
        Ok(rows)
    }
}
