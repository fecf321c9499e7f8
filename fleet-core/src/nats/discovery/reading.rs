//! Reading the `on` signals: whatever their bytes, they end no connection.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};

use super::signal::Ack;
use super::{Discovery, DiscoveryCounters};
use crate::error::{Error, ErrorKind, Result};
use crate::nats::Names;
use crate::nats::inbox::{inboxes, number_in};
use crate::nats::reader::{Delivered, Event, Headers, Message, Read, Reader, ReaderOptions, Sid};

/// `on` signals that are dealt with at once.
const AT_ONCE: usize = 256;

/// How long a group of them is waited for at the server.
const EXPIRES: Duration = Duration::from_secs(5);

/// How long after that the server says that there are no more.
const GRACE: Duration = Duration::from_secs(2);

/// How long after a break the reading begins again.
const PAUSE: Duration = Duration::from_secs(1);

/// The one owner of the connection on which `on` signals come and answers to them go.
pub(super) struct Reading<'a, B> {
    discovery: &'a Discovery,
    /// Called whenever the loop turns.
    beat: &'a B,
    reader: Reader,
    inboxes: String,
    inbox: Sid,
    ticker: Interval,
    /// What is being dealt with, each with where its answer goes.
    handled: FuturesUnordered<BoxFuture<'a, (String, Ack)>>,
    group: Option<Group>,
    asked: u64,
    /// Why the reading can't go on.
    broken: Option<Error>,
}

/// A pull that is under way.
#[derive(Debug)]
struct Group {
    number: u64,
    left: usize,
}

impl<'a, B: Fn() + Send + Sync> Reading<'a, B> {
    /// Reads for ever; ready with an error that only a person can help with.
    pub(super) async fn run(discovery: &'a Discovery, beat: &'a B) -> Error {
        let mut reading = loop {
            match Self::connect(discovery, beat).await {
                Ok(reading) => break reading,
                Err(error) if error.kind() == ErrorKind::Configuration => return error,
                Err(error) => {
                    broke_off(discovery, &error);
                    beat();
                    sleep(PAUSE).await;
                }
            }
        };
        loop {
            let error = reading.read().await;
            discovery.reading.store(false, Ordering::Relaxed);
            if error.kind() == ErrorKind::Configuration {
                return error;
            }
            broke_off(discovery, &error);
            reading.group = None;
            reading.serve(sleep(PAUSE)).await;
        }
    }

    async fn connect(discovery: &'a Discovery, beat: &'a B) -> Result<Self> {
        let name = discovery.names.connection("discovery");
        let inboxes = inboxes(&name);
        let mut ticker = interval(Duration::from_secs(1));
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut connecting = pin!(Reader::connect(ReaderOptions::new(discovery.nats.clone(), name)));
        let mut reader = loop {
            tokio::select! {
                reader = &mut connecting => break reader?,
                _ = ticker.tick() => beat(),
            }
        };
        let inbox = reader.subscribe(&format!("{inboxes}*"))?;
        let handled = FuturesUnordered::new();
        Ok(Self {
            discovery,
            beat,
            reader,
            inboxes,
            inbox,
            ticker,
            handled,
            group: None,
            asked: 0,
            broken: None,
        })
    }

    /// Reads for as long as the server gives messages. Pulled a group at a time, and never more than are dealt
    /// with: what is slow or refused for one vehicle neither ends the reading nor stops it.
    async fn read(&mut self) -> Error {
        let discovery = self.discovery;
        self.broken = None;
        let begun = async {
            discovery.require_own_consumer().await?;
            discovery.observe_clock().await
        };
        match self.serve(begun).await {
            Ok(()) if self.reader.is_connected() => {}
            Ok(()) => return lost(),
            Err(error) => return error,
        }
        discovery.reading_since.store(discovery.clock.now(), Ordering::Relaxed);
        discovery.reading.store(true, Ordering::Relaxed);
        loop {
            if let Err(error) = self.pull() {
                return error;
            }
            let expired = Instant::now() + EXPIRES + GRACE;
            self.serve_while(expired, |reading| reading.group.is_some()).await;
            // Many at a time, or each would be asked for by itself.
            while self.handled.len() > AT_ONCE / 2 && self.broken.is_none() {
                let soon = Instant::now() + PAUSE;
                self.serve_while(soon, |reading| reading.handled.len() > AT_ONCE / 2).await;
            }
            if let Some(error) = self.broken.take() {
                return error;
            }
            // A group without an end may be one that nobody gives.
            if let Err(error) = self.serve(discovery.require_own_consumer()).await {
                return error;
            }
        }
    }

    fn pull(&mut self) -> Result<()> {
        self.asked += 1;
        let (number, left) = (self.asked, AT_ONCE.saturating_sub(self.handled.len()).max(1));
        let to = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.discovery.names.lifecycle_stream(),
            Names::DISCOVERY
        );
        let request = format!(r#"{{"batch":{left},"expires":{}}}"#, EXPIRES.as_nanos());
        self.reader.publish(&to, Some(&format!("{}{number}", self.inboxes)), request.as_bytes())?;
        self.group = Some(Group { number, left });
        Ok(())
    }

    /// Waits for something else, and meanwhile does what is to be done.
    async fn serve<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        loop {
            tokio::select! {
                done = &mut other => return done,
                () = self.turn() => {}
            }
        }
    }

    /// Does what is to be done for as long as that holds, unless the reading can't go on.
    async fn serve_while(&mut self, until: Instant, holds: impl Fn(&Self) -> bool) {
        let mut over = pin!(sleep_until(until));
        while holds(self) && self.broken.is_none() {
            tokio::select! {
                () = &mut over => return,
                () = self.turn() => {}
            }
        }
    }

    /// One turn of the loop. May be cancelled.
    async fn turn(&mut self) {
        tokio::select! {
            () = self.reader.readable() => self.on_readable(),
            Some((reply, ack)) = self.handled.next() => self.answer(&reply, ack),
            _ = self.ticker.tick() => {}
        }
        (self.beat)();
    }

    fn answer(&mut self, reply: &str, ack: Ack) {
        if let Err(error) = self.reader.publish(reply, None, ack.payload().as_bytes()) {
            // It is delivered again, and changes nothing then.
            tracing::debug!(%error, reply, "no ack");
        }
    }

    fn on_readable(&mut self) {
        let Self { discovery, reader, inboxes, inbox, handled, group, broken, .. } = self;
        let (mut refused, mut leave) = (Vec::new(), false);
        for read in reader.read() {
            match read {
                Read::Message(message) if message.sid == *inbox => match delivered(discovery, &message) {
                    Some((reply, delivered)) => {
                        if let Some(under_way) = group {
                            under_way.left -= 1;
                            if under_way.left == 0 {
                                *group = None;
                            }
                        }
                        // What comes after a group was given up comes once more.
                        if handled.len() < 2 * AT_ONCE
                            && let Some(on) = taken(discovery, &message, &delivered, reply, &mut refused)
                        {
                            handled.push(on);
                        }
                    }
                    None => {
                        let of_group = number_in(message.subject, inboxes);
                        if group.as_ref().is_some_and(|group| Some(group.number) == of_group) {
                            *broken = ended(&message).map_or_else(|| broken.take(), Some);
                            *group = None;
                        }
                    }
                },
                Read::Message(_) => {}
                Read::Event(Event::Disconnected { reason, .. }) => {
                    discovery.reading.store(false, Ordering::Relaxed);
                    *broken = Some(reason);
                }
                Read::Event(Event::LameDuck { .. }) => leave = true,
                Read::Event(Event::PublishRefused { subject } | Event::SubscriptionRefused { subject }) => {
                    let cell = discovery.names.cell();
                    tracing::warn!(%cell, subject, "the NATS server refuses a subject");
                }
                Read::Event(_) => {}
            }
        }
        for reply in refused {
            self.answer(&reply, Ack::Never);
        }
        if leave {
            self.reader.reconnect();
        }
    }
}

/// Where the answer to a message of our consumer goes, and what the server says of it; `None` for what ends a group.
fn delivered<'a>(discovery: &Discovery, message: &Message<'a>) -> Option<(&'a str, Delivered<'a>)> {
    let reply = message.reply?;
    let delivered = Delivered::parse(reply)?;
    let ours = delivered.stream == discovery.names.lifecycle_stream().as_bytes();
    Some((std::str::from_utf8(reply).ok()?, delivered)).filter(|_| ours)
}

/// Begins to deal with an `on`, unless it can't be used.
fn taken<'a>(
    discovery: &'a Discovery,
    message: &Message<'_>,
    delivered: &Delivered<'_>,
    reply: &str,
    refused: &mut Vec<String>,
) -> Option<BoxFuture<'a, (String, Ack)>> {
    DiscoveryCounters::add(&discovery.counters.on);
    let subject = String::from_utf8_lossy(message.subject);
    let Some(request) = discovery.request(&subject, message.payload, delivered) else {
        DiscoveryCounters::add(&discovery.counters.refused);
        refused.push(reply.to_owned());
        return None;
    };
    let (reply, deliveries) = (reply.to_owned(), delivered.deliveries);
    Some(Box::pin(async move {
        let ack = discovery.deal(&request, deliveries).await;
        (reply, ack)
    }))
}

/// Why no group can be had, if it has not just come to its end.
fn ended(message: &Message<'_>) -> Option<Error> {
    let status = message.headers.and_then(Headers::status);
    let (code, description) = status.map_or((0, &b""[..]), |status| (status.code, status.description));
    let description = String::from_utf8_lossy(description);
    // No more messages, or none in time.
    (!matches!(code, 404 | 408)).then(|| Error::unavailable(format!("no `on` signals: {code} {description}")))
}

fn lost() -> Error {
    Error::unavailable("there is no connection to NATS at the moment")
}

fn broke_off(discovery: &Discovery, error: &Error) {
    let cell = discovery.names.cell();
    tracing::warn!(%cell, %error, "reading the `on` signals broke off, trying again");
}
