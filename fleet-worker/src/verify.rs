//! Compares the stored table with the independent reference.

use std::collections::BTreeMap;
use std::ops::Range;

use fleet_core::batch::Record;
use fleet_core::error::{Error, Result};
use fleet_core::reference::{self, Samples, Table};
use fleet_core::schema::{ColumnType, Schema};
use fleet_core::time::display;
use fleet_core::{Micros, VehicleId};
use futures_util::TryStreamExt;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use crate::simulate::Ledger;

/// What a comparison found.
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    /// Records in the table, duplicates included.
    pub stored: u64,
    /// Records that the samples give.
    pub expected: u64,
    /// Records that are not there.
    pub missing: u64,
    /// Records with another value or quality.
    pub wrong: u64,
    /// Records that are there more than once.
    pub duplicate: u64,
    /// Records that nothing gives.
    pub unexpected: u64,
    /// How many of all these each vehicle has, with the first and the last instant.
    pub spoiled: BTreeMap<VehicleId, (u64, Micros, Micros)>,
    /// The first few faults, in words.
    pub examples: Vec<String>,
    /// From publish to visible row, where the server keeps commit times.
    pub latency: Option<Latency>,
    /// The same of rows with a value of every signal, none of which sends no more. Others wait for one that does not
    /// come.
    pub latency_of_whole: Option<Latency>,
}

/// Seconds from the publish of the last sample that a row needed to the commit that wrote the row as
/// it is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Half of the rows were quicker.
    pub p50: f64,
    /// 99 of 100 rows were quicker.
    pub p99: f64,
    /// The slowest.
    pub max: f64,
}

impl Latency {
    /// Of these, if there is any.
    pub fn of(mut latencies: Vec<f64>) -> Option<Self> {
        latencies.sort_by(f64::total_cmp);
        let at = |share: usize| latencies.get((latencies.len().saturating_sub(1)) * share / 100).copied();
        Some(Self { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }

    /// For programs.
    pub fn to_json(self) -> serde_json::Value {
        serde_json::json!({ "p50": self.p50, "p99": self.p99, "max": self.max })
    }
}

impl Verdict {
    /// How many records there are of each kind, for programs.
    pub fn counts(&self) -> serde_json::Value {
        serde_json::json!({
            "stored": self.stored,
            "expected": self.expected,
            "missing": self.missing,
            "wrong": self.wrong,
            "duplicate": self.duplicate,
            "unexpected": self.unexpected,
        })
    }

    /// Whether the table is exactly what the samples give.
    pub fn is_good(&self) -> bool {
        self.missing == 0 && self.wrong == 0 && self.duplicate == 0 && self.unexpected == 0
    }

    /// Adds what another comparison has found.
    pub fn add(&mut self, other: Self) {
        self.stored += other.stored;
        self.expected += other.expected;
        self.missing += other.missing;
        self.wrong += other.wrong;
        self.duplicate += other.duplicate;
        self.unexpected += other.unexpected;
        self.spoiled.extend(other.spoiled);
        self.examples.extend(other.examples);
    }

    fn fault(&mut self, name: &VehicleId, ts: Micros, what: impl FnOnce() -> String) {
        let (count, _, last) = self.spoiled.entry(name.clone()).or_insert((0, ts, ts));
        *count += 1;
        *last = ts.max(*last);
        if self.examples.len() < 10 {
            self.examples.push(what());
        }
    }
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    ts: Micros,
    values: Vec<Option<f64>>,
    quality: i64,
    committed: Option<Micros>,
}

/// Vehicles per query.
const AT_ONCE: usize = 200;

/// Compares the table of the ledger's vehicles with what its samples give.
///
/// # Errors
/// [`Unavailable`](fleet_core::ErrorKind::Unavailable) with what the database says.
pub async fn verify(client: &Client, schema: &Schema, ledger: &Ledger) -> Result<Verdict> {
    Ok(verify_in(client, schema, ledger, &[]).await?.0)
}

/// The same, with how late the rows of each of these spans were, by when the last sample was published that a row
/// needed. Only those with a sample of every signal at hand count: others wait for what does not come.
///
/// # Errors
/// As [`verify`].
pub async fn verify_in(
    client: &Client,
    schema: &Schema,
    ledger: &Ledger,
    spans: &[Range<Micros>],
) -> Result<(Verdict, Vec<Option<Latency>>)> {
    let failed = |e: tokio_postgres::Error| Error::unavailable("the table can't be read").caused_by(e);
    let commits = client.query_one("show track_commit_timestamp", &[]).await.map_err(failed)?;
    let commits = commits.try_get::<_, String>(0).is_ok_and(|on| on == "on");
    let query = query(schema, commits);
    let mut verdict = Verdict::default();
    let (mut latencies, mut of_whole) = (Vec::new(), Vec::new());
    let mut in_spans = vec![Vec::new(); spans.len()];
    let names: Vec<&VehicleId> = ledger.vehicles().iter().collect();
    for (chunk, names) in names.chunks(AT_ONCE).enumerate() {
        let vins: Vec<&str> = names.iter().map(|v| v.as_str()).collect();
        let parameter: [&(dyn ToSql + Sync); 1] = [&vins];
        let rows = client.query_raw(&query, parameter).await.map_err(failed)?;
        let mut rows = std::pin::pin!(rows);
        let mut stored: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
        while let Some(row) = rows.try_next().await.map_err(failed)? {
            let (vin, row) = read(&row, schema, commits).map_err(failed)?;
            stored.entry(vin).or_default().push(row);
        }
        for (within, name) in names.iter().enumerate() {
            let number = chunk * AT_ONCE + within;
            let mut samples = vec![Samples::new(); schema.signals().len()];
            let mut published = vec![BTreeMap::new(); schema.signals().len()];
            for sample in ledger.of(number) {
                reference::add(&mut samples[sample.signal], sample.time, sample.values);
                published[sample.signal].entry(sample.time).or_insert(sample.published);
            }
            let expected = reference::table(schema, &samples);
            let stored = stored.remove(name.as_str()).unwrap_or_default();
            compare(&mut verdict, schema, name, &expected, &stored);
            for row in &stored {
                let Some((last, latency)) = latency(row, &published) else { continue };
                latencies.push(latency);
                let is_whole = |(signal, times): (usize, &BTreeMap<Micros, Micros>)| {
                    (row.quality >> (2 * signal)) & 3 != 0 && times.range(row.ts..).next().is_some()
                };
                if published.iter().enumerate().all(is_whole) {
                    of_whole.push(latency);
                    let of = spans.iter().zip(&mut in_spans).filter(|(span, _)| span.contains(&last));
                    of.for_each(|(_, latencies)| latencies.push(latency));
                }
            }
        }
    }
    verdict.latency = Latency::of(latencies);
    verdict.latency_of_whole = Latency::of(of_whole);
    Ok((verdict, in_spans.into_iter().map(Latency::of).collect()))
}

fn query(schema: &Schema, commits: bool) -> String {
    let micros = |what: &str| format!("(extract(epoch from {what}) * 1000000)::bigint");
    let columns: Vec<String> = schema.columns().map(|c| format!("t.\"{}\"::float8", c.name)).collect();
    let committed =
        if commits { micros("pg_xact_commit_timestamp(t.xmin)") } else { "null::bigint".to_owned() };
    format!(
        "select v.vin, {}, t.quality, {committed}, {} from telemetry t join vehicle v using (vehicle_id) \
         where v.vin = any($1) order by v.vin, t.ts",
        micros("t.ts"),
        columns.join(", ")
    )
}

fn read(row: &Row, schema: &Schema, commits: bool) -> Result<(String, Stored), tokio_postgres::Error> {
    let values = (0..schema.column_count()).map(|c| row.try_get(4 + c)).collect::<Result<_, _>>()?;
    let committed = if commits { row.try_get(3)? } else { None };
    Ok((row.try_get(0)?, Stored { ts: row.try_get(1)?, values, quality: row.try_get(2)?, committed }))
}

/// Walks both tables of one vehicle, which are in the order of time.
fn compare(verdict: &mut Verdict, schema: &Schema, name: &VehicleId, expected: &Table, stored: &[Stored]) {
    verdict.stored += stored.len() as u64;
    verdict.expected += expected.len() as u64;
    let mut by_time: BTreeMap<Micros, Vec<&Stored>> = BTreeMap::new();
    for row in stored {
        by_time.entry(row.ts).or_default().push(row);
    }
    for (ts, row) in expected {
        let Some(found) = by_time.remove(ts) else {
            verdict.missing += 1;
            verdict.fault(name, *ts, || format!("missing: {name} {} with {:?}", display(*ts), row.values));
            continue;
        };
        if found.len() > 1 {
            verdict.duplicate += found.len() as u64 - 1;
            verdict.fault(name, *ts, || format!("{} times: {name} {}", found.len(), display(*ts)));
        }
        for stored in found.iter().filter(|stored| !same(schema, row, stored)) {
            verdict.wrong += 1;
            verdict.fault(name, *ts, || {
                let (is, must) = ((&stored.values, stored.quality), (&row.values, row.quality));
                format!("wrong: {name} {} is {is:?} and must be {must:?}", display(*ts))
            });
        }
    }
    for (ts, rows) in by_time {
        verdict.unexpected += rows.len() as u64;
        verdict.fault(name, ts, || format!("unexpected: {name} {} with {:?}", display(ts), rows[0].values));
    }
}

/// Equal but for the last bits, in which two ways to compute the same may differ.
fn same(schema: &Schema, expected: &Record, stored: &Stored) -> bool {
    let close = |must: f64, is: f64, kind: ColumnType| match kind {
        // Degrees: a tenth of a millimetre. An f64 of a scaled integer: a part in 10^12.
        ColumnType::Double => (must - is).abs() <= 1e-9_f64.max(must.abs() * 1e-12),
        // One step of an f32.
        ColumnType::Real => (must - is).abs() <= f64::from(f32::EPSILON) * must.abs().max(f64::MIN_POSITIVE),
    };
    expected.quality == stored.quality
        && schema.columns().zip(expected.values.iter().zip(&stored.values)).all(|(column, pair)| match pair {
            (Some(must), Some(is)) => close(*must, *is, column.kind),
            (None, None) => true,
            _ => false,
        })
}

/// When the last sample was published that the row needed, of each signal the first at or after the instant; from
/// then to its commit, seconds.
fn latency(row: &Stored, published: &[BTreeMap<Micros, Micros>]) -> Option<(Micros, f64)> {
    let needed = published.iter().enumerate().filter(|(signal, _)| (row.quality >> (2 * signal)) & 3 != 0);
    let last = needed.filter_map(|(_, times)| times.range(row.ts..).next().map(|(_, at)| *at)).max()?;
    #[allow(clippy::cast_precision_loss, reason = "seconds")]
    Some((last, (row.committed? - last) as f64 / 1e6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> (Table, Vec<Stored>) {
        let values = vec![Some(48.0), Some(11.0), Some(50.5), None, None];
        let rows = (1..=3).map(|n| n * 10_000_000);
        let expected = rows.clone().map(|ts| (ts, Record { values: values.clone(), quality: 0b1010 }));
        let stored = rows.map(|ts| Stored { ts, values: values.clone(), quality: 0b1010, committed: None });
        (expected.collect(), stored.collect())
    }

    fn verdict(change: impl FnOnce(&mut Vec<Stored>)) -> Verdict {
        let (expected, mut stored) = rows();
        change(&mut stored);
        let mut verdict = Verdict::default();
        compare(&mut verdict, &Schema::default(), &VehicleId::new("V").unwrap(), &expected, &stored);
        verdict
    }

    #[test]
    fn planted_faults_are_found() {
        assert!(verdict(|_| {}).is_good());
        let missing = verdict(|rows| drop(rows.remove(1)));
        assert_eq!((missing.missing, missing.is_good()), (1, false));
        assert_eq!(verdict(|rows| rows[1].values[0] = Some(48.000_001)).wrong, 1);
        assert_eq!(verdict(|rows| rows[1].values[2] = Some(50.500_1)).wrong, 1);
        assert_eq!(verdict(|rows| rows[1].values[2] = None).wrong, 1);
        assert_eq!(verdict(|rows| rows[1].quality = 0b1001).wrong, 1);
        assert_eq!(verdict(|rows| rows.insert(1, rows[1].clone())).duplicate, 1);
        assert_eq!(verdict(|rows| rows[2].ts += 1).unexpected, 1);
    }

    #[test]
    fn latency_counts_from_the_last_sample_that_was_needed() {
        let (_, mut stored) = rows();
        stored[0].committed = Some(30_000_000);
        let position =
            BTreeMap::from([(9_000_000, 9_500_000), (12_000_000, 12_500_000), (19_000_000, 20_000_000)]);
        let speed = BTreeMap::from([(15_000_000, 16_000_000)]);
        let fuel = BTreeMap::from([(29_000_000, 29_500_000)]);
        let published = [position, speed, fuel, BTreeMap::new()];
        assert_eq!(latency(&stored[0], &published), Some((16_000_000, 14.0)));
        assert_eq!(Latency::of(Vec::new()), None);
    }
}
