//! PostgreSQL, with TimescaleDB where the server has it.
//!
//! [`setup`] makes the tables, [`TimescaleSink`] stores records and [`TimescaleStates`] keeps the
//! states of the vehicles; [`TimescaleReader`] looks at them. All of them reach the database by a
//! [`Connector`].

mod connect;
mod encode;
mod erase;
mod fault;
mod layout;
mod maintain;
mod migrate;
mod partition;
mod pooled;
mod reader;
mod reject;
mod replace;
mod retention;
mod rollup;
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
#[doc(hidden)]
pub use encode::copy_of;
pub use erase::{ErasedRows, disown, erase};
pub use layout::{Edition, check};
pub use maintain::{MaintainOptions, Maintained, maintain};
pub use migrate::{SetupOptions, setup};
pub use reader::{Fleet, Newest, TimescaleReader};
pub use replace::{ReplacingSink, epochs, known_since};
pub use sink::{SinkCounters, TimescaleSink};
pub use state::TimescaleStates;
