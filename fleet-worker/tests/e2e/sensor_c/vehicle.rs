//! `vehicle`, a whole vehicle of C clients: to a server with TLS, and with a signal of one's own.

use std::fmt::Write as _;
use std::time::Duration;

use async_nats::jetstream::{self, stream};
use fleet_worker::clock::now;
use fleet_worker::local::NatsServer;
use nkeys::KeyPair;

use super::{ended, programs, refused, start};
use crate::ca::Ca;
use crate::schemas::SIGNALS;
use crate::world::{Hand, QUICK, deployment_by};

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_of_ones_own_ends_in_its_columns() {
    let programs = programs(&["vehicle"]).await;
    let deployment = deployment_by(&QUICK.replacen("[worker]", &format!("{SIGNALS}[worker]"), 1), 1).await;
    let mut expected = Hand::new(&deployment, "C-8").await;
    let begun = now() / 1_000_000 * 1_000;
    let mut text = String::new();
    for n in 0..50_i64 {
        let (ms, speed) = (begun + n * 200, 50.0 + n as f64 / 4.0);
        writeln!(text, "C-8,speed,{ms},{speed}").unwrap();
        expected.note(1, ms * 1_000, &[speed]);
        if n % 4 == 0 {
            let tyres: Vec<String> =
                (0..4).map(|tyre| format!("{:.1}", 240.3 + (n + tyre) as f64 / 10.0)).collect();
            writeln!(text, "C-8,tyre,{ms},{}", tyres.join(",")).unwrap();
            let tyres: Vec<f64> = tyres.iter().map(|value| value.parse().unwrap()).collect();
            expected.note(4, ms * 1_000, &tyres);
        }
    }
    let file = programs.path().join("drive.csv");
    std::fs::write(&file, text).unwrap();
    let url = deployment.nats.url();
    let arguments = ["--signal", "tyre=4,2,1", &url, "0", "C-8", file.to_str().unwrap()];
    let said = ended(start(&programs, "vehicle", &arguments)).await;
    assert!(said.ends_with("tyre pushed 13 acknowledged 13 dropped 0 resent 0 connects 1\n"), "{said}");
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    expected.assert_exact(&deployment).await;
}

#[tokio::test]
async fn a_signal_that_is_described_wrongly_is_told() {
    let programs = programs(&["vehicle"]).await;
    for (text, said) in [
        ("tyre", "not NAME=COLUMNS,BYTES,DECIMALS"),
        ("tyre=4,2", "not NAME=COLUMNS,BYTES,DECIMALS"),
        ("tyre=4,2,1,1", "not NAME=COLUMNS,BYTES,DECIMALS"),
        ("tyre=5,2,1", "1 to 4 columns"),
        ("tyre=4,3,1", "1, 2 or 4 bytes"),
        ("speed=1,2,2", "there is such a signal already"),
        ("a.b=1,2,2", "the configuration is wrong (-1"),
    ] {
        let arguments = ["--signal", text, "nats://127.0.0.1:1", "0", "C-8", "/dev/null"];
        let problem = super::misused(start(&programs, "vehicle", &arguments)).await;
        assert!(problem.contains(said), "{text}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_speaks_tls_and_logs_in_with_its_nkey() {
    let (programs, ca, other) = (programs(&["vehicle-tls"]).await, Ca::new("ours"), Ca::new("another"));
    let (cert, key) = ca.certify(&["127.0.0.1"], ca.folder());
    let car = KeyPair::new_user();
    let server = NatsServer::builder()
        .config(&format!("tls {{ cert_file: {cert:?}, key_file: {key:?}, timeout: 60 }}"))
        .config(&format!("authorization {{ timeout: 60, users: [ {{ nkey: {} }} ] }}", car.public_key()));
    let server = server.start().await.unwrap();
    let options = async_nats::ConnectOptions::with_nkey(car.seed().unwrap());
    let options = options.add_root_certificates(ca.file()).require_tls(true);
    let url = format!("tls://127.0.0.1:{}", server.port());
    let js = jetstream::new(options.connect(&url).await.unwrap());
    let config = stream::Config { name: "T".into(), subjects: vec!["fleet.>".into()], ..Default::default() };
    let mut stream = js.create_stream(config).await.unwrap();

    let (file, seed) = (programs.path().join("drive.csv"), programs.path().join("seed"));
    let mut text = String::new();
    for n in 0..24 {
        let at = 1_735_689_600_000_i64 + n * 20;
        writeln!(
            text,
            "C-9,position,{at},48.1,11.5\nC-9,speed,{at},50\nC-9,fuel,{at},47\nC-9,brake,{at},63.5"
        )
        .unwrap();
    }
    std::fs::write(&file, text).unwrap();
    std::fs::write(&seed, car.seed().unwrap()).unwrap();
    let vehicle = |ca: &Ca| {
        let (ca, seed) = (ca.file(), seed.to_str().unwrap().to_owned());
        let options =
            ["--ca", ca.to_str().unwrap(), "--creds", &seed, &url, "0", "C-9", file.to_str().unwrap()];
        start(&programs, "vehicle-tls", &options)
    };
    refused(vehicle(&other), "vehicle-tls: the certificate of 127.0.0.1 is refused").await;
    assert_eq!(stream.info().await.unwrap().state.messages, 0, "something was said to a stranger");

    let said = ended(vehicle(&ca)).await;
    for signal in ["position", "speed", "fuel", "brake"] {
        let all = format!("{signal} pushed 24 acknowledged 24 dropped 0 resent 0 connects 1\n");
        assert!(said.contains(&all), "{said}");
    }
    stream.get_last_raw_message_by_subject("fleet.0.C-9.off").await.expect("the trip ended");
}
