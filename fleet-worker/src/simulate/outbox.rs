//! What was sent and is not acknowledged yet: no more of it than a window.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use bytes::Bytes;
use fleet_core::Micros;
use fleet_core::ids::SignalIndex;
use fleet_core::sample::Samples;
use fleet_core::time::SECOND;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::Progress;
use super::links::Links;
use crate::clock::now;

/// How long after its ack was missed a message is sent again.
const PAUSE: Micros = SECOND / 5;

/// A message with samples.
#[derive(Debug)]
pub(super) struct Message {
    pub vehicle: usize,
    pub signal: SignalIndex,
    pub sensor: usize,
    pub samples: Samples,
    pub payload: Bytes,
    pub published: Micros,
}

/// What an ack is awaited for.
#[derive(Debug)]
pub(super) enum Awaited {
    Samples(Message),
    Lifecycle { vehicle: usize, word: &'static str },
}

impl Awaited {
    pub(super) fn vehicle(&self) -> usize {
        match self {
            Self::Samples(message) => message.vehicle,
            Self::Lifecycle { vehicle, .. } => *vehicle,
        }
    }
}

/// What came of a message, or why it must be sent again.
type Acked = Result<(), String>;

type Ack = Pin<Box<dyn Future<Output = (Awaited, Acked)> + Send>>;

/// Sends without waiting, and sends again what gets no ack.
#[derive(Debug)]
pub(super) struct Outbox {
    links: Links,
    window: usize,
    acks: FuturesUnordered<Ack>,
    /// What missed its ack, and when it is to be sent again; in that order.
    again: VecDeque<(Micros, Awaited)>,
    progress: Arc<Progress>,
}

impl Outbox {
    pub(super) fn new(links: Links, window: usize, progress: Arc<Progress>) -> Self {
        Self { links, window, acks: FuturesUnordered::new(), again: VecDeque::new(), progress }
    }

    /// How many new messages may be sent.
    pub(super) fn room(&self) -> usize {
        self.window.saturating_sub(self.acks.len() + self.again.len())
    }

    /// Whether everything is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.acks.is_empty() && self.again.is_empty()
    }

    /// Awaits nothing of what was sent so far, and sends none of it again.
    pub(super) fn forget(&mut self) {
        self.acks.clear();
        self.again.clear();
    }

    /// Sends in the background: the client's own queue is full while the server is away. Two messages may change
    /// places; those of one sensor don't, which waits for its ack.
    pub(super) fn send(&mut self, awaited: Awaited, subject: String, payload: Bytes) {
        let link = self.links.of(awaited.vehicle());
        self.acks.push(Box::pin(async move {
            let acked = publish(&link, subject, payload).await;
            (awaited, acked)
        }));
    }

    /// The next one that is acknowledged, or that is to be sent again now; `None` if nothing is awaited.
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Outcome> {
        loop {
            let pause = self.again.front().map(|(at, _)| (at - now()).max(0).unsigned_abs());
            let resend = pause.map(|pause| tokio::time::sleep(Duration::from_micros(pause)));
            tokio::select! {
                biased;
                Some((awaited, acked)) = self.acks.next(), if !self.acks.is_empty() => match acked {
                    Ok(()) => return Some(Outcome::Acknowledged(awaited)),
                    Err(error) => {
                        self.progress.failed(error);
                        self.again.push_back((now() + PAUSE, awaited));
                    }
                },
                () = async { if let Some(resend) = resend { resend.await } }, if pause.is_some() => {
                    return self.again.pop_front().map(|(_, awaited)| Outcome::Due(awaited));
                }
                else => return None,
            }
        }
    }
}

/// What [`Outbox::next`] gives.
#[derive(Debug)]
pub(super) enum Outcome {
    Acknowledged(Awaited),
    /// To be sent again.
    Due(Awaited),
}

async fn publish(link: &Context, subject: String, payload: Bytes) -> Acked {
    let sent = link.publish(subject, payload).await.map_err(|e| e.to_string())?;
    sent.await.map(drop).map_err(|e| e.to_string())
}
