//! Publishes what could not be used to `deadletter.<cell>.<vehicle>`: rate-limited per vehicle, and none in
//! line behind another vehicle's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, ErrorCode};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hashbrown::HashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep};

use super::Names;
use crate::hash::Fnv;
use crate::ids::VehicleId;
use crate::message::DeadLetter;

/// Letters of one vehicle that are kept in a minute; a broken sensor must not fill the stream …
const PER_MINUTE: u32 = 60;

/// … nor take its room from others: bytes of their payloads, beyond one letter of any size.
const BYTES_PER_MINUTE: usize = 64 << 10;

const MINUTE: Duration = Duration::from_secs(60);

/// Vehicles whose quota is known at most; that many in a minute, and further ones get none.
const VEHICLES: usize = 100_000;

/// Letters that wait for the server at most.
const QUEUE: usize = 2_048;

/// Letters that are under way at once, each of another vehicle.
const AT_ONCE: usize = 64;

/// How long a letter is tried.
const TRIED: Duration = Duration::from_secs(60);

/// What a message of the dead letters' stream takes, headers and payload together.
pub(super) const MOST_BYTES: i32 = 8_192;

/// What remains for the payload of any letter: signal and detail are at most 400 bytes each, the vehicle's
/// name twice 64 of them.
const MOST_PAYLOAD: usize = 6_912;

/// What became of dead letters, counted when it happened.
#[derive(Debug, Default)]
pub struct LetterCounters {
    /// In the stream, those included that were there already.
    pub stored: AtomicU64,
    /// Beyond what one vehicle may send in a minute.
    pub rate_limited: AtomicU64,
    /// Too many waited for the server.
    pub queue_full: AtomicU64,
    /// Refused by the server for good.
    pub refused: AtomicU64,
    /// Not stored within a minute of tries, or before the end.
    pub failed: AtomicU64,
}

impl LetterCounters {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Each with its name.
    pub fn by_outcome(&self) -> [(&'static str, u64); 5] {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [
            ("stored", value(&self.stored)),
            ("rate_limited", value(&self.rate_limited)),
            ("queue_full", value(&self.queue_full)),
            ("refused", value(&self.refused)),
            ("failed", value(&self.failed)),
        ]
    }
}

/// Takes letters at once and publishes them behind.
#[derive(Debug)]
pub(super) struct DeadLetters {
    queue: Option<mpsc::UnboundedSender<Waiting>>,
    room: Arc<Semaphore>,
    quotas: Quotas,
    counters: Arc<LetterCounters>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// A letter with its place in the queue, which it gives up when it is done.
#[derive(Debug)]
struct Waiting {
    vehicle: VehicleId,
    message: PublishMessage,
    until: Instant,
    _place: OwnedSemaphorePermit,
}

impl DeadLetters {
    pub(super) fn new(js: Context, names: Names) -> Self {
        let (queue, letters) = mpsc::unbounded_channel();
        let counters = Arc::new(LetterCounters::default());
        let task = tokio::spawn(publish_all(js, names, letters, Arc::clone(&counters)));
        let room = Arc::new(Semaphore::new(QUEUE));
        Self { queue: Some(queue), room, quotas: Quotas::default(), counters, task: Some(task) }
    }

    pub(super) fn counters(&self) -> Arc<LetterCounters> {
        Arc::clone(&self.counters)
    }

    /// Keeps a letter, unless its vehicle has had its share or there is no room.
    pub(super) fn keep(&mut self, letter: &DeadLetter) {
        let now = Instant::now();
        let bytes = letter.payload.len().min(MOST_PAYLOAD);
        if !self.quotas.takes(&letter.vehicle, bytes, now) {
            return LetterCounters::add(&self.counters.rate_limited);
        }
        let place = Arc::clone(&self.room).try_acquire_owned();
        let (Ok(place), Some(queue)) = (place, &self.queue) else {
            return LetterCounters::add(&self.counters.queue_full);
        };
        let (vehicle, message) = (letter.vehicle.clone(), message(letter));
        // The receiver ends after the sender.
        let _ = queue.send(Waiting { vehicle, message, until: now + TRIED, _place: place });
    }

    /// Takes no more and waits until all that were taken are stored or given up. Cancel-safe; what is left
    /// when the value is dropped counts as failed.
    pub(super) async fn shut_down(&mut self) {
        self.queue = None;
        if let Some(task) = &mut self.task {
            let _ = task.await;
            self.task = None;
        }
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let left = QUEUE - self.room.available_permits();
            if left > 0 {
                self.counters.failed.fetch_add(left as u64, Ordering::Relaxed);
                tracing::warn!(letters = left, "dead letters were not stored before the end");
            }
        }
    }
}

/// What vehicles have sent within their minutes. It outlives a binding: a vehicle that is bound anew has no
/// more than one that stays.
#[derive(Debug, Default)]
struct Quotas {
    used: HashMap<VehicleId, Used>,
    swept: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    since: Instant,
    letters: u32,
    bytes: usize,
}

impl Quotas {
    /// Whether a vehicle may send one more.
    fn takes(&mut self, vehicle: &VehicleId, bytes: usize, now: Instant) -> bool {
        if self.swept.is_none_or(|at| now - at >= MINUTE) {
            self.used.retain(|_, used| now - used.since < MINUTE);
            self.swept = Some(now);
        }
        if !self.used.contains_key(vehicle) && self.used.len() >= VEHICLES {
            return false;
        }
        let fresh = Used { since: now, letters: 0, bytes: 0 };
        let used = self.used.entry(vehicle.clone()).or_insert(fresh);
        if now - used.since >= MINUTE {
            *used = fresh;
        }
        if used.letters >= PER_MINUTE || used.bytes >= BYTES_PER_MINUTE {
            return false;
        }
        used.letters += 1;
        used.bytes += bytes;
        true
    }
}

/// One letter of each vehicle at a time, in its order; vehicles in the order in which their turn came.
async fn publish_all(
    js: Context,
    names: Names,
    mut letters: mpsc::UnboundedReceiver<Waiting>,
    counters: Arc<LetterCounters>,
) {
    let mut waiting: HashMap<VehicleId, VecDeque<Waiting>> = HashMap::new();
    let mut turns: VecDeque<VehicleId> = VecDeque::new();
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            letter = letters.recv(), if open => match letter {
                Some(letter) => {
                    let vehicle = letter.vehicle.clone();
                    let line = waiting.entry(vehicle.clone()).or_insert_with(|| {
                        turns.push_back(vehicle);
                        VecDeque::new()
                    });
                    line.push_back(letter);
                }
                None => open = false,
            },
            Some(vehicle) = under_way.next() => {
                if waiting.get(&vehicle).is_some_and(|line: &VecDeque<_>| line.is_empty()) {
                    waiting.remove(&vehicle);
                } else {
                    turns.push_back(vehicle);
                }
            }
        }
        while under_way.len() < AT_ONCE {
            let Some(vehicle) = turns.pop_front() else { break };
            let Some(letter) = waiting.get_mut(&vehicle).and_then(VecDeque::pop_front) else { continue };
            under_way.push(publish(&js, &names, letter, &counters));
        }
    }
}

/// Publishes a letter until it is stored, refused or too old; whose it was.
async fn publish(js: &Context, names: &Names, letter: Waiting, counters: &LetterCounters) -> VehicleId {
    let Waiting { vehicle, message, until, _place } = letter;
    let subject = names.dead_letter(&vehicle);
    let mut wait = Duration::from_millis(250);
    let outcome = loop {
        let sent = js.send_publish(subject.clone(), message.clone()).await;
        let acked = match sent {
            Ok(ack) => ack.await.map(drop),
            Err(error) => Err(error),
        };
        let Err(error) = acked else { break &counters.stored };
        if is_final(&error) {
            tracing::warn!(%vehicle, %error, "the server refuses a dead letter");
            break &counters.refused;
        }
        if Instant::now() + wait >= until {
            tracing::warn!(%vehicle, %error, "a dead letter was not stored in time");
            break &counters.failed;
        }
        tracing::debug!(%error, %vehicle, "dead letter not stored yet");
        sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(4));
    };
    LetterCounters::add(outcome);
    vehicle
}

/// Whether no other try can help. Without an answer nobody knows; no stream may be one without a leader;
/// and a server without room may get some.
fn is_final(error: &PublishError) -> bool {
    use std::error::Error as _;
    match error.kind() {
        PublishErrorKind::MaxPayloadExceeded => true,
        PublishErrorKind::Other => {
            let cause = error.source().and_then(|e| e.downcast_ref::<async_nats::jetstream::Error>());
            cause.is_some_and(|e| {
                let code = e.error_code();
                (400..500).contains(&e.code())
                    || code == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM
                    || code == ErrorCode::STREAM_SEALED
            })
        }
        _ => false,
    }
}

/// The headers of a letter.
pub(super) const REASON: &str = "Fleet-Reason";
pub(super) const SIGNAL: &str = "Fleet-Signal";
pub(super) const DETAIL: &str = "Fleet-Detail";
/// How long the payload was, where only its beginning is kept.
pub(super) const CUT_FROM: &str = "Fleet-Cut-From";

pub(super) fn message(letter: &DeadLetter) -> PublishMessage {
    let mut headers = HeaderMap::new();
    headers.insert(REASON, letter.refusal.as_str());
    headers.insert(SIGNAL, one_line(&letter.signal).as_str());
    headers.insert(DETAIL, one_line(&letter.detail).as_str());
    let whole = letter.payload.len();
    if whole > MOST_PAYLOAD {
        headers.insert(CUT_FROM, whole.to_string().as_str());
    }
    // A copy: a slice would hold the whole of what was read from the connection with it.
    let payload = Bytes::copy_from_slice(&letter.payload[..whole.min(MOST_PAYLOAD)]);
    PublishMessage::build().payload(payload).headers(headers).message_id(identity(letter))
}

/// The same letter has the same identity, so that a replay does not keep it twice.
fn identity(letter: &DeadLetter) -> String {
    let mut hash = Fnv::default();
    for part in [letter.signal.as_bytes(), letter.refusal.as_str().as_bytes(), &letter.payload] {
        hash.add(part);
    }
    format!("{}-{:016x}", letter.vehicle, hash.0)
}

/// Header values are one line of printable ASCII.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Refusal;

    fn letter(payload: usize) -> DeadLetter {
        DeadLetter {
            vehicle: VehicleId::new(&"V".repeat(64)).unwrap(),
            signal: "s".repeat(1_000),
            refusal: Refusal::UnknownSignal,
            detail: "d".repeat(1_000),
            payload: vec![7; payload].into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_vehicle_has_its_share_of_a_minute_and_others_theirs() {
        let mut quotas = Quotas::default();
        let mut taken =
            |name: &str, bytes| quotas.takes(&VehicleId::new(name).unwrap(), bytes, Instant::now());
        let small = (0..100).filter(|_| taken("A", 10)).count();
        assert_eq!(small, PER_MINUTE as usize);
        let large = (0..100).filter(|_| taken("B", MOST_PAYLOAD)).count();
        assert_eq!(large, BYTES_PER_MINUTE.div_ceil(MOST_PAYLOAD));
        assert!(!taken("A", 10) && !taken("B", 10) && taken("C", 10));
        sleep(MINUTE).await;
        assert!(taken("A", 10) && taken("B", MOST_PAYLOAD));
        assert_eq!(quotas.used.len(), 2, "nothing is kept of those who were silent");
    }

    #[tokio::test]
    async fn quotas_are_bounded() {
        let (mut quotas, now) = (Quotas::default(), Instant::now());
        for n in 0..VEHICLES + 10 {
            let vehicle = VehicleId::new(&format!("V{n}")).unwrap();
            assert_eq!(quotas.takes(&vehicle, 1, now), n < VEHICLES);
        }
        assert!(quotas.takes(&VehicleId::new("V0").unwrap(), 1, now), "those that are known go on");
    }

    /// As the server counts: headers with their line ends, and the payload.
    #[test]
    fn any_letter_fits_into_its_stream() {
        for (payload, cut) in [(0, None), (MOST_PAYLOAD, None), (MOST_PAYLOAD + 1, Some("6913"))] {
            let message = message(&letter(payload)).outbound_message("deadletter.0.V");
            let headers = message.headers.unwrap();
            let lines = headers.iter().flat_map(|(name, values)| {
                values.iter().map(move |value| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4)
            });
            let bytes = "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>() + message.payload.len();
            assert!(bytes <= usize::try_from(MOST_BYTES).unwrap(), "{bytes}");
            assert_eq!(headers.get(CUT_FROM).map(|v| v.as_str().to_owned()).as_deref(), cut);
            assert_eq!(message.payload.len(), payload.min(MOST_PAYLOAD));
        }
    }
}
