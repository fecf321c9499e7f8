//! Publishes what vehicles send, with a window of awaited acks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use bytes::Bytes;
use fleet_core::decode::frame::quantise;
use fleet_core::error::{Error, Result};
use fleet_core::ids::SignalIndex;
use fleet_core::nats::{Names, NatsOptions};
use fleet_core::sample::Samples;
use fleet_core::time::{MINUTE, SECOND, micros};
use fleet_core::{Micros, VehicleId};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::ledger::{Ledger, Sampled};
use super::links::Links;
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
enum Due {
    /// A vehicle says that it is on.
    On(usize),
    /// A sensor reads.
    Read(usize),
    /// A recorded sample: the vehicle's number and the sample's.
    Play(usize, usize),
    /// A message goes out.
    Send(usize),
}

/// A message with samples.
#[derive(Debug)]
struct Message {
    vehicle: usize,
    signal: SignalIndex,
    sensor: usize,
    samples: Samples,
    payload: Bytes,
    published: Micros,
}

/// What an ack is awaited for.
enum Awaited {
    Samples(Message),
    Lifecycle { vehicle: usize, word: &'static str },
}

/// A fleet that is ready to start.
#[derive(Debug)]
pub struct Simulation {
    links: Links,
    names: Names,
    options: SimulationOptions,
    recording: Option<Recording>,
    vehicles: Vec<VehicleId>,
    models: Vec<Vehicle>,
    starts: Vec<Micros>,
    sensors: Vec<Sensor>,
    due: BinaryHeap<Reverse<(Micros, Due)>>,
    outgoing: Vec<Option<Message>>,
    free: Vec<usize>,
    ledger: Ledger,
    progress: Arc<Progress>,
}

type Acks = FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = (Awaited, Acked)> + Send>>>;

/// What came of a message, or why it must be sent again.
type Acked = std::result::Result<(), String>;

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
        Ok(Self {
            links,
            names,
            recording,
            ledger: Ledger::new(vehicles.clone()),
            vehicles,
            options,
            models: Vec::new(),
            starts: Vec::new(),
            sensors: Vec::new(),
            due: BinaryHeap::new(),
            outgoing: Vec::new(),
            free: Vec::new(),
            progress: Arc::default(),
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
    /// A message without an ack is sent again with the same bytes until it has one. That may put it
    /// behind a younger one of its signal by the time that an ack takes to be missed (5 s); it is
    /// within the window then, and a message that was stored after all is a duplicate: neither
    /// changes the table.
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
        let mut acks: Acks = FuturesUnordered::new();
        let begin = now();
        self.prepare(begin);
        let recorded =
            self.recording.as_ref().map(|r| r.vehicles.iter().map(|(_, s)| s.len() as u64).sum::<u64>());
        let end = self.options.duration.map_or(Micros::MAX, |d| begin.saturating_add(micros(d)));
        loop {
            if recorded.is_some_and(|all| self.progress.acknowledged() >= all) {
                break;
            }
            let Some(Reverse((at, _))) = self.due.peek() else { break };
            let at = *at;
            // What is due for long may be held back by acks that don't come.
            if at >= end || now() >= end {
                break;
            }
            let room = self.options.window.saturating_sub(acks.len()).min(AT_ONCE);
            let early = at - now();
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some((awaited, acked)) = acks.next(), if !acks.is_empty() => self.on_ack(awaited, acked),
                // A timer's grain is a millisecond: what is due goes out without one.
                () = std::future::ready(()), if room > 0 && early <= 0 => {
                    for _ in 0..room {
                        match self.due.pop() {
                            Some(Reverse((at, due))) if at <= now() => self.on_due(at, due, &mut acks).await?,
                            Some(later) => {
                                self.due.push(later);
                                break;
                            }
                            None => break,
                        }
                    }
                }
                () = tokio::time::sleep(Duration::from_micros(early.max(0).unsigned_abs())), if room > 0 && early > 0 => {}
            }
        }
        self.drain(&mut acks).await?;
        self.switch_off().await;
        Ok(())
    }

    /// Says of every vehicle that it is off, until all of it is acknowledged.
    async fn switch_off(&mut self) {
        let mut acks: Acks = FuturesUnordered::new();
        for vehicle in 0..self.vehicles.len() {
            self.lifecycle(vehicle, "off", &mut acks).await;
            if acks.len() >= self.options.window {
                self.await_all(&mut acks).await;
            }
        }
        self.await_all(&mut acks).await;
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

    async fn on_due(&mut self, at: Micros, due: Due, acks: &mut Acks) -> Result<()> {
        match due {
            Due::On(vehicle) => {
                self.lifecycle(vehicle, "on", acks).await;
                self.due.push(Reverse((now() + MINUTE, Due::On(vehicle))));
            }
            Due::Read(number) => {
                let sensor = &mut self.sensors[number];
                let vehicle = sensor.vehicle;
                let signal = sensor.signal;
                // A sensor reads when it is due, however busy the publisher is: otherwise a message
                // that is held back could fall behind the window.
                let reading =
                    sensor.read(&self.models[vehicle], &self.options.schema, self.starts[vehicle], at);
                self.due.push(Reverse((reading.next, Due::Read(number))));
                let slot = self.keep(vehicle, signal, number, reading.samples);
                if reading.delay > 0 {
                    self.due.push(Reverse((at + reading.delay, Due::Send(slot))));
                } else {
                    self.send(slot, acks).await?;
                }
            }
            Due::Play(vehicle, number) => self.play(at, vehicle, number, acks).await?,
            Due::Send(slot) => self.send(slot, acks).await?,
        }
        Ok(())
    }

    async fn play(&mut self, at: Micros, vehicle: usize, number: usize, acks: &mut Acks) -> Result<()> {
        let Some((_, recorded)) = self.recording.as_ref().and_then(|r| r.vehicles.get(vehicle)) else {
            return Ok(());
        };
        let Some(sample) = recorded.get(number) else { return Ok(()) };
        let mut samples = Samples::new(sample.values.len());
        samples.push(self.starts[vehicle] + sample.after, &sample.values);
        let signal = sample.signal;
        if let Some(next) = recorded.get(number + 1) {
            let wait = scale(next.after - sample.after, 1.0 / self.options.speed);
            self.due.push(Reverse((at + wait, Due::Play(vehicle, number + 1))));
        }
        let sensor = vehicle * self.options.schema.signals().len() + signal.index();
        let slot = self.keep(vehicle, signal, sensor, samples);
        self.send(slot, acks).await
    }

    fn keep(&mut self, vehicle: usize, signal: SignalIndex, sensor: usize, samples: Samples) -> usize {
        let message = Message { vehicle, signal, sensor, samples, payload: Bytes::new(), published: 0 };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.outgoing.push(None);
            self.outgoing.len() - 1
        });
        self.outgoing[slot] = Some(message);
        slot
    }

    /// Sends a message, for the first time or again.
    async fn send(&mut self, slot: usize, acks: &mut Acks) -> Result<()> {
        let Some(mut message) = self.outgoing[slot].take() else { return Ok(()) };
        self.free.push(slot);
        let signal = self.options.schema.signal(message.signal);
        if message.payload.is_empty() {
            let frame = self.sensors[message.sensor].frame(signal, &message.samples);
            message.payload = frame.map_err(Error::internal)?.into();
            message.published = now();
            self.progress.published.fetch_add(1, Ordering::Relaxed);
        }
        let subject = self.names.subject(&self.vehicles[message.vehicle], &signal.name);
        let sent = self.links.of(message.vehicle).publish(subject, message.payload.clone()).await;
        acks.push(Box::pin(acked(Awaited::Samples(message), sent)));
        Ok(())
    }

    async fn lifecycle(&self, vehicle: usize, word: &'static str, acks: &mut Acks) {
        let since = format!("{{\"since\":{}}}", self.starts[vehicle] / 1_000);
        let subject = self.names.subject(&self.vehicles[vehicle], word);
        let sent = self.links.of(vehicle).publish(subject, since.into()).await;
        acks.push(Box::pin(acked(Awaited::Lifecycle { vehicle, word }, sent)));
    }

    fn on_ack(&mut self, awaited: Awaited, acked: Acked) {
        let acked = acked.map_err(|error| self.progress.failed(error)).is_ok();
        match awaited {
            Awaited::Samples(message) if acked => self.enter(&message),
            Awaited::Samples(message) => {
                self.progress.retried.fetch_add(1, Ordering::Relaxed);
                let slot = self.free.pop().unwrap_or_else(|| {
                    self.outgoing.push(None);
                    self.outgoing.len() - 1
                });
                self.outgoing[slot] = Some(message);
                self.due.push(Reverse((now() + SECOND / 5, Due::Send(slot))));
            }
            Awaited::Lifecycle { vehicle, word: "on" } if !acked => {
                self.due.push(Reverse((now() + SECOND / 5, Due::On(vehicle))));
            }
            Awaited::Lifecycle { word: "off", .. } if acked => {
                self.progress.switched_off.fetch_add(1, Ordering::Relaxed);
            }
            Awaited::Lifecycle { .. } => {}
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

    /// Awaits every ack; what has none is sent again.
    async fn drain(&mut self, acks: &mut Acks) -> Result<()> {
        loop {
            self.await_all(acks).await;
            let unsent: Vec<usize> =
                (0..self.outgoing.len()).filter(|s| self.outgoing[*s].is_some()).collect();
            if unsent.is_empty() {
                return Ok(());
            }
            for slot in unsent {
                // The client sends no more than so many before their acks are taken.
                if acks.len() >= self.options.window {
                    self.await_all(acks).await;
                }
                self.send(slot, acks).await?;
            }
        }
    }

    async fn await_all(&mut self, acks: &mut Acks) {
        while let Some((awaited, acked)) = acks.next().await {
            match (awaited, acked) {
                (Awaited::Lifecycle { vehicle, word }, Err(error)) => {
                    self.progress.failed(error);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    self.lifecycle(vehicle, word, acks).await;
                }
                (awaited, acked) => self.on_ack(awaited, acked),
            }
        }
    }
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

async fn acked(
    awaited: Awaited,
    sent: std::result::Result<PublishAckFuture, PublishError>,
) -> (Awaited, Acked) {
    let acked = match sent {
        Ok(ack) => ack.await.map(drop).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    (awaited, acked)
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "lengths of recordings")]
fn scale(length: Micros, by: f64) -> Micros {
    (length as f64 * by) as Micros
}
