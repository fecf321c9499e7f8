//! What the source does behind: subscribing, fences, and what came of it.

use super::super::fence::{Fence, fence};
use super::super::lifecycle::Lifecycle;
use super::super::watch::Owed;
use super::attachments::Ticket;
use super::settle::Stored;
use super::subscription::Live;
use super::sweep::Wanted;
use super::{NatsSource, abortable};
use crate::error::Result;
use crate::source::SourceEvent;
use crate::time::Micros;

/// What a task brings back.
#[derive(Debug)]
pub(super) enum TaskDone {
    /// Subscriptions that were made before the fence, and how often the connection had been made.
    Subscribed { subscriptions: Vec<Live>, fence: Fence, connects: u64 },
    /// A fence for these.
    Fenced { round: Rounds, wanted: Vec<(Ticket, Micros, Owed)>, fence: Fence },
    /// What is stored of a vehicle's life.
    Lifecycle { ticket: Ticket, found: Result<Lifecycle> },
    /// A vehicle's last stored message of each signal.
    Signals { ticket: Ticket, found: Result<Vec<Option<Stored>>> },
}

/// Whose rounds a vehicle is caught up in. They run side by side, so that a vehicle which has to be caught
/// up again and again, because it sends more than it may, does not make others wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounds {
    /// Those of vehicles that are new here, and of all after a connection was lost.
    All,
    /// Those of single vehicles with losses of their own.
    Alone,
}

impl NatsSource {
    /// Subscribes to a group's subjects, then fences: what was accepted before is stored by then,
    /// what comes after is delivered live.
    pub(super) fn subscribe(&mut self, joining: Vec<(Ticket, String)>) {
        let (client, js, names) = (self.client.clone(), self.js.clone(), self.names.clone());
        let capacity = self.subscription_capacity;
        self.tasks.spawn(async move {
            let connects = client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
            let mut subscriptions = Vec::with_capacity(joining.len());
            for (ticket, subject) in joining {
                match Live::subscribe(&client, ticket, subject, capacity).await {
                    Ok(subscription) => subscriptions.push(subscription),
                    // Only a closed client refuses, and then everything ends.
                    Err(error) => tracing::error!(%error, "no subscription"),
                }
            }
            let fence = fence(&js, &names).await;
            TaskDone::Subscribed { subscriptions, fence, connects }
        });
    }

    /// Sets a fence for vehicles that must be read from a time on.
    pub(super) fn fence_for(&mut self, round: Rounds, wanted: Vec<(Ticket, Micros, Owed)>) {
        if wanted.is_empty() {
            return;
        }
        let (js, names) = (self.js.clone(), self.names.clone());
        self.tasks.spawn(async move {
            let fence = fence(&js, &names).await;
            TaskDone::Fenced { round, wanted, fence }
        });
    }

    pub(super) fn on_task(&mut self, done: TaskDone) {
        match done {
            TaskDone::Subscribed { subscriptions, fence, connects } => {
                self.on_subscribed(subscriptions, fence, connects);
            }
            TaskDone::Fenced { round, wanted, fence } => {
                let wanted = wanted.into_iter();
                let wanted = wanted.filter_map(|(ticket, from, owed)| self.wanted(ticket, from, owed, fence));
                let wanted: Vec<_> = wanted.collect();
                let rounds = match round {
                    Rounds::All => &self.rounds,
                    Rounds::Alone => &self.rounds_alone,
                };
                // The receiver lives as long as the source.
                let _ = rounds.send(wanted);
            }
            TaskDone::Lifecycle { ticket, found } => {
                self.on_lifecycle_read(ticket, found);
                self.look_ended();
            }
            TaskDone::Signals { ticket, found } => {
                self.on_settle(ticket, found);
                self.look_ended();
            }
        }
    }

    fn on_subscribed(&mut self, subscriptions: Vec<Live>, fence: Fence, connects: u64) {
        let now = self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed);
        let mut wanted = Vec::with_capacity(subscriptions.len());
        for subscription in subscriptions {
            let ticket = subscription.ticket();
            let Some(vehicle) = self.vehicles.get_mut(ticket) else { continue };
            let (stream, handle) = abortable(subscription);
            vehicle.subscription = Some(handle);
            self.live.push(stream);
            if now != connects {
                // The connection was made anew meanwhile: what came between is only in the stream.
                vehicle.feed.disturb(vehicle.from);
            }
            let (from, owed) = (vehicle.from, vehicle.owed);
            wanted.extend(self.wanted(ticket, from, owed, fence));
        }
        let _ = self.rounds.send(wanted);
    }

    fn wanted(&self, ticket: Ticket, from: Micros, owed: Owed, to: Fence) -> Option<Wanted> {
        let vehicle = self.vehicles.get(ticket)?;
        tracing::trace!(vehicle = %vehicle.id, feed = vehicle.feed.name(), from, fence = to.sequence, "wanted");
        Some(Wanted { ticket, vehicle: vehicle.id.clone(), from, owed, to })
    }

    /// Tells the caller when the stored state has changed.
    pub(super) fn on_life(&mut self, ticket: Ticket, life: &Lifecycle) {
        let Some(vehicle) = self.vehicles.get_mut(ticket) else { return };
        let slot = ticket.slot;
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
