//! What the server says of the telemetry stream, at every round and every few seconds: its clock, from
//! when on it holds what was stored, and whether it is still the stream that it was.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::Client;
use serde::Deserialize;
use tokio::sync::Notify;

use super::Names;
use super::clock::{ServerClock, ask};
use super::source::SourceCounters;
use crate::error::{Error, Result};
use crate::time::{Micros, display, parse};

/// How often the server is asked.
const EVERY: Duration = Duration::from_secs(5);

/// A stream at one moment; times are the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamState {
    pub now: Micros,
    pub created: Micros,
    /// That of the next message, where there is none.
    pub first_sequence: u64,
    /// When the first message was stored, if there is one.
    pub first_stored: Option<Micros>,
    pub last_sequence: u64,
    pub max_age: Option<Micros>,
    /// It is so full that its oldest messages go for want of room.
    pub is_full: bool,
}

/// From when on a vehicle's messages must be in the stream, server time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owed {
    /// A message of it was stored then, says the saved state.
    Known(Micros),
    /// It may have sent something since then.
    Perhaps(Micros),
}

impl StreamState {
    /// From when on everything that was stored is there; where it has never lost anything, since it was
    /// made.
    pub(super) fn begins(&self) -> Micros {
        // An empty stream has lost what it ever had, up to now.
        let first = self.first_stored.unwrap_or(self.now);
        if self.first_sequence > 1 { first.max(self.created) } else { self.created }
    }

    /// From when on it holds what is owed, if some of that is gone.
    ///
    /// | what is missing | is gone |
    /// |---|---|
    /// | from before the stream was made | always |
    /// | from before its first message, and a message is known | always |
    /// | the same, but one only may have been sent | if age or want of room may have taken it |
    pub(super) fn gap(&self, owed: Owed) -> Option<Micros> {
        let (Owed::Known(at) | Owed::Perhaps(at)) = owed;
        let begins = self.begins();
        let by_age = self.max_age.is_some_and(|age| at < self.now.saturating_sub(age));
        let can_be = at < self.created || matches!(owed, Owed::Known(_)) || by_age || self.is_full;
        (at < begins && can_be).then_some(begins)
    }
}

#[derive(Deserialize)]
struct Answer {
    created: String,
    config: Config,
    state: State,
}

#[derive(Deserialize)]
struct Config {
    /// Nanoseconds; 0 is none.
    #[serde(default)]
    max_age: i64,
    #[serde(default)]
    max_bytes: i64,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
    bytes: u64,
    first_seq: u64,
    first_ts: String,
    last_seq: u64,
}

/// Asks what the stream is like, and takes note of the server's clock.
///
/// # Errors
/// As [`ask`], also where there is no such stream.
pub(super) async fn look(client: &Client, stream: &str, clock: &ServerClock) -> Result<StreamState> {
    let (observed, answer) =
        ask(client, format!("$JS.API.STREAM.INFO.{stream}"), &format!("stream {stream}")).await?;
    let odd = |why: String| Error::unavailable(format!("the stream {stream} is told oddly: {why}"));
    let Answer { created, config, state } =
        serde_json::from_slice(&answer).map_err(|e| odd(e.to_string()))?;
    clock.observe(observed);
    let some = state.messages > 0;
    Ok(StreamState {
        now: observed.stamp,
        created: parse(&created).map_err(odd)?,
        first_sequence: state.first_seq,
        first_stored: some.then(|| parse(&state.first_ts)).transpose().map_err(odd)?,
        last_sequence: state.last_seq,
        max_age: (config.max_age > 0).then_some(config.max_age / 1_000),
        is_full: u64::try_from(config.max_bytes).is_ok_and(|most| state.bytes >= most / 10 * 9),
    })
}

/// Looks at the telemetry stream, and tells when it is no longer the one that it was.
#[derive(Debug)]
pub(super) struct Watch {
    client: Client,
    stream: String,
    pub clock: ServerClock,
    last: Mutex<StreamState>,
    counters: Arc<SourceCounters>,
    /// A look is wanted at once.
    pub soon: Notify,
}

impl Watch {
    /// Looks for the first time.
    ///
    /// # Errors
    /// As [`look`].
    pub(super) async fn begin(client: Client, names: &Names, counters: Arc<SourceCounters>) -> Result<Self> {
        let (stream, clock) = (names.telemetry_stream(), ServerClock::default());
        let last = Mutex::new(look(&client, &stream, &clock).await?);
        Ok(Self { client, stream, clock, last, counters, soon: Notify::new() })
    }

    /// Looks again.
    ///
    /// # Errors
    /// As [`look`].
    pub(super) async fn look(&self) -> Result<StreamState> {
        let found = look(&self.client, &self.stream, &self.clock).await?;
        let before = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            // Two looks at once may be answered in another order.
            if found.now < last.now && found.created == last.created {
                return Ok(found);
            }
            std::mem::replace(&mut *last, found)
        };
        if let Some(what) = loss(&before, &found) {
            self.counters.stream_losses.fetch_add(1, Ordering::Relaxed);
            let stream = &self.stream;
            tracing::error!(%stream, "{what}; until their states are saved again, vehicles can't be caught up from before that: look for a lost disk, a deleted or emptied stream, or a server killed without sync_interval: always");
        }
        Ok(found)
    }

    /// Looks every few seconds, and when it is asked to.
    pub(super) async fn keep(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = self.soon.notified() => {}
            }
            if let Err(error) = self.look().await {
                tracing::debug!(%error, "the telemetry stream is not told of");
            }
        }
    }
}

/// What has become of a stream between two looks, if it is not as it was.
fn loss(before: &StreamState, now: &StreamState) -> Option<String> {
    if now.created != before.created {
        return Some(format!("the stream was made anew at {}", display(now.created)));
    }
    let (was, is) = (before.last_sequence, now.last_sequence);
    (is < was).then(|| format!("the stream lost its end: its last sequence was {was} and is {is}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: StreamState = StreamState {
        now: 10_000,
        created: 1_000,
        first_sequence: 1,
        first_stored: None,
        last_sequence: 0,
        max_age: Some(5_000),
        is_full: false,
    };

    #[test]
    fn a_stream_made_anew_is_a_gap_for_all_that_is_older() {
        for owed in [Owed::Known, Owed::Perhaps] {
            assert_eq!(EMPTY.gap(owed(999)), Some(1_000));
            assert_eq!(EMPTY.gap(owed(1_000)), None);
            let used = StreamState { first_stored: Some(6_000), last_sequence: 9, ..EMPTY };
            assert_eq!(used.gap(owed(999)), Some(1_000), "its first sequence is 1");
            assert_eq!(used.gap(owed(5_000)), None, "nothing was taken out of it");
        }
    }

    #[test]
    fn what_an_old_stream_lost_is_a_gap_where_something_was() {
        let old = StreamState { first_sequence: 50, first_stored: Some(7_000), last_sequence: 60, ..EMPTY };
        assert_eq!(old.gap(Owed::Known(6_999)), Some(7_000), "emptied, or cut off by age or size");
        assert_eq!(old.gap(Owed::Known(7_000)), None);
        assert_eq!(old.gap(Owed::Perhaps(6_999)), None, "nothing may have been sent until 7,000");
        assert_eq!(old.gap(Owed::Perhaps(4_999)), Some(7_000), "older than max_age");
        let full = StreamState { is_full: true, ..old };
        assert_eq!(full.gap(Owed::Perhaps(6_999)), Some(7_000));
        let emptied = StreamState { first_sequence: 61, first_stored: None, ..old };
        assert_eq!((emptied.gap(Owed::Known(9_000)), emptied.begins()), (Some(10_000), 10_000));
        let unlimited = StreamState { max_age: None, ..old };
        assert_eq!(unlimited.gap(Owed::Perhaps(2_000)), None);
    }

    #[test]
    fn a_loss_is_another_creation_or_a_smaller_last_sequence() {
        let grown = StreamState { last_sequence: 5, ..EMPTY };
        assert_eq!(loss(&EMPTY, &grown), None);
        assert!(loss(&grown, &EMPTY).is_some_and(|what| what.contains("was 5 and is 0")));
        let anew = StreamState { created: 2_000, last_sequence: 50, ..EMPTY };
        assert!(loss(&grown, &anew).is_some_and(|what| what.contains("made anew")));
    }
}
