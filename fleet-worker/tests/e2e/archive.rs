//! The archive beside the database.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet_core::VehicleId;
use fleet_core::batch::Record;
use fleet_core::schema::ColumnType;
use fleet_sinks::parquet::{Archive, Records};
use fleet_worker::deployment::Deployment;
use tokio::time::sleep;

use crate::failures::until_readyz;
use crate::replay::{replay, replayed, rows};
use crate::world::{
    QUICK, assert_exact, compare, deployment_by, endless_fleet, eventually, finish, fleet, until_bound,
    vehicles,
};

/// The table of a worker's configuration for an archive that is waited for.
pub(crate) fn held_back_by(root: &Path) -> String {
    format!("\n[sink.parquet]\npath = {root:?}\nmax_age = \"2s\"\nwhen_down = \"hold\"\n")
}

/// What is in the database.
async fn stored(deployment: &Deployment) -> Records {
    let schema = &deployment.config.schema;
    let columns: String = schema.columns().map(|c| format!("t.\"{}\", ", c.name)).collect();
    let select = format!(
        "select vin, (extract(epoch from ts) * 1000000)::bigint, {columns} quality \
         from telemetry t join vehicle using (vehicle_id)"
    );
    let mut records = BTreeMap::new();
    for row in deployment.client().await.unwrap().query(&select, &[]).await.unwrap() {
        let values = schema.columns().enumerate().map(|(i, column)| match column.kind {
            ColumnType::Double => row.get::<_, Option<f64>>(i + 2),
            ColumnType::Real => row.get::<_, Option<f32>>(i + 2).map(f64::from),
        });
        let record = Record { values: values.collect(), quality: row.get(schema.column_count() + 2) };
        records.insert((VehicleId::new(row.get(0)).unwrap(), row.get(1)), record);
    }
    records
}

/// The archive is the database's table, to the last bit.
pub(crate) async fn assert_archived(deployment: &Deployment, root: &Path) {
    let (archive, schema) = (Archive::open(root), &deployment.config.schema);
    let days = archive.dates().unwrap().into_iter();
    let archived: Records = days.flat_map(|date| archive.read(schema, &date).unwrap()).collect();
    let stored = stored(deployment).await;
    let differing = stored.iter().find(|(key, record)| archived.get(key) != Some(record));
    assert!(differing.is_none(), "not so in the archive: {differing:?}\n{}", deployment.tails());
    assert_eq!(archived.len(), stored.len());
    assert!(!stored.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_equals_the_table_although_a_worker_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let config = format!("{QUICK}{}", held_back_by(root.path()));
    let mut deployment = deployment_by(&config, 2).await;
    let (fleet, on) = endless_fleet(&deployment, 60).await;
    until_bound(&deployment, 60, Duration::from_secs(20)).await;
    sleep(Duration::from_secs(5)).await;
    deployment.kill_worker().await;
    sleep(Duration::from_secs(15)).await;
    drop(on);
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    assert_archived(&deployment, root.path()).await;

    // And back again, into a database that has lost everything but its claims.
    let client = deployment.client().await.unwrap();
    client.batch_execute("truncate telemetry").await.unwrap();
    let archive = root.path().to_str().unwrap();
    let vehicle = summary.ledger.vehicles()[3].as_str();
    let said = replayed(&deployment, &config, &["--from-archive", "--vehicle", vehicle]).await;
    let of_one = rows(&deployment).await;
    assert!(of_one > 5 && said.contains(&format!(" {of_one} rows, {of_one} of them new")), "{said}");
    let said =
        replayed(&deployment, QUICK, &["--from-archive", archive, "--to", "2026-01-01T00:00:00Z"]).await;
    assert!(said.starts_with("0 days, 0 rows"), "{said}");
    let said = replayed(&deployment, QUICK, &["--from-archive", archive]).await;
    assert!(
        said.contains(&format!(
            "{} rows, {} of them new",
            verdict.stored,
            verdict.stored - of_one.unsigned_abs()
        )),
        "{said}"
    );
    let verdict = compare(&deployment, &summary.ledger).await;
    assert_exact(&deployment, &verdict);
    let again = replayed(&deployment, QUICK, &["--from-archive", archive]).await;
    assert!(again.contains(" 0 of them new or changed"), "{again}");
}

/// An archive's folder that something else is in the way of, until it goes.
struct Away {
    root: PathBuf,
}

impl Away {
    fn put(root: &Path) -> Self {
        std::fs::rename(root, root.with_extension("away")).unwrap();
        std::fs::write(root, "no folder").unwrap();
        Self { root: root.to_owned() }
    }

    fn back(self) {
        std::fs::remove_file(&self.root).unwrap();
        std::fs::rename(self.root.with_extension("away"), &self.root).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_waited_for_holds_vehicles_back_while_it_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("archive");
    let config = format!("{QUICK}{}", held_back_by(&root));
    let deployment = deployment_by(&config, 1).await;
    let away = Away::put(&root);
    let summary = fleet(&deployment, vehicles(20, 8)).await.await.unwrap().unwrap();
    // Patience and the archive's age are over long ago.
    sleep(Duration::from_secs(10)).await;
    assert_eq!(deployment.bindings().await.unwrap().active, 20);
    until_readyz(&deployment.workers[0], 503, "not ready: sink parquet\n").await;
    away.back();
    until_readyz(&deployment.workers[0], 200, "ok\n").await;
    deployment.until_released(Duration::from_secs(60)).await.unwrap();
    // Without a vehicle too.
    let away = Away::put(&root);
    until_readyz(&deployment.workers[0], 503, "not ready: sink parquet\n").await;
    away.back();
    until_readyz(&deployment.workers[0], 200, "ok\n").await;
    let verdict = compare(&deployment, &summary.ledger).await;
    assert_exact(&deployment, &verdict);
    assert_archived(&deployment, &root).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_catches_up_holds_nothing_back_and_has_all_when_it_is_there_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("archive");
    let config = format!("{QUICK}{}", held_back_by(&root)).replace("hold", "catch_up");
    let deployment = deployment_by(&config, 1).await;
    let away = Away::put(&root);
    let fleet = fleet(&deployment, vehicles(20, 8)).await;
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    until_readyz(&deployment.workers[0], 200, "ok\n").await;
    away.back();
    // It gets its file after a try and its age; nothing more is sent.
    eventually("the archive has caught up", Duration::from_secs(40), || async {
        let archive = Archive::open(&root);
        let dates = archive.dates().unwrap();
        let rows = dates.iter().map(|date| archive.read(&deployment.config.schema, date).unwrap().len());
        rows.sum::<usize>() as u64 == verdict.stored
    })
    .await;
    assert_archived(&deployment, &root).await;
    assert_eq!(deployment.workers[0].metric("fleet_optional_missed_rows_total").await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_catches_up_is_complete_when_its_worker_was_stopped() {
    let root = tempfile::tempdir().unwrap();
    let config = format!("{QUICK}\n[sink.parquet]\npath = {:?}\n", root.path());
    let deployment = deployment_by(&config, 1).await;
    let fleet = fleet(&deployment, vehicles(20, 15)).await;
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    // Released long before its file is five minutes old.
    assert!(Archive::open(root.path()).dates().unwrap().is_empty());
    let worker = &deployment.workers[0];
    worker.process.terminate().unwrap();
    eventually("the archive has its file", Duration::from_secs(30), || async {
        !Archive::open(root.path()).dates().unwrap().is_empty()
    })
    .await;
    assert_archived(&deployment, root.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_in_a_bucket_comes_back_into_a_wiped_database() {
    let s3 = crate::s3::Server::start().await;
    let bucket = s3.options("s3://archive/fleet");
    let (endpoint, key, secret) = (bucket.endpoint.unwrap(), bucket.access_key_id, bucket.secret_access_key);
    let config = format!(
        "{QUICK}\n[sink.parquet]\nurl = \"s3://archive/fleet\"\nendpoint = {endpoint:?}\n\
         access_key_id = {key:?}\nsecret_access_key = {secret:?}\nmax_age = \"2s\"\nwhen_down = \"hold\"\n"
    );
    let deployment = deployment_by(&config, 1).await;
    let fleet = fleet(&deployment, vehicles(20, 8)).await;
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    deployment.client().await.unwrap().batch_execute("truncate telemetry").await.unwrap();
    let said = replayed(&deployment, &config, &["--from-archive"]).await;
    assert!(said.contains(&format!("{0} rows, {0} of them new", verdict.stored)), "{said}");
    let verdict = compare(&deployment, &summary.ledger).await;
    assert_exact(&deployment, &verdict);
    assert!(!deployment.tails().contains(&secret));

    let wrong = config.replace(&secret, "wrong-sesame");
    let refused = replay(&deployment, &wrong, &["--from-archive"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && said.contains("SignatureDoesNotMatch"), "{said}");
    assert!(!said.contains("sesame"), "{said}");
}
