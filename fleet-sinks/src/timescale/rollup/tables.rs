//! Roll-ups in tables that [`maintain`](crate::timescale::maintain) keeps.
//!
//! `fleet_touched` has the minutes whose roll-up is out of date, and nothing unique in it: writers never
//! wait for each other. A minute's note is taken out before its rows are read, so that what is written
//! meanwhile leaves a note of its own.

use fleet_core::Schema;
use fleet_core::error::Result;

use super::{Part, Rollups, averaged_names, bucket, columns_of, list, parts};
use crate::timescale::connect::Connection;
use crate::timescale::days::frozen;
use crate::timescale::sql::quote;

/// What writers do within their transaction; `$1` are minutes.
pub(in crate::timescale) const TOUCH: &str = "insert into fleet_touched select unnest($1::timestamptz[])";

/// Deletes these records, notes their minutes where notes are kept, and gives how many there were.
pub(in crate::timescale) fn delete(which: &str, is_noted: bool) -> String {
    let note = if is_noted {
        let minute = bucket("1 minute", "ts");
        format!(", noted as (insert into fleet_touched select distinct {minute} from gone)")
    } else {
        String::new()
    };
    format!("with gone as (delete from telemetry where {which} returning ts){note} select count(*) from gone")
}

/// The tables, without the columns of the signals, and a note for each minute that is stored already.
pub(in crate::timescale) fn create() -> String {
    let minute = bucket("1 minute", "ts");
    format!(
        "create table fleet_touched (ts timestamptz not null); \
         create table fleet_rollup_minute \
           (ts timestamptz primary key, vehicles bigint not null, records bigint not null); \
         create table fleet_rollup_hour (like fleet_rollup_minute including all); \
         insert into fleet_touched select distinct {minute} from telemetry;"
    )
}

/// Adds the columns that the schema has and the roll-ups have not.
pub(in crate::timescale) async fn grow(connection: &Connection, schema: &Schema) -> Result<()> {
    let there = columns_of(connection, "fleet_rollup_minute").await?;
    let mut missing = averaged_names(schema);
    missing.retain(|name| !there.contains(name));
    for part in parts(&missing).iter().skip(2) {
        let definition = format!("{} {}", quote(&part.name), part.kind);
        let statements = format!(
            "alter table fleet_rollup_minute add column {definition}; \
             alter table fleet_rollup_hour add column {definition}"
        );
        let added = connection.client().batch_execute(&statements).await;
        added.map_err(connection.failed("add a column to the roll-ups"))?;
    }
    Ok(())
}

/// Minutes whose rows are gone are not made anew: what is known of them is their roll-up.
fn touched() -> String {
    format!(
        "select ts from fleet_touched where ts >= (select forgotten_before from fleet_upkeep) and not {}",
        frozen("ts")
    )
}

/// What the views read: roll-ups, and rows where those are out of date. Makes the functions that read the
/// rows, within the caller's transaction.
///
/// They are functions because the planner thinks nothing of three minutes of a day: it would compile its
/// plan for ten times as long as that takes to run.
pub(in crate::timescale) async fn relations(connection: &Connection, schema: &Schema) -> Result<Rollups> {
    const WHAT: &str = "make the functions of the roll-ups";
    let client = connection.client();
    let here = client.query_one("select quote_ident(current_schema())", &[]).await;
    let here: String = here.map_err(connection.failed(WHAT))?.get(0);
    // In the order of the tables, whose row they return.
    let parts_there = parts(&columns_of(connection, "fleet_rollup_minute").await?);
    let (of_minute, of_hour) = (minute_of_rows(&parts_there), hour_of_parts(&parts_there));
    let functions = [
        ("fleet_minute_of_rows", "fleet_rollup_minute", of_minute),
        ("fleet_hour_of_parts", "fleet_rollup_hour", of_hour),
    ];
    for (name, row, body) in functions {
        let create = format!(
            "create or replace function {name}(bucket timestamptz) returns setof {row} \
             language sql stable security definer rows 1 set jit = off set search_path = {here}, pg_temp \
             as $body$ {body} $body$"
        );
        client.batch_execute(&create).await.map_err(connection.failed(WHAT))?;
    }
    let parts = parts(&averaged_names(schema));
    let names = names(&parts);
    let (touched, hour_of_touched) = (touched(), bucket("1 hour", "t.ts"));
    let hour = format!(
        "(select ts, {names} from fleet_rollup_hour r \
            where not exists (select from ({touched}) t where {hour_of_touched} = r.ts) \
          union all \
          select h.ts, {names} from (select distinct {hour_of_touched} as ts from ({touched}) t) h \
            cross join lateral fleet_hour_of_parts(h.ts) m(ignored, {}))",
        list(&parts_there, |p| quote(&p.name)),
    );
    let minute = minutes(&parts, &list(&parts_there, |p| quote(&p.name)));
    Ok(Rollups { minute, hour })
}

/// The minutes with these parts; `there` names what the table has.
fn minutes(parts: &[Part], there: &str) -> String {
    let (names, touched) = (names(parts), touched());
    format!(
        "(select ts, {names} from fleet_rollup_minute r \
            where not exists (select from ({touched}) t where t.ts = r.ts) \
          union all \
          select p.ts, {names} from (select distinct ts from ({touched}) t) p \
            cross join lateral fleet_minute_of_rows(p.ts) m(ignored, {there}))"
    )
}

fn minute_of_rows(parts: &[Part]) -> String {
    let rows = list(parts, |p| p.of_rows.clone());
    format!(
        "select bucket, {rows} from telemetry t \
         where t.ts >= bucket and t.ts < bucket + interval '1 minute' having count(*) > 0"
    )
}

/// The hour's minutes added up, those that are out of date included.
fn hour_of_parts(parts: &[Part]) -> String {
    let select = list(parts, |p| match p.of_parts {
        Some(_) => format!("m.{}", quote(&p.name)),
        None => vehicles("bucket"),
    });
    let minutes = minutes(parts, &list(parts, |p| quote(&p.name)));
    format!(
        "select bucket, {select} from (select {} from {minutes} m \
           where m.ts >= bucket and m.ts < bucket + interval '1 hour') m where m.records > 0",
        sums_of_parts(parts)
    )
}

fn names(parts: &[Part]) -> String {
    list(parts, |p| quote(&p.name))
}

fn sums_of_parts(parts: &[Part]) -> String {
    let sums = parts.iter().filter(|p| p.of_parts.is_some());
    list(sums, |p| format!("{} as {}", p.of_parts.as_deref().unwrap_or_default(), quote(&p.name)))
}

/// How many vehicles have a row in the hour: one look into the index for each.
fn vehicles(hour: &str) -> String {
    format!(
        "(select count(*) from vehicle v where exists (select from telemetry t \
           where t.vehicle_id = v.vehicle_id and t.ts >= {hour} and t.ts < {hour} + interval '1 hour'))"
    )
}

/// Makes roll-ups anew.
pub(in crate::timescale) struct Roll {
    /// The minutes from `$1` to before `$2` that were touched.
    pub(in crate::timescale) minutes: String,
    /// The hour `$1`.
    pub(in crate::timescale) hour: String,
}

impl Roll {
    /// For the columns that the tables have, which a newer program may have added.
    pub(in crate::timescale) async fn read(connection: &Connection) -> Result<Self> {
        let parts = parts(&columns_of(connection, "fleet_rollup_minute").await?);
        let (names, minute) = (names(&parts), bucket("1 minute", "t.ts"));
        let rows = list(&parts, |p| format!("{} as {}", p.of_rows, quote(&p.name)));
        let set = list(&parts, |p| format!("{0} = excluded.{0}", quote(&p.name)));
        let minutes = format!(
            "with noted as (delete from fleet_touched where ts >= $1 and ts < $2 returning ts), \
               taken as (select distinct ts from noted), \
               fresh as (select {minute} as ts, {rows} from telemetry t \
                 where t.ts >= $1 and t.ts < $2 and {minute} in (select ts from taken) group by 1), \
               gone as (delete from fleet_rollup_minute r using taken \
                 where r.ts = taken.ts and r.ts not in (select ts from fresh)), \
               made as (insert into fleet_rollup_minute (ts, {names}) select ts, {names} from fresh \
                 on conflict (ts) do update set {set}) \
             select count(*) from taken"
        );
        let hour = format!(
            "with fresh as (select * from fleet_hour_of_parts($1)), \
               gone as (delete from fleet_rollup_hour where ts = $1 and not exists (select from fresh)) \
             insert into fleet_rollup_hour (ts, {names}) select * from fresh \
             on conflict (ts) do update set {set}"
        );
        Ok(Self { minutes, hour })
    }
}
