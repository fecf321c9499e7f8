//! A stream in memory and a source that reads it: the reference for others, and for examples and
//! tests without a server.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hashbrown::HashMap;
use tokio::sync::Notify;

use super::{Attach, Drained, Source, SourceEvent};
use crate::error::Result;
use crate::ids::{SignalIndex, Slot, VehicleId};
use crate::message::{DeadLetter, Message, Topic};
use crate::time::Micros;

#[derive(Debug, Clone)]
enum What {
    Signal(SignalIndex, Bytes),
    On,
    Off,
}

#[derive(Debug)]
struct Entry {
    vehicle: VehicleId,
    stored: Micros,
    what: What,
}

#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    now: Micros,
    letters: Vec<DeadLetter>,
}

/// A stream in memory that keeps everything; clones share it. Its clock is the latest time it was
/// told.
#[derive(Debug, Clone, Default)]
pub struct MemoryStream {
    log: Arc<Mutex<Log>>,
    news: Arc<Notify>,
}

impl MemoryStream {
    /// An empty stream at time 0.
    pub fn new() -> Self {
        Self::default()
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, vehicle: &VehicleId, stored: Micros, what: What) {
        let mut log = self.log();
        log.now = log.now.max(stored);
        // Stored times never go back, as in a real stream.
        let stored = log.now;
        log.entries.push(Entry { vehicle: vehicle.clone(), stored, what });
        drop(log);
        self.news.notify_waiters();
    }

    /// Stores a message of a signal at a server time.
    pub fn publish(&self, vehicle: &VehicleId, signal: SignalIndex, payload: Bytes, stored: Micros) {
        self.store(vehicle, stored, What::Signal(signal, payload));
    }

    /// Stores an `on`.
    pub fn on(&self, vehicle: &VehicleId, stored: Micros) {
        self.store(vehicle, stored, What::On);
    }

    /// Stores an `off`.
    pub fn off(&self, vehicle: &VehicleId, stored: Micros) {
        self.store(vehicle, stored, What::Off);
    }

    /// Moves the server's clock on.
    pub fn advance(&self, now: Micros) {
        let mut log = self.log();
        log.now = log.now.max(now);
    }

    /// What was refused so far.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.log().letters.clone()
    }
}

#[derive(Debug)]
struct Reader {
    vehicle: VehicleId,
    /// Tells it apart from earlier readers of its slot.
    number: u64,
    off: bool,
    /// The last `on` or `off` that was told, server time.
    told: Micros,
}

/// [`Source`] on a [`MemoryStream`].
#[derive(Debug)]
pub struct MemorySource {
    stream: MemoryStream,
    cursor: usize,
    readers: BTreeMap<Slot, Reader>,
    /// How many there were.
    numbers: u64,
    slots: HashMap<VehicleId, Slot>,
    /// With the slot that each is of, and the number of its reader, which may be gone.
    ready: VecDeque<(Slot, u64, SourceEvent)>,
    drained: bool,
}

impl MemorySource {
    /// Reads what is stored from now on, and what was before for each vehicle that is attached.
    pub fn new(stream: &MemoryStream) -> Self {
        let cursor = stream.log().entries.len();
        Self {
            stream: stream.clone(),
            cursor,
            readers: BTreeMap::new(),
            numbers: 0,
            slots: HashMap::new(),
            ready: VecDeque::new(),
            drained: false,
        }
    }

    /// Reads what was stored up to the cursor from a time on.
    fn read_again(&mut self, slot: Slot, from: Micros) {
        let Some(reader) = self.readers.get_mut(&slot) else { return };
        let log = self.stream.log.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, mut lifecycle) = (reader.number, Vec::new());
        for entry in log.entries[..self.cursor].iter().filter(|e| e.vehicle == reader.vehicle) {
            let stored = entry.stored;
            match &entry.what {
                What::Signal(signal, payload) if stored >= from => {
                    let (topic, payload) = (Topic::Signal(*signal), payload.clone());
                    let message = Message { slot, topic, payload, arrival: stored, live: false };
                    self.ready.push_back((slot, number, SourceEvent::Message(message)));
                }
                What::Signal(..) => {}
                What::On | What::Off if stored <= reader.told => {}
                What::On if std::mem::take(&mut reader.off) => {
                    lifecycle.push(SourceEvent::On { slot, started_at: stored });
                }
                What::On => {}
                What::Off => {
                    reader.off = true;
                    lifecycle.push(SourceEvent::Off { slot, stored });
                }
            }
        }
        reader.told = reader.told.max(log.entries[..self.cursor].last().map_or(0, |e| e.stored));
        self.ready.push_back((slot, number, SourceEvent::CaughtUp(vec![slot])));
        self.ready.extend(lifecycle.into_iter().map(|event| (slot, number, event)));
    }

    fn read_on(&mut self) {
        let log = self.stream.log.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(entry) = log.entries.get(self.cursor) {
            self.cursor += 1;
            let Some(&slot) = self.slots.get(&entry.vehicle) else { continue };
            let Some(reader) = self.readers.get_mut(&slot) else { continue };
            reader.told = entry.stored;
            let message = |topic, payload| {
                SourceEvent::Message(Message { slot, topic, payload, arrival: entry.stored, live: true })
            };
            let event = match &entry.what {
                What::Signal(signal, payload) => message(Topic::Signal(*signal), payload.clone()),
                What::On if std::mem::take(&mut reader.off) => {
                    SourceEvent::On { slot, started_at: entry.stored }
                }
                What::On => message(Topic::On, Bytes::new()),
                What::Off => {
                    reader.off = true;
                    SourceEvent::Off { slot, stored: entry.stored }
                }
            };
            self.ready.push_back((slot, reader.number, event));
        }
    }
}

impl Source for MemorySource {
    async fn next(&mut self) -> Result<SourceEvent> {
        loop {
            let news = Arc::clone(&self.stream.news);
            // Registered before looking, so that nothing is missed between.
            let mut notified = std::pin::pin!(news.notified());
            notified.as_mut().enable();
            while let Some((slot, number, event)) = self.ready.pop_front() {
                if self.readers.get(&slot).is_some_and(|reader| reader.number == number) {
                    return Ok(event);
                }
            }
            if self.drained {
                return std::future::pending().await;
            }
            self.read_on();
            if self.ready.is_empty() {
                notified.await;
            }
        }
    }

    fn attach(&mut self, group: Vec<Attach>) {
        for attach in group {
            let begin = attach.begin();
            let Attach { slot, vehicle, on_time, .. } = attach;
            self.slots.insert(vehicle.clone(), slot);
            self.numbers += 1;
            self.readers.insert(slot, Reader { vehicle, number: self.numbers, off: false, told: on_time });
            self.read_again(slot, begin);
        }
    }

    fn detach(&mut self, slot: Slot) {
        if let Some(reader) = self.readers.remove(&slot) {
            self.slots.remove(&reader.vehicle);
        }
    }

    fn catch_up(&mut self, slots: &[(Slot, Micros)]) {
        for &(slot, from) in slots {
            self.read_again(slot, from);
        }
    }

    fn settle(&mut self, slot: Slot) {
        // What is stored now must come first.
        self.read_on();
        if let Some(reader) = self.readers.get(&slot) {
            self.ready.push_back((slot, reader.number, SourceEvent::Settled(slot)));
        }
    }

    #[allow(clippy::unused_async, reason = "the trait's shape")]
    async fn drain(&mut self) -> Option<Drained> {
        // Every catch-up is ready, too.
        self.read_on();
        self.drained = true;
        Some(Drained { until: self.now(), behind: Vec::new() })
    }

    fn refuse(&mut self, letter: DeadLetter) {
        self.stream.log().letters.push(letter);
    }

    fn now(&self) -> Micros {
        self.stream.log().now
    }
}
