//! Notices of claims: a new holder of a redelivered request tells older ones.

use std::sync::Arc;

use async_nats::Subscriber;
use futures_util::StreamExt;
use hashbrown::HashSet;

use super::Shared;
use crate::bind::{BindEvent, StateStore, VehicleState};
use crate::ids::VehicleId;
use crate::nats::payloads::ClaimNotice;

/// Drops vehicles that somebody else has claimed with a newer epoch.
pub(super) async fn listen<S: StateStore>(shared: Arc<Shared<S>>, mut claims: Subscriber) {
    while let Some(message) = claims.next().await {
        let Ok(notices) = serde_json::from_slice::<Vec<ClaimNotice>>(&message.payload) else {
            tracing::warn!(cell = %shared.names.cell(), "a claim notice does not parse");
            continue;
        };
        let claims = notices.iter().map(|notice| (&notice.vehicle, notice.epoch));
        shared.drop_held(claims, |ours, theirs| ours < theirs);
    }
}

impl<S> Shared<S> {
    /// Drops the vehicles of those of these states whose claim a newer one has made void: the store says so
    /// if no notice came. Whoever made it holds the vehicle, or its request is delivered again after
    /// `ack_wait`.
    pub(super) fn lose<'a>(&self, states: impl Iterator<Item = &'a VehicleState>, superseded: &[VehicleId]) {
        let superseded: HashSet<&VehicleId> = superseded.iter().collect();
        let void = states.filter(|state| superseded.contains(&state.vehicle));
        // One that was lost and claimed again meanwhile stays.
        self.drop_held(void.map(|state| (&state.vehicle, state.epoch)), |ours, void| ours == void);
    }

    fn drop_held<'a>(
        &self,
        claims: impl Iterator<Item = (&'a VehicleId, i32)>,
        is_void: impl Fn(i32, i32) -> bool,
    ) {
        let mut requests = self.held.requests();
        let mut lost = Vec::new();
        for (vehicle, epoch) in claims {
            let ours = requests.get(vehicle).and_then(|request| request.epoch);
            if ours.is_some_and(|ours| is_void(ours, epoch)) {
                requests.remove(vehicle);
                lost.push(vehicle.clone());
            }
        }
        if !lost.is_empty() {
            tracing::info!(cell = %self.names.cell(), vehicles = lost.len(), "claimed by another worker");
            self.tell(BindEvent::Lost(lost));
        }
    }
}
