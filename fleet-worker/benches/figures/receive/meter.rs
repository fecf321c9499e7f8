//! What a thread has used and received, noted by itself while it runs.

use std::ops::Sub;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleet_worker::clock::now;
use rustix::time::{ClockId, clock_gettime};

use super::publisher::LATITUDES;

/// How often the thread's clock is read.
const LOOK: Duration = Duration::from_millis(50);

/// CPU time so far, user and system, and messages.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    pub cpu: Duration,
    pub messages: u64,
}

impl Sub for Reading {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self { cpu: self.cpu - before.cpu, messages: self.messages - before.messages }
    }
}

#[derive(Debug, Default)]
pub(super) struct Meter {
    messages: AtomicU64,
    ready: AtomicBool,
    over: AtomicBool,
    last: Mutex<Option<(Instant, Reading)>>,
    /// Microseconds from publication to here, of some messages.
    waits: Mutex<Vec<u32>>,
}

impl Meter {
    pub(super) fn took(&self, messages: u64) {
        self.messages.fetch_add(messages, Ordering::Relaxed);
    }

    pub(super) fn has_taken(&self, messages: u64) {
        self.messages.store(messages, Ordering::Relaxed);
    }

    /// Everything that is published from here on is received.
    pub(super) fn is_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Notes how long a position was on its way; of one in sixteen, so that it costs nothing.
    pub(super) fn arrived(&self, payload: &[u8]) {
        let &[0xf1, _, _, _, _, _, _, _, _, _, _, _, a, b, c, d, ..] = payload else { return };
        let published = i64::from(i32::from_le_bytes([a, b, c, d]));
        if payload.len() == 20 && published % 16 == 0 {
            let wait = (now() - published).rem_euclid(LATITUDES);
            self.waits.lock().unwrap().push(u32::try_from(wait).unwrap());
        }
    }

    /// Reads this thread's clock until it is over.
    pub(super) async fn watch(self: Arc<Self>) {
        while !self.over.load(Ordering::Relaxed) {
            let used = clock_gettime(ClockId::ThreadCPUTime);
            let cpu = Duration::new(used.tv_sec.unsigned_abs(), u32::try_from(used.tv_nsec).unwrap());
            let reading = Reading { cpu, messages: self.messages.load(Ordering::Relaxed) };
            *self.last.lock().unwrap() = Some((Instant::now(), reading));
            tokio::time::sleep(LOOK).await;
        }
    }

    /// For the thread that measures: waits until the other one is ready.
    pub(super) fn until_ready(&self, within: Duration) {
        let deadline = Instant::now() + within;
        while !self.ready.load(Ordering::Relaxed) {
            assert!(Instant::now() < deadline, "it was not ready within {within:?}");
            pause(LOOK);
        }
    }

    /// The next reading after now.
    pub(super) fn reading(&self, within: Duration) -> Reading {
        let begun = Instant::now();
        loop {
            if let Some((at, reading)) = *self.last.lock().unwrap()
                && at >= begun
            {
                return reading;
            }
            assert!(begun.elapsed() < within, "the thread has not looked at its clock for {within:?}");
            pause(LOOK / 10);
        }
    }

    /// Forgets what was on its way so far.
    pub(super) fn forget_waits(&self) {
        self.waits.lock().unwrap().clear();
    }

    /// Milliseconds from publication that this share of the messages took at most.
    pub(super) fn wait(&self, share: f64) -> Option<f64> {
        let mut waits = self.waits.lock().unwrap();
        waits.sort_unstable();
        let last = waits.len().checked_sub(1)?;
        Some(f64::from(waits[(last as f64 * share) as usize]) / 1e3)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// For threads that only wait.
#[allow(clippy::disallowed_methods, reason = "a thread without a runtime")]
pub(super) fn pause(time: Duration) {
    std::thread::sleep(time);
}
