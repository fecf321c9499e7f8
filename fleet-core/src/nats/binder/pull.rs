//! Pulls bind requests in small batches, fewer the fuller the worker, and claims them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::{AckKind, Message};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::Shared;
use super::claiming::claim;
use super::requests::Requests;
use crate::bind::{BindEvent, StateStore};
use crate::error::{Error, ErrorKind, Result};
use crate::nats::consumers::consumer;
use crate::nats::payloads::BindRequest;
use crate::nats::{Names, stored_at};
use crate::time::Micros;

/// Requests of one pull at most.
const MOST: usize = 256;

/// How long a pull waits at the server, and the end of pulling for the last one.
const EXPIRES: Duration = Duration::from_secs(1);

/// How much later the server's word on the end of a pull may come.
const SLACK: Duration = Duration::from_secs(3);

/// The same where nothing more is to be pulled.
const LAST_SLACK: Duration = Duration::from_millis(500);

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

/// The pulling of bind requests, which can be ended before the binder is shut down, from any thread; clones end
/// the same.
#[derive(Debug, Clone)]
pub struct Pulls {
    ending: watch::Sender<bool>,
    /// Closed when it has ended.
    ended: watch::Receiver<()>,
}

impl Pulls {
    /// Begins to pull in a task.
    pub(super) fn begin<S: StateStore>(shared: Arc<Shared<S>>) -> (Self, AbortHandle) {
        let (ending, end) = watch::channel(false);
        let (running, ended) = watch::channel(());
        let task = tokio::spawn(async move {
            pull(shared, end).await;
            drop(running);
        });
        (Self { ending, ended }, task.abort_handle())
    }

    /// Takes no more requests. Those that are on their way are taken in, so that the shutdown gives them back;
    /// then it is ready. It may be called again, and be dropped: the pulling ends all the same.
    pub async fn end(&self) {
        self.ending.send_replace(true);
        let mut ended = self.ended.clone();
        while ended.changed().await.is_ok() {}
    }
}

/// Claims that are under way, beside the pulls. They are broken off when it is dropped.
#[derive(Default)]
struct Claims(JoinSet<Result<()>>);

impl Claims {
    fn begin<S: StateStore>(&mut self, shared: &Arc<Shared<S>>, group: Vec<Pulled>) {
        let shared = Arc::clone(shared);
        self.0.spawn(async move { claim(&shared, group).await });
    }

    /// What the next one that is over came to; nothing where none is under way. Cancel-safe.
    async fn next(&mut self) -> Option<Result<()>> {
        let ended = self.0.join_next().await?;
        Some(ended.unwrap_or_else(|e| Err(Error::internal("a claim ended").caused_by(e))))
    }
}

/// Groups of requests that may wait for the store: while it is away, others get the rest.
const CLAIMS: usize = 2;

/// Until it is to end, and whoever could say so is there.
async fn is_to_end(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

async fn pull<S: StateStore>(shared: Arc<Shared<S>>, mut end: watch::Receiver<bool>) {
    let mut watched = end.clone();
    let mut ending = pin!(is_to_end(&mut watched));
    let mut claims = Claims::default();
    loop {
        let turned = turn(&shared, &mut claims, &mut end).await;
        let went_well = shared.queue.pulled(turned.is_ok());
        let (cell, mut pause) = (shared.names.cell(), Duration::ZERO);
        if let Err(error) = turned {
            if error.kind() == ErrorKind::Configuration {
                let _ = shared.events.send(Err(error));
            } else if went_well {
                tracing::warn!(%cell, %error, "bind requests can't be pulled, trying again and again");
            } else {
                tracing::debug!(%cell, %error, "bind requests can't be pulled yet");
            }
            pause = Duration::from_millis(500);
        } else if !went_well {
            tracing::info!(%cell, "bind requests are pulled again");
        }
        tokio::select! {
            biased;
            () = &mut ending => return,
            () = sleep(pause) => {}
        }
    }
}

/// One pull, if there is room. When it is to end, what is delivered is taken in, and not claimed any more.
async fn turn<S: StateStore>(
    shared: &Arc<Shared<S>>,
    claims: &mut Claims,
    end: &mut watch::Receiver<bool>,
) -> Result<()> {
    let most = shared.options.max_vehicles.saturating_sub(shared.held.len());
    let room = most.min(shared.free.load(Ordering::Relaxed));
    if room == 0 || claims.0.len() >= CLAIMS || !shared.held.holds() {
        return tokio::select! {
            biased;
            () = is_to_end(end) => Ok(()),
            Some(claimed) = claims.next() => claimed,
            () = sleep(Duration::from_millis(100)) => Ok(()),
        };
    }
    // The fuller we are, the fewer we ask for, so that emptier workers get more.
    let ask = (room / 8).clamp(1, MOST);
    let stream = shared.names.bind_stream();
    let consumer = tokio::select! {
        biased;
        () = is_to_end(end) => return Ok(()),
        consumer = consumer(&shared.js, &stream, Names::WORKERS) => consumer?,
    };
    let mut requests = Requests::pull(&shared.client, &shared.js, &consumer, ask, EXPIRES).await?;
    let over = Instant::now() + EXPIRES + LAST_SLACK;
    let (mut group, mut told, mut ends) = (Vec::new(), Ok(()), false);
    // To the pull's end, whatever fails or takes its time: what is delivered and neither held nor answered
    // would be somebody else's after `ack_wait`.
    loop {
        let wait = match group.is_empty() {
            _ if ends => over.saturating_duration_since(Instant::now()),
            true => EXPIRES + SLACK,
            false => GATHER,
        };
        let next = tokio::select! {
            biased;
            () = is_to_end(end), if !ends => {
                ends = true;
                continue;
            }
            Some(claimed) = claims.next() => {
                told = told.and(claimed);
                continue;
            }
            next = timeout(wait, requests.next()) => next,
        };
        match next {
            Ok(Some(Ok(message))) => match accept(shared, message).await {
                Ok(pulled) => group.extend(pulled),
                Err(error) => told = told.and(Err(error)),
            },
            Ok(Some(Err(error))) => told = told.and(Err(error)),
            Ok(None) => break,
            Err(_) if ends => break,
            Err(_) if !group.is_empty() => claims.begin(shared, std::mem::take(&mut group)),
            Err(_) => {
                told = told.and(Err(Error::unavailable("a pull of bind requests has had no answer")));
                break;
            }
        }
    }
    if !ends && !group.is_empty() {
        claims.begin(shared, group);
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
