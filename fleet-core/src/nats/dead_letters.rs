//! Publishes what could not be used to `deadletter.<cell>.<vehicle>`, rate-limited per vehicle.

use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::PublishMessage;
use hashbrown::HashMap;
use tokio::sync::mpsc;

use super::Names;
use crate::ids::VehicleId;
use crate::message::DeadLetter;
use crate::time::{MINUTE, Micros};

/// Letters of one vehicle that are kept in a minute; a broken sensor must not fill the stream.
const PER_MINUTE: u32 = 60;

/// Letters that wait for the server at most.
const QUEUE: usize = 4096;

/// Takes letters at once and publishes them behind.
#[derive(Debug)]
pub(super) struct DeadLetters {
    queue: mpsc::Sender<DeadLetter>,
    quota: HashMap<VehicleId, (Micros, u32)>,
    task: tokio::task::AbortHandle,
}

impl DeadLetters {
    pub(super) fn new(js: Context, names: Names) -> Self {
        let (queue, letters) = mpsc::channel(QUEUE);
        let task = tokio::spawn(publish(js, names, letters)).abort_handle();
        Self { queue, quota: HashMap::new(), task }
    }

    /// Keeps a letter; says whether it was, or fell to the rate limit or a full queue.
    pub(super) fn keep(&mut self, letter: DeadLetter, now: Micros) -> bool {
        let (since, count) = self.quota.entry(letter.vehicle.clone()).or_insert((now, 0));
        if now - *since >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= PER_MINUTE && self.queue.try_send(letter).is_ok()
    }

    /// Forgets a vehicle that is gone.
    pub(super) fn forget(&mut self, vehicle: &VehicleId) {
        self.quota.remove(vehicle);
    }
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        // The task ends by itself once it has sent what is queued; only a server that is gone could
        // hold it, and then nothing is to be saved.
        if self.queue.capacity() == QUEUE {
            self.task.abort();
        }
    }
}

async fn publish(js: Context, names: Names, mut letters: mpsc::Receiver<DeadLetter>) {
    while let Some(letter) = letters.recv().await {
        let subject = names.dead_letter(&letter.vehicle);
        for attempt in 0..20_u32 {
            let sent = js.send_publish(subject.clone(), message(&letter)).await;
            let acked = match sent {
                Ok(ack) => ack.await.map(drop),
                Err(error) => Err(error),
            };
            match acked {
                Ok(()) => break,
                Err(error) => {
                    tracing::debug!(%error, attempt, vehicle = %letter.vehicle, "dead letter not stored yet");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }
}

/// The headers of a letter.
pub(super) const REASON: &str = "Fleet-Reason";
pub(super) const SIGNAL: &str = "Fleet-Signal";
pub(super) const DETAIL: &str = "Fleet-Detail";

pub(super) fn message(letter: &DeadLetter) -> PublishMessage {
    let mut headers = HeaderMap::new();
    headers.insert(REASON, letter.refusal.as_str());
    headers.insert(SIGNAL, one_line(&letter.signal).as_str());
    headers.insert(DETAIL, one_line(&letter.detail).as_str());
    PublishMessage::build().payload(letter.payload.clone()).headers(headers).message_id(identity(letter))
}

/// The same letter has the same identity, so that a replay does not keep it twice.
fn identity(letter: &DeadLetter) -> String {
    let mut hash = Fnv::default();
    for part in [letter.signal.as_bytes(), letter.refusal.as_str().as_bytes(), &letter.payload] {
        hash.add(part);
    }
    format!("{}-{:016x}", letter.vehicle, hash.0)
}

/// FNV-1a, 64 bits: stable between processes, unlike the standard library's hasher.
/// <http://www.isthe.com/chongo/tech/comp/fnv/>
#[derive(Debug)]
pub(super) struct Fnv(pub(super) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The hash of one piece.
    pub(super) fn of(bytes: &[u8]) -> u64 {
        let mut hash = Self::default();
        hash.add(bytes);
        hash.0
    }
}

/// Header values are one line of printable ASCII.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).take(400).collect()
}
