//! What an archive forgets: a vehicle that is erased, and days that are too old.

use std::sync::Arc;

use fleet_core::VehicleId;
use fleet_core::error::Result;
use fleet_core::nats::ServerClock;

use super::UpkeepCounters;
use crate::config::Config;

/// Removes a vehicle from the archive, if there is one; says how many rows of it there were.
///
/// # Errors
/// As [`fleet_sinks::parquet::erase`].
#[cfg(feature = "parquet")]
pub(super) async fn erase(config: &Config, vehicle: &VehicleId) -> Result<u64> {
    let Some(parquet) = &config.parquet else { return Ok(0) };
    let place = super::sinks::place(&parquet.place)?;
    fleet_sinks::parquet::erase(&place, vehicle, crate::clock::now()).await
}

#[cfg(not(feature = "parquet"))]
#[allow(clippy::unused_async, reason = "the shape with the feature")]
pub(super) async fn erase(_: &Config, _: &VehicleId) -> Result<u64> {
    Ok(0)
}

/// Takes days that the archive has out of the database, if it is configured; once an hour, in turns with all other
/// processes.
#[cfg(feature = "parquet")]
pub(super) async fn retire(config: Config, counters: Arc<UpkeepCounters>) {
    use std::sync::atomic::Ordering;

    use fleet_sinks::timescale::{RetireOptions, Retired, retire};

    let after = config.timescale.as_ref().and_then(|timescale| timescale.retention);
    let (Some(parquet), Some(after)) = (&config.parquet, after) else { return };
    let (Ok(archive), Ok(connector)) = (super::sinks::place(&parquet.place), super::connector(&config))
    else {
        return;
    };
    let options = RetireOptions { after, archive };
    let (mut told, mut failed) = (Vec::new(), None);
    loop {
        match retire(&connector, &config.schema, &options).await {
            Ok(Retired { had_turn: false, .. }) => {}
            Ok(Retired { days, kept, .. }) => {
                counters.retired.fetch_add(days.len() as u64, Ordering::Relaxed);
                counters.unarchived.store(kept.len() as u64, Ordering::Relaxed);
                for (day, records) in days {
                    tracing::info!(day, records, "a day left the database, the archive has it");
                }
                for (day, why) in kept.iter().filter(|day| !told.contains(*day)) {
                    tracing::warn!(
                        day,
                        why,
                        "an old day stays in the database, the archive does not have all of it"
                    );
                }
                (told, failed) = (kept, None);
            }
            Err(error) => {
                counters.failures.fetch_add(1, Ordering::Relaxed);
                let error = error.to_string();
                // One that can't be mended before the next upgrade is said once.
                if failed.as_ref() != Some(&error) {
                    tracing::warn!(error, "could not take old days out of the database");
                }
                failed = Some(error);
            }
        }
        tokio::time::sleep(super::upkeep::PAUSE).await;
    }
}

#[cfg(not(feature = "parquet"))]
#[allow(clippy::unused_async, reason = "the shape with the feature")]
pub(super) async fn retire(_: Config, _: Arc<UpkeepCounters>) {}

/// Drops the days of the archive that are older than the retention by the server's clock, now and once an
/// hour; does nothing where there is no archive or no retention.
#[cfg(feature = "parquet")]
pub(super) async fn keep(config: Config, clock: ServerClock) {
    use fleet_core::time::{display, micros};
    use fleet_sinks::parquet::drop_before;

    let (Some(parquet), Some(retention)) = (&config.parquet, config.retention) else { return };
    let Ok(place) = super::sinks::place(&parquet.place) else { return };
    loop {
        // One that was set ahead would empty the archive.
        let first_kept: String = display(clock.now() - micros(retention)).chars().take(10).collect();
        match drop_before(&place, &first_kept, crate::clock::now()).await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, before = first_kept, "dropped old days of the archive"),
            Err(error) => tracing::warn!(%error, "old days of the archive could not be dropped"),
        }
        tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
    }
}

#[cfg(not(feature = "parquet"))]
#[allow(clippy::unused_async, reason = "the shape with the feature")]
pub(super) async fn keep(_: Config, _: ServerClock) {}
