//! Reading the `on` signals: whatever their bytes, they end no connection.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, sleep_until};

use super::signal::Ack;
use super::{Discovery, DiscoveryCounters};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::CellId;
use crate::nats::Names;
use crate::nats::inbox::{inboxes, number_in};
use crate::nats::reader::{Delivered, Event, Headers, Message, Read, Reader, ReaderOptions, Sid};

/// `on` signals that are dealt with at once.
const AT_ONCE: usize = 256;

/// How long a group of them is waited for at the server.
const EXPIRES: Duration = Duration::from_secs(2);

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
    ticker: Interval,
    asked: u64,
    intake: Intake<'a>,
    outage: Outage,
}

/// Whether it was said that nothing is read.
#[derive(Debug, Default)]
struct Outage {
    told: bool,
}

impl Outage {
    /// Says once what keeps us from reading.
    fn goes_on(&mut self, cell: &CellId, error: &Error) {
        if std::mem::replace(&mut self.told, true) {
            tracing::debug!(%cell, %error, "the `on` signals can't be read yet");
        } else {
            tracing::warn!(%cell, %error, "the `on` signals can't be read, trying again and again");
        }
    }

    fn is_over(&mut self, cell: &CellId) {
        if std::mem::take(&mut self.told) {
            tracing::info!(%cell, "the `on` signals are read again");
        }
    }
}

/// What has come, and what is to be done about it.
struct Intake<'a> {
    discovery: &'a Discovery,
    inboxes: String,
    inbox: Sid,
    group: Option<Group>,
    /// What is being dealt with, each with where its answer goes.
    handled: FuturesUnordered<BoxFuture<'a, (String, Ack)>>,
    /// Where the answers to what can't be used go.
    useless: Vec<String>,
    /// Why the reading can't go on.
    broken: Option<Error>,
    /// The login may not ask, or not hear the answers; until something comes.
    refused: bool,
    /// The server is about to end.
    leave: bool,
}

/// A pull that is under way.
#[derive(Debug)]
struct Group {
    number: u64,
    left: usize,
}

impl<'a, B: Fn() + Send + Sync> Reading<'a, B> {
    /// Reads until `stop` is ready, and deals with what has come by then.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration): only a person can help.
    pub(super) async fn run(
        discovery: &'a Discovery,
        beat: &'a B,
        mut stop: Pin<&mut (impl Future<Output = ()> + Send)>,
    ) -> Result<()> {
        discovery.checkpoint.clear();
        let mut reading = tokio::select! {
            () = &mut stop => return Ok(()),
            reading = Self::begin(discovery, beat) => reading?,
        };
        tokio::select! {
            () = &mut stop => {}
            error = reading.read_on() => return Err(error),
        }
        reading.leave().await;
        Ok(())
    }

    /// Connects, however long that takes.
    async fn begin(discovery: &'a Discovery, beat: &'a B) -> Result<Self> {
        let mut outage = Outage::default();
        loop {
            match Self::connect(discovery, beat).await {
                Ok(reading) => return Ok(Self { outage, ..reading }),
                Err(error) if error.kind() == ErrorKind::Configuration => return Err(error),
                Err(error) => {
                    outage.goes_on(discovery.names.cell(), &error);
                    beat();
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Reads for ever; ready with an error that only a person can help with.
    async fn read_on(&mut self) -> Error {
        loop {
            let error = self.read().await;
            self.discovery.reading.store(false, Ordering::Relaxed);
            if error.kind() == ErrorKind::Configuration {
                return error;
            }
            self.outage.goes_on(self.discovery.names.cell(), &error);
            self.intake.group = None;
            self.serve(sleep(PAUSE)).await;
        }
    }

    /// Asks for no more, and deals with what still comes: without an answer it would come again only after
    /// `ack_wait`.
    async fn leave(&mut self) {
        let over = Instant::now() + EXPIRES + GRACE;
        let is_busy = |reading: &Self| reading.intake.group.is_some() || !reading.intake.handled.is_empty();
        self.serve_while(over, is_busy).await;
        let answered = self.reader.barrier();
        self.serve_while(over, |reading| !reading.reader.has_passed(answered)).await;
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
        let intake = Intake {
            discovery,
            inboxes,
            inbox,
            group: None,
            handled: FuturesUnordered::new(),
            useless: Vec::new(),
            broken: None,
            refused: false,
            leave: false,
        };
        Ok(Self { discovery, beat, reader, ticker, asked: 0, intake, outage: Outage::default() })
    }

    /// Reads for as long as the server gives messages. Pulled a group at a time, and never more than are dealt
    /// with: what is slow or refused for one vehicle neither ends the reading nor stops it.
    async fn read(&mut self) -> Error {
        let discovery = self.discovery;
        self.intake.broken = None;
        let begun = async {
            discovery.require_own_consumer().await?;
            discovery.look().await?;
            discovery.stored().await
        };
        match self.serve(begun).await {
            Ok(stored) if self.reader.is_connected() => discovery.checkpoint.begin(stored),
            Ok(_) => return Error::unavailable("there is no connection to NATS at the moment"),
            Err(error) => return error,
        }
        discovery.reading_since.store(discovery.clock.now(), Ordering::Relaxed);
        discovery.reading.store(!self.intake.refused, Ordering::Relaxed);
        if !self.intake.refused {
            self.outage.is_over(discovery.names.cell());
        }
        loop {
            if let Err(error) = self.pull() {
                return error;
            }
            let expired = Instant::now() + EXPIRES + GRACE;
            self.serve_while(expired, |reading| reading.intake.group.is_some()).await;
            // Many at a time, or each would be asked for by itself.
            while self.intake.handled.len() > AT_ONCE / 2 && self.intake.broken.is_none() {
                let soon = Instant::now() + PAUSE;
                self.serve_while(soon, |reading| reading.intake.handled.len() > AT_ONCE / 2).await;
            }
            if let Some(error) = self.intake.broken.take() {
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
        let (number, left) = (self.asked, AT_ONCE.saturating_sub(self.intake.handled.len()).max(1));
        let to = pulls_of(&self.discovery.names);
        let request = format!(r#"{{"batch":{left},"expires":{}}}"#, EXPIRES.as_nanos());
        self.reader.publish(&to, Some(&format!("{}{number}", self.intake.inboxes)), request.as_bytes())?;
        self.intake.group = Some(Group { number, left });
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
        while holds(self) && self.intake.broken.is_none() {
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
            Some((reply, ack)) = self.intake.handled.next() => self.answer(&reply, ack),
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
        for read in self.reader.read() {
            match read {
                Read::Message(message) if message.sid == self.intake.inbox => {
                    self.intake.on_message(&message)
                }
                Read::Message(_) => {}
                Read::Event(event) => self.intake.on_event(event),
            }
        }
        for reply in std::mem::take(&mut self.intake.useless) {
            self.answer(&reply, Ack::Never);
        }
        if std::mem::take(&mut self.intake.leave) {
            self.reader.reconnect();
        }
    }
}

impl<'a> Intake<'a> {
    fn on_message(&mut self, message: &Message<'_>) {
        if std::mem::take(&mut self.refused) {
            self.discovery.reading.store(true, Ordering::Relaxed);
        }
        if let Some((reply, delivered)) = delivered(self.discovery, message) {
            if let Some(group) = &mut self.group {
                group.left -= 1;
            }
            // What comes after a group was given up comes once more.
            if self.handled.len() < 2 * AT_ONCE {
                self.take(message, &delivered, reply);
            }
            self.group.take_if(|group| group.left == 0);
        } else if self.group.as_ref().map(|group| group.number) == number_in(message.subject, &self.inboxes)
            && self.group.take().is_some()
            && let Some(error) = ended(message)
        {
            self.broken = Some(error);
        }
    }

    /// Begins to deal with an `on`, unless it can't be used.
    fn take(&mut self, message: &Message<'_>, delivered: &Delivered<'_>, reply: &str) {
        let discovery = self.discovery;
        DiscoveryCounters::add(&discovery.counters.on);
        let subject = String::from_utf8_lossy(message.subject);
        let Some(request) = discovery.request(&subject, message.payload, delivered) else {
            DiscoveryCounters::add(&discovery.counters.refused);
            return self.useless.push(reply.to_owned());
        };
        let Delivered { sequence, time: stored, deliveries, .. } = *delivered;
        discovery.checkpoint.came(sequence, stored);
        let reply = reply.to_owned();
        self.handled.push(Box::pin(async move {
            let ack = discovery.deal(&request, stored, deliveries).await;
            match ack {
                Ack::Again(_) => discovery.checkpoint.failed(sequence, discovery.clock.now()),
                Ack::Done | Ack::Never => discovery.checkpoint.done(sequence),
            }
            (reply, ack)
        }));
    }

    fn on_event(&mut self, event: Event) {
        let cell = self.discovery.names.cell();
        match event {
            Event::Disconnected { reason, .. } => {
                self.discovery.reading.store(false, Ordering::Relaxed);
                self.broken = Some(reason);
            }
            Event::Reconnected { .. } => self.refused = false,
            Event::LameDuck { .. } => self.leave = true,
            Event::SubscriptionRefused { subject } => {
                tracing::warn!(%cell, subject, "the NATS server refuses a subscription");
                self.refused = true;
                self.broken = Some(Error::unavailable("the login may not subscribe to its inbox"));
            }
            Event::PublishRefused { subject } => {
                tracing::warn!(%cell, subject, "the NATS server refuses a request");
                if subject == pulls_of(&self.discovery.names) {
                    self.refused = true;
                    self.broken = Some(Error::unavailable("the login may not ask for `on` signals"));
                }
            }
            _ => {}
        }
    }
}

/// Where groups are asked for.
fn pulls_of(names: &Names) -> String {
    format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", names.lifecycle_stream(), Names::DISCOVERY)
}

/// Where the answer to a message of our consumer goes, and what the server says of it; `None` for what ends a group.
fn delivered<'a>(discovery: &Discovery, message: &Message<'a>) -> Option<(&'a str, Delivered<'a>)> {
    let reply = message.reply?;
    let delivered = Delivered::parse(reply)?;
    let ours = delivered.stream == discovery.names.lifecycle_stream().as_bytes();
    Some((std::str::from_utf8(reply).ok()?, delivered)).filter(|_| ours)
}

/// Why no group can be had, if it has not just come to its end.
fn ended(message: &Message<'_>) -> Option<Error> {
    let status = message.headers.and_then(Headers::status);
    let (code, description) = status.map_or((0, &b""[..]), |status| (status.code, status.description));
    let description = String::from_utf8_lossy(description);
    // No more messages, or none in time.
    (!matches!(code, 404 | 408)).then(|| Error::unavailable(format!("no `on` signals: {code} {description}")))
}
