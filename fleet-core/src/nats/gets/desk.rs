//! Which questions are open and which requests are under way. Knows no I/O.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hashbrown::HashMap;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Reason, StoredMessage, WITHIN};
use crate::nats::inbox::number_in;
use crate::nats::reader::{Headers, Message};

/// What is known of a subject.
pub(super) type Answer = Result<Option<StoredMessage>, Reason>;

/// Asks for the last message of each subject.
#[derive(Debug)]
pub(super) struct Question {
    pub stream: Arc<str>,
    pub subjects: Vec<String>,
    pub asker: oneshot::Sender<Vec<Answer>>,
}

/// What is to be published.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub number: u64,
    pub to: String,
    pub reply: String,
    pub payload: Vec<u8>,
}

/// Subjects that a request asks for at most: the stream takes nothing while the server looks for them, about 2 ms.
const BATCH: usize = 256;

/// Requests for many subjects that are under way at once; what comes meanwhile makes the next one larger.
const BATCHES_AT_ONCE: usize = 2;

/// Requests for one subject that are under way at once.
const ALONE_AT_ONCE: usize = 128;

/// Subjects that wait, beyond which no more questions are taken.
const MOST_WAITING: usize = 2_048;

/// How long the server may take for a request.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// Questions, each answered once: when all its subjects are, or when it has waited for too long.
#[derive(Debug)]
pub(super) struct Desk {
    inboxes: String,
    open: HashMap<u64, Open>,
    asked: u64,
    /// Asked for together with others.
    waiting: Vec<Wanted>,
    /// Asked for by themselves.
    alone: VecDeque<Wanted>,
    under_way: HashMap<u64, UnderWay>,
    sent: u64,
    /// Whether the server is asked for many at once.
    batches: bool,
}

#[derive(Debug)]
struct Open {
    answers: Vec<Option<Answer>>,
    left: usize,
    until: Instant,
    asker: oneshot::Sender<Vec<Answer>>,
}

#[derive(Debug)]
struct Wanted {
    stream: Arc<str>,
    subject: String,
    place: Place,
}

impl Wanted {
    /// Whether somebody still waits for it.
    fn is_in(&self, open: &HashMap<u64, Open>) -> bool {
        open.get(&self.place.question).is_some_and(|open| !open.asker.is_closed())
    }
}

/// Where an answer belongs.
#[derive(Debug, Clone, Copy)]
struct Place {
    question: u64,
    index: usize,
}

#[derive(Debug)]
struct UnderWay {
    stream: Arc<str>,
    to: String,
    is_batch: bool,
    /// What has no answer yet.
    wanted: HashMap<String, Vec<Place>>,
    until: Instant,
}

#[derive(Serialize)]
struct MultiLast<'a> {
    multi_last: Vec<&'a str>,
}

impl Desk {
    /// Before the first connection. Answers come to `inboxes` and a number.
    pub(super) fn new(inboxes: String) -> Self {
        Self {
            inboxes,
            open: HashMap::new(),
            asked: 0,
            waiting: Vec::new(),
            alone: VecDeque::new(),
            under_way: HashMap::new(),
            sent: 0,
            batches: false,
        }
    }

    /// Whether another question can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() + self.alone.len() < MOST_WAITING
    }

    pub(super) fn ask(&mut self, question: Question, now: Instant) {
        let Question { stream, subjects, asker } = question;
        self.asked += 1;
        let number = self.asked;
        let left = subjects.len();
        let answers = (0..left).map(|_| None).collect();
        self.open.insert(number, Open { answers, left, until: now + WITHIN, asker });
        self.waiting.extend(subjects.into_iter().enumerate().map(|(index, subject)| Wanted {
            stream: Arc::clone(&stream),
            subject,
            place: Place { question: number, index },
        }));
    }

    /// The next request, of at most so many bytes, as far as there is room for one.
    pub(super) fn next(&mut self, now: Instant, max_payload: usize) -> Option<Request> {
        if !self.batches {
            self.alone.extend(self.waiting.drain(..));
        }
        let batches = self.under_way.values().filter(|request| request.is_batch).count();
        if self.under_way.len() - batches < ALONE_AT_ONCE {
            while let Some(wanted) = self.alone.pop_front() {
                if wanted.is_in(&self.open) {
                    return Some(self.single(wanted, now));
                }
            }
        }
        if batches >= BATCHES_AT_ONCE {
            return None;
        }
        self.waiting.retain(|wanted| wanted.is_in(&self.open));
        let stream = Arc::clone(&self.waiting.first()?.stream);
        let (mut subjects, mut bytes) = (0, r#"{"multi_last":[]}"#.len());
        let fits = |wanted: &mut Wanted| {
            let fits = subjects < BATCH
                && wanted.stream == stream
                && bytes + wanted.subject.len() + 3 <= max_payload;
            if fits {
                subjects += 1;
                bytes += wanted.subject.len() + 3;
            }
            fits
        };
        let mut batch: Vec<Wanted> = self.waiting.extract_if(.., fits).collect();
        if batch.len() > 1 {
            return Some(self.batch(stream, batch, now));
        }
        // It is longer than a request may be only if the server takes hardly anything.
        let one = batch.pop().unwrap_or_else(|| self.waiting.remove(0));
        Some(self.single(one, now))
    }

    fn single(&mut self, wanted: Wanted, now: Instant) -> Request {
        let Wanted { stream, subject, place } = wanted;
        let to = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        self.request(stream, to, Vec::new(), HashMap::from([(subject, vec![place])]), now)
    }

    fn batch(&mut self, stream: Arc<str>, batch: Vec<Wanted>, now: Instant) -> Request {
        let mut wanted: HashMap<String, Vec<Place>> = HashMap::with_capacity(batch.len());
        for Wanted { subject, place, .. } in batch {
            wanted.entry(subject).or_default().push(place);
        }
        let multi_last = MultiLast { multi_last: wanted.keys().map(String::as_str).collect() };
        // Strings are always JSON.
        let payload = serde_json::to_vec(&multi_last).unwrap_or_default();
        let to = format!("$JS.API.DIRECT.GET.{stream}");
        self.request(stream, to, payload, wanted, now)
    }

    fn request(
        &mut self,
        stream: Arc<str>,
        to: String,
        payload: Vec<u8>,
        wanted: HashMap<String, Vec<Place>>,
        now: Instant,
    ) -> Request {
        self.sent += 1;
        let (number, is_batch) = (self.sent, !payload.is_empty());
        let reply = format!("{}{number}", self.inboxes);
        let under_way = UnderWay { stream, to: to.clone(), is_batch, wanted, until: now + ANSWERED_WITHIN };
        self.under_way.insert(number, under_way);
        Request { number, to, reply, payload }
    }

    /// An answer. What comes too late, and what was never asked for, is nothing.
    pub(super) fn on_message(&mut self, message: &Message<'_>) {
        let Some(number) = number_in(message.subject, &self.inboxes) else { return };
        let Some(request) = self.under_way.get_mut(&number) else { return };
        let headers = message.headers.unwrap_or(Headers::new(b""));
        // Whoever sent the message may have written a status, and fields like the server's before them.
        if let Some(stored) = headers.stored() {
            let subject = std::str::from_utf8(stored.subject).ok();
            let places = subject.and_then(|subject| request.wanted.remove(subject));
            let (is_batch, is_over) = (request.is_batch, request.wanted.is_empty());
            if is_over {
                self.under_way.remove(&number);
            } else if places.is_none() && !is_batch {
                return self.refused(number, "the answer has the message of another subject");
            }
            let found = StoredMessage {
                sequence: stored.sequence,
                stored: stored.time,
                payload: Bytes::copy_from_slice(message.payload),
            };
            for place in places.into_iter().flatten() {
                self.answer(place, Ok(Some(found.clone())));
            }
            return;
        }
        let is_batch = request.is_batch;
        match headers.status() {
            Some(status) if status.code == 503 => {
                self.refused(number, "the server has no such stream at the moment")
            }
            Some(status) if status.code == 404 && !is_batch => self.answer_all(number, &Ok(None)),
            // What a batch lacks may just be replaced by a newer message: only a direct get of it alone says that
            // there is none.
            Some(status) if is_batch => {
                if status.code == 408 {
                    tracing::debug!("the NATS server knows no requests for many last messages");
                    self.batches = false;
                }
                self.one_by_one(number);
            }
            None if is_batch => self.one_by_one(number),
            Some(status) => {
                let description = String::from_utf8_lossy(status.description);
                self.refused(number, &format!("the server says {} {description}", status.code));
            }
            None => self.refused(number, "the answer is none of a server's"),
        }
    }

    /// A message that is larger than the server's messages may be can't be one of ours.
    pub(super) fn on_oversized(&mut self, inbox: &[u8]) {
        let Some(number) = number_in(inbox, &self.inboxes) else { return };
        if self.under_way.get(&number).is_some_and(|request| !request.is_batch) {
            self.answer_all(number, &Ok(None));
        }
    }

    /// The login may not publish there. Whether that is told: those that may not ask for many at once ask for each.
    pub(super) fn may_not(&mut self, to: &str) -> bool {
        let refused: Vec<u64> = self.under_way.iter().filter(|(_, u)| u.to == to).map(|(n, _)| *n).collect();
        let mut is_batch = false;
        for number in refused {
            if self.under_way.get(&number).is_some_and(|request| request.is_batch) {
                is_batch = true;
                self.one_by_one(number);
            } else {
                self.refused(number, "the login may not ask for it");
            }
        }
        if is_batch && std::mem::take(&mut self.batches) {
            tracing::info!(
                subject = to,
                "the login may not ask for many last messages at once, they are asked for one by one"
            );
        }
        is_batch
    }

    /// The connection is lost: what is under way is asked for again.
    pub(super) fn disconnected(&mut self) {
        let numbers: Vec<u64> = self.under_way.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.take_back(number));
    }

    /// There is a connection, on which many may be asked for at once.
    pub(super) fn connected(&mut self, batches: bool) {
        self.batches = batches;
    }

    /// A request that was not published.
    pub(super) fn take_back(&mut self, number: u64) {
        let Some(request) = self.under_way.remove(&number) else { return };
        let is_batch = request.is_batch;
        let wanted = request.into_wanted();
        if is_batch { self.waiting.extend(wanted) } else { self.alone.extend(wanted) }
    }

    fn one_by_one(&mut self, number: u64) {
        if let Some(request) = self.under_way.remove(&number) {
            self.alone.extend(request.into_wanted());
        }
    }

    /// A request that has no answer.
    pub(super) fn refused(&mut self, number: u64, why: &str) {
        self.answer_all(number, &Err(why.into()));
    }

    fn answer_all(&mut self, number: u64, answer: &Answer) {
        let Some(request) = self.under_way.remove(&number) else { return };
        for place in request.wanted.into_values().flatten() {
            self.answer(place, answer.clone());
        }
    }

    fn answer(&mut self, place: Place, answer: Answer) {
        let Some(open) = self.open.get_mut(&place.question) else { return };
        let Some(slot @ None) = open.answers.get_mut(place.index) else { return };
        *slot = Some(answer);
        open.left -= 1;
        if open.left == 0
            && let Some(open) = self.open.remove(&place.question)
        {
            open.close("");
        }
    }

    /// Answers what has waited too long, and forgets who has gone.
    pub(super) fn expire(&mut self, now: Instant) {
        let late: Vec<u64> = self.under_way.iter().filter(|(_, u)| u.until <= now).map(|(n, _)| *n).collect();
        for number in late {
            self.refused(number, "the server does not answer");
        }
        for (_, open) in self.open.extract_if(|_, open| open.until <= now) {
            open.close("there is no connection, or too much is asked for");
        }
        self.open.retain(|_, open| !open.asker.is_closed());
    }
}

impl Open {
    fn close(self, why: &str) {
        let answers = self.answers.into_iter().map(|answer| answer.unwrap_or_else(|| Err(why.into())));
        // Who has gone needs no answer.
        let _ = self.asker.send(answers.collect());
    }
}

impl UnderWay {
    fn into_wanted(self) -> impl Iterator<Item = Wanted> {
        let Self { stream, wanted, .. } = self;
        wanted.into_iter().flat_map(move |(subject, places)| {
            let stream = Arc::clone(&stream);
            places.into_iter().map(move |place| Wanted {
                stream: Arc::clone(&stream),
                subject: subject.clone(),
                place,
            })
        })
    }
}

#[cfg(test)]
mod tests;
