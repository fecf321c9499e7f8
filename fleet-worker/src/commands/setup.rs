//! `setup`: create streams, consumers and schema, idempotently; all of it or nothing.

use async_nats::Client;
use fleet_core::error::{Error, Result};
use fleet_core::nats::{Names, Owner, Plan, StreamOptions, connect, plan, set_up};
use fleet_sinks::timescale::{self, DatabasePlan, Edition};

use super::attack::{NOT_STRICT, is_strict};
use crate::cli::SetupArgs;
use crate::config::Config;
use crate::terminal::say;

/// Does it, or says what would be done.
///
/// # Errors
/// As [`setup`]; [`Internal`](fleet_core::ErrorKind::Internal) when stdout can't be written.
pub async fn run(config: &Config, args: &SetupArgs) -> Result<()> {
    if !args.dry_run {
        return setup(config, args).await.map(drop);
    }
    let planned = Planned::find(config, args).await?;
    planned.lines().iter().for_each(say);
    planned.require()
}

/// Creates what there is not yet, and says which edition of TimescaleDB there is. Both servers are looked at
/// first, and nothing is changed if anything is refused. Then the tables are changed, but not for others before
/// JetStream has taken the streams.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) for a server that can't be reached,
/// [`Configuration`](fleet_core::ErrorKind::Configuration) with everything that is refused.
pub async fn setup(config: &Config, args: &SetupArgs) -> Result<Edition> {
    Planned::find(config, args).await?.require()?;
    let clients = connections(config).await?;
    let (connector, options) = (super::connector(config)?, setup_options(config)?);
    let tables = timescale::prepare(&connector, &config.schema, &options).await?;
    let owner =
        Owner { deployment: Some(tables.deployment().to_owned()), database: connector.target().to_owned() };
    let options = stream_options(config, args, owner);
    for (names, client) in &clients {
        let js = async_nats::jetstream::new(client.clone());
        set_up(&js, names, &config.schema, &options).await?;
    }
    let edition = tables.commit().await?;
    // It is one server's setting, for all cells.
    if let Some((names, client)) = clients.first()
        && !is_strict(client, names).await?
    {
        tracing::warn!("{NOT_STRICT}");
    }
    for (names, _) in &clients {
        tracing::info!(cell = %names.cell(), %edition, "streams, consumers and tables are there");
    }
    Ok(edition)
}

/// A connection for each cell, whose name and inboxes are those of its permissions.
async fn connections(config: &Config) -> Result<Vec<(Names, Client)>> {
    let mut clients = Vec::with_capacity(config.cells.len());
    for names in config.names() {
        let client = connect(&config.nats.options(), &names.connection("setup"), |_| {}).await?;
        clients.push((names, client));
    }
    Ok(clients)
}

fn setup_options(config: &Config) -> Result<timescale::SetupOptions> {
    Ok(super::timescale(config)?.setup_options(config.nats.max_age, config.retention))
}

fn stream_options(config: &Config, args: &SetupArgs, owner: Owner) -> StreamOptions {
    let SetupArgs { take_over, remove_signals, .. } = *args;
    StreamOptions { owner: Some(owner), take_over, remove_signals, ..config.stream_options() }
}

/// What would be done at both servers.
struct Planned {
    streams: Vec<Plan>,
    database: DatabasePlan,
}

impl Planned {
    async fn find(config: &Config, args: &SetupArgs) -> Result<Self> {
        let (connector, options) = (super::connector(config)?, setup_options(config)?);
        let clients = connections(config).await?;
        let database = timescale::plan(&connector, &config.schema, &options).await?;
        let owner =
            Owner { deployment: database.deployment.clone(), database: connector.target().to_owned() };
        let options = stream_options(config, args, owner);
        let mut streams = Vec::with_capacity(clients.len());
        for (names, client) in clients {
            let js = async_nats::jetstream::new(client);
            streams.push(plan(&js, &names, &config.schema, &options).await?);
        }
        Ok(Self { streams, database })
    }

    fn refusals(&self) -> impl Iterator<Item = &str> {
        let streams = self.streams.iter().flat_map(Plan::refusals);
        streams.chain(&self.database.refusals).map(String::as_str)
    }

    /// For people, one thing a line.
    fn lines(&self) -> Vec<String> {
        let changes = |server: &'static str, changes: &[String]| {
            changes.iter().map(|change| format!("{server}: {change}")).collect::<Vec<_>>()
        };
        let mut lines = changes("database", &self.database.changes);
        lines.extend(self.streams.iter().flat_map(|plan| changes("NATS", plan.changes())));
        if lines.is_empty() {
            lines.push("nothing would change".to_owned());
        }
        if let Some(server) = &self.database.server {
            lines.insert(0, format!("database: is {server}"));
            lines.extend(server.warning().map(|warning| format!("warning: {warning}")));
        }
        lines.extend(self.refusals().map(|why| format!("refused: {why}")));
        lines
    }

    fn require(&self) -> Result<()> {
        let refusals: Vec<_> = self.refusals().collect();
        if refusals.is_empty() { Ok(()) } else { Err(Error::configuration(refusals.join("; "))) }
    }
}
