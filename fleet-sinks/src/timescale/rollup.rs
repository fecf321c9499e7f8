//! Roll-ups of the whole fleet per minute and per hour.
//!
//! On the community edition they are continuous aggregates. Elsewhere they are tables: who writes to
//! `telemetry` notes the minutes that it touched in the same transaction, and [`maintain`] makes the
//! roll-ups of those minutes anew. Until then the views read them from `telemetry`, so that they are
//! right at any time.
//!
//! [`maintain`]: super::maintain

pub(super) mod aggregates;
pub(super) mod tables;

use fleet_core::Schema;
use fleet_core::error::Result;
use fleet_core::schema::Column;

use super::connect::Connection;
use super::layout::Edition;
use super::sql::quote;

/// What keeps the roll-ups. It is chosen once, when they are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// TimescaleDB, as continuous aggregates.
    ByServer,
    /// [`maintain`](super::maintain), in tables.
    ByUs,
}

impl Kept {
    /// What is to be made: the server's own needs the licence, and a hypertable.
    pub(super) fn best(edition: Edition, partitioned: bool) -> Self {
        if edition == Edition::Community && !partitioned { Self::ByServer } else { Self::ByUs }
    }

    /// What was made; nothing before there were roll-ups.
    pub(super) async fn found(connection: &Connection) -> Result<Option<Self>> {
        let tables =
            "select to_regclass('fleet_touched') is not null, to_regclass('fleet_generation') is not null";
        let row = connection.client().query_one(tables, &[]).await;
        let row = row.map_err(connection.failed("look at the roll-ups"))?;
        Ok(match (row.get(0), row.get(1)) {
            (true, _) => Some(Self::ByUs),
            (_, true) => Some(Self::ByServer),
            _ => None,
        })
    }
}

/// Relations with a row per bucket and the columns of [`parts`], for the views to read.
pub(super) struct Rollups {
    pub(super) minute: String,
    pub(super) hour: String,
}

/// Where buckets begin: with every UTC minute and hour.
const ORIGIN: &str = "timestamptz '2000-01-01 00:00:00+00'";

fn bucket(width: &str, ts: &str) -> String {
    format!("date_bin('{width}', {ts}, {ORIGIN})")
}

/// The columns whose average means something: neither positions nor what wraps.
pub(super) fn averaged(schema: &Schema) -> impl Iterator<Item = &Column> {
    let signals = schema.signals().iter().filter(|s| s.interpolation != "great_circle");
    signals.flat_map(|s| &s.columns).filter(|c| !c.wraps)
}

fn averaged_names(schema: &Schema) -> Vec<String> {
    averaged(schema).map(|c| c.name.clone()).collect()
}

/// A column of a roll-up beside `ts`.
struct Part {
    name: String,
    /// Whose, unless it is the bucket's.
    column: Option<String>,
    kind: &'static str,
    /// From rows of `telemetry`.
    of_rows: String,
    /// From roll-ups of shorter buckets; the vehicles of two minutes can't be added up.
    of_parts: Option<String>,
}

/// What a roll-up keeps for these columns: sums and counts, which unlike averages can be added up.
fn parts(columns: &[String]) -> Vec<Part> {
    let part = |column: Option<&String>, name: &str, kind, of_rows: String, add: Option<&str>| {
        let name = column.map_or_else(|| name.to_owned(), |column| format!("{column}_{name}"));
        let of_parts = add.map(|add| format!("{add}({})", quote(&name)));
        // The sum of bigint is numeric.
        let of_parts = of_parts.map(|sum| if kind == "bigint" { format!("{sum}::bigint") } else { sum });
        Part { name, column: column.cloned(), kind, of_rows, of_parts }
    };
    let mut parts = vec![
        part(None, "vehicles", "bigint", "count(distinct vehicle_id)".to_owned(), None),
        part(None, "records", "bigint", "count(*)".to_owned(), Some("sum")),
    ];
    for name in columns {
        let (of, c) = (Some(name), quote(name));
        parts.push(part(of, "n", "bigint", format!("count({c})"), Some("sum")));
        parts.push(part(of, "sum", "float8", format!("sum({c}::float8)"), Some("sum")));
        parts.push(part(of, "min", "float8", format!("min({c}::float8)"), Some("min")));
        parts.push(part(of, "max", "float8", format!("max({c}::float8)"), Some("max")));
    }
    parts
}

/// The averaged columns that a roll-up has.
async fn columns_of(connection: &Connection, rollup: &str) -> Result<Vec<String>> {
    let rows = connection
        .client()
        .query(
            "select left(attname::text, -2) from pg_attribute where attrelid = to_regclass($1) \
             and attnum > 0 and not attisdropped and attname like '%\\_n' order by attnum",
            &[&rollup],
        )
        .await
        .map_err(connection.failed("look at the roll-ups"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn list<'a>(items: impl IntoIterator<Item = &'a Part>, show: impl Fn(&Part) -> String) -> String {
    items.into_iter().map(show).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_have_no_average() {
        let names = averaged_names(&Schema::default());
        assert_eq!(names, ["speed_kmh", "fuel_level_pct", "brake_fluid_temp_c"]);
    }

    #[test]
    fn everything_but_vehicles_adds_up() {
        let parts = parts(&averaged_names(&Schema::default()));
        assert_eq!(parts.len(), 2 + 3 * 4);
        let not: Vec<_> = parts.iter().filter(|p| p.of_parts.is_none()).map(|p| p.name.as_str()).collect();
        assert_eq!(not, ["vehicles"]);
    }
}
