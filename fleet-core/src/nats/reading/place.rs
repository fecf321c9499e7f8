//! How far a reading has come, and what is under way to it. Knows no I/O.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Order;
use super::api::{Pull, PullRequest};
use crate::error::{Error, Result};
use crate::nats::inbox::number_in;
use crate::nats::reader::{Delivered, Headers, Message, Status};
use crate::time::Micros;

/// Messages of one pull.
const BATCH: u64 = 1_000;

/// Pulls that are under way at once, so that the next one is there when one ends.
const PULLS: usize = 3;

/// Bytes of one pull. A client that has more than 64 MiB to take is dropped by the server. Of messages as long as
/// a vehicle's the batch is less.
const BYTES: u64 = 8 << 20;

/// How long the server keeps a pull, in nanoseconds: longer than anything is waited for.
const EXPIRES: u64 = 30_000_000_000;

/// Pulls that may end without a message, one after another.
const FRUITLESS: u32 = 16;

/// What a stream has.
#[derive(Debug)]
pub(in crate::nats) enum Entry<'a> {
    /// A message as it is stored.
    Message(StoredMessage<'a>),
    /// One that can't be read and was passed over.
    Unreadable(Unreadable),
}

/// A message as it lies in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nats) struct StoredMessage<'a> {
    /// Where it was published; need not be UTF-8.
    pub subject: &'a [u8],
    pub sequence: u64,
    /// Server time.
    pub stored: Micros,
    /// As its sender wrote them.
    pub headers: Option<Headers<'a>>,
    pub payload: &'a [u8],
}

/// A message that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::nats) struct Unreadable {
    pub subject: String,
    /// `None` where only the subject is known.
    pub sequence: Option<u64>,
    /// Server time.
    pub stored: Option<Micros>,
    pub payload: Bytes,
    pub why: String,
}

impl Unreadable {
    pub(super) fn oversized(subject: String, length: usize) -> Self {
        let why = format!("a message of {length} bytes is longer than the NATS server takes");
        Self { subject, sequence: None, stored: None, payload: Bytes::new(), why }
    }
}

#[derive(Debug)]
pub(super) struct Place {
    to: u64,
    /// The last message that came or was passed over.
    position: Option<u64>,
    /// What is before the first message.
    before: u64,
    /// What the consumer has delivered.
    delivered: u64,
    pending: u64,
    /// Those under way, the first one first: the server serves them in order.
    pulls: VecDeque<Waiting>,
    pulled: u64,
    /// The next message is longer than a pull allows.
    is_long: bool,
    fruitless: u32,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    left: u64,
}

impl Place {
    pub(super) fn new(order: &Order) -> Self {
        Self {
            to: order.to,
            position: None,
            before: 0,
            delivered: 0,
            pending: 0,
            pulls: VecDeque::new(),
            pulled: 0,
            is_long: false,
            fruitless: 0,
        }
    }

    /// A new consumer has so many messages and begins behind that sequence.
    pub(super) fn begin(&mut self, pending: u64, before: u64) {
        (self.pending, self.before, self.delivered) = (pending, before, 0);
        self.pulls.clear();
        (self.is_long, self.fruitless) = (false, 0);
    }

    /// The last message that came or was passed over.
    pub(super) fn position(&self) -> Option<u64> {
        self.position
    }

    /// The first sequence that the next message can have.
    pub(super) fn next_sequence(&self) -> u64 {
        self.position.unwrap_or(self.before).saturating_add(1)
    }

    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// Whether nothing more is wanted.
    pub(super) fn is_reached(&self) -> bool {
        self.position.unwrap_or(self.before) >= self.to
    }

    /// The message of this sequence is passed over.
    pub(super) fn skip(&mut self, sequence: u64) {
        self.position = Some(sequence);
    }

    /// The next pull, if there is room for one.
    pub(super) fn pull(&mut self) -> Option<Pull> {
        let asked: u64 = self.pulls.iter().map(|pull| pull.left).sum();
        let wanted = self.to.saturating_sub(self.position.unwrap_or(self.before)).saturating_sub(asked);
        let (batch, max_bytes) = match self.is_long {
            false if self.pulls.len() < PULLS => (wanted.min(BATCH), Some(BYTES)),
            true if self.pulls.is_empty() => (wanted.min(1), None),
            _ => return None,
        };
        if batch == 0 {
            return None;
        }
        self.pulled += 1;
        self.pulls.push_back(Waiting { number: self.pulled, left: batch });
        let request = PullRequest { batch, max_bytes, expires: EXPIRES };
        Some(Pull { number: self.pulled, request })
    }

    /// Takes what came to the consumer's subscription, `inbox` and what is below; a message, or none if it
    /// was about a pull.
    ///
    /// # Errors
    /// Why this consumer is of no use any more.
    #[inline]
    pub(super) fn take<'a>(
        &mut self,
        message: &Message<'a>,
        inbox: &str,
    ) -> Result<Option<StoredMessage<'a>>> {
        // Only a consumer's message has such a reply here: nobody else knows the inbox.
        let Some(delivered) = message.reply.and_then(Delivered::parse) else {
            return self.about_pulls(message, inbox).map(|()| None);
        };
        let Delivered { sequence, consumer_sequence, time, pending, .. } = delivered;
        if consumer_sequence != self.delivered + 1 || self.position.is_some_and(|last| sequence <= last) {
            let (expected, sequence) = (self.delivered + 1, consumer_sequence);
            return Err(Error::unavailable(format!("a gap: {sequence} came where {expected} was due")));
        }
        self.position = Some(sequence);
        self.came(pending);
        let Message { subject, headers, payload, .. } = *message;
        Ok(Some(StoredMessage { subject, sequence, stored: time, headers, payload }))
    }

    /// A message came that was too long to be kept.
    pub(super) fn passed_over(&mut self) {
        self.came(self.pending.saturating_sub(1));
    }

    #[inline]
    fn came(&mut self, pending: u64) {
        self.delivered += 1;
        (self.pending, self.is_long, self.fruitless) = (pending, false, 0);
        if let Some(pull) = self.pulls.front_mut() {
            pull.left -= 1;
            if pull.left == 0 {
                self.pulls.pop_front();
            }
        }
    }

    #[cold]
    fn about_pulls(&mut self, message: &Message<'_>, inbox: &str) -> Result<()> {
        let number = number_in(message.subject, &format!("{inbox}."));
        let (Some(number), Some(status)) = (number, message.headers.and_then(Headers::status)) else {
            return Ok(());
        };
        let Status { code, description } = status;
        let description = String::from_utf8_lossy(description);
        let ends = match code {
            100 => return Ok(()),
            404 | 408 => true,
            409 => match &*description {
                "Message Size Exceeds MaxBytes" => {
                    self.is_long = true;
                    true
                }
                "Batch Completed" | "Exceeded MaxWaiting" => true,
                _ => false,
            },
            _ => false,
        };
        if !ends {
            let why =
                if code == 503 { "the consumer is gone".to_owned() } else { format!("{code} {description}") };
            return Err(Error::unavailable(why));
        }
        self.pulls.retain(|pull| pull.number != number);
        self.fruitless += 1;
        if self.fruitless > FRUITLESS {
            return Err(Error::unavailable(format!("pulls end without a message: {code} {description}")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Begin;
    use super::*;
    use crate::error::ErrorKind;
    use crate::nats::reader::Sid;

    const INBOX: &str = "_INBOX.x.7.1";

    fn place(to: u64) -> Place {
        let (stream, begin) = ("T".to_owned(), Begin::At(0));
        Place::new(&Order { stream, begin, filter: Vec::new(), to, linger: Duration::ZERO })
    }

    /// What a consumer delivers as its n-th message.
    fn deliver(place: &mut Place, sequence: u64, nth: u64, pending: u64) -> Result<Option<u64>> {
        let reply = format!("$JS.ACK.T.C.1.{sequence}.{nth}.1795593600123456789.{pending}");
        // Whatever the sender wrote.
        let headers = Some(Headers::new(b"NATS/1.0 404 No Messages\r\nNats-Sequence: 9\r\n\r\n"));
        let (sid, reply) = (Sid::from_wire(1), Some(reply.as_bytes()));
        let message = Message { sid, subject: b"fleet.0.V.speed", reply, headers, payload: b"" };
        place.take(&message, INBOX).map(|stored| stored.map(|stored| stored.sequence))
    }

    fn say(place: &mut Place, subject: &str, status: &str) -> Result<()> {
        let block = format!("NATS/1.0 {status}\r\nNats-Pending-Messages: 1\r\n\r\n");
        let headers = Some(Headers::new(block.as_bytes()));
        let message = Message {
            sid: Sid::from_wire(1),
            subject: subject.as_bytes(),
            reply: None,
            headers,
            payload: b"",
        };
        place.take(&message, INBOX).map(|stored| assert_eq!(stored, None))
    }

    fn batches(place: &mut Place) -> Vec<u64> {
        std::iter::from_fn(|| place.pull().map(|pull| pull.request.batch)).collect()
    }

    #[test]
    fn no_more_is_asked_for_than_is_wanted_and_has_room() {
        let mut place = place(12_500);
        place.begin(20_000, 10_000);
        assert_eq!((place.next_sequence(), place.is_reached()), (10_001, false));
        assert_eq!(batches(&mut place), [1_000, 1_000, 500]);
        for nth in 1..=1_000 {
            assert_eq!(deliver(&mut place, 10_000 + nth, nth, 20_000 - nth).unwrap(), Some(10_000 + nth));
        }
        assert_eq!((batches(&mut place), place.position(), place.pending()), (vec![], Some(11_000), 19_000));
        deliver(&mut place, 12_500, 1_001, 1).unwrap();
        assert!(place.is_reached());

        place = super::tests::place(u64::MAX);
        place.begin(1, 0);
        assert_eq!(batches(&mut place), [1_000; 3]);
    }

    #[test]
    fn a_gap_and_what_comes_twice_end_the_consumer() {
        for (sequence, nth) in [(6, 3), (6, 1), (5, 2), (4, 2)] {
            let mut place = place(100);
            place.begin(10, 0);
            deliver(&mut place, 5, 1, 9).unwrap();
            let error = deliver(&mut place, sequence, nth, 8).unwrap_err();
            assert_eq!(
                (error.kind(), place.position()),
                (ErrorKind::Unavailable, Some(5)),
                "{sequence} {nth}"
            );
            // The next one begins behind it and counts anew.
            place.begin(9, 5);
            assert_eq!(deliver(&mut place, 6, 1, 8).unwrap(), Some(6));
        }
    }

    #[test]
    fn a_message_that_was_too_long_is_no_gap() {
        let mut place = place(100);
        place.begin(3, 0);
        batches(&mut place);
        deliver(&mut place, 1, 1, 2).unwrap();
        place.passed_over();
        assert_eq!((place.pending(), deliver(&mut place, 3, 3, 0).unwrap()), (1, Some(3)));
    }

    #[test]
    fn a_pull_that_has_ended_makes_room_for_another() {
        let mut place = place(100_000);
        place.begin(50_000, 0);
        assert_eq!(batches(&mut place).len(), 3);
        for (number, status) in
            [(2, "408 Request Timeout"), (1, "409 Batch Completed"), (3, "404 No Messages")]
        {
            say(&mut place, &format!("{INBOX}.{number}"), status).unwrap();
            assert_eq!(batches(&mut place), [1_000], "{status}");
        }
        // Of other pulls, of none at all, and forged.
        for (subject, status) in [
            (format!("{INBOX}.1"), "100 Idle Heartbeat"),
            (INBOX.to_owned(), "404"),
            (format!("{INBOX}.x"), "503"),
        ] {
            say(&mut place, &subject, status).unwrap();
            assert_eq!(batches(&mut place), [] as [u64; 0], "{subject} {status}");
        }
    }

    #[test]
    fn a_message_longer_than_a_pull_allows_is_asked_for_by_itself() {
        let mut place = place(100);
        place.begin(50, 0);
        let pulls = batches(&mut place).len() as u64;
        for number in 1..=pulls {
            say(&mut place, &format!("{INBOX}.{number}"), "409 Message Size Exceeds MaxBytes").unwrap();
        }
        let pull = place.pull().unwrap();
        assert_eq!((pull.request.batch, pull.request.max_bytes), (1, None));
        assert!(place.pull().is_none());
        deliver(&mut place, 1, 1, 49).unwrap();
        assert_eq!(place.pull().unwrap().request.max_bytes, Some(BYTES));
    }

    #[test]
    fn a_consumer_that_is_gone_and_pulls_that_end_for_nothing_end_it() {
        for status in ["503", "409 Consumer Deleted", "409 Leadership Change", "400 Bad Request", "999"] {
            let mut place = place(100);
            place.begin(50, 0);
            batches(&mut place);
            assert!(say(&mut place, &format!("{INBOX}.1"), status).is_err(), "{status}");
        }
        let mut place = place(100_000);
        place.begin(50, 0);
        let mut ended = 0;
        while say(&mut place, &format!("{INBOX}.{ended}"), "408 Request Timeout").is_ok() {
            ended += 1;
            batches(&mut place);
        }
        assert_eq!(ended, u64::from(FRUITLESS));
    }
}
