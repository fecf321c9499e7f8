//! Up to when every `on` has been dealt with. Only the last `on` of a vehicle is stored: one that nobody read may
//! have been replaced, so that samples are owed from then on.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::time::{MINUTE, Micros};

/// How long after a failure the `on` that failed, or what replaced it, has come again: after the longest pause.
const AGAIN: Micros = 2 * MINUTE;

/// What is stored of it, as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    /// Every `on` that was stored before this server time has been dealt with.
    pub until: Micros,
}

/// What the server says of discovery's consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// When it said so.
    pub now: Micros,
    /// Everything up to this sequence is acknowledged, or was replaced since it was delivered.
    pub ack_floor: u64,
    /// Nothing is left to be delivered or acknowledged.
    pub idle: bool,
}

#[derive(Deserialize)]
struct Info {
    ack_floor: Sequence,
    num_pending: u64,
    num_ack_pending: u64,
}

#[derive(Deserialize)]
struct Sequence {
    stream_seq: u64,
}

impl Progress {
    /// Parses the answer to `$JS.API.CONSUMER.INFO`, of that time.
    pub(super) fn parse(now: Micros, answer: &[u8]) -> Option<Self> {
        let info: Info = serde_json::from_slice(answer).ok()?;
        let idle = info.num_pending == 0 && info.num_ack_pending == 0;
        Some(Self { now, ack_floor: info.ack_floor.stream_seq, idle })
    }
}

/// Moves on with what the server and the reading say.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    until: Option<Micros>,
    /// Those that are being dealt with: when each sequence was stored. What replaces one takes it out of the
    /// server's count, not out of this.
    open: BTreeMap<u64, Micros>,
    /// The newest that came.
    newest: Option<(u64, Micros)>,
    /// The newest that had come when the server was asked before.
    before: Option<(u64, Micros)>,
    /// The oldest that failed, and until when it counts.
    failed: Option<(Micros, Micros)>,
}

impl Checkpoint {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing is being dealt with any more: the reading ended.
    pub(super) fn clear(&self) {
        self.state().open.clear();
    }

    /// The reading begins, perhaps of a stream that was made anew; `stored` is what was stored last, by whomever.
    pub(super) fn begin(&self, stored: Option<Stored>) {
        let mut state = self.state();
        (state.newest, state.before) = (None, None);
        state.until = state.until.max(stored.map(|stored| stored.until));
    }

    /// An `on` came, and is being dealt with.
    pub(super) fn came(&self, sequence: u64, stored: Micros) {
        let mut state = self.state();
        state.newest = state.newest.max(Some((sequence, stored)));
        state.open.insert(sequence, stored);
    }

    /// It has been dealt with.
    pub(super) fn done(&self, sequence: u64) {
        self.state().open.remove(&sequence);
    }

    /// It can't be dealt with now: it comes again, unless another replaces it.
    pub(super) fn failed(&self, sequence: u64, now: Micros) {
        let mut state = self.state();
        let Some(stored) = state.open.remove(&sequence) else { return };
        let oldest = state.failed.filter(|(_, counts)| *counts > now).map_or(stored, |(oldest, _)| oldest);
        state.failed = Some((oldest.min(stored), now + AGAIN));
        state.until = state.until.map(|until| until.min(stored));
    }

    /// Takes note of what the server says; up to when everything has been dealt with, if that is known.
    pub(super) fn observe(&self, progress: &Progress) -> Option<Stored> {
        let mut state = self.state();
        let open = |upto: u64| state.open.range(..=upto).next().is_some();
        let dealt = if progress.idle && state.open.is_empty() {
            Some(progress.now)
        } else {
            state.before.filter(|(upto, _)| progress.ack_floor >= *upto && !open(*upto)).map(|(_, at)| at)
        };
        if dealt.is_some() || state.before.is_none() {
            state.before = state.newest;
        }
        state.failed.take_if(|(_, counts)| *counts <= progress.now);
        if let Some(dealt) = dealt {
            state.until = Some(state.failed.map_or(dealt, |(oldest, _)| oldest.min(dealt)));
        }
        state.until.map(|until| Stored { until })
    }

    /// From when on an `on` may have been replaced before anybody dealt with it, by one that was stored then; that
    /// time itself if none.
    pub(super) fn unread_since(&self, stored: Micros) -> Micros {
        self.state().until.map_or(stored, |until| until.min(stored))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(now: Micros, ack_floor: u64, idle: bool) -> Progress {
        Progress { now, ack_floor, idle }
    }

    #[test]
    fn what_nobody_read_is_owed_since_the_last_that_was_dealt_with() {
        let checkpoint = Checkpoint::default();
        assert_eq!(checkpoint.unread_since(700), 700, "nothing is known");
        checkpoint.begin(Some(Stored { until: 300 }));
        assert_eq!(checkpoint.unread_since(700), 300);
        checkpoint.begin(Some(Stored { until: 200 }));
        assert_eq!(checkpoint.unread_since(700), 300, "an older answer of a replica");
        assert_eq!(checkpoint.observe(&progress(800, 0, true)), Some(Stored { until: 800 }));
        assert_eq!((checkpoint.unread_since(790), checkpoint.unread_since(900)), (790, 800));
    }

    #[test]
    fn a_server_that_is_never_idle_says_it_one_look_later() {
        let checkpoint = Checkpoint::default();
        checkpoint.begin(Some(Stored { until: 10 }));
        checkpoint.came(1, 100);
        assert_eq!(checkpoint.observe(&progress(105, 0, false)), Some(Stored { until: 10 }));
        checkpoint.came(2, 110);
        checkpoint.done(1);
        assert_eq!(checkpoint.observe(&progress(115, 1, false)), Some(Stored { until: 100 }));
        checkpoint.came(3, 120);
        assert_eq!(
            checkpoint.observe(&progress(125, 1, false)),
            Some(Stored { until: 100 }),
            "2 is in flight"
        );
        // It is replaced by 4, so that the server counts it as acknowledged.
        assert_eq!(checkpoint.observe(&progress(135, 3, true)), Some(Stored { until: 100 }), "it still is");
        checkpoint.done(2);
        assert_eq!(checkpoint.observe(&progress(145, 3, false)), Some(Stored { until: 110 }));
        // A stream that was made anew begins at 1.
        checkpoint.begin(None);
        checkpoint.done(3);
        checkpoint.came(1, 150);
        checkpoint.done(1);
        assert_eq!(checkpoint.observe(&progress(155, 1, false)), Some(Stored { until: 110 }));
        assert_eq!(checkpoint.observe(&progress(165, 1, false)), Some(Stored { until: 150 }));
    }

    #[test]
    fn what_failed_counts_until_it_has_come_again() {
        let checkpoint = Checkpoint::default();
        checkpoint.observe(&progress(100, 0, true));
        checkpoint.came(1, 90);
        checkpoint.came(2, 105);
        checkpoint.failed(2, 106);
        checkpoint.failed(1, 107);
        assert_eq!(checkpoint.unread_since(200), 90);
        let forgotten = 107 + AGAIN;
        assert_eq!(checkpoint.observe(&progress(forgotten - 1, 2, true)), Some(Stored { until: 90 }));
        assert_eq!(checkpoint.observe(&progress(forgotten, 2, true)), Some(Stored { until: forgotten }));
    }

    #[test]
    fn a_clock_that_is_set_back_is_followed() {
        let checkpoint = Checkpoint::default();
        checkpoint.observe(&progress(1_000, 0, true));
        checkpoint.observe(&progress(400, 0, true));
        assert_eq!(checkpoint.unread_since(500), 400);
    }

    #[test]
    fn a_reading_that_ended_leaves_nothing_open() {
        let checkpoint = Checkpoint::default();
        checkpoint.came(1, 100);
        assert_eq!(checkpoint.observe(&progress(200, 0, true)), None);
        checkpoint.clear();
        assert_eq!(checkpoint.observe(&progress(300, 0, true)), Some(Stored { until: 300 }));
    }
}
