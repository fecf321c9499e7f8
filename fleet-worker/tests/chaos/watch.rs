//! Asks every program for its readiness and metrics, all the time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_worker::local::http_get;
use fleet_worker::metrics::sum;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::journal::Journal;
use crate::plan::Pod;

/// The metrics that symptoms and the report are made of.
pub(crate) const COUNTERS: [&str; 16] = [
    "fleet_bound",
    "fleet_bindings_total",
    "fleet_bindings_lost_total",
    "fleet_released_total",
    "fleet_catch_ups_total",
    "fleet_source_rounds_total",
    "fleet_source_reconnects_total",
    "fleet_messages_total",
    "fleet_durable_rows_total",
    "fleet_refused_total",
    "fleet_late_samples_total",
    "fleet_source_dead_letters_total",
    "fleet_discovery_on_total",
    "fleet_discovery_enqueued_total",
    "fleet_discovery_refused_total",
    "fleet_discovery_since_refused_total",
];

/// What a program answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Why it is not ready; empty if it is.
    pub(crate) unready: String,
    /// In the order of [`COUNTERS`].
    pub(crate) counters: Vec<u64>,
}

impl Answer {
    pub(crate) fn of(&self, counter: &str) -> u64 {
        let at = COUNTERS.iter().position(|name| *name == counter);
        at.and_then(|n| self.counters.get(n)).copied().unwrap_or(0)
    }
}

/// One look at one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) at: Duration,
    pub(crate) pod: Pod,
    /// `None`: there was no answer.
    pub(crate) answer: Option<Answer>,
}

/// All looks so far, and who takes them.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: JoinSet<()>,
}

impl Watch {
    pub(crate) fn begin(admins: Vec<(Pod, String)>, journal: &Arc<Journal>) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        for (pod, admin) in admins {
            let (seen, journal) = (Arc::clone(&seen), Arc::clone(journal));
            tasks.spawn(async move {
                loop {
                    let answer = ask(&admin).await;
                    let at = journal.elapsed();
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Seen { at, pod, answer });
                    sleep(Duration::from_millis(400)).await;
                }
            });
        }
        Self { seen, tasks }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What each program answered last; `None` for one that did not.
    pub(crate) fn last(&self) -> Vec<(Pod, Option<Answer>)> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Vec<(Pod, Option<Answer>)> = Vec::new();
        for one in seen.iter().rev() {
            if last.iter().all(|(pod, _)| *pod != one.pod) {
                last.push((one.pod, one.answer.clone()));
            }
            if last.len() == self.tasks.len() {
                break;
            }
        }
        last
    }
}

async fn ask(admin: &str) -> Option<Answer> {
    let (status, body) = http_get(admin, "/readyz").await?;
    let (_, metrics) = http_get(admin, "/metrics").await?;
    let unready = if status == 200 { String::new() } else { body.trim().to_owned() };
    let counters = COUNTERS.iter().map(|name| sum(&metrics, name).unwrap_or(0)).collect();
    Some(Answer { unready, counters })
}

/// How much a counter grew in all, over restarts, in all programs.
pub(crate) fn total(seen: &[Seen], counter: &str) -> u64 {
    let mut last: std::collections::BTreeMap<Pod, u64> = std::collections::BTreeMap::new();
    let mut total = 0;
    for (pod, answer) in seen.iter().filter_map(|one| Some((one.pod, one.answer.as_ref()?))) {
        let is = answer.of(counter);
        let was = last.insert(pod, is).unwrap_or(0);
        // A smaller one is that of a new process.
        total += if is >= was { is - was } else { is };
    }
    total
}
