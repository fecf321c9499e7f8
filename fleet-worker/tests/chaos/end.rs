//! What must hold once everything is over.

use std::time::Duration;

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

/// The table is exactly that of the acknowledged samples, and would not be with a row less or another value.
pub(crate) async fn compare(stage: &Stage, truth: &Truth) -> Result<Verdict, String> {
    let failed = |e: &dyn std::fmt::Display| format!("the table can't be compared: {e}");
    let client = stage.postgres.client().await.map_err(|e| failed(&e))?;
    let schema = &stage.config.schema;
    let mut sum = Verdict::default();
    for ledger in &truth.ledgers {
        let verdict = verify(&client, schema, ledger).await.map_err(|e| failed(&e))?;
        sum.stored += verdict.stored;
        sum.expected += verdict.expected;
        sum.missing += verdict.missing;
        sum.wrong += verdict.wrong;
        sum.duplicate += verdict.duplicate;
        sum.unexpected += verdict.unexpected;
        sum.examples.extend(verdict.examples);
    }
    if !sum.is_good() || sum.expected == 0 {
        return Ok(sum);
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
    Ok(sum)
}
