//! The edges on NATS with JetStream: source, binder and Vehicle Discovery.
//!
//! Live messages come by a core subscription per bound vehicle, and JetStream is read only to catch
//! up. Which vehicles are ours says a work queue of bind requests, each un-acknowledged for as long
//! as its vehicle is held.

mod access;
mod auth;
mod binder;
mod clock;
mod connect;
mod consumers;
mod dead_letters;
mod discovery;
mod erase;
mod fence;
mod filter;
mod gets;
mod history;
mod inbox;
mod letters;
mod lifecycle;
mod names;
mod owner;
mod payloads;
mod plan;
mod queue;
mod random;
pub mod reader;
mod reading;
mod source;
mod storing;
mod streams;
mod watch;

pub use access::Access;
pub use auth::{Auth, Key};
pub use binder::{BinderCounters, BinderOptions, NatsBinder, Pulls, QueueHealth};
pub use clock::ServerClock;
pub use connect::{NatsOptions, connect};
pub use dead_letters::LetterCounters;
pub use discovery::{Bindings, Discovery, DiscoveryCounters};
pub use erase::{ErasedMessages, Eraser};
pub use fence::known_to_all;
pub use gets::{Gets, StoredMessage};
pub use history::{History, Sweep, Told};
pub use letters::{Letters, StoredLetter};
pub use names::Names;
pub use owner::Owner;
pub use payloads::{BindRequest, InvalidPayload, OnPayload};
pub use plan::{Plan, plan, set_up};
pub use reading::Begin;
pub use source::{CatchingUp, NatsSource, SourceCounters, SourceOptions, Ticks};
pub use storing::Storing;
pub use streams::StreamOptions;

use crate::time::Micros;

/// A JetStream time as microseconds, rounded down.
fn stored_at(time: async_nats::datetime::DateTime) -> Micros {
    let nanos = time.unix_timestamp_nanos();
    i64::try_from(nanos.div_euclid(1_000)).unwrap_or(i64::MAX)
}
