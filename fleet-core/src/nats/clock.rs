//! The server's clock as it is seen from here: known from what the server stamps, kept in between
//! against the monotonic clock. Nothing here reads the machine's wall clock.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::Client;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::time::{Micros, SECOND, micros, parse};

/// How much two clocks may drift apart, as a fraction of the time that passes: both may be slewed by
/// 500 ppm.
const DRIFT: Micros = 1_000;

/// Estimates the server's clock. Clones share the estimate.
///
/// Each observation says within what bounds the server's clock must be: its answer was stamped after
/// we asked and before we heard it. Bounds that agree are intersected, so that a slow answer spoils
/// nothing and a quick one sharpens the estimate; bounds that contradict what was known, drift
/// included, say that a clock was set or that this machine slept, and are believed at once.
#[derive(Debug, Clone)]
pub struct ServerClock {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    /// The server's time at the origin.
    offset: AtomicI64,
    bounds: Mutex<Option<Bounds>>,
}

/// Within which the offset is.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: Micros,
    high: Micros,
    /// When that was so, since the origin.
    at: Micros,
}

/// What the server's clock said, and between which instants of ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observed {
    pub before: Instant,
    pub stamp: Micros,
    pub after: Instant,
}

impl Default for ServerClock {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}

impl ServerClock {
    fn since(origin: Instant) -> Self {
        let shared = Shared { origin, offset: AtomicI64::new(0), bounds: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The server's time now. A clock that nobody has observed yet is in 1970; those of a connected
    /// source or discovery have been.
    pub fn now(&self) -> Micros {
        self.at(Instant::now())
    }

    /// The server's time at an instant of ours.
    pub(super) fn at(&self, instant: Instant) -> Micros {
        self.passed(instant).saturating_add(self.shared.offset.load(Ordering::Relaxed))
    }

    /// How long after the origin; negative before it.
    fn passed(&self, instant: Instant) -> Micros {
        match instant.checked_duration_since(self.shared.origin) {
            Some(after) => micros(after),
            None => -micros(self.shared.origin - instant),
        }
    }

    /// Takes note of what the server's clock said. Observations come in the order of their answers.
    pub(super) fn observe(&self, observed: Observed) {
        let (before, after) = (self.passed(observed.before), self.passed(observed.after));
        let (low, high) = (observed.stamp.saturating_sub(after), observed.stamp.saturating_sub(before));
        let mut bounds = self.shared.bounds.lock().unwrap_or_else(PoisonError::into_inner);
        let known = bounds.map(|b| {
            let drift = (after - b.at).max(0) / DRIFT;
            (b.low - drift, b.high + drift)
        });
        let (low, high) = match known {
            Some((known_low, known_high)) if low <= known_high && known_low <= high => {
                (low.max(known_low), high.min(known_high))
            }
            Some((known_low, known_high)) => {
                let by = middle(low, high) - middle(known_low, known_high);
                if by.abs() > SECOND {
                    let seconds = by / SECOND;
                    tracing::warn!(seconds, "the server's clock was set, or this machine stood still");
                }
                (low, high)
            }
            None => (low, high),
        };
        *bounds = Some(Bounds { low, high, at: after });
        self.shared.offset.store(middle(low, high), Ordering::Relaxed);
    }
}

fn middle(low: Micros, high: Micros) -> Micros {
    low + (high - low) / 2
}

#[derive(Deserialize)]
struct Stamped {
    ts: Option<String>,
    error: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    description: String,
}

/// Asks JetStream's API what a stream or a consumer, `what`, is like, which it answers with a time; the time,
/// and the answer as it came.
///
/// # Errors
/// [`Unavailable`](crate::ErrorKind::Unavailable) if it does not answer within five seconds or refuses;
/// [`Configuration`](crate::ErrorKind::Configuration) for a server before 2.10, which tells no time.
pub(super) async fn ask(client: &Client, subject: String, what: &str) -> Result<(Observed, bytes::Bytes)> {
    let failed = || Error::unavailable(format!("no answer for the {what}: may this login ask for it?"));
    let before = Instant::now();
    let asked = client.request(subject, bytes::Bytes::new());
    let answer = match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(answer) => answer.map_err(|e| failed().caused_by(e))?.payload,
        Err(_) => return Err(failed()),
    };
    let after = Instant::now();
    let stamped: Stamped = serde_json::from_slice(&answer).map_err(|e| failed().caused_by(e))?;
    if let Some(Refused { description }) = stamped.error {
        return Err(Error::unavailable(format!("no {what}: run `setup` first ({description})")));
    }
    let stamp = stamped.ts.and_then(|ts| parse(&ts).ok());
    let stamp = stamp.ok_or_else(|| {
        Error::configuration(format!(
            "the NATS server's answer for the {what} has no time: it must be 2.10 or later"
        ))
    })?;
    Ok((Observed { before, stamp, after }, answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = 1_000;

    /// A clock, and an answer with that stamp between these milliseconds after its origin.
    fn clock() -> (ServerClock, impl Fn(u64, Micros, u64) -> Observed, impl Fn(u64) -> Instant) {
        let origin = Instant::now() + Duration::from_secs(1);
        let at = move |ms| origin + Duration::from_millis(ms);
        let observed = move |before, stamp, after| Observed { before: at(before), stamp, after: at(after) };
        (ServerClock::since(origin), observed, at)
    }

    #[test]
    fn a_quick_answer_sharpens_and_a_slow_one_spoils_nothing() {
        let (clock, observed, at) = clock();
        clock.observe(observed(0, 1_000 * MS, 100));
        assert_eq!(clock.at(at(50)), 1_000 * MS);
        clock.observe(observed(100, 1_081 * MS, 102));
        assert!((clock.at(at(102)) - 1_082 * MS).abs() <= MS, "{}", clock.at(at(102)));
        // An answer that took ten seconds: its middle is four seconds off.
        clock.observe(observed(102, 1_083 * MS, 10_102));
        assert!((clock.at(at(10_102)) - 11_082 * MS).abs() <= 12 * MS, "{}", clock.at(at(10_102)));
    }

    #[test]
    fn a_clock_that_drifts_is_followed() {
        let (clock, observed, at) = clock();
        for second in 0..1_000 {
            // It gains 0.4 ms a second.
            let stamp = Micros::try_from(second).unwrap() * (SECOND + 400);
            clock.observe(observed(second * 1_000 - second.min(1), stamp, second * 1_000 + 1));
            let error = clock.at(at(second * 1_000)) - stamp;
            assert!(error.abs() <= 3 * MS, "{error} µs off after {second} s");
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed_at_once_in_both_directions() {
        let (clock, observed, at) = clock();
        clock.observe(observed(0, 5_000 * MS, 2));
        for (ms, hour) in [(1_000, 3_600 * SECOND), (2_000, -3_600 * SECOND), (3_000, 0)] {
            clock.observe(observed(ms, 5_001 * MS + hour, ms + 2));
            assert_eq!(clock.at(at(ms + 1)), 5_001 * MS + hour);
        }
    }
}
