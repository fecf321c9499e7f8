//! The maintenance of the database, beside what a program does else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::error::Result;
use fleet_sinks::timescale::{Connector, JobTrouble, MaintainOptions, maintain};
use tokio::task::AbortHandle;

use crate::config::Config;

/// How often it is looked at; roll-ups are per minute.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// What the maintenance of this process has done.
#[derive(Debug, Default)]
pub struct UpkeepCounters {
    /// Minutes rolled up.
    pub minutes: AtomicU64,
    /// Chunks or partitions dropped for their age.
    pub dropped: AtomicU64,
    /// Runs that failed.
    pub failures: AtomicU64,
    /// Jobs of the database server that fail or don't run, when it was last looked.
    pub jobs: AtomicU64,
    /// Days that left the database for the archive.
    pub retired: AtomicU64,
    /// Old days that stay because the archive lacks something of them, when it was last looked.
    pub unarchived: AtomicU64,
}

/// The maintenance in a task of its own, until it is dropped. Every program that knows the database does
/// it, and they take turns: workers may be scaled to zero, and discovery may lack the secrets.
#[derive(Debug)]
pub(super) struct Upkeep {
    tasks: Vec<AbortHandle>,
    counters: Arc<UpkeepCounters>,
}

impl Upkeep {
    /// Begins it; without a database in the configuration there is nothing to do.
    pub(super) fn start(config: &Config) -> Self {
        let counters = Arc::new(UpkeepCounters::default());
        let mut tasks = Vec::new();
        if let (Ok(options), Ok(connector)) = (options(config), super::connector(config)) {
            tasks.push(tokio::spawn(keep(connector, options, Arc::clone(&counters))).abort_handle());
            // By itself, because it may take its time.
            let retiring = super::archive::retire(config.clone(), Arc::clone(&counters));
            tasks.push(tokio::spawn(retiring).abort_handle());
        }
        Self { tasks, counters }
    }

    pub(super) fn counters(&self) -> Arc<UpkeepCounters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

fn options(config: &Config) -> Result<MaintainOptions> {
    let setup = super::timescale(config)?.setup_options(config.nats.max_age, config.retention);
    Ok(MaintainOptions { partitions_ahead: setup.partitions_ahead, retention: setup.retention })
}

/// A failure is no reason to end: the sink has its own word on an outage, and the next run catches up.
async fn keep(connector: Connector, options: MaintainOptions, counters: Arc<UpkeepCounters>) {
    let mut jobs = Vec::new();
    loop {
        let mut pause = PAUSE;
        match maintain(&connector, &options).await {
            Ok(done) => {
                counters.minutes.fetch_add(done.minutes, Ordering::Relaxed);
                counters.dropped.fetch_add(done.dropped, Ordering::Relaxed);
                counters.jobs.store(done.jobs.len() as u64, Ordering::Relaxed);
                tell(&jobs, &done.jobs);
                jobs = done.jobs;
                if done.more {
                    pause = Duration::from_secs(1);
                }
            }
            Err(error) => {
                counters.failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(%error, "the database could not be maintained");
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Says once of each job that it is in trouble, and that it is no more.
fn tell(before: &[JobTrouble], now: &[JobTrouble]) {
    for JobTrouble { job, name, fault, detail, .. } in lacking(before, now) {
        tracing::warn!(job, name, detail, "a job of the database server does not do its work: {fault}");
    }
    for JobTrouble { job, name, .. } in lacking(now, before) {
        tracing::info!(job, name, "a job of the database server does its work again");
    }
}

/// Those of `of` that are not in `there`, whatever the server's words are.
fn lacking<'a>(there: &[JobTrouble], of: &'a [JobTrouble]) -> impl Iterator<Item = &'a JobTrouble> {
    of.iter().filter(move |t| !there.iter().any(|known| (known.job, known.fault) == (t.job, t.fault)))
}

#[cfg(test)]
mod tests {
    use fleet_sinks::timescale::JobFault::{self, Failed, Overdue};

    use super::*;

    fn trouble(job: i32, fault: JobFault, detail: &str) -> JobTrouble {
        JobTrouble { job, name: "policy_retention of telemetry".to_owned(), fault, detail: detail.to_owned() }
    }

    #[test]
    fn a_trouble_is_news_once() {
        let before = [trouble(1, Failed, "at 12:00"), trouble(2, Overdue, "")];
        let news = |now: &[JobTrouble]| {
            let jobs = |these: Vec<&JobTrouble>| these.into_iter().map(|t| t.job).collect::<Vec<_>>();
            (jobs(lacking(&before, now).collect()), jobs(lacking(now, &before).collect()))
        };
        assert_eq!(news(&before), (vec![], vec![]));
        assert_eq!(news(&[trouble(1, Failed, "at 12:01"), trouble(2, Overdue, "")]), (vec![], vec![]));
        assert_eq!(news(&[trouble(2, Overdue, ""), trouble(3, Failed, "")]), (vec![3], vec![1]));
        assert_eq!(news(&[]), (vec![], vec![1, 2]));
    }
}
