//! Whether the server answers while a session is at work, and what that session is at.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use fleet_core::error::Result;
use fleet_core::sink::Pulse;

use super::connect::Connector;

/// What the server's process is at, and what it waits for.
const AT: &str = "select case when state = 'idle' then 'none, the session is idle' \
        else regexp_replace(left(query, 120), '\\s+', ' ', 'g') end \
      || coalesce('; it waits for ' || wait_event_type || ' ' || wait_event, '') \
      || coalesce('; in its way: process ' || nullif(array_to_string(pg_blocking_pids(pid), ', '), ''), '') \
    from pg_stat_activity where pid = $1";

/// Asks over a connection of its own; `process` is that of the session, 0 before there is one.
pub(super) fn pulse(connector: &Connector, process: &Arc<AtomicI32>) -> Pulse {
    let (connector, process) = (connector.clone(), Arc::clone(process));
    Pulse::new(move || {
        let (connector, process) = (connector.clone(), process.load(Ordering::Relaxed));
        async move { ask(&connector, process).await }
    })
}

async fn ask(connector: &Connector, process: i32) -> Result<String> {
    let Some(connection) = connector.knock().await? else {
        return Ok("unknown: the server takes no other connection".to_owned());
    };
    let asked = connection.client().query_opt(AT, &[&process]).await;
    let asked = asked.map_err(connection.failed("ask what a session is at"))?;
    let statement = asked.and_then(|row| row.get::<_, Option<String>>(0));
    Ok(statement.unwrap_or_else(|| format!("unknown: process {process}")))
}
