//! PostgreSQL, with TimescaleDB where the server has it.
//!
//! [`setup`] makes the tables, [`TimescaleSink`] stores records and [`TimescaleStates`] keeps the
//! states of the vehicles; [`TimescaleReader`] looks at them. All of them reach the database by a
//! [`Connector`].

mod clock;
mod connect;
mod days;
mod deployment;
mod encode;
// Not in its file, which benchmarks and fuzz targets of other crates take by itself.
#[cfg(test)]
#[path = "timescale/encode/tests.rs"]
mod encode_tests;
mod erase;
mod fault;
mod hot;
mod hot_first;
mod jobs;
mod layout;
mod locks;
mod maintain;
mod migrate;
mod newest;
mod partition;
mod pieces;
mod plan;
mod policies;
mod pooled;
mod pulse;
mod reader;
mod reject;
mod rekey;
mod replace;
mod retention;
#[cfg(feature = "parquet")]
mod retire;
mod rollup;
mod server;
mod session;
mod sink;
mod spans;
mod sql;
mod state;
mod suspects;
mod tls;
mod value;
mod vehicles;
mod views;

pub use connect::{ConnectOptions, Connector, RenewedUrl};
pub use days::bring_back;
pub use deployment::deployment_id;
#[doc(hidden)]
pub use encode::copy_of;
pub use erase::{ErasedRows, disown, erase};
pub use hot_first::HotFirstSink;
pub use jobs::{JobFault, JobTrouble};
pub use layout::{Edition, check, check_writer};
pub use maintain::{MaintainOptions, Maintained, maintain};
pub use migrate::{Prepared, SetupOptions, prepare, setup};
pub use newest::TimescaleNewest;
pub use plan::{DatabasePlan, plan};
pub use reader::{Fleet, Newest, TimescaleReader};
pub use replace::{ReplacingSink, epochs, known_since};
#[cfg(feature = "parquet")]
pub use retire::{RetireOptions, Retired, retire};
pub use server::{Server, server};
pub use sink::{SinkCounters, TimescaleSink};
pub use state::TimescaleStates;
