//! Pulls bind requests in small batches, fewer the fuller the worker, and claims them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::consumer::{PullConsumer, pull as config};
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::claiming::claim;
use crate::bind::{BindEvent, StateStore};
use crate::error::{Error, ErrorKind, Result};
use crate::nats::payloads::BindRequest;
use crate::nats::{Names, stored_at};
use crate::time::Micros;

/// Requests of one pull at most.
const MOST: usize = 256;

/// How long a pull waits at the server.
const EXPIRES: Duration = Duration::from_secs(2);

/// How long more requests are waited for before a group is claimed.
const GATHER: Duration = Duration::from_millis(30);

/// A request with where its acks go and how often it was delivered.
#[derive(Debug, Clone)]
pub(super) struct Pulled {
    pub request: BindRequest,
    pub reply: Subject,
    pub delivered: i64,
    /// When the request was stored, server time.
    pub enqueued: Micros,
}

pub(super) async fn pull<S: StateStore>(shared: Arc<Shared<S>>, mut stopped: oneshot::Receiver<()>) {
    loop {
        let turn = async {
            let turned = turn(&shared).await;
            shared.queue.pulled(turned.is_ok());
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
    let (mut group, mut told) = (Vec::new(), Ok(()));
    let mut claims = FuturesUnordered::new();
    // To the batch's end, whatever fails or takes its time: what is delivered and neither held nor answered
    // would be somebody else's after `ack_wait`.
    loop {
        let wait = if group.is_empty() { EXPIRES + Duration::from_secs(3) } else { GATHER };
        let next = tokio::select! {
            Some(claimed) = claims.next() => {
                told = told.and(claimed);
                continue;
            }
            next = timeout(wait, batch.next()) => next,
        };
        match next {
            Ok(Some(Ok(message))) => match accept(shared, message).await {
                Ok(pulled) => group.extend(pulled),
                Err(error) => told = told.and(Err(error)),
            },
            Ok(Some(Err(error))) => {
                told = told.and(Err(Error::unavailable("bind requests").caused_by(error)));
            }
            Err(_) if !group.is_empty() => claims.push(claim(shared, std::mem::take(&mut group))),
            Ok(None) => break,
            Err(_) => {
                told = told.and(Err(Error::unavailable("a pull of bind requests has had no answer")));
                break;
            }
        }
    }
    claims.push(claim(shared, group));
    while let Some(claimed) = claims.next().await {
        told = claimed.and(told);
    }
    told
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
    if shared.held.take(request.vehicle.clone(), reply.clone()).is_some_and(|old| old.epoch.is_some()) {
        // It came again to ourselves: somebody may have held it between. Begin anew.
        shared.tell(BindEvent::Lost(vec![request.vehicle.clone()]));
    }
    Ok(Some(Pulled { request, reply, delivered, enqueued }))
}
