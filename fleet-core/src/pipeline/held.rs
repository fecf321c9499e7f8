//! What the driver keeps of the vehicles, and which of them it must look at when.

#[cfg(test)]
mod tests;

use prefetch_index::prefetch_index;

use crate::ids::Slot;
use crate::lane::{Dues, NEVER_DUE, extend};
use crate::message::{Message, Topic};
use crate::time::Micros;

/// Microseconds since the pipeline began, by the monotonic clock: no clock that is set makes a vehicle silent.
pub(super) type Elapsed = Micros;

/// Where a vehicle is in its life with us.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Phase {
    /// It is on.
    On,
    /// It is off since then (server time); its samples are waited for, since each sensor is its own
    /// client and `off` overtakes samples.
    Ending { ended_at: Micros, since: Elapsed },
    /// The source makes certain that all that is stored was delivered.
    Settling { ended_at: Micros },
    /// Its last rows are on their way; it is released once the batch is durable.
    Finishing { ended_at: Micros, batch: Option<u64> },
    /// The binder gives it back. It may keep it for an `on` that it has found, after which the source has
    /// told of an `off` (server time) that counts then.
    Releasing { off: Option<Micros> },
}

/// Whether a vehicle has ever sent a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum FirstSample {
    Seen,
    /// Not yet, and its first catch-up is under way.
    CatchingUp,
    /// Not yet, and it was caught up then.
    AwaitedSince(Elapsed),
}

/// What the driver keeps of a vehicle.
#[derive(Debug)]
pub(super) struct Held {
    phase: Phase,
    /// Server time of the last message or `on`.
    pub last_sign: Micros,
    /// When it was heard of last.
    pub heard: Elapsed,
    /// Messages since this server time were left to the stream.
    missed: Option<Micros>,
    pub first_sample: FirstSample,
    /// Tells it apart from earlier vehicles of its slot.
    number: u32,
    /// A frame's counter has jumped, and the grace runs.
    pub jumped: bool,
    /// Whether it was said that its clock is wrong.
    pub clock_told: bool,
    /// It is in the list of those that wait for the next batch.
    listed: bool,
}

const _: () = assert!(size_of::<Option<Held>>() == 80);

impl Held {
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn has_missed(&self) -> bool {
        self.missed.is_some()
    }
}

/// A vehicle that was held when this was made; it may be gone, and another have its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub slot: Slot,
    number: u32,
}

/// Those that were found to be at the end of their time.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Ended {
    /// To be settled, for whatever reason.
    pub slots: Vec<Slot>,
    /// How many of them have never sent a sample.
    pub without_sample: u64,
}

/// The vehicles that are held, by slot. Whatever lists name a vehicle keep its ticket, so that nobody has to
/// look through them when it goes.
#[derive(Debug)]
pub(super) struct HeldVehicles {
    places: Vec<Option<Held>>,
    /// How many were taken in so far.
    numbers: u32,
    /// After an `off`, samples are waited for this long.
    patience: Micros,
    /// One that was not heard of for this long is off.
    idle_timeout: Micros,
    /// When a phase may be over by itself. One that is heard of puts off its end, which is noticed only then.
    ends: Dues,
    /// Those that no sample was heard of, as of the last [`end`](Self::end), with those taken in since.
    without_sample: Vec<Ticket>,
    /// Those whose last rows go with the next batch.
    finishing: Vec<Ticket>,
    /// Those that have missed something.
    missed: Vec<Ticket>,
}

impl HeldVehicles {
    pub(super) fn new(patience: Micros, idle_timeout: Micros) -> Self {
        Self {
            places: Vec::new(),
            numbers: 0,
            patience,
            idle_timeout,
            ends: Dues::default(),
            without_sample: Vec::new(),
            finishing: Vec::new(),
            missed: Vec::new(),
        }
    }

    /// Takes in a vehicle that is on, at this server time; a `known` one has sent samples to a holder before.
    pub(super) fn take_in(&mut self, slot: Slot, now: Micros, heard: Elapsed, known: bool) {
        extend(&mut self.places, slot.index() + 1, || None);
        self.ends.extend(slot);
        self.numbers = self.numbers.wrapping_add(1);
        let number = self.numbers;
        let first_sample = if known { FirstSample::Seen } else { FirstSample::CatchingUp };
        self.places[slot.index()] = Some(Held {
            phase: Phase::On,
            last_sign: now,
            heard,
            missed: None,
            first_sample,
            number,
            jumped: false,
            clock_told: false,
            listed: false,
        });
        if !known {
            self.without_sample.push(Ticket { slot, number });
        }
        self.look_again(slot);
    }

    pub(super) fn let_go(&mut self, slot: Slot) {
        if let Some(place) = self.places.get_mut(slot.index()) {
            *place = None;
            self.ends.set(slot, NEVER_DUE);
        }
    }

    /// The vehicle that has the slot now.
    pub(super) fn at(&mut self, slot: Slot) -> Option<&mut Held> {
        self.places.get_mut(slot.index()).and_then(Option::as_mut)
    }

    /// Has a slot's vehicle fetched: those of a group lie far apart in memory.
    pub(super) fn prefetch(&self, slot: Slot) {
        prefetch_index(&self.places, slot.index());
    }

    /// Takes a message for a sign of life; whether its vehicle is held.
    pub(super) fn hear(&mut self, message: &Message, elapsed: Elapsed) -> bool {
        let Some(held) = self.at(message.slot) else { return false };
        held.last_sign = held.last_sign.max(message.arrival);
        held.heard = elapsed;
        if let Topic::Signal(_) = message.topic {
            held.first_sample = FirstSample::Seen;
        }
        true
    }

    /// The vehicle of a ticket, unless it was let go.
    pub(super) fn get(&mut self, ticket: Ticket) -> Option<&mut Held> {
        self.at(ticket.slot).filter(|held| held.number == ticket.number)
    }

    pub(super) fn ticket(&self, slot: Slot) -> Option<Ticket> {
        let held = self.places.get(slot.index()).and_then(Option::as_ref)?;
        Some(Ticket { slot, number: held.number })
    }

    /// How many have not sent a sample.
    pub(super) fn without_sample(&self) -> usize {
        self.without_sample.len()
    }

    /// Moves a vehicle on.
    pub(super) fn enter(&mut self, slot: Slot, phase: Phase) {
        let Some(held) = self.at(slot) else { return };
        held.phase = phase;
        let is_new = matches!(phase, Phase::Finishing { .. }) && !std::mem::replace(&mut held.listed, true);
        if is_new {
            self.finishing.extend(self.ticket(slot));
        }
        self.look_again(slot);
    }

    /// Leaves a message of that arrival (server time) to the stream.
    pub(super) fn miss(&mut self, slot: Slot, arrival: Micros) {
        let Some(held) = self.at(slot) else { return };
        let earlier = held.missed.replace(held.missed.map_or(arrival, |missed| missed.min(arrival)));
        if earlier.is_none() {
            self.missed.extend(self.ticket(slot));
        }
    }

    /// Takes the vehicles that have missed something, with the server time from which on.
    pub(super) fn take_missed(&mut self) -> Vec<(Slot, Micros)> {
        let mut all = Vec::new();
        for ticket in std::mem::take(&mut self.missed) {
            if let Some(from) = self.get(ticket).and_then(|held| held.missed.take()) {
                all.push((ticket.slot, from));
                self.look_again(ticket.slot);
            }
        }
        all
    }

    /// Whether a vehicle waits for the next batch.
    pub(super) fn waits_for_batch(&self) -> bool {
        !self.finishing.is_empty()
    }

    /// The next batch is sealed: those that are released once it is durable.
    pub(super) fn seal(&mut self, sequence: u64) -> Vec<Ticket> {
        let mut finishing = std::mem::take(&mut self.finishing);
        finishing.retain(|ticket| {
            let Some(held) = self.get(*ticket) else { return false };
            held.listed = false;
            match &mut held.phase {
                Phase::Finishing { batch: batch @ None, .. } => {
                    *batch = Some(sequence);
                    true
                }
                _ => false,
            }
        });
        finishing
    }

    /// Ends the phases whose time is over. One of which no sample was heard of has that long since it was
    /// caught up.
    pub(super) fn end(&mut self, now: Elapsed, first_sample_timeout: Micros) -> Ended {
        let mut ended = Ended::default();
        self.give_way(now, first_sample_timeout, &mut ended);
        let mut due = Vec::new();
        self.ends.collect(now, &mut due);
        for slot in due {
            let Some(held) = self.at(slot) else { continue };
            let (phase, last_sign) = (held.phase, held.last_sign);
            if self.end_of(slot) > now {
                self.look_again(slot);
                continue;
            }
            let ended_at = if let Phase::Ending { ended_at, .. } = phase { ended_at } else { last_sign };
            self.enter(slot, Phase::Settling { ended_at });
            ended.slots.push(slot);
        }
        ended
    }

    fn give_way(&mut self, now: Elapsed, timeout: Micros, ended: &mut Ended) {
        let mut without_sample = std::mem::take(&mut self.without_sample);
        without_sample.retain(|ticket| {
            let Some(held) = self.get(*ticket) else { return false };
            let since = match held.first_sample {
                FirstSample::Seen => return false,
                FirstSample::CatchingUp => return true,
                FirstSample::AwaitedSince(since) => since,
            };
            if held.phase == Phase::On && now - since >= timeout {
                // One that is kept for a new trip has its time again.
                held.first_sample = FirstSample::AwaitedSince(now);
                let ended_at = held.last_sign;
                self.enter(ticket.slot, Phase::Settling { ended_at });
                ended.slots.push(ticket.slot);
                ended.without_sample += 1;
            }
            true
        });
        self.without_sample = without_sample;
    }

    /// When the phase of the slot's vehicle is over by itself, by what is known of it now.
    fn end_of(&self, slot: Slot) -> Elapsed {
        let Some(held) = self.places.get(slot.index()).and_then(Option::as_ref) else { return NEVER_DUE };
        match held.phase {
            Phase::On => held.heard.saturating_add(self.idle_timeout),
            // What was missed comes first.
            Phase::Ending { since, .. } if held.missed.is_none() => since.saturating_add(self.patience),
            _ => NEVER_DUE,
        }
    }

    fn look_again(&mut self, slot: Slot) {
        self.ends.set(slot, self.end_of(slot));
    }
}
