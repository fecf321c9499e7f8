//! What a worker that is asked to end leaves to the next one: it goes on from there and reads next to nothing again.

use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use fleet_worker::deployment::{Deployment, Program};
use tokio::time::sleep;

use crate::world::{
    ACK_WAIT, QUICK, assert_exact, count, deployment_by, endless_fleet, eventually, finish, until_bound,
};

/// What lies before a vehicle's newest sample and is needed for late ones: half a minute, which a replay reads.
async fn long_window(workers: usize) -> Deployment {
    deployment_by(&QUICK.replace("window = \"10s\"", "window = \"30s\""), workers).await
}

/// Asks a deployment's only worker to end, and waits for it.
async fn end(deployment: &mut Deployment) {
    let mut leaving = deployment.workers.remove(0);
    leaving.process.terminate().unwrap();
    let ended = leaving.process.wait(Duration::from_secs(30)).await.unwrap();
    assert_eq!(ended.0.code(), Some(0), "{}", leaving.process.tail());
}

async fn carried(worker: &Program) -> u64 {
    worker.metric("fleet_bindings_carried_total").await.unwrap()
}

/// How many samples are stored since then.
async fn stored_since(deployment: &Deployment, from: i64) -> u64 {
    let js = async_nats::jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let start_time = async_nats::datetime::from_nanos(i128::from(from) * 1_000).unwrap();
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartTime { start_time },
        filter_subject: "fleet.>".to_owned(),
        ..pull::Config::default()
    };
    let stream = deployment.config.names().next().unwrap().telemetry_stream();
    js.create_consumer_on_stream(config, stream).await.unwrap().cached_info().num_pending
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_holder_reads_a_few_seconds_and_every_record_is_right() {
    let mut deployment = long_window(1).await;
    let (fleet, on) = endless_fleet(&deployment, 100).await;
    until_bound(&deployment, 100, Duration::from_secs(15)).await;
    let begun = now();
    sleep(Duration::from_secs(30)).await;
    deployment.add_worker().await.unwrap();
    let asked = now();
    end(&mut deployment).await;
    // Sooner than `ack_wait` would bring them.
    until_bound(&deployment, 100, Duration::from_secs(3)).await;
    let next = &deployment.workers[0];
    assert_eq!(carried(next).await, 100);
    let live = next.metric("fleet_source_live_total").await.unwrap();
    eventually("all are caught up and go on", Duration::from_secs(10), || async {
        next.metric("fleet_source_live_total").await.is_some_and(|now| now > live + 200)
    })
    .await;
    let read = next.metric("fleet_source_caught_up_total").await.unwrap();
    // The margin is 5 s; the stream's clock and ours are one.
    let (most, all) =
        (stored_since(&deployment, asked - 6 * SECOND).await, stored_since(&deployment, begun).await);
    println!("{read} messages read of {all} that are stored, {most} of them since the hand-over began");
    assert!(read > 0 && read <= most && most < all / 2, "{read}, {most}, {all}");
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    println!("from publish to visible row: {:?}", verdict.latency);
    assert_exact(&deployment, &verdict);
    assert_eq!(count(&deployment, "select count(carry) from vehicle_latest").await, 0);
    assert_eq!(count(&deployment, "select count(*) from vehicle_latest where epoch <> 2").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_next_holder_that_dies_at_once_leaves_what_was_before() {
    let mut deployment = long_window(1).await;
    let (fleet, on) = endless_fleet(&deployment, 60).await;
    until_bound(&deployment, 60, Duration::from_secs(15)).await;
    sleep(Duration::from_secs(15)).await;
    deployment.add_worker().await.unwrap();
    end(&mut deployment).await;
    until_bound(&deployment, 60, Duration::from_secs(3)).await;
    assert_eq!(carried(&deployment.workers[0]).await, 60);
    deployment.kill_worker().await;
    deployment.add_worker().await.unwrap();
    until_bound(&deployment, 60, ACK_WAIT + Duration::from_secs(10)).await;
    assert_eq!(carried(&deployment.workers[0]).await, 0);
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_used_is_replayed_instead() {
    let mut deployment = long_window(1).await;
    let (fleet, on) = endless_fleet(&deployment, 70).await;
    until_bound(&deployment, 70, Duration::from_secs(15)).await;
    sleep(Duration::from_secs(15)).await;
    end(&mut deployment).await;
    assert_eq!(count(&deployment, "select count(carry) from vehicle_latest").await, 70);
    // A seventh each: as it was; nothing; no carry; cut off; another vehicle's; one that ends in a thousand years; and
    // one that is too long.
    let spoil = "update vehicle_latest l set carry = case l.vehicle_id % 7 \
          when 0 then carry when 1 then null when 2 then '\\xdeadbeef' when 3 then substring(carry for 100) \
          when 4 then (select other.carry from vehicle_latest other where other.vehicle_id <> l.vehicle_id limit 1) \
          when 5 then set_byte(carry, 11, 127) \
          else carry || decode(repeat('00', 1000000), 'hex') end";
    assert_eq!(deployment.client().await.unwrap().execute(spoil, &[]).await.unwrap(), 70);
    deployment.add_worker().await.unwrap();
    until_bound(&deployment, 70, Duration::from_secs(10)).await;
    assert_eq!(carried(&deployment.workers[0]).await, 10);
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}
