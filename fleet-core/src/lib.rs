//! Turns the uneven sensor messages of a vehicle fleet into evenly spaced records.
//!
//! Data flows downhill, and the modules stand in that order:
//!
//! ```text
//! source ─ messages ─▶ decode ─ samples ─▶ align ─ rows ─▶ batch ─▶ sink ─ durable ─▶ bind.release
//!    ▲                                                                              │
//!    └────────── bind: which vehicles are ours, and from where to replay ◀──────────┘
//! ```
//!
//! [`lane`] is the heart: decode, align and batch without I/O, clock or `await`.
//! [`pipeline`] drives it with the async edges [`Source`], [`Binder`] and [`Sink`].
//! [`AnyDecoder`] reads every payload format that `docs/wire-format.md` describes.
//! Every edge has an in-memory version beside its trait; the feature `nats` (default) adds the real
//! source, binder and Vehicle Discovery.
//!
//! Times are UTC microseconds since 1970 in an `i64` ([`Micros`]), durations the same unit.

pub mod error;
mod hash;
pub mod ids;
pub mod time;

pub mod batch;
pub mod message;
pub mod sample;
pub mod schema;

pub mod align;
pub mod bind;
pub mod decode;
pub mod reference;
pub mod sink;
pub mod source;

pub mod lane;

pub mod pipeline;

#[cfg(feature = "nats")]
pub mod nats;

pub use arrow_array;
pub use arrow_schema;

pub use align::Interpolator;
pub use batch::Batch;
pub use bind::Binder;
pub use decode::{AnyDecoder, Decoder};
pub use error::{Error, ErrorKind};
pub use ids::{CellId, VehicleId};
pub use schema::Schema;
pub use sink::Sink;
pub use source::Source;
pub use time::Micros;
