//! An archive of records as Parquet files in a folder or a bucket.
//!
//! ```text
//! <archive>/date=2026-11-24/20261124T081500.123456Z-<worker>-<random>.parquet
//! ```
//!
//! A file is seen whole or not at all. Its columns are those of [`Batch`](fleet_core::Batch), `vehicle` as
//! text, and three more by which a reader tells later emissions of a row from earlier ones: `epoch`,
//! `stored_at` and `batch`. Per vehicle, instant and signal (its two bits of `quality` say whether it has
//! a value) the one with the largest of these three, in this order, counts; [`Archive`] does so. Units are
//! in the columns' metadata, the schema as JSON in the file's under [`SCHEMA_KEY`].

#[cfg(feature = "s3")]
mod bucket;
mod days;
mod encode;
mod erase;
mod gather;
mod merged;
mod naming;
mod read;
mod sink;
mod store;

#[cfg(feature = "s3")]
pub use bucket::{Bucket, BucketOptions};
pub use days::{Day, Days};
pub use encode::SCHEMA_KEY;
pub use erase::{drop_before, erase};
pub use merged::VehicleRecords;
pub use read::{Archive, DayPart, Records};
pub use sink::{ParquetOptions, ParquetSink};
pub use store::Place;
