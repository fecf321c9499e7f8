//! What really happened and when, and what should not have.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::plan::{Fault, Planned};

/// A fault that was done, counted from the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) fault: Fault,
    pub(crate) begun: Duration,
    /// When mending it began; a symptom must have been seen by then.
    pub(crate) ended: Duration,
    /// When it was mended.
    pub(crate) over: Duration,
}

#[derive(Debug)]
pub(crate) struct Journal {
    start: Instant,
    happened: Mutex<Vec<Happened>>,
    problems: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    pub(crate) fn begin() -> Self {
        Self { start: Instant::now(), happened: Mutex::default(), problems: Mutex::default() }
    }

    /// Begins anew with what was wrong before.
    pub(crate) fn carrying(problems: Vec<String>) -> Self {
        Self { problems: Mutex::new(problems), ..Self::begin() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub(crate) fn happened(&self) -> Vec<Happened> {
        lock(&self.happened).clone()
    }

    pub(crate) fn problem(&self, what: impl std::fmt::Display) {
        lock(&self.problems).push(format!("at {:.1} s: {what}", self.elapsed().as_secs_f64()));
    }

    pub(crate) fn problems(&self) -> Vec<String> {
        lock(&self.problems).clone()
    }

    /// Does the faults of one track, one after the other; `set` makes one come and go.
    pub(crate) async fn follow(
        &self,
        plan: Vec<Planned>,
        mut set: impl AsyncFnMut(Fault, bool) -> Result<(), String>,
    ) {
        for Planned { at, lasts, fault } in plan {
            // Later, if mending the one before took longer than the plan knew.
            sleep_until(self.start + at).await;
            let begun = self.elapsed();
            if let Err(why) = set(fault, true).await {
                self.problem(format_args!("{fault} could not be done: {why}"));
            }
            sleep(lasts).await;
            let ended = self.elapsed();
            if let Err(why) = set(fault, false).await {
                self.problem(format_args!("{fault} could not be mended: {why}"));
            }
            lock(&self.happened).push(Happened { fault, begun, ended, over: self.elapsed() });
        }
    }
}
