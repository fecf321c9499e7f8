//! The last stored message of subjects, by direct get, on a connection that no answer can end.
//!
//! What waits is gathered into one request (`multi_last`, ADR-31) where the server is quick at it, else each
//! subject is asked for by itself, many at once. A server before 2.15 looks through all blocks of the stream back
//! to the oldest message that is asked for: measured with 2.12.8, one signal that a vehicle has not sent for long
//! made a request cost 1 ms more for every 15 MB of stream, which any vehicle could bring about. 2.15.1 goes
//! straight to each message, and takes half as long for many as for each by itself.
//!
//! Of a replicated stream any server that keeps it answers, perhaps one that has not stored the newest messages
//! yet. Whoever asks must be able to live with an answer from a moment before.

mod desk;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use self::desk::{Answer, Desk, Question};
use super::NatsOptions;
use super::inbox::inboxes;
use super::reader::{Event, Read, Reader, ReaderOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::time::Micros;

/// A message as a stream keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// When it was stored, server time.
    pub stored: Micros,
    /// Its payload.
    pub payload: Bytes,
}

/// Asks for the last messages of subjects. Clones ask on the same connection, which ends with the last of them.
#[derive(Debug, Clone)]
pub struct Gets {
    questions: mpsc::Sender<Question>,
}

/// From which version on a server is asked for many messages at once.
const BATCHES_SINCE: (u32, u32) = (2, 15);

/// Questions that wait for room, beside the [`desk`]'s own bound.
const QUESTIONS: usize = 64;

/// How long an answer is waited for.
const WITHIN: Duration = Duration::from_secs(10);

/// How often is looked for what has waited too long.
const TICK: Duration = Duration::from_millis(250);

/// The largest tick that is read at once.
const BUFFER: usize = 256 << 10;

impl Gets {
    /// Connects; `name` is what the server calls the connection, and its inboxes begin with `_INBOX.<name>.`. To be
    /// called in a Tokio runtime, in which a task keeps the connection.
    ///
    /// # Errors
    /// As [`Reader::connect`].
    pub async fn connect(nats: &NatsOptions, name: &str) -> Result<Self> {
        let mut options = ReaderOptions::new(nats.clone(), name);
        options.buffer = BUFFER;
        let mut reader = Reader::connect(options).await?;
        let inboxes = inboxes(name);
        reader.subscribe(&format!("{inboxes}*"))?;
        let (questions, asked) = mpsc::channel(QUESTIONS);
        let mut desk = Desk::new(inboxes);
        desk.connected(reader.server_version() >= BATCHES_SINCE);
        tokio::spawn(Clerk { name: name.to_owned(), reader, desk, asked }.run());
        Ok(Self { questions })
    }

    /// The last message of each of these subjects of a stream, in their order; `None` where there is none, and where
    /// it is larger than the server's messages may be. Subjects have no wildcards.
    ///
    /// May be cancelled.
    ///
    /// # Errors
    /// [`Unavailable`](ErrorKind::Unavailable) if a subject has no answer: the server is away or slow, there is no
    /// such stream, or the login may not ask.
    pub async fn last(&self, stream: &str, subjects: Vec<String>) -> Result<Vec<Option<StoredMessage>>> {
        let mut groups = self.last_of_groups(stream, vec![subjects]).await;
        groups.pop().unwrap_or_else(|| Ok(Vec::new()))
    }

    /// The same for several groups of subjects: each has a result of its own, so that one without an answer costs the
    /// others nothing.
    ///
    /// May be cancelled.
    pub async fn last_of_groups(
        &self,
        stream: &str,
        groups: Vec<Vec<String>>,
    ) -> Vec<Result<Vec<Option<StoredMessage>>>> {
        let lengths: Vec<usize> = groups.iter().map(Vec::len).collect();
        let subjects: Vec<String> = groups.into_iter().flatten().collect();
        let answers = self.ask(stream, subjects).await;
        let unavailable =
            |why: &str| Error::unavailable(format!("no direct get from the stream {stream}: {why}"));
        let Ok(answers) = answers else {
            let why = "no answer in time";
            return lengths.iter().map(|_| Err(unavailable(why))).collect();
        };
        let mut answers = answers.into_iter();
        let of_group = |length: &usize| {
            let group: Vec<Answer> = answers.by_ref().take(*length).collect();
            group.into_iter().map(|answer| answer.map_err(|why| unavailable(&why))).collect()
        };
        lengths.iter().map(of_group).collect()
    }

    async fn ask(&self, stream: &str, subjects: Vec<String>) -> Result<Vec<Answer>, ()> {
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let (asker, answered) = oneshot::channel();
        let question = Question { stream: stream.into(), subjects, asker };
        let asked = async {
            self.questions.send(question).await.map_err(drop)?;
            answered.await.map_err(drop)
        };
        // The desk answers what it has taken before this is over.
        timeout(WITHIN + 2 * TICK, asked).await.map_err(drop)?
    }
}

/// Keeps the connection for all who ask.
struct Clerk {
    name: String,
    reader: Reader,
    desk: Desk,
    asked: mpsc::Receiver<Question>,
}

impl Clerk {
    /// Until nobody is left to ask.
    async fn run(mut self) {
        let mut ticker = interval(TICK);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.send();
            tokio::select! {
                () = self.reader.readable() => self.read(),
                question = self.asked.recv(), if self.desk.has_room() => match question {
                    Some(question) => self.take(question),
                    None => return,
                },
                _ = ticker.tick() => self.desk.expire(Instant::now()),
            }
        }
    }

    /// Takes everything that was asked at the same time, so that one request can ask for it.
    fn take(&mut self, question: Question) {
        let now = Instant::now();
        self.desk.ask(question, now);
        while self.desk.has_room()
            && let Ok(question) = self.asked.try_recv()
        {
            self.desk.ask(question, now);
        }
    }

    fn send(&mut self) {
        while self.reader.is_connected()
            && let Some(request) = self.desk.next(Instant::now(), self.reader.max_payload())
        {
            match self.reader.publish(&request.to, Some(&request.reply), &request.payload) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    return self.desk.take_back(request.number);
                }
                Err(error) => self.desk.refused(request.number, &error.to_string()),
            }
        }
    }

    fn read(&mut self) {
        let (mut leave, mut reconnected) = (false, false);
        for read in self.reader.read() {
            match read {
                Read::Message(message) => self.desk.on_message(&message),
                Read::Event(Event::Disconnected { .. }) => self.desk.disconnected(),
                Read::Event(Event::Reconnected { .. }) => reconnected = true,
                Read::Event(Event::LameDuck { .. }) => leave = true,
                Read::Event(Event::Oversized { subject, .. }) => self.desk.on_oversized(subject.as_bytes()),
                Read::Event(Event::PublishRefused { subject }) => {
                    if !self.desk.may_not(&subject) {
                        tracing::warn!(connection = self.name, subject, "the NATS server refuses a request");
                    }
                }
                Read::Event(Event::SubscriptionRefused { subject }) => {
                    tracing::warn!(connection = self.name, subject, "the NATS server refuses a subscription");
                }
                Read::Event(event) => tracing::debug!(connection = self.name, ?event, "of the NATS server"),
            }
        }
        if reconnected {
            self.desk.connected(self.reader.server_version() >= BATCHES_SINCE);
        }
        if leave {
            self.reader.reconnect();
        }
    }
}

/// Why something has no answer.
type Reason = Arc<str>;
