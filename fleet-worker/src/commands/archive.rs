//! What an archive forgets: a vehicle that is erased, and days that are too old.

use fleet_core::VehicleId;
use fleet_core::error::Result;
use fleet_core::nats::ServerClock;

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
