//! The views: what people and dashboards read, by the same names and columns on every edition.

use std::fmt::Write as _;

use fleet_core::Schema;
use fleet_core::batch::Quality;
use fleet_core::error::{Error, Result};

use super::connect::Connection;
use super::rollup::{Rollups, averaged};
use super::sql::{quote, type_name};

/// A view as the program wants it.
struct View {
    name: &'static str,
    /// Names and expressions.
    columns: Vec<(String, String)>,
    /// What follows `from`.
    from: String,
}

/// All views, in the order in which they can be made.
fn views(schema: &Schema, rollups: &Rollups) -> Vec<View> {
    vec![
        record(schema),
        last(schema),
        trip(),
        averages("fleet_minute", schema, &rollups.minute),
        averages("fleet_hour", schema, &rollups.hour),
    ]
}

/// Their names.
pub(super) const NAMES: [&str; 5] =
    ["fleet_record", "fleet_last", "fleet_trip", "fleet_minute", "fleet_hour"];

/// What a reader of the views may look at beside them.
const TABLES: &str = "telemetry, vehicle, trip, vehicle_latest, fleet_signal";

fn plain<'a>(names: impl IntoIterator<Item = &'a str>, of: &str) -> Vec<(String, String)> {
    names.into_iter().map(|name| (name.to_owned(), format!("{of}.{}", quote(name)))).collect()
}

fn record(schema: &Schema) -> View {
    let mut columns = plain(["vin"], "v");
    columns.extend(plain(["vehicle_id", "ts"], "t"));
    columns.extend(plain(schema.columns().map(|c| c.name.as_str()), "t"));
    columns.extend(plain(["quality"], "t"));
    for (i, signal) in schema.signals().iter().enumerate() {
        let how = format!(
            "case (t.quality >> {}) & 3 when 1 then 'measured' when 2 then 'interpolated' \
             when 3 then 'held' end",
            2 * i
        );
        columns.push((format!("{}_how", signal.name), how));
    }
    View { name: "fleet_record", columns, from: "telemetry t join vehicle v using (vehicle_id)".to_owned() }
}

/// A vehicle is on while its last trip has no end. Of each signal the newest sample; or, where an older program that does
/// not keep samples has seen a newer one, what the newest record has.
fn last(schema: &Schema) -> View {
    let mut columns = plain(["vin"], "v");
    columns.extend(plain(["vehicle_id"], "l"));
    let (mut values, mut times, mut newest, mut quality) =
        (Vec::new(), Vec::new(), String::new(), Vec::new());
    for (i, signal) in schema.signals().iter().enumerate() {
        let n = i + 1;
        let sampled = format!("l.sampled_at[{n}] >= coalesce(l.newest[{n}], '-infinity')");
        for (c, column) in signal.column_range().zip(&signal.columns) {
            let (name, kind) = (quote(&column.name), type_name(column.kind));
            let value = format!("case when {sampled} then l.sampled[{}]::{kind} else l.{name} end", c + 1);
            values.push((column.name.clone(), value));
        }
        let any = &signal.columns.first().map(|column| quote(&column.name)).unwrap_or_default();
        let at = format!("case when {sampled} then l.sampled_at[{n}] when l.{any} is not null then l.ts end");
        times.push((format!("{}_at", signal.name), at));
        let _ = write!(newest, ", l.sampled_at[{n}]");
        let [measured, bits] = [Quality::Measured.at(i), 3_i64 << (2 * i)];
        quality.push(format!(
            "case when {sampled} then {measured}::bigint else coalesce(l.quality, 0) & {bits}::bigint end"
        ));
    }
    let newest = format!("greatest(l.ts{newest})");
    columns.push(("ts".to_owned(), newest.clone()));
    columns.extend(values);
    columns.push(("quality".to_owned(), quality.join(" | ")));
    columns.push(("is_on".to_owned(), "coalesce(t.is_on, false)".to_owned()));
    columns.extend(times);
    let from = format!(
        "vehicle_latest l join vehicle v using (vehicle_id) left join lateral ( \
           select ended_at is null as is_on from trip where trip.vehicle_id = l.vehicle_id \
           order by started_at desc limit 1) t on true \
         where {newest} is not null"
    );
    View { name: "fleet_last", columns, from }
}

fn trip() -> View {
    let mut columns = plain(["vin"], "v");
    columns.extend(plain(["vehicle_id", "started_at", "ended_at"], "t"));
    columns.push(("duration".to_owned(), "t.ended_at - t.started_at".to_owned()));
    View { name: "fleet_trip", columns, from: "trip t join vehicle v using (vehicle_id)".to_owned() }
}

fn averages(name: &'static str, schema: &Schema, sums: &str) -> View {
    let mut columns = plain(["ts", "vehicles", "records"], "r");
    for column in averaged(schema) {
        let name = &column.name;
        let part = |part: &str| format!("r.{}", quote(&format!("{name}_{part}")));
        columns.push((format!("{name}_avg"), format!("{} / nullif({}, 0)", part("sum"), part("n"))));
        columns.push((format!("{name}_min"), part("min")));
        columns.push((format!("{name}_max"), part("max")));
    }
    View { name, columns, from: format!("{sums} r") }
}

/// Makes the views or brings them up to date, within the caller's transaction. What is new comes after
/// what a view has already: so it stays the same view, with its rights and with others' views upon it.
pub(super) async fn refresh(connection: &Connection, schema: &Schema, rollups: &Rollups) -> Result<()> {
    for view in views(schema, rollups) {
        let made = view.refresh(connection).await;
        made.map_err(connection.failed(&format!("make the view {}", view.name)))?;
    }
    Ok(())
}

impl View {
    async fn refresh(&self, connection: &Connection) -> Result<(), tokio_postgres::Error> {
        let client = connection.client();
        let rows = client
            .query(
                "select attname::text from pg_attribute where attrelid = to_regclass($1) and attnum > 0 \
                 and not attisdropped order by attnum",
                &[&self.name],
            )
            .await?;
        let there: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let (drop, select) = match self.select(&there) {
            Some(select) => ("", select),
            // A column is no more, such as the average of what wraps now.
            None => ("drop view", self.select(&[]).unwrap_or_default()),
        };
        // A view that is as it should be is left alone: replacing it waits for its readers.
        let fingerprint = client
            .query_one(
                "select md5($2), coalesce(obj_description(to_regclass($1), 'pg_class'), '')",
                &[&self.name, &select],
            )
            .await?;
        let comment = format!("kept by the setup of fleet, {}", fingerprint.get::<_, &str>(0));
        if comment == fingerprint.get::<_, &str>(1) {
            return Ok(());
        }
        let name = self.name;
        let drop = if drop.is_empty() { String::new() } else { format!("{drop} {name}; ") };
        client
            .batch_execute(&format!(
                "{drop}create or replace view {name} as {select}; comment on view {name} is '{comment}'"
            ))
            .await
    }

    /// The query, with the columns that are there already in their order and the new ones after them;
    /// nothing if one of those is wanted no more.
    fn select(&self, there: &[String]) -> Option<String> {
        let old = there.iter().map(|name| self.columns.iter().find(|(wanted, _)| wanted == name));
        let mut ordered = old.collect::<Option<Vec<_>>>()?;
        ordered.extend(self.columns.iter().filter(|(name, _)| !there.contains(name)));
        let columns: Vec<_> = ordered.iter().map(|(name, e)| format!("{e} as {}", quote(name))).collect();
        Some(format!("select {} from {}", columns.join(", "), self.from))
    }
}

/// Refuses a reader that the server does not know.
pub(super) async fn require_role(connection: &Connection, reader: &str) -> Result<()> {
    let exists = "select exists (select from pg_roles where rolname = $1)";
    let exists = connection.client().query_one(exists, &[&reader]).await;
    if exists.map_err(connection.failed("look for the reader"))?.get(0) {
        return Ok(());
    }
    let text = format!("the reader {reader:?} is no role of the database: create it or correct its name");
    Err(Error::configuration(text))
}

/// Lets a role read the views, and the tables beneath them where raw rows are wanted.
pub(super) async fn grant(connection: &Connection, reader: &str) -> Result<()> {
    const WHAT: &str = "let the reader read";
    let client = connection.client();
    require_role(connection, reader).await?;
    let asked = client.query_one("select quote_ident($1), quote_ident(current_schema())", &[&reader]).await;
    let asked = asked.map_err(connection.failed(WHAT))?;
    let (role, schema): (&str, &str) = (asked.get(0), asked.get(1));
    let views = NAMES.join(", ");
    let grants =
        format!("grant usage on schema {schema} to {role}; grant select on {views}, {TABLES} to {role}");
    client.batch_execute(&grants).await.map_err(connection.failed(WHAT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_columns_come_last_and_lost_ones_are_noticed() {
        let view = trip();
        let there = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let select = view.select(&there(&["ended_at", "vin"])).unwrap();
        assert!(
            select.starts_with("select t.\"ended_at\" as \"ended_at\", v.\"vin\" as \"vin\", "),
            "{select}"
        );
        assert_eq!(select.matches(" as ").count(), 5);
        assert_eq!(view.select(&there(&["vin", "gone"])), None);
    }
}
