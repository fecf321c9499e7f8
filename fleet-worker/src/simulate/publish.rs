//! Publishes what vehicles send, with a window of awaited acks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use fleet_core::decode::frame::quantise;
use fleet_core::error::{Error, Result};
use fleet_core::ids::SignalIndex;
use fleet_core::nats::{Names, NatsOptions};
use fleet_core::sample::Samples;
use fleet_core::time::{MINUTE, micros};
use fleet_core::{Micros, VehicleId};
use futures_util::FutureExt;

use super::ledger::{Ledger, Sampled};
use super::links::Links;
use super::outbox::{Awaited, Message, Outbox, Outcome};
use super::recording::Recording;
use super::sensor::Sensor;
use super::vehicle::{Dice, Vehicle};
use super::{Progress, SimulationOptions};
use crate::clock::now;

/// Events that are handled before acks are looked at again.
const AT_ONCE: usize = 64;

/// How long vehicles may take to be switched off when acks were waited for in vain.
const LAST: Duration = Duration::from_secs(5);

/// What a simulation came to.
#[derive(Debug)]
pub struct Summary {
    /// How many vehicles there were.
    pub vehicles: usize,
    /// Messages with samples that were acknowledged.
    pub acknowledged: u64,
    /// Messages with samples that were sent and not acknowledged; they may be stored all the same.
    pub unacknowledged: u64,
    /// Vehicles whose `off` was acknowledged.
    pub switched_off: u64,
    /// Messages that had to be sent again.
    pub retried: u64,
    /// The samples, if they were to be kept; sorted.
    pub ledger: Ledger,
}

/// Something that is due.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A vehicle says that it is on.
    On(usize),
    /// A sensor reads.
    Read(usize),
    /// A recorded sample: the vehicle's number and the sample's.
    Play(usize, usize),
    /// A message that was held back goes out.
    Send(usize),
}

/// A fleet that is ready to start.
#[derive(Debug)]
pub struct Simulation {
    outbox: Outbox,
    names: Names,
    options: SimulationOptions,
    recording: Option<Recording>,
    vehicles: Vec<VehicleId>,
    /// Which vehicles' `off` is acknowledged.
    off: Vec<bool>,
    models: Vec<Vehicle>,
    starts: Vec<Micros>,
    sensors: Vec<Sensor>,
    due: BinaryHeap<Reverse<(Micros, Due)>>,
    /// Messages that are late on purpose.
    held: Vec<Option<Message>>,
    free: Vec<usize>,
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
        let names = Names::new(&options.cell);
        let count = options.connections.min(vehicles.len());
        let links = Links::connect(nats, &names, count, 2 * options.window).await?;
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
            due: BinaryHeap::new(),
            held: Vec::new(),
            free: Vec::new(),
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
                () = stop.clone() => tokio::time::sleep(grace).await,
                () = async {
                    match lasts {
                        Some(lasts) => tokio::time::sleep(lasts).await,
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
            let next = self.due.peek().map(|Reverse((at, _))| *at);
            // A sensor that waits for an ack has nothing that is due.
            if next.is_some_and(|at| at >= end) || (next.is_none() && self.outbox.is_empty()) {
                break;
            }
            let room = if next.is_some() { self.outbox.room().min(AT_ONCE) } else { 0 };
            let early = next.map_or(0, |at| at - now());
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(outcome) = self.outbox.next(), if !self.outbox.is_empty() => self.on_outcome(outcome),
                // A timer's grain is a millisecond: what is due goes out without one.
                () = std::future::ready(()), if room > 0 && early <= 0 => self.send_due(room)?,
                () = tokio::time::sleep(Duration::from_micros(early.max(0).unsigned_abs())), if room > 0 && early > 0 => {}
            }
        }
        self.drain().await?;
        self.switch_off().await;
        Ok(())
    }

    /// Handles so many events that are due.
    fn send_due(&mut self, room: usize) -> Result<()> {
        for _ in 0..room {
            match self.due.pop() {
                Some(Reverse((at, due))) if at <= now() => self.on_due(at, due)?,
                Some(later) => {
                    self.due.push(later);
                    break;
                }
                None => break,
            }
        }
        Ok(())
    }

    /// Says of every vehicle that it is off, until all of it is acknowledged.
    async fn switch_off(&mut self) {
        for vehicle in 0..self.vehicles.len() {
            // At the second try, some are off already.
            if self.off[vehicle] {
                continue;
            }
            self.await_room().await;
            self.lifecycle(vehicle, "off");
        }
        self.await_all().await;
    }

    /// Puts every vehicle's first events into the heap.
    fn prepare(&mut self, begin: Micros) {
        let mut dice = Dice::new(self.options.seed);
        for vehicle in 0..self.vehicles.len() {
            let ramp = micros(self.options.ramp).max(1);
            let spread =
                if self.recording.is_some() { 0 } else { dice.roll().cast_signed().rem_euclid(ramp) };
            let start = begin + spread;
            self.starts.push(start);
            self.due.push(Reverse((start, Due::On(vehicle))));
            let seed = dice.roll();
            self.models.push(Vehicle::new(seed));
            for (index, signal) in self.options.schema.clone().indexed() {
                let mut sensor = Sensor::new(vehicle, index, seed ^ u64::from(index.0) << 56 ^ 0x5eed);
                let first = start + sensor.first(signal);
                self.sensors.push(sensor);
                if self.recording.is_none() {
                    self.due.push(Reverse((first, Due::Read(self.sensors.len() - 1))));
                }
            }
            if self.recording.is_some() {
                self.due.push(Reverse((start, Due::Play(vehicle, 0))));
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
                self.lifecycle(vehicle, "on");
                self.due.push(Reverse((now() + MINUTE, Due::On(vehicle))));
            }
            Due::Read(number) => {
                let sensor = &mut self.sensors[number];
                if sensor.waits() {
                    sensor.waiting = Some((at, due));
                    return Ok(());
                }
                let vehicle = sensor.vehicle;
                let signal = sensor.signal;
                // A sensor reads when it is due, however busy the publisher is: otherwise a message
                // that is held back could fall behind the window.
                let reading =
                    sensor.read(&self.models[vehicle], &self.options.schema, self.starts[vehicle], at);
                self.due.push(Reverse((reading.next, Due::Read(number))));
                let message = message(vehicle, signal, number, reading.samples);
                if reading.delay > 0 {
                    let slot = self.hold(message);
                    self.due.push(Reverse((at + reading.delay, Due::Send(slot))));
                } else {
                    self.send(message)?;
                }
            }
            Due::Play(vehicle, number) => self.play(at, vehicle, number)?,
            Due::Send(slot) => self.send_held(slot)?,
        }
        Ok(())
    }

    fn play(&mut self, at: Micros, vehicle: usize, number: usize) -> Result<()> {
        let Some((_, recorded)) = self.recording.as_ref().and_then(|r| r.vehicles.get(vehicle)) else {
            return Ok(());
        };
        let Some(sample) = recorded.get(number) else { return Ok(()) };
        let signal = sample.signal;
        let sensor = vehicle * self.options.schema.signals().len() + signal.index();
        if self.sensors[sensor].waits() {
            self.sensors[sensor].waiting = Some((at, Due::Play(vehicle, number)));
            return Ok(());
        }
        let mut samples = Samples::new(sample.values.len());
        samples.push(self.starts[vehicle] + sample.after, &sample.values);
        if let Some(next) = recorded.get(number + 1) {
            let wait = scale(next.after - sample.after, 1.0 / self.options.speed);
            self.due.push(Reverse((at + wait, Due::Play(vehicle, number + 1))));
        }
        self.send(message(vehicle, signal, sensor, samples))
    }

    fn hold(&mut self, message: Message) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.held.push(None);
            self.held.len() - 1
        });
        self.held[slot] = Some(message);
        slot
    }

    fn send_held(&mut self, slot: usize) -> Result<()> {
        let Some(message) = self.held[slot].take() else { return Ok(()) };
        self.free.push(slot);
        self.send(message)
    }

    /// Sends a message for the first time.
    fn send(&mut self, mut message: Message) -> Result<()> {
        let (signal, sensor) =
            (self.options.schema.signal(message.signal), &mut self.sensors[message.sensor]);
        let frame = sensor.frame(signal, &message.samples);
        message.payload = frame.map_err(Error::internal)?.into();
        message.published = now();
        sensor.sent();
        self.progress.published.fetch_add(1, Ordering::Relaxed);
        self.put(Awaited::Samples(message));
        Ok(())
    }

    fn lifecycle(&mut self, vehicle: usize, word: &'static str) {
        self.put(Awaited::Lifecycle { vehicle, word });
    }

    fn put(&mut self, awaited: Awaited) {
        let (word, payload) = match &awaited {
            Awaited::Samples(message) => {
                (self.options.schema.signal(message.signal).name.as_str(), message.payload.clone())
            }
            Awaited::Lifecycle { vehicle, word } => {
                (*word, format!("{{\"since\":{}}}", self.starts[*vehicle] / 1_000).into())
            }
        };
        let subject = self.names.subject(&self.vehicles[awaited.vehicle()], word);
        self.outbox.send(awaited, subject, payload);
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Acknowledged(Awaited::Samples(message)) => {
                if let Some((at, due)) = self.sensors[message.sensor].acknowledged() {
                    self.due.push(Reverse((at, due)));
                }
                self.enter(&message);
            }
            Outcome::Acknowledged(Awaited::Lifecycle { vehicle, word }) => {
                if word == "off" {
                    self.off[vehicle] = true;
                    self.progress.switched_off.fetch_add(1, Ordering::Relaxed);
                }
            }
            Outcome::Due(awaited) => {
                if matches!(awaited, Awaited::Samples(_)) {
                    self.progress.retried.fetch_add(1, Ordering::Relaxed);
                }
                self.put(awaited);
            }
        }
    }

    /// Takes note of an acknowledged message.
    fn enter(&mut self, message: &Message) {
        self.progress.acknowledged.fetch_add(1, Ordering::Relaxed);
        if !self.options.ledger {
            return;
        }
        let signal = self.options.schema.signal(message.signal);
        let mut on_the_wire = Vec::with_capacity(signal.columns.len());
        for (time, values) in message.samples.iter() {
            on_the_wire.clear();
            on_the_wire.extend(signal.columns.iter().zip(values).filter_map(|(c, v)| quantise(c, *v)));
            let (signal, published) = (message.signal.index(), message.published);
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
            let Some(outcome) = self.outbox.next().await else { return };
            self.on_outcome(outcome);
        }
    }

    async fn await_all(&mut self) {
        while let Some(outcome) = self.outbox.next().await {
            self.on_outcome(outcome);
        }
    }
}

fn message(vehicle: usize, signal: SignalIndex, sensor: usize, samples: Samples) -> Message {
    Message { vehicle, signal, sensor, samples, payload: Bytes::new(), published: 0 }
}

/// Ready when no ack has come for that long.
async fn stalled(progress: &Progress, grace: Duration) {
    let mut seen = progress.acks();
    loop {
        tokio::time::sleep(grace).await;
        if std::mem::replace(&mut seen, progress.acks()) == seen {
            return;
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "lengths of recordings")]
fn scale(length: Micros, by: f64) -> Micros {
    (length as f64 * by) as Micros
}
