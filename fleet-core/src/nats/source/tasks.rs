//! What the source does behind: fences and looks, and what came of them.

use super::super::fence::{Fence, fence};
use super::super::lifecycle::Lifecycle;
use super::super::watch::Owed;
use super::NatsSource;
use super::attachments::Ticket;
use super::live::Joining;
use super::looks::Kind;
use super::settle::Stored;
use super::sweep::Wanted;
use crate::error::Result;
use crate::source::SourceEvent;
use crate::time::Micros;

/// What a task brings back.
#[derive(Debug)]
pub(super) enum TaskDone {
    /// A fence for these.
    Fenced { rounds: Rounds, wanted: Vec<(Ticket, Micros, Owed)>, fence: Fence },
    /// What is stored of vehicles' lives.
    Lifecycles(Vec<(Ticket, Result<Lifecycle>)>),
    /// Vehicles' last stored message of each signal.
    Signals(Vec<(Ticket, Result<Vec<Option<Stored>>>)>),
}

/// Whose rounds a vehicle is caught up in. They run side by side, so that a vehicle which has to be caught
/// up again and again, because it sends more than it may, does not make others wait, and that a short catch-up does
/// not wait for long ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rounds {
    /// Those of vehicles that are new here, and of all after a connection was lost.
    All,
    /// Those of vehicles that another worker has just handed over, which read some seconds.
    HandedOver,
    /// Those of single vehicles with losses of their own.
    Alone,
}

impl Rounds {
    /// In the order of their numbers.
    pub(super) const EACH: [Self; 3] = [Self::All, Self::HandedOver, Self::Alone];
}

impl NatsSource {
    /// Catches vehicles up once the server knows their subscriptions: what was accepted before a fence that is
    /// set then is stored, and what comes after it is delivered live.
    pub(super) fn fence_for(&mut self, rounds: Rounds, wanted: Vec<(Ticket, Micros, Owed)>) {
        if !wanted.is_empty() {
            self.live.when_known(Joining { rounds, wanted });
        }
    }

    /// Sets fences for those that the server knows now.
    pub(super) fn set_fences(&mut self) {
        while let Some(Joining { rounds, wanted }) = self.live.joined() {
            let (js, names) = (self.side.clone(), self.names.clone());
            self.tasks.spawn(async move {
                let fence = fence(&js, &names).await;
                TaskDone::Fenced { rounds, wanted, fence }
            });
        }
    }

    pub(super) fn on_task(&mut self, done: TaskDone) {
        match done {
            TaskDone::Fenced { rounds, wanted, fence } => {
                let wanted = wanted.into_iter();
                let wanted = wanted.filter_map(|(ticket, from, owed)| self.wanted(ticket, from, owed, fence));
                let wanted: Vec<_> = wanted.collect();
                // The receiver lives as long as the source.
                let _ = self.rounds[rounds as usize].send(wanted);
            }
            TaskDone::Lifecycles(found) => {
                found.into_iter().for_each(|(ticket, found)| self.on_lifecycle_read(ticket, found));
                self.looks_ended(Kind::Lifecycle);
            }
            TaskDone::Signals(found) => {
                found.into_iter().for_each(|(ticket, found)| self.on_settle(ticket, found));
                self.looks_ended(Kind::Signals);
            }
        }
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
                self.ready.push(ticket, SourceEvent::Off { slot, stored: off.stored });
            }
            // On again, perhaps before we ever heard of the `off` between.
            (None, Some(on), between)
                if known.is_some() || between.is_some_and(|o| o.stored > vehicle.on_time) =>
            {
                if let Some(off) = between.filter(|_| known.is_none()) {
                    self.ready.push(ticket, SourceEvent::Off { slot, stored: off.stored });
                }
                vehicle.off = None;
                vehicle.on_time = on.stored;
                let started_at = on.started_at(&vehicle.id);
                self.ready.push(ticket, SourceEvent::On { slot, started_at });
            }
            _ => {}
        }
    }
}
