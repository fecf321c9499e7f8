//! The archive: kept contract, files, kills, other programs' eyes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::future_not_send,
    reason = "tests, their helpers included"
)]

mod bucket;
mod contract;
mod days;
mod erase;
mod files;
mod fixture;
mod kill;
mod peers;
mod s3;
