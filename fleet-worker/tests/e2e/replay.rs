//! `replay`: what was lost, late, refused or configured otherwise comes back as it must be.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use fleet_core::Micros;
use fleet_core::schema::RecordsConfig;
use fleet_core::time::{MINUTE, SECOND, display, grid_at_or_before};
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::world::{
    Hand, QUICK, assert_exact, compare, count, deployment, deployment_by, eventually, finish, fleet, vehicles,
};

/// [`QUICK`] with records that are final after 23 seconds: the default signals, with another method for the
/// speed and shorter gaps.
pub(crate) fn short(speed: &str, gap: &str) -> String {
    let mut text = QUICK.replace("window = \"10s\"", "window = \"2s\"");
    for (name, method, columns) in [
        (
            "position",
            "great_circle",
            "{ name = \"latitude\", unit = \"deg\", min = -90, max = 90 }, \
            { name = \"longitude\", unit = \"deg\", min = -180, max = 180 }",
        ),
        ("speed", speed, "{ name = \"speed_kmh\", unit = \"km/h\", min = 0, max = 400, type = \"real\" }"),
        (
            "fuel",
            "linear",
            "{ name = \"fuel_level_pct\", unit = \"%\", min = 0, max = 100, type = \"real\" }",
        ),
        (
            "brake",
            "linear",
            "{ name = \"brake_fluid_temp_c\", unit = \"Cel\", min = -60, max = 400, type = \"real\" }",
        ),
    ] {
        text += &format!(
            "\n[[signal]]\nname = \"{name}\"\ninterpolation = \"{method}\"\nmax_gap = \"{gap}\"\ncolumns = [{columns}]\n"
        );
    }
    text
}

/// Runs `replay` on the deployment's servers with a configuration.
pub(crate) async fn replay(deployment: &Deployment, config: &str, arguments: &[&str]) -> Output {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), config).unwrap();
    let (nats, database) = (deployment.nats.url(), deployment.postgres.url());
    let mut command = Command::new(Path::new(env!("CARGO_BIN_EXE_fleet-worker")));
    command.arg("replay").args(arguments).arg("--config").arg(file.path());
    command.args(["--nats-url", &nats, "--database-url", &database]);
    tokio::time::timeout(Duration::from_secs(90), command.output()).await.expect("it ends").unwrap()
}

/// What it printed; it must end well.
pub(crate) async fn replayed(deployment: &Deployment, config: &str, arguments: &[&str]) -> String {
    let output = replay(deployment, config, arguments).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    assert!(!err.contains('█') && !err.contains('\r'), "a pipe is no terminal: {err}");
    out.into_owned()
}

pub(crate) async fn rows(deployment: &Deployment) -> i64 {
    count(deployment, "select count(*) from telemetry").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_table_comes_back_beside_a_running_worker() {
    let config = short("linear", "20s");
    let deployment = deployment_by(&config, 1).await;
    let begun = now() - 2 * SECOND;
    let fleet = fleet(&deployment, vehicles(40, 15)).await;
    let (summary, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    let end = now();
    let refused = replay(&deployment, &config, &["--from", "30s", "--to", &display(end)]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(64) && said.contains("may still change"), "{said}");

    // Another vehicle drives all the while.
    let mut hand = Hand::new(&deployment, "DRIVES").await;
    hand.send("on", "").await;
    eventually("the records are final", Duration::from_secs(60), || async { now() > end + 23 * SECOND })
        .await;
    deployment.client().await.unwrap().batch_execute("truncate telemetry").await.unwrap();
    hand.drive(now() - 5 * SECOND, 4).await;
    let dry = replayed(&deployment, &config, &["--from", &display(begun), "--dry-run"]).await;
    assert!(dry.starts_with(&format!("dry run: {} rows", verdict.expected)), "{dry}");
    // The worker may have written rows of the one that drives, which are later.
    let replayable = format!("select count(*) from telemetry where ts < '{}'", display(end));
    assert_eq!(count(&deployment, &replayable).await, 0);
    let said = replayed(&deployment, &config, &["--from", &display(begun)]).await;
    let all = format!("{0} rows, {0} of them new", verdict.expected);
    assert!(said.starts_with(&all), "{said}");
    let verdict = compare(&deployment, &summary.ledger).await;
    assert_exact(&deployment, &verdict);
    let again = replayed(&deployment, &config, &["--from", &display(begun)]).await;
    assert!(again.contains(" rows, 0 of them new or changed"), "{again}");

    // One vehicle of many; the span begins and ends within its drive.
    let vehicle = summary.ledger.vehicles()[7].as_str();
    let (from, to) = (display(begun + 6 * SECOND), display(begun + 10 * SECOND));
    let within = format!(
        "from telemetry join vehicle using (vehicle_id) where vin = '{vehicle}' and ts >= '{from}' and ts < '{to}'"
    );
    let client = deployment.client().await.unwrap();
    let gone = format!(
        "delete from telemetry t using vehicle v where t.vehicle_id = v.vehicle_id \
                        and vin = '{vehicle}' and ts >= '{from}' and ts < '{to}'"
    );
    let gone = client.execute(&gone, &[]).await.unwrap();
    assert!(gone > 2, "{gone} rows");
    let said = replayed(&deployment, &config, &["--from", &from, "--to", &to, "--vehicle", vehicle]).await;
    assert!(said.starts_with(&format!("{gone} rows, {gone} of them new")), "{said}");
    assert_eq!(count(&deployment, &format!("select count(*) {within}")).await, gone.cast_signed());
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    let verdict = compare(&deployment, &summary.ledger).await;
    assert_exact(&deployment, &verdict);
    hand.assert_exact(&deployment).await;
}

/// Drives ten minutes ago, and waits until it is stored.
async fn drive(deployment: &Deployment, vehicle: &str) -> (Hand, Micros) {
    let mut hand = Hand::new(deployment, vehicle).await;
    let begun = grid_at_or_before(now() - 10 * MINUTE, SECOND);
    hand.send("on", "").await;
    // Off the grid, so that every sample has a part in some row.
    hand.drive(begun + 250_000, 60).await;
    (hand, begun)
}

async fn end(deployment: &Deployment, hand: &Hand) {
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_that_came_too_late_are_sorted_in() {
    let deployment = deployment(1).await;
    let (mut hand, begun) = drive(&deployment, "LATE").await;
    let at = begun + 20 * SECOND + 100_000;
    hand.speed(at, 399.0).await;
    end(&deployment, &hand).await;
    let verdict = compare(&deployment, &hand.ledger()).await;
    assert!(verdict.wrong > 0, "it was not too late: {verdict:?}");
    let arguments = ["--from", &display(begun - MINUTE), "--to", &display(begun + 2 * MINUTE)];
    replayed(&deployment, QUICK, &arguments).await;
    hand.assert_exact(&deployment).await;
    let listed = replayed(&deployment, QUICK, &["--dead-letters", "--list"]).await;
    assert!(listed.contains("LATE  speed  late: "), "{listed}");
}

/// A worker may know it already and have written better rows than the replay is about to write.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_the_sweep_is_in_the_rows() {
    let deployment = deployment(1).await;
    let (mut hand, begun) = drive(&deployment, "MEANWHILE").await;
    end(&deployment, &hand).await;
    hand.assert_exact(&deployment).await;
    let client = deployment.client().await.unwrap();
    let lock = "truncate telemetry; begin; lock table telemetry in access exclusive mode";
    client.batch_execute(lock).await.unwrap();
    let (from, to) = (display(begun - MINUTE), display(begun + 2 * MINUTE));
    let span = ["--from", &from, "--to", &to];
    let replaying = replayed(&deployment, QUICK, &span);
    let meanwhile = async {
        let waiting = "select count(*) from pg_locks where relation = 'telemetry'::regclass and not granted";
        eventually("the replay is about to write", Duration::from_secs(30), || async {
            client.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
        })
        .await;
        hand.speed(begun + 20 * SECOND + 100_000, 399.0).await;
        client.batch_execute("commit").await.unwrap();
    };
    tokio::join!(replaying, meanwhile);
    hand.assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_were_refused_come_back_once_the_database_is_mended() {
    let deployment = deployment(1).await;
    let client = deployment.client().await.unwrap();
    let check = "alter table telemetry add constraint slow check (speed_kmh < 150)";
    client.batch_execute(check).await.unwrap();
    let (hand, _) = drive(&deployment, "FAST").await;
    end(&deployment, &hand).await;
    let missing = compare(&deployment, &hand.ledger()).await.missing;
    assert!(missing > 5, "{missing}");
    let listed = replayed(&deployment, QUICK, &["--dead-letters", "--list"]).await;
    assert_eq!(listed.lines().count() as u64, missing, "{listed}");
    assert!(
        listed.lines().all(|line| line.contains("  FAST  row  row: ") && line.contains("slow")),
        "{listed}"
    );

    // As long as nothing is mended nothing is lost.
    let kept = replay(&deployment, QUICK, &["--dead-letters", "--reason", "row"]).await;
    let said = String::from_utf8_lossy(&kept.stdout).into_owned();
    assert!(kept.status.code() == Some(64) && said.contains(&format!("; {missing} kept")), "{said}");
    client.batch_execute("alter table telemetry drop constraint slow").await.unwrap();
    let other = replayed(&deployment, QUICK, &["--dead-letters", "--vehicle", "OTHER"]).await;
    assert!(other.starts_with("0 letters used"), "{other}");
    let dry = replayed(&deployment, QUICK, &["--dead-letters", "--dry-run"]).await;
    assert!(dry.starts_with(&format!("dry run: {missing} letters would be used")), "{dry}");
    assert_eq!(compare(&deployment, &hand.ledger()).await.missing, missing);
    let said = replayed(&deployment, QUICK, &["--dead-letters"]).await;
    assert!(
        said.starts_with(&format!("{missing} letters used: {missing} rows, {missing} of them new")),
        "{said}"
    );
    hand.assert_exact(&deployment).await;
    assert_eq!(replayed(&deployment, QUICK, &["--dead-letters", "--list"]).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_mended_and_used() {
    let deployment = deployment(1).await;
    let (mut hand, begun) = drive(&deployment, "TYPO").await;
    let (late, wrong) = (begun + 10 * SECOND + 100_000, begun + 30 * SECOND + 100_000);
    hand.send("speed", format!("{{\"ts\":{},\"value\":939}}", wrong / 1_000)).await;
    hand.speed(late, 20.0).await;
    hand.send("speed", b"\xF1\x00".to_vec()).await;
    end(&deployment, &hand).await;

    assert_eq!(compare(&deployment, &hand.ledger()).await.wrong, 1);

    // Late ones can be used as they are, the others can't.
    let output = replay(&deployment, QUICK, &["--dead-letters"]).await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("1 letters used") && said.contains("2 kept"), "{said}");
    assert!(said.contains("TYPO  speed: ") && said.contains("939"), "{said}");
    hand.assert_exact(&deployment).await;

    let lines = replayed(&deployment, QUICK, &["--dead-letters", "--json"]).await;
    assert_eq!(lines.lines().count(), 2, "{lines}");
    let file = NamedTempFile::new().unwrap();
    let (wrong_value, value) = (r#"value\":939}"#, r#"value\":93.9}"#);
    let mended = lines.lines().find(|line| line.contains(wrong_value)).unwrap().replace(wrong_value, value);
    std::fs::write(file.path(), format!("{mended}\n")).unwrap();
    let said =
        replayed(&deployment, QUICK, &["--dead-letters", "--input", file.path().to_str().unwrap()]).await;
    assert!(said.starts_with("1 letters used"), "{said}");
    hand.note(1, wrong, &[93.9]);
    hand.assert_exact(&deployment).await;

    let left = replayed(&deployment, QUICK, &["--dead-letters", "--list"]).await;
    assert!(left.lines().count() == 1 && left.contains("malformed"), "{left}");
    replayed(&deployment, QUICK, &["--dead-letters", "--discard", "--reason", "malformed"]).await;
    assert_eq!(replayed(&deployment, QUICK, &["--dead-letters", "--list"]).await, "");
    std::fs::write(file.path(), "{}\n{\"vehicle\":5}\n").unwrap();
    let bad = replay(&deployment, QUICK, &["--dead-letters", "--input", file.path().to_str().unwrap()]).await;
    let said = String::from_utf8_lossy(&bad.stderr).into_owned();
    assert!(bad.status.code() == Some(64) && said.contains(":1: ") && said.contains(":2: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_replaces_what_is_stored() {
    let config = short("linear", "20s");
    let mut deployment = deployment_by(&config, 1).await;
    let (mut hand, begun) = drive(&deployment, "CHANGES").await;
    // A gap that the one configuration bridges and the other does not.
    let later = begun + 75 * SECOND + 500_000;
    hand.speed(later, 70.0).await;
    hand.speed(later + SECOND, 80.0).await;
    end(&deployment, &hand).await;
    hand.assert_exact(&deployment).await;
    let before = rows(&deployment).await;

    let changed = short("nearest", "5s");
    let mut records: toml::Table = changed.parse().unwrap();
    records.remove("worker");
    let records: RecordsConfig = records.try_into().unwrap();
    deployment.config.schema = records.build().unwrap();
    let span = ["--from", &display(begun - MINUTE), "--to", &display(begun + 2 * MINUTE)];
    let said = replayed(&deployment, &changed, &[&span[..], &["--replace"]].concat()).await;
    assert!(said.starts_with(&format!("{before} rows replaced by ")), "{said}");
    assert!(rows(&deployment).await < before, "nothing vanished");
    hand.assert_exact(&deployment).await;
}
