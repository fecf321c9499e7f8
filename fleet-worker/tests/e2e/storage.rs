//! NATS without room: it answers, delivers what it has, and stores nothing until it is started again. The
//! full disk is a small file system in memory, which only root can mount.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream;
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use fleet_worker::local::NatsServer;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::alerts::Recording;
use crate::failures::until_readyz;
use crate::world::{Hand, QUICK, until_bound};

/// A disk of that many MiB; it is gone with its value.
struct Disk(TempDir);

impl Disk {
    fn new(mebibytes: u32) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        disk.mount(&["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "small-disk"]);
        disk
    }

    fn grow(&self, mebibytes: u32) {
        self.mount(&["-o", &format!("remount,size={mebibytes}m")]);
    }

    fn mount(&self, arguments: &[&str]) {
        let done = Command::new("mount").args(arguments).arg(self.0.path()).output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "this test must be run as one who may mount a tmpfs: {said}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a server that is still about may have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_room_is_told() {
    let (disk, folder) = (Disk::new(12), tempfile::tempdir().unwrap());
    let (store, config) = (disk.0.path().join("store"), folder.path().join("nats.conf"));
    let text = format!(
        "server_name: small\njetstream {{ store_dir: {store:?}, max_file_store: 1TB, strict: true }}\n"
    );
    std::fs::write(&config, text).unwrap();
    let nats = NatsServer::builder().file(&config, "small").start().await.unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_fleet-worker"));
    let mut deployment = Deployment::start_on(nats, program, QUICK, 1).await.unwrap();
    // Bound before and silent: it asks for nothing that would fail.
    let mut hand = Hand::new(&deployment, "CAR").await;
    hand.send("on", "").await;
    hand.drive(now() - 8_000_000, 8).await;
    until_bound(&deployment, 1, Duration::from_secs(20)).await;

    let mut recording = Recording::of(&deployment.workers).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let filling = async {
        loop {
            let ack = js.publish("fleet.0.NOBODY.speed", vec![b' '; 4_000].into()).await.unwrap();
            if !matches!(timeout(Duration::from_secs(3), ack.into_future()).await, Ok(Ok(_))) {
                break;
            }
        }
    };
    timeout(Duration::from_secs(120), filling).await.unwrap();
    let worker = &deployment.workers[0];
    until_readyz(worker, 503, "not ready: nats storage\n").await;
    assert!(worker.metric("fleet_source_not_stored_total{reason=\"no_answer\"").await.unwrap() > 0);
    let logs = worker.process.logs();
    assert!(logs.contains("must be restarted once there is room"), "{logs}");
    recording.scrape(&deployment.workers).await;
    let alerts = recording.alerts();
    alerts.assert_leads("FleetNatsStoresNothing", &["cell 0", "stores nothing"], &logs);
    alerts.assert_silent(&["FleetNatsAway"]);

    disk.grow(200);
    deployment.nats.stop().await.unwrap();
    deployment.nats.start_again().await.unwrap();
    until_readyz(&deployment.workers[0], 200, "ok\n").await;
    hand.drive(now() - 4_000_000, 4).await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(60)).await.unwrap();
    hand.assert_exact(&deployment).await;
}
