//! The live connection: a subscription for each attached vehicle, on one reader.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::super::reader::{Barrier, Event, Read, Reader, Sid};
use super::super::watch::Owed;
use super::attachments::{Attachments, Ticket};
use super::tasks::Rounds;
use crate::error::Result;
use crate::ids::SignalIndex;
use crate::schema::Schema;
use crate::time::Micros;

/// How many messages before its turn what a message needs is fetched: enough for memory to answer.
const AHEAD: usize = 8;

/// The reader, and what its subscriptions stand for.
#[derive(Debug)]
pub(super) struct Live {
    reader: Reader,
    /// By the place of its subscription: which vehicle's it is.
    tickets: Vec<Option<Ticket>>,
    /// Who waits until the server knows all that was subscribed before, the first one first.
    joining: VecDeque<(Barrier, Joining)>,
    /// What one read has brought. The payloads lie in one block, so that none is allocated by itself.
    staged: Vec<Staged>,
    payloads: BytesMut,
}

/// Vehicles that are caught up once the server knows their subscriptions.
#[derive(Debug)]
pub(super) struct Joining {
    pub rounds: Rounds,
    pub wanted: Vec<(Ticket, Micros, Owed)>,
}

#[derive(Debug)]
struct Staged {
    ticket: Ticket,
    word: Word,
    payload: Range<usize>,
}

/// The last token of a message's subject.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word {
    Signal(SignalIndex),
    On,
    Off,
    /// None of the schema's.
    Unknown(Box<str>),
}

impl Word {
    pub(super) fn of(subject: &[u8], schema: &Schema) -> Self {
        let last = memchr::memrchr(b'.', subject).map_or(subject, |dot| &subject[dot + 1..]);
        match last {
            b"on" => Self::On,
            b"off" => Self::Off,
            _ => {
                let word = String::from_utf8_lossy(last);
                schema.find(&word).map_or_else(|| Self::Unknown(word.as_ref().into()), Self::Signal)
            }
        }
    }
}

impl Live {
    pub(super) fn new(reader: Reader) -> Self {
        Self {
            reader,
            tickets: Vec::new(),
            joining: VecDeque::new(),
            staged: Vec::new(),
            payloads: BytesMut::new(),
        }
    }

    /// Subscribes for a vehicle.
    ///
    /// # Errors
    /// As [`Reader::subscribe`].
    pub(super) fn join(&mut self, ticket: Ticket, subject: &str) -> Result<Sid> {
        let sid = self.reader.subscribe(subject)?;
        if self.tickets.len() <= sid.index() {
            self.tickets.resize(sid.index() + 1, None);
        }
        self.tickets[sid.index()] = Some(ticket);
        Ok(sid)
    }

    /// Ends a vehicle's subscription.
    pub(super) fn leave(&mut self, sid: Sid) {
        self.reader.unsubscribe(sid);
        if let Some(ticket) = self.tickets.get_mut(sid.index()) {
            *ticket = None;
        }
    }

    /// Whose a subscription is.
    pub(super) fn ticket(&self, sid: Sid) -> Option<Ticket> {
        self.tickets.get(sid.index()).copied().flatten()
    }

    /// Has these told by [`joined`](Self::joined) once the server knows all that was subscribed so far.
    pub(super) fn when_known(&mut self, joining: Joining) {
        let barrier = self.reader.barrier();
        self.joining.push_back((barrier, joining));
    }

    /// The next of those whose subscriptions the server knows.
    pub(super) fn joined(&mut self) -> Option<Joining> {
        let Self { reader, joining, .. } = self;
        joining.pop_front_if(|(barrier, _)| reader.has_passed(*barrier)).map(|(_, joining)| joining)
    }

    /// Asks the server to say when it has sent everything that it accepted before.
    pub(super) fn barrier(&mut self) -> Barrier {
        self.reader.barrier()
    }

    /// Whether it has said so, and what it sent before was staged.
    pub(super) fn has_passed(&self, barrier: Barrier) -> bool {
        self.reader.has_passed(barrier)
    }

    /// Waits until there is something to [`stage`](Self::stage). Cancel-safe.
    pub(super) async fn readable(&mut self) {
        self.reader.readable().await;
    }

    /// Sets aside what has come, up to what befell the connection: that is to be dealt with before what follows.
    pub(super) fn stage(&mut self, schema: &Schema, vehicles: &Attachments) -> Option<Event> {
        let Self { reader, tickets, staged, payloads, .. } = self;
        for read in reader.read() {
            let message = match read {
                Read::Message(message) => message,
                Read::Event(event) => return Some(event),
            };
            let Some(ticket) = tickets.get(message.sid.index()).copied().flatten() else { continue };
            vehicles.prefetch(ticket.slot);
            let begin = payloads.len();
            payloads.extend_from_slice(message.payload);
            let word = Word::of(message.subject, schema);
            staged.push(Staged { ticket, word, payload: begin..payloads.len() });
        }
        None
    }

    /// Hands over what was set aside, in order; how many messages.
    pub(super) fn take(
        &mut self,
        vehicles: &mut Attachments,
        mut to: impl FnMut(&mut Attachments, Ticket, Word, Bytes),
    ) -> usize {
        let block = self.payloads.split().freeze();
        let messages = self.staged.len();
        for n in 0..messages {
            if let Some(next) = self.staged.get(n + AHEAD) {
                vehicles.prefetch_seen(next.ticket.slot);
            }
            let Staged { ticket, word, payload } = &mut self.staged[n];
            let word = std::mem::replace(word, Word::On);
            to(vehicles, *ticket, word, block.slice(payload.clone()));
        }
        self.staged.clear();
        messages
    }

    /// Leaves a server that is about to end for another one.
    pub(super) fn reconnect(&mut self) {
        self.reader.reconnect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_token_says_what_a_message_is() {
        let schema = Schema::default();
        let of = |subject: &[u8]| Word::of(subject, &schema);
        assert_eq!(of(b"fleet.0.V.speed"), Word::Signal(schema.find("speed").unwrap()));
        assert_eq!((of(b"fleet.0.V.on"), of(b"fleet.0.V.off")), (Word::On, Word::Off));
        assert_eq!(of(b"fleet.0.V.ON"), Word::Unknown("ON".into()));
        assert_eq!(of(b"fleet.0.V.\xff"), Word::Unknown("\u{fffd}".into()));
        assert_eq!(of(b""), Word::Unknown("".into()));
    }
}
