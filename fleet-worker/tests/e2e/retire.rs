//! Days that leave the database for the archive and come back, by the programs.

use std::path::Path;
use std::time::Duration;

use fleet_core::batch::{BatchBuilder, Row};
use fleet_core::time::{MINUTE, Micros, SECOND, display};
use fleet_core::{Schema, Sink, VehicleId};
use fleet_sinks::parquet::{ParquetOptions, ParquetSink};
use fleet_sinks::timescale::{ConnectOptions, Connector, MaintainOptions, maintain};
use fleet_worker::clock::now;
use fleet_worker::commands::erase::erase_vehicle;

use crate::archive::held_back_by;
use crate::replay::{replayed, rows};
use crate::world::{QUICK, count, deployment_by, eventually};

const DAY: Micros = 24 * 60 * MINUTE;

/// Ten minutes of two vehicles from then on.
async fn archived(root: &Path, from: Micros) -> i64 {
    let schema = Schema::default();
    let (mut builder, mut count) = (BatchBuilder::new(&schema), 0);
    let mut sink = ParquetSink::new(ParquetOptions::new(root, "then"), &schema, now).unwrap();
    for vehicle in ["GONE", "KEPT"] {
        let key = builder.vehicle(&VehicleId::new(vehicle).unwrap(), 1);
        for n in 0..60 {
            let (ts, values) = (from + n * 10 * SECOND, [48.0, 9.0, n as f64 / 3.0, 70.0, 30.0]);
            builder.push(key, Row { ts, values: &values, quality: 0b01_01_01_01, correction: false });
            count += 1;
        }
    }
    sink.accept(&builder.seal().unwrap()).await.unwrap();
    sink.flush().await.unwrap();
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_that_the_archive_has_leaves_the_database_and_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let archive = held_back_by(root.path());
    let config = format!("{QUICK}{archive}\n[sink.timescale]\nretention = \"2d\"\n");
    let mut deployment = deployment_by(&config, 0).await;
    let old = (now() / DAY - 9) * DAY + 8 * 60 * MINUTE;
    let each = archived(root.path(), old).await;
    archived(root.path(), old + 8 * DAY).await;
    let said = replayed(&deployment, &config, &["--from-archive"]).await;
    assert!(said.contains(&format!("2 days, {0} rows, {0} of them new", 2 * each)), "{said}");
    // And a record of a day that the archive lacks.
    let client = deployment.client().await.unwrap();
    let (lost, next) = (display(old / DAY * DAY + DAY), display(old / DAY * DAY + 2 * DAY));
    let partition = format!("telemetry_p{}", lost[..10].replace('-', ""));
    let add = format!(
        "create table {partition} partition of telemetry for values from ('{lost}') to ('{next}'); \
         insert into telemetry (ts, vehicle_id, quality) select '{lost}', vehicle_id, 0 from vehicle limit 1"
    );
    client.batch_execute(&add).await.unwrap();
    let roll_up = MaintainOptions { partitions_ahead: 1, retention: None };
    let connector = Connector::new(&ConnectOptions::new(deployment.postgres.url())).unwrap();
    maintain(&connector, &roll_up).await.unwrap();
    let minutes = "select count(*) from fleet_minute";
    assert_eq!(count(&deployment, minutes).await, 20);

    // Discovery had the turn of this hour before there was a record.
    client.batch_execute("update fleet_upkeep set retire_turn_at = '-infinity'").await.unwrap();
    deployment.add_worker().await.unwrap();
    eventually("the day has left", Duration::from_secs(90), async || rows(&deployment).await == each + 1)
        .await;
    let worker = &deployment.workers[0];
    eventually("it is told", Duration::from_secs(10), async || {
        worker.metric("fleet_upkeep_retired_total").await == Some(1)
            && worker.metric("fleet_upkeep_unarchived").await == Some(1)
    })
    .await;
    assert!(deployment.tails().contains("the archive lacks the day"), "{}", deployment.tails());
    let left = format!("select count(*) from telemetry where ts >= '{lost}'");
    assert_eq!(count(&deployment, &left).await, each + 1, "others stay");
    assert_eq!(count(&deployment, minutes).await, 20, "roll-ups stay");

    // A vehicle that is erased is not in what comes back.
    let erased = erase_vehicle(&deployment.config, &VehicleId::new("GONE").unwrap()).await.unwrap();
    assert_eq!(erased.archived, each.unsigned_abs(), "{erased:?}");
    let (from, to) = (display(old + 5 * MINUTE), lost.clone());
    let said = replayed(&deployment, &config, &["--from-archive", "--from", &from, "--to", &to]).await;
    assert!(said.contains(" had left the database and is back for 2d\n"), "{said}");
    assert!(said.contains("1 days, 30 rows, 30 of them new"), "{said}");
    let back = format!("select count(*) from telemetry where ts < '{lost}'");
    assert_eq!(count(&deployment, &back).await, 30);
}
