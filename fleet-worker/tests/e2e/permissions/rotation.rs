//! Keys and certificates change while everybody goes on.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use fleet_worker::deployment::Program;
use nkeys::KeyPair;

use super::job::{Job, until_active};
use crate::world::{Hand, eventually};

/// A vehicle that is bound and has sent something.
struct Driving {
    discovery: Program,
    worker: Program,
    hand: Hand,
    begun: i64,
}

async fn drive(job: &mut Job, js: jetstream::Context) -> Driving {
    let discovery = job.program("discover", "DISCOVERY_0_A").await;
    let worker = job.program("run", "WORKER_0_A").await;
    let mut hand = Hand::on(js, "CAR-1");
    hand.send("on", "").await;
    let bound = async || worker.metric("fleet_bound").await == Some(1);
    eventually("the vehicle is bound", Duration::from_secs(20), bound).await;
    let begun = now() - 4 * SECOND;
    hand.drive(begun, 1).await;
    Driving { discovery, worker, hand, begun }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_the_certificate_change_without_a_restart() {
    let mut job = Job::start(&["CAR-1", "CAR-2"]).await;
    let js = jetstream::new(job.guarded.vehicle("CAR-1").await.0);
    let Driving { discovery, worker, mut hand, begun } = drive(&mut job, js.clone()).await;

    // The worker's idle key, a vehicle's key and the certificate.
    let keys = job.guarded.folder().join("keys/keys.conf");
    let text = std::fs::read_to_string(&keys).unwrap();
    let (old, new) = (job.guarded.seed("WORKER_0_B"), KeyPair::new_user());
    let public = KeyPair::from_seed(&old).unwrap().public_key();
    assert!(text.contains(&public));
    std::fs::write(&keys, text.replace(&public, &new.public_key())).unwrap();
    let renewed = job.guarded.vehicle_seed("CAR-2");
    let leaves = job.guarded.log_in(&renewed, "CAR-2").await.unwrap().0;
    job.guarded.renew("CAR-2");
    let folder = job.guarded.folder().to_owned();
    job.guarded.ca.certify(&["127.0.0.1", "localhost"], &folder);
    let by_name = job.guarded.url().replace("127.0.0.1", "localhost");
    assert!(job.guarded.log_in_at(&by_name, &renewed, "CAR-2").await.is_err(), "not in the old certificate");
    job.guarded.reload().await;

    assert!(job.guarded.log_in(&old, "fleet-live-0").await.is_err(), "the worker's old key");
    job.guarded.log_in(&new.seed().unwrap(), "fleet-live-0").await.unwrap();
    assert!(job.guarded.log_in(&renewed, "CAR-2").await.is_err(), "the vehicle's old key");
    let fresh = job.guarded.vehicle_seed("CAR-2");
    job.guarded.log_in_at(&by_name, &fresh, "CAR-2").await.unwrap();
    let gone = async || leaves.connection_state() != State::Connected;
    eventually("who was in by the old key is out", Duration::from_secs(5), gone).await;

    // Nobody else noticed.
    assert_eq!(js.client().statistics().connects.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert_eq!(worker.metric("fleet_source_reconnects_total").await, Some(0));
    assert_eq!(worker.metric("fleet_bound").await, Some(1));
    hand.drive(begun + 2 * SECOND, 2).await;
    hand.send("off", "").await;
    until_active(&discovery, 0).await;
    job.assert_exact(&[hand]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_take_up_new_keys_from_their_files_without_a_restart() {
    let mut job = Job::start(&["CAR-1"]).await;
    let js = jetstream::new(job.guarded.vehicle("CAR-1").await.0);
    let Driving { discovery, worker, mut hand, begun } = drive(&mut job, js).await;

    let keys = job.guarded.folder().join("keys/keys.conf");
    let mut text = std::fs::read_to_string(&keys).unwrap();
    let mut old = Vec::new();
    for login in ["DISCOVERY_0_A", "WORKER_0_A"] {
        old.push(job.guarded.seed(login));
        let public = KeyPair::from_seed(old.last().unwrap()).unwrap().public_key();
        let new = KeyPair::new_user();
        assert!(text.contains(&public));
        text = text.replace(&public, &new.public_key());
        std::fs::write(job.guarded.seed_file(login), new.seed().unwrap()).unwrap();
    }
    std::fs::write(&keys, text).unwrap();
    job.guarded.reload().await;
    let back = async || worker.metric("fleet_source_reconnects_total").await.is_some_and(|times| times > 0);
    eventually("the worker is back", Duration::from_secs(20), back).await;
    for seed in old {
        assert!(job.guarded.log_in(&seed, "fleet-live-0").await.is_err(), "an old key");
    }

    hand.drive(begun + 2 * SECOND, 2).await;
    hand.send("off", "").await;
    until_active(&discovery, 0).await;
    job.assert_exact(&[hand]).await;
}
