//! Which worker has which vehicle, and when it lets go.

use std::time::Duration;

use async_nats::jetstream;
use fleet_worker::clock::now;
use tokio::time::{Instant, sleep, timeout};

use crate::lanes::with_lanes;
use crate::schemas::SIGNALS;
use crate::world::{
    ACK_WAIT, Hand, QUICK, assert_exact, count, deployment, deployment_by, deployment_with, endless_fleet,
    eventually, finish, fleet, until_bound, vehicles,
};

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_vehicles_and_no_vehicle_is_on_both() {
    let deployment = deployment_by(&with_lanes(2), 2).await;
    let fleet = fleet(&deployment, vehicles(200, 20)).await;
    until_bound(&deployment, 200, Duration::from_secs(15)).await;
    for worker in &deployment.workers {
        let bound = worker.metric("fleet_bound").await.unwrap();
        assert!(bound >= 20, "one worker has only {bound} of 200 vehicles");
    }
    // Each was claimed once, by one of them: epochs count claims.
    assert_eq!(count(&deployment, "select count(*) from vehicle_latest where epoch <> 1").await, 0);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    assert_eq!(count(&deployment, "select count(*) from vehicle_latest where epoch <> 1").await, 0);
    assert_eq!(count(&deployment, "select count(*) from trip where ended_at is not null").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_vehicles_are_bound_by_the_other_and_nothing_is_lost() {
    let mut deployment = deployment_by(&with_lanes(2), 2).await;
    let (fleet, on) = endless_fleet(&deployment, 200).await;
    until_bound(&deployment, 200, Duration::from_secs(15)).await;
    sleep(Duration::from_secs(5)).await;
    deployment.kill_worker().await;
    let killed = Instant::now();
    until_bound(&deployment, 200, ACK_WAIT + Duration::from_secs(5)).await;
    println!("bound again after {:?}", killed.elapsed());
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_harms_nothing() {
    let deployment = deployment(2).await;
    let (fleet, on) = endless_fleet(&deployment, 100).await;
    until_bound(&deployment, 100, Duration::from_secs(15)).await;
    sleep(Duration::from_secs(4)).await;
    let [stopped, living] = &deployment.workers[..] else { panic!("two workers") };
    stopped.process.pause().unwrap();
    eventually("the other has all", ACK_WAIT + Duration::from_secs(6), || async {
        living.metric("fleet_bound").await == Some(100)
    })
    .await;
    stopped.process.resume().unwrap();
    eventually("the first has dropped them", Duration::from_secs(10), || async {
        stopped.metric("fleet_bindings_lost_total").await.is_some_and(|lost| lost > 0)
    })
    .await;
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_asked_to_end_gives_its_vehicles_back_at_once() {
    let mut deployment = deployment_by(&with_lanes(2), 2).await;
    let (fleet, on) = endless_fleet(&deployment, 100).await;
    until_bound(&deployment, 100, Duration::from_secs(15)).await;
    sleep(Duration::from_secs(3)).await;
    let mut leaving = deployment.workers.remove(0);
    leaving.process.terminate().unwrap();
    let ended = leaving.process.wait(Duration::from_secs(20)).await.unwrap();
    assert_eq!(ended.0.code(), Some(0), "{}", leaving.process.tail());
    // Sooner than `ack_wait` would bring them: they were given back.
    until_bound(&deployment, 100, Duration::from_secs(3)).await;
    sleep(Duration::from_secs(5)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
}

/// As by a worker that has lost the vehicle and doesn't know it yet, and then dies.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_behind_a_workers_back_is_noticed_and_loses_nothing() {
    let deployment = deployment(1).await;
    let mut hand = Hand::new(&deployment, "TAKEN").await;
    hand.send("on", "").await;
    let begun = now();
    hand.drive(begun - 8_000_000, 8).await;
    let speeds = "select count(*) from telemetry where speed_kmh is not null";
    eventually("it has rows", Duration::from_secs(15), async || count(&deployment, speeds).await >= 7).await;
    let client = deployment.client().await.unwrap();
    assert_eq!(client.execute("update vehicle_latest set epoch = epoch + 1", &[]).await.unwrap(), 1);
    // Into a row that is stored: only the newest claim may change it.
    hand.speed(begun - 5_100_000, 399.0).await;
    let worker = &deployment.workers[0];
    eventually("it is dropped", Duration::from_secs(15), || async {
        worker.metric("fleet_bindings_lost_total").await.is_some_and(|lost| lost > 0)
    })
    .await;
    eventually("it is bound again", ACK_WAIT + Duration::from_secs(10), || async {
        worker.metric("fleet_bindings_total").await.is_some_and(|times| times > 1)
    })
    .await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_lost_a_request_does_not_claim_it_any_more() {
    let mut deployment = deployment(1).await;
    deployment.postgres.crash().await.unwrap();
    let mut hand = Hand::new(&deployment, "SLOW").await;
    hand.send("on", "").await;
    eventually("it tries to claim", Duration::from_secs(30), async || {
        deployment.workers[0].process.logs().contains("no claim, trying again")
    })
    .await;
    deployment.workers[0].process.pause().unwrap();
    deployment.postgres.start_again().await.unwrap();
    deployment.add_worker().await.unwrap();
    let [first, second] = &deployment.workers[..] else { panic!("two workers") };
    eventually("the other has it", ACK_WAIT + Duration::from_secs(10), || async {
        second.metric("fleet_bound").await == Some(1)
    })
    .await;
    first.process.resume().unwrap();
    eventually("the first has given up", Duration::from_secs(10), async || {
        first.process.logs().contains("could not hold the bindings")
    })
    .await;
    hand.drive(now() - 8_000_000, 8).await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
    assert_eq!(count(&deployment, "select epoch::bigint from vehicle_latest").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_off_and_on_within_a_second_are_two_trips_and_lose_nothing() {
    let deployment = deployment(1).await;
    let mut hand = Hand::new(&deployment, "QUICK").await;
    let begun = now();
    hand.send("on", "").await;
    hand.drive(begun - 8_000_000, 8).await;
    hand.send("off", "").await;
    hand.send("on", format!("{{\"since\":{}}}", now() / 1_000)).await;
    // The first trip is still being written while the second goes on.
    for _ in 0..8 {
        hand.speed(now(), 80.0).await;
        sleep(Duration::from_millis(500)).await;
    }
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
    let trips = "select count(*) from trip where ended_at > started_at - interval '1 second'";
    assert_eq!(count(&deployment, trips).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_that_is_over_before_its_on_is_read_is_in_the_table() {
    let deployment = deployment(1).await;
    deployment.discovery.process.pause().unwrap();
    let mut hand = Hand::new(&deployment, "OVER").await;
    hand.send("on", "").await;
    hand.drive(now() - 10_000_000, 10).await;
    hand.send("off", "").await;
    deployment.discovery.process.resume().unwrap();
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
    assert_eq!(count(&deployment, "select count(*) from trip where ended_at is not null").await, 1);
}

/// Of what was sent so long before an `on`, nothing is read for its own sake.
const CONTEXT: Duration = Duration::from_secs(4);

/// [`QUICK`] with two signals whose context is that.
fn short_context() -> String {
    let signals =
        SIGNALS.replace("interpolation = \"pchip\"", "interpolation = \"linear\"\nmax_gap = \"2s\"");
    let (two, _) = signals.split_once("[[signal]]\nname = \"fuel\"").unwrap();
    let two = two.replace("\"great_circle\"", "\"great_circle\"\nmax_gap = \"2s\"");
    QUICK.replace("\"10s\"", "\"1s\"").replacen("[worker]", &format!("{two}[worker]"), 1)
}

/// Several trips while nobody reads, of which the stream keeps the last `on`.
#[tokio::test(flavor = "multi_thread")]
async fn trips_that_end_while_neither_discovery_nor_nats_runs_are_in_the_table() {
    let mut deployment = deployment_by(&short_context(), 1).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let stream = js.get_stream("LIFECYCLE_0").await.unwrap();
    let stored = async || stream.direct_get_last_for_subject("checkpoint.0").await.is_ok();
    eventually("it says how far it has read", Duration::from_secs(20), stored).await;
    deployment.discovery.process.terminate().unwrap();
    deployment.discovery.process.wait(Duration::from_secs(20)).await.unwrap();
    let mut hands = [Hand::new(&deployment, "SINCE").await, Hand::new(&deployment, "PLAIN").await];
    let on = |n: usize| if n == 0 { format!("{{\"since\":{}}}", now() / 1_000) } else { String::new() };
    for trip in 0..3 {
        for (n, hand) in hands.iter_mut().enumerate() {
            hand.send("on", on(n)).await;
            hand.drive(now() - 2_000_000, 2).await;
            // The last trip goes on.
            if trip < 2 {
                hand.send("off", "").await;
            }
        }
        if trip < 2 {
            sleep(CONTEXT + Duration::from_secs(2)).await;
        }
    }
    // What its consumer did when is not stored.
    deployment.nats.stop().await.unwrap();
    deployment.nats.start_again().await.unwrap();
    deployment.start_discovery().await.unwrap();
    until_bound(&deployment, 2, Duration::from_secs(20)).await;
    for hand in &hands {
        hand.send("off", "").await;
    }
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    for hand in &hands {
        hand.assert_exact(&deployment).await;
    }
    let open = "select count(*) from trip where ended_at is null or ended_at < started_at";
    assert_eq!(count(&deployment, open).await, 0);
    let trips = "select count(distinct vehicle_id) from trip where started_at > now() - interval '1 minute'";
    assert_eq!(count(&deployment, trips).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_whose_first_on_nobody_read_is_in_the_table_from_its_beginning() {
    let deployment = deployment_by(&short_context(), 1).await;
    deployment.discovery.process.pause().unwrap();
    let mut hand = Hand::new(&deployment, "LONG").await;
    let begun = now();
    let on = format!("{{\"since\":{}}}", begun / 1_000);
    hand.send("on", on.clone()).await;
    hand.drive(begun - 10_000_000, 10).await;
    sleep(CONTEXT + Duration::from_secs(3)).await;
    hand.send("on", on).await;
    deployment.discovery.process.resume().unwrap();
    until_bound(&deployment, 1, Duration::from_secs(10)).await;
    hand.drive(now() - 2_000_000, 2).await;
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_before_the_on_and_just_after_the_off_are_in_the_table() {
    let deployment = deployment(1).await;
    let mut hand = Hand::new(&deployment, "EARLY").await;
    let begun = now();
    hand.drive(begun - 20_000_000, 10).await;
    hand.send("on", "").await;
    until_bound(&deployment, 1, Duration::from_secs(10)).await;
    hand.speed(begun - 3_000_000, 70.0).await;
    hand.send("off", "").await;
    // `off` overtakes samples: each sensor is its own client.
    sleep(Duration::from_millis(500)).await;
    hand.speed(begun + 2_000_000, 90.0).await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
    assert!(hand.expected_rows(&deployment) >= 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_without_a_sign_of_life_counts_as_off() {
    let deployment = deployment_with("idle_timeout = \"3s\"", 1).await;
    let mut hand = Hand::new(&deployment, "SILENT").await;
    hand.send("on", "").await;
    hand.drive(now() - 10_000_000, 10).await;
    until_bound(&deployment, 1, Duration::from_secs(10)).await;
    deployment.until_released(Duration::from_secs(30)).await.unwrap();
    hand.assert_exact(&deployment).await;
    assert_eq!(count(&deployment, "select count(*) from trip where ended_at is not null").await, 1);
    // Its next `on` binds it again.
    hand.send("on", "").await;
    until_bound(&deployment, 1, Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jump_of_a_frames_counter_is_looked_into_once() {
    let deployment = deployment(1).await;
    let mut hand = Hand::new(&deployment, "JUMPY").await;
    hand.send("on", "").await;
    until_bound(&deployment, 1, Duration::from_secs(10)).await;
    let worker = &deployment.workers[0];
    let begun = now();
    let mut sequence = 0;
    let mut frame = async |hand: &mut Hand, step: u16| {
        sequence += step;
        let n = i64::from(sequence);
        hand.frame(sequence, begun - 60_000_000 + 1_000_000 * n, 30.0 + n as f64).await;
    };
    // Counters are followed from the first frame on that comes live; what was stored before is read anyway.
    let comes_live = async {
        while worker.metric("fleet_source_live_total").await.is_none_or(|live| live == 0) {
            frame(&mut hand, 1).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(timeout(Duration::from_secs(10), comes_live).await.is_ok(), "no frame came live");
    // Two never were.
    for step in [1, 3, 1] {
        frame(&mut hand, step).await;
    }
    eventually("the gap was seen and caught up", Duration::from_secs(10), || async {
        worker.metric("fleet_catch_ups_total").await == Some(1)
    })
    .await;
    assert_eq!(worker.metric("fleet_sequence_gaps_total").await, Some(1));
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(30)).await.unwrap();
    hand.assert_exact(&deployment).await;
}
