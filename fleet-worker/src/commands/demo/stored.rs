//! How much of disk messages and records take.

use fleet_core::error::{Error, Result};
use fleet_core::nats::connect;
use tokio_postgres::Client;

use crate::deployment::Deployment;

/// What the servers say themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// Of the telemetry streams, fences included.
    pub bytes_a_message: f64,
    /// Of the table with its index, before any compression.
    pub bytes_a_record: f64,
}

/// The table is its partitions or chunks, whichever edition it is.
const TABLE: &str = "select coalesce(sum(pg_total_relation_size(part)), 0)::bigint, (select count(*) from telemetry) \
     from (select 'telemetry'::regclass as part \
           union all select inhrelid from pg_inherits where inhparent = 'telemetry'::regclass) parts";

impl Stored {
    /// Asks them.
    pub(super) async fn look(deployment: &Deployment, client: &Client) -> Result<Self> {
        let nats = deployment.config.nats.options();
        let js = async_nats::jetstream::new(connect(&nats, "fleet-demo", |_| {}).await?);
        let (mut bytes_sent, mut messages) = (0, 0);
        for names in deployment.config.names() {
            let stream = js.get_stream(names.telemetry_stream()).await;
            let stream = stream.map_err(|e| Error::unavailable("the telemetry stream").caused_by(e))?;
            let state = &stream.cached_info().state;
            bytes_sent += state.bytes;
            messages += state.messages;
        }
        let row = client.query_one(TABLE, &[]).await;
        let row = row.map_err(|e| Error::unavailable("the size of the table").caused_by(e))?;
        let (bytes, records): (i64, i64) = (row.get(0), row.get(1));
        #[allow(clippy::cast_precision_loss, reason = "a figure for people")]
        Ok(Self {
            bytes_a_message: bytes_sent as f64 / messages.max(1) as f64,
            bytes_a_record: bytes as f64 / records.max(1) as f64,
        })
    }
}
