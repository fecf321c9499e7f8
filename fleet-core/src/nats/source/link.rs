//! What befalls the live connection, and what follows for the vehicles.

use std::time::Duration;

use bytes::Bytes;

use super::super::reader::Event;
use super::live::Word;
use super::looks::Expected;
use super::{NatsSource, SourceCounters};
use crate::error::{Error, Result};
use crate::ids::Slot;
use crate::message::{DeadLetter, Message, Refusal, Topic};
use crate::nats::payloads::OnPayload;
use crate::source::{Source, SourceEvent};
use crate::time::{Micros, micros};

/// What is known of the live connection, to tell since when messages may be missing.
#[derive(Debug)]
pub(super) struct Link {
    /// Since when there is none, server time.
    down_since: Option<Micros>,
    /// Up to when everything was caught up in an audit, server time.
    audited: Micros,
}

impl Link {
    /// There is one, and nothing was missed.
    pub(super) fn new(now: Micros) -> Self {
        Self { down_since: None, audited: now }
    }

    /// What was stored since then is in no audit yet.
    pub(super) fn owe(&mut self, from: Micros) {
        self.audited = self.audited.min(from);
    }

    /// Whether there is no connection.
    pub(super) fn is_down(&self) -> bool {
        self.down_since.is_some()
    }
}

/// Events that are dealt with in one go; the next ones have to wait for their turn.
const EVENTS: usize = 16;

/// How often everything is caught up on a cluster.
const AUDIT: Duration = Duration::from_secs(600);

impl NatsSource {
    /// Takes what has come live, and what befell the connection, in order.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration) where the login may not subscribe.
    pub(super) fn on_readable(&mut self) -> Result<()> {
        for _ in 0..EVENTS {
            let event = self.live.stage(&self.schema, &self.vehicles);
            self.take_staged();
            match event {
                Some(event) => self.on_event(event)?,
                None => break,
            }
        }
        self.set_fences();
        Ok(())
    }

    /// Live messages: to the lane, to their vehicles' buffers, or to a look at what is stored.
    fn take_staged(&mut self) {
        let (arrival, capacity) = (self.clock.now(), self.options.buffer);
        let mut others = Vec::new();
        let Self { live, vehicles, ready, counters, .. } = self;
        let taken = live.take(vehicles, |vehicles, ticket, word, payload| {
            let Word::Signal(signal) = word else { return others.push((ticket.slot, word, payload)) };
            let Some(vehicle) = vehicles.get_mut(ticket) else { return };
            let topic = Topic::Signal(signal);
            let message = Message { slot: ticket.slot, topic, payload, arrival, live: true };
            if let Some(message) = vehicle.feed.live(message, capacity) {
                vehicle.saw(&message);
                ready.push(ticket, SourceEvent::Message(message));
            } else if vehicle.feed.is_broken() {
                SourceCounters::add(&counters.overflowed, 1);
            }
        });
        SourceCounters::add(&self.counters.live, taken as u64);
        self.options.ticks.took(taken);
        for (slot, word, payload) in others {
            match word {
                Word::On => self.on_lifecycle(slot, true, payload, arrival),
                Word::Off => self.on_lifecycle(slot, false, payload, arrival),
                Word::Unknown(signal) => {
                    let detail = format!("{signal:?} is no signal of the schema");
                    self.refuse_live(slot, &signal, Refusal::UnknownSignal, detail, payload);
                }
                Word::Signal(_) => {}
            }
        }
    }

    /// An `on` or `off` came live. What is stored decides; but an `on` while we know of no `off` is
    /// only a sign of life.
    fn on_lifecycle(&mut self, slot: Slot, on: bool, payload: Bytes, arrival: Micros) {
        let Some((ticket, vehicle)) = self.vehicles.at(slot) else { return };
        if let Err(error) = OnPayload::parse(&payload) {
            let word = if on { "on" } else { "off" };
            return self.refuse_live(slot, word, Refusal::Malformed, error.to_string(), payload);
        }
        if on && vehicle.off.is_none() {
            let message = Message { slot, topic: Topic::On, payload, arrival, live: true };
            return self.ready.push(ticket, SourceEvent::Message(message));
        }
        let expected = if on { Expected::On } else { Expected::Off };
        self.check_lifecycle([slot], expected);
    }

    fn refuse_live(&mut self, slot: Slot, signal: &str, refusal: Refusal, detail: String, payload: Bytes) {
        if let Some((_, vehicle)) = self.vehicles.at(slot) {
            let vehicle = vehicle.id.clone();
            self.counters.refused.add(refusal);
            self.refuse(DeadLetter { vehicle, signal: signal.to_owned(), refusal, detail, payload });
        }
    }

    fn on_event(&mut self, event: Event) -> Result<()> {
        let cell = self.names.cell();
        match event {
            Event::Disconnected { heard, .. } => {
                let heard = self.clock.at(heard.into_std());
                self.link.down_since.get_or_insert(heard);
            }
            Event::ConnectFailed { reason } => {
                tracing::debug!(%cell, %reason, "not connected to NATS again yet")
            }
            Event::Reconnected { .. } => {
                let since = self.link.down_since.take().unwrap_or_else(|| self.clock.now());
                SourceCounters::add(&self.counters.reconnects, 1);
                // This machine may have slept.
                self.watch.soon.notify_one();
                self.disturb_all(since - self.margin());
            }
            Event::LameDuck { server } => {
                tracing::info!(%cell, server, "the NATS server is about to end, connecting to another one");
                self.live.reconnect();
            }
            Event::SubscriptionRefused { subject } => {
                return Err(Error::configuration(format!(
                    "the NATS server does not let this login subscribe to {subject}: give workers the rights of \
                     `Access::worker`, see docs/operations.md"
                )));
            }
            Event::Oversized { sid, subject, length } => {
                if let Some(ticket) = self.live.ticket(sid) {
                    let signal = subject.rsplit('.').next().unwrap_or_default();
                    let detail =
                        format!("a message of {length} bytes, which is longer than any that is taken");
                    self.refuse_live(ticket.slot, signal, Refusal::Malformed, detail, Bytes::new());
                }
            }
            Event::ServerError(error) => tracing::warn!(%cell, error, "the NATS server complains"),
            // Nothing is published here.
            Event::PublishRefused { .. } => {}
        }
        Ok(())
    }

    /// How often everything is caught up, if it is.
    pub(super) fn audit_interval(&self) -> Option<Duration> {
        let cluster = self.side.client().server_info().cluster.is_some();
        self.options.audit_interval.or(cluster.then_some(AUDIT))
    }

    /// Catches everything up every now and then where nobody may notice a loss.
    pub(super) fn audit(&mut self) {
        let Some(every) = self.audit_interval() else { return };
        let now = self.clock.now();
        if now - self.link.audited >= micros(every) {
            let since = self.link.audited - self.margin();
            self.link.audited = now;
            self.disturb_all(since);
        }
    }
}
