//! The connections that simulated vehicles publish over.

use std::fmt::Write;
use std::hash::{BuildHasher, Hasher, RandomState};

use fleet_core::error::{Error, Result};
use fleet_core::nats::reader::{Event, Read, Reader, ReaderOptions};
use fleet_core::nats::{Names, NatsOptions};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::answer::answer;

/// Connections that are made at once.
const AT_ONCE: usize = 32;

/// Bytes of all connections' buffers together, and of each at least: answers have some 50 bytes.
const BUFFERS: usize = 512 << 10;
const BUFFER: usize = 4 << 10;

/// A turn reads of connections on which nothing is awaited one in so many: each of them several times a second.
const SHARE: usize = 64;

/// Vehicles share them in turns. One for all makes the server's work lighter than it is: what comes together
/// is read and answered together.
#[derive(Debug)]
pub(super) struct Links {
    links: Vec<Link>,
    /// Those on which answers are awaited.
    busy: Vec<usize>,
    /// Which one is read next though nothing is awaited on it.
    next: usize,
}

#[derive(Debug)]
struct Link {
    reader: Reader,
    /// `_INBOX.<name>.<connection>.`, and behind it the number of the message that was published last.
    reply: String,
    inbox: usize,
    awaited: usize,
    is_busy: bool,
}

/// What comes on a connection.
#[derive(Debug)]
pub(super) enum Heard {
    /// The answer to the message of that number.
    Answer(u64, Result<(), String>),
    /// No answer to what was published on that connection comes any more.
    Lost(usize),
    /// The connection is there again.
    Back,
}

impl Links {
    /// Connects so many times.
    pub(super) async fn connect(nats: &NatsOptions, names: &Names, count: usize) -> Result<Self> {
        let (count, name) = (count.max(1), names.connection("simulate"));
        // Keyed at random: another simulation must not get our answers.
        let ours = RandomState::new().build_hasher().finish();
        let link = async |number: usize| {
            let mut options = ReaderOptions::new(nats.clone(), &name);
            options.buffer = (BUFFERS / count).max(BUFFER);
            let mut reader = Reader::connect(options).await?;
            let reply = format!("_INBOX.{name}.{ours:016x}-{number}.");
            reader.subscribe(&format!("{reply}*"))?;
            Ok::<_, Error>(Link { reader, inbox: reply.len(), reply, awaited: 0, is_busy: false })
        };
        let links = stream::iter(0..count).map(link).buffer_unordered(AT_ONCE);
        Ok(Self { links: links.try_collect().await?, busy: Vec::new(), next: 0 })
    }

    /// The number of a vehicle's connection.
    pub(super) fn of(&self, vehicle: usize) -> usize {
        vehicle % self.links.len()
    }

    /// An answer is awaited on that connection.
    pub(super) fn awaits(&mut self, number: usize) {
        let link = &mut self.links[number];
        link.awaited += 1;
        if !std::mem::replace(&mut link.is_busy, true) {
            self.busy.push(number);
        }
    }

    /// One answer less is awaited on that connection.
    pub(super) fn is_done(&mut self, number: usize) {
        self.links[number].awaited -= 1;
    }

    /// Whether there is that connection.
    pub(super) fn is_connected(&self, number: usize) -> bool {
        self.links[number].reader.is_connected()
    }

    /// Publishes at the next [`read`](Self::read); the answer has that number.
    ///
    /// # Errors
    /// As [`Reader::publish`].
    pub(super) fn publish(&mut self, link: usize, number: u64, subject: &str, payload: &[u8]) -> Result<()> {
        let Link { reader, reply, inbox, .. } = &mut self.links[link];
        reply.truncate(*inbox);
        // Writing to a String does not fail.
        let _ = write!(reply, "{number}");
        reader.publish(subject, Some(reply), payload)
    }

    /// Sends what was published, and takes what has come.
    pub(super) fn read(&mut self, mut take: impl FnMut(Heard)) {
        self.busy.retain(|number| {
            let link = &mut self.links[*number];
            link.is_busy = link.awaited > 0;
            link.read(*number, &mut take);
            link.is_busy
        });
        for _ in 0..self.links.len().div_ceil(SHARE) {
            self.next = (self.next + 1) % self.links.len();
            let link = &mut self.links[self.next];
            if !link.is_busy {
                link.read(self.next, &mut take);
            }
        }
    }
}

impl Link {
    fn read(&mut self, this: usize, take: &mut impl FnMut(Heard)) {
        for read in self.reader.read() {
            match read {
                Read::Message(message) => {
                    let number =
                        message.subject.get(self.inbox..).and_then(|digits| std::str::from_utf8(digits).ok());
                    if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
                        take(Heard::Answer(number, answer(message.headers, message.payload)));
                    }
                }
                Read::Event(Event::Disconnected { .. }) => take(Heard::Lost(this)),
                Read::Event(Event::Reconnected { .. }) => take(Heard::Back),
                Read::Event(Event::PublishRefused { subject }) => {
                    tracing::warn!(subject, "the NATS server refuses to publish this");
                }
                Read::Event(Event::SubscriptionRefused { subject }) => {
                    tracing::warn!(subject, "the NATS server refuses to let us subscribe to this");
                }
                Read::Event(Event::ServerError(error)) => tracing::warn!(error, "the NATS server complains"),
                // The connections that can't be made are tried again.
                Read::Event(_) => {}
            }
        }
    }
}
