//! Whether a sink is there, readable from other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;

/// Whether a sink took or answered what it was last given or asked; clones share it.
#[derive(Debug, Clone)]
pub struct Availability(Arc<AtomicBool>);

impl Availability {
    /// Until it is known otherwise it is.
    pub fn is_available(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Outages of one sink: each is logged once when it begins and once when it ends.
#[derive(Debug)]
pub(super) struct Outages {
    name: String,
    since: Option<Instant>,
    availability: Availability,
}

impl Outages {
    pub(super) fn new(name: String) -> Self {
        Self { name, since: None, availability: Availability(Arc::new(AtomicBool::new(true))) }
    }

    pub(super) fn availability(&self) -> Availability {
        self.availability.clone()
    }

    pub(super) fn began(&mut self, error: &Error) {
        if self.since.is_none() {
            tracing::warn!(sink = %self.name, %error, "the sink is unavailable");
            self.since = Some(Instant::now());
            self.availability.0.store(false, Ordering::Relaxed);
        }
    }

    /// The server is there, and what it was given takes long.
    pub(super) fn slow(&self, after: Duration, statement: &str) {
        let seconds = after.as_secs();
        tracing::warn!(sink = %self.name, "statement running for {seconds} s: {statement}");
    }

    pub(super) fn ended(&mut self) {
        if let Some(since) = self.since.take() {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(sink = %self.name, seconds, "the sink is available again");
            self.availability.0.store(true, Ordering::Relaxed);
        }
    }
}
