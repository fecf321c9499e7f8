//! `erase`: removes one vehicle, whose positions are personal data, from all that keeps them.

use std::time::Duration;

use fleet_core::VehicleId;
use fleet_core::error::{Error, Result};
use fleet_core::nats::{ErasedMessages, Eraser, connect};
use fleet_sinks::timescale::{Connector, ErasedRows, disown, erase};

use crate::cli::EraseArgs;
use crate::config::Config;
use crate::terminal::say;

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Erased {
    /// Out of the streams.
    pub messages: ErasedMessages,
    /// Out of the database.
    pub rows: ErasedRows,
    /// Rows out of the archive, later emissions of a record included.
    pub archived: u64,
    /// Whether something came after all was removed: the vehicle still sends.
    pub still_sends: bool,
}

/// A worker that was told to drop the vehicle may be storing a batch: for so long.
const SETTLE: Duration = Duration::from_secs(3);

/// How often a vehicle is taken from workers that bind it anew meanwhile.
const TRIES: usize = 3;

/// Removes the vehicle and prints what was removed.
///
/// # Errors
/// As [`erase_vehicle`]; [`Unavailable`](fleet_core::ErrorKind::Unavailable) too if the vehicle still sends.
pub async fn run(config: &Config, args: &EraseArgs) -> Result<()> {
    let erased = erase_vehicle(config, &args.vehicle).await?;
    for (what, count) in erased.counts() {
        say(format_args!("{what:<24}{count:>12}"));
    }
    if erased.still_sends {
        let text = format!(
            "{} still sends, so that more of it is stored: take its credentials away and erase it again",
            args.vehicle
        );
        return Err(Error::unavailable(text));
    }
    Ok(())
}

impl Erased {
    fn counts(&self) -> [(&'static str, u64); 7] {
        let Self { messages, rows, archived, .. } = self;
        [
            ("records", rows.records),
            ("trips", rows.trips),
            ("archived rows", *archived),
            ("stored messages", messages.telemetry),
            ("stored on and off", messages.lifecycle),
            ("bind requests", messages.bind_requests),
            ("dead letters", messages.dead_letters),
        ]
    }
}

/// Removes the vehicle from streams, database and archive. May be repeated. Rows that a worker has gathered
/// for the archive come into it later, after its `max_age` at most: then it must be.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) or
/// [`Configuration`](fleet_core::ErrorKind::Configuration); what was removed until then stays removed.
pub async fn erase_vehicle(config: &Config, vehicle: &VehicleId) -> Result<Erased> {
    let connector = super::connector(config)?;
    let client = connect(&config.nats.options(), "fleet-erase", |_| {}).await?;
    // Nothing is taken out of one deployment's streams for another's vehicle of that name.
    let js = async_nats::jetstream::new(client.clone());
    let owner = super::owner(&connector).await?;
    for names in config.names() {
        owner.require_stream(&js, &names).await?;
    }
    // It may have been moved from one cell to another.
    let erasers: Vec<Eraser> = config.names().map(|names| Eraser::new(client.clone(), &names)).collect();
    let mut messages = ErasedMessages::default();
    for eraser in &erasers {
        let ErasedMessages { lifecycle, bind_requests, .. } = eraser.forget_requests(vehicle).await?;
        messages.lifecycle += lifecycle;
        messages.bind_requests += bind_requests;
    }
    let rows = erase_rows(&erasers, &connector, vehicle).await?;
    for eraser in &erasers {
        let ErasedMessages { telemetry, dead_letters, .. } = eraser.purge_samples(vehicle).await?;
        messages.telemetry += telemetry;
        messages.dead_letters += dead_letters;
    }
    let archived = super::archive::erase(config, vehicle).await?;
    let mut still_sends = false;
    for eraser in &erasers {
        still_sends |= eraser.still_sends(vehicle).await?;
    }
    Ok(Erased { messages, rows, archived, still_sends })
}

/// Takes the vehicle from whoever holds it, and then its rows, until nothing of it comes again.
async fn erase_rows(erasers: &[Eraser], connector: &Connector, vehicle: &VehicleId) -> Result<ErasedRows> {
    let mut all = ErasedRows::default();
    for _ in 0..TRIES {
        if let Some(epoch) = disown(connector, vehicle).await? {
            for eraser in erasers {
                eraser.supersede(vehicle, epoch).await?;
            }
            tokio::time::sleep(SETTLE).await;
        }
        let erased = erase(connector, vehicle).await?;
        if !erased.known {
            return Ok(all);
        }
        all = ErasedRows {
            records: all.records + erased.records,
            trips: all.trips + erased.trips,
            known: true,
        };
    }
    let text =
        format!("{vehicle} is bound again and again: end its trip or stop discovery, and erase it again");
    Err(Error::unavailable(text))
}
