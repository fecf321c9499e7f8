//! Publishes what vehicles send, with a window of awaited acks.

use std::future::Future;
use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_core::decode::frame::quantise;
use fleet_core::error::{Error, Result};
use fleet_core::ids::SignalIndex;
use fleet_core::nats::{Names, NatsOptions};
use fleet_core::time::{MINUTE, micros};
use fleet_core::{Micros, VehicleId};
use futures_util::FutureExt;
use tokio::time::sleep;

use super::agenda::{Agenda, Due};
use super::ledger::{Ledger, Sampled};
use super::links::Links;
use super::outbox::{Kind, Message, Messages, Outbox};
use super::recording::Recording;
use super::sensor::Sensor;
use super::vehicle::{Dice, Vehicle};
use super::{Progress, SimulationOptions, Summary};
use crate::clock::now;

/// What is due in that time goes out together.
const TICK: Duration = Duration::from_millis(5);

/// The same when nothing but acks is waited for.
const SHORT_TICK: Duration = Duration::from_millis(1);

/// How long vehicles may take to be switched off when acks were waited for in vain.
const LAST: Duration = Duration::from_secs(5);

/// A fleet that is ready to start.
#[derive(Debug)]
pub struct Simulation {
    outbox: Outbox,
    /// Of each cell; vehicles are dealt out to them in turns.
    names: Vec<Names>,
    options: SimulationOptions,
    recording: Option<Recording>,
    vehicles: Vec<VehicleId>,
    /// Which vehicles' `off` is acknowledged.
    off: Vec<bool>,
    models: Vec<Vehicle>,
    starts: Vec<Micros>,
    sensors: Vec<Sensor>,
    agenda: Agenda,
    /// Messages that are late on purpose.
    held: Vec<Option<Box<Message>>>,
    free: Vec<u32>,
    /// Messages that are acknowledged, to be used again.
    spare: Messages,
    acknowledged: Messages,
    ledger: Ledger,
    progress: Arc<Progress>,
}

impl Simulation {
    /// Connects and prepares; nothing is published yet.
    ///
    /// # Errors
    /// As [`connect`](fleet_core::nats::connect);
    /// [`Configuration`](fleet_core::ErrorKind::Configuration) for a recording that can't be used.
    pub async fn new(nats: &NatsOptions, options: SimulationOptions) -> Result<Self> {
        let configuration = |e: &dyn std::fmt::Display| Error::configuration(e.to_string());
        let recording = options.recording.as_deref().map(|path| Recording::read(path, &options.schema));
        let recording = recording.transpose().map_err(|e| configuration(&e))?;
        if !(options.speed >= 1.0 && options.speed.is_finite()) {
            return Err(Error::configuration(format!("speed: {} must be 1 or more", options.speed)));
        }
        let vehicles: Vec<VehicleId> = match &recording {
            Some(recording) => recording.vehicles.iter().map(|(id, _)| id.clone()).collect(),
            None => (0..options.vehicles)
                .map(|n| VehicleId::new(&format!("{}{n:05}", options.prefix)))
                .collect::<Result<_, _>>()
                .map_err(|e| configuration(&e))?,
        };
        let names: Vec<Names> = options.cells.iter().map(Names::new).collect();
        let Some(first) = names.first() else { return Err(Error::configuration("cells: there is none")) };
        let links = Links::connect(nats, first, options.connections.min(vehicles.len())).await?;
        let progress = Arc::<Progress>::default();
        Ok(Self {
            outbox: Outbox::new(links, options.window, Arc::clone(&progress)),
            names,
            recording,
            ledger: Ledger::new(vehicles.clone()),
            off: vec![false; vehicles.len()],
            vehicles,
            options,
            models: Vec::new(),
            starts: Vec::new(),
            sensors: Vec::new(),
            agenda: Agenda::new(now()),
            held: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            acknowledged: Vec::new(),
            progress,
        })
    }

    /// How far it is, readable while it runs.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Publishes until the duration is over, the recording has ended or `stop` is ready; then awaits
    /// every ack and switches the vehicles off. Once that is to be done it ends, whatever it waits for, when
    /// no ack has come for [`SimulationOptions::grace`]; after `stop` within that time in all.
    ///
    /// A message without an ack is sent again with the same bytes until it has one; stored after all, it is a
    /// duplicate and changes nothing. Its sensor waits for that and reads later what was due, as one with a
    /// memory does: however long the server is away, no sample falls behind the window. No more than
    /// [`SimulationOptions::window`] messages are unacknowledged.
    ///
    /// # Errors
    /// [`Internal`](fleet_core::ErrorKind::Internal) if a sample does not fit its frame.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) -> Result<Summary> {
        let (stop, progress, grace) = (stop.shared(), Arc::clone(&self.progress), self.options.grace);
        let lasts = self.lasts();
        let given_up = async {
            tokio::select! {
                () = stop.clone() => sleep(grace).await,
                () = async {
                    match lasts {
                        Some(lasts) => sleep(lasts).await,
                        None => std::future::pending().await,
                    }
                    stalled(&progress, grace).await;
                } => {}
            }
        };
        let ended = tokio::select! {
            biased;
            published = self.publish(stop.clone()) => published.map(|()| true),
            () = given_up => Ok(false),
        };
        if !ended? {
            // What a stream does not take holds nobody on.
            self.outbox.forget();
            let _ = tokio::time::timeout(grace.min(LAST), self.switch_off()).await;
        }
        self.ledger.sort();
        Ok(Summary {
            vehicles: self.vehicles.len(),
            acknowledged: progress.acknowledged(),
            unacknowledged: progress.unacknowledged(),
            switched_off: progress.switched_off(),
            retried: progress.retried(),
            ledger: self.ledger,
        })
    }

    /// How long it is to take at least, if there is an end.
    fn lasts(&self) -> Option<Duration> {
        let recorded = self.recording.as_ref().map(|recording| {
            Duration::from_micros(scale(recording.length(), 1.0 / self.options.speed).unsigned_abs())
        });
        [self.options.duration, recorded].into_iter().flatten().min()
    }

    async fn publish(&mut self, stop: impl Future<Output = ()> + Send) -> Result<()> {
        let mut stop = std::pin::pin!(stop);
        let begin = now();
        self.prepare(begin);
        let recorded =
            self.recording.as_ref().map(|r| r.vehicles.iter().map(|(_, s)| s.len() as u64).sum::<u64>());
        let end = self.options.duration.map_or(Micros::MAX, |d| begin.saturating_add(micros(d)));
        while now() < end && recorded.is_none_or(|all| self.progress.acknowledged() < all) {
            self.send_due(now())?;
            self.turn();
            if stops_within(&mut stop, TICK).await {
                break;
            }
        }
        self.drain().await?;
        self.switch_off().await;
        Ok(())
    }

    /// Sends what is due, as much as there is room for.
    fn send_due(&mut self, now: Micros) -> Result<()> {
        while self.outbox.room() > 0
            && let Some((at, due)) = self.agenda.pop(now)
        {
            self.on_due(at, due)?;
        }
        Ok(())
    }

    /// Lets the connections send and receive.
    fn turn(&mut self) {
        let mut acknowledged = std::mem::take(&mut self.acknowledged);
        self.outbox.turn(&mut acknowledged);
        for message in acknowledged.drain(..) {
            self.on_acknowledged(&message);
            self.spare.push(message);
        }
        self.acknowledged = acknowledged;
    }

    /// Says of every vehicle that it is off, until all of it is acknowledged.
    async fn switch_off(&mut self) {
        for vehicle in 0..self.vehicles.len() {
            // At the second try, some are off already.
            if self.off[vehicle] {
                continue;
            }
            self.await_room().await;
            self.lifecycle(vehicle, Kind::Off);
        }
        self.await_all().await;
    }

    /// Puts every vehicle's first events into the agenda.
    fn prepare(&mut self, begin: Micros) {
        let mut dice = Dice::new(self.options.seed);
        for vehicle in 0..self.vehicles.len() {
            let ramp = micros(self.options.ramp).max(1);
            let spread =
                if self.recording.is_some() { 0 } else { dice.roll().cast_signed().rem_euclid(ramp) };
            let start = begin + spread;
            self.starts.push(start);
            self.agenda.push(start, Due::On(short(vehicle)));
            let seed = dice.roll();
            self.models.push(Vehicle::new(seed));
            for (index, signal) in self.options.schema.clone().indexed() {
                let mut sensor = Sensor::new(vehicle, index, seed ^ u64::from(index.0) << 56 ^ 0x5eed);
                let first = start + sensor.first(signal);
                self.sensors.push(sensor);
                if self.recording.is_none() {
                    self.agenda.push(first, Due::Read(short(self.sensors.len() - 1)));
                }
            }
            if self.recording.is_some() {
                self.agenda.push(start, Due::Play(short(vehicle), 0));
            }
        }
        if let Some(recording) = &self.recording {
            // Played back faster, events would run ahead of the clock: all begin in the past, so far
            // that the longest recording ends now. Whole milliseconds, as on the wire.
            let ahead = scale(recording.length(), 1.0 - 1.0 / self.options.speed);
            let event_start = begin - ahead;
            let event_start = event_start - event_start.rem_euclid(1_000);
            self.starts.iter_mut().for_each(|start| *start = event_start);
        }
    }

    fn on_due(&mut self, at: Micros, due: Due) -> Result<()> {
        match due {
            Due::On(vehicle) => {
                self.lifecycle(vehicle as usize, Kind::On);
                self.agenda.push(now() + MINUTE, due);
            }
            Due::Read(number) => {
                let index = number as usize;
                let sensor = &mut self.sensors[index];
                if sensor.waits() {
                    sensor.waiting = Some((at, due));
                    return Ok(());
                }
                let (vehicle, signal) = (sensor.vehicle, sensor.signal);
                let mut message = spare(&mut self.spare, vehicle, Kind::Samples { sensor: index, signal });
                // A sensor reads when it is due, however busy the publisher is: otherwise a message
                // that is held back could fall behind the window.
                let (model, start) = (&self.models[vehicle], self.starts[vehicle]);
                let signal = self.options.schema.signal(signal);
                let reading = sensor.read(model, signal, start, at, &mut message.samples);
                self.agenda.push(reading.next, due);
                if reading.delay > 0 {
                    let slot = self.hold(message);
                    self.agenda.push(at + reading.delay, Due::Send(slot));
                } else {
                    self.send(message)?;
                }
            }
            Due::Play(vehicle, number) => self.play(at, vehicle as usize, number)?,
            Due::Send(slot) => self.send_held(slot as usize)?,
        }
        Ok(())
    }

    fn play(&mut self, at: Micros, vehicle: usize, number: u32) -> Result<()> {
        let Some((_, recorded)) = self.recording.as_ref().and_then(|r| r.vehicles.get(vehicle)) else {
            return Ok(());
        };
        let Some(sample) = recorded.get(number as usize) else { return Ok(()) };
        let signal = sample.signal;
        let sensor = vehicle * self.options.schema.signals().len() + signal.index();
        let place = short(vehicle);
        if self.sensors[sensor].waits() {
            self.sensors[sensor].waiting = Some((at, Due::Play(place, number)));
            return Ok(());
        }
        let mut message = spare(&mut self.spare, vehicle, Kind::Samples { sensor, signal });
        message.samples.reset(sample.values.len());
        message.samples.push(self.starts[vehicle] + sample.after, &sample.values);
        if let Some(next) = recorded.get(number as usize + 1) {
            let wait = scale(next.after - sample.after, 1.0 / self.options.speed);
            self.agenda.push(at + wait, Due::Play(place, number + 1));
        }
        self.send(message)
    }

    fn hold(&mut self, message: Box<Message>) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.held.push(None);
            short(self.held.len() - 1)
        });
        self.held[slot as usize] = Some(message);
        slot
    }

    fn send_held(&mut self, slot: usize) -> Result<()> {
        let Some(message) = self.held[slot].take() else { return Ok(()) };
        self.free.push(short(slot));
        self.send(message)
    }

    /// Sends a message with samples.
    fn send(&mut self, mut message: Box<Message>) -> Result<()> {
        let Kind::Samples { sensor, signal } = message.kind else { return Ok(()) };
        let (signal, sensor) = (self.options.schema.signal(signal), &mut self.sensors[sensor]);
        sensor.frame(signal, &message.samples, &mut message.payload).map_err(Error::internal)?;
        message.published = now();
        sensor.sent();
        self.progress.published.fetch_add(1, Ordering::Relaxed);
        let (vehicle, names) = (message.vehicle, &self.names);
        names[vehicle % names.len()].write_subject(
            &self.vehicles[vehicle],
            &signal.name,
            &mut message.subject,
        );
        self.outbox.send(message);
        Ok(())
    }

    fn lifecycle(&mut self, vehicle: usize, kind: Kind) {
        let mut message = spare(&mut self.spare, vehicle, kind);
        let (word, names) = (if kind == Kind::Off { "off" } else { "on" }, &self.names);
        names[vehicle % names.len()].write_subject(&self.vehicles[vehicle], word, &mut message.subject);
        message.payload.clear();
        // Writing to a Vec does not fail.
        let _ = write!(message.payload, "{{\"since\":{}}}", self.starts[vehicle] / 1_000);
        self.outbox.send(message);
    }

    fn on_acknowledged(&mut self, message: &Message) {
        match message.kind {
            Kind::Samples { sensor, signal } => {
                if let Some((at, due)) = self.sensors[sensor].acknowledged() {
                    self.agenda.push(at, due);
                }
                self.enter(message, signal);
            }
            Kind::On => {}
            Kind::Off => {
                self.off[message.vehicle] = true;
                self.progress.switched_off.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Takes note of an acknowledged message.
    fn enter(&mut self, message: &Message, index: SignalIndex) {
        self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        if !self.options.ledger {
            return;
        }
        let signal = self.options.schema.signal(index);
        let mut on_the_wire = Vec::with_capacity(signal.columns.len());
        for (time, values) in message.samples.iter() {
            on_the_wire.clear();
            on_the_wire.extend(signal.columns.iter().zip(values).filter_map(|(c, v)| quantise(c, *v)));
            let (signal, published) = (index.index(), message.published);
            // The frame's clock counts milliseconds.
            let time = time - time.rem_euclid(1_000);
            self.ledger.add(message.vehicle, Sampled { signal, time, published, values: &on_the_wire });
        }
    }

    /// Sends what is held back, and awaits every ack.
    async fn drain(&mut self) -> Result<()> {
        for slot in 0..self.held.len() {
            self.await_room().await;
            self.send_held(slot)?;
        }
        self.await_all().await;
        Ok(())
    }

    async fn await_room(&mut self) {
        while self.outbox.room() == 0 {
            self.turn();
            sleep(SHORT_TICK).await;
        }
    }

    async fn await_all(&mut self) {
        while !self.outbox.is_empty() {
            self.turn();
            sleep(SHORT_TICK).await;
        }
    }
}

/// A message to be filled in.
fn spare(spare: &mut Messages, vehicle: usize, kind: Kind) -> Box<Message> {
    let mut message = spare.pop().unwrap_or_default();
    (message.vehicle, message.kind) = (vehicle, kind);
    message
}

/// Of vehicles, sensors and messages that are held back there are fewer than 2^32.
#[allow(clippy::cast_possible_truncation, reason = "a million vehicles with 31 signals at most")]
fn short(number: usize) -> u32 {
    number as u32
}

/// Waits; says whether it is to stop.
async fn stops_within(stop: &mut Pin<&mut impl Future<Output = ()>>, pause: Duration) -> bool {
    tokio::select! {
        biased;
        () = stop => true,
        () = sleep(pause) => false,
    }
}

/// Ready when no ack has come for that long.
async fn stalled(progress: &Progress, grace: Duration) {
    let mut seen = progress.acks();
    loop {
        sleep(grace).await;
        if std::mem::replace(&mut seen, progress.acks()) == seen {
            return;
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "lengths of recordings")]
fn scale(length: Micros, by: f64) -> Micros {
    (length as f64 * by) as Micros
}
