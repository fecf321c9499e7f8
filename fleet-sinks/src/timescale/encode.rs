//! Rows of a batch in PostgreSQL's binary `COPY` format.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, Float32Array, Float64Array};
use bytes::{BufMut, Bytes, BytesMut};
use fleet_core::batch::{Batch, FIRST_VALUE_COLUMN};
use fleet_core::time::{self, Micros, YEAR_2000, YEAR_2200};
use fleet_core::{Error, error::Result};

/// The signature, no flags, no header extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: i16 = -1;
const NULL: i32 = -1;

/// A batch's columns by their types.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    ts: &'a [Micros],
    keys: &'a [i32],
    pub(super) values: Vec<Values<'a>>,
    quality: &'a [i64],
}

#[derive(Debug)]
pub(super) enum Values<'a> {
    Double(&'a Float64Array),
    Real(&'a Float32Array),
}

impl<'a> Rows<'a> {
    /// # Errors
    /// [`Internal`](fleet_core::ErrorKind::Internal) if the columns are not those of a batch.
    pub(super) fn of(batch: &'a Batch) -> Result<Self> {
        let record = batch.record();
        let view = || {
            let last = record.num_columns().checked_sub(1)?;
            let column = |c: usize| {
                let array = record.column(c);
                let double = array.as_primitive_opt::<Float64Type>().map(Values::Double);
                double.or_else(|| array.as_primitive_opt::<Float32Type>().map(Values::Real))
            };
            Some(Self {
                ts: record.column(0).as_primitive_opt::<TimestampMicrosecondType>()?.values(),
                keys: record.column(1).as_dictionary_opt::<Int32Type>()?.keys().values(),
                values: (FIRST_VALUE_COLUMN..last).map(column).collect::<Option<_>>()?,
                quality: record.column(last).as_primitive_opt::<Int64Type>()?.values(),
            })
        };
        view().ok_or_else(|| Error::internal("a batch has columns of unknown types"))
    }

    pub(super) fn len(&self) -> usize {
        self.ts.len()
    }

    pub(super) fn ts(&self, row: usize) -> Micros {
        self.ts[row]
    }

    pub(super) fn quality(&self, row: usize) -> i64 {
        self.quality[row]
    }

    /// The row's vehicle, as an index into the batch's.
    pub(super) fn vehicle(&self, row: usize) -> usize {
        #[allow(clippy::cast_sign_loss, reason = "keys are positions")]
        let key = self.keys[row] as usize;
        key
    }

    /// A value, NaN for none.
    pub(super) fn value(&self, row: usize, column: usize) -> f64 {
        match &self.values[column] {
            Values::Double(array) if array.is_valid(row) => array.value(row),
            Values::Real(array) if array.is_valid(row) => array.value(row).into(),
            _ => f64::NAN,
        }
    }

    /// A value as JSON has it.
    pub(super) fn json(&self, row: usize, column: usize) -> serde_json::Value {
        match &self.values[column] {
            Values::Double(array) if array.is_valid(row) => array.value(row).into(),
            Values::Real(array) if array.is_valid(row) => array.value(row).into(),
            _ => serde_json::Value::Null,
        }
    }

    /// Whether the row's time is one that a sample can have. Others are valid to PostgreSQL, and would
    /// make chunks in the year 290000.
    pub(super) fn is_possible(&self, row: usize) -> bool {
        (YEAR_2000..YEAR_2200).contains(&self.ts[row])
    }

    /// Why the row can't be stored, if its time is not [possible](Self::is_possible).
    pub(super) fn refused(&self, row: usize) -> Option<String> {
        (!self.is_possible(row))
            .then(|| format!("ts {} is not between the years 2000 and 2200", time::display(self.ts[row])))
    }

    /// Appends these rows, none of which may be [`refused`](Self::refused): ts, vehicle id, values,
    /// quality. `ids` gives each vehicle of the batch its id. [`begin`] comes before, [`end`] after.
    pub(super) fn encode(&self, rows: &[u32], ids: &[i32], out: &mut BytesMut) {
        out.reserve(rows.len() * self.widest());
        #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "at most 500")]
        let fields = (self.values.len() + 3) as i16;
        for &row in rows {
            let row = row as usize;
            out.put_i16(fields);
            eight(out, self.ts[row].wrapping_sub(YEAR_2000).to_be_bytes());
            four(out, ids[self.vehicle(row)].to_be_bytes());
            for values in &self.values {
                match values {
                    Values::Double(array) if array.is_valid(row) => {
                        eight(out, array.value(row).to_be_bytes());
                    }
                    Values::Real(array) if array.is_valid(row) => four(out, array.value(row).to_be_bytes()),
                    _ => out.put_i32(NULL),
                }
            }
            eight(out, self.quality[row].to_be_bytes());
        }
    }

    /// Bytes of a row without NULLs.
    pub(super) fn widest(&self) -> usize {
        2 + 12 + 8 + 12 * (self.values.len() + 1)
    }
}

/// Appends what a `COPY` begins with.
pub(super) fn begin(out: &mut BytesMut) {
    out.put_slice(HEADER);
}

/// Appends what a `COPY` ends with.
pub(super) fn end(out: &mut BytesMut) {
    out.put_i16(TRAILER);
}

/// These rows of a batch as one `COPY`, for the benchmark that compares the sink with it.
///
/// # Errors
/// [`Internal`](fleet_core::ErrorKind::Internal) if the columns are not those of a batch.
pub fn copy_of(batch: &Batch, order: &[u32], ids: &[i32]) -> Result<Bytes> {
    let (rows, mut out) = (Rows::of(batch)?, BytesMut::new());
    begin(&mut out);
    rows.encode(order, ids, &mut out);
    end(&mut out);
    Ok(out.freeze())
}

/// A field of eight bytes with its length before it, in one step: this runs once per value.
fn eight(out: &mut BytesMut, value: [u8; 8]) {
    let mut field = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    field[4..].copy_from_slice(&value);
    out.put_slice(&field);
}

fn four(out: &mut BytesMut, value: [u8; 4]) {
    let mut field = [0, 0, 0, 4, 0, 0, 0, 0];
    field[4..].copy_from_slice(&value);
    out.put_slice(&field);
}
