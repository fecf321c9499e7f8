//! Notices of claims: a new holder of a redelivered request tells older ones.

use std::sync::Arc;

use async_nats::Subscriber;
use futures_util::StreamExt;

use super::Shared;
use crate::bind::{BindEvent, StateStore};
use crate::ids::VehicleId;
use crate::nats::payloads::ClaimNotice;

/// Drops vehicles that somebody else has claimed with a newer epoch.
pub(super) async fn listen<S: StateStore>(shared: Arc<Shared<S>>, mut claims: Subscriber) {
    while let Some(message) = claims.next().await {
        let Ok(notices) = serde_json::from_slice::<Vec<ClaimNotice>>(&message.payload) else {
            tracing::warn!(cell = %shared.names.cell(), "a claim notice does not parse");
            continue;
        };
        let lost = superseded(&shared, &notices);
        if !lost.is_empty() {
            tracing::info!(cell = %shared.names.cell(), vehicles = lost.len(), "claimed by another worker");
            shared.tell(BindEvent::Lost(lost));
        }
    }
}

fn superseded<S>(shared: &Shared<S>, notices: &[ClaimNotice]) -> Vec<VehicleId> {
    let mut requests = shared.held.requests();
    let older = notices
        .iter()
        .filter(|n| requests.get(&n.vehicle).and_then(|r| r.epoch).is_some_and(|ours| ours < n.epoch));
    let lost: Vec<VehicleId> = older.map(|n| n.vehicle.clone()).collect();
    for vehicle in &lost {
        requests.remove(vehicle);
    }
    lost
}
