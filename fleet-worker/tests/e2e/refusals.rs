//! Garbage among good messages, and programs that can't start.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use fleet_worker::clock::now;
use futures_util::StreamExt;
use tokio::process::Command;

use crate::alerts::Recording;
use crate::world::{Hand, count, deployment, eventually, last_words};

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_as_dead_letters_and_loses_nothing_else() {
    let deployment = deployment(1).await;
    let mut hand = Hand::new(&deployment, "NOISY").await;
    let worker = &deployment.workers[0];
    let mut recording = Recording::of(&deployment.workers).await;
    hand.send("on", "").await;
    eventually("it is followed", Duration::from_secs(30), async || {
        worker.metric("fleet_source_followed").await == Some(1)
    })
    .await;
    // No stream keeps it.
    let client = async_nats::connect(deployment.nats.url()).await.unwrap();
    client.publish("fleet.0.NOISY.tyres", "{}".into()).await.unwrap();
    client.flush().await.unwrap();
    let begun = now();
    let ms = begun / 1_000;
    for (n, second) in (0..10).enumerate() {
        hand.speed(begun - (12 - second) * 1_000_000, 40.0 + n as f64).await;
        let garbage: &[u8] = match n {
            0 => b"",
            1 => b"\xF1",
            2 => b"\xF1\x40\0\0\0\0\0\0\0\0",
            3 => b"{\"ts\": 1, \"value\": ",
            4 => b"\xFF\xFE\0",
            5 => b"[]",
            _ => b"hello",
        };
        hand.send("speed", garbage.to_vec()).await;
    }
    hand.send("speed", format!("{{\"ts\":{ms},\"value\":999}}")).await;
    hand.send("speed", format!("{{\"ts\":{},\"value\":50}}", ms + 600_000)).await;
    hand.send("speed", "{\"ts\":5,\"value\":50}").await;
    hand.send("speed", format!("{{\"ts\":{},\"value\":50}}", ms - 60_000)).await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
    recording.scrape(&deployment.workers).await;
    for reason in ["unknown_signal", "malformed", "too_old"] {
        let words = format!("replay --dead-letters --list --reason {reason}");
        recording.alerts().assert_says("FleetRefused", &[worker.address(), &words]);
    }

    let js = async_nats::jetstream::new(client);
    let stream = js.get_stream("DEADLETTER_0").await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config::default();
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut letters = consumer.fetch().max_messages(100).messages().await.unwrap();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(letter) = letters.next().await {
        let letter = letter.unwrap();
        assert_eq!(letter.subject.as_str(), "deadletter.0.NOISY");
        let headers = letter.headers.as_ref().unwrap();
        *reasons.entry(headers.get("Fleet-Reason").unwrap().to_string()).or_default() += 1;
        assert!(!headers.get("Fleet-Detail").unwrap().as_str().is_empty());
    }
    let expected = [
        ("empty", 1),
        ("in_future", 1),
        ("late", 1),
        ("malformed", 6),
        ("out_of_range", 1),
        ("too_old", 1),
        ("unknown_signal", 1),
    ];
    // "hello" came four times, and is the same letter each time.
    let expected: BTreeMap<String, usize> = expected.map(|(r, n)| (r.to_owned(), n)).into();
    assert_eq!(reasons, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_with_five_tokens_is_named_by_discovery() {
    let deployment = deployment(1).await;
    let client = async_nats::connect(deployment.nats.url()).await.unwrap();
    client.publish("fleet.0.VIN.speed.front", "{}".into()).await.unwrap();
    client.flush().await.unwrap();
    eventually("discovery names it", Duration::from_secs(5), || async {
        deployment.discovery.process.logs().contains("fleet.0.VIN.speed.front")
    })
    .await;
    assert_eq!(count(&deployment, "select count(*) from telemetry").await, 0);
}

async fn worker(arguments: &[&str]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let command = Command::new(program).args(arguments).env_remove("RUST_BACKTRACE").output();
    tokio::time::timeout(Duration::from_secs(60), command).await.expect("it ends by itself").unwrap()
}

/// It must end with that code and one line that says all of this, and nothing secret.
fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = last_words(&said);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(lines.len(), 1, "{said}");
    for part in parts {
        assert!(lines[0].contains(part), "{part:?} is not in {:?}", lines[0]);
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_start_says_why_in_one_line() {
    let deployment = deployment(0).await;
    let (nats, database) = (deployment.nats.url(), deployment.postgres.url());
    let nowhere = worker(&["run", "--nats-url", "nats://127.0.0.1:9", "--database-url", &database]).await;
    assert_refused(&nowhere, 69, &["127.0.0.1:9"]);
    let nowhere =
        worker(&["run", "--nats-url", &nats, "--database-url", "postgres://fleet:hunter2@127.0.0.1:9/fleet"])
            .await;
    assert_refused(&nowhere, 69, &["127.0.0.1:9"]);

    let guarded =
        fleet_worker::local::NatsServer::builder().config("authorization { user: fleet, password: open }");
    let guarded = guarded.start().await.unwrap();
    let url = |password: &str| format!("nats://fleet:{password}@127.0.0.1:{}", guarded.port());
    let wrong = worker(&["setup", "--nats-url", &url("hunter2"), "--database-url", &database]).await;
    assert_refused(&wrong, 64, &["refuses these credentials"]);
    let right = worker(&["setup", "--nats-url", &url("open"), "--database-url", &database]).await;
    assert_eq!(right.status.code(), Some(0), "{}", String::from_utf8_lossy(&right.stderr));

    let locked = fleet_worker::local::Postgres::builder().password("correct horse").start().await.unwrap();
    let wrong = format!("postgres://fleet:hunter2@127.0.0.1:{}/fleet?sslmode=disable", locked.port());
    let wrong = worker(&["setup", "--nats-url", &nats, "--database-url", &wrong]).await;
    assert_refused(&wrong, 64, &["password"]);

    let client = deployment.client().await.unwrap();
    client.batch_execute("alter table telemetry rename speed_kmh to speed_mph").await.unwrap();
    let mismatch = worker(&["run", "--nats-url", &nats, "--database-url", &database]).await;
    assert_refused(&mismatch, 64, &["speed_kmh"]);
    client.batch_execute("alter table telemetry rename speed_mph to speed_kmh").await.unwrap();
}
