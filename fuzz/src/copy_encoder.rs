//! The COPY encoder of fleet-sinks: read back by PostgreSQL's description of the format, it is the rows, each
//! value as the library's own writer makes it.

use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use fleet_core::batch::{Batch, BatchBuilder, Row};
use fleet_core::schema::ColumnType;
use fleet_core::sink::memory;
use fleet_core::time::{Micros, YEAR_2000, YEAR_2200};
use fleet_core::{Schema, VehicleId};
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::encode::{Rows, begin, end};

const IDS: [i32; 3] = [7, -1, i32::MAX];

/// Asserts what must hold of the rows that are made of `bytes`.
pub fn check(bytes: &[u8]) {
    let schema = Schema::default();
    let batch = batch(&schema, bytes);
    let rows = Rows::of(&batch).expect("a batch has the columns of a batch");
    let stored = memory::rows(&batch);
    assert_eq!(rows.len(), stored.len());
    let (mut taken, mut expected) = (Vec::new(), Vec::new());
    for (i, row) in (0_u32..).zip(&stored) {
        let refused = rows.refused(i as usize).is_some();
        assert_eq!(refused, !(YEAR_2000..YEAR_2200).contains(&row.1), "{row:?}");
        if !refused {
            taken.push(i);
            expected.push(row);
        }
    }
    let mut copy = BytesMut::new();
    begin(&mut copy);
    for part in taken.chunks(3) {
        rows.encode(part, &IDS, &mut copy);
    }
    end(&mut copy);
    read(&schema, &mut &copy[..], &expected);
}

/// Rows of 58 bytes: vehicle, correction, time, five values, quality. Every other vehicle's times are
/// put into the years that are taken.
fn batch(schema: &Schema, bytes: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new(schema);
    for name in ["a", "b", "c"] {
        builder.vehicle(&VehicleId::new(name).expect("an identifier"), 1);
    }
    for mut row in bytes.chunks_exact(58) {
        let (vehicle, correction) = (row.get_u8() % 6, row.get_u8() % 2 == 1);
        let ts = match (vehicle % 2, row.get_i64()) {
            (0, ts) => YEAR_2000 + ts.rem_euclid(YEAR_2200 - YEAR_2000),
            (_, ts) => ts,
        };
        let values = [(); 5].map(|()| row.get_f64());
        let quality = row.get_i64();
        builder.push(i32::from(vehicle / 2), Row { ts, values: &values, quality, correction });
    }
    builder.seal().expect("Arrow takes the columns")
}

/// The header, then fields with their lengths row by row, then the trailer and nothing else.
fn read(schema: &Schema, copy: &mut &[u8], expected: &[&(usize, Micros, fleet_core::batch::Record)]) {
    let mut signature = [0; 11];
    copy.copy_to_slice(&mut signature);
    assert_eq!(signature, *b"PGCOPY\n\xff\r\n\0");
    assert_eq!((copy.get_i32(), copy.get_i32()), (0, 0), "no flags, no extension");
    for (vehicle, ts, row) in expected {
        assert_eq!(usize::try_from(copy.get_i16()), Ok(schema.column_count() + 3));
        let ts = SystemTime::UNIX_EPOCH + Duration::from_micros(ts.unsigned_abs());
        assert_eq!(field(copy), written(ts, &Type::TIMESTAMPTZ).as_deref());
        assert_eq!(field(copy), written(IDS[*vehicle], &Type::INT4).as_deref());
        for (column, &value) in schema.columns().zip(&row.values) {
            let expected = match column.kind {
                ColumnType::Double => written(value, &Type::FLOAT8),
                ColumnType::Real => written(value.map(|value| value as f32), &Type::FLOAT4),
            };
            assert_eq!(field(copy), expected.as_deref(), "{}", column.name);
        }
        assert_eq!(field(copy), written(row.quality, &Type::INT8).as_deref());
    }
    assert_eq!(copy.get_i16(), -1);
    assert!(copy.is_empty(), "{} bytes are left over", copy.len());
}

/// A field's bytes, or nothing for NULL.
fn field<'a>(copy: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(copy.get_i32()).ok()?;
    let (field, rest) = copy.split_at(len);
    *copy = rest;
    Some(field)
}

/// What the library's writer puts into a field, or nothing for NULL.
fn written(value: impl ToSql, kind: &Type) -> Option<Vec<u8>> {
    let mut out = BytesMut::new();
    match value.to_sql(kind, &mut out).expect("a type of its own") {
        IsNull::Yes => None,
        IsNull::No => Some(out.to_vec()),
    }
}
