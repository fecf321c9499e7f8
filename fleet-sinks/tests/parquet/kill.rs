//! A writer that is killed at any byte leaves a readable archive with all that it called durable.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fleet_core::batch::BatchBuilder;
use fleet_core::time::SECOND;
use fleet_core::{Schema, Sink};
use fleet_sinks::parquet::ParquetOptions;

use crate::fixture::{MIDNIGHT, batch, files, sink, stored};

const ROOT: &str = "FLEET_TEST_ARCHIVE";
const ROUND: &str = "FLEET_TEST_ROUND";

/// Rows of a batch, and batches of one life.
const ROWS: i64 = 200;
const BATCHES: i64 = 1_000;

/// Writes until it is killed, and prints what is durable.
#[tokio::test]
#[ignore = "waits to be killed"]
async fn writer() {
    let (root, round) = (std::env::var(ROOT).unwrap(), std::env::var(ROUND).unwrap());
    let round: i64 = round.parse().unwrap();
    let schema = Schema::default();
    let options = ParquetOptions { max_bytes: 40_000, ..ParquetOptions::new(Path::new(&root), "victim") };
    let mut sink = sink(options, &schema);
    let mut builder = BatchBuilder::new(&schema);
    for number in 0..BATCHES {
        let at = |row: i64| MIDNIGHT + ((round * BATCHES + number) * ROWS + row) * SECOND / 1_000;
        let rows: Vec<_> = (0..ROWS).map(|row| (1, at(row), number as f64)).collect();
        let progress = sink.accept(&batch(&mut builder, &rows)).await.unwrap();
        println!("durable {}", progress.durable);
    }
}

/// Starts a writer and kills it after so many lines; gives what it last called durable.
fn killed(root: &Path, round: i64, patience: Duration) -> u64 {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "kill::writer", "--nocapture", "--test-threads=1"])
        .env(ROOT, root)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    // From its first file on, any moment is as good.
    let mut durable = 0;
    for line in lines.by_ref() {
        durable = said(&line.unwrap()).unwrap_or(durable);
        if durable > 0 {
            break;
        }
    }
    #[allow(clippy::disallowed_methods, reason = "another process is waited for")]
    std::thread::sleep(patience);
    writer.kill().unwrap();
    // What it had said by then.
    for line in lines.map_while(Result::ok) {
        durable = said(&line).unwrap_or(durable);
    }
    writer.wait().unwrap();
    durable
}

fn said(line: &str) -> Option<u64> {
    line.strip_prefix("durable ")?.parse().ok()
}

#[test]
fn every_visible_file_reads_and_holds_what_was_durable() {
    let root = tempfile::tempdir().unwrap();
    let schema = Schema::default();
    let mut unfinished = 0;
    for round in 0..30 {
        let patience = Duration::from_micros(u64::try_from(round * 1_700 % 23_000).unwrap());
        let durable = i64::try_from(killed(root.path(), round, patience)).unwrap();
        assert!(durable > 0);
        // Reads every file whole, or panics.
        let table = stored(root.path(), &schema);
        let of_round = |row: i64| MIDNIGHT + (round * BATCHES * ROWS + row) * SECOND / 1_000;
        let times: std::collections::BTreeSet<_> = table.keys().map(|(_, ts)| *ts).collect();
        let missing = (0..durable * ROWS).filter(|row| !times.contains(&of_round(*row))).count();
        assert_eq!(missing, 0, "round {round}: {durable} batches were durable");
        let day = std::fs::read_dir(root.path().join("date=2026-02-01")).unwrap();
        let half =
            day.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp-"));
        unfinished = half.count();
    }
    println!("{} files, {unfinished} unfinished ones left by 30 kills", files(root.path()));
}
