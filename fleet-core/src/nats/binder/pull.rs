//! Pulls bind requests in small batches, fewer the fuller the worker, and claims them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::consumer::{PullConsumer, pull as config};
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Shared;
use crate::bind::{BindEvent, Binding, StateStore};
use crate::error::{Error, ErrorKind, Result};
use crate::nats::payloads::{BindRequest, ClaimNotice};
use crate::nats::{Names, stored_at};
use crate::time::Micros;

/// Requests of one pull at most.
const MOST: usize = 256;

/// How long a pull waits at the server.
const EXPIRES: Duration = Duration::from_secs(2);

/// How long more requests are waited for before a group is claimed.
const GATHER: Duration = Duration::from_millis(30);

/// A request with how often it was delivered.
struct Pulled {
    request: BindRequest,
    delivered: i64,
    /// When the request was stored, server time.
    enqueued: Micros,
}

pub(super) async fn pull<S: StateStore>(shared: Arc<Shared<S>>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let turn = async {
            let turned = turn(&shared).await;
            shared.pulls.store(turned.is_ok(), Ordering::Relaxed);
            if let Err(error) = turned {
                if error.kind() == ErrorKind::Configuration {
                    let _ = shared.events.send(Err(error));
                } else {
                    tracing::warn!(cell = %shared.names.cell(), %error, "no bind requests, trying again");
                }
                sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            biased;
            _ = &mut stopped => return,
            () = turn => {}
        }
    }
}

/// One pull, if there is room.
async fn turn<S: StateStore>(shared: &Shared<S>) -> Result<()> {
    let most = shared.options.max_vehicles.saturating_sub(shared.held.len());
    let room = most.min(shared.free.load(Ordering::Relaxed));
    if room == 0 || !shared.held.holds() {
        sleep(Duration::from_millis(100)).await;
        return Ok(());
    }
    // The fuller we are, the fewer we ask for, so that emptier workers get more.
    let ask = (room / 8).clamp(1, MOST);
    let stream = shared.names.bind_stream();
    let consumer: PullConsumer = shared
        .js
        .get_consumer_from_stream::<config::Config, _, _>(Names::WORKERS, stream)
        .await
        .map_err(|e| Error::unavailable("no consumer of bind requests: run `setup`").caused_by(e))?;
    let mut batch = consumer
        .batch()
        .max_messages(ask)
        .expires(EXPIRES)
        .messages()
        .await
        .map_err(|e| Error::unavailable("no bind requests").caused_by(e))?;
    let mut group = Vec::new();
    loop {
        let wait = if group.is_empty() { EXPIRES + Duration::from_secs(3) } else { GATHER };
        match timeout(wait, batch.next()).await {
            Ok(Some(message)) => {
                let accepted = async {
                    let message = message.map_err(|e| Error::unavailable("bind requests").caused_by(e))?;
                    accept(shared, message).await
                };
                match accepted.await {
                    Ok(pulled) => group.extend(pulled),
                    // Those before are held already.
                    Err(error) => return claim(shared, group).await.and(Err(error)),
                }
            }
            Ok(None) => return claim(shared, group).await,
            Err(_) if group.is_empty() => return Ok(()),
            Err(_) => claim(shared, std::mem::take(&mut group)).await?,
        }
    }
}

/// Takes a request in, so that it is held from now on; a bad one is done away with.
async fn accept<S: StateStore>(shared: &Shared<S>, message: Message) -> Result<Option<Pulled>> {
    let vehicle = message.subject.rsplit('.').next().unwrap_or_default();
    let request = match BindRequest::parse(vehicle, &message.payload) {
        Ok(request) => request,
        Err(error) => {
            tracing::warn!(cell = %shared.names.cell(), subject = %message.subject, %error, "refused");
            let term = message.ack_with(AckKind::Term).await;
            return term.map(|()| None).map_err(|e| Error::unavailable("an ack").caused_by(e));
        }
    };
    let info = message.info().ok();
    let delivered = info.as_ref().map_or(1, |info| info.delivered);
    let enqueued = info.map_or(request.on_time, |info| stored_at(info.published));
    let Some(reply) = message.message.reply.clone() else { return Ok(None) };
    if shared.held.take(request.vehicle.clone(), reply).is_some_and(|old| old.epoch.is_some()) {
        // It came again to ourselves: somebody may have held it between. Begin anew.
        shared.tell(BindEvent::Lost(vec![request.vehicle.clone()]));
    }
    Ok(Some(Pulled { request, delivered, enqueued }))
}

/// Claims a group, however long the store takes; the requests are held meanwhile. Those that were lost
/// are not claimed any more: that would make void the claim of whoever has them now.
async fn claim<S: StateStore>(shared: &Shared<S>, mut group: Vec<Pulled>) -> Result<()> {
    let claims = loop {
        {
            let held = shared.held.requests();
            group.retain(|p| held.contains_key(&p.request.vehicle));
        }
        if group.is_empty() {
            return Ok(());
        }
        if !shared.held.holds() {
            // About to be lost.
            sleep(Duration::from_millis(100)).await;
            continue;
        }
        let requests: Vec<_> = group.iter().map(|p| p.request.claim(p.enqueued)).collect();
        match shared.store.claim(&requests, shared.clock.now(), shared.options.context).await {
            Ok(claims) => break claims,
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::warn!(cell = %shared.names.cell(), %error, "no claim, trying again");
                sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error),
        }
    };
    let mut bindings = Vec::with_capacity(claims.len());
    let mut notices = Vec::new();
    {
        let mut held = shared.held.requests();
        for claim in claims {
            let Some(pulled) = group.iter().find(|p| p.request.vehicle == claim.vehicle) else { continue };
            let request = held.get_mut(&claim.vehicle);
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
            });
        }
        // Under the lock, or a loss could be told before.
        if !bindings.is_empty() {
            shared.tell(BindEvent::Bound(bindings));
        }
    }
    if !notices.is_empty() {
        let payload = serde_json::to_vec(&notices).unwrap_or_default();
        shared.publish(shared.names.claim().into(), payload.into()).await?;
    }
    Ok(())
}
