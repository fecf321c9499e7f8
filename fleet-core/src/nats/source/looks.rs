//! Looks at what is stored of a vehicle, by direct gets. However much comes: one look of a kind is
//! under way per vehicle and so many of all together, and what comes meanwhile is one more look.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::super::lifecycle::{self, Lifecycle};
use super::NatsSource;
use super::attachments::Ticket;
use super::settle::compare;
use super::tasks::TaskDone;
use crate::error::Result;
use crate::ids::Slot;

/// How many looks are under way at once.
const AT_ONCE: usize = 64;

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
    waiting: VecDeque<(Kind, Ticket)>,
    /// Those that wait for their time, the first one first.
    later: VecDeque<(Instant, Kind, Ticket)>,
    under_way: usize,
}

impl Looks {
    fn next(&mut self) -> Option<(Kind, Ticket)> {
        (self.under_way < AT_ONCE).then(|| self.waiting.pop_front()).flatten()
    }

    fn later(&mut self, kind: Kind, ticket: Ticket) {
        self.later.push_back((Instant::now() + APART, kind, ticket));
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
                    self.looks.waiting.push_back((Kind::Lifecycle, ticket));
                }
            }
        }
        self.start_looks();
    }

    /// Looks at a vehicle's last messages as soon as there is room.
    pub(super) fn look_at_signals(&mut self, ticket: Ticket) {
        self.looks.waiting.push_back((Kind::Signals, ticket));
        self.start_looks();
    }

    /// Begins what waits, as far as there is room. A vehicle that was detached meanwhile drops out.
    fn start_looks(&mut self) {
        while let Some((kind, ticket)) = self.looks.next() {
            let Some(vehicle) = self.vehicles.get(ticket) else { continue };
            let (js, names, id) = (self.side.clone(), self.names.clone(), vehicle.id.clone());
            self.looks.under_way += 1;
            match kind {
                Kind::Lifecycle => self.tasks.spawn(async move {
                    TaskDone::Lifecycle { ticket, found: lifecycle::read(&js, &names, &id).await }
                }),
                Kind::Signals => {
                    let schema = self.schema.clone();
                    self.tasks.spawn(async move {
                        TaskDone::Signals { ticket, found: compare(&js, &names, &schema, &id).await }
                    })
                }
            };
        }
    }

    /// Begins those whose time has come.
    pub(super) fn start_later_looks(&mut self) {
        let now = Instant::now();
        while let Some((_, kind, ticket)) = self.looks.later.pop_front_if(|(at, ..)| *at <= now) {
            self.looks.waiting.push_back((kind, ticket));
        }
        self.start_looks();
    }

    /// A look's task has ended: there is room for the next one.
    pub(super) fn look_ended(&mut self) {
        self.looks.under_way = self.looks.under_way.saturating_sub(1);
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
