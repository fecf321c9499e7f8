//! Records out of the telemetry stream, once more.

use std::collections::BTreeSet;

use bytes::Bytes;
use fleet_core::align::{Aligner, Methods};
use fleet_core::error::{Error, Result};
use fleet_core::ids::SignalIndex;
use fleet_core::nats::{Begin, History, Told};
use fleet_core::time::display;
use fleet_core::{Micros, Schema, VehicleId};
use indicatif::ProgressBar;

use super::gather::{Gather, Group, Spans};
use super::stores::Stores;

/// Samples in memory at most, of all vehicles together: about a gigabyte.
pub(super) const ROOM: usize = 40_000_000;

/// How often vehicles are done again of which something came meanwhile.
const ROUNDS: usize = 8;

/// A message that is used although it may not be in the stream.
#[derive(Debug, Clone)]
pub(super) struct Extra {
    pub vehicle: VehicleId,
    pub signal: SignalIndex,
    pub payload: Bytes,
    pub stored: Micros,
}

/// Derives rows from a stream.
pub(super) struct Deriver {
    history: History,
    aligner: Aligner,
    begins: Option<Micros>,
    now: Micros,
    room: usize,
    bar: ProgressBar,
}

impl Deriver {
    /// Looks at the stream; the first vehicle has been known since `known_since`.
    ///
    /// # Errors
    /// As of [`History::begins`]; [`Configuration`](fleet_core::ErrorKind::Configuration) for methods
    /// that can't be had.
    pub(super) async fn new(
        history: History,
        known_since: Option<Micros>,
        schema: &Schema,
        room: usize,
        bar: ProgressBar,
    ) -> Result<Self> {
        let aligner = Aligner::new(schema, &Methods::default()).map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Error::configuration(problems.join("; "))
        })?;
        let begins = history.begins(known_since).await?;
        let now = history.now();
        Ok(Self { history, aligner, begins, now, room, bar })
    }

    /// The server's time at its beginning.
    pub(super) fn now(&self) -> Micros {
        self.now
    }

    /// How much event time around a sample its rows are in, and around a row its samples.
    pub(super) fn context(&self) -> Micros {
        self.aligner.context()
    }

    /// The first row that can be derived, for which the stream must hold all that came since a context
    /// before; `None` where it has never lost anything.
    pub(super) fn earliest(&self) -> Option<Micros> {
        let before = self.context().saturating_add(self.aligner.schema().max_future());
        self.begins.map(|begins| begins.saturating_add(before))
    }

    /// Rows from there on may change by every message that comes in time.
    pub(super) fn latest(&self) -> Micros {
        self.now.saturating_sub(self.context())
    }

    /// Why the rows of this span can't be derived now, if they can't.
    pub(super) fn refuses(&self, from: Micros, to: Micros) -> Option<String> {
        if let Some(earliest) = self.earliest().filter(|earliest| from < *earliest) {
            return Some(format!("the stream no longer holds what rows before {} need", display(earliest)));
        }
        let latest = self.latest();
        (to > latest).then(|| format!("rows from {} on may still change", display(latest)))
    }

    /// Derives the rows of these spans and stores them.
    ///
    /// A worker that writes the same rows knows what came after our sweep. So vehicles of which something
    /// came meanwhile, and those that were claimed meanwhile, are done once more.
    ///
    /// # Errors
    /// [`Unavailable`](fleet_core::ErrorKind::Unavailable), also if samples of the spans go on coming.
    pub(super) async fn derive(&self, spans: &Spans, extra: &[Extra], stores: &mut Stores) -> Result<()> {
        let mut spans = spans.clone();
        for _ in 0..ROUNDS {
            let (mut again, end) = self.round(&spans, extra, stores).await?;
            if !stores.is_dry() {
                again.extend(self.came_after(end, &spans).await?);
            }
            if again.is_empty() {
                return Ok(());
            }
            tracing::debug!(vehicles = again.len(), "something came meanwhile, once more");
            spans = spans.only(again);
        }
        let vehicle = spans.each.keys().next().map_or_else(String::new, ToString::to_string);
        let (many, what) = (spans.each.len(), "samples of the time that is replayed go on coming");
        Err(Error::unavailable(format!("{what}, of {many} vehicles such as {vehicle}: try again later")))
    }

    /// One pass over the stream for as many vehicles as there is room for, then for the others. The
    /// vehicles that were claimed meanwhile, and where the first pass ended.
    async fn round(
        &self,
        spans: &Spans,
        extra: &[Extra],
        stores: &mut Stores,
    ) -> Result<(BTreeSet<VehicleId>, u64)> {
        let Some(first) = spans.first() else { return Ok((BTreeSet::new(), u64::MAX)) };
        let begin = first.saturating_sub(self.context()).saturating_sub(self.aligner.schema().max_future());
        let (mut groups, mut claimed, mut end) = (vec![Group::ALL], BTreeSet::new(), u64::MAX);
        while let Some(group) = groups.pop() {
            let mut gather = Gather::new(&self.aligner, spans, group, self.room);
            for Extra { vehicle, signal, payload, stored } in extra {
                gather.take(vehicle, *signal, payload, *stored);
            }
            let mut sweep = self.history.sweep(Begin::At(begin), &spans.vehicles()).await?;
            end = end.min(sweep.end());
            let mut read = 0_u64;
            while sweep
                .next(|Told { vehicle, signal, payload, stored, .. }| {
                    read += 1;
                    // No other name is ever bound.
                    let Ok(vehicle) = VehicleId::new(vehicle) else { return };
                    gather.take(&vehicle, signal, payload, stored);
                    groups.extend(gather.set_aside());
                })
                .await?
            {
                self.bar.set_length(read + sweep.pending());
                self.bar.set_position(read);
                self.bar.set_message(format!("messages, {} rows", stores.rows()));
            }
            claimed.extend(stores.write(&gather).await?);
        }
        Ok((claimed, end))
    }

    /// The vehicles of which something came for the spans after this place in the stream.
    async fn came_after(&self, end: u64, spans: &Spans) -> Result<BTreeSet<VehicleId>> {
        let mut gather = Gather::new(&self.aligner, spans, Group::ALL, self.room);
        let mut vehicles = BTreeSet::new();
        if end == u64::MAX {
            return Ok(vehicles);
        }
        let mut sweep = self.history.sweep(Begin::After(end), &spans.vehicles()).await?;
        let mut take = |told: Told<'_>| {
            let Ok(vehicle) = VehicleId::new(told.vehicle) else { return };
            if gather.take(&vehicle, told.signal, told.payload, told.stored) {
                vehicles.insert(vehicle);
            }
        };
        while sweep.next(&mut take).await? {}
        Ok(vehicles)
    }
}
