//! An archive's days, wherever it is, to be read.

use std::ops::Range;

use fleet_core::error::{Error, Result};
use fleet_core::{Micros, Schema};
use tokio::sync::mpsc;

use super::merged::{Merged, VehicleRecords};
use super::{Archive, Place};

/// Vehicles that wait to be taken at most.
const WAITING: usize = 16;

/// An archive that is only read, in a folder or a bucket.
#[derive(Debug, Clone)]
pub struct Days(Source);

#[derive(Debug, Clone)]
enum Source {
    Folder(Archive),
    #[cfg(feature = "s3")]
    Bucket(super::Bucket),
}

/// A day to be read; what was copied for it goes with the value.
#[derive(Debug)]
pub struct Day {
    /// Where its files are.
    pub archive: Archive,
    date: String,
    #[cfg(feature = "s3")]
    _folder: Option<tempfile::TempDir>,
}

#[cfg_attr(not(feature = "s3"), allow(clippy::unused_async, reason = "a bucket is asked"))]
impl Days {
    /// Opens the archive at a place, which is not made if it is not there.
    ///
    /// # Errors
    /// [`Configuration`](fleet_core::ErrorKind::Configuration) for options of a bucket that are none.
    pub fn open(place: &Place) -> Result<Self> {
        Ok(Self(match place {
            Place::Folder(root) => Source::Folder(Archive::open(root)),
            #[cfg(feature = "s3")]
            Place::Bucket(options) => Source::Bucket(super::Bucket::open(options)?),
        }))
    }

    /// The days of which there are files, sorted: `2026-11-24`.
    ///
    /// # Errors
    /// What the file system or the service says.
    pub async fn dates(&self) -> Result<Vec<String>> {
        match &self.0 {
            Source::Folder(archive) => archive.dates(),
            #[cfg(feature = "s3")]
            Source::Bucket(bucket) => bucket.dates().await,
        }
    }

    /// A day's files. Those of a bucket are copied into a temporary folder, because they are read in several parts.
    ///
    /// # Errors
    /// As [`dates`](Self::dates).
    pub async fn day(&self, date: &str) -> Result<Day> {
        let date = date.to_owned();
        match &self.0 {
            Source::Folder(archive) => Ok(Day {
                archive: archive.clone(),
                date,
                #[cfg(feature = "s3")]
                _folder: None,
            }),
            #[cfg(feature = "s3")]
            Source::Bucket(bucket) => {
                let folder = tempfile::Builder::new().prefix("fleet-archive-").tempdir();
                let folder = folder.map_err(|e| Error::data("no temporary folder").caused_by(e))?;
                bucket.fetch(&date, folder.path()).await?;
                Ok(Day { archive: Archive::open(folder.path()), date, _folder: Some(folder) })
            }
        }
    }
}

impl Day {
    /// The day's records within a span, vehicle by vehicle in the order of their names. They are read by a thread of
    /// its own, a few vehicles ahead, in bounded memory; an error is the last item.
    pub fn records(&self, schema: &Schema, span: Range<Micros>) -> mpsc::Receiver<Result<VehicleRecords>> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let (archive, schema, date) = (self.archive.clone(), schema.clone(), self.date.clone());
        tokio::task::spawn_blocking(move || {
            let vehicles = match Merged::of(&archive, &schema, &date, span) {
                Ok(vehicles) => vehicles,
                Err(error) => {
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            };
            for vehicle in vehicles {
                // Nobody wants more.
                if sender.blocking_send(vehicle).is_err() {
                    return;
                }
            }
        });
        receiver
    }
}
