//! One feed at a time: until its catch-up has passed the fence, a vehicle's live messages wait.

use bytes::Bytes;

use crate::message::Message;
use crate::time::Micros;

/// Bytes of one vehicle's live messages that wait at most.
const MOST_BYTES: usize = 64 << 10;

/// Which feed a vehicle is on. Knows no I/O.
#[derive(Debug)]
pub(super) enum Feed {
    /// Live messages go straight through.
    Live,
    /// The stream is being read; live messages wait in the buffer.
    CatchingUp {
        buffer: Vec<Message>,
        /// Of the buffer's payloads.
        bytes: usize,
        /// Live messages were lost since the fence: read again, from there at the latest.
        broken: Option<Micros>,
    },
}

/// What follows from a catch-up that has passed its fence.
#[derive(Debug)]
pub(super) enum Passed {
    /// The vehicle is live from here on; these had waited.
    Live(Vec<Message>),
    /// Live messages were lost meanwhile: set a new fence and read from this server time on.
    Again(Micros),
}

impl Feed {
    pub(super) fn catching_up() -> Self {
        Self::CatchingUp { buffer: Vec::new(), bytes: 0, broken: None }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Live)
    }

    /// Whether live messages are left to the stream.
    pub(super) fn is_broken(&self) -> bool {
        matches!(self, Self::CatchingUp { broken: Some(_), .. })
    }

    /// Shown in logs.
    pub(super) fn name(&self) -> &'static str {
        if self.is_live() { "live" } else { "catching up" }
    }

    /// Takes a live message: gives it back if it may pass. A full buffer is dropped, and the
    /// catch-up will go on to a new fence.
    pub(super) fn live(&mut self, mut message: Message, capacity: usize) -> Option<Message> {
        match self {
            Self::Live => Some(message),
            Self::CatchingUp { buffer, bytes, broken } => {
                if buffer.len() >= capacity || *bytes + message.payload.len() > MOST_BYTES {
                    let first = buffer.first().map_or(message.arrival, |m| m.arrival);
                    *broken = Some(broken.map_or(first, |b| b.min(first)));
                    (*buffer, *bytes) = (Vec::new(), 0);
                }
                if broken.is_none() {
                    // As it came it would hold on to all that was received with it.
                    message.payload = Bytes::copy_from_slice(&message.payload);
                    *bytes += message.payload.len();
                    buffer.push(message);
                }
                None
            }
        }
    }

    /// Live messages may have been lost since `from`. Says whether a new catch-up must begin now;
    /// otherwise the running one is extended.
    pub(super) fn disturb(&mut self, from: Micros) -> bool {
        match self {
            Self::Live => {
                *self = Self::catching_up();
                true
            }
            Self::CatchingUp { buffer, bytes, broken } => {
                *broken = Some(broken.map_or(from, |b| b.min(from)));
                (*buffer, *bytes) = (Vec::new(), 0);
                false
            }
        }
    }

    /// The catch-up has delivered everything up to its fence.
    pub(super) fn passed(&mut self) -> Passed {
        match std::mem::replace(self, Self::Live) {
            Self::Live => Passed::Live(Vec::new()),
            Self::CatchingUp { buffer, broken: None, .. } => Passed::Live(buffer),
            Self::CatchingUp { broken: Some(from), .. } => {
                *self = Self::catching_up();
                Passed::Again(from)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{SignalIndex, Slot};
    use crate::message::Topic;

    fn message(arrival: Micros) -> Message {
        let topic = Topic::Signal(SignalIndex(0));
        Message { slot: Slot(0), topic, payload: Bytes::new(), arrival, live: true }
    }

    #[test]
    fn live_messages_wait_and_come_after_the_catch_up_in_order() {
        let mut feed = Feed::catching_up();
        assert!(feed.live(message(1), 8).is_none());
        assert!(feed.live(message(2), 8).is_none());
        let Passed::Live(waited) = feed.passed() else { panic!("not live") };
        assert_eq!(waited.iter().map(|m| m.arrival).collect::<Vec<_>>(), [1, 2]);
        assert!(feed.live(message(3), 8).is_some());
    }

    #[test]
    fn an_overflow_extends_the_catch_up_from_the_first_message_that_was_dropped() {
        let mut feed = Feed::catching_up();
        for t in 1..=5 {
            assert!(feed.live(message(t), 2).is_none());
        }
        let Passed::Again(from) = feed.passed() else { panic!("live with a hole") };
        assert_eq!(from, 1);
        assert!(feed.live(message(6), 2).is_none(), "a new catch-up is under way");
        let Passed::Live(waited) = feed.passed() else { panic!("not live") };
        assert_eq!(waited.len(), 1);
    }

    #[test]
    fn few_large_messages_are_too_many_as_well() {
        let mut feed = Feed::catching_up();
        for t in 1..=5 {
            let payload = Bytes::from(vec![0; MOST_BYTES / 4]);
            assert!(feed.live(Message { payload, ..message(t) }, 256).is_none());
        }
        let Passed::Again(from) = feed.passed() else { panic!("all of it waited") };
        assert_eq!(from, 1);
    }

    #[test]
    fn a_disturbance_during_a_catch_up_extends_it() {
        let mut feed = Feed::Live;
        assert!(feed.disturb(10), "a live vehicle begins a catch-up");
        assert!(!feed.disturb(7) && !feed.disturb(9));
        let Passed::Again(from) = feed.passed() else { panic!("live with a hole") };
        assert_eq!(from, 7);
    }
}
