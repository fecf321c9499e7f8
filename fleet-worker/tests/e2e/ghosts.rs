//! `on`s of vehicles that don't exist, by the thousand.

use std::time::Duration;

use async_nats::jetstream;
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;
use futures_util::future::join_all;

use crate::failures::until_readyz;
use crate::world::{Hand, count, deployment, deployment_with, eventually, until_bound};

/// Publishes so many, each acknowledged.
async fn ghosts(deployment: &Deployment, many: usize) -> jetstream::Context {
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    for from in (0..many).step_by(500) {
        let mut acks = Vec::new();
        for n in from..many.min(from + 500) {
            acks.push(js.publish(format!("fleet.0.GHOST-{n}.on"), "".into()).await.unwrap().into_future());
        }
        join_all(acks).await.into_iter().for_each(|ack| drop(ack.unwrap()));
    }
    js
}

#[tokio::test(flavor = "multi_thread")]
async fn vehicles_that_never_send_a_sample_give_way() {
    let deployment = deployment_with("max_vehicles = 40\nfirst_sample_timeout = \"4s\"", 1).await;
    ghosts(&deployment, 200).await;
    let mut hand = Hand::new(&deployment, "REAL").await;
    hand.drive(now() - 10_000_000, 10).await;
    hand.send("on", "").await;
    let speeds = "select count(*) from telemetry where speed_kmh is not null";
    eventually("it has rows", Duration::from_secs(90), async || count(&deployment, speeds).await >= 8).await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(120)).await.unwrap();
    hand.assert_exact(&deployment).await;
    let worker = &deployment.workers[0];
    assert_eq!(worker.metric("fleet_without_sample_total").await, Some(200));
    assert_eq!(count(&deployment, "select count(*) from trip where ended_at is not null").await, 201);
}

/// Every binding costs memory, whoever it is for.
#[tokio::test(flavor = "multi_thread")]
async fn vehicles_that_do_not_exist_take_little_memory() {
    let deployment = deployment_with("first_sample_timeout = \"1m\"", 1).await;
    let worker = &deployment.workers[0];
    let mut hand = Hand::new(&deployment, "REAL").await;
    hand.drive(now() - 10_000_000, 10).await;
    hand.send("on", "").await;
    until_bound(&deployment, 1, Duration::from_secs(30)).await;
    let memory = || worker.process.usage().unwrap().peak_memory;
    let before = memory();
    ghosts(&deployment, 20_000).await;
    eventually("places were taken and given up", Duration::from_secs(150), async || {
        worker.metric("fleet_without_sample_total").await.is_some_and(|gone| gone > 3_000)
    })
    .await;
    let more = (memory() - before) >> 20;
    assert!(more < 64, "{more} MiB more than {}", before >> 20);
}

/// Each of them fails again and again, and is read all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_bind_queue_that_takes_no_more_does_not_end_the_reading() {
    const MANY: usize = 20_000;
    let deployment = deployment(0).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let mut queue = js.get_stream("BINDINGS_0").await.unwrap().cached_info().config.clone();
    queue.max_messages = 100;
    js.update_stream(&queue).await.unwrap();
    ghosts(&deployment, MANY).await;
    until_readyz(&deployment.discovery, 503, "not ready: bind queue\n").await;
    eventually("many have failed", Duration::from_secs(60), async || {
        deployment.discovery.metric("fleet_discovery_failed_total").await.is_some_and(|failed| failed > 2_000)
    })
    .await;
    queue.max_messages = -1;
    js.update_stream(&queue).await.unwrap();
    eventually("all wait for a worker", Duration::from_secs(150), async || {
        deployment.bindings().await.is_some_and(|bindings| bindings.waiting == MANY as u64)
    })
    .await;
    until_readyz(&deployment.discovery, 200, "ok\n").await;
    let logs = deployment.discovery.process.logs();
    assert!(!logs.contains("can't be read"), "{}", deployment.discovery.process.tail());
    assert!(logs.contains("the bind queue refuses: maximum messages exceeded (10077)"), "{logs}");
}
