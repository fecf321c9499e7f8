//! The sinks of a worker, as configured.

use std::sync::Arc;

#[cfg(feature = "parquet")]
use fleet_core::ErrorKind;
use fleet_core::error::Result;
use fleet_core::sink::{Availability, Backoff, Cursor, DynSink, Retry, Sink};
use fleet_core::{CellId, Micros};
use fleet_sinks::timescale::{Connector, HotFirstSink, SinkCounters, TimescaleSink};

use crate::clock;
#[cfg(feature = "parquet")]
use crate::config::ArchivePlace;
use crate::config::Config;
use crate::lanes::Share;

/// Every sink that is configured, as one.
pub(super) struct Sinks {
    pub sink: Box<dyn DynSink>,
    /// Whether the required ones are there, by name.
    pub required: Vec<(&'static str, Availability)>,
    /// Whether the optional ones are.
    pub optional: Vec<(&'static str, Availability)>,
    /// How far the optional ones are, by name.
    pub cursors: Vec<(&'static str, Cursor)>,
    /// What the database's has done.
    pub database: Arc<SinkCounters>,
}

/// Makes the sinks of a pipeline with that share; `clock` says the time of storing in an archive.
///
/// # Errors
/// [`Configuration`](fleet_core::ErrorKind::Configuration) if the archive can't be used,
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) if it is away and must be waited for.
pub(super) async fn sinks(
    config: &Config,
    connector: &Connector,
    share: &Share,
    clock: impl Fn() -> Micros + Send + Sync + 'static,
) -> Result<Sinks> {
    let mut timescale = TimescaleSink::new(connector.clone(), &config.schema);
    if config.parquet.as_ref().is_some_and(|archive| archive.required) {
        timescale = timescale.beside_archive();
    }
    let timescale = HotFirstSink::of(timescale, share.part(config.worker.max_waiting_rows));
    let (database, pulse) = (timescale.counters(), timescale.pulse());
    let timescale = Retry::new(timescale, DATABASE, Backoff::default()).asking(pulse);
    let required = vec![(DATABASE, timescale.availability())];
    match archive(config, &share.cell, |whole| share.part(whole), clock).await? {
        None => {
            let (optional, cursors) = (Vec::new(), Vec::new());
            Ok(Sinks { sink: Box::new(timescale), required, optional, cursors, database })
        }
        #[cfg(feature = "parquet")]
        Some((archive, limits)) => {
            let tee = fleet_core::sink::Tee::new().required(timescale);
            let (mut required, mut optional) = (required, Vec::new());
            let tee = match limits {
                None => {
                    required.push((ARCHIVE, archive.availability()));
                    tee.required(archive)
                }
                Some(limits) => {
                    optional.push((ARCHIVE, archive.availability()));
                    tee.optional(ARCHIVE, archive, limits)
                }
            };
            let cursors = tee.cursors().into_iter().map(|cursor| (ARCHIVE, cursor)).collect();
            Ok(Sinks { sink: Box::new(tee), required, optional, cursors, database })
        }
        #[cfg(not(feature = "parquet"))]
        Some(never) => match never {},
    }
}

/// The database and, where one is configured, the archive; all of them required.
///
/// # Errors
/// As [`sinks`].
pub(super) async fn complete(config: &Config, database: impl Sink + 'static) -> Result<Box<dyn DynSink>> {
    if config.parquet.is_none() {
        return Ok(Box::new(database));
    }
    match archive(config, super::one_cell(config)?, |whole| whole, clock::now).await? {
        None => Ok(Box::new(database)),
        #[cfg(feature = "parquet")]
        Some((archive, _)) => Ok(Box::new(fleet_core::sink::Tee::new().required(database).required(archive))),
        #[cfg(not(feature = "parquet"))]
        Some(never) => match never {},
    }
}

/// What logs and readiness call the database.
const DATABASE: &str = "timescale";

/// What logs, metrics and readiness call the archive.
#[cfg(feature = "parquet")]
const ARCHIVE: &str = "parquet";

/// The archive, as a cell's, with limits if it is optional; `part` says how much of a limit of the process it has.
#[cfg(feature = "parquet")]
type Archive = (Retry<fleet_sinks::parquet::ParquetSink>, Option<fleet_core::sink::Limits>);
#[cfg(not(feature = "parquet"))]
type Archive = std::convert::Infallible;

#[cfg(feature = "parquet")]
async fn archive(
    config: &Config,
    cell: &CellId,
    part: impl Fn(usize) -> usize,
    clock: impl Fn() -> Micros + Send + Sync + 'static,
) -> Result<Option<Archive>> {
    use fleet_core::sink::Limits;
    use fleet_sinks::parquet::{ParquetOptions, ParquetSink};

    let Some(parquet) = &config.parquet else { return Ok(None) };
    let options = ParquetOptions {
        max_bytes: part(parquet.max_bytes),
        max_age: parquet.max_age,
        ..ParquetOptions::new(place(&parquet.place)?, &format!("cell-{cell}"))
    };
    let sink = ParquetSink::new(options, &config.schema, clock)?;
    match sink.check().await {
        // It holds nothing back, not even the start.
        Err(error) if error.kind() == ErrorKind::Unavailable && !parquet.required => {
            tracing::warn!(%error, "the archive is away, going on without it");
        }
        answer => answer?,
    }
    let default = Limits::default();
    let limits = Limits { max_lag: parquet.max_age, max_rows: part(default.max_rows), ..default };
    let sink = Retry::new(sink, ARCHIVE, Backoff::default());
    Ok(Some((sink, (!parquet.required).then_some(limits))))
}

/// The place as the sink has it.
#[cfg(feature = "parquet")]
pub(super) fn place(configured: &ArchivePlace) -> Result<fleet_sinks::parquet::Place> {
    match configured {
        ArchivePlace::Folder(root) => Ok(root.clone().into()),
        #[cfg(feature = "s3")]
        ArchivePlace::Bucket(bucket) => Ok(fleet_sinks::parquet::Place::Bucket(bucket.options())),
        #[cfg(not(feature = "s3"))]
        ArchivePlace::Bucket(_) => Err(fleet_core::Error::configuration("built without the feature s3")),
    }
}

#[cfg(not(feature = "parquet"))]
#[allow(clippy::unused_async, reason = "the shape with the feature")]
async fn archive(
    _: &Config,
    _: &CellId,
    _: impl Fn(usize) -> usize,
    _: impl Fn() -> Micros,
) -> Result<Option<Archive>> {
    Ok(None)
}
