//! Claims groups of requests. Each ends as a binding, or goes back to the queue.

use std::time::Duration;

use tokio::time::sleep;

use super::Shared;
use super::parts::Parts;
use super::pull::Pulled;
use super::refusals::{Asked, BinderCounters};
use crate::bind::{BindEvent, Binding, Claim, StateStore};
use crate::error::{ErrorKind, Result};
use crate::nats::payloads::ClaimNotice;
use crate::nats::queue::pause_after;

/// Claims a group, however long the store is away; the requests are held meanwhile. What the store fails to
/// claim though it is there goes back to the queue, the later the more often, and the others are claimed.
///
/// # Errors
/// [`Configuration`](ErrorKind::Configuration); what is not claimed by then is held until all is given back.
pub(super) async fn claim<S: StateStore>(shared: &Shared<S>, group: Vec<Pulled>) -> Result<()> {
    let mut parts = Parts::new(group);
    let mut told = Ok(());
    while let Some(mut part) = parts.next() {
        // Those that were lost are not claimed any more: that would make void the claim of whoever has
        // them now.
        {
            let held = shared.held.requests();
            part.retain(|p| held.get(&p.request.vehicle).is_some_and(|request| request.reply == p.reply));
        }
        if part.is_empty() {
            continue;
        }
        if !shared.held.holds() {
            // About to be lost.
            sleep(Duration::from_millis(100)).await;
            parts.again(part);
            continue;
        }
        let requests: Vec<_> = part.iter().map(|p| p.request.claim(p.enqueued)).collect();
        match shared.store.claim(&requests, shared.clock.now(), shared.options.context).await {
            Ok(claims) => {
                parts.succeeded();
                shared.counters.taken(Asked::Claims);
                let (bound, left) = bind(shared, &part, claims).await;
                told = told.and(bound);
                give_back(shared, left).await;
            }
            Err(error) => match error.kind() {
                ErrorKind::Configuration => {
                    give_back(shared, parts.into_failed()).await;
                    return Err(error);
                }
                ErrorKind::Unavailable => {
                    tracing::warn!(cell = %shared.names.cell(), %error, "no claim, trying again");
                    shared.counters.away();
                    parts.again(part);
                    sleep(Duration::from_millis(500)).await;
                }
                _ => {
                    if let [only] = &part[..] {
                        let (cell, vehicle) = (shared.names.cell(), &only.request.vehicle);
                        tracing::warn!(%cell, %vehicle, %error, "no claim, the request goes back to the queue");
                    }
                    parts.failed(part);
                }
            },
        }
    }
    let others = parts.has_succeeded();
    let failed = parts.into_failed();
    if !others {
        shared.counters.refused(Asked::Claims, failed.iter().map(|p| &p.request.vehicle));
    }
    give_back(shared, failed).await;
    told
}

/// Gives requests back that can't be claimed now.
async fn give_back<S: StateStore>(shared: &Shared<S>, requests: Vec<Pulled>) {
    BinderCounters::add(&shared.counters.claims_failed, requests.len());
    for Pulled { request, reply, delivered, .. } in requests {
        shared.hand_back(&request.vehicle, &reply, pause_after(delivered)).await;
    }
}

/// Tells of those that are claimed, and gives those that the store said nothing of.
async fn bind<S: StateStore>(
    shared: &Shared<S>,
    group: &[Pulled],
    claims: Vec<Claim>,
) -> (Result<()>, Vec<Pulled>) {
    let mut bindings = Vec::with_capacity(claims.len());
    let mut notices = Vec::new();
    let claimed = |p: &&Pulled| claims.iter().all(|claim| claim.vehicle != p.request.vehicle);
    let left = group.iter().filter(claimed).cloned().collect();
    {
        let mut held = shared.held.requests();
        for claim in claims {
            let Some(pulled) = group.iter().find(|p| p.request.vehicle == claim.vehicle) else { continue };
            let request = held.get_mut(&claim.vehicle).filter(|request| request.reply == pulled.reply);
            if pulled.delivered > 1 || request.is_none() {
                notices.push(ClaimNotice { vehicle: claim.vehicle.clone(), epoch: claim.epoch });
            }
            // Everything was lost while the store took its time: whoever has it now must claim it anew.
            let Some(request) = request else { continue };
            request.epoch = Some(claim.epoch);
            bindings.push(Binding {
                vehicle: claim.vehicle,
                epoch: claim.epoch,
                start: claim.start,
                on_time: pulled.request.on_time,
                floor: claim.floor,
                horizon: claim.horizon,
                carry: claim.carry,
            });
        }
        // Under the lock, or a loss could be told before.
        if !bindings.is_empty() {
            shared.tell(BindEvent::Bound(bindings));
        }
    }
    if notices.is_empty() {
        return (Ok(()), left);
    }
    let payload = serde_json::to_vec(&notices).unwrap_or_default();
    (shared.publish(shared.names.claim().into(), payload.into()).await, left)
}
