//! What a setup would do, found out without a change.

use fleet_core::error::{ErrorKind, Result};
use fleet_core::schema::Signal;
use fleet_core::{Error, Schema};

use super::connect::{Connection, Connector};
use super::layout::{self, Edition, Later, edition};
use super::migrate::{self, SetupOptions};
use super::rollup::Kept;
use super::server::Server;
use super::sql::KEY;
use super::{deployment, policies, pooled, rekey, views};

/// What [`setup`](super::setup) would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabasePlan {
    /// The deployment that the database belongs to, if a setup has drawn its id.
    pub deployment: Option<String>,
    /// What the server is, if it was asked.
    pub server: Option<Server>,
    /// What would change, in words; nothing where all is as it should be.
    pub changes: Vec<String>,
    /// Why nothing would be done, in words.
    pub refusals: Vec<String>,
}

/// Finds out what [`setup`](super::setup) would do, and changes nothing.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable), also where the server takes no writes, and
/// [`Configuration`](fleet_core::ErrorKind::Configuration) where nobody can log in. What else a person must
/// change is in [`DatabasePlan::refusals`].
pub async fn plan(connector: &Connector, schema: &Schema, options: &SetupOptions) -> Result<DatabasePlan> {
    let connection = connector.connect().await?;
    let refused = pooled::refuse(connector, &connection).await;
    let mut plan = DatabasePlan::of(&connection, schema, options).await?;
    plan.note(refused)?;
    Ok(plan)
}

impl DatabasePlan {
    /// The same on a connection that is there, but for poolers.
    pub(super) async fn of(connection: &Connection, schema: &Schema, options: &SetupOptions) -> Result<Self> {
        connection.takes_writes().await?;
        let mut plan = Self { deployment: deployment::find(connection).await?, ..Self::default() };
        if plan.deployment.is_none() {
            plan.changes.push("draw the deployment's id".to_owned());
        }
        plan.note(require_rights(connection).await)?;
        let server = Server::of(connection).await?;
        if server.offered {
            plan.changes.push("create the extension timescaledb".to_owned());
        }
        plan.server = Some(server);
        if let Some(reader) = &options.reader {
            plan.note(views::require_role(connection, reader).await)?;
        }
        if let Some(version) = plan.note(migrate::version(connection).await)? {
            plan.tables(connection, schema, version).await?;
            plan.settings(connection, options).await?;
        }
        Ok(plan)
    }

    /// Refuses what it refuses.
    pub(super) fn require(&self) -> Result<()> {
        if self.refusals.is_empty() { Ok(()) } else { Err(Error::configuration(self.refusals.join("; "))) }
    }

    /// What a person must change is a refusal; other errors are the caller's.
    fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == ErrorKind::Configuration => {
                self.refusals.push(error.to_string());
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn tables(&mut self, connection: &Connection, schema: &Schema, version: i32) -> Result<()> {
        if version == 0 {
            let signals: Vec<_> = schema.signals().iter().map(|s| s.name.as_str()).collect();
            self.changes.push(format!("create the tables for {}", signals.join(", ")));
            return Ok(());
        }
        let newest = migrate::newest();
        if version < newest {
            self.changes.push(format!("bring the tables from version {version} to {newest}"));
        }
        if self.note(rekey::is_due(connection).await)? == Some(true) {
            self.changes
                .push(format!("give telemetry the key ({KEY}); writers wait while its index is made"));
        }
        let new = self.note(layout::compare(connection, schema, Later::Refused).await)?;
        self.changes.extend(new.into_iter().flatten().map(added));
        Ok(())
    }

    async fn settings(&mut self, connection: &Connection, options: &SetupOptions) -> Result<()> {
        const WHAT: &str = "look at the settings of the tables";
        let edition = edition(connection).await?;
        if edition == Edition::Plain {
            return Ok(());
        }
        let asked = connection
            .client()
            .query_opt(
                "select time_interval <> $1::text::interval, time_interval::text \
                 from timescaledb_information.dimensions \
                 where hypertable_schema = current_schema() and hypertable_name = 'telemetry'",
                &[&options.chunk_interval()],
            )
            .await
            .map_err(connection.failed(WHAT))?;
        let Some(row) = asked else { return Ok(()) };
        if row.get(0) {
            let (from, to) = (row.get::<_, &str>(1), options.chunk_interval());
            self.changes.push(format!("make chunks of {to} instead of {from} from now on"));
        }
        if edition != Edition::Community {
            return Ok(());
        }
        self.changes.extend(policies::compression(options).change(connection).await?);
        if Kept::found(connection).await? == Some(Kept::ByServer) {
            self.changes.extend(policies::retention(options).change(connection).await?);
        }
        Ok(())
    }
}

fn added(signal: &Signal) -> String {
    let columns: Vec<_> = signal.columns.iter().map(|c| c.name.as_str()).collect();
    format!("add the signal {} with the columns {}", signal.name, columns.join(", "))
}

/// Refuses a role that may not make the tables, or does not own those that are there.
async fn require_rights(connection: &Connection) -> Result<()> {
    const RIGHTS: &str = "select current_user::text, current_schema()::text, \
        coalesce(has_schema_privilege(current_schema(), 'create'), false), \
        (select string_agg(c.relname, ', ') from pg_class c \
           where c.oid in (to_regclass('telemetry'), to_regclass('vehicle_latest'), to_regclass('fleet_deployment')) \
             and not pg_has_role(c.relowner, 'usage'))";
    let row = connection.client().query_one(RIGHTS, &[]).await;
    let row = row.map_err(connection.failed("look at the rights"))?;
    let (user, schema): (&str, Option<&str>) = (row.get(0), row.get(1));
    let Some(schema) = schema else {
        return Err(Error::configuration("no schema of the search_path is there: create it or correct it"));
    };
    if !row.get::<_, bool>(2) {
        return Err(Error::configuration(format!(
            "the role {user} may not create tables in the schema {schema} (42501): grant the right to create in it"
        )));
    }
    match row.get::<_, Option<&str>>(3) {
        None => Ok(()),
        Some(tables) => Err(Error::configuration(format!(
            "the role {user} does not own {tables}: set up as their owner, or make it a member of that role"
        ))),
    }
}
