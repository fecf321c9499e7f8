//! Where records go.

mod availability;
#[cfg(feature = "contract")]
pub mod contract;
mod dynamic;
#[cfg(feature = "contract")]
pub mod fault;
pub mod memory;
mod pulse;
mod retry;
mod tee;

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;

pub use availability::Availability;
pub use dynamic::DynSink;
pub use pulse::Pulse;
pub use retry::{Backoff, Retry};
pub use tee::{Cursor, Limits, Tee};

use crate::batch::Batch;
use crate::error::Result;
use crate::ids::VehicleId;
use crate::message::{DeadLetter, Refusal};

/// A row that a sink could not store and never will.
#[derive(Debug, Clone)]
pub struct RejectedRow {
    /// The vehicle.
    pub vehicle: VehicleId,
    /// Why, with the field and the value.
    pub reason: String,
    /// The row as JSON, so that an operator can mend and replay it.
    pub row: Bytes,
}

impl From<RejectedRow> for DeadLetter {
    fn from(row: RejectedRow) -> Self {
        let RejectedRow { vehicle, reason: detail, row: payload } = row;
        Self { vehicle, signal: "row".to_owned(), refusal: Refusal::Row, detail, payload }
    }
}

/// What a sink says after it took something.
#[derive(Debug, Default)]
pub struct Progress {
    /// Every batch up to this sequence is durable: it survives the end of this process and the
    /// restart of the server. Rows that are [set aside](Self::set_aside) are the exception.
    pub durable: u64,
    /// Rows that were left out. They count as durable; the caller keeps them as dead letters.
    pub rejected: Vec<RejectedRow>,
    /// Vehicles with rows that the sink has set aside, so that others don't wait for them, each with the first
    /// batch that has such a row. Those rows are not durable although their batch is: no state of the vehicle
    /// that was taken with this batch or a later one may be saved, and the vehicle may not be given back. The
    /// sink stores them by itself, in their order.
    pub set_aside: BTreeMap<VehicleId, u64>,
}

impl Progress {
    /// All up to this batch is durable.
    pub fn up_to(durable: u64) -> Self {
        Self { durable, ..Self::default() }
    }

    /// Rows of the vehicle are set aside from this batch on, or from an earlier one that was named before.
    pub fn set_aside_from(&mut self, vehicle: VehicleId, first: u64) {
        let known = self.set_aside.entry(vehicle).or_insert(first);
        *known = first.min(*known);
    }

    /// Whether all rows of the vehicle up to this batch are durable.
    pub fn has_all_of(&self, vehicle: &VehicleId, batch: u64) -> bool {
        batch <= self.durable && self.set_aside.get(vehicle).is_none_or(|first| *first > batch)
    }
}

/// Stores batches. A write has two states: *accepted* and *durable*.
///
/// Batches come in the order of their sequence. Accepting the same rows again, in whatever grouping
/// and order of batches, changes nothing: a value replaces, NULL never erases, and only rows of
/// vehicles whose epoch is still the newest are changed. Not cancel-safe: a future that was dropped
/// may have stored all, some or none of its batch; give the batch again.
pub trait Sink: Send {
    /// Takes a batch; on return it is accepted, and durable as far as the answer says.
    ///
    /// # Errors
    /// [`Unavailable`](crate::ErrorKind::Unavailable), [`Refused`](crate::ErrorKind::Refused): nothing is known
    /// of this batch, give it again. [`Configuration`](crate::ErrorKind::Configuration): stop and tell a person.
    fn accept(&mut self, batch: &Batch) -> impl Future<Output = Result<Progress>> + Send;

    /// Makes everything accepted durable, but for what it says is still [set aside](Progress::set_aside).
    ///
    /// # Errors
    /// As [`accept`](Self::accept); what was accepted and is not durable must be given again.
    fn flush(&mut self) -> impl Future<Output = Result<Progress>> + Send;

    /// Asks whether what is behind it can be reached and takes rows, at little cost: a pipeline that has
    /// stored nothing for a while asks, so that an outage shows before there is a row. Nothing is stored
    /// or lost by it. A sink with nothing to ask is always there.
    ///
    /// # Errors
    /// Why not; of any kind, since the next batch will be told what to do about it.
    fn probe(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}
