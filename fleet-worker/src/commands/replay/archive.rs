//! `replay --from-archive`: an archive back into the database, day by day.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use fleet_core::batch::{Record, Row};
use fleet_core::error::{Error, Result};
use fleet_core::time::{MINUTE, display_duration, micros, parse};
use fleet_core::{Micros, Schema, VehicleId};
use fleet_sinks::parquet::{Archive, Days, Records};
use fleet_sinks::timescale::bring_back;

use super::bar;
use super::stores::Stores;
use crate::cli::ReplayArgs;
use crate::config::{Config, archive_place};
use crate::terminal::say;

/// Records in memory at most: about half a gigabyte.
const MOST: usize = 2_000_000;

/// How often vehicles are done again that were claimed meanwhile.
const ROUNDS: usize = 8;

/// Loads what the arguments say.
///
/// # Errors
/// [`Data`](fleet_core::ErrorKind::Data) for files that can't be read, and if the database refuses rows.
pub(super) async fn from_archive(config: &Config, args: &ReplayArgs, place: &str) -> Result<()> {
    let place = archive_place(config, place).map_err(Error::configuration)?;
    let source = Days::open(&crate::commands::sinks::place(&place)?)?;
    let connector = crate::commands::connector(config)?;
    let kept_for = crate::commands::timescale(config)?.retention;
    let now = crate::clock::now();
    let span = args.from.map_or(Micros::MIN, |from| from.before(now))
        ..args.to.map_or(Micros::MAX, |to| to.before(now));
    let mut load = Load {
        schema: &config.schema,
        span,
        only: args.vehicle.iter().cloned().collect(),
        stores: Stores::database(config, args.dry_run).await?,
        bar: bar(),
    };
    let dates = source.dates().await?;
    let dates: Vec<String> = dates.into_iter().filter(|date| load.has_some_of(date)).collect();
    load.bar.set_length(dates.len() as u64);
    for date in &dates {
        let day = source.day(date).await?;
        if !args.dry_run && bring_back(&connector, date, kept_for).await? {
            let days = kept_for.map_or_else(|| "for good".to_owned(), |kept| format!("for {}", shown(kept)));
            say(format_args!("{date} had left the database and is back {days}"));
        }
        load.day(&day.archive, date).await?;
        load.bar.inc(1);
    }
    load.bar.finish_and_clear();
    let refused = load.stores.finish().await?;
    for row in refused.iter().take(10) {
        say(format_args!("refused: {}  {}", row.vehicle, row.reason));
    }
    let (rows, changed, days) = (load.stores.rows(), load.stores.changed(), dates.len());
    if args.dry_run {
        say(format_args!("dry run: {days} days, {rows} rows"));
    } else {
        say(format_args!(
            "{days} days, {rows} rows, {changed} of them new or changed; {} refused",
            refused.len()
        ));
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(Error::data(format!("{} rows of the archive could not be stored", refused.len())))
}

fn shown(duration: Duration) -> String {
    display_duration(micros(duration))
}

struct Load<'a> {
    schema: &'a Schema,
    span: Range<Micros>,
    only: BTreeSet<VehicleId>,
    stores: Stores,
    bar: indicatif::ProgressBar,
}

impl Load<'_> {
    /// Whether the span and a day have a part in common; also for a folder that is called otherwise.
    fn has_some_of(&self, date: &str) -> bool {
        let Ok(begin) = parse(&format!("{date}T00:00:00Z")) else { return true };
        begin < self.span.end && begin + 24 * 60 * MINUTE > self.span.start
    }

    async fn day(&mut self, archive: &Archive, date: &str) -> Result<()> {
        let mut first = self.only.first().cloned();
        loop {
            let (archive, schema) = (archive.clone(), self.schema.clone());
            let (of, from) = (date.to_owned(), first.clone());
            let part =
                tokio::task::spawn_blocking(move || archive.read_part(&schema, &of, from.as_ref(), MOST));
            let part =
                part.await.map_err(|e| Error::internal("the task that reads ended").caused_by(e))??;
            self.bar.set_message(format!("days, {} rows, {date}", self.stores.rows()));
            self.store(part.records).await?;
            first = part.next;
            if first.is_none() || first.as_ref() > self.only.last().or(first.as_ref()) {
                return Ok(());
            }
        }
    }

    /// Stores records under the claims of now; those of vehicles that are claimed meanwhile once more.
    async fn store(&mut self, mut records: Records) -> Result<()> {
        records.retain(|(vehicle, ts), _| {
            self.span.contains(ts) && (self.only.is_empty() || self.only.contains(vehicle))
        });
        for _ in 0..ROUNDS {
            let claimed = self.store_once(&records).await?;
            if claimed.is_empty() {
                return Ok(());
            }
            records.retain(|(vehicle, _), _| claimed.contains(vehicle));
        }
        let vehicle = records.keys().next().map_or_else(String::new, |(vehicle, _)| vehicle.to_string());
        Err(Error::unavailable(format!("vehicles such as {vehicle} go on being claimed: try again later")))
    }

    async fn store_once(&mut self, records: &Records) -> Result<BTreeSet<VehicleId>> {
        let vehicles: BTreeSet<VehicleId> = records.keys().map(|(vehicle, _)| vehicle.clone()).collect();
        let epochs = self.stores.epochs(&vehicles.into_iter().collect::<Vec<_>>()).await?;
        let (mut claimed, mut values) = (BTreeSet::new(), Vec::new());
        for ((vehicle, ts), Record { values: stored, quality }) in records {
            let epoch = epochs.get(vehicle).copied().unwrap_or(0);
            let key = self.stores.builder.vehicle(vehicle, epoch);
            values.clear();
            values.extend(stored.iter().map(|value| value.unwrap_or(f64::NAN)));
            self.stores
                .builder
                .push(key, Row { ts: *ts, values: &values, quality: *quality, correction: false });
            if self.stores.is_full() {
                claimed.extend(self.stores.store().await?);
            }
        }
        claimed.extend(self.stores.store().await?);
        Ok(claimed)
    }
}
