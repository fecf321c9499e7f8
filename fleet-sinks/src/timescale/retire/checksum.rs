//! What rows come to: their number, and the sum of a hash of each, in whatever order. The server and this program
//! compute the same of the same values.
//!
//! A row's hash is the first eight bytes of SHA-256 of its time, its quality and its values as PostgreSQL's
//! `record_send` writes them: the number of columns, and of each its type and, unless it is NULL, its length and
//! its bits. Minus zero counts as zero, as it does when rows are merged.

use fleet_core::Schema;
use fleet_core::batch::Record;
use fleet_core::schema::ColumnType;
use fleet_core::time::{Micros, YEAR_2000};
use sha2::{Digest, Sha256};
use tokio_postgres::types::Type;

use super::super::sql::quote;

/// What rows come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checksum {
    pub(super) rows: u64,
    sum: i128,
}

impl Checksum {
    /// Of rows that a server has added up; it writes the sum as text.
    pub(super) fn read(rows: i64, sum: &str) -> Option<Self> {
        Some(Self { rows: rows.unsigned_abs(), sum: sum.parse().ok()? })
    }

    pub(super) fn of(schema: &Schema, records: &[(Micros, Record)]) -> Self {
        let (mut all, mut bytes) = (Self::default(), Vec::new());
        for (ts, record) in records {
            bytes.clear();
            write(schema, *ts, record, &mut bytes);
            let hash = Sha256::digest(&bytes);
            let mut first = [0; 8];
            first.copy_from_slice(&hash[..8]);
            all.rows += 1;
            all.sum += i128::from(i64::from_be_bytes(first));
        }
        all
    }
}

/// Per vehicle its name (null if it has none), how many rows it has from `$1` to before `$2`, and their sum.
pub(super) fn select(schema: &Schema) -> String {
    let zero = |kind| match kind {
        ColumnType::Double => "float8",
        ColumnType::Real => "float4",
    };
    let values: String =
        schema.columns().map(|c| format!(", {} + 0::{}", quote(&c.name), zero(c.kind))).collect();
    let hash = format!("sha256(record_send(row(ts, quality{values})))");
    format!(
        "select v.vin, t.n, t.s::text from ( \
           select vehicle_id, count(*) as n, \
             sum(('x' || encode(substr({hash}, 1, 8), 'hex'))::bit(64)::bigint) as s \
           from telemetry where ts >= $1 and ts < $2 group by vehicle_id) t \
         left join vehicle v using (vehicle_id)"
    )
}

fn write(schema: &Schema, ts: Micros, record: &Record, out: &mut Vec<u8>) {
    let columns = u32::try_from(schema.column_count() + 2).unwrap_or(u32::MAX);
    out.extend(columns.to_be_bytes());
    field(out, &Type::TIMESTAMPTZ, Some(&(ts - YEAR_2000).to_be_bytes()));
    field(out, &Type::INT8, Some(&record.quality.to_be_bytes()));
    for (column, value) in schema.columns().zip(&record.values) {
        match column.kind {
            ColumnType::Double => {
                field(out, &Type::FLOAT8, value.map(|value| (value + 0.0).to_be_bytes()).as_ref());
            }
            #[allow(clippy::cast_possible_truncation, reason = "it is one")]
            ColumnType::Real => {
                field(out, &Type::FLOAT4, value.map(|value| (value as f32 + 0.0).to_be_bytes()).as_ref());
            }
        }
    }
}

fn field<const N: usize>(out: &mut Vec<u8>, kind: &Type, value: Option<&[u8; N]>) {
    out.extend(kind.oid().to_be_bytes());
    match value {
        Some(value) => {
            out.extend(u32::try_from(N).unwrap_or(u32::MAX).to_be_bytes());
            out.extend(value);
        }
        None => out.extend((-1_i32).to_be_bytes()),
    }
}
