//! What a worker that is asked to end leaves to the next one: it goes on from there and reads next to nothing again.

use std::time::Duration;

use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use fleet_core::VehicleId;
use fleet_core::bind::Carry;
use fleet_core::time::SECOND;
use fleet_worker::clock::now;
use fleet_worker::deployment::{Deployment, Program};
use tokio::time::sleep;

use crate::world::{
    ACK_WAIT, QUICK, assert_exact, count, deployment_by, endless_fleet, eventually, finish, until_bound,
};

/// The signals' windows are half a minute.
const LONG: (&str, &str) = ("window = \"10s\"", "window = \"30s\"");

/// What lies before a vehicle's newest sample and is needed for late ones: half a minute, which a replay reads.
async fn long_window(workers: usize) -> Deployment {
    deployment_by(&QUICK.replace(LONG.0, LONG.1), workers).await
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
    // A seventh each: as it was; nothing; no carry; cut off; another vehicle's; another value in it; and one that is
    // too long. Of those that stay one ends in an hour.
    let spoil = "update vehicle_latest l set carry = case l.vehicle_id % 7 \
          when 0 then carry when 1 then null when 2 then '\\xdeadbeef' when 3 then substring(carry for 100) \
          when 4 then (select other.carry from vehicle_latest other where other.vehicle_id <> l.vehicle_id limit 1) \
          when 5 then set_byte(carry, octet_length(carry) / 2, 77 # get_byte(carry, octet_length(carry) / 2)) \
          else carry || decode(repeat('00', 1000000), 'hex') end";
    let client = deployment.client().await.unwrap();
    assert_eq!(client.execute(spoil, &[]).await.unwrap(), 70);
    let select = "select vehicle_id, vin, epoch, carry from vehicle_latest join vehicle using (vehicle_id) \
                  where vehicle_id % 7 = 0 limit 1";
    let row = client.query_one(select, &[]).await.unwrap();
    let vehicle = VehicleId::new(row.get(1)).unwrap();
    let mut left = Carry::from_bytes(row.get(3), &vehicle, row.get(2)).unwrap();
    left.until += 3_600 * SECOND;
    let update = "update vehicle_latest set carry = $2 where vehicle_id = $1";
    let (id, bytes): (i32, _) = (row.get(0), left.to_bytes(&vehicle, row.get(2)));
    assert_eq!(client.execute(update, &[&id, &bytes]).await.unwrap(), 1);
    deployment.add_worker().await.unwrap();
    until_bound(&deployment, 70, Duration::from_secs(10)).await;
    assert_eq!(carried(&deployment.workers[0]).await, 9);
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

async fn metric(deployment: &Deployment, name: &str) -> u64 {
    let mut sum = 0;
    for worker in &deployment.workers {
        sum += worker.metric(name).await.unwrap();
    }
    sum
}

/// Waits until the workers together hold so many vehicles, and read nothing more of them from the stream.
pub(crate) async fn until_live(deployment: &Deployment, vehicles: u64) {
    until_bound(deployment, vehicles, Duration::from_secs(30)).await;
    let live = async || metric(deployment, "fleet_source_catching_up").await == 0;
    eventually("all are caught up", Duration::from_secs(30), live).await;
}

/// Asks the first worker to end; the others go on with all that it has held.
pub(crate) async fn replace_one(deployment: &mut Deployment, vehicles: u64) {
    let held = deployment.workers[0].metric("fleet_bound").await.unwrap();
    assert!(held > 0, "there is nothing to hand over");
    let all = metric(deployment, "fleet_bindings_carried_total").await;
    let before = all - carried(&deployment.workers[0]).await;
    end(deployment).await;
    until_live(deployment, vehicles).await;
    assert_eq!(metric(deployment, "fleet_bindings_carried_total").await - before, held);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_workers_are_replaced_one_after_the_other() {
    let mut deployment = long_window(2).await;
    let (fleet, on) = endless_fleet(&deployment, 200).await;
    until_live(&deployment, 200).await;
    sleep(Duration::from_secs(10)).await;
    for _ in 0..2 {
        deployment.add_worker().await.unwrap();
        replace_one(&mut deployment, 200).await;
    }
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    println!("from publish to visible row: {:?}", verdict.latency);
    assert_exact(&deployment, &verdict);
}

/// One that can't do what it should in time gives its vehicles back all the same.
async fn in_a_hurry() -> Deployment {
    let config = QUICK.replace(LONG.0, LONG.1);
    deployment_by(&format!("{config}shutdown_deadline = \"2s\"\n"), 1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_comes_too_late_harms_nothing() {
    let mut deployment = in_a_hurry().await;
    let (fleet, on) = endless_fleet(&deployment, 60).await;
    until_live(&deployment, 60).await;
    sleep(Duration::from_secs(5)).await;
    let client = deployment.client().await.unwrap();
    client.batch_execute("begin; lock table vehicle_latest in exclusive mode").await.unwrap();
    end(&mut deployment).await;
    deployment.add_worker().await.unwrap();
    // What the server was told before is done when the lock is gone: that save, and the next claims.
    sleep(Duration::from_secs(2)).await;
    client.batch_execute("commit").await.unwrap();
    until_live(&deployment, 60).await;
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_broker_nothing_is_handed_over_and_nothing_lost() {
    let mut deployment = in_a_hurry().await;
    let (fleet, on) = endless_fleet(&deployment, 60).await;
    until_live(&deployment, 60).await;
    sleep(Duration::from_secs(5)).await;
    deployment.nats.process().pause().unwrap();
    let mut leaving = deployment.workers.remove(0);
    leaving.process.terminate().unwrap();
    leaving.process.wait(Duration::from_secs(30)).await.unwrap();
    assert_eq!(count(&deployment, "select count(carry) from vehicle_latest").await, 0);
    deployment.nats.process().resume().unwrap();
    deployment.add_worker().await.unwrap();
    until_live(&deployment, 60).await;
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}
