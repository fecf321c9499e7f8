//! The three servers of `examples/kubernetes`, and managed NATS.

use std::collections::BTreeMap;

use async_nats::jetstream;
use fleet_core::nats::{Names, StreamOptions, set_up};
use fleet_worker::config::Config;
use fleet_worker::local::{NatsServer, free_port};
use nkeys::KeyPair;

use super::forgery::{attack, harm};
use super::guarded::{Files, log_in, shipped};
use crate::ca::Ca;
use crate::replicas::elected;

#[tokio::test(flavor = "multi_thread")]
async fn on_three_servers_acks_arrive_and_forged_replies_reach_nobody() {
    let (ca, car) = (Ca::new("fleet's"), KeyPair::new_user());
    let server = shipped().join("../kubernetes/nats/server.conf");
    let ports = [(); 3].map(|()| free_port());
    let vehicles = BTreeMap::from([("CAR-1".to_owned(), car)]);
    let first = Files::write(&ca, &vehicles);
    let mut servers = Vec::new();
    for (n, port) in ports.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("nats-{n}-{port}");
        let mut text = std::fs::read_to_string(&server).unwrap();
        text = text.replace("$POD_NAME", &name).replace("$MAX_FILE_STORE", "30GB");
        text = text
            .replace("/data", folder.path().to_str().unwrap())
            .replace("0.0.0.0:6222", &format!("127.0.0.1:{port}"));
        for (n, port) in ports.iter().enumerate() {
            text = text.replace(&format!("nats-{n}.nats:6222"), &format!("127.0.0.1:{port}"));
        }
        let config = first.server(&text);
        servers.push((NatsServer::builder().file(&config, &name).start().await.unwrap(), folder));
    }
    let url = |n: usize| format!("tls://127.0.0.1:{}", servers[n].0.port());
    let operator = log_in(&ca, &url(0), &first.seed("OPERATOR_A"), "operator").await.unwrap().0;
    let js = jetstream::new(operator);
    elected(&js).await;
    let seed = vehicles["CAR-1"].seed().unwrap();
    for n in 0..3 {
        let (car, _) = log_in(&ca, &url(n), &seed, "CAR-1").await.unwrap();
        attack(&car, true).await;
        assert_eq!(harm(&js).await, [""; 0], "on server {n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_the_trial_fit_into_what_managed_nats_keeps() {
    let accounts = "accounts { ONE { jetstream: { max_mem: 100MB, max_file: 100MB },
                                     users: [ { user: ops, password: x } ] } }";
    let server = NatsServer::builder().config(accounts).start().await.unwrap();
    let ops = async_nats::ConnectOptions::with_user_and_password("ops".to_owned(), "x".to_owned());
    let js = jetstream::new(ops.connect(server.url()).await.unwrap());
    let text =
        std::fs::read_to_string(shipped().join("../kubernetes/overlays/managed-nats/fleet.toml")).unwrap();
    // What is a file there is none here.
    let text: String =
        text.lines().filter(|line| !line.contains("\"/etc/fleet")).map(|line| format!("{line}\n")).collect();
    let config = Config::parse("fleet.toml", &text, std::iter::empty(), &[]).unwrap();
    set_up(&js, &config.names().next().unwrap(), &config.schema, &config.stream_options()).await.unwrap();
    let default =
        set_up(&js, &Names::new(&"1".parse().unwrap()), &config.schema, &StreamOptions::default()).await;
    assert_eq!(
        default.unwrap_err().kind(),
        fleet_core::ErrorKind::Configuration,
        "nor would 20 GiB be refused"
    );
}
