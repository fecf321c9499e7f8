//! `check` finds on a server what a vehicle could do that it must not.

use std::path::Path;
use std::process::Output;

use async_nats::jetstream;
use fleet_worker::local::NatsServer;
use nkeys::KeyPair;
use tokio::process::Command;

use super::guarded::{Guarded, streams};

async fn check(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_fleet-worker")).arg("check").args(arguments).output().await.unwrap()
}

fn seed(folder: &Path, seed: &str) -> String {
    let file = folder.join("vehicle");
    std::fs::write(&file, seed).unwrap();
    file.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shipped_server_is_good_and_who_may_not_publish_is_named() {
    let (guarded, _) = Guarded::with_streams(&["CAR-1", "CAR-2"]).await;
    let config = guarded.config("");
    let (config, setup) = (config.to_str().unwrap(), guarded.seed_file("SETUP_0_A"));
    let login = seed(guarded.folder(), &guarded.vehicle_seed("CAR-1"));
    let of = async |vehicle: &str| {
        let arguments = ["check", "--config", config, "--vehicle", vehicle, "--login", &login];
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleet-worker"));
        command.args(arguments).env("FLEET_NATS__NKEY_FILE", &setup).output().await.unwrap()
    };
    let good = of("CAR-1").await;
    assert!(good.status.success() && good.stdout.ends_with(b"\nok\n"), "{good:?}");
    let other = of("CAR-2").await;
    let said = String::from_utf8_lossy(&other.stderr);
    assert_eq!(other.status.code(), Some(64), "{said}");
    assert!(said.contains("CAR-2 gets no publish ack for fleet.0.CAR-2.position"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_naive_server_lets_through_is_said() {
    let key = KeyPair::new_user();
    let users = format!(
        "authorization {{ users: [ {{ user: ops, password: x }}, {{ nkey: {}, permissions: {{
           publish: [\"fleet.0.*.*\", \"$JS.API.STREAM.INFO.*\"], subscribe: [\"_INBOX.CAR-1.>\", \"fleet.0.*.*\"] }} }} ] }}",
        key.public_key()
    );
    let server = NatsServer::builder().config(&users).jetstream("strict: false").start().await.unwrap();
    let url = format!("nats://ops:x@127.0.0.1:{}", server.port());
    let ops = async_nats::ConnectOptions::with_user_and_password("ops".to_owned(), "x".to_owned());
    streams(&jetstream::new(ops.connect(server.url()).await.unwrap())).await;
    let folder = tempfile::tempdir().unwrap();
    let login = seed(folder.path(), &key.seed().unwrap());
    let naive = check(&["--nats-url", &url, "--vehicle", "CAR-1", "--login", &login]).await;
    let said = String::from_utf8_lossy(&naive.stderr);
    assert_eq!(naive.status.code(), Some(64), "{said}");
    for part in [
        "not strict",
        "by a forged reply",
        "as another vehicle, to fleet.0.fleet-check.position",
        "reaches the JetStream API",
        "can subscribe to fleet.0.*.position",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!said.contains(&key.seed().unwrap()[4..]), "{said}");
}
