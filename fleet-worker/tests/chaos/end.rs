//! What must hold once everything is over.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use fleet_core::decode::{AnyDecoder, Decoder};
use fleet_core::nats::{Begin, History, Names, Told};
use fleet_core::sample::Samples;
use fleet_core::{Micros, VehicleId};
use fleet_worker::simulate::Ledger;
use fleet_worker::verify::{Verdict, verify};
use tokio::time::{Instant, sleep};

use crate::fleet::Truth;
use crate::journal::Journal;
use crate::plan::Pod;
use crate::stage::Stage;
use crate::watch::{Answer, Watch};

/// Every program is ready again, and no worker holds what the queue does not know.
pub(crate) async fn at_rest(journal: &Journal, watch: &Watch) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let last = watch.last();
        let well = |pod: &Pod, answer: &Answer| {
            answer.unready.is_empty() && (*pod == Pod::Discovery || answer.of("fleet_bound") == 0)
        };
        if last.iter().all(|(pod, answer)| answer.as_ref().is_some_and(|answer| well(pod, answer))) {
            return;
        }
        if Instant::now() > deadline {
            journal
                .problem(format_args!("60 s after the release not everything is well and empty: {last:#?}"));
            return;
        }
        sleep(Duration::from_millis(300)).await;
    }
}

/// The table is exactly that of the acknowledged samples, and would not be with a row less or another value. Samples
/// that the NATS server has acknowledged and lost nobody can have: of their vehicles the table may also be that of
/// the others. How many those are comes with the verdict.
pub(crate) async fn compare(stage: &Stage, truth: &Truth) -> Result<(Verdict, usize), String> {
    let failed = |e: &dyn std::fmt::Display| format!("the table can't be compared: {e}");
    let client = stage.postgres.client().await.map_err(|e| failed(&e))?;
    let schema = &stage.config.schema;
    let (mut sum, mut lost) = (Verdict::default(), 0);
    for ledger in &truth.ledgers {
        let verdict = verify(&client, schema, ledger).await.map_err(|e| failed(&e))?;
        if verdict.is_good() {
            sum.add(verdict);
            continue;
        }
        let stored = stored(stage).await.map_err(|e| failed(&e))?;
        let (kept, gone) = split(ledger, &stored);
        for (vehicle, count) in &gone {
            println!("the NATS server has lost {count} acknowledged samples of {vehicle}");
        }
        lost += gone.values().sum::<usize>();
        let without = verify(&client, schema, &kept).await.map_err(|e| failed(&e))?;
        let excused =
            |vehicle: &VehicleId| gone.contains_key(vehicle) && !without.spoiled.contains_key(vehicle);
        sum.add(if verdict.spoiled.keys().all(excused) { without } else { verdict });
    }
    if !sum.is_good() || sum.expected == 0 {
        return Ok((sum, lost));
    }
    // A comparison that can't fail would prove nothing.
    let row = |n: usize| {
        format!(
            "(vehicle_id, ts) = (select vehicle_id, ts from telemetry join vehicle using (vehicle_id) \
             where vin like 'CAR%' order by vehicle_id, ts offset {n} limit 1)"
        )
    };
    for (harm, must) in [
        (format!("delete from telemetry where {}", row(0)), (1, 0)),
        (format!("update telemetry set quality = quality # 1 where {}", row(1)), (1, 1)),
    ] {
        let changed = client.execute(&harm, &[]).await.map_err(|e| failed(&e))?;
        let verdict = verify(&client, schema, &truth.ledgers[0]).await.map_err(|e| failed(&e))?;
        if changed != 1 || (verdict.missing, verdict.wrong) != must {
            return Err(format!("after {harm} ({changed} rows) the comparison found {verdict:#?}"));
        }
    }
    Ok((sum, lost))
}

/// What is in the telemetry stream: of which vehicle, which signal, and when it was taken.
async fn stored(stage: &Stage) -> fleet_core::error::Result<HashSet<(String, usize, Micros)>> {
    let (nats, schema) = (stage.config.nats.options(), &stage.config.schema);
    let history = History::connect(&nats, &Names::new(&stage.config.cells[0]), schema).await?;
    let mut sweep = history.sweep(Begin::At(0), &[]).await?;
    let (mut found, mut samples) = (HashSet::new(), Samples::default());
    let take = |told: Told<'_>, found: &mut HashSet<_>, samples: &mut Samples| {
        let signal = schema.signal(told.signal);
        samples.reset(signal.columns.len());
        if AnyDecoder.decode(signal, told.payload, samples).is_ok() {
            let of = |time| (told.vehicle.to_owned(), told.signal.index(), time);
            found.extend(samples.iter().map(|(time, _)| of(time)));
        }
    };
    while sweep.next(|told| take(told, &mut found, &mut samples)).await? {}
    Ok(found)
}

/// The ledger of what is stored, and how many samples of which vehicles are not.
fn split(ledger: &Ledger, stored: &HashSet<(String, usize, Micros)>) -> (Ledger, BTreeMap<VehicleId, usize>) {
    let (mut kept, mut gone) = (Ledger::new(ledger.vehicles().to_vec()), BTreeMap::new());
    for (number, vehicle) in ledger.vehicles().iter().enumerate() {
        for sample in ledger.of(number) {
            if stored.contains(&(vehicle.to_string(), sample.signal, sample.time)) {
                kept.add(number, sample);
            } else {
                *gone.entry(vehicle.clone()).or_default() += 1;
            }
        }
    }
    kept.sort();
    (kept, gone)
}
