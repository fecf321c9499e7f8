//! Trips whose `on` and `off` have header blocks that no client library writes.

use std::time::Duration;

use fleet_core::nats::reader::Reader;
use fleet_worker::clock::now;

use crate::reader::poison::blocks;
use crate::reader::{flush, open};
use crate::world::{Hand, QUICK, assert_exact, compare, count, deployment_by, eventually};

/// The blocks that a lifecycle stream takes, whose messages have 4 KiB at most, and the id of a vehicle for each.
pub(crate) fn vehicles() -> Vec<(String, Vec<u8>)> {
    let small = blocks().into_iter().filter(|(_, block)| block.len() < 3_900);
    small.enumerate().map(|(n, (_, block))| (format!("EVIL-{n}"), block)).collect()
}

/// An `on` or `off` with nothing in it but headers.
pub(crate) async fn say(vehicle: &mut Reader, id: &str, word: &str, block: &[u8]) {
    let subject = format!("fleet.0.{id}.{word}");
    vehicle.publish_with_headers(&subject, Some("_INBOX.EVIL.a"), block, b"").unwrap();
    flush(vehicle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poisoned_trips_begin_and_end_like_any_other() {
    let deployment = deployment_by(QUICK, 1).await;
    let (vehicles, mut evil) = (vehicles(), open(&deployment.nats, true).await);
    let mut hands = Vec::new();
    for id in ["GOOD-1", "GOOD-2"].into_iter().chain(vehicles.iter().map(|(id, _)| id.as_str())) {
        hands.push(Hand::new(&deployment, id).await);
    }
    hands[0].send("on", "").await;
    for (id, block) in &vehicles {
        say(&mut evil, id, "on", block).await;
    }
    hands[1].send("on", "").await;
    let all = hands.len() as i64;
    let bound = "select count(*) from trip where ended_at is null";
    eventually("all are bound", Duration::from_secs(60), async || count(&deployment, bound).await == all)
        .await;
    let begun = now() - 6_000_000;
    for hand in &mut hands {
        hand.drive(begun, 4).await;
    }
    hands[0].send("off", "").await;
    for (id, block) in &vehicles {
        say(&mut evil, id, "off", block).await;
    }
    hands[1].send("off", "").await;
    deployment.until_released(Duration::from_secs(120)).await.unwrap();

    assert_eq!(count(&deployment, "select count(*) from trip where ended_at is not null").await, all);
    assert_eq!(count(&deployment, "select count(*) from trip").await, all, "each has one");
    let mut ledger = fleet_worker::simulate::Ledger::new(hands.iter().map(|h| h.vehicle.clone()).collect());
    for (number, hand) in hands.iter().enumerate() {
        hand.add_to(&mut ledger, number);
    }
    ledger.sort();
    assert_exact(&deployment, &compare(&deployment, &ledger).await);
    let logs = deployment.discovery.process.logs();
    assert!(!logs.contains("can't be read") && !logs.contains("is lost"), "{logs}");
    assert_eq!(deployment.discovery.metric("fleet_discovery_refused_total").await, Some(0));
}
