//! The C client of `examples/sensor-c`, under AddressSanitizer and UBSan, against real servers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use fleet_core::Schema;
use fleet_core::decode::{AnyDecoder, Decoder};
use fleet_core::sample::Samples;
use fleet_worker::clock::now;
use fleet_worker::local::{NatsServer, debian_package};
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

use crate::world::{Hand, deployment};

pub(crate) mod login;
mod lwip;
mod refusals;
mod split;
mod tls;
mod vehicle;

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/sensor-c")
}

/// These programs, compiled with every warning an error.
pub(crate) async fn programs(names: &[&str]) -> TempDir {
    programs_with("-O2", names).await
}

async fn programs_with(flags: &str, names: &[&str]) -> TempDir {
    // Elsewhere they may be in another place: where there are none, `make` says what to do.
    if names.iter().any(|name| name.ends_with("-tls")) {
        let _ = debian_package("libssl-dev", &["/usr/include/openssl/ssl.h"]).await;
    }
    if names.iter().any(|name| name.ends_with("-lwip")) {
        let _ = debian_package("liblwip-dev", &["/usr/include/lwip/lwip/tcp.h"]).await;
    }
    let out = tempfile::tempdir().unwrap();
    let mut make = Command::new(debian_package("make", &["make"]).await.unwrap());
    make.arg("-s").arg("-C").arg(sources()).arg("SANITIZE=1").arg(format!("OUT={}", out.path().display()));
    make.args(names.iter().map(|name| out.path().join(name))).env("CC", "gcc").env("CFLAGS", flags);
    let made = make.output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    out
}

pub(crate) fn start(programs: &TempDir, program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(programs.path().join(program));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().unwrap()
}

/// What the program printed, once it has ended well.
pub(crate) async fn ended(child: Child) -> String {
    let output = tokio::time::timeout(Duration::from_secs(600), child.wait_with_output()).await;
    let output = output.expect("the program ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that a program printed that goes on trying, until it has said `wanted` twice.
async fn refused(mut child: Child, wanted: &str) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (mut said, begun) = (String::new(), Instant::now());
    while said.matches(wanted).count() < 2 {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{wanted:?} is not said, but {said:?}"));
        writeln!(said, "{}", line.unwrap().expect("it goes on trying")).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(60), "{wanted:?} is not said, but {said:?}");
    }
    child.kill().await.unwrap();
    child.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    said
}

/// What a program printed that ends at once because of how it was called.
async fn misused(child: Child) -> String {
    let output = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    let output = output.expect("the program ends").unwrap();
    assert_eq!(output.status.code(), Some(64), "{output:?}");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[tokio::test]
async fn frames_are_those_of_the_vectors_and_no_bytes_do_harm() {
    let programs = programs(&["check"]).await;
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/wire-format-vectors.txt");
    let said = ended(start(&programs, "check", &["vectors", vectors.to_str().unwrap()])).await;
    let frames: u32 = said.split_whitespace().next().unwrap().parse().unwrap();
    assert!(frames >= 10, "{said}");
    ended(start(&programs, "check", &["cases"])).await;
    ended(start(&programs, "check", &["parse", "1", "200000"])).await;
    let seeds: Vec<_> =
        std::fs::read_dir(sources().join("corpus")).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(seeds.len() >= 15);
    let seeds = seeds.iter().map(|path| path.to_str().unwrap());
    let arguments: Vec<&str> = ["replay"].into_iter().chain(seeds).collect();
    ended(start(&programs, "check", &arguments)).await;
    let small = programs_with("-O1 -DFLEET_MSG_ID=0", &["check"]).await;
    ended(start(&small, "check", &["cases"])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_in_c_ends_as_records() {
    let programs = programs(&["vehicle"]).await;
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

    // All came after the `on`, and most of the 2 s later in which a worker binds.
    let js = jetstream::new(async_nats::connect(url).await.unwrap());
    let on = js.get_stream("LIFECYCLE_0").await.unwrap();
    let on = on.get_last_raw_message_by_subject("fleet.0.C-1.on").await.unwrap().time;
    let first = js.get_stream("TELEMETRY_0").await.unwrap();
    let first = first.get_first_raw_message_by_subject("fleet.0.C-1.*", 1).await.unwrap();
    assert!(first.time - on > Duration::from_secs(1), "on at {on}, the first samples at {}", first.time);
}

/// A server on which whoever knows the password may do everything, with a stream of speeds.
async fn server_with_stream() -> (NatsServer, jetstream::Context) {
    server_with_stream_and("").await
}

async fn server_with_stream_and(config: &str) -> (NatsServer, jetstream::Context) {
    let server = NatsServer::builder().jetstream("sync_interval: always").config(config);
    // A login in pieces on a busy machine may take longer than the usual 2 s.
    let users = "authorization { user: car, password: s3cret, timeout: 60 }";
    let server = server.config(users).start().await.unwrap();
    let js = log_in(&server).await;
    create_stream(&js).await;
    (server, js)
}

async fn log_in(server: &NatsServer) -> jetstream::Context {
    let options = async_nats::ConnectOptions::with_user_and_password("car".to_owned(), "s3cret".to_owned());
    jetstream::new(options.connect(server.url()).await.unwrap())
}

/// The client's URL of that port.
fn with_password(port: u16) -> String {
    format!("nats://car:s3cret@127.0.0.1:{port}")
}

async fn create_stream(js: &jetstream::Context) {
    let subjects = vec!["fleet.0.*.speed".to_owned()];
    let config = stream::Config { name: "T".to_owned(), subjects, ..stream::Config::default() };
    js.create_stream(config).await.unwrap();
}

/// The samples of the stream's speeds and how often each is there.
async fn stored(js: &jetstream::Context) -> BTreeMap<(i64, String), usize> {
    let stream = js.get_stream("T").await.unwrap();
    let count = stream.get_info().await.unwrap().state.messages;
    let mut found = BTreeMap::new();
    if count == 0 {
        return found; // a consumer would wait
    }
    // With acknowledgements it would be given a thousand, and those again.
    let config = pull::Config { ack_policy: AckPolicy::None, ..pull::Config::default() };
    let messages = stream.create_consumer(config).await.unwrap();
    let mut messages = messages.messages().await.unwrap().take(usize::try_from(count).unwrap());
    let schema = Schema::default();
    let signal = &schema.signals()[1];
    while let Some(message) = messages.next().await {
        let mut samples = Samples::new(1);
        AnyDecoder.decode(signal, &message.unwrap().payload, &mut samples).unwrap();
        for (time, values) in samples.iter() {
            *found.entry((time, values[0].to_string())).or_default() += 1;
        }
    }
    found
}

/// Has `program` publish 400 speeds; they must be in the stream once each, and nothing else.
async fn publishes(programs: &TempDir, program: &str, options: &[&str], url: &str, js: &jetstream::Context) {
    publishes_so_many(400, programs, program, options, url, js).await;
}

async fn publishes_so_many(
    count: i64,
    programs: &TempDir,
    program: &str,
    options: &[&str],
    url: &str,
    js: &jetstream::Context,
) {
    let (lines, samples): (Vec<_>, Vec<_>) = (0..count).map(speed).unzip();
    let file = programs.path().join("speeds.csv");
    std::fs::write(&file, lines.concat()).unwrap();
    let arguments = [options, &[url, "0", "C-3", "speed", file.to_str().unwrap()]].concat();
    let said = ended(start(programs, program, &arguments)).await;
    // Nothing resent: each acknowledgement was read, not found out by asking again. Connected more than once
    // only where `localhost` is ::1 first.
    let whole = said.starts_with(&format!("pushed {count} acknowledged {count} dropped 0 resent 0 "));
    assert!(whole && said.ends_with(" errors 0\n"), "the client lost its place: {said}");
    let expected: BTreeMap<_, _> = samples.into_iter().map(|sample| (sample, 1)).collect();
    assert_eq!(stored(js).await, expected, "each sample once");
}

/// Starts `program` with one sample to publish.
fn try_one(programs: &TempDir, program: &str, options: &[&str], url: &str) -> Child {
    let file = programs.path().join("speed.csv");
    std::fs::write(&file, speed(0).0).unwrap();
    start(programs, program, &[options, &[url, "0", "C-4", "speed", file.to_str().unwrap()]].concat())
}

/// The n-th speed, as a line for `sensor` and as it is stored.
fn speed(n: i64) -> (String, (i64, String)) {
    let (ms, value) = (1_735_689_600_000 + n * 100, (n % 4_000) as f64 / 10.0);
    (format!("{ms},{value}\n"), (ms * 1_000, value.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_costs_nothing() {
    survives_a_kill("sensor", &[]).await;
}

/// Has `program` publish while its server is killed and comes back: each sample must be in the stream once.
async fn survives_a_kill(program: &str, options: &[&str]) {
    let programs = programs(&[program]).await;
    let (mut server, _) = server_with_stream().await;
    let url = with_password(server.port());
    let arguments = [options, &["--ring", "2000", &url, "0", "C-2", "speed", "-"]].concat();
    let mut sensor = start(&programs, program, &arguments);
    let mut pipe = sensor.stdin.take().unwrap();
    let mut expected = BTreeMap::new();
    for n in 0..1_500_i64 {
        let (line, sample) = speed(n);
        pipe.write_all(line.as_bytes()).await.unwrap();
        expected.insert(sample, 1);
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
    assert_eq!(stored(&log_in(&server).await).await, expected, "each sample once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_answers_is_left_for_one_that_does() {
    let programs = programs(&["sensor"]).await;
    let (server, js) = server_with_stream().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let real = server.port();
    let silent = tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        // Ends when the client gives it up.
        first.read_to_end(&mut heard).await.unwrap();
        assert!(heard.is_empty(), "something was said to a server that had not greeted");
        let (mut second, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", real)).await.unwrap();
        tokio::io::copy_bidirectional(&mut second, &mut server).await
    });
    let (lines, samples): (Vec<_>, Vec<_>) = (0..400).map(speed).unzip();
    let file = programs.path().join("speeds.csv");
    std::fs::write(&file, lines.concat()).unwrap();
    let (url, file) = (with_password(port), file.to_str().unwrap());
    let said = ended(start(&programs, "sensor", &["--ring", "500", &url, "0", "C-5", "speed", file])).await;
    let all = "pushed 400 acknowledged 400 dropped 0 resent 0 connects 2 errors 0\n";
    assert_eq!(said, all, "all were kept until there was a server");
    silent.await.unwrap().unwrap();
    let expected: BTreeMap<_, _> = samples.into_iter().map(|sample| (sample, 1)).collect();
    assert_eq!(stored(&js).await, expected, "each sample once");
}
