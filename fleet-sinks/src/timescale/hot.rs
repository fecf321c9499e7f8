//! Which chunks or partitions of `telemetry` are hot: those that nothing but rows of now and of a catch-up is
//! written to. Older ones may be compressed, or locked for a while.

use std::time::Duration;

use fleet_core::error::Result;
use fleet_core::time::{MINUTE, Micros, grid_at_or_before};

use super::clock::ServerTime;
use super::connect::Connection;
use super::partition::DAY;

/// A chunk counts as cold this long before it may be compressed: what is on its way to it is stored by then.
const MARGIN: Micros = 5 * MINUTE;

/// How long an answer holds: a setup may change the age, and the server's clock may be set.
const HOLDS: Duration = Duration::from_secs(5 * 60);

/// What the server has said of its clock and of the age at which it compresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hot {
    time: ServerTime,
    hot_for: Micros,
    width: Option<Micros>,
}

impl Hot {
    /// Asks, of a table that is cut into chunks or partitions of that width.
    pub(super) async fn of(connection: &Connection, width: Option<Micros>) -> Result<Self> {
        const NOW: &str = "select (extract(epoch from now()) * 1000000)::bigint, \
                             to_regclass('timescaledb_information.jobs') is not null";
        const AGE: &str = "select (extract(epoch from (config->>'compress_after')::interval) * 1000000)::bigint \
            from timescaledb_information.jobs where proc_name = 'policy_compression' \
              and hypertable_schema = current_schema() and hypertable_name = 'telemetry'";
        let client = connection.client();
        let asked = async {
            let row = client.query_one(NOW, &[]).await?;
            let age = if row.get(1) { client.query_opt(AGE, &[]).await? } else { None };
            Ok((row.get(0), age.and_then(|age| age.get(0))))
        };
        let (now, age) = asked.await.map_err(connection.failed("ask for the age of compressed chunks"))?;
        Ok(Self { time: ServerTime::new(now), hot_for: age.unwrap_or(DAY), width })
    }

    /// Whether it is time to ask again.
    pub(super) fn is_old(&self) -> bool {
        self.time.age() >= HOLDS
    }

    /// The server's time.
    pub(super) fn time(&self) -> ServerTime {
        self.time
    }

    /// Where the first hot chunk begins, now.
    pub(super) fn since(&self) -> Micros {
        self.since_at(self.time.now())
    }

    fn since_at(&self, now: Micros) -> Micros {
        let from = now.saturating_sub(self.hot_for.saturating_sub(MARGIN).max(0));
        self.width.map_or(from, |width| grid_at_or_before(from, width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_hot_until_it_may_be_compressed() {
        const HOUR: Micros = 60 * MINUTE;
        let hot = |hot_for, width| Hot { time: ServerTime::new(0), hot_for, width };
        let daily = hot(12 * HOUR, Some(DAY));
        let midnight = 20_000 * DAY;
        assert_eq!(daily.since_at(midnight + 12 * HOUR - MARGIN - 1), midnight - DAY);
        assert_eq!(daily.since_at(midnight + 12 * HOUR - MARGIN), midnight);
        assert_eq!(hot(12 * HOUR, Some(HOUR)).since_at(midnight), midnight - 12 * HOUR);
        // The chunk of now is hot, whatever the age.
        assert_eq!(hot(MINUTE, Some(HOUR)).since_at(midnight + 1), midnight);
        assert_eq!(hot(HOUR, None).since_at(midnight), midnight - HOUR + MARGIN);
    }
}
