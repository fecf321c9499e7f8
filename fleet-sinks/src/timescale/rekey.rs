//! From the key that the community edition had at first, `(ts, vehicle_id)`, to the one of all editions.
//!
//! The new index is made before all else, in a transaction of its own: writers wait for as long as that takes,
//! readers don't. A setup that is refused afterwards leaves it to the next one. The migration then drops the old
//! key, which takes a moment.

use fleet_core::Error;
use fleet_core::error::Result;

use super::connect::Connection;
use super::deployment::TURN;
use super::locks::Tries;
use super::sql::KEY;

/// The first version that makes a unique index on what is compressed.
const ABLE: (u32, u32) = (2, 20);

/// Time alone: rows come about in its order, so that block ranges find a minute of the whole fleet.
pub(super) const BY_TIME: &str =
    "create index if not exists telemetry_ts_range on telemetry using brin (ts) with (autosummarize = on)";

/// Step 4: drops the old key, in whose place the new one is.
pub(super) const DROP: &str = "do $$ declare old text; begin \
    select conname into old from pg_constraint c where conrelid = 'telemetry'::regclass and contype = 'u' \
      and (select array_agg(attname::text order by n) from unnest(conkey) with ordinality k(attnum, n) \
        join pg_attribute a on a.attrelid = conrelid and a.attnum = k.attnum) = '{ts,vehicle_id}'; \
    if found then execute format('alter table telemetry drop constraint %I', old); end if; end $$";

/// Whether the new index has still to be made.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where TimescaleDB can't.
pub(super) async fn is_due(connection: &Connection) -> Result<bool> {
    const WHAT: &str = "look at the key of telemetry";
    const KEYS: &str = "select (select string_agg(a.attname, ', ' order by k.n) \
          from unnest(i.indkey::int2[]) with ordinality k(attnum, n) \
          join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum) \
        from pg_index i where i.indrelid = to_regclass('telemetry') and i.indisunique and i.indisvalid";
    const COMPRESSED: &str = "select extversion from pg_extension where extname = 'timescaledb' \
        and exists (select from timescaledb_information.hypertables where compression_enabled \
          and hypertable_schema = current_schema() and hypertable_name = 'telemetry')";
    let client = connection.client();
    let keys = client.query(KEYS, &[]).await.map_err(connection.failed(WHAT))?;
    let has = |key: &str| keys.iter().any(|row| row.get::<_, Option<&str>>(0) == Some(key));
    if has(KEY) || !has("ts, vehicle_id") {
        return Ok(false);
    }
    let compressed = async {
        let there = "select to_regclass('timescaledb_information.hypertables') is not null";
        if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
            return Ok(None);
        }
        client.query_opt(COMPRESSED, &[]).await
    };
    let compressed = compressed.await.map_err(connection.failed(WHAT))?;
    compressed.map_or(Ok(()), |row| require_able(row.get(0)))?;
    Ok(true)
}

fn require_able(version: &str) -> Result<()> {
    if is_able(version) {
        return Ok(());
    }
    Err(Error::configuration(format!(
        "TimescaleDB {version} can't give telemetry the key ({KEY}) while compression is on: install {}.{} or \
         later, run alter extension timescaledb update, and then the setup again",
        ABLE.0, ABLE.1
    )))
}

/// What is no version is a newer one.
fn is_able(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
    (parts.next().unwrap_or(u32::MAX), parts.next().unwrap_or(0)) >= ABLE
}

/// Makes the new index, and that of time. All chunks are locked first: who is in the way shows before the work.
pub(super) async fn build(connection: &Connection, tries: &Tries<'_>) -> Result<()> {
    let build = format!(
        "{}; set local statement_timeout = 0; {TURN}; lock table telemetry in share mode; \
         create unique index telemetry_by_vehicle on telemetry ({KEY}); {BY_TIME}; commit",
        tries.begin()
    );
    tracing::info!("giving telemetry the key ({KEY}): writers wait until its index is made");
    let built = connection.client().batch_execute(&build).await;
    built.map_err(connection.failed("give telemetry another key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for able in ["2.20.0", "2.23.0-dev", "2.100", "3.0.1", "3"] {
            assert!(is_able(able), "{able}");
        }
        for unable in ["2.19.3", "2.9.0", "1.30", "2"] {
            assert!(!is_able(unable), "{unable}");
        }
        let error = require_able("2.19.3").unwrap_err().to_string();
        assert!(
            error.starts_with("TimescaleDB 2.19.3 can't give telemetry the key (vehicle_id, ts)"),
            "{error}"
        );
    }
}
