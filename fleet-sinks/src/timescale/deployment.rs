//! Which deployment a database belongs to, and whose turn it is to change its tables.
//!
//! Both are one row of a table of ours: its id is drawn once, at the first setup, and goes with the data into
//! back-ups and to other servers. Whoever changes tables locks the row until its transaction ends. An advisory
//! lock would do the same, but any role that may connect can take one, and keep it.

use fleet_core::error::{Error, Result};
use tokio_postgres::error::SqlState;

use super::connect::{Connection, Connector};

/// Locks the row until the transaction ends: whoever changes tables takes its turn.
pub(super) const TURN: &str = "select from fleet_deployment for update";

/// The id of the deployment that the database belongs to.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) if no setup of this version has drawn one yet,
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable).
pub async fn deployment_id(connector: &Connector) -> Result<String> {
    let connection = connector.connect().await?;
    find(&connection).await?.ok_or_else(|| {
        let target = connector.target();
        Error::configuration(format!("the database at {target} has no deployment id yet: run the setup"))
    })
}

/// The id, if one was drawn.
pub(super) async fn find(connection: &Connection) -> Result<Option<String>> {
    const WHAT: &str = "read the deployment's id";
    let client = connection.client();
    let there = client.query_one("select to_regclass('fleet_deployment') is not null", &[]).await;
    if !there.map_err(connection.failed(WHAT))?.get::<_, bool>(0) {
        return Ok(None);
    }
    let id = client.query_opt("select id from fleet_deployment", &[]).await;
    Ok(id.map_err(connection.failed(WHAT))?.map(|row| row.get(0)))
}

/// Draws the id where there is none, in a transaction of its own; several may do so at once.
pub(super) async fn draw(connection: &Connection) -> Result<()> {
    const DRAW: &str = "create table if not exists fleet_deployment \
          (one boolean primary key default true check (one), id text not null default gen_random_uuid()); \
        insert into fleet_deployment default values on conflict do nothing";
    if find(connection).await?.is_some() {
        return Ok(());
    }
    let drawn = connection.client().batch_execute(DRAW).await;
    match drawn {
        // Another one has just made the table: "if not exists" looks before it waits.
        Err(error)
            if [Some(&SqlState::UNIQUE_VIOLATION), Some(&SqlState::DUPLICATE_TABLE)]
                .contains(&error.code()) =>
        {
            connection.client().batch_execute(DRAW).await.map_err(connection.failed("draw a deployment's id"))
        }
        drawn => drawn.map_err(connection.failed("draw a deployment's id")),
    }
}
