//! The sink that gathers rows and writes files.

use std::hash::BuildHasher;
use std::time::Duration;

use fleet_core::batch::Batch;
use fleet_core::error::{Error, Result};
use fleet_core::sink::{Progress, Sink};
use fleet_core::time::display;
use fleet_core::{Micros, Schema};

use super::encode::encode;
use super::gather::{Day, Days};
use super::naming;
use super::store::{Place, Store};

/// An archive and its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetOptions {
    /// Where the files go.
    pub place: Place,
    /// Who writes, as part of the files' names: letters, digits, `-` and `_`.
    pub worker: String,
    /// Rows of a day that take this many bytes in memory become a file; on disk it is about a tenth.
    /// All days together take at most twice as much.
    pub max_bytes: usize,
    /// Rows wait at most this long for their file to be full, if batches go on coming.
    pub max_age: Duration,
}

impl ParquetOptions {
    /// Files of 128 MiB in memory or five minutes.
    pub fn new(place: impl Into<Place>, worker: &str) -> Self {
        Self {
            place: place.into(),
            worker: worker.to_owned(),
            max_bytes: 128 << 20,
            max_age: Duration::from_secs(5 * 60),
        }
    }
}

/// Days whose rows are gathered side by side at most: more are open only in the wildest catch-up.
const MAX_DAYS: usize = 8;

/// Writes records as Parquet files. A batch is accepted when it is in memory and durable when all its
/// rows are in visible files.
///
/// Gathered rows are in memory, at most twice [`max_bytes`](ParquetOptions::max_bytes) and one batch.
pub struct ParquetSink {
    options: ParquetOptions,
    schema: Schema,
    store: Store,
    days: Days,
    accepted: u64,
    files: u64,
    clock: Box<dyn Fn() -> Micros + Send + Sync>,
}

impl std::fmt::Debug for ParquetSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetSink")
            .field("options", &self.options)
            .field("accepted", &self.accepted)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ParquetSink {
    /// Opens an archive for records of this schema. `clock` says the time of storing, UTC, by which a reader
    /// knows the newer of two values: best one that nobody sets back, such as the server's. In a folder it
    /// removes unfinished files of killed writers that are older than an hour.
    ///
    /// # Errors
    /// [`Configuration`](fleet_core::ErrorKind::Configuration), with the option's name and value.
    pub fn new(
        options: ParquetOptions,
        schema: &Schema,
        clock: impl Fn() -> Micros + Send + Sync + 'static,
    ) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=128).contains(&options.worker.len()) || !options.worker.chars().all(fits) {
            let rule = "must be 1 to 128 of A-Z a-z 0-9 _ -";
            return Err(Error::configuration(format!("worker {:?} {rule}", options.worker)));
        }
        let store = Store::open(&options.place, clock())?;
        let (schema, days) = (schema.clone(), Days::default());
        Ok(Self { options, schema, store, days, accepted: 0, files: 0, clock: Box::new(clock) })
    }

    /// Asks, at the start, whether the archive is there and may be used.
    ///
    /// # Errors
    /// [`Configuration`](fleet_core::ErrorKind::Configuration) for a bucket that is not there or keys
    /// that are not good for it, [`Unavailable`](fleet_core::ErrorKind::Unavailable) if nobody answers
    /// or a folder is gone.
    pub async fn check(&self) -> Result<()> {
        self.store.check().await
    }

    /// How many files it has written.
    pub fn files(&self) -> u64 {
        self.files
    }

    fn durable(&self) -> u64 {
        self.days.first().map_or(self.accepted, |first| first.saturating_sub(1))
    }

    fn is_due(&self, day: &Day) -> bool {
        day.bytes >= self.options.max_bytes || day.since.elapsed() >= self.options.max_age
    }

    /// A day whose file is to be written now.
    fn due(&self) -> Option<String> {
        let crowded = self.days.len() > MAX_DAYS || self.days.bytes() >= 2 * self.options.max_bytes;
        self.days.find(|day| crowded || self.is_due(day))
    }

    /// Writes the file of a day. After an error its rows are still gathered.
    async fn write(&mut self, date: &str) -> Result<()> {
        let Some(day) = self.days.get(date) else { return Ok(()) };
        let (pieces, schema) = (day.pieces.clone(), self.schema.clone());
        let stamp: String = display((self.clock)()).chars().filter(|c| !matches!(c, '-' | ':')).collect();
        let encoded = tokio::task::spawn_blocking(move || encode(&schema, &pieces)).await;
        let bytes =
            encoded.map_err(|e| Error::internal("the task that encodes a file ended").caused_by(e))??;
        // No two writers ever choose the same name, nor one before and after its restart.
        let random = std::hash::RandomState::new().hash_one(self.files);
        let (day, worker) = (naming::folder(date), &self.options.worker);
        let path = format!("{day}/{stamp}-{worker}-{random:016x}.parquet");
        self.store.put(path, bytes).await?;
        self.days.remove(date);
        self.files += 1;
        Ok(())
    }
}

impl Sink for ParquetSink {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        if batch.record().num_columns() != self.schema.column_count() + 3 {
            return Err(Error::internal("a batch has another schema than its sink"));
        }
        // Before the batch is taken: after an error only the batch is given again.
        while let Some(date) = self.due() {
            self.write(&date).await?;
        }
        self.days.add(batch, (self.clock)());
        self.accepted = batch.sequence();
        Ok(Progress::up_to(self.durable()))
    }

    async fn flush(&mut self) -> Result<Progress> {
        while let Some(date) = self.days.find(|_| true) {
            if let Err(error) = self.write(&date).await {
                // All that isn't durable is given again.
                self.accepted = self.durable();
                self.days.clear();
                return Err(error);
            }
        }
        Ok(Progress::up_to(self.accepted))
    }

    async fn probe(&mut self) -> Result<()> {
        self.check().await
    }
}
