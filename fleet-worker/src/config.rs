//! The configuration: one TOML file, overridden by the environment, overridden by flags.

mod archive;
mod cells;
mod keys;
mod nats;
mod records;
mod render;
mod secret;
#[cfg(test)]
mod tests;
mod timescale;
mod values;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use fleet_core::nats::{Names, SourceOptions, StreamOptions};
use fleet_core::pipeline::PipelineOptions;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::{micros, parse_duration};
use fleet_core::{CellId, Schema};

pub use archive::{ArchivePlace, BucketConfig, ParquetConfig, archive_place};
pub use fleet_core::schema::Problem;
pub use fleet_core::schema::parse_size;
pub use nats::NatsConfig;
pub use secret::{Secret, Url, without_passwords};
pub use timescale::TimescaleConfig;

use crate::lanes::{Share, shares};
use values::{Layer, Values};

/// What a command can't do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Any configuration will do.
    Nothing,
    /// `sink.timescale.url`.
    Database,
}

const NO_DATABASE: (&str, &str) =
    ("sink.timescale.url", "is missing: set it, FLEET_SINK__TIMESCALE__URL or --database-url");

/// Everything that a program of fleet can be told, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The groups of vehicles that are served: one at least, none twice.
    pub cells: Vec<CellId>,
    /// How records are made, as written.
    pub records: RecordsConfig,
    /// How records are made, frozen.
    pub schema: Schema,
    /// `[nats]`.
    pub nats: NatsConfig,
    /// `[worker]`.
    pub worker: WorkerConfig,
    /// `[sink.timescale]`, where it has a URL.
    pub timescale: Option<TimescaleConfig>,
    /// `[sink.parquet]`, where it has a path or a URL.
    pub parquet: Option<ParquetConfig>,
    /// How long records, trips and their archive are kept; for ever if not set.
    pub retention: Option<Duration>,
    /// Where the admin server listens, if at all.
    pub admin: Option<SocketAddr>,
    /// Whether it serves the live page too.
    pub page: bool,
    /// `[log]`.
    pub log: LogConfig,
    shown: String,
}

/// How a worker works; the defaults fit 10,000 vehicles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerConfig {
    /// Threads that serve vehicles; by default as many as the cores that the process is given.
    pub lanes: Option<usize>,
    /// Vehicles that one worker holds at most, in all its lanes.
    pub max_vehicles: usize,
    /// How long a vehicle stays with a worker that gives no sign.
    pub ack_wait: Duration,
    /// Without any sign of life for this long a vehicle counts as off.
    pub idle_timeout: Duration,
    /// How long a vehicle that has never sent a sample keeps its place.
    pub first_sample_timeout: Duration,
    /// How often states are saved.
    pub save_interval: Duration,
    /// How often the newest samples of a vehicle are written at most.
    pub newest_interval: Duration,
    /// How often everything is caught up; by default as the source sees fit.
    pub audit_interval: Option<Duration>,
    /// Catch-up rounds start at most this often.
    pub round_interval: Duration,
    /// How long a vehicle's catch-up may take before the worker is not ready.
    pub catch_up_timeout: Duration,
    /// Rows of a batch at most.
    pub batch_rows: usize,
    /// How old a batch's oldest row gets.
    pub batch_age: Duration,
    /// Rows that wait for a sink at most, in all lanes.
    pub max_waiting_rows: usize,
    /// How long the last batch may take on shutdown.
    pub shutdown_deadline: Duration,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Their form.
    pub format: LogFormat,
    /// The most detailed level of our own crates.
    pub level: tracing::Level,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Auto, level: tracing::Level::INFO }
    }
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Config {
    /// Reads `file`, lays the variables of `env` over it and `overrides` (path and value) over both.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first thing; a file that is no TOML at all is one.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, Vec<Problem>> {
        Self::load_for(Needs::Nothing, file, env, overrides)
    }

    /// The same for a command that can't do without something.
    ///
    /// # Errors
    /// As [`load`](Self::load), what is needed and missing included.
    pub fn load_for(
        needs: Needs,
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, Vec<Problem>> {
        let Some(file) = file else { return Self::read(needs, "", "", env, overrides) };
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file)
            .map_err(|e| vec![Problem { path: name.clone(), message: format!("can't be read: {e}") }])?;
        Self::read(needs, &name, &text, env, overrides)
    }

    /// The same of a file's text; `name` is what problems call it.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn parse(
        name: &str,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, Vec<Problem>> {
        Self::read(Needs::Nothing, name, text, env, overrides)
    }

    fn read(
        needs: Needs,
        name: &str,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, Vec<Problem>> {
        let mut table = table(name, text).map_err(|problem| vec![problem])?;
        let signals = table.remove("signal");
        let mut values = Values::default();
        values.take_file(table, "");
        values.take_environment(env);
        values.take_overrides(overrides);
        let nats = nats::read(&mut values);
        let retention = retention(&mut values, nats.max_age);
        max_past(&mut values, retention);
        let (records, schema) = records::read(&mut values, signals);
        let cells = cells::read(&mut values);
        let worker = worker(&mut values, cells.len());
        let parquet = archive::read(&mut values);
        let hot = timescale::retention(&mut values, nats.max_age, retention, parquet.as_ref());
        let timescale = timescale::read(&mut values, hot);
        if needs == Needs::Database && values.optional("sink.timescale.url").is_none() {
            values.say(NO_DATABASE.0, NO_DATABASE.1);
        }
        let (admin, page) = admin(&mut values);
        let log = log(&mut values);
        let shown = render::render(&values, &records);
        match schema {
            Some(schema) if values.problems.is_empty() => Ok(Self {
                cells,
                records,
                schema,
                nats,
                worker,
                timescale,
                parquet,
                retention,
                admin,
                page,
                log,
                shown,
            }),
            _ => Err(values.problems),
        }
    }

    /// The effective configuration as TOML, with every secret as `***`.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The names of each cell's subjects and streams.
    pub fn names(&self) -> impl Iterator<Item = Names> {
        self.cells.iter().map(Names::new)
    }

    /// The cell, for a program that works on one alone.
    ///
    /// # Errors
    /// The problem that there are several.
    pub fn one_cell(&self) -> Result<&CellId, Problem> {
        match &self.cells[..] {
            [cell] => Ok(cell),
            cells => Err(Problem {
                path: "cells".to_owned(),
                message: format!("this needs one of {}: name it with --cell", cells::list(cells)),
            }),
        }
    }

    /// `[sink.timescale]` for a command that can't do without.
    ///
    /// # Errors
    /// The problem that it is not there.
    pub fn need_timescale(&self) -> Result<&TimescaleConfig, Problem> {
        let (path, message) = NO_DATABASE;
        let problem = || Problem { path: path.to_owned(), message: message.to_owned() };
        self.timescale.as_ref().ok_or_else(problem)
    }

    /// How the streams are made.
    pub fn stream_options(&self) -> StreamOptions {
        let default = StreamOptions::default().dead_letters_max_age;
        StreamOptions {
            replicas: self.nats.replicas,
            max_age: self.nats.max_age,
            max_bytes: self.nats.max_bytes,
            dead_letters_max_age: self.retention.map_or(default, |kept| kept.min(default)),
            ack_wait: self.worker.ack_wait,
            ..StreamOptions::default()
        }
    }

    /// The choices of a pipeline with that share.
    pub fn pipeline_options(&self, share: &Share) -> PipelineOptions {
        let (worker, default) = (&self.worker, PipelineOptions::default());
        PipelineOptions {
            max_vehicles: share.max_vehicles,
            batch_rows: worker.batch_rows.min(share.max_waiting_rows),
            batch_age: worker.batch_age,
            max_lag: self.parquet.as_ref().map_or(default.max_lag, |parquet| parquet.max_age),
            max_waiting_rows: share.max_waiting_rows,
            save_interval: worker.save_interval,
            newest_interval: worker.newest_interval,
            patience: Duration::from_micros(self.schema.patience().unsigned_abs()),
            idle_timeout: worker.idle_timeout,
            first_sample_timeout: worker.first_sample_timeout,
            shutdown_deadline: worker.shutdown_deadline,
        }
    }

    /// The source's choices.
    pub fn source_options(&self) -> SourceOptions {
        SourceOptions {
            round_interval: self.worker.round_interval,
            audit_interval: self.worker.audit_interval,
            ..SourceOptions::default()
        }
    }

    /// How the worker's vehicles are shared out on a machine that gives it so many cores.
    pub fn shares(&self, cores: usize) -> Vec<Share> {
        let WorkerConfig { lanes, max_vehicles, max_waiting_rows, .. } = self.worker;
        shares(&self.cells, lanes.unwrap_or(cores), max_vehicles, max_waiting_rows)
    }

    /// The same for one cell alone.
    #[must_use]
    pub fn of_cell(&self, cell: &CellId) -> Self {
        Self { cells: vec![cell.clone()], ..self.clone() }
    }
}

fn table(name: &str, text: &str) -> Result<toml::Table, Problem> {
    toml::from_str(text).map_err(|e: toml::de::Error| {
        let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let message = e.message().trim().replace('\n', "; ");
        Problem { path: format!("{name}:{line}:{column}"), message }
    })
}

const SECOND: u64 = 1_000;
const HOUR: u64 = 3_600 * SECOND;

fn worker(values: &mut Values, cells: usize) -> WorkerConfig {
    let lanes = values.optional("worker.lanes").is_some();
    let audit = values.optional("worker.audit_interval").is_some();
    let config = WorkerConfig {
        lanes: lanes.then(|| values.count("worker.lanes", 1..=1_024)),
        max_vehicles: values.count("worker.max_vehicles", 1..=1_000_000),
        ack_wait: values.duration("worker.ack_wait", SECOND..=HOUR),
        idle_timeout: values.duration("worker.idle_timeout", SECOND..=7 * 24 * HOUR),
        first_sample_timeout: values.duration("worker.first_sample_timeout", SECOND..=7 * 24 * HOUR),
        save_interval: values.duration("worker.save_interval", 100..=HOUR),
        newest_interval: values.duration("worker.newest_interval", 250..=HOUR),
        audit_interval: audit.then(|| values.duration("worker.audit_interval", SECOND..=7 * 24 * HOUR)),
        round_interval: values.duration("worker.round_interval", 10..=HOUR),
        catch_up_timeout: values.duration("worker.catch_up_timeout", SECOND..=7 * 24 * HOUR),
        batch_rows: values.count("worker.batch_rows", 1..=1_000_000),
        batch_age: values.duration("worker.batch_age", 1..=HOUR),
        max_waiting_rows: values.count("worker.max_waiting_rows", 1..=100_000_000),
        shutdown_deadline: values.duration("worker.shutdown_deadline", SECOND..=HOUR),
    };
    if config.max_waiting_rows < config.batch_rows {
        let (rows, batch) = (config.max_waiting_rows, config.batch_rows);
        values.say("worker.max_waiting_rows", format!("{rows} is less than worker.batch_rows, {batch}"));
    }
    if config.max_vehicles < cells {
        let vehicles = config.max_vehicles;
        values.say("worker.max_vehicles", format!("{vehicles} is less than the number of cells, {cells}"));
    }
    config
}

/// Longer than any catch-up reaches back: what it writes must not fall to what was dropped.
fn retention(values: &mut Values, max_age: Duration) -> Option<Duration> {
    let text = values.optional("retention")?;
    let before = values.problems.len();
    let kept = values.duration("retention", 24 * HOUR..=100 * 366 * 24 * HOUR);
    if kept < max_age.saturating_mul(2) {
        values.say("retention", format!("{text:?} is less than twice nats.max_age"));
    }
    (values.problems.len() == before).then_some(kept)
}

/// What is older than `retention` would be stored only to be dropped.
fn max_past(values: &mut Values, retention: Option<Duration>) {
    let Some(kept) = retention.map(micros) else { return };
    let past = values.text("max_past").to_owned();
    // What is no duration is said where the records are read.
    if parse_duration(&past).ok().is_none_or(|past| past <= kept) {
        return;
    }
    let retention = values.text("retention").to_owned();
    if values.layer("max_past") == Layer::Default {
        values.set_default("max_past", retention);
    } else {
        values.say("max_past", format!("{past:?} is longer than retention, {retention:?}"));
    }
}

fn admin(values: &mut Values) -> (Option<SocketAddr>, bool) {
    let page = values.flag("admin.page");
    let Some(text) = values.optional("admin.listen") else {
        if page {
            values.say("admin.page", "is true, but without admin.listen there is no server for it");
        }
        return (None, page);
    };
    let listen = text.trim().parse();
    if listen.is_err() {
        values.say("admin.listen", format!("{text:?} is not an address such as \"127.0.0.1:9600\""));
    }
    (listen.ok(), page)
}

fn log(values: &mut Values) -> LogConfig {
    let format = match values.text("log.format") {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        "auto" => LogFormat::Auto,
        other => {
            let message = format!("{other:?} is none of auto text json");
            values.say("log.format", message);
            LogFormat::Auto
        }
    };
    let level = match values.text("log.level") {
        "error" => tracing::Level::ERROR,
        "warn" => tracing::Level::WARN,
        "info" => tracing::Level::INFO,
        "debug" => tracing::Level::DEBUG,
        "trace" => tracing::Level::TRACE,
        other => {
            let message = format!("{other:?} is none of error warn info debug trace");
            values.say("log.level", message);
            tracing::Level::INFO
        }
    };
    LogConfig { format, level }
}
