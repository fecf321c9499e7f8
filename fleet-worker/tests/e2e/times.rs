//! What a device says of the time, right or wrong.

use std::time::Duration;

use fleet_core::time::{MINUTE, SECOND, YEAR_2000, parse};
use fleet_worker::clock::now;
use fleet_worker::deployment::Deployment;

use crate::world::{Hand, QUICK, count, deployment, deployment_by, deployment_with, eventually, until_bound};

fn since(micros: i64) -> String {
    format!("{{\"since\":{}}}", micros / 1_000)
}

/// The vehicle's trips: how many, how many have no end, and the last end in microseconds.
async fn trips(deployment: &Deployment, vehicle: &Hand) -> (i64, i64, Option<i64>) {
    let ask = "select count(*), count(*) filter (where ended_at is null), \
                 (extract(epoch from max(ended_at)) * 1000000)::bigint from fleet_trip where vin = $1";
    let client = deployment.client().await.unwrap();
    let row = client.query_one(ask, &[&vehicle.vehicle.as_str()]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

async fn is_on(deployment: &Deployment, vehicle: &Hand) -> bool {
    let ask = format!("select count(*) from fleet_last where vin = '{}' and is_on", vehicle.vehicle);
    count(deployment, &ask).await == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_that_was_lost_goes_on_with_the_same_since() {
    let deployment = deployment_with("idle_timeout = \"4s\"", 1).await;
    let mut hand = Hand::new(&deployment, "TUNNEL").await;
    let on = since(now());
    hand.send("on", on.clone()).await;
    hand.drive(now() - 10 * SECOND, 10).await;
    // Silence counts as `off`, and then an `off` does that is not the last.
    let mut ended = None;
    for end in ["", "off", "off"] {
        until_bound(&deployment, 1, Duration::from_secs(20)).await;
        hand.drive(now() - 2 * SECOND, 2).await;
        eventually("the vehicle is on", Duration::from_secs(20), || async {
            is_on(&deployment, &hand).await
        })
        .await;
        assert_eq!(trips(&deployment, &hand).await.1, 1, "the trip is open");
        if !end.is_empty() {
            hand.send(end, "").await;
        }
        deployment.until_released(Duration::from_secs(40)).await.unwrap();
        let (all, open, last) = trips(&deployment, &hand).await;
        assert_eq!((all, open, is_on(&deployment, &hand).await), (1, 0, false));
        assert!(last > ended, "it ends at the last `off`: {last:?} after {ended:?}");
        ended = last;
        hand.send("on", on.clone()).await;
    }
    hand.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    hand.assert_exact(&deployment).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_begins_at_the_servers_time_where_since_is_not_believed() {
    let deployment = deployment(1).await;
    let begun = now();
    let claims = [
        ("NEVER", parse("2080-01-01T00:00:00Z").unwrap()),
        ("AHEAD", begun + 90 * SECOND),
        ("Y2036", parse("2036-02-07T06:28:16Z").unwrap()),
        ("Y2000", YEAR_2000),
        ("Y1980", parse("1980-01-06T00:00:00Z").unwrap()),
        ("Y1970", 7 * SECOND),
        ("NANOS", i64::MAX),
    ];
    for round in 1..=2 {
        let mut hands = Vec::new();
        for (name, claimed) in claims {
            let mut hand = Hand::new(&deployment, name).await;
            hand.send("on", since(claimed)).await;
            hand.drive(now() - 3 * SECOND, 3).await;
            hands.push(hand);
        }
        until_bound(&deployment, claims.len() as u64, Duration::from_secs(20)).await;
        for hand in &hands {
            hand.send("off", "").await;
        }
        deployment.until_released(Duration::from_secs(40)).await.unwrap();
        for hand in &hands {
            let (all, open, _) = trips(&deployment, hand).await;
            assert_eq!((all, open), (round, 0), "{}: the same claim is another trip", hand.vehicle);
        }
    }
    let wild = format!(
        "select count(*) from trip where started_at < to_timestamp({} / 1e6) or started_at > now()",
        begun - MINUTE
    );
    assert_eq!(count(&deployment, &wild).await, 0);
    let refused = deployment.discovery.metric("fleet_discovery_since_refused_total").await;
    assert_eq!(refused, Some(2 * claims.len() as u64));
    let logs = deployment.workers[0].process.logs();
    let told = |name: &str| logs.lines().any(|line| line.contains("is not believed") && line.contains(name));
    assert!(told("NEVER"), "{logs}");
}

/// A sample a day from 2000 on in 110 messages, as a clock may say that goes too fast.
async fn a_sample_a_day(hand: &Hand) {
    let days = (now() - YEAR_2000) / (24 * 60 * MINUTE);
    let each: Vec<String> = (0..days)
        .map(|day| format!("{{\"ts\":{},\"value\":50}}", (YEAR_2000 / 1_000) + day * 86_400_000))
        .collect();
    for some in each.chunks(each.len().div_ceil(110)) {
        hand.send("speed", format!("[{}]", some.join(","))).await;
    }
}

/// Days and nights of one vehicle, beside another that sends what it should.
async fn beside_a_sample_a_day(deployment: &Deployment) -> Hand {
    let (old, mut good) = (Hand::new(deployment, "OLD").await, Hand::new(deployment, "GOOD").await);
    old.send("on", "").await;
    good.send("on", "").await;
    until_bound(deployment, 2, Duration::from_secs(20)).await;
    a_sample_a_day(&old).await;
    good.drive(now() - 10 * SECOND, 10).await;
    good.send("off", "").await;
    let released = async || deployment.bound_by_living().await == 1;
    eventually("the good one is stored and released", Duration::from_secs(60), released).await;
    good.assert_exact(deployment).await;
    old
}

const PARTITIONS: &str = "select count(*) from pg_class where relname ~ '^telemetry_p[0-9]{8}$'";
const OLD_ROWS: &str = "select count(*) from telemetry join vehicle using (vehicle_id) where vin = 'OLD'";

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_long_ago_are_refused_by_name_and_cost_nobody_anything() {
    let deployment = deployment(1).await;
    let before = count(&deployment, PARTITIONS).await;
    let old = beside_a_sample_a_day(&deployment).await;
    let refused = "fleet_refused_total{reason=\"too_old\"";
    eventually("all its messages are refused", Duration::from_secs(20), || async {
        deployment.workers[0].metric(refused).await == Some(110)
    })
    .await;
    old.send("off", "").await;
    deployment.until_released(Duration::from_secs(40)).await.unwrap();
    // The last days are no older than a week.
    let (made, stored) = (count(&deployment, PARTITIONS).await - before, count(&deployment, OLD_ROWS).await);
    assert!(made <= 8 && (1..=8).contains(&stored), "{stored} rows in {made} new partitions");
    let logs = deployment.workers[0].process.logs();
    let told: Vec<_> = logs.lines().filter(|line| line.contains("is the device's clock set?")).collect();
    assert_eq!(told.len(), 1, "{logs}");
    assert!(told[0].contains("OLD") && told[0].contains("clock not set: it counts from 2000"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_long_ago_make_few_partitions_where_they_are_taken() {
    let deployment = deployment_by(&format!("max_past = \"36600d\"\n{QUICK}"), 1).await;
    let before = count(&deployment, PARTITIONS).await;
    let old = beside_a_sample_a_day(&deployment).await;
    old.send("off", "").await;
    deployment.until_released(Duration::from_secs(60)).await.unwrap();
    let (made, stored) = (count(&deployment, PARTITIONS).await - before, count(&deployment, OLD_ROWS).await);
    let batches = deployment.workers[0].metric("fleet_durable_batches_total").await.unwrap();
    assert!(made > 0 && made <= 32 * i64::try_from(batches).unwrap(), "{made} in {batches} batches");
    assert!(stored >= made && stored < 9_000, "{stored} rows in {made} new partitions");
}
