//! A whole deployment on this machine: NATS, PostgreSQL, discovery and workers as real processes, for
//! the demo and for tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::error::{Error, Result};
use fleet_core::nats::{Bindings, Discovery};
use fleet_sinks::timescale::{Connector, TimescaleReader};
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, sleep};
use tokio_postgres::Client;

use crate::cli::SetupArgs;
use crate::commands::setup::setup;
use crate::config::Config;
use crate::live::{Counts, Live};
use crate::local::{LocalError, NatsServer, Postgres, Process, Usage, free_port, http_get};
use crate::metrics::sum;

/// A running `discover` or `run`.
#[derive(Debug)]
pub struct Program {
    /// The process.
    pub process: Process,
    admin: String,
}

/// Servers and programs; all end with the value.
#[derive(Debug)]
pub struct Deployment {
    /// The broker.
    pub nats: NatsServer,
    /// The database.
    pub postgres: Postgres,
    /// What all programs run by.
    pub config: Config,
    /// Vehicle Discovery.
    pub discovery: Program,
    /// The workers that were started and not killed.
    pub workers: Vec<Program>,
    ended: Usage,
    ended_rows: u64,
    /// One for each cell, that asks about its queue.
    asked: Vec<Discovery>,
    program: PathBuf,
    file: PathBuf,
    started: usize,
    dir: TempDir,
}

fn local(error: LocalError) -> Error {
    Error::unavailable(error.to_string())
}

impl Deployment {
    /// Starts servers, makes streams and tables, and starts `program discover` and as many
    /// `program run`. `config` is TOML without the database's URL; a table `[nats]` must name the servers.
    ///
    /// # Errors
    /// What could not be started, with the end of its log.
    pub async fn start(program: &Path, config: &str, workers: usize) -> Result<Self> {
        let nats = NatsServer::start().await.map_err(local)?;
        Self::start_on(nats, program, config, workers).await
    }

    /// The same on a broker of the caller's.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub async fn start_on(nats: NatsServer, program: &Path, config: &str, workers: usize) -> Result<Self> {
        // Rows tell when they became visible.
        let postgres = Postgres::builder().setting("track_commit_timestamp", "on");
        let postgres = postgres.setting("max_connections", "60").start().await.map_err(local)?;
        let dir = tempfile::Builder::new().prefix("fleet-deployment-").tempdir();
        let dir = dir.map_err(|e| Error::unavailable("a temporary folder").caused_by(e))?;
        let file = dir.path().join("fleet.toml");
        let (nats_url, database) = (nats.url(), postgres.url());
        const TABLE: &str = "[sink.timescale]\n";
        let mut text = config.to_owned();
        if !text.contains(TABLE) {
            text += &format!("\n{TABLE}");
        }
        text = text.replacen(TABLE, &format!("{TABLE}url = {database:?}\n"), 1);
        if !config.lines().any(|line| line.trim() == "[nats]") {
            text += &format!("\n[nats]\nurl = {nats_url:?}\n");
        }
        std::fs::write(&file, text).map_err(|e| Error::unavailable("the configuration").caused_by(e))?;
        let config = Config::load(Some(&file), std::iter::empty(), &[]).map_err(|problems| {
            Error::configuration(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
        })?;
        setup(&config, &SetupArgs::default()).await?;
        let mut asked = Vec::with_capacity(config.cells.len());
        for names in config.names() {
            asked.push(Discovery::connect(&config.nats.options(), &names, config.nats.max_age).await?);
        }
        let log = dir.path().join("discover.log");
        let discovery = Program::start(command(program, "discover", &file), log).await?;
        let program = program.to_owned();
        let mut deployment = Self {
            nats,
            postgres,
            config,
            discovery,
            workers: Vec::new(),
            ended: Usage::default(),
            ended_rows: 0,
            asked,
            program,
            file,
            started: 0,
            dir,
        };
        for _ in 0..workers {
            deployment.add_worker().await?;
        }
        Ok(deployment)
    }

    /// Starts one more worker and waits until it is ready.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn add_worker(&mut self) -> Result<()> {
        self.started += 1;
        let log = self.dir.path().join(format!("run-{}.log", self.started));
        self.workers.push(Program::start(command(&self.program, "run", &self.file), log).await?);
        Ok(())
    }

    /// Starts discovery again, which has ended, and waits until it is ready.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start_discovery(&mut self) -> Result<()> {
        let log = self.dir.path().join("discover-again.log");
        self.discovery = Program::start(command(&self.program, "discover", &self.file), log).await?;
        Ok(())
    }

    /// The state of all cells' bind queues together, where NATS answers for each.
    pub async fn bindings(&self) -> Option<Bindings> {
        let mut all = Bindings { waiting: 0, bound: 0, active: 0 };
        for asked in &self.asked {
            let Bindings { waiting, bound, active } = asked.bindings().await.ok()?;
            all.waiting += waiting;
            all.bound += bound;
            all.active += active;
        }
        Some(all)
    }

    /// How many `on` signals nobody has read yet, where NATS answers for each cell.
    async fn unread(&self) -> Option<u64> {
        let mut all = 0;
        for asked in &self.asked {
            all += asked.unread().await.ok()?;
        }
        Some(all)
    }

    /// SIGKILL to the first worker; how many vehicles it held.
    pub async fn kill_worker(&mut self) -> u64 {
        if self.workers.is_empty() {
            return 0;
        }
        let mut worker = self.workers.remove(0);
        let held = worker.metric("fleet_bound").await.unwrap_or(0);
        self.ended_rows += worker.metric("fleet_durable_rows_total").await.unwrap_or(0);
        self.ended.cpu += worker.process.usage().unwrap_or_default().cpu;
        worker.process.kill().await;
        held
    }

    /// How many vehicles the workers say that they hold.
    pub async fn bound_by_living(&self) -> u64 {
        let mut bound = 0;
        for worker in &self.workers {
            bound += worker.metric("fleet_bound").await.unwrap_or(0);
        }
        bound
    }

    /// How many rows the workers have made durable, those of killed ones and corrections included.
    pub async fn durable_rows(&self) -> u64 {
        let workers = self.workers.iter().map(|worker| worker.admin.clone()).collect();
        self.ended_rows + counts(workers).await.iter().map(|counted| counted.records).sum::<u64>()
    }

    /// What the parts have used so far, by name; the workers together, the CPU time of killed ones included.
    pub fn usage(&self) -> [(&'static str, Usage); 4] {
        let of = |process: Option<&Process>| process.and_then(Process::usage).unwrap_or_default();
        let mut workers = self.ended;
        self.workers.iter().for_each(|worker| workers += of(Some(&worker.process)));
        [
            ("NATS", of(Some(self.nats.process()))),
            ("PostgreSQL", of(self.postgres.process())),
            ("discovery", of(Some(&self.discovery.process))),
            ("workers", workers),
        ]
    }

    /// Waits until no vehicle is bound or waiting: everything of them is durable.
    ///
    /// # Errors
    /// With the ends of all logs.
    pub async fn until_released(&self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            // Asked first: what is read meanwhile is in the queue.
            let unread = self.unread().await;
            let bindings = self.bindings().await;
            if unread == Some(0) && bindings.is_some_and(|b| b.active == 0) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let tails = self.tails();
                let what = format!("after {within:?} vehicles are still bound: {bindings:?}\n{tails}");
                return Err(Error::unavailable(what));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// A client of the database.
    ///
    /// # Errors
    /// What the server says.
    pub async fn client(&self) -> Result<Client> {
        self.postgres.client().await.map_err(local)
    }

    /// The live page over all of it; its rates are those of the workers that run now.
    ///
    /// # Errors
    /// [`Configuration`](fleet_core::ErrorKind::Configuration) if the database's URL is none.
    pub fn live(&self) -> Result<Live> {
        let timescale = self.config.need_timescale().map_err(|p| Error::configuration(p.to_string()))?;
        let schema = &self.config.schema;
        let reader = TimescaleReader::new(Connector::new(&timescale.connect_options())?, schema);
        let workers: Vec<_> = self.workers.iter().map(|worker| worker.admin.clone()).collect();
        Ok(Live::new(reader, schema, "all workers", move || counts(workers.clone())))
    }

    /// How to look for oneself.
    pub fn psql(&self) -> String {
        let psql = self.postgres.bin().join("psql");
        let psql = if psql.is_file() { psql } else { PathBuf::from("psql") };
        format!("{} '{}'", psql.display(), self.postgres.url())
    }

    /// The ends of all logs, for when something went wrong.
    pub fn tails(&self) -> String {
        let programs = std::iter::once(&self.discovery).chain(&self.workers);
        let tails = programs.map(|p| format!("--- {}\n{}", p.admin, p.process.tail()));
        tails.chain([format!("--- NATS\n{}", self.nats.process().tail())]).collect::<Vec<_>>().join("\n")
    }

    /// Ends the programs as a cluster does, by SIGTERM; the servers end with the value.
    pub async fn stop(mut self) {
        let programs = std::iter::once(&mut self.discovery).chain(&mut self.workers);
        for program in programs {
            if program.process.terminate().is_ok() {
                let _ = program.process.wait(Duration::from_secs(10)).await;
            }
        }
    }
}

fn command(program: &Path, subcommand: &str, config: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(subcommand).arg("--config").arg(config);
    command
}

impl Program {
    /// Starts a command that is a `discover` or `run`, on an admin port of ours, and waits until it is ready.
    ///
    /// # Errors
    /// With the end of its log.
    pub async fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let admin = format!("127.0.0.1:{}", free_port());
        command.env("FLEET_ADMIN__LISTEN", &admin);
        let mut process = Process::start("fleet-worker", command, &log).map_err(local)?;
        let ready = || async { http_get(&admin, "/readyz").await.is_some_and(|(status, _)| status == 200) };
        process.until_ready(Duration::from_secs(30), ready).await.map_err(local)?;
        Ok(Self { process, admin })
    }

    /// The sum of a metric's samples, where it is told.
    pub async fn metric(&self, name: &str) -> Option<u64> {
        let (_, body) = http_get(&self.admin, "/metrics").await?;
        sum(&body, name)
    }

    /// Where its admin server listens.
    pub fn address(&self) -> &str {
        &self.admin
    }

    /// What the admin server answers.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        http_get(&self.admin, path).await
    }
}

/// What the workers at these addresses have counted; one that is gone is left out.
async fn counts(workers: Vec<String>) -> Vec<Counts> {
    join_all(workers.into_iter().map(counted)).await.into_iter().flatten().collect()
}

async fn counted(process: String) -> Option<Counts> {
    let (_, body) = http_get(&process, "/metrics").await?;
    let messages = sum(&body, "fleet_messages_total")?;
    let records = sum(&body, "fleet_durable_rows_total")?;
    Some(Counts { process, messages, records })
}
