//! Poolers between us and the server.

use fleet_core::{Error, error::Result};
use tokio_postgres::SimpleQueryMessage;

use super::connect::{Connection, Connector};

const HINT: &str = "is a pooler that gives every transaction another connection to the server, where prepared \
    statements and temporary tables are lost: let it pool sessions (PgBouncer's pool_mode = session), or name \
    the server itself in the URL";

/// Refuses a pooler that keeps no sessions. `connection` must be outside of a transaction.
///
/// Two of its clients share a connection to the server, which two clients of a server never do. While one
/// holds it by a transaction, the other one gets another.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) for such a pooler.
pub(super) async fn refuse(connector: &Connector, connection: &Connection) -> Result<()> {
    let first = backend(connection).await?;
    if first.alone {
        return Ok(());
    }
    let other = connector.connect().await?;
    other.client().batch_execute("begin").await.map_err(other.failed("begin a transaction"))?;
    if backend(&other).await?.id != first.id && backend(connection).await?.id == first.id {
        return Ok(());
    }
    Err(Error::configuration(format!("the database at {} {HINT}", connector.target())))
}

struct Backend {
    id: String,
    /// It is the only one, listed nowhere, and serves all clients, as PostgreSQL in WebAssembly.
    alone: bool,
}

/// Who serves us just now; asked so that nothing is prepared for it.
async fn backend(connection: &Connection) -> Result<Backend> {
    const ASK: &str =
        "select pg_backend_pid(), not exists (select from pg_stat_activity where pid = pg_backend_pid())";
    let answer = connection.client().simple_query(ASK).await;
    let answer = answer.map_err(connection.failed("ask which process serves us"))?;
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.ok_or_else(|| Error::internal("the database's server does not know its own process"))?;
    Ok(Backend { id: row.get(0).unwrap_or_default().to_owned(), alone: row.get(1) == Some("t") })
}
