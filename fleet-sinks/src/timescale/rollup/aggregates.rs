//! Roll-ups as TimescaleDB's continuous aggregates.
//!
//! An aggregate can't be given another column. So a signal that is averaged too begins a new generation,
//! `fleet_minute_2` after `fleet_minute_1`: the views read each generation from its `since` on up to that
//! of the next, and what was rolled up before stays as it is.

use std::fmt::Write as _;
use std::time::Duration;

use fleet_core::Schema;
use fleet_core::error::Result;

use super::{Part, Rollups, averaged_names, columns_of, list, parts};
use crate::timescale::connect::Connection;
use crate::timescale::migrate::{SetupOptions, by_turns};
use crate::timescale::sql::quote;

/// The table of generations.
pub(in crate::timescale) const CREATE: &str =
    "create table fleet_generation (number int primary key, since timestamptz not null);";

/// A generation of aggregates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::timescale) struct Generation {
    number: i32,
    /// As PostgreSQL writes it, in UTC.
    since: String,
    columns: Vec<String>,
}

/// Per minute and per hour: the aggregate's name, its bucket, what it leaves to be read from the rows,
/// and how often it is brought up to date.
const WIDTHS: [(&str, &str, &str, &str); 2] =
    [("fleet_minute", "1 minute", "2 minutes", "1 minute"), ("fleet_hour", "1 hour", "1 hour", "15 minutes")];

/// Whatever the session's time zone is.
const SINCE: &str = "case when isfinite(since) \
    then to_char(since at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS+00') else '-infinity' end";

async fn generations(connection: &Connection) -> Result<Vec<Generation>> {
    let rows = connection
        .client()
        .query(&format!("select number, {SINCE} from fleet_generation order by number"), &[])
        .await
        .map_err(connection.failed("look at the roll-ups"))?;
    let mut generations = Vec::new();
    for row in rows {
        let (number, since): (i32, String) = (row.get(0), row.get(1));
        let columns = columns_of(connection, &format!("fleet_minute_{number}")).await?;
        generations.push(Generation { number, since, columns });
    }
    Ok(generations)
}

/// Begins a generation if the newest lacks a column; gives what the views read, and whether it did so
/// after another. A new one reaches `back` into the past, where samples of the new signal may still
/// come from.
pub(in crate::timescale) async fn grow(
    connection: &Connection,
    schema: &Schema,
    back: Duration,
) -> Result<(Rollups, bool)> {
    let wanted = averaged_names(schema);
    let mut all = generations(connection).await?;
    let before = all.len();
    if all.last().is_none_or(|newest| wanted.iter().any(|name| !newest.columns.contains(name))) {
        begin(connection, &wanted, &all, back).await?;
        all = generations(connection).await?;
    }
    let begun = before > 0 && all.len() > before;
    let (_, all) = split(all);
    let [minute, hour] = WIDTHS.map(|(name, ..)| relation(name, &wanted, &all));
    Ok((Rollups { minute, hour }, begun))
}

/// Those that the next one has replaced before anything was theirs, and the others.
fn split(all: Vec<Generation>) -> (Vec<Generation>, Vec<Generation>) {
    let next: Vec<_> = all.iter().skip(1).map(|next| next.since.clone()).collect();
    let (mut empty, mut others) = (Vec::new(), Vec::new());
    for (i, generation) in all.into_iter().enumerate() {
        let is_empty = next.get(i) == Some(&generation.since);
        if is_empty { &mut empty } else { &mut others }.push(generation);
    }
    (empty, others)
}

/// Drops generations of which nothing is read: signals that are added one soon after another each begin one.
/// No view of ours may read them any more.
pub(in crate::timescale) async fn drop_empty(connection: &Connection) -> Result<()> {
    for Generation { number, .. } in split(generations(connection).await?).0 {
        let views = WIDTHS.map(|(name, ..)| format!("drop materialized view {name}_{number}; "));
        let drop = format!("{}delete from fleet_generation where number = {number}", views.concat());
        let dropped = connection.client().batch_execute(&drop).await;
        dropped.map_err(connection.failed("drop roll-ups that nothing reads"))?;
    }
    Ok(())
}

async fn begin(
    connection: &Connection,
    columns: &[String],
    before: &[Generation],
    back: Duration,
) -> Result<()> {
    const WHAT: &str = "make roll-ups";
    let client = connection.client();
    let number = before.last().map_or(1, |g| g.number + 1);
    let since = match before.last() {
        None => "'-infinity'".to_owned(),
        Some(newest) => format!(
            "greatest(date_bin('1 hour', now() - interval '{} s', timestamptz '2000-01-01+00'), \
             timestamptz '{}')",
            back.as_secs(),
            newest.since
        ),
    };
    let insert = format!(
        "insert into fleet_generation values ($1, {since}) \
         returning {SINCE}"
    );
    let row = client.query_one(&insert, &[&number]).await.map_err(connection.failed(WHAT))?;
    let since: String = row.get(0);
    // Without this everything older would be rolled up once more.
    let condition =
        if before.is_empty() { String::new() } else { format!("where ts >= timestamptz '{since}'") };
    for (name, width, ..) in WIDTHS {
        let columns = list(&parts(columns), |p| format!("{} as {}", p.of_rows, quote(&p.name)));
        let create = format!(
            "create materialized view {name}_{number} \
               with (timescaledb.continuous, timescaledb.materialized_only = false) as \
             select time_bucket(interval '{width}', ts) as ts, {columns} from telemetry {condition} \
             group by 1 with no data"
        );
        client.batch_execute(&create).await.map_err(connection.failed(WHAT))?;
    }
    Ok(())
}

fn relation(name: &str, wanted: &[String], generations: &[Generation]) -> String {
    let mut selects = Vec::new();
    for (i, generation) in generations.iter().enumerate() {
        let has = |part: &Part| part.column.as_ref().is_none_or(|c| generation.columns.contains(c));
        let columns = list(&parts(wanted), |p| match has(p) {
            true => quote(&p.name),
            false => format!("null::{} as {}", p.kind, quote(&p.name)),
        });
        let mut select = format!("select ts, {columns} from {name}_{}", generation.number);
        let mut word = "where";
        if i > 0 {
            let _ = write!(select, " {word} ts >= timestamptz '{}'", generation.since);
            word = "and";
        }
        if let Some(next) = generations.get(i + 1) {
            let _ = write!(select, " {word} ts < timestamptz '{}'", next.since);
        }
        selects.push(select);
    }
    format!("({})", selects.join(" union all "))
}

/// Lets the server keep the aggregates: a policy for each of the newest generation, and of the one
/// before while it may still change. The window ends where `retention` takes the rows away, because a
/// refresh of what is gone would empty the roll-up; once shorter it stays so.
pub(in crate::timescale) async fn keep(connection: &Connection, options: &SetupOptions) -> Result<()> {
    let all = generations(connection).await?;
    for (i, generation) in all.iter().enumerate() {
        let next = all.get(i + 1).map_or("infinity", |next| &next.since);
        for (name, _, left, every) in WIDTHS {
            let name = format!("{name}_{}", generation.number);
            policy(connection, &name, next, [left, every], options).await?;
        }
    }
    Ok(())
}

/// Fills the newest generation: until that is done, its part of the views is computed from the rows.
pub(in crate::timescale) async fn fill(connection: &Connection) -> Result<()> {
    let Some(newest) = generations(connection).await?.pop() else { return Ok(()) };
    for (name, _, left, _) in WIDTHS {
        let name = format!("{name}_{}", newest.number);
        let fill = format!(
            "call refresh_continuous_aggregate('{name}', timestamptz '{}', now() - interval '{left}')",
            newest.since
        );
        let filled = connection.client().batch_execute(&fill).await;
        filled.map_err(connection.failed(&format!("fill {name}")))?;
    }
    Ok(())
}

/// Brings the aggregates up to date within a span before its rows go; the server does nothing where they are.
#[cfg(feature = "parquet")]
pub(in crate::timescale) async fn settle(connection: &Connection, from: &str, to: &str) -> Result<()> {
    for generation in generations(connection).await? {
        for (name, ..) in WIDTHS {
            let name = format!("{name}_{}", generation.number);
            let refresh = format!(
                "call refresh_continuous_aggregate('{name}', timestamptz '{from}', timestamptz '{to}')"
            );
            let refreshed = connection.client().batch_execute(&refresh).await;
            refreshed.map_err(connection.failed(&format!("bring {name} up to date")))?;
        }
    }
    Ok(())
}

/// Refuses to go on where the server would refresh what is older than this: without its rows it would empty it.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) with what to do.
#[cfg(feature = "parquet")]
pub(in crate::timescale) async fn require_window(connection: &Connection, after: Duration) -> Result<()> {
    let ask = format!(
        "select string_agg(a.view_name, ', ' order by a.view_name) from timescaledb_information.jobs j \
         join timescaledb_information.continuous_aggregates a \
           on j.hypertable_name in (a.view_name, a.materialization_hypertable_name) \
         where j.proc_name = 'policy_refresh_continuous_aggregate' and a.view_schema = current_schema() \
           and a.view_name ~ '^fleet_(minute|hour)_[0-9]+$' \
           and coalesce((j.config->>'start_offset')::interval > interval '{} s', true)",
        after.as_secs()
    );
    let wide = connection.client().query_one(&ask, &[]).await;
    let wide = wide.map_err(connection.failed("look at the refresh of roll-ups"))?;
    match wide.get::<_, Option<&str>>(0) {
        None => Ok(()),
        Some(names) => Err(fleet_core::Error::configuration(format!(
            "the server refreshes {names} further back than rows stay: run the setup"
        ))),
    }
}

async fn policy(
    connection: &Connection,
    name: &str,
    next: &str,
    [left, every]: [&str; 2],
    options: &SetupOptions,
) -> Result<()> {
    // Rows go by either.
    let shortest = options.retention.into_iter().chain(options.retire_after).min();
    let window = match shortest {
        Some(retention) => format!("interval '{} s'", retention.as_secs()),
        None => "null::interval".to_owned(),
    };
    let statements = format!(
        "do $$ declare \
           wanted interval := {window}; had interval; found boolean; \
           closed boolean := timestamptz '{next}' < now() - interval '8 days'; \
         begin \
           select (j.config->>'start_offset')::interval, true into had, found \
             from timescaledb_information.jobs j \
             join timescaledb_information.continuous_aggregates a \
               on j.hypertable_name in (a.view_name, a.materialization_hypertable_name) \
             where j.proc_name = 'policy_refresh_continuous_aggregate' and a.view_name = '{name}'; \
           wanted := least(wanted, had); \
           if found and (closed or wanted is distinct from had) then \
             perform remove_continuous_aggregate_policy('{name}'); found := false; \
           end if; \
           if not closed and found is not true then \
             perform add_continuous_aggregate_policy('{name}', start_offset => wanted, \
               end_offset => interval '{left}', schedule_interval => interval '{every}'); \
           end if; \
         end $$"
    );
    by_turns(connection, options, &format!("let the server keep {name}"), &statements).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_without_a_window_is_empty() {
        let of =
            |(number, since): (i32, &str)| Generation { number, since: since.to_owned(), columns: vec![] };
        let all: Vec<_> = [(1, "-infinity"), (2, "a"), (3, "a"), (4, "b"), (5, "b")].map(of).into();
        let (empty, others) = split(all);
        let numbers = |those: Vec<Generation>| those.iter().map(|g| g.number).collect::<Vec<_>>();
        assert_eq!((numbers(empty), numbers(others)), (vec![2, 4], vec![1, 3, 5]));
    }
}
