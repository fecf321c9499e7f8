//! How soon what is published can be seen, by somebody who looks again and again at some of the vehicles.

use std::collections::HashMap;
use std::time::Duration;

use fleet_core::error::{Error, Result};
use fleet_core::{Micros, Schema};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::Client;

use crate::simulate::{Ledger, Sampled};
use crate::verify::Latency;

/// The vehicles that are looked at: the first ones that were bound.
const VEHICLES: i32 = 50;

/// How often. What is seen may have been there for so long.
const EVERY: Duration = Duration::from_millis(250);

/// Somebody who looks.
pub(super) struct Watch {
    looking: JoinHandle<Result<Seen>>,
    stop: oneshot::Sender<()>,
}

/// When somebody looked, and found a newest sample of that instant.
type Look = (Micros, Micros);

/// What was seen, and when.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// By vehicle each newest sample of the first signal.
    newest: HashMap<String, Vec<Look>>,
    /// By vehicle and instant each record with a value of the first two signals.
    records: HashMap<String, HashMap<Micros, Micros>>,
}

impl Watch {
    /// Begins to look.
    pub(super) fn begin(client: Client, schema: &Schema) -> Self {
        let (stop, stopped) = oneshot::channel();
        let queries = Queries::of(schema);
        Self { looking: tokio::spawn(look(client, queries, stopped)), stop }
    }

    /// Ends it.
    pub(super) async fn end(self) -> Result<Seen> {
        let _ = self.stop.send(());
        self.looking.await.map_err(|e| Error::internal("the watch ended").caused_by(e))?
    }
}

struct Queries {
    newest: String,
    records: String,
}

impl Queries {
    fn of(schema: &Schema) -> Self {
        let micros = |what: &str| format!("(extract(epoch from {what}) * 1000000)::bigint");
        let signals = &schema.signals()[..schema.signals().len().min(2)];
        let columns = signals.iter().flat_map(|signal| &signal.columns);
        let there: Vec<_> = columns.map(|column| format!("\"{}\" is not null", column.name)).collect();
        let at = format!("\"{}_at\"", signals[0].name);
        Self {
            newest: format!(
                "select vin, {} from fleet_last where vehicle_id <= {VEHICLES} and {at} is not null",
                micros(&at)
            ),
            records: format!(
                "select vin, {} from fleet_record where vehicle_id <= {VEHICLES} \
                   and ts > now() - interval '2 minutes' and {}",
                micros("ts"),
                there.join(" and ")
            ),
        }
    }
}

async fn look(client: Client, queries: Queries, mut stopped: oneshot::Receiver<()>) -> Result<Seen> {
    let failed = |e: tokio_postgres::Error| Error::unavailable("the vehicles can't be watched").caused_by(e);
    let mut seen = Seen::default();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = &mut stopped => return Ok(seen),
            _ = ticks.tick() => {}
        }
        let newest = client.query(&queries.newest, &[]).await.map_err(failed)?;
        let records = client.query(&queries.records, &[]).await.map_err(failed)?;
        let now = crate::clock::now();
        for row in newest {
            seen.see_newest(row.get(0), now, row.get(1));
        }
        for row in records {
            seen.records.entry(row.get(0)).or_default().entry(row.get(1)).or_insert(now);
        }
    }
}

impl Seen {
    fn see_newest(&mut self, vehicle: String, now: Micros, at: Micros) {
        let looks = self.newest.entry(vehicle).or_default();
        if looks.last().is_none_or(|(_, last)| *last < at) {
            looks.push((now, at));
        }
    }

    /// From the publish of a sample of the first signal, while the vehicle is shown, until it or a newer one is seen.
    /// One that comes after a newer one is no news.
    pub(super) fn to_newest(&self, ledger: &Ledger) -> Option<Latency> {
        let mut latencies = Vec::new();
        for (number, vehicle) in ledger.vehicles().iter().enumerate() {
            let Some(looks) = self.newest.get(vehicle.as_str()) else { continue };
            let first = ledger.of(number).filter(|sample| sample.signal == 0);
            let mut samples: Vec<_> = first.map(|sample| (sample.published, sample.time)).collect();
            samples.sort_unstable();
            let mut newest = Micros::MIN;
            for (published, time) in samples {
                let is_news = time > newest && looks[0].0 <= published;
                newest = newest.max(time);
                if is_news {
                    let found = looks.get(looks.partition_point(|(_, at)| *at < time));
                    latencies.push(found.map_or(f64::INFINITY, |(now, _)| seconds(now - published)));
                }
            }
        }
        Latency::of(latencies)
    }

    /// From the publish of the last sample of the first two signals that a record needs until it is seen with both.
    pub(super) fn to_record(&self, ledger: &Ledger) -> Option<Latency> {
        let mut latencies = Vec::new();
        for (number, vehicle) in ledger.vehicles().iter().enumerate() {
            let Some(records) = self.records.get(vehicle.as_str()) else { continue };
            let of = |signal| -> Vec<Sampled<'_>> {
                ledger.of(number).filter(|sample| sample.signal == signal).collect()
            };
            let signals = [of(0), of(1)];
            for (ts, now) in records {
                let needed = signals.iter().filter(|samples| !samples.is_empty()).map(|samples| {
                    samples.get(samples.partition_point(|sample| sample.time < *ts)).map(|s| s.published)
                });
                if let Some(last) = needed.collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max()) {
                    latencies.push(seconds(now - last));
                }
            }
        }
        Latency::of(latencies)
    }
}

#[allow(clippy::cast_precision_loss, reason = "seconds")]
fn seconds(micros: Micros) -> f64 {
    micros.max(0) as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use fleet_core::VehicleId;

    use super::*;

    const SECOND: Micros = 1_000_000;

    fn ledger(samples: &[(usize, Micros, Micros)]) -> Ledger {
        let mut ledger = Ledger::new(vec![VehicleId::new("V").unwrap()]);
        for (signal, time, published) in samples {
            let (time, published) = (time * SECOND, published * SECOND);
            ledger.add(0, Sampled { signal: *signal, time, published, values: &[1.0] });
        }
        ledger.sort();
        ledger
    }

    fn near(latency: Option<Latency>, p50: f64, max: f64) {
        let latency = latency.unwrap();
        assert!((latency.p50 - p50).abs() < 1e-9 && (latency.max - max).abs() < 1e-9, "{latency:?}");
    }

    #[test]
    fn a_sample_is_seen_with_the_first_that_is_as_new() {
        let mut seen = Seen::default();
        for (now, at) in [(10, 9), (11, 9), (14, 13), (20, 16)] {
            seen.see_newest("V".to_owned(), now * SECOND, at * SECOND);
        }
        // Before it was shown; two that are seen at once; one after a newer one; the last one.
        let ledger = ledger(&[(0, 9, 9), (0, 12, 12), (0, 13, 13), (0, 11, 15), (0, 16, 17), (1, 19, 19)]);
        near(seen.to_newest(&ledger), 2.0, 3.0);
        assert_eq!(Seen::default().to_newest(&ledger), None);
    }

    #[test]
    fn a_sample_that_is_never_seen_is_no_quick_one() {
        let mut seen = Seen::default();
        seen.see_newest("V".to_owned(), SECOND, SECOND);
        assert_eq!(seen.to_newest(&ledger(&[(0, 2, 2)])).unwrap().max, f64::INFINITY);
    }

    #[test]
    fn a_record_counts_from_the_last_sample_that_it_needs() {
        let mut seen = Seen::default();
        let records = [(10 * SECOND, 19 * SECOND), (20 * SECOND, 30 * SECOND)];
        seen.records.insert("V".to_owned(), records.into_iter().collect());
        let ledger = ledger(&[(0, 12, 12), (1, 14, 15), (1, 21, 21), (2, 40, 40)]);
        near(seen.to_record(&ledger), 4.0, 4.0);
    }
}
