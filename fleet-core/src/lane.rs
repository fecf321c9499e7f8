//! The heart: messages in, batches out. No I/O, no clock, no `await`; time and messages are handed to
//! it, so that a run can be repeated to the byte.

mod ahead;
mod counters;
mod dues;
mod latest;
mod names;
mod output;
#[cfg(test)]
mod tests;
mod vehicle;

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;

pub use counters::LaneCounters;

pub(crate) use self::dues::{Dues, NEVER_DUE};
use self::names::Names;
use self::output::Output;
use self::vehicle::Vehicle;
use crate::align::{Aligner, Methods};
use crate::batch::Batch;
use crate::bind::{Binding, Carry, Newest, VehicleState};
use crate::decode::{DecodeError, Decoder, check};
use crate::error::Result;
use crate::ids::{SignalIndex, Slot, VehicleId};
use crate::message::{DeadLetter, Message, Refusal, Topic};
use crate::sample::Samples;
use crate::schema::{Problem, Schema};
use crate::time::Micros;

/// One single-threaded run of the pipeline's middle, with its own vehicles.
#[derive(Debug)]
pub struct Lane {
    schema: Schema,
    decoder: Arc<dyn Decoder>,
    aligner: Aligner,
    output: Output,
    vehicles: Vec<Option<Vehicle>>,
    /// When a tick may have something to do for a vehicle, server time. Apart from the vehicles, of which nearly
    /// all can be passed over.
    dues: Dues,
    /// By slot: something came since the last snapshot.
    dirty: Vec<bool>,
    /// By slot: a sample came since the newest ones were last taken.
    fresh: Vec<bool>,
    /// The vehicles of a tick; empty between ticks.
    ticking: Vec<Slot>,
    free: Vec<Slot>,
    names: Names,
    /// How many bindings there were.
    bindings: u32,
    samples: Samples,
    /// Of vehicles that hold no sample: when the last message came of which all was refused, server time.
    refused: HashMap<Slot, Micros>,
    letters: Vec<DeadLetter>,
    /// With the number of the vehicle, which may be gone by the time that somebody asks.
    gaps: Vec<(Slot, u32, Micros)>,
}

impl Lane {
    /// A lane without vehicles.
    pub fn new(schema: &Schema, decoder: Arc<dyn Decoder>, aligner: Aligner) -> Self {
        Self {
            schema: schema.clone(),
            decoder,
            aligner,
            output: Output::new(schema),
            vehicles: Vec::new(),
            dues: Dues::default(),
            dirty: Vec::new(),
            fresh: Vec::new(),
            ticking: Vec::new(),
            free: Vec::new(),
            names: Names::default(),
            bindings: 0,
            samples: Samples::default(),
            refused: HashMap::new(),
            letters: Vec::new(),
            gaps: Vec::new(),
        }
    }

    /// A lane with the built-in formats and methods.
    ///
    /// # Errors
    /// Every signal whose method is unknown or can't work on its columns.
    pub fn with_built_ins(schema: &Schema) -> std::result::Result<Self, Vec<Problem>> {
        let aligner = Aligner::new(schema, &Methods::default())?;
        Ok(Self::new(schema, Arc::new(crate::decode::AnyDecoder), aligner))
    }

    /// What it has done so far.
    pub fn counters(&self) -> &LaneCounters {
        &self.output.counters
    }

    /// [`Aligner::context`], microseconds of event time.
    pub fn context(&self) -> Micros {
        self.aligner.context()
    }

    /// How many vehicles are bound.
    pub fn vehicles(&self) -> usize {
        self.names.len()
    }

    /// The slot of a bound vehicle.
    pub fn find(&self, vehicle: &VehicleId) -> Option<Slot> {
        self.names.find(&self.vehicles, vehicle)
    }

    /// The name of a bound vehicle.
    pub fn name(&self, slot: Slot) -> Option<&VehicleId> {
        self.vehicle(slot).map(|v| &v.id)
    }

    /// Every bound vehicle's slot, in the same order in every run.
    pub fn slots(&self) -> Vec<Slot> {
        let bound = self.vehicles.iter().enumerate().filter(|(_, vehicle)| vehicle.is_some());
        bound.map(|(index, _)| Slot::at(index)).collect()
    }

    fn vehicle(&self, slot: Slot) -> Option<&Vehicle> {
        self.vehicles.get(slot.index()).and_then(Option::as_ref)
    }

    /// Takes a vehicle in. It is catching up until [`caught_up`](Self::caught_up): from where its carry ends if
    /// that is of use here ([`is_carried`](Self::is_carried)), from the binding's start otherwise. One that is bound
    /// already is dropped first, with its rows.
    pub fn bind(&mut self, binding: &Binding) -> Slot {
        if let Some(old) = self.find(&binding.vehicle) {
            self.unbind(old, Rows::Drop);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = Slot::at(self.vehicles.len());
            extend(&mut self.vehicles, slot.index() + 1, || None);
            self.dues.extend(slot);
            extend(&mut self.dirty, slot.index() + 1, || false);
            extend(&mut self.fresh, slot.index() + 1, || false);
            slot
        });
        let carried = binding.carry.as_ref().and_then(|carry| self.aligner.resume(&carry.track));
        let track = carried.unwrap_or_else(|| self.aligner.track(binding.floor, &binding.horizon));
        self.bindings = self.bindings.wrapping_add(1);
        self.vehicles[slot.index()] = Some(Vehicle::new(binding, self.bindings, track));
        self.output.latest.reset(slot);
        self.names.insert(&self.vehicles, slot);
        slot
    }

    /// Whether a vehicle that is not caught up yet goes on where its last holder stopped.
    pub fn is_carried(&self, slot: Slot) -> bool {
        self.vehicle(slot).is_some_and(|vehicle| vehicle.track.carried)
    }

    /// How many samples of a vehicle are held.
    pub fn samples_held(&self, slot: Slot) -> usize {
        self.vehicle(slot).map_or(0, |vehicle| vehicle.track.samples())
    }

    /// Lets a vehicle go. Its slot may be given to the next one at once.
    pub fn unbind(&mut self, slot: Slot, rows: Rows) {
        let Some(vehicle) = self.vehicles.get_mut(slot.index()).and_then(Option::take) else { return };
        self.names.remove(&vehicle.id, slot);
        self.free.push(slot);
        self.dues.set(slot, NEVER_DUE);
        self.dirty[slot.index()] = false;
        self.fresh[slot.index()] = false;
        self.refused.remove(&slot);
        let (generation, key) = vehicle.key;
        if generation == self.output.builder.generation() {
            self.output.builder.remember(&vehicle.id, key);
        }
        if rows == Rows::Drop {
            self.output.builder.forget(&vehicle.id);
        }
    }

    /// Takes a message of a bound vehicle. What can't be used becomes a dead letter; the rest of the
    /// message is used. Its times are judged by its arrival, so that it does not matter when it is taken.
    pub fn message(&mut self, message: &Message) {
        let Topic::Signal(signal) = message.topic else { return };
        let Some(vehicle) = self.vehicles.get_mut(message.slot.index()).and_then(Option::as_mut) else {
            return;
        };
        let spec = self.schema.signal(signal);
        self.output.counters.messages += 1;
        if (message.live || vehicle.track.carried)
            && let Some(counter) = self.decoder.sequence(&message.payload)
            && let Some(from) = vehicle.track.follow(signal, counter, message.arrival)
        {
            self.output.counters.sequence_gaps += 1;
            self.gaps.push((message.slot, vehicle.number, from));
        }
        self.samples.reset(spec.columns.len());
        if let Err(error) = self.decoder.decode(spec, &message.payload, &mut self.samples) {
            return self.refuse(message, signal, error);
        }
        self.output.counters.samples += self.samples.len() as u64;
        let refused = check(&self.schema, signal, &mut self.samples, message.arrival);
        let (samples, arrival, due) = (&self.samples, message.arrival, vehicle.track.due());
        let inserted = self.output.rows_of(message.slot, vehicle, |track, mut out| {
            self.aligner.insert(track, signal, samples, arrival, &mut out)
        });
        // The list is far away, and this changes rarely.
        if due != vehicle.track.due() {
            self.dues.set(message.slot, vehicle.track.due());
        }
        self.dirty[message.slot.index()] = true;
        self.fresh[message.slot.index()] |= inserted.taken > 0 || inserted.conflicts > 0;
        let shortage = inserted.short_of_room.then(|| self.aligner.shortage(&vehicle.track, signal));
        // What comes live is not read again: nobody has used it.
        let (live, again) = if message.live { (inserted.replayed, 0) } else { (0, inserted.replayed) };
        let late = inserted.late.len() + live;
        self.output.counters.late += late as u64;
        self.output.counters.duplicates += inserted.duplicates as u64;
        self.output.counters.replayed += again as u64;
        self.output.counters.overflowed += inserted.overflowed as u64;
        if let Some(problem) = refused.first {
            self.refuse(message, signal, problem);
        } else if late > 0 {
            let detail = format!("{late} of its samples came later than the window");
            self.refuse(message, signal, DecodeError { refusal: Refusal::Late, detail });
        }
        if let Some(detail) = shortage {
            self.refuse(message, signal, DecodeError { refusal: Refusal::Capacity, detail });
        }
    }

    fn refuse(&mut self, message: &Message, signal: SignalIndex, error: DecodeError) {
        self.output.counters.refused.add(error.refusal);
        let Some(vehicle) = self.vehicles.get(message.slot.index()).and_then(Option::as_ref) else { return };
        if vehicle.track.newest().is_none() {
            let arrival = self.refused.entry(message.slot).or_insert(message.arrival);
            *arrival = message.arrival.max(*arrival);
            self.dirty[message.slot.index()] = true;
        }
        self.letters.push(DeadLetter {
            vehicle: vehicle.id.clone(),
            signal: self.schema.signal(signal).name.clone(),
            refusal: error.refusal,
            detail: error.detail,
            payload: message.payload.clone(),
        });
    }

    /// The vehicle's catch-up is complete: patience begins now. Of one that is carried nothing was missed: its
    /// patience and its frames' counters go on.
    pub fn caught_up(&mut self, slot: Slot, now: Micros) {
        if let Some(vehicle) = self.vehicles.get_mut(slot.index()).and_then(Option::as_mut) {
            vehicle.track.catching_up = false;
            self.dues.set(slot, Micros::MIN);
            if !std::mem::take(&mut vehicle.track.carried) {
                vehicle.track.forget_counters();
                self.aligner.touch(&mut vehicle.track, now);
            }
        }
    }

    /// The vehicle is being caught up: patience does not run.
    pub fn catching_up(&mut self, slot: Slot) {
        if let Some(vehicle) = self.vehicles.get_mut(slot.index()).and_then(Option::as_mut) {
            vehicle.track.catching_up = true;
            vehicle.track.carried = false;
            vehicle.track.wait_for_all();
        }
    }

    /// Lets time pass: rows whose missing signals have been waited for long enough are emitted.
    pub fn tick(&mut self, now: Micros) {
        let mut ticking = std::mem::take(&mut self.ticking);
        self.dues.collect(now, &mut ticking);
        self.tick_all(&ticking, now);
        ticking.clear();
        self.ticking = ticking;
    }

    fn tick_one(&mut self, slot: Slot, now: Micros) {
        let vehicle = self.vehicles.get_mut(slot.index()).and_then(Option::as_mut);
        let Some(vehicle) = vehicle.filter(|v| !v.track.catching_up) else {
            // Until its catch-up is complete.
            return self.dues.set(slot, NEVER_DUE);
        };
        self.output.rows_of(slot, vehicle, |track, mut out| self.aligner.tick(track, now, &mut out));
        self.dues.set(slot, vehicle.track.due());
    }

    /// Emits everything that a vehicle's samples give.
    pub fn finish(&mut self, slot: Slot) {
        if let Some(vehicle) = self.vehicles.get_mut(slot.index()).and_then(Option::as_mut) {
            self.output.rows_of(slot, vehicle, |track, mut out| self.aligner.finish(track, &mut out));
            self.dirty[slot.index()] = true;
        }
    }

    /// How many rows wait for the next batch.
    pub fn rows(&self) -> usize {
        self.output.builder.len()
    }

    /// The rows so far as a batch; it may be empty.
    ///
    /// # Errors
    /// As [`BatchBuilder::seal`](crate::batch::BatchBuilder::seal).
    pub fn seal(&mut self) -> Result<Batch> {
        self.output.counters.batches += 1;
        self.output.builder.seal()
    }

    /// Drops the rows that wait.
    pub fn drop_rows(&mut self) {
        self.output.builder.drop_rows();
    }

    /// The state of one vehicle, true once the rows emitted so far are durable. `margin` is taken off
    /// the arrival times, whose live ones are estimates.
    pub fn snapshot(&mut self, slot: Slot, margin: Micros) -> Option<VehicleState> {
        let vehicle = self.vehicles.get_mut(slot.index()).and_then(Option::as_mut)?;
        self.dirty[slot.index()] = false;
        let snapshot = self.aligner.snapshot(&mut vehicle.track);
        // Of what was refused nothing is wanted again, or one vehicle's garbage would make all catch-ups long.
        let done = snapshot.resume_at.or_else(|| self.refused.get(&slot).copied());
        let resume_at = done.map_or(vehicle.start, |at| (at - margin).max(vehicle.start));
        Some(VehicleState {
            vehicle: vehicle.id.clone(),
            epoch: vehicle.epoch,
            resume_at,
            floor: snapshot.floor,
            horizon: snapshot.horizon,
            newest: snapshot.newest,
            released_at: None,
            latest: self.output.latest.get(slot),
            samples: vehicle.track.newest_samples(),
            carry: None,
        })
    }

    /// The state with which a vehicle is handed over, with all that the next holder needs to go on from here, unless
    /// that is too long. Everything that was stored before `until` (server time) must have come, and the rows emitted
    /// so far must be durable before it is saved. `None` while the vehicle is caught up.
    pub fn hand_over(&mut self, slot: Slot, margin: Micros, until: Micros) -> Option<VehicleState> {
        if self.vehicle(slot)?.track.catching_up {
            return None;
        }
        let mut state = self.snapshot(slot, margin)?;
        let carry = self.aligner.carry(&self.vehicle(slot)?.track);
        state.carry = carry.map(|track| Carry { until, track });
        Some(state)
    }

    /// The states of all vehicles of which something came since their last snapshot.
    pub fn snapshots(&mut self, margin: Micros) -> Vec<VehicleState> {
        let dirty = self.dirty.iter().enumerate().filter(|(_, dirty)| **dirty);
        let mut slots: Vec<_> = dirty.map(|(index, _)| Slot::at(index)).collect();
        slots.retain(|slot| self.vehicle(*slot).is_some_and(|v| !v.track.catching_up));
        slots.into_iter().filter_map(|slot| self.snapshot(slot, margin)).collect()
    }

    /// How many slots there are, of vehicles and free ones.
    pub(crate) fn places(&self) -> usize {
        self.fresh.len()
    }

    /// The newest samples of the vehicles in these slots of which one came since they were last taken. Those that
    /// are being caught up keep theirs: they are not the newest yet.
    pub(crate) fn take_newest(&mut self, places: Range<usize>) -> Vec<Newest> {
        let (vehicles, fresh) = (self.vehicles.get(places.clone()), self.fresh.get_mut(places));
        let mut taken = Vec::new();
        for (fresh, vehicle) in
            fresh.into_iter().flatten().zip(vehicles.into_iter().flatten()).filter(|(fresh, _)| **fresh)
        {
            let Some(vehicle) = vehicle.as_ref().filter(|vehicle| !vehicle.track.catching_up) else {
                continue;
            };
            *fresh = false;
            let (id, samples) = (vehicle.id.clone(), vehicle.track.newest_samples());
            taken.push(Newest { vehicle: id, epoch: vehicle.epoch, samples });
        }
        taken
    }

    /// Has the vehicle's newest samples taken once more.
    pub(crate) fn renew(&mut self, vehicle: &VehicleId) {
        if let Some(slot) = self.find(vehicle) {
            self.fresh[slot.index()] = true;
        }
    }

    /// Takes the dead letters since the last call.
    pub fn take_letters(&mut self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.letters)
    }

    /// Takes the vehicles whose frames' counters have jumped, with the server time from which
    /// something may be missing.
    pub fn take_gaps(&mut self) -> Vec<(Slot, Micros)> {
        let gaps = std::mem::take(&mut self.gaps);
        let held = |slot, number| self.vehicle(slot).is_some_and(|vehicle| vehicle.number == number);
        gaps.into_iter()
            .filter(|&(slot, number, _)| held(slot, number))
            .map(|(slot, _, from)| (slot, from))
            .collect()
    }
}

/// Makes a list as long as that, if it is shorter. Growing by an eighth at a time, for a list of all
/// vehicles that has doubled may be half empty.
pub(crate) fn extend<T>(list: &mut Vec<T>, len: usize, with: impl FnMut() -> T) {
    if list.capacity() < len {
        list.reserve_exact(len + len / 8 - list.len());
    }
    if list.len() < len {
        list.resize_with(len, with);
    }
}

/// What becomes of a vehicle's rows that wait for the next batch when it is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// They are stored.
    Keep,
    /// They are dropped: somebody else computes them.
    Drop,
}
