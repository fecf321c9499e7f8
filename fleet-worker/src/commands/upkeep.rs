//! The maintenance of the database, beside what a program does else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleet_core::error::Result;
use fleet_sinks::timescale::{Connector, MaintainOptions, maintain};
use tokio::task::AbortHandle;

use crate::config::Config;

/// How often it is looked at; roll-ups are per minute.
const PAUSE: Duration = Duration::from_secs(60);

/// What the maintenance of this process has done.
#[derive(Debug, Default)]
pub struct UpkeepCounters {
    /// Minutes rolled up.
    pub minutes: AtomicU64,
    /// Chunks or partitions dropped for their age.
    pub dropped: AtomicU64,
    /// Runs that failed.
    pub failures: AtomicU64,
}

/// The maintenance in a task of its own, until it is dropped. Every program that knows the database does
/// it, and they take turns: workers may be scaled to zero, and discovery may lack the secrets.
#[derive(Debug)]
pub(super) struct Upkeep {
    task: Option<AbortHandle>,
    counters: Arc<UpkeepCounters>,
}

impl Upkeep {
    /// Begins it; without a database in the configuration there is nothing to do.
    pub(super) fn start(config: &Config) -> Self {
        let counters = Arc::new(UpkeepCounters::default());
        let task = match (options(config), super::connector(config)) {
            (Ok(options), Ok(connector)) => {
                Some(tokio::spawn(keep(connector, options, Arc::clone(&counters))))
            }
            _ => None,
        };
        Self { task: task.map(|task| task.abort_handle()), counters }
    }

    pub(super) fn counters(&self) -> Arc<UpkeepCounters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.task.iter().for_each(AbortHandle::abort);
    }
}

fn options(config: &Config) -> Result<MaintainOptions> {
    let setup = super::timescale(config)?.setup_options(config.nats.max_age, config.retention);
    Ok(MaintainOptions { partitions_ahead: setup.partitions_ahead, retention: setup.retention })
}

/// A failure is no reason to end: the sink has its own word on an outage, and the next run catches up.
async fn keep(connector: Connector, options: MaintainOptions, counters: Arc<UpkeepCounters>) {
    loop {
        let mut pause = PAUSE;
        match maintain(&connector, &options).await {
            Ok(done) => {
                counters.minutes.fetch_add(done.minutes, Ordering::Relaxed);
                counters.dropped.fetch_add(done.dropped, Ordering::Relaxed);
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
