//! The C client of `examples/sensor-c`, under AddressSanitizer and UBSan, against real servers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use fleet_core::Schema;
use fleet_core::decode::{AnyDecoder, Decoder};
use fleet_core::sample::Samples;
use fleet_worker::clock::now;
use fleet_worker::local::NatsServer;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::world::{Hand, deployment};

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sensor-c")
}

/// The programs, compiled with every warning an error.
async fn programs() -> TempDir {
    let out = tempfile::tempdir().unwrap();
    let mut make = Command::new("make");
    make.arg("-s").arg("-C").arg(sources()).arg("SANITIZE=1").arg(format!("OUT={}", out.path().display()));
    let made = make.output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    out
}

fn start(programs: &TempDir, program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(programs.path().join(program));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// What the program printed, once it has ended well.
async fn ended(child: Child) -> String {
    let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output()).await;
    let output = output.expect("the program ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn frames_are_those_of_the_vectors_and_no_bytes_do_harm() {
    let programs = programs().await;
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wire-format-vectors.txt");
    let said = ended(start(&programs, "check", &["vectors", vectors.to_str().unwrap()])).await;
    let frames: u32 = said.split_whitespace().next().unwrap().parse().unwrap();
    assert!(frames >= 10, "{said}");
    ended(start(&programs, "check", &["cases"])).await;
    ended(start(&programs, "check", &["parse", "1", "200000"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_in_c_ends_as_records() {
    let programs = programs().await;
    let deployment = deployment(1).await;
    let mut expected = Hand::new(&deployment, "C-1").await;
    let begun = now() / 1_000_000 * 1_000;
    let mut text = "vehicle,signal,ts_ms,value,value2\n".to_owned();
    for n in 0..60_i64 {
        let ms = begun + n * 200;
        let (signal, values) = match n % 6 {
            0 => (0, vec![48.137_154 + n as f64 / 1e5, -11.5]),
            5 => (2 + n as usize % 2, vec![63.5]),
            _ => (1, vec![50.0 + (n % 7) as f64 / 4.0]),
        };
        let name = ["position", "speed", "fuel", "brake"][signal];
        let numbers: Vec<String> = values.iter().map(|v| format!("{v:.7}")).collect();
        writeln!(text, "C-1,{name},{ms},{}", numbers.join(",")).unwrap();
        let values: Vec<f64> = numbers.iter().map(|v| v.parse().unwrap()).collect();
        expected.note(signal, ms * 1_000, &values);
    }
    let file = programs.path().join("drive.csv");
    std::fs::write(&file, text).unwrap();
    let url = deployment.nats.url();
    let said = ended(start(&programs, "vehicle", &[&url, "0", "C-1", file.to_str().unwrap()])).await;
    assert!(said.contains("speed pushed 40 acknowledged 40 dropped 0"), "{said}");
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    expected.assert_exact(&deployment).await;
}

async fn log_in(server: &NatsServer) -> jetstream::Context {
    let options = async_nats::ConnectOptions::with_user_and_password("car".to_owned(), "s3cret".to_owned());
    jetstream::new(options.connect(server.url()).await.unwrap())
}

/// The samples of a stream's speeds and how often each is there.
async fn stored(server: &NatsServer) -> BTreeMap<(i64, String), usize> {
    let js = log_in(server).await;
    let stream = js.get_stream("T").await.unwrap();
    let config = jetstream::consumer::pull::Config::default();
    let messages = stream.create_consumer(config).await.unwrap();
    let count = stream.get_info().await.unwrap().state.messages;
    let mut messages = messages.messages().await.unwrap().take(usize::try_from(count).unwrap());
    let schema = Schema::default();
    let signal = &schema.signals()[1];
    let mut found = BTreeMap::new();
    while let Some(message) = messages.next().await {
        let mut samples = Samples::new(1);
        AnyDecoder.decode(signal, &message.unwrap().payload, &mut samples).unwrap();
        for (time, values) in samples.iter() {
            *found.entry((time, values[0].to_string())).or_default() += 1;
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_costs_nothing() {
    let programs = programs().await;
    let server = NatsServer::builder().jetstream("sync_interval: always");
    let users = "authorization { user: car, password: s3cret }";
    let mut server = server.config(users).start().await.unwrap();
    let js = log_in(&server).await;
    let subjects = vec!["fleet.0.*.speed".to_owned()];
    let config = stream::Config { name: "T".to_owned(), subjects, ..stream::Config::default() };
    js.create_stream(config).await.unwrap();

    let url = server.url().replace("nats://", "nats://car:s3cret@");
    let mut sensor = start(&programs, "sensor", &["--ring", "2000", &url, "0", "C-2", "speed", "-"]);
    let mut pipe = sensor.stdin.take().unwrap();
    let mut expected = BTreeMap::new();
    for n in 0..1_500_i64 {
        let value = (n % 4_000) as f64 / 10.0;
        let line = format!("{},{value}\n", 1_735_689_600_000 + n * 100);
        pipe.write_all(line.as_bytes()).await.unwrap();
        expected.insert(((1_735_689_600_000 + n * 100) * 1_000, value.to_string()), 1);
        match n {
            500 => server.kill().await,
            1_000 => server.start_again().await.unwrap(),
            _ if n % 10 == 0 => tokio::time::sleep(Duration::from_millis(2)).await,
            _ => {}
        }
    }
    drop(pipe);
    let said = ended(sensor).await;
    assert!(said.contains("pushed 1500 acknowledged 1500 dropped 0"), "{said}");
    let connects: u32 = said.split(" connects ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(connects >= 2, "the server was not missed: {said}");
    assert_eq!(stored(&server).await, expected, "each sample once");
}
