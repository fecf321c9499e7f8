//! Partitions and chunks that rows need and that are not there: a vehicle makes a few in a batch at most,
//! and a transaction makes a few at most, whatever times devices claim.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::error::Result;
use fleet_core::time::{MINUTE, Micros, display};
use hashbrown::{HashMap, HashSet};

use super::connect::Connection;
use super::layout::Layout;
use super::partition;
use super::session::Load;
use super::value::Time;

/// A month's partitions or chunks at most are made for one vehicle in a batch: more than a backlog of
/// `max_past` needs by default, and few enough for the others to wait for.
const MOST: Micros = 32 * partition::DAY;

/// Partitions or chunks that one transaction makes at most.
pub(super) const AT_ONCE: usize = 8;

/// Spans that are known to be there at most; they are asked for again beyond.
const KNOWN: usize = 4_096;

/// The spans of time into which `telemetry` is cut, numbered from 1970 on.
#[derive(Debug)]
pub(super) struct Spans {
    width: Micros,
    /// Whether they are partitions; chunks otherwise.
    partitioned: bool,
    there: HashSet<i64>,
}

impl Spans {
    pub(super) fn width(&self) -> Micros {
        self.width
    }

    /// Asks how `telemetry` is cut; nothing if it is not.
    pub(super) async fn of(connection: &Connection, layout: Layout) -> Result<Option<Self>> {
        let spans = |width| Self { width, partitioned: layout.partitioned, there: HashSet::new() };
        if layout.partitioned {
            return Ok(Some(spans(partition::DAY)));
        }
        let ask = "select (extract(epoch from time_interval) * 1000000)::bigint \
                   from timescaledb_information.dimensions where hypertable_name = 'telemetry' \
                     and hypertable_schema = current_schema() and time_interval is not null";
        let client = connection.client();
        let asked = async {
            let there = "select to_regclass('timescaledb_information.dimensions') is not null";
            if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
                return Ok(None);
            }
            client.query_opt(ask, &[]).await
        };
        let found = asked.await.map_err(connection.failed("ask for the chunks of telemetry"))?;
        Ok(found.map(|row| row.get::<_, i64>(0)).filter(|width| *width >= MINUTE).map(spans))
    }

    /// What has to be made for these rows, beforehand or by storing them.
    pub(super) async fn lacking(
        &mut self,
        connection: &Connection,
        load: Load<'_>,
        rows: &[u32],
    ) -> Result<Lacking> {
        // A time within each that is not known of.
        let (mut asked, mut last) = (BTreeMap::new(), None);
        for row in rows.iter().map(|&row| row as usize) {
            let ts = load.rows.ts(row);
            let span = ts.div_euclid(self.width);
            // Mostly that of the row before.
            if last.replace(span) != Some(span) && !self.there.contains(&span) && load.rows.is_possible(row) {
                asked.entry(span).or_insert(ts);
            }
        }
        if asked.is_empty() {
            return Ok(Lacking::default());
        }
        let missing = self.missing(connection, &asked).await?;
        if self.there.len() + asked.len() > KNOWN {
            self.there.clear();
        }
        self.there.extend(asked.into_keys().filter(|span| !missing.contains(span)).take(KNOWN));
        Ok(Lacking::new(self.width, &missing, load, rows))
    }

    async fn missing(&self, connection: &Connection, asked: &BTreeMap<i64, Micros>) -> Result<BTreeSet<i64>> {
        let client = connection.client();
        let missing = async {
            if self.partitioned {
                return partition::missing(client, asked.keys().copied()).await;
            }
            let times: Vec<Time> = asked.values().copied().map(Time).collect();
            let ask = "with chunk as materialized ( \
                         select range_start, range_end from timescaledb_information.chunks \
                         where hypertable_name = 'telemetry' and hypertable_schema = current_schema()) \
                       select t from unnest($1::timestamptz[]) t where not exists ( \
                         select from chunk where range_start <= t and t < range_end)";
            let rows = client.query(ask, &[&times]).await?;
            Ok(rows.iter().map(|row| row.get::<_, Time>(0).0.div_euclid(self.width)).collect())
        };
        missing.await.map_err(connection.failed("look for partitions and chunks"))
    }
}

/// Spans that are not there, with the pieces in which they are made.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    width: Micros,
    /// By vehicle, as an index into the batch's: how many it would need, and the oldest that is made.
    too_many: HashMap<usize, (usize, i64)>,
    /// The piece of each that is made, from 1 on.
    pieces: BTreeMap<i64, usize>,
    missing: BTreeSet<i64>,
}

impl Lacking {
    fn new(width: Micros, missing: &BTreeSet<i64>, load: Load<'_>, rows: &[u32]) -> Self {
        let mut of_vehicles: HashMap<usize, BTreeSet<i64>> = HashMap::new();
        for row in rows.iter().map(|&row| row as usize) {
            let span = load.rows.ts(row).div_euclid(width);
            if missing.contains(&span) {
                of_vehicles.entry(load.rows.vehicle(row)).or_default().insert(span);
            }
        }
        let most = usize::try_from(MOST / width).unwrap_or_default().max(1);
        let (mut too_many, mut made) = (HashMap::new(), BTreeSet::new());
        for (vehicle, spans) in of_vehicles {
            if let Some(oldest) = spans.iter().rev().nth(most - 1).filter(|_| spans.len() > most) {
                too_many.insert(vehicle, (spans.len(), *oldest));
            }
            made.extend(spans.into_iter().rev().take(most));
        }
        let pieces = made.into_iter().enumerate().map(|(n, span)| (span, 1 + n / AT_ONCE)).collect();
        Self { width, too_many, pieces, missing: missing.clone() }
    }

    /// In how many pieces the rows go, the one that needs nothing included.
    pub(super) fn pieces(&self) -> usize {
        1 + self.pieces.last_key_value().map_or(0, |(_, last)| *last)
    }

    /// The piece in which a row goes: 0 needs nothing.
    ///
    /// # Errors
    /// In words that the vehicle would make too many.
    pub(super) fn piece(&self, vehicle: usize, ts: Micros) -> Result<usize, String> {
        if self.missing.is_empty() {
            return Ok(0);
        }
        let span = ts.div_euclid(self.width);
        if !self.missing.contains(&span) {
            return Ok(0);
        }
        match self.too_many.get(&vehicle) {
            Some((needed, oldest)) if span < *oldest => Err(format!(
                "ts {}: rows of its vehicle need {needed} new partitions or chunks at once, and only those \
                 from {} on are made",
                display(ts),
                display(oldest * self.width)
            )),
            _ => Ok(self.pieces.get(&span).copied().unwrap_or_default()),
        }
    }
}
