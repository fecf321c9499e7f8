//! Gathers the wake-ups of a thread: at small rates a message costs what waking up costs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many messages one wake-up is to bring.
const MESSAGES: f64 = 64.0;

/// Below that many messages a second none waits for others.
const RATE: f64 = 50.0;

/// How long a thread sleeps at most …
const LONGEST: Duration = Duration::from_millis(20);

/// … and at least, if it does: at large rates more come in that time than a wake-up is to bring.
const SHORTEST: Duration = Duration::from_millis(1);

/// Over how long the rate is averaged.
const MEMORY: Duration = Duration::from_millis(250);

/// Makes a thread sleep before it waits for its connections, the longer the fewer messages come, so that it
/// wakes up for many at once. It delays whatever else the thread waits for by as much: by 20 ms at most.
///
/// For a thread with a runtime of its own: give [`sleep`](Self::sleep) to the runtime as
/// `Builder::on_thread_park`, and a clone to every source that the thread runs
/// ([`SourceOptions::ticks`](super::SourceOptions::ticks)). Without the first nothing is gathered.
#[derive(Debug, Clone, Default)]
pub struct Ticks(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Since the last sleep.
    messages: AtomicU64,
    pace: Mutex<Pace>,
}

/// How many messages come, and when they were last left to gather.
#[derive(Debug, Default)]
struct Pace {
    asked: Option<Instant>,
    woken: Option<Instant>,
    /// Messages a second.
    rate: f64,
}

impl Ticks {
    /// So many messages were taken.
    pub(crate) fn took(&self, messages: usize) {
        self.0.messages.fetch_add(messages as u64, Ordering::Relaxed);
    }

    /// Sleeps for as long as messages are to be left to gather. Blocks the thread, for 20 ms at most.
    #[allow(clippy::disallowed_methods, reason = "blocking the thread is what it is for")]
    pub fn sleep(&self) {
        let messages = self.0.messages.swap(0, Ordering::Relaxed);
        let mut pace = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = pace.pause(messages, Instant::now());
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        pace.woken = Some(Instant::now());
    }
}

impl Pace {
    /// How long to sleep, so many messages having been taken since this was asked last.
    fn pause(&mut self, messages: u64, now: Instant) -> Duration {
        let (asked, woken) = (self.asked.replace(now), self.woken.unwrap_or(now));
        if let Some(asked) = asked {
            let passed = (now - asked).as_secs_f64().max(1e-6);
            #[allow(clippy::cast_precision_loss, reason = "few")]
            let rate = messages as f64 / passed;
            self.rate += (rate - self.rate) * (passed / MEMORY.as_secs_f64()).min(1.0);
        }
        if self.rate < RATE {
            return Duration::ZERO;
        }
        let interval = Duration::from_secs_f64(MESSAGES / self.rate).clamp(SHORTEST, LONGEST);
        interval.saturating_sub(now - woken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pause that a steady rate comes to, where work takes no time.
    fn steady(rate: f64) -> Duration {
        let (mut pace, mut now, mut due) = (Pace::default(), Instant::now(), 0.0);
        let mut pause = Duration::ZERO;
        for _ in 0..10_000 {
            // Without a pause the thread is woken by the next message.
            let passed = pause.max(Duration::from_secs_f64(1.0 / rate));
            now += passed;
            due += passed.as_secs_f64() * rate;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and small")]
            let messages = due as u64;
            due -= messages as f64;
            pace.woken = Some(now);
            pause = pace.pause(messages, now);
        }
        pause
    }

    #[test]
    fn messages_gather_and_a_few_do_not_wait() {
        assert_eq!(steady(40.0), Duration::ZERO);
        assert_eq!(steady(1_000.0), LONGEST);
        let pause = steady(6_000.0);
        assert!((10..=11).contains(&pause.as_millis()), "{pause:?}");
        assert_eq!(steady(100_000.0), SHORTEST);
    }

    #[test]
    fn time_that_went_by_already_is_not_slept_again_and_silence_ends_it() {
        let (mut pace, begun) = (Pace { rate: 1_000.0, ..Pace::default() }, Instant::now());
        let at = |ms| begun + Duration::from_millis(ms);
        pace.woken = Some(at(0));
        assert_eq!(pace.pause(0, at(5)), Duration::from_millis(15), "worked for five");
        pace.woken = Some(at(20));
        assert_eq!(pace.pause(15, at(45)), Duration::ZERO, "waited for longer than that");
        for second in 1..4 {
            pace.pause(0, at(45 + second * 250));
        }
        assert!(pace.rate < RATE, "{}", pace.rate);
    }
}
