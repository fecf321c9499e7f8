//! Header blocks that no client library reads, stored among the samples: a catch-up and a replay sweep over them.

use fleet_core::nats::reader::Reader;
use fleet_core::time::{MINUTE, SECOND, display, grid_at_or_before};
use fleet_worker::clock::now;
use fleet_worker::simulate::Ledger;

use crate::reader::poison::blocks;
use crate::reader::{SOON, flush, open};
use crate::replay::{replayed, rows};
use crate::world::{Hand, QUICK, assert_exact, compare, deployment, eventually};

/// Publishes to the vehicle's speed with every block, and a reply, also into the inbox of the worker itself: the server refuses one like a consumer's.
fn publish(evil: &mut Reader, hand: &mut Hand, begun: i64) -> u64 {
    let replies = ["_INBOX.EVIL.a", "_INBOX.fleet-catch-up-0.1"];
    let mut published = 0;
    for (n, (_, block)) in (0_i64..).zip(blocks()) {
        let (time, value) = (begun + n * SECOND / 2, 30.0 + n as f64);
        let payload = format!("{{\"ts\":{},\"value\":{value}}}", time / 1_000);
        let reply = replies[published as usize % 2];
        evil.publish_with_headers("fleet.0.EVIL.speed", Some(reply), &block, payload.as_bytes()).unwrap();
        hand.note(1, time, &[value]);
        published += 1;
    }
    // One without a payload, and one with no sample in it.
    let block = b"NATS/1.0\r\nbad header line\r\n\r\n";
    for payload in [&b""[..], b"no sample"] {
        evil.publish_with_headers("fleet.0.EVIL.speed", None, block, payload).unwrap();
        published += 1;
    }
    published
}

#[tokio::test(flavor = "multi_thread")]
async fn poisoned_messages_in_the_stream_are_samples_and_nobody_elses_loss() {
    let deployment = deployment(1).await;
    let js = async_nats::jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    // So that it has room for 64 KiB of headers.
    let mut stream = js.get_stream("TELEMETRY_0").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_message_size = -1;
    js.update_stream(config).await.unwrap();

    let begun = grid_at_or_before(now() - 10 * MINUTE, SECOND) + 250_000;
    let mut evil = Hand::new(&deployment, "EVIL").await;
    let mut good = Hand::new(&deployment, "GOOD").await;
    good.drive(begun, 6).await;
    let before = stream.info().await.unwrap().state.last_sequence;
    let mut link = open(&deployment.nats, true).await;
    let published = publish(&mut link, &mut evil, begun);
    flush(&mut link).await;
    let all = async || {
        let last = js.get_stream("TELEMETRY_0").await.unwrap().cached_info().state.last_sequence;
        last >= before + published
    };
    eventually("all are stored", SOON, all).await;
    good.drive(begun + 7 * SECOND, 6).await;
    evil.speed(begun + 20 * SECOND, 55.0).await;
    for hand in [&good, &evil] {
        hand.send("on", "").await;
    }
    // Each has rows: they were bound and caught up.
    let bound = async || {
        crate::world::count(&deployment, "select count(distinct vehicle_id) from telemetry").await == 2
    };
    eventually("both vehicles have rows", SOON, bound).await;
    for hand in [&good, &evil] {
        hand.send("off", "").await;
    }
    deployment.until_released(SOON).await.unwrap();
    let mut ledger = Ledger::new(vec![good.vehicle.clone(), evil.vehicle.clone()]);
    good.add_to(&mut ledger, 0);
    evil.add_to(&mut ledger, 1);
    ledger.sort();
    assert_exact(&deployment, &compare(&deployment, &ledger).await);
    assert_eq!(deployment.workers[0].metric("fleet_source_unreadable_total").await, Some(0));

    let listed = replayed(&deployment, QUICK, &["--dead-letters", "--list"]).await;
    let of = |reason: &str| {
        listed.lines().filter(|line| line.contains(&format!("EVIL  speed  {reason}: "))).count()
    };
    assert_eq!((of("empty"), of("malformed"), listed.lines().count()), (1, 1, 2), "{listed}");

    deployment.client().await.unwrap().batch_execute("truncate telemetry").await.unwrap();
    let span = ["--from", &display(begun - MINUTE), "--to", &display(begun + 2 * MINUTE)];
    replayed(&deployment, QUICK, &span).await;
    assert!(rows(&deployment).await > 0);
    assert_exact(&deployment, &compare(&deployment, &ledger).await);
}
