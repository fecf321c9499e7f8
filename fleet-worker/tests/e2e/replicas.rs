//! Three servers that keep everything three times, as in production.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use fleet_core::nats::{Names, StreamOptions, set_up};
use fleet_core::{CellId, Schema};
use fleet_worker::deployment::Deployment;
use fleet_worker::local::NatsServer;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::handing_over::{replace_one, until_live};
use crate::world::{Fleet, QUICK, assert_exact, endless_fleet, eventually, finish, until_bound};

/// Three servers that have elected a leader.
async fn cluster() -> Vec<NatsServer> {
    let servers = NatsServer::builder().start_cluster().await.unwrap();
    elected(&jetstream::new(async_nats::connect(servers[0].url()).await.unwrap())).await;
    servers
}

/// Waits until three servers can keep the streams of cell 0 three times.
pub(crate) async fn elected(js: &jetstream::Context) {
    let options = StreamOptions { replicas: 3, ..StreamOptions::default() };
    let (names, schema) = (Names::new(&CellId::default()), Schema::default());
    let made = async || set_up(js, &names, &schema, &options).await.is_ok();
    eventually("three servers have elected a leader", Duration::from_secs(60), made).await;
}

/// A fleet on three servers with two workers, all bound, with these lines for `[worker]`.
async fn driving(worker: &str) -> (Deployment, Vec<NatsServer>, Fleet, oneshot::Sender<()>) {
    let mut servers = cluster().await;
    let urls = servers.iter().map(NatsServer::url).collect::<Vec<_>>().join(",");
    // Nothing is stored while servers elect a leader, for more than ten seconds; it must not be late then.
    let quick = QUICK.replace("window = \"10s\"", "window = \"60s\"");
    let config = format!("{quick}{worker}\n\n[nats]\nurl = {urls:?}\nreplicas = 3\n");
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let deployment = Deployment::start_on(servers.remove(0), program, &config, 2).await.unwrap();
    let (fleet, on) = endless_fleet(&deployment, 60).await;
    until_bound(&deployment, 60, Duration::from_secs(30)).await;
    (deployment, servers, fleet, on)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_three_servers_may_be_killed_and_come_back() {
    let (mut deployment, mut others, fleet, on) = driving("audit_interval = \"5s\"").await;
    for server in std::iter::once(&mut deployment.nats).chain(&mut others) {
        server.kill().await;
        sleep(Duration::from_secs(3)).await;
        server.start_again().await.unwrap();
        // What it missed is to be there again before the next one goes.
        sleep(Duration::from_secs(10)).await;
    }
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_hands_its_vehicles_over_on_three_servers() {
    let (mut deployment, _others, fleet, on) = driving("").await;
    until_live(&deployment, 60).await;
    sleep(Duration::from_secs(5)).await;
    deployment.add_worker().await.unwrap();
    replace_one(&mut deployment, 60).await;
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

/// Its connections stay open, and the others drop what is meant for it.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_servers_may_stand_still() {
    let (deployment, _others, fleet, on) = driving("audit_interval = \"5s\"").await;
    deployment.nats.process().pause().unwrap();
    sleep(Duration::from_secs(15)).await;
    deployment.nats.process().resume().unwrap();
    sleep(Duration::from_secs(10)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}
