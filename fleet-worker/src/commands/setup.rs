//! `setup`: create streams, consumers and schema, idempotently.

use fleet_core::error::Result;
use fleet_core::nats::{connect, set_up};
use fleet_sinks::timescale::{Edition, setup as set_up_database};

use super::attack::{NOT_STRICT, is_strict};
use crate::config::Config;

/// Creates what there is not yet, and says which edition of TimescaleDB there is.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) for a server that can't be reached,
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where one refuses, or where the tables
/// do not match the schema.
pub async fn setup(config: &Config) -> Result<Edition> {
    let client = connect(&config.nats.options(), &config.names().connection("setup"), |_| {}).await?;
    let (js, names) = (async_nats::jetstream::new(client.clone()), config.names());
    set_up(&js, &names, &config.schema, &config.stream_options()).await?;
    if !is_strict(&client, &names).await? {
        tracing::warn!("{NOT_STRICT}");
    }
    let options = super::timescale(config)?.setup_options(config.nats.max_age, config.retention);
    let edition = set_up_database(&super::connector(config)?, &config.schema, &options).await?;
    tracing::info!(cell = %config.cell, ?edition, "streams, consumers and tables are there");
    Ok(edition)
}
