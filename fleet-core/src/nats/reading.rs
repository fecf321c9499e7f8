//! A stream read in order, from some place up to another, on a connection that nothing stored in it can end.
//!
//! The messages come by pulls from a consumer without acks. What breaks that off, a lost connection, a consumer that
//! is gone, a gap or silence, costs a new consumer behind the last message that came, so that what was read need not
//! be read again. Where the server's words are not understood twice in the same place, the message that stands there
//! is passed over, once the server has told by another way which it is.

mod api;
mod place;

pub(super) use place::{Entry, StoredMessage, Unreadable};

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::api::{Answer, Create, Pull};
use self::place::Place;
use super::inbox::inboxes;
use super::random::random;
use super::reader::{Event, Headers, ProtocolError, Read, Reader, ReaderOptions, Sid};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Micros;

/// How long the next message may take that must be there.
const SILENCE: Duration = Duration::from_secs(15);

/// How long a reading waits, at the end of what the server has, for what must be there.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// How often a consumer is made without getting a message further.
const TRIES: u32 = 5;

/// The pause before the second of them, which doubles.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a connection may take.
const CONNECTING: Duration = Duration::from_secs(30);

/// How long JetStream's API may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// How long the removal of the consumer is waited for; the server removes it by itself a while later.
const LEAVING: Duration = Duration::from_secs(1);

/// Removes a consumer.
const DELETE: &str = "$JS.API.CONSUMER.DELETE.";

/// Where a stream is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// What was stored at this server time, and later.
    At(Micros),
    /// What is behind this sequence.
    After(u64),
}

/// What is to be read.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub stream: String,
    pub begin: Begin,
    /// The messages of these subjects only; of all, if there is none.
    pub filter: Vec<String>,
    /// Up to and with this sequence.
    pub to: u64,
    /// How long to wait for it at the end of what the server has, which is no end where a replica is behind.
    pub linger: Duration,
}

/// A stream being read. It has a connection of its own, and holds no more than what one tick brings.
pub(super) struct Reading {
    reader: Reader,
    order: Order,
    /// What all of ours begin with.
    inboxes: String,
    inboxes_used: u64,
    consumer: Option<Consumer>,
    place: Place,
    /// Consumers that were made since the last message.
    tries: u32,
    /// Why the last one was of no use.
    why: Option<Error>,
    /// The server's words were not understood behind the last message …
    misunderstood: bool,
    /// … and this is the sequence that stood there the time before.
    suspect: Option<u64>,
    ended: bool,
}

struct Consumer {
    name: String,
    inbox: String,
    sid: Sid,
}

impl Reading {
    /// Connects and begins. `options.headers` must be set.
    ///
    /// # Errors
    /// As [`Reader::connect`] and [`next`](Self::next).
    pub(super) async fn begin(options: ReaderOptions, order: Order) -> Result<Self> {
        let inboxes = inboxes(&options.name);
        let reader = Reader::connect(options).await?;
        let place = Place::new(&order);
        let mut reading = Self {
            reader,
            order,
            inboxes,
            inboxes_used: 0,
            consumer: None,
            place,
            tries: 0,
            why: None,
            misunderstood: false,
            suspect: None,
            ended: false,
        };
        // Nothing has been misunderstood yet that could be passed over.
        reading.renew().await?;
        Ok(reading)
    }

    /// Waits for the next messages and hands them over as they lie in the buffer. Says whether there may be more.
    /// Not cancel-safe.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if it does not get on however often it is tried,
    /// [`Configuration`](ErrorKind::Configuration) where there is no such stream or this login may not read it.
    pub(super) async fn next(&mut self, mut take: impl FnMut(Entry<'_>) + Send) -> Result<bool> {
        let mut since = Instant::now();
        while !self.ended {
            if self.consumer.is_none() {
                if let Some(unreadable) = self.renew().await? {
                    take(Entry::Unreadable(unreadable));
                    return Ok(true);
                }
                since = Instant::now();
            }
            if self.place.is_reached() {
                self.end().await;
                break;
            }
            if let Err(error) = self.pull() {
                self.broke(error);
                continue;
            }
            let at_end = self.place.pending() == 0;
            let patience = if at_end { self.order.linger } else { SILENCE };
            if timeout_at(since + patience, self.reader.readable()).await.is_err() {
                if at_end {
                    self.end().await;
                } else {
                    self.broke(Error::unavailable(format!("nothing came for {SILENCE:?}")));
                }
                continue;
            }
            let (given, broken) = self.tick(&mut take);
            if given {
                (self.tries, self.suspect) = (0, None);
            }
            match broken {
                Some(error) if error.kind() != ErrorKind::Unavailable => return Err(error),
                Some(error) => self.broke(error),
                None => {}
            }
            if given {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many messages the server has behind the last one that was handed over.
    pub(super) fn pending(&self) -> u64 {
        self.place.pending()
    }

    /// Hands over what is there; whether that was anything, and what has ended it.
    fn tick(&mut self, take: &mut impl FnMut(Entry<'_>)) -> (bool, Option<Error>) {
        let Self { reader, place, consumer, .. } = self;
        let Some(Consumer { sid, inbox, .. }) = consumer else { return (false, None) };
        let mut given = false;
        for read in reader.read() {
            match read {
                Read::Message(message) if message.sid == *sid => match place.take(&message, inbox) {
                    Ok(Some(stored)) => {
                        if stored.sequence <= self.order.to {
                            take(Entry::Message(stored));
                            given = true;
                        }
                        if place.is_reached() {
                            break;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => return (given, Some(error)),
                },
                Read::Message(_) => {}
                Read::Event(Event::Oversized { sid: whose, subject, length }) if whose == *sid => {
                    let (stream, behind) = (&self.order.stream, place.position());
                    tracing::warn!(
                        stream,
                        behind,
                        subject,
                        length,
                        "a stored message is too long and is passed over"
                    );
                    place.passed_over();
                    take(Entry::Unreadable(Unreadable::oversized(subject, length)));
                    given = true;
                }
                Read::Event(event) => {
                    if let Some(error) = refusal(event) {
                        return (given, Some(error));
                    }
                }
            }
        }
        (given, None)
    }

    /// Asks for more, as far as there is room.
    fn pull(&mut self) -> Result<()> {
        let Some(Consumer { name, inbox, .. }) = &self.consumer else { return Ok(()) };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{name}", self.order.stream);
        while let Some(Pull { number, request }) = self.place.pull() {
            let request = api::written(&request)?;
            self.reader.publish(&subject, Some(&format!("{inbox}.{number}")), &request)?;
        }
        Ok(())
    }

    /// This consumer is of no use any more.
    fn broke(&mut self, error: Error) {
        tracing::debug!(%error, stream = self.order.stream, behind = self.place.position(), "reading breaks off");
        self.misunderstood = error.is_caused_by::<ProtocolError>();
        self.why = Some(error);
        self.leave();
    }

    fn leave(&mut self) {
        let Some(Consumer { name, sid, .. }) = self.consumer.take() else { return };
        self.reader.unsubscribe(sid);
        let subject = format!("{DELETE}{}.{name}", self.order.stream);
        // Nobody waits for the answer.
        let _ = self.reader.publish(&subject, Some(&format!("{}left", self.inboxes)), b"");
    }

    /// Nothing more is wanted.
    async fn end(&mut self) {
        self.ended = true;
        self.leave();
        let Self { reader, .. } = self;
        let barrier = reader.barrier();
        let told = async {
            while reader.is_connected() && !reader.has_passed(barrier) {
                reader.readable().await;
                reader.read().for_each(drop);
            }
        };
        let _ = timeout(LEAVING, told).await;
    }

    /// Makes another consumer behind the last message, or finds what stands there and can't be read.
    async fn renew(&mut self) -> Result<Option<Unreadable>> {
        loop {
            if self.tries == TRIES {
                let (stream, behind) = (&self.order.stream, self.place.position().unwrap_or_default());
                let why =
                    format!("the stream {stream} can't be read on behind {behind}, after {TRIES} tries");
                let error = Error::unavailable(why);
                return Err(match self.why.take() {
                    Some(why) => error.caused_by(why),
                    None => error,
                });
            }
            if self.tries > 0 {
                sleep(PAUSE * (1 << (self.tries - 1))).await;
            }
            self.tries += 1;
            match self.try_again().await {
                Ok(found) => return Ok(found),
                Err(error) if error.kind() == ErrorKind::Unavailable => self.why = Some(error),
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_again(&mut self) -> Result<Option<Unreadable>> {
        self.connected().await?;
        if self.misunderstood {
            let next = self.look().await?;
            self.misunderstood = false;
            let sequence = next.as_ref().and_then(|next| next.sequence);
            if let (Some(sequence), Some(next)) = (sequence, next)
                && self.suspect == Some(sequence)
            {
                tracing::warn!(
                    stream = self.order.stream,
                    sequence,
                    subject = next.subject,
                    "a stored message can't be read and is passed over"
                );
                self.place.skip(sequence);
                (self.tries, self.suspect) = (0, None);
                return Ok(Some(next));
            }
            self.suspect = sequence;
        }
        self.make().await?;
        Ok(None)
    }

    async fn make(&mut self) -> Result<()> {
        let name = format!("fleet-{:016x}", random());
        let behind = match (self.place.position(), self.order.begin) {
            (Some(sequence), _) | (None, Begin::After(sequence)) => sequence,
            (None, Begin::At(time)) => self.last_before(time).await?,
        };
        let create = Create::new(&self.order, &name, behind);
        let subject = format!("$JS.API.CONSUMER.CREATE.{}.{name}", self.order.stream);
        let answer = self.ask(&subject, &api::written(&create)?).await?;
        let (pending, before) = answer.consumer()?;
        let inbox = self.inbox();
        let sid = self.reader.subscribe(&format!("{inbox}.*"))?;
        self.consumer = Some(Consumer { name, inbox, sid });
        self.place.begin(pending, before);
        Ok(())
    }

    /// The sequence of the last message that was stored before this server time, or one before it that is gone.
    ///
    /// A consumer that is to begin at a time would be simpler. But once the server was restarted, one with several
    /// subjects passes over what was stored before (nats-server 2.10.26, 2.12.8 and 2.15.1), without a word.
    async fn last_before(&mut self, time: Micros) -> Result<u64> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{}", self.order.stream);
        // What is below `low` was stored before, what is from `high` on was not.
        let (mut low, mut high) = (1, self.order.to.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let found = self.ask(&subject, &api::next_by_subject(middle, ">")?).await?.message()?;
            let found = found.and_then(|found| found.sequence.zip(found.stored));
            match found.filter(|(_, stored)| *stored < time) {
                Some((sequence, _)) => low = sequence.saturating_add(1),
                None => high = middle,
            }
        }
        Ok(low - 1)
    }

    /// Waits for a connection.
    async fn connected(&mut self) -> Result<()> {
        let Self { reader, .. } = self;
        let mut failed = None;
        let connecting = async {
            while !reader.is_connected() {
                reader.readable().await;
                for read in reader.read() {
                    if let Read::Event(Event::ConnectFailed { reason }) = read {
                        failed = Some(reason);
                    }
                }
            }
        };
        if timeout(CONNECTING, connecting).await.is_ok() {
            return Ok(());
        }
        let error = Error::unavailable(format!("no NATS server lets us in again within {CONNECTING:?}"));
        Err(match failed {
            Some(reason) => error.caused_by(reason),
            None => error,
        })
    }

    /// The message that comes next, by a way on which it can't do harm.
    async fn look(&mut self) -> Result<Option<Unreadable>> {
        let subject = format!("$JS.API.STREAM.MSG.GET.{}", self.order.stream);
        let from = self.place.next_sequence();
        let all = [">".to_owned()];
        let filter = if self.order.filter.is_empty() { &all[..] } else { &self.order.filter };
        let requests =
            filter.iter().map(|filter| api::next_by_subject(from, filter)).collect::<Result<Vec<_>>>()?;
        let mut first: Option<Unreadable> = None;
        for request in requests {
            let found = self.ask(&subject, &request).await?.message()?;
            if let Some(found) =
                found.filter(|found| first.as_ref().is_none_or(|f| found.sequence < f.sequence))
            {
                first = Some(found);
            }
        }
        Ok(first)
    }

    fn inbox(&mut self) -> String {
        self.inboxes_used += 1;
        format!("{}{}", self.inboxes, self.inboxes_used)
    }

    /// Asks JetStream's API.
    async fn ask(&mut self, subject: &str, request: &[u8]) -> Result<Answer> {
        let inbox = self.inbox();
        let sid = self.reader.subscribe_for(&inbox, 1)?;
        let answer = match self.reader.publish(subject, Some(&inbox), request) {
            Ok(()) => match timeout(ANSWER, answer(&mut self.reader, sid)).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::unavailable(format!("no answer of the NATS server to {subject}"))),
            },
            Err(error) => Err(error),
        };
        self.reader.unsubscribe(sid);
        Answer::parse(&self.order.stream, &answer?)
    }
}

async fn answer(reader: &mut Reader, sid: Sid) -> Result<Vec<u8>> {
    loop {
        reader.readable().await;
        for read in reader.read() {
            match read {
                Read::Message(message) if message.sid == sid => {
                    return match message.headers.and_then(Headers::status) {
                        Some(_) => Err(Error::unavailable("JetStream is not there")),
                        None => Ok(message.payload.to_vec()),
                    };
                }
                Read::Message(_) => {}
                Read::Event(event) => {
                    if let Some(error) = refusal(event) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// What an event has ended.
fn refusal(event: Event) -> Option<Error> {
    match event {
        Event::Disconnected { reason, .. } => Some(reason),
        // Without it the server removes the consumer by itself.
        Event::PublishRefused { subject } if subject.starts_with(DELETE) => None,
        Event::PublishRefused { subject } => {
            Some(Error::configuration(format!("this NATS login may not publish to {subject}")))
        }
        Event::SubscriptionRefused { subject } => {
            Some(Error::configuration(format!("this NATS login may not subscribe to {subject}")))
        }
        Event::Oversized { length, .. } => {
            Some(Error::unavailable(format!("an answer of {length} bytes is too long")))
        }
        _ => None,
    }
}
