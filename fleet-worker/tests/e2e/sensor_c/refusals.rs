//! What the C client says where its words are not taken, and that nothing else suffers by it.

use std::fmt::Write as _;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use fleet_worker::local::NatsServer;
use tokio::process::Child;

use super::{
    create_stream, ended, log_in, programs, programs_with, refused, server_with_stream, speed, start, stored,
    try_one, with_password,
};

/// The exit status, and what was printed on standard output and on standard error.
async fn ended_with(child: Child) -> (Option<i32>, String, String) {
    let output = tokio::time::timeout(Duration::from_secs(120), child.wait_with_output()).await;
    let output = output.expect("the program ends").unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_starts_again_with_the_same_seed_loses_nothing() {
    let programs = programs(&["sensor"]).await;
    let (server, js) = server_with_stream().await;
    let url = with_password(server.port());
    let file = programs.path().join("speed.csv");
    let (line, (ms, _)) = speed(0);
    let at = line.split(',').next().unwrap();
    for value in 1..=3 {
        std::fs::write(&file, format!("{at},{value}\n")).unwrap();
        let arguments = ["--seed", "7", &url, "0", "C-6", "speed", file.to_str().unwrap()];
        let said = ended(start(&programs, "sensor", &arguments)).await;
        assert!(said.starts_with("pushed 1 acknowledged 1 "), "{said}");
    }
    let expected = (1..=3).map(|value| ((ms, value.to_string()), 1)).collect();
    assert_eq!(stored(&js).await, expected, "what was acknowledged is stored");
}

#[tokio::test]
async fn a_vehicle_that_the_recording_lacks_is_told_with_those_it_has() {
    let programs = programs(&["vehicle"]).await;
    let file = programs.path().join("drive.csv");
    let mut text = "vehicle,signal,ts_ms,value,value2\n".to_owned();
    for n in 0..30 {
        writeln!(text, "CAR-{},speed,{},50", n % 2, 1_735_689_600_000_i64 + n).unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let arguments = ["nats://127.0.0.1:1", "0", "CAR-2", file.to_str().unwrap()];
    let (status, _, said) = ended_with(start(&programs, "vehicle", &arguments)).await;
    assert_eq!(status, Some(65), "{said}");
    assert!(said.contains("is of CAR-2, it has CAR-0, CAR-1\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_no_stream_takes_is_told_and_the_others_go_on() {
    let programs = programs_with("-O2 -DFLEET_TRIES=2", &["vehicle"]).await;
    let (server, js) = server_with_stream().await;
    let subjects =
        vec!["fleet.0.*.on".to_owned(), "fleet.0.*.off".to_owned(), "fleet.0.*.position".to_owned()];
    let config = stream::Config { name: "L".to_owned(), subjects, ..stream::Config::default() };
    js.create_stream(config).await.unwrap();
    let file = programs.path().join("drive.csv");
    let mut text = "vehicle,signal,ts_ms,value,value2\n".to_owned();
    for n in 0..40 {
        let at = 1_735_689_600_000_i64 + n * 20;
        writeln!(text, "C-7,position,{at},48.1,11.5\nC-7,speed,{at},50\nC-7,brake,{at},63.5").unwrap();
    }
    std::fs::write(&file, text).unwrap();
    let url = with_password(server.port());
    let arguments = [&*url, "0", "C-7", file.to_str().unwrap()];
    let (status, counts, said) = ended_with(start(&programs, "vehicle", &arguments)).await;
    assert_eq!(status, Some(69), "{counts}{said}");
    assert_eq!(said, "vehicle: no stream takes fleet.0.C-7.brake: 2 sends without an answer\n");
    assert!(counts.contains("speed pushed 40 acknowledged 40 dropped 0"), "{counts}");
    assert!(counts.contains("brake pushed 40 acknowledged 0 dropped 0"), "{counts}");
    assert_eq!(stored(&js).await.len(), 40);
    let lifecycle = js.get_stream("L").await.unwrap();
    lifecycle.get_last_raw_message_by_subject("fleet.0.C-7.off").await.expect("the trip ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_names_its_subject() {
    let programs = programs(&["sensor"]).await;
    let config = r#"authorization { users: [ { user: car, password: s3cret }, { user: other, password: s3cret,
        permissions: { publish: "fleet.0.OTHER.>", subscribe: "_INBOX.>" } } ] }"#;
    let server = NatsServer::builder().config(config).start().await.unwrap();
    let js: jetstream::Context = log_in(&server).await;
    create_stream(&js).await;
    let url = format!("nats://other:s3cret@127.0.0.1:{}", server.port());
    let wanted = "the server says 'Permissions Violation for Publish to \"fleet.0.C-4.speed\"'";
    refused(try_one(&programs, "sensor", &[], &url), wanted).await;
    assert!(stored(&js).await.is_empty());
}
