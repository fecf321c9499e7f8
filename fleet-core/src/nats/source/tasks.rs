//! What the source does behind: subscribing, fences, lifecycle checks.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt;
use futures_util::stream::{self, Stream};

use super::super::fence::{Fence, fence};
use super::super::lifecycle::{self, Lifecycle};
use super::settle::Stored;
use super::sweep::Wanted;
use super::{NatsSource, live};
use crate::ids::{Slot, VehicleId};
use crate::source::SourceEvent;
use crate::time::Micros;

/// How many direct gets are under way at once.
pub(super) const DIRECT_GETS: usize = 64;

/// A subscription that says whose it is.
#[derive(Debug)]
pub(super) struct Live {
    pub token: u64,
    pub subscriber: Subscriber,
}

impl Stream for Live {
    type Item = (u64, async_nats::Message);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let token = self.token;
        self.subscriber.poll_next_unpin(cx).map(|next| next.map(|message| (token, message)))
    }
}

/// What was just heard live; its storing may be still under way, so that a check waits a little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    On,
    Off,
    /// Nothing was heard: what is stored is stored.
    Either,
}

impl Expected {
    fn is_met(self, found: &Lifecycle) -> bool {
        match self {
            Self::On => found.on_still().is_some(),
            Self::Off => found.off_for_good().is_some(),
            Self::Either => true,
        }
    }
}

/// What a task brings back.
#[derive(Debug)]
pub(super) enum TaskDone {
    /// Subscriptions that were made before the fence, and how often the connection had been made.
    Subscribed { subscribers: Vec<(u64, Subscriber)>, fence: Fence, connects: u64 },
    /// A fence for these, with the time from which each must be read.
    Fenced { tokens: Vec<(u64, Micros)>, fence: Fence },
    /// What is stored of these vehicles' lives.
    Lifecycle(Vec<(u64, Lifecycle)>),
    /// A vehicle's last stored message of each signal.
    Settle { token: u64, stored: Vec<Option<Stored>> },
}

impl NatsSource {
    /// Subscribes to a group's subjects, then fences: what was accepted before is stored by then,
    /// what comes after is delivered live.
    pub(super) fn subscribe(&mut self, joining: Vec<(u64, String)>) {
        let (client, js, names) = (self.client.clone(), self.js.clone(), self.names.clone());
        self.tasks.spawn(async move {
            let connects = client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
            let mut subscribers = Vec::with_capacity(joining.len());
            for (token, subject) in joining {
                match client.subscribe(subject).await {
                    Ok(subscriber) => subscribers.push((token, subscriber)),
                    // Only a closed client refuses, and then everything ends.
                    Err(error) => tracing::error!(%error, "no subscription"),
                }
            }
            let fence = fence(&js, &names).await;
            TaskDone::Subscribed { subscribers, fence, connects }
        });
    }

    /// Sets a fence for vehicles that must be read from a time on.
    pub(super) fn fence_for(&mut self, tokens: Vec<(u64, Micros)>) {
        if tokens.is_empty() {
            return;
        }
        let (js, names) = (self.js.clone(), self.names.clone());
        self.tasks.spawn(async move {
            let fence = fence(&js, &names).await;
            TaskDone::Fenced { tokens, fence }
        });
    }

    /// Reads what is stored of these vehicles' lives.
    pub(super) fn check_lifecycle(&mut self, slots: Vec<Slot>, expected: Expected) {
        let vehicles: Vec<(u64, VehicleId)> = slots
            .iter()
            .filter_map(|slot| self.by_slot.get(slot))
            .map(|vehicle| (vehicle.token, vehicle.id.clone()))
            .collect();
        if vehicles.is_empty() {
            return;
        }
        let (js, names) = (self.side.clone(), self.names.clone());
        self.tasks.spawn(async move {
            let reads = vehicles.into_iter().map(|(token, vehicle)| {
                let (js, names) = (&js, &names);
                async move {
                    let mut looked = 0;
                    loop {
                        match lifecycle::read(js, names, &vehicle).await {
                            Ok(found) if expected.is_met(&found) || looked >= 10 => return (token, found),
                            Ok(_) => looked += 1,
                            Err(error) => tracing::debug!(%error, %vehicle, "lifecycle not read yet"),
                        }
                        tokio::time::sleep(Duration::from_millis(200)).await;
                    }
                }
            });
            TaskDone::Lifecycle(stream::iter(reads).buffer_unordered(DIRECT_GETS).collect().await)
        });
    }

    pub(super) fn on_task(&mut self, done: TaskDone) {
        match done {
            TaskDone::Subscribed { subscribers, fence, connects } => {
                self.on_subscribed(subscribers, fence, connects);
            }
            TaskDone::Fenced { tokens, fence } => {
                let wanted = tokens.into_iter().filter_map(|(token, from)| self.wanted(token, from, fence));
                let wanted: Vec<_> = wanted.collect();
                // The receiver lives as long as the source.
                let _ = self.rounds.send(wanted);
            }
            TaskDone::Lifecycle(lives) => {
                for (token, life) in lives {
                    self.on_life(token, &life);
                }
            }
            TaskDone::Settle { token, stored } => self.on_settle(token, &stored),
        }
    }

    fn on_subscribed(&mut self, subscribers: Vec<(u64, Subscriber)>, fence: Fence, connects: u64) {
        let now = self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
        let mut wanted = Vec::with_capacity(subscribers.len());
        for (token, subscriber) in subscribers {
            let Some(slot) = self.by_token.get(&token) else { continue };
            let Some(vehicle) = self.by_slot.get_mut(slot) else { continue };
            let (stream, handle) = live(token, subscriber);
            vehicle.subscription = Some(handle);
            self.live.push(stream);
            if now != connects {
                // The connection was made anew meanwhile: what came between is only in the stream.
                vehicle.feed.disturb(vehicle.from);
            }
            let from = vehicle.from;
            wanted.extend(self.wanted(token, from, fence));
        }
        let _ = self.rounds.send(wanted);
    }

    fn wanted(&self, token: u64, from: Micros, to: Fence) -> Option<Wanted> {
        let vehicle = self.by_slot.get(self.by_token.get(&token)?)?;
        tracing::trace!(vehicle = %vehicle.id, feed = vehicle.feed.name(), from, fence = to.sequence, "wanted");
        Some(Wanted { token, vehicle: vehicle.id.clone(), from, to })
    }

    /// Tells the caller when the stored state has changed.
    fn on_life(&mut self, token: u64, life: &Lifecycle) {
        let Some(&slot) = self.by_token.get(&token) else { return };
        let Some(vehicle) = self.by_slot.get_mut(&slot) else { return };
        let known = vehicle.off;
        match (life.off_for_good(), life.on_still(), life.off) {
            (Some(off), ..) if known != Some(off.stored) => {
                vehicle.off = Some(off.stored);
                self.ready.push_back(SourceEvent::Off { slot, stored: off.stored });
            }
            // On again, perhaps before we ever heard of the `off` between.
            (None, Some(on), between)
                if known.is_some() || between.is_some_and(|o| o.stored > vehicle.on_time) =>
            {
                if let Some(off) = between.filter(|_| known.is_none()) {
                    self.ready.push_back(SourceEvent::Off { slot, stored: off.stored });
                }
                vehicle.off = None;
                vehicle.on_time = on.stored;
                let started_at = on.started_at(&vehicle.id);
                self.ready.push_back(SourceEvent::On { slot, started_at });
            }
            _ => {}
        }
    }
}
