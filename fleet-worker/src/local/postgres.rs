//! A PostgreSQL server, with TimescaleDB where it has the extension.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::cache::{Sources, run, variable};
use super::process::{Process, free_port};
use super::user::{User, command, give, unprivileged};
use super::{LocalError, Result};

mod programs;

/// How to start a server.
#[derive(Debug, Clone, Default)]
pub struct PostgresBuilder {
    sources: Sources,
    settings: Vec<(String, String)>,
    password: Option<String>,
    files: Vec<(String, Vec<u8>)>,
}

impl PostgresBuilder {
    /// A setting of `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file in the server's data folder, where settings such as `ssl_key_file` look for it; only the
    /// server's user may read it. Files of the cluster itself can be replaced too.
    #[must_use]
    pub fn file(mut self, name: &str, contents: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), contents.into()));
        self
    }

    /// Asks clients for this password; otherwise everyone on this machine may connect.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// Where to look for the programs.
    #[must_use]
    pub fn sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Finds or fetches the programs, makes a cluster with the database `fleet` and starts it.
    ///
    /// # Errors
    /// What to install or which variable to set; the end of the log if it does not come up.
    pub async fn start(self) -> Result<Postgres> {
        let bin = programs::find(self.sources.or_as_told()?, variable("FLEET_PG_BIN")).await?;
        let user = unprivileged();
        let dir = tempfile::Builder::new().prefix("fleet-postgres-").tempdir();
        let dir = dir.map_err(|e| LocalError::io("a temporary folder", e))?;
        give(dir.path(), user, 0o700)?;
        let data = dir.path().join("data");
        self.init(&bin, &data, dir.path(), user).await?;
        for (name, contents) in &self.files {
            let path = data.join(name);
            std::fs::write(&path, contents).map_err(|e| LocalError::io(path.display(), e))?;
            give(&path, user, 0o600)?;
        }
        let mut server = Postgres {
            process: None,
            bin,
            user,
            port: 0,
            dir,
            settings: self.settings,
            password: self.password,
        };
        let mut error = LocalError::new("no free port");
        for _ in 0..5 {
            server.port = free_port();
            match server.start_again().await {
                Ok(()) => {
                    server.create_database("fleet").await?;
                    return Ok(server);
                }
                Err(e) if e.port_taken() => error = e,
                Err(e) => return Err(e),
            }
        }
        Err(error)
    }

    async fn init(&self, bin: &Path, data: &Path, dir: &Path, user: Option<User>) -> Result<()> {
        let mut initdb = command(&bin.join("initdb"), user, "KILL");
        initdb.current_dir(dir).args([
            "--username=fleet",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--pgdata",
        ]);
        initdb.arg(data);
        let secret = dir.join("password");
        if let Some(password) = &self.password {
            std::fs::write(&secret, password).map_err(|e| LocalError::io("a password file", e))?;
            give(&secret, user, 0o600)?;
            initdb.arg("--auth=scram-sha-256").arg("--pwfile").arg(&secret);
        } else {
            initdb.arg("--auth=trust");
        }
        run(initdb, "initdb failed").await?;
        if self.password.is_some() {
            std::fs::remove_file(&secret).map_err(|e| LocalError::io("a password file", e))?;
        }
        Ok(())
    }
}

/// A running server on a port of the loopback; killed, with its data, when dropped.
#[derive(Debug)]
pub struct Postgres {
    process: Option<Process>,
    bin: PathBuf,
    user: Option<User>,
    port: u16,
    dir: TempDir,
    settings: Vec<(String, String)>,
    password: Option<String>,
}

impl Postgres {
    /// Starts one without further settings.
    ///
    /// # Errors
    /// As [`PostgresBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Choices first.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// The URL of the database `fleet`.
    pub fn url(&self) -> String {
        self.url_of("fleet")
    }

    /// The URL of a database.
    pub fn url_of(&self, database: &str) -> String {
        let password = self.password.as_ref().map(|p| format!(":{}", in_url(p))).unwrap_or_default();
        let (port, database) = (self.port, in_url(database));
        format!("postgres://fleet{password}@127.0.0.1:{port}/{database}?sslmode=disable")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where `psql` and the others are.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// A new database, so that tests can share a server. Its URL.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let client = connect(&self.url_of("postgres")).await?;
        let failed = |e| LocalError::new(format!("database {name}: {e}"));
        let quoted = name.replace('"', "\"\"");
        let made = client.batch_execute(&format!("create database \"{quoted}\"")).await;
        made.map_err(failed)?;
        Ok(self.url_of(name))
    }

    /// A client of the database `fleet`.
    ///
    /// # Errors
    /// What the server says.
    pub async fn client(&self) -> Result<Client> {
        connect(&self.url()).await
    }

    /// Whether TimescaleDB is installed beside it. To be created it must also be loaded: `alter system
    /// set shared_preload_libraries = 'timescaledb'`, [`stop`](Self::stop) and
    /// [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// What the server says.
    pub async fn has_timescale(&self) -> Result<bool> {
        const AVAILABLE: &str =
            "select exists (select from pg_available_extensions where name = 'timescaledb')";
        let row = self.client().await?.query_one(AVAILABLE, &[]).await;
        let failed = |e| LocalError::new(format!("extensions of PostgreSQL on this machine: {e}"));
        row.and_then(|row| row.try_get(0)).map_err(failed)
    }

    /// The postmaster, to pause or look at, while it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Fast shutdown: clients are cut, data is written.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.end(Process::interrupt).await
    }

    /// Immediate shutdown: as in a crash, the next start recovers.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn crash(&mut self) -> Result<()> {
        self.end(Process::quit).await
    }

    async fn end(&mut self, signal: impl Fn(&Process) -> Result<()>) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        signal(&process)?;
        process.wait(Duration::from_secs(30)).await.map(drop)
    }

    /// Starts it again on the same port with the same data.
    ///
    /// # Errors
    /// The end of the log if it does not come up.
    pub async fn start_again(&mut self) -> Result<()> {
        // Killed, it would leave its children to notice by themselves.
        let mut postgres = command(&self.bin.join("postgres"), self.user, "QUIT");
        postgres.current_dir(self.dir.path()).arg("-D").arg(self.dir.path().join("data"));
        postgres.arg("-p").arg(self.port.to_string());
        let socket = self.dir.path().display().to_string();
        let ours = [("listen_addresses", "127.0.0.1"), ("unix_socket_directories", socket.as_str())];
        let theirs = self.settings.iter().map(|(n, v)| (n.as_str(), v.as_str()));
        for (name, value) in ours.into_iter().chain(theirs) {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        let mut process = Process::start("postgres", postgres, &self.dir.path().join("log"))?;
        let url = self.url_of("postgres");
        let (status, id) = (self.dir.path().join("data/postmaster.pid"), process.id());
        let ready = || async { says_ready(&status, id) && connect(&url).await.is_ok() };
        if let Err(e) = process.until_ready(Duration::from_secs(120), ready).await {
            process.end_now(Signal::QUIT, Duration::from_secs(10));
            return Err(e);
        }
        self.process = Some(process);
        Ok(())
    }

    /// What it has logged.
    pub fn logs(&self) -> String {
        let log = std::fs::read(self.dir.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Postgres {
    /// SIGQUIT, unlike SIGKILL, ends its children too, so that the folder can go.
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // What stands still would not hear of it.
            let _ = process.resume_all();
            process.end_now(Signal::QUIT, Duration::from_secs(10));
        }
    }
}

/// Whether the process takes connections, as it writes into its data folder. Without it we would take
/// the answer of a server of somebody else who was quicker to take the port.
fn says_ready(pid_file: &Path, id: Option<u32>) -> bool {
    let text = std::fs::read_to_string(pid_file).unwrap_or_default();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    // The process is the first line; the eighth is the status, since PostgreSQL 10.
    lines.first().and_then(|line| line.parse().ok()) == id && lines.get(7) == Some(&"ready")
}

/// Percent-encoded where it must be.
fn in_url(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A client; its connection ends with it.
pub(super) async fn connect(url: &str) -> Result<Client> {
    let refused = |e| LocalError::new(format!("PostgreSQL on this machine: {e}"));
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(refused)?;
    tokio::spawn(connection);
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_urls_keep_to_themselves_is_encoded() {
        assert_eq!(in_url("a-Z_0.~"), "a-Z_0.~");
        assert_eq!(in_url("p@ss:w/?d%é"), "p%40ss%3Aw%2F%3Fd%25%C3%A9");
    }
}
