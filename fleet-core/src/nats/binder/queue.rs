//! Whether the bind queue is there, whose it is, and what its `ack_wait` is: asked for every few seconds, also
//! by a worker that is full, or busy with claims, and takes nothing from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Shared;
use crate::bind::StateStore;
use crate::error::{Error, Result};
use crate::nats::Names;
use crate::nats::consumers::consumer;

const ASK: Duration = Duration::from_secs(2);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Whether the bind queue can be used, readable from other threads.
#[derive(Debug)]
pub struct QueueHealth {
    answers: AtomicBool,
    pulls: AtomicBool,
}

impl Default for QueueHealth {
    fn default() -> Self {
        Self { answers: AtomicBool::new(true), pulls: AtomicBool::new(true) }
    }
}

impl QueueHealth {
    /// Whether the queue's consumer was there when it was asked for last, which is every 2 s, and the last
    /// pull went well.
    pub fn is_there(&self) -> bool {
        self.answers.load(Ordering::Relaxed) && self.pulls.load(Ordering::Relaxed)
    }

    /// Takes note of a pull; how the one before went.
    pub(super) fn pulled(&self, well: bool) -> bool {
        self.pulls.swap(well, Ordering::Relaxed)
    }
}

/// Asks for as long as it is polled.
pub(super) async fn watch<S: StateStore>(shared: Arc<Shared<S>>) {
    let mut ticker = interval(ASK);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticker.tick().await;
        let silent = || Error::unavailable("the bind queue does not answer");
        let asked = timeout(ANSWER, look(&shared)).await.unwrap_or_else(|_| Err(silent()));
        let answers = asked.is_ok();
        if shared.queue.answers.swap(answers, Ordering::Relaxed) != answers {
            match asked {
                Ok(()) => tracing::info!(cell = %shared.names.cell(), "the bind queue answers again"),
                Err(error) => tracing::warn!(cell = %shared.names.cell(), %error, "no bind queue"),
            }
        }
    }
}

/// A setup may have changed the consumer since, or made it another deployment's.
async fn look<S: StateStore>(shared: &Shared<S>) -> Result<()> {
    let stream = shared.names.bind_stream();
    let consumer = consumer(&shared.js, &stream, Names::WORKERS).await?;
    let config = &consumer.cached_info().config;
    shared.held.set_ack_wait(config.ack_wait);
    if let Some(owner) = &shared.options.owner
        && let Err(error) = owner.require(&format!("{} on {stream}", Names::WORKERS), &config.metadata)
    {
        let _ = shared.events.send(Err(error));
    }
    Ok(())
}
