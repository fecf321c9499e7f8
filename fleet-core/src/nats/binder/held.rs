//! The requests that we hold, and the signs that we do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::AckKind;
use bytes::Bytes;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::Shared;
use crate::bind::{BindEvent, StateStore};
use crate::error::{Error, Result};
use crate::ids::VehicleId;

/// A bind request that is ours.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// Where acks go.
    pub reply: Subject,
    /// `None` while the claim is under way.
    pub epoch: Option<i32>,
}

/// All of them, and when the server last heard of them.
#[derive(Debug)]
pub(super) struct Held {
    /// The consumer's, milliseconds.
    ack_wait: AtomicU64,
    requests: Mutex<HashMap<VehicleId, Request>>,
    last_sign: Mutex<Instant>,
    /// The loss of everything was told and nothing was bound since.
    lost: AtomicBool,
}

impl Held {
    pub(super) fn new(ack_wait: Duration) -> Self {
        let last_sign = Mutex::new(Instant::now());
        let ack_wait = AtomicU64::new(millis(ack_wait));
        Self { ack_wait, requests: Mutex::default(), last_sign, lost: AtomicBool::new(false) }
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, HashMap<VehicleId, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.requests().len()
    }

    /// Whether the server heard of us within `ack_wait`. The clock is monotonic and goes on while
    /// the process is stopped.
    pub(super) fn holds(&self) -> bool {
        self.last_sign().elapsed() < self.ack_wait()
    }

    /// For how long the server leaves a request with us after a sign.
    pub(super) fn ack_wait(&self) -> Duration {
        Duration::from_millis(self.ack_wait.load(Ordering::Relaxed))
    }

    /// A setup may have changed it.
    pub(super) fn set_ack_wait(&self, ack_wait: Duration) {
        let (was, is) = (self.ack_wait(), Duration::from_millis(millis(ack_wait)));
        if was != is {
            tracing::info!(?was, ?is, "the consumer's ack_wait was changed");
            self.ack_wait.store(millis(ack_wait), Ordering::Relaxed);
        }
    }

    fn last_sign(&self) -> Instant {
        *self.last_sign.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sign(&self, at: Instant) {
        *self.last_sign.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Takes in a request before it is claimed: from now on it is held.
    pub(super) fn take(&self, vehicle: VehicleId, reply: Subject) -> Option<Request> {
        self.requests().insert(vehicle, Request { reply, epoch: None })
    }

    /// Forgets a request, if it is still held by this delivery.
    fn forget(&self, vehicle: &VehicleId, reply: &Subject) -> bool {
        let mut requests = self.requests();
        let is_it = requests.get(vehicle).is_some_and(|request| request.reply == *reply);
        is_it && requests.remove(vehicle).is_some()
    }

    /// Gives out a request that was claimed with this epoch.
    pub(super) fn give(&self, vehicle: &VehicleId, epoch: i32) -> Option<Request> {
        let mut requests = self.requests();
        let is_ours = requests.get(vehicle).is_some_and(|request| request.epoch == Some(epoch));
        if is_ours { requests.remove(vehicle) } else { None }
    }
}

/// Says that we hold what we hold, in one burst every third of `ack_wait`: the server looks for
/// expired requests only when its ack queue is empty. Once nothing could be said for `ack_wait`,
/// everything is lost.
pub(super) async fn hold<S: StateStore>(shared: Arc<Shared<S>>) {
    let mut third = shared.held.ack_wait() / 3;
    let mut ticker = every(third);
    loop {
        ticker.tick().await;
        if !shared.held.holds() {
            lose_all(&shared);
            shared.held.sign(Instant::now());
        }
        let begun = Instant::now();
        match tokio::time::timeout(third, burst(&shared)).await {
            Ok(Ok(())) => shared.held.sign(begun),
            Ok(Err(error)) => tracing::warn!(%error, "no sign of holding could be sent"),
            Err(_) => tracing::warn!("no sign of holding could be sent in time"),
        }
        if !shared.held.holds() {
            lose_all(&shared);
            shared.held.sign(Instant::now());
        }
        if third != shared.held.ack_wait() / 3 {
            third = shared.held.ack_wait() / 3;
            ticker = every(third);
        }
    }
}

fn every(interval: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(interval);
    ticker.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticker
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lose_all<S>(shared: &Shared<S>) {
    let lost = std::mem::take(&mut *shared.held.requests()).len();
    if lost > 0 || !shared.held.lost.swap(true, Ordering::Relaxed) {
        tracing::warn!(cell = %shared.names.cell(), vehicles = lost, "could not hold the bindings, dropping all");
        shared.tell(BindEvent::LostAll);
    }
}

async fn burst<S: StateStore>(shared: &Shared<S>) -> Result<()> {
    let replies: Vec<Subject> = shared.held.requests().values().map(|r| r.reply.clone()).collect();
    if !replies.is_empty() {
        shared.held.lost.store(false, Ordering::Relaxed);
    }
    let progress: Bytes = AckKind::Progress.into();
    for reply in replies {
        shared.publish(reply, progress.clone()).await?;
    }
    shared.client.flush().await.map_err(|e| Error::unavailable("NATS").caused_by(e))
}

impl<S: StateStore> Shared<S> {
    pub(super) async fn publish(&self, subject: Subject, payload: Bytes) -> Result<()> {
        self.client.publish(subject, payload).await.map_err(|e| Error::unavailable("NATS").caused_by(e))
    }

    /// Gives a request back to the queue, which delivers it again after a while, perhaps to another worker.
    /// One that was lost meanwhile is not ours to give.
    pub(super) async fn hand_back(&self, vehicle: &VehicleId, reply: &Subject, after: Duration) {
        if self.held.forget(vehicle, reply) {
            let sent = self.publish(reply.clone(), AckKind::Nak(Some(after)).into()).await;
            if let Err(error) = sent {
                tracing::warn!(cell = %self.names.cell(), %vehicle, %error, "a request was not given back, it comes again after ack_wait");
            }
        }
    }

    /// Gives every request back to the queue at once, for other workers.
    pub(super) async fn give_all_back(&self) -> Result<()> {
        let requests = std::mem::take(&mut *self.held.requests());
        self.give_back(requests.into_values().collect()).await
    }

    /// Gives these back to the queue at once. There must be no pull of ours, or they would come back to us.
    pub(super) async fn give_back(&self, requests: Vec<Request>) -> Result<()> {
        let nak: Bytes = AckKind::Nak(None).into();
        for request in requests {
            self.publish(request.reply, nak.clone()).await?;
        }
        self.client.flush().await.map_err(|e| Error::unavailable("NATS").caused_by(e))
    }
}
