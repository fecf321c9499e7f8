//! What a database server is, and what a setup finds there of TimescaleDB.

use fleet_core::error::Result;

use super::connect::{Connection, Connector};
use super::layout::{Edition, edition};

/// A server, by what is in this database.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Server {
    /// PostgreSQL's version.
    pub version: String,
    /// What can be used of TimescaleDB.
    pub edition: Edition,
    /// TimescaleDB's version, where the extension is in the database.
    pub timescaledb: Option<String>,
    /// Whether TimescaleDB is loaded and the extension can be created.
    pub offered: bool,
    /// Whether TimescaleDB is installed, but not loaded: no setup can use it.
    pub unloaded: bool,
}

/// Asks what a server is.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) or
/// [`Configuration`](fleet_core::ErrorKind::Configuration), if nobody can log in.
pub async fn server(connector: &Connector) -> Result<Server> {
    Server::of(&connector.connect().await?).await
}

impl Server {
    pub(super) async fn of(connection: &Connection) -> Result<Self> {
        // The loader's settings show that it was preloaded; creating the extension without it is fatal.
        const ASK: &str = "select current_setting('server_version'), \
            (select extversion from pg_extension where extname = 'timescaledb'), \
            exists (select from pg_available_extensions where name = 'timescaledb' and installed_version is null), \
            current_setting('timescaledb.max_background_workers', true) is not null";
        let row = connection.client().query_one(ASK, &[]).await;
        let row = row.map_err(connection.failed("look for TimescaleDB"))?;
        let (available, loaded): (bool, bool) = (row.get(2), row.get(3));
        Ok(Self {
            version: row.get(0),
            edition: edition(connection).await?,
            timescaledb: row.get(1),
            offered: available && loaded,
            unloaded: available && !loaded,
        })
    }

    /// What an operator should know, where TimescaleDB could be used and is not.
    pub fn warning(&self) -> Option<&'static str> {
        self.unloaded.then_some(
            "TimescaleDB is installed, but the server does not load it: rows go to plain PostgreSQL, and stay \
             there. Add timescaledb to shared_preload_libraries and restart the server before the first setup",
        )
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgreSQL {}", self.version)?;
        match (&self.timescaledb, self.edition) {
            (Some(version), edition) => write!(f, " with TimescaleDB {version}, {edition} edition"),
            (None, _) if self.offered => f.write_str(" with TimescaleDB, to be set up"),
            (None, _) => f.write_str(" without TimescaleDB"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named() {
        let plain = Server {
            version: "17.5".to_owned(),
            edition: Edition::Plain,
            timescaledb: None,
            offered: false,
            unloaded: false,
        };
        let community =
            Server { edition: Edition::Community, timescaledb: Some("2.23.0".to_owned()), ..plain.clone() };
        let offered = Server { offered: true, ..plain.clone() };
        assert_eq!(plain.to_string(), "PostgreSQL 17.5 without TimescaleDB");
        assert_eq!(community.to_string(), "PostgreSQL 17.5 with TimescaleDB 2.23.0, community edition");
        assert_eq!(offered.to_string(), "PostgreSQL 17.5 with TimescaleDB, to be set up");
        assert_eq!((plain.warning(), offered.warning()), (None, None));
        assert!(Server { unloaded: true, ..plain }.warning().is_some());
    }
}
