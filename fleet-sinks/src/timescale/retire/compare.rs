//! Whether all that the database has of a day is in the archive.

use std::ops::Range;

use fleet_core::batch::{Quality, Record};
use fleet_core::error::Result;
use fleet_core::schema::ColumnType;
use fleet_core::time::{Micros, display};
use fleet_core::{Schema, VehicleId};
use futures_util::TryStreamExt;
use hashbrown::HashMap;
use tokio_postgres::types::ToSql;

use super::super::connect::Connection;
use super::super::sql::quote;
use super::super::value::Time;
use super::checksum::{Checksum, select};
use crate::parquet::{Day, VehicleRecords};

/// What a comparison came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The archive has all of it: so many rows.
    All(u64),
    /// What it lacks, in words.
    Lacking(String),
}

/// Compares what the database has of a span with an archive's day that holds it: of each vehicle number and checksum
/// of its rows, and where they differ row by row. The archive may have more: rows that the database has lost, or
/// signals of them.
///
/// The server adds its rows up; of each vehicle two numbers are held, and of the archive a few vehicles at a time.
pub(super) async fn compare(
    connection: &Connection,
    schema: &Schema,
    day: &Day,
    span: Range<Micros>,
) -> Result<Found> {
    let mut stored = match checksums(connection, schema, &span).await? {
        Ok(stored) => stored,
        Err(why) => return Ok(Found::Lacking(why)),
    };
    let rows = stored.values().map(|checksum| checksum.rows).sum();
    if stored.is_empty() {
        return Ok(Found::All(0));
    }
    let mut archived = day.records(schema, span.clone());
    while let Some(next) = archived.recv().await {
        let VehicleRecords { vehicle, records } = next?;
        let Some(checksum) = stored.remove(&vehicle) else { continue };
        if checksum != Checksum::of(schema, &records)
            && let Some(why) = lacking(connection, schema, &vehicle, &records, &span).await?
        {
            return Ok(Found::Lacking(why));
        }
    }
    Ok(match stored.into_iter().min_by(|(a, _), (b, _)| a.cmp(b)) {
        None => Found::All(rows),
        Some((vehicle, Checksum { rows, .. })) => {
            let (from, to) = (display(span.start), display(span.end));
            Found::Lacking(format!("the archive lacks all {rows} records of {vehicle} from {from} to {to}"))
        }
    })
}

type Checksums = HashMap<VehicleId, Checksum>;

/// What the database has of the span, by vehicle; or what of it nobody can know, in words.
async fn checksums(
    connection: &Connection,
    schema: &Schema,
    span: &Range<Micros>,
) -> Result<std::result::Result<Checksums, String>> {
    const WHAT: &str = "add up records";
    let (from, to) = (Time(span.start), Time(span.end));
    let parameters: [&(dyn ToSql + Sync); 2] = [&from, &to];
    let rows = connection.client().query_raw(&select(schema), parameters).await;
    let mut rows = std::pin::pin!(rows.map_err(connection.failed(WHAT))?);
    let mut stored = HashMap::new();
    while let Some(row) = rows.try_next().await.map_err(connection.failed(WHAT))? {
        let vin: Option<&str> = row.get(0);
        let vehicle = vin.and_then(|vin| VehicleId::new(vin).ok());
        let checksum = Checksum::read(row.get(1), row.get(2));
        let (Some(vehicle), Some(checksum)) = (vehicle, checksum) else {
            let name = vin.map_or("null".to_owned(), |vin| format!("{vin:?}"));
            return Ok(Err(format!("it has records of a vehicle that the archive can't name: {name}")));
        };
        stored.insert(vehicle, checksum);
    }
    Ok(Ok(stored))
}

/// What the archive lacks of a vehicle's rows, in words.
async fn lacking(
    connection: &Connection,
    schema: &Schema,
    vehicle: &VehicleId,
    archived: &[(Micros, Record)],
    span: &Range<Micros>,
) -> Result<Option<String>> {
    let values: String = schema.columns().map(|c| format!(", {}", quote(&c.name))).collect();
    let select = format!(
        "select ts, quality{values} from telemetry \
         where vehicle_id = (select vehicle_id from vehicle where vin = $1) and ts >= $2 and ts < $3 order by ts"
    );
    let (from, to) = (Time(span.start), Time(span.end));
    let rows = connection.client().query(&select, &[&vehicle.as_str(), &from, &to]).await;
    let rows = rows.map_err(connection.failed("look at records"))?;
    Ok(rows.iter().find_map(|row| {
        let Time(ts) = row.get(0);
        let there = archived.binary_search_by_key(&ts, |(ts, _)| *ts).ok().map(|i| &archived[i].1);
        let Some(there) = there else {
            return Some(format!("the archive lacks the record of {vehicle} at {}", display(ts)));
        };
        let signal = differing(schema, &record(schema, row), there)?;
        Some(format!("the archive has another {signal} of {vehicle} at {}", display(ts)))
    }))
}

fn record(schema: &Schema, row: &tokio_postgres::Row) -> Record {
    let value = |(i, kind)| match kind {
        ColumnType::Double => row.get::<_, Option<f64>>(i),
        ColumnType::Real => row.get::<_, Option<f32>>(i).map(f64::from),
    };
    let values = (2..).zip(schema.columns().map(|c| c.kind)).map(value).collect();
    Record { values, quality: row.get(1) }
}

/// A signal that a stored record has and the archive's has not, or not so.
fn differing<'a>(schema: &'a Schema, stored: &Record, archived: &Record) -> Option<&'a str> {
    let signals = schema.signals().iter().enumerate();
    let differs = |(s, signal): (usize, &'a fleet_core::schema::Signal)| {
        let (quality, columns) = (Quality::of(stored.quality, s), signal.column_range());
        let same = quality == Quality::of(archived.quality, s)
            && stored.values[columns.clone()] == archived.values[columns];
        (quality != Quality::Missing && !same).then_some(signal.name.as_str())
    };
    signals.filter_map(differs).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_may_have_more_signals_but_no_other_values() {
        let schema = Schema::default();
        let record = |speed: Option<f64>, fuel: Option<f64>| {
            let mut record = Record::empty(&schema);
            for (s, value) in [(1, speed), (2, fuel)] {
                if let Some(value) = value {
                    record.values[schema.signals()[s].column_range()].fill(Some(value));
                    record.quality = Quality::Measured.put(record.quality, s);
                }
            }
            record
        };
        let differs = |stored: &Record, archived: &Record| differing(&schema, stored, archived);
        let (both, speed) = (record(Some(1.0), Some(2.0)), record(Some(1.0), None));
        assert_eq!(differs(&speed, &both), None);
        assert_eq!(differs(&record(Some(0.0), None), &record(Some(-0.0), None)), None);
        assert_eq!(differs(&both, &speed), Some("fuel"));
        assert_eq!(differs(&record(Some(1.5), None), &both), Some("speed"));
        let held = Record { quality: Quality::Held.at(1), ..speed.clone() };
        assert_eq!(differs(&held, &speed), Some("speed"));
    }
}
