//! What the database has: its edition, and whether its tables fit the configured signals.

use fleet_core::schema::Signal;
use fleet_core::{Error, Schema, error::Result};

use super::connect::{Connection, Connector};
use super::pooled;
use super::sql::{Has, type_name};

/// What can be used of TimescaleDB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edition {
    /// TimescaleDB under its own licence: hypertables, compression, continuous aggregates, policies.
    Community,
    /// TimescaleDB's Apache edition: hypertables without the rest.
    Apache,
    /// PostgreSQL without TimescaleDB: native partitions.
    Plain,
}

impl std::fmt::Display for Edition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Community => "community",
            Self::Apache => "Apache",
            Self::Plain => "plain PostgreSQL",
        })
    }
}

/// Checks, without changing anything, that [`setup`](super::setup) was done for these signals.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) names every table, column or signal that
/// does not fit, with what was found and what is wanted; also where a pooler keeps no sessions.
pub async fn check(connector: &Connector, schema: &Schema) -> Result<Edition> {
    let connection = connector.connect().await?;
    pooled::refuse(connector, &connection).await?;
    require(&connection, schema, Later::Refused).await?;
    edition(&connection).await
}

/// As [`check`], for a program that only adds to what is stored: signals that a newer one has appended since
/// are none of its business, and what is stored of them stays.
///
/// # Errors
/// As [`check`].
pub async fn check_writer(connector: &Connector, schema: &Schema) -> Result<Edition> {
    let connection = connector.connect().await?;
    pooled::refuse(connector, &connection).await?;
    require(&connection, schema, Later::Ignored).await?;
    edition(&connection).await
}

/// Which columns `vehicle_latest` has of those that an older program does not make.
pub(super) async fn has(connection: &Connection) -> Result<Has> {
    const HAS: &str = "select bool_or(attname = 'carry' and atttypid = 'bytea'::regtype), \
          bool_or(attname = 'sampled' and atttypid = 'float8[]'::regtype) from pg_attribute \
        where attrelid = to_regclass('vehicle_latest') and attnum > 0";
    let row = connection.client().query_one(HAS, &[]).await.map_err(connection.failed("read the columns"))?;
    let has = |column| row.get::<_, Option<bool>>(column).unwrap_or(false);
    Ok(Has { carry: has(0), samples: has(1) })
}

/// As [`compare`], and no signal may be new.
pub(super) async fn require(connection: &Connection, schema: &Schema, later: Later) -> Result<()> {
    match compare(connection, schema, later).await? {
        [] => Ok(()),
        [signal, ..] => {
            let text = format!("signal {:?} is not in the database yet: run the setup", signal.name);
            Err(Error::configuration(text))
        }
    }
}

pub(super) async fn edition(connection: &Connection) -> Result<Edition> {
    let ask = async |question: &str| -> Result<Option<String>> {
        let row = connection.client().query_one(question, &[]).await;
        Ok(row.map_err(connection.failed("ask for the edition"))?.get(0))
    };
    let installed = ask("select max(extversion) from pg_extension where extname = 'timescaledb'").await?;
    if installed.is_none() {
        return Ok(Edition::Plain);
    }
    // What the licence allows must also be there: a package may come without it, whatever the setting.
    let asked = ask("select to_regprocedure('_timescaledb_functions.tsl_loaded()')::text").await?;
    if let Some(function) = asked
        && ask(&format!("select {function}::text")).await?.as_deref() == Some("false")
    {
        return Ok(Edition::Apache);
    }
    let license = ask("select current_setting('timescaledb.license', true)").await?;
    Ok(if license.as_deref() == Some("timescale") { Edition::Community } else { Edition::Apache })
}

/// How `telemetry` is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Whether it is partitioned natively, so that partitions may be missing.
    pub(super) partitioned: bool,
    /// Whether writers note the minutes that they touch.
    pub(super) noted: bool,
}

/// Asks the catalogue and not the edition, which may be another one than when the table was made. In which
/// order the key has its columns is all the same to who writes.
pub(super) async fn layout(connection: &Connection) -> Result<Layout> {
    let row = connection
        .client()
        .query_opt(
            "select c.relkind = 'p', to_regclass('fleet_touched') is not null from pg_class c \
             where c.oid = to_regclass('telemetry') and exists (select from pg_index i \
               where i.indrelid = c.oid and i.indisunique and i.indpred is null and i.indexprs is null \
                 and (select array_agg(a.attname::text order by a.attname) from pg_attribute a \
                   where a.attrelid = c.oid and a.attnum = any(i.indkey::int2[])) = '{ts,vehicle_id}')",
            &[],
        )
        .await
        .map_err(connection.failed("look at the table telemetry"))?;
    let Some(row) = row else {
        let text = "table telemetry has no unique index on vehicle_id and ts: run the setup";
        return Err(Error::configuration(text));
    };
    Ok(Layout { partitioned: row.get(0), noted: row.get(1) })
}

/// Whether `telemetry` is partitioned natively.
pub(super) async fn is_partitioned(connection: &Connection) -> Result<bool> {
    let row = connection
        .client()
        .query_one(
            "select exists (select from pg_class where oid = to_regclass('telemetry') and relkind = 'p')",
            &[],
        )
        .await
        .map_err(connection.failed("look at the table telemetry"))?;
    Ok(row.get(0))
}

/// A signal as the database keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    name: String,
    columns: Vec<String>,
}

/// What to think of signals in the database that come after all of the configured ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Later {
    /// They were removed from the configuration.
    Refused,
    /// A newer worker has added them while this one still runs.
    Ignored,
}

/// Compares signals and columns with what is stored; the answer is the signals that are new.
pub(super) async fn compare<'a>(
    connection: &Connection,
    schema: &'a Schema,
    later: Later,
) -> Result<&'a [Signal]> {
    let rows = connection
        .client()
        .query("select name, columns from fleet_signal order by position", &[])
        .await
        .map_err(connection.failed("read the signals"))?;
    let stored: Vec<_> = rows.iter().map(|r| Stored { name: r.get(0), columns: r.get(1) }).collect();
    let stored = match later {
        Later::Refused => &stored[..],
        Later::Ignored => &stored[..stored.len().min(schema.signals().len())],
    };
    let (known, mut problems) = compare_signals(stored, schema.signals());
    let rows = connection
        .client()
        .query(
            "select t.name, a.attname::text, format_type(a.atttypid, a.atttypmod) \
             from unnest($1::text[]) t(name) \
             join pg_attribute a on a.attrelid = to_regclass(t.name) and a.attnum > 0 and not a.attisdropped",
            &[&FIXED.map(|(table, _)| table).as_slice()],
        )
        .await
        .map_err(connection.failed("read the columns"))?;
    let found: Vec<(String, String, String)> = rows.iter().map(|r| (r.get(0), r.get(1), r.get(2))).collect();
    problems.extend(compare_columns(&found, &schema.signals()[..known]));
    if problems.is_empty() {
        return Ok(&schema.signals()[known..]);
    }
    Err(Error::configuration(format!("the database does not fit the configuration: {}", problems.join("; "))))
}

/// How many of the configured signals are stored already, and what does not fit: their order gives
/// the bits of `quality`, so that it can only be appended to.
fn compare_signals(stored: &[Stored], configured: &[Signal]) -> (usize, Vec<String>) {
    let mut problems = Vec::new();
    for (i, old) in stored.iter().enumerate() {
        let Some(new) = configured.get(i) else {
            problems.push(format!("signal {:?} is in the database but not in the configuration", old.name));
            continue;
        };
        if new.name != old.name {
            problems.push(format!(
                "signal {} is {:?} in the database and {:?} in the configuration; signals can only be \
                 added at the end",
                i + 1,
                old.name,
                new.name
            ));
            continue;
        }
        let columns: Vec<_> = new.columns.iter().map(|c| c.name.clone()).collect();
        if columns != old.columns {
            problems.push(format!(
                "signal {:?} has the columns {} in the database and {} in the configuration",
                old.name,
                old.columns.join(", "),
                columns.join(", ")
            ));
        }
    }
    (stored.len().min(configured.len()), problems)
}

const TIME: &str = "timestamp with time zone";
const TIMES: &str = "timestamp with time zone[]";

/// The columns that every deployment has, by table.
const FIXED: [(&str, &[(&str, &str)]); 4] = [
    ("vehicle", &[("vehicle_id", "integer"), ("vin", "text"), ("first_seen", TIME)]),
    ("trip", &[("vehicle_id", "integer"), ("started_at", TIME), ("ended_at", TIME)]),
    ("telemetry", &[("ts", TIME), ("vehicle_id", "integer"), ("quality", "bigint")]),
    (
        "vehicle_latest",
        &[
            ("vehicle_id", "integer"),
            ("epoch", "integer"),
            ("resume_at", TIME),
            ("released_at", TIME),
            ("floor", TIME),
            ("horizon", TIMES),
            ("newest", TIMES),
            ("ts", TIME),
            ("quality", "bigint"),
        ],
    ),
];

fn compare_columns(found: &[(String, String, String)], signals: &[Signal]) -> Vec<String> {
    let mut problems = Vec::new();
    for (table, fixed) in FIXED {
        if !found.iter().any(|(t, ..)| t == table) {
            problems.push(format!("table {table} is missing, although the database was set up"));
            continue;
        }
        let values = signals.iter().flat_map(|s| &s.columns).map(|c| (c.name.as_str(), type_name(c.kind)));
        let values = values.filter(|_| table == "telemetry" || table == "vehicle_latest");
        for (column, wanted) in fixed.iter().copied().chain(values) {
            let is = found.iter().find(|(t, c, _)| t == table && c == column).map(|(.., kind)| kind);
            match is {
                Some(kind) if kind == wanted => {}
                Some(kind) => {
                    problems.push(format!("column {table}.{column} is {kind}, but must be {wanted}"));
                }
                None => problems.push(format!("column {table}.{column} is missing, it must be {wanted}")),
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(schema: &Schema) -> Vec<Stored> {
        let columns = |s: &Signal| s.columns.iter().map(|c| c.name.clone()).collect();
        schema.signals().iter().map(|s| Stored { name: s.name.clone(), columns: columns(s) }).collect()
    }

    #[test]
    fn signals_may_only_be_appended() {
        let schema = Schema::default();
        let all = stored(&schema);
        assert_eq!(compare_signals(&all, schema.signals()), (4, vec![]));
        assert_eq!(compare_signals(&all[..2], schema.signals()), (2, vec![]));
        assert_eq!(compare_signals(&[], schema.signals()), (0, vec![]));

        let said = |stored: &[Stored], signals| compare_signals(stored, signals).1.join("; ");
        assert_eq!(
            said(&all, &schema.signals()[..3]),
            "signal \"brake\" is in the database but not in the configuration"
        );
        let mut other = all.clone();
        other.swap(2, 3);
        assert!(said(&other, schema.signals()).starts_with(
            "signal 3 is \"brake\" in the database and \"fuel\" in the configuration; signals can only"
        ));
        let mut other = all;
        other[0].columns.pop();
        assert_eq!(
            said(&other, schema.signals()),
            "signal \"position\" has the columns latitude in the database and latitude, longitude in the \
             configuration"
        );
    }
}
