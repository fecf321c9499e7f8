//! Times as PostgreSQL has them.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use fleet_core::time::{Micros, YEAR_2000};
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

/// A `timestamptz`: microseconds since 1970 here, since 2000 on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Time(pub(super) Micros);

impl ToSql for Time {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let wire = self.0.checked_sub(YEAR_2000).ok_or("a time before what PostgreSQL can hold")?;
        out.put_i64(wire);
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Time {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let wire = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(wire.checked_add(YEAR_2000).ok_or("a time after what a program can hold")?))
    }

    accepts!(TIMESTAMPTZ);
}

/// For columns and arrays of nullable times.
pub(super) fn times(micros: &[Option<Micros>]) -> Vec<Option<Time>> {
    micros.iter().map(|t| t.map(Time)).collect()
}

/// The way back of [`times`].
pub(super) fn micros(times: Vec<Option<Time>>) -> Vec<Option<Micros>> {
    times.into_iter().map(|t| t.map(|t| t.0)).collect()
}
