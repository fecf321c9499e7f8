//! For replays: the claims as they are, and rows in place of others.

use std::ops::Range;
use std::sync::Arc;

use fleet_core::batch::Batch;
use fleet_core::error::Result;
use fleet_core::sink::{Progress, Sink};
use fleet_core::{Micros, VehicleId};
use hashbrown::HashMap;

use super::connect::Connector;
use super::sink::{SinkCounters, TimescaleSink};

/// The newest epochs of these vehicles; those that were never claimed are not in it. What is written
/// under them counts until the next claim.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) or
/// [`Configuration`](fleet_core::ErrorKind::Configuration).
pub async fn epochs(connector: &Connector, vehicles: &[VehicleId]) -> Result<HashMap<VehicleId, i32>> {
    let connection = connector.connect().await?;
    let names: Vec<&str> = vehicles.iter().map(VehicleId::as_str).collect();
    let select = "select vin, epoch from vehicle_latest join vehicle using (vehicle_id) where vin = any($1)";
    let found = connection.client().query(select, &[&names]).await;
    let found = found.map_err(connection.failed("look at the claims"))?;
    let epochs = found.iter().filter_map(|row| Some((VehicleId::new(row.get(0)).ok()?, row.get(1))));
    Ok(epochs.collect())
}

/// When the first vehicle was claimed, by the database's clock; `None` if none ever was.
///
/// # Errors
/// As [`epochs`].
pub async fn known_since(connector: &Connector) -> Result<Option<Micros>> {
    let connection = connector.connect().await?;
    let select = "select (extract(epoch from min(first_seen)) * 1000000)::bigint from vehicle";
    let found = connection.client().query_one(select, &[]).await;
    Ok(found.map_err(connection.failed("look at the vehicles"))?.get(0))
}

/// A sink that replaces: for every vehicle of a batch, also one without a row in it, the rows of the
/// batch are put in place of all that are stored within a span of time.
///
/// It goes in pieces, each in a transaction: some vehicles' rows of one chunk or partition, or of an equal part of
/// one where a vehicle has more than 10,000 rows in it. Of a vehicle and such a part of time a reader sees what was
/// there or what is there now, never a mixture; of a longer span the older part may be new already. Claims and states
/// wait for no piece. After an error, what is done stays, and the batch is given again.
///
/// A vehicle must have all its rows of the span in one batch. Rows that can't be stored are left
/// out, and vehicles that were claimed anew are left alone, as by [`TimescaleSink`].
#[derive(Debug)]
pub struct ReplacingSink {
    sink: TimescaleSink,
    span: Range<Micros>,
}

impl ReplacingSink {
    /// Replaces what lies within `span`, event time.
    pub fn new(sink: TimescaleSink, span: Range<Micros>) -> Self {
        Self { sink, span }
    }

    /// Those of the sink inside; `stale` counts vehicles, in each piece.
    pub fn counters(&self) -> Arc<SinkCounters> {
        self.sink.counters()
    }
}

impl Sink for ReplacingSink {
    async fn accept(&mut self, batch: &Batch) -> Result<Progress> {
        self.sink.replace(batch, &self.span).await
    }

    async fn flush(&mut self) -> Result<Progress> {
        self.sink.flush().await
    }
}
