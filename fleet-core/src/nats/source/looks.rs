//! Looks at what is stored of vehicles, by direct gets: all that wait are asked for together. However much comes:
//! one look of a kind is under way per vehicle and so many of all together, and what comes meanwhile is one more
//! look.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::super::lifecycle::{self, Lifecycle};
use super::NatsSource;
use super::attachments::Ticket;
use super::settle;
use super::tasks::TaskDone;
use crate::error::Result;
use crate::ids::Slot;

/// How many groups of a kind are under way at once: two, so that the next one gathers while one is on its way.
const GROUPS_AT_ONCE: usize = 2;

/// Messages that a group asks for at most, if it has more than one vehicle.
const GROUP: usize = 512;

/// How long after a look the next one of the same vehicle begins.
const APART: Duration = Duration::from_millis(250);

/// How often is looked for what was heard live; its storing may be still under way.
const TRIES: u32 = 10;

/// What was just heard live.
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

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The last `on` and `off`.
    Lifecycle,
    /// The last message of each signal.
    Signals,
}

/// How far the look at a vehicle's life is.
#[derive(Debug, Default)]
pub(super) struct LifeLook {
    /// What the look that is waiting or under way is for.
    under_way: Option<Expected>,
    tries: u32,
    /// What came meanwhile: look once more.
    again: Option<Expected>,
    /// When the last look ended.
    ended: Option<Instant>,
}

impl LifeLook {
    /// Whether a look must begin now, and not only once more after the one under way.
    fn ask(&mut self, expected: Expected) -> bool {
        match self.under_way {
            Some(_) => {
                if expected != Expected::Either || self.again.is_none() {
                    self.again = Some(expected);
                }
                false
            }
            None => {
                (self.under_way, self.tries) = (Some(expected), 0);
                true
            }
        }
    }

    /// A look has ended: whether another one must follow, and whether what was found counts.
    fn ended(&mut self, found: Result<&Lifecycle, ()>, now: Instant) -> (bool, bool) {
        self.ended = Some(now);
        let expected = self.under_way.unwrap_or(Expected::Either);
        let (met, counts) = match found {
            Err(()) => (false, false),
            Ok(life) => {
                let met = expected.is_met(life) || self.tries >= TRIES;
                self.tries += 1;
                (met, met)
            }
        };
        match (self.again.take(), met) {
            (Some(next), true) => (self.under_way, self.tries) = (Some(next), 0),
            // The newer one says what is stored last.
            (Some(Expected::Either), false) | (None, false) => {}
            (Some(next), false) => (self.under_way, self.tries) = (Some(next), 0),
            (None, true) => self.under_way = None,
        }
        (self.under_way.is_some(), counts)
    }
}

/// Looks that wait for their turn. Each vehicle is in it once per kind.
#[derive(Debug, Default)]
pub(super) struct Looks {
    lifecycles: Queue,
    signals: Queue,
    /// Those that wait for their time, the first one first.
    later: VecDeque<(Instant, Kind, Ticket)>,
}

/// Looks of one kind.
#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Ticket>,
    /// Groups.
    under_way: usize,
}

impl Looks {
    fn of(&mut self, kind: Kind) -> &mut Queue {
        match kind {
            Kind::Lifecycle => &mut self.lifecycles,
            Kind::Signals => &mut self.signals,
        }
    }

    fn now(&mut self, kind: Kind, ticket: Ticket) {
        self.of(kind).waiting.push_back(ticket);
    }

    fn later(&mut self, kind: Kind, ticket: Ticket) {
        self.later.push_back((Instant::now() + APART, kind, ticket));
    }
}

impl Queue {
    /// The next ones, if there is room for another group.
    fn group(&mut self, vehicles: usize) -> Vec<Ticket> {
        let room = if self.under_way < GROUPS_AT_ONCE { vehicles.max(1) } else { 0 };
        self.waiting.drain(..room.min(self.waiting.len())).collect()
    }
}

impl NatsSource {
    /// Looks at what is stored of these vehicles' lives, now or after the look that is under way.
    pub(super) fn check_lifecycle(&mut self, slots: impl IntoIterator<Item = Slot>, expected: Expected) {
        let now = Instant::now();
        for slot in slots {
            let Some((ticket, vehicle)) = self.vehicles.at(slot) else { continue };
            if vehicle.look.ask(expected) {
                if vehicle.look.ended.is_some_and(|ended| now - ended < APART) {
                    self.looks.later(Kind::Lifecycle, ticket);
                } else {
                    self.looks.now(Kind::Lifecycle, ticket);
                }
            }
        }
        self.start_looks();
    }

    /// Looks at a vehicle's last messages as soon as there is room.
    pub(super) fn look_at_signals(&mut self, ticket: Ticket) {
        self.looks.now(Kind::Signals, ticket);
        self.start_looks();
    }

    /// Begins what waits, as far as there is room. Vehicles that were detached meanwhile drop out.
    fn start_looks(&mut self) {
        self.start_groups(Kind::Lifecycle, GROUP / 2);
        self.start_groups(Kind::Signals, GROUP / self.schema.signals().len().max(1));
    }

    fn start_groups(&mut self, kind: Kind, vehicles: usize) {
        loop {
            let group = self.looks.of(kind).group(vehicles);
            if group.is_empty() {
                return;
            }
            let there = |ticket| self.vehicles.get(ticket).map(|vehicle| (ticket, vehicle.id.clone()));
            let (tickets, ids): (Vec<_>, Vec<_>) = group.into_iter().filter_map(there).unzip();
            if tickets.is_empty() {
                continue;
            }
            self.looks.of(kind).under_way += 1;
            let (gets, names) = (self.gets.clone(), self.names.clone());
            match kind {
                Kind::Lifecycle => self.tasks.spawn(async move {
                    let found = lifecycle::read_each(&gets, &names, &ids).await;
                    TaskDone::Lifecycles(tickets.into_iter().zip(found).collect())
                }),
                Kind::Signals => {
                    let schema = self.schema.clone();
                    self.tasks.spawn(async move {
                        let found = settle::last_of_each(&gets, &names, &schema, &ids).await;
                        TaskDone::Signals(tickets.into_iter().zip(found).collect())
                    })
                }
            };
        }
    }

    /// Begins those whose time has come.
    pub(super) fn start_later_looks(&mut self) {
        let now = Instant::now();
        while let Some((_, kind, ticket)) = self.looks.later.pop_front_if(|(at, ..)| *at <= now) {
            self.looks.now(kind, ticket);
        }
        self.start_looks();
    }

    /// A group's task has ended: there is room for the next one.
    pub(super) fn looks_ended(&mut self, kind: Kind) {
        let queue = self.looks.of(kind);
        queue.under_way = queue.under_way.saturating_sub(1);
        self.start_looks();
    }

    /// The same once more, in a moment.
    pub(super) fn look_again(&mut self, kind: Kind, ticket: Ticket) {
        self.looks.later(kind, ticket);
    }

    pub(super) fn on_lifecycle_read(&mut self, ticket: Ticket, found: Result<Lifecycle>) {
        let Some(vehicle) = self.vehicles.get_mut(ticket) else { return };
        if let Err(error) = &found {
            tracing::debug!(%error, vehicle = %vehicle.id, "lifecycle not read yet");
        }
        let (again, counts) = vehicle.look.ended(found.as_ref().map_err(drop), Instant::now());
        if again {
            self.look_again(Kind::Lifecycle, ticket);
        }
        if let (Ok(life), true) = (found, counts) {
            self.on_life(ticket, &life);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::lifecycle::Signal;
    use super::*;

    fn life(on: u64, off: u64) -> Lifecycle {
        let at = |sequence| Some(Signal { sequence, stored: 0, since: None });
        Lifecycle { on: at(on), off: at(off) }
    }

    #[test]
    fn what_waits_while_two_groups_are_under_way_is_the_next_group() {
        let mut looks = Looks::default();
        let ticket = |slot| Ticket::first(Slot(slot));
        for slot in 0..600 {
            looks.now(Kind::Lifecycle, ticket(slot));
        }
        looks.now(Kind::Signals, ticket(0));
        let mut lengths = Vec::new();
        for _ in 0..4 {
            let group = looks.of(Kind::Lifecycle).group(256);
            looks.of(Kind::Lifecycle).under_way += usize::from(!group.is_empty());
            lengths.push(group.len());
        }
        assert_eq!(lengths, [256, 256, 0, 0]);
        assert_eq!(looks.of(Kind::Signals).group(0), [ticket(0)], "the others' groups are not in its way");
        looks.of(Kind::Lifecycle).under_way -= 1;
        assert_eq!(looks.of(Kind::Lifecycle).group(256).len(), 88);
    }

    #[test]
    fn whatever_comes_while_a_look_is_under_way_is_one_more_look() {
        let (mut look, now) = (LifeLook::default(), Instant::now());
        assert!(look.ask(Expected::Off));
        for _ in 0..1_000 {
            assert!(!look.ask(Expected::Off) && !look.ask(Expected::Either));
        }
        assert_eq!(look.ended(Ok(&life(1, 2)), now), (true, true), "met; what came meanwhile follows");
        assert_eq!(look.ended(Ok(&life(1, 2)), now), (false, true));
        assert!(look.ask(Expected::On));
    }

    #[test]
    fn what_was_heard_is_looked_for_until_it_is_stored_and_an_error_is_no_answer() {
        let (mut look, now) = (LifeLook::default(), Instant::now());
        assert!(look.ask(Expected::Off));
        for _ in 0..100 {
            assert_eq!(look.ended(Err(()), now), (true, false));
        }
        for _ in 0..TRIES {
            assert_eq!(look.ended(Ok(&life(2, 1)), now), (true, false), "still on");
        }
        assert_eq!(look.ended(Ok(&life(2, 1)), now), (false, true), "it never was stored");
        assert!(look.ask(Expected::Off) && !look.ask(Expected::On));
        assert_eq!(look.ended(Ok(&life(3, 1)), now), (true, false), "an `on` has come since");
        assert_eq!(look.ended(Ok(&life(3, 1)), now), (false, true));
    }
}
