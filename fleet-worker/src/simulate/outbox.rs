//! What was sent and is not acknowledged yet: no more of it than a window.

use std::sync::Arc;
use std::time::Duration;

use fleet_core::Micros;
use fleet_core::error::ErrorKind;
use fleet_core::ids::SignalIndex;
use fleet_core::sample::Samples;
use tokio::time::Instant;

use super::Progress;
use super::links::{Heard, Links};

/// How long an ack may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long after its ack was missed a message is sent again.
const PAUSE: Duration = Duration::from_millis(200);

/// How often all that is awaited is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Messages that can be awaited: so many have numbers of their own.
const MOST: usize = 1 << PLACES;
const PLACES: u32 = 20;

/// What is published; used again for another one once it is acknowledged.
#[derive(Debug)]
pub(super) struct Message {
    pub kind: Kind,
    pub vehicle: usize,
    /// Those in the payload.
    pub samples: Samples,
    /// When it was sent for the first time.
    pub published: Micros,
    pub subject: String,
    pub payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Samples { sensor: usize, signal: SignalIndex },
    On,
    Off,
}

impl Default for Message {
    fn default() -> Self {
        Self {
            kind: Kind::On,
            vehicle: 0,
            samples: Samples::default(),
            published: 0,
            subject: String::new(),
            payload: Vec::new(),
        }
    }
}

/// They go from list to list.
#[allow(clippy::vec_box, reason = "moving a message costs more than finding it")]
pub(super) type Messages = Vec<Box<Message>>;

/// Sends without waiting, and sends again what gets no ack. Two messages may change places; those of one sensor
/// don't, which waits for its ack.
#[derive(Debug)]
pub(super) struct Outbox {
    links: Links,
    window: usize,
    places: Vec<Place>,
    free: Vec<usize>,
    looked: Instant,
    progress: Arc<Progress>,
}

/// Where a message waits for its ack. The place and how often it was used before are the number by which the ack is
/// known, so that one that comes twice is not taken for that of the next message.
#[derive(Debug)]
struct Place {
    uses: u64,
    message: Option<Box<Message>>,
    link: usize,
    state: State,
    /// When the state ends at the latest.
    until: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No connection has taken it yet. It is offered at every look until its ack is missed.
    Unsent,
    /// Its ack is awaited.
    Sent,
    /// The connection that took it is lost, and the ack with it: as [`Unsent`](Self::Unsent).
    Lost,
    /// Its ack was missed. It is sent again after a pause.
    Missed,
}

impl Outbox {
    pub(super) fn new(links: Links, window: usize, progress: Arc<Progress>) -> Self {
        let window = window.min(MOST);
        Self { links, window, places: Vec::new(), free: Vec::new(), looked: Instant::now(), progress }
    }

    /// How many new messages may be sent.
    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.awaited())
    }

    /// Whether everything is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.awaited() == 0
    }

    fn awaited(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Awaits nothing of what was sent so far, and sends none of it again.
    pub(super) fn forget(&mut self) {
        for number in 0..self.places.len() {
            self.release(number);
        }
    }

    /// Sends at the next turn.
    pub(super) fn send(&mut self, message: Box<Message>) {
        let now = Instant::now();
        let link = self.links.of(message.vehicle);
        self.links.awaits(link);
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { uses: 0, message: None, link, state: State::Unsent, until: now });
            self.places.len() - 1
        });
        let place = &mut self.places[number];
        (place.message, place.link) = (Some(message), link);
        self.begin(number, now);
    }

    /// Sends what waits, takes the acks that have come, and puts what they are for into `done`.
    pub(super) fn turn(&mut self, done: &mut Messages) {
        let now = Instant::now();
        if now.saturating_duration_since(self.looked) >= LOOK {
            self.look(now);
        }
        let mut back = false;
        let Self { links, places, free, progress, .. } = self;
        let before = done.len();
        links.read(|heard| match heard {
            Heard::Answer(number, answer) => {
                let Some((number, place)) = of(places, number) else { return };
                match answer {
                    Ok(()) => {
                        done.extend(place.end());
                        free.push(number);
                    }
                    Err(error) if place.state != State::Missed => place.miss(now, error, progress),
                    Err(_) => {}
                }
            }
            Heard::Lost(link) => {
                let on_it = |place: &&mut Place| place.link == link && place.state == State::Sent;
                places.iter_mut().filter(on_it).for_each(|place| place.state = State::Lost);
            }
            Heard::Back => back = true,
        });
        done[before..].iter().for_each(|message| links.is_done(links.of(message.vehicle)));
        if back {
            self.look(now);
        }
    }

    /// Looks at all that is awaited.
    fn look(&mut self, now: Instant) {
        self.looked = now;
        for number in 0..self.places.len() {
            let place = &mut self.places[number];
            if place.message.is_none() {
                continue;
            }
            match place.state {
                State::Missed if now >= place.until => {
                    self.repeated(number);
                    self.begin(number, now);
                }
                State::Missed => {}
                _ if now >= place.until => {
                    let error = if self.links.is_connected(place.link) { NO_ACK } else { NO_CONNECTION };
                    place.miss(now, error.to_owned(), &self.progress);
                }
                State::Unsent => self.offer(number, now),
                State::Lost if self.links.is_connected(place.link) => {
                    self.repeated(number);
                    self.offer(number, now);
                }
                State::Lost | State::Sent => {}
            }
        }
    }

    /// Begins to wait for an ack.
    fn begin(&mut self, number: usize, now: Instant) {
        self.places[number].until = now + TIMEOUT;
        self.offer(number, now);
    }

    fn offer(&mut self, number: usize, now: Instant) {
        let place = &mut self.places[number];
        let Some(message) = &place.message else { return };
        let known = place.uses << PLACES | number as u64;
        match self.links.publish(place.link, known, &message.subject, &message.payload) {
            Ok(()) => (place.state, place.until) = (State::Sent, now + TIMEOUT),
            Err(error) if error.kind() == ErrorKind::Unavailable => place.state = State::Unsent,
            Err(error) => place.miss(now, error.to_string(), &self.progress),
        }
    }

    /// A message is sent again.
    fn repeated(&self, number: usize) {
        if self.places[number].message.as_ref().is_some_and(|m| m.kind != Kind::On && m.kind != Kind::Off) {
            self.progress.retry();
        }
    }

    fn release(&mut self, number: usize) {
        if let Some(message) = self.places[number].end() {
            self.free.push(number);
            self.links.is_done(self.links.of(message.vehicle));
        }
    }
}

const NO_ACK: &str = "timed out: no ack came";
const NO_CONNECTION: &str = "timed out: there is no connection to NATS";

impl Place {
    fn miss(&mut self, now: Instant, error: String, progress: &Progress) {
        progress.failed(error);
        (self.state, self.until) = (State::Missed, now + PAUSE);
    }

    /// Gives the message out, whose number stands for none from here on.
    fn end(&mut self) -> Option<Box<Message>> {
        self.uses += 1;
        self.message.take()
    }
}

/// The place of an awaited message that is known by that number.
fn of(places: &mut [Place], known: u64) -> Option<(usize, &mut Place)> {
    let number = usize::try_from(known & (MOST as u64 - 1)).ok()?;
    let place = places.get_mut(number)?;
    (place.uses == known >> PLACES && place.message.is_some()).then_some((number, place))
}
