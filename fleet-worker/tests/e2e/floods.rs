//! One vehicle sends as much as it can.

use std::time::Duration;

use async_nats::{Client, jetstream};
use fleet_worker::deployment::Program;

use crate::world::{QUICK, assert_exact, deployment_by, endless_fleet, eventually, finish, until_bound};

/// More than so much above what it took before is no bound (issue: within 64 MiB).
const MORE: u64 = 64 << 20;

fn peak(worker: &Program) -> u64 {
    worker.process.usage().unwrap().peak_memory
}

async fn flood(client: &Client, subject: &str, payload: &[u8], messages: u32) {
    for _ in 0..messages {
        client.publish(subject.to_owned(), payload.to_vec().into()).await.unwrap();
    }
    client.flush().await.unwrap();
}

/// Sends until it is stored: the server may still be busy with the flood, and drops what is too much.
async fn insist(client: &Client, last: &str) {
    let js = jetstream::new(client.clone());
    let stored = async || match js.publish(format!("fleet.0.HOSTILE.{last}"), "".into()).await {
        Ok(ack) => ack.await.is_ok(),
        Err(_) => false,
    };
    eventually(&format!("an `{last}` is stored"), Duration::from_secs(120), stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_any_kind_costs_bounded_memory_and_harms_no_other() {
    // As in production: on a machine that is busy with floods, four seconds may pass without a word.
    let deployment = deployment_by(&QUICK.replace("ack_wait = \"4s\"", "ack_wait = \"30s\""), 1).await;
    let (fleet, on) = endless_fleet(&deployment, 20).await;
    let client = async_nats::connect(deployment.nats.url()).await.unwrap();
    insist(&client, "on").await;
    until_bound(&deployment, 21, Duration::from_secs(30)).await;
    let worker = &deployment.workers[0];
    let before = peak(worker);
    let garbage = vec![0x7B; 4_000];
    let since = br#"{"since":1700000000000}"#;
    let cases: [(&str, &[u8], u32); 8] = [
        ("off", b"", 60_000),
        ("on", b"", 20_000),
        ("off", b"no payload of an off", 20_000),
        ("on", since, 20_000),
        ("nonsense", b"x", 20_000),
        ("speed", &garbage, 20_000),
        ("speed", b"", 20_000),
        ("off", b"", 20_000),
    ];
    for (last, payload, messages) in cases {
        // Bound again, in case that an `off` has ended it.
        insist(&client, "on").await;
        until_bound(&deployment, 21, Duration::from_secs(120)).await;
        flood(&client, &format!("fleet.0.HOSTILE.{last}"), payload, messages).await;
        let more = peak(worker).saturating_sub(before);
        println!("{messages} of {last}, {} bytes each: {} MiB more", payload.len(), more >> 20);
        assert!(more < MORE, "{messages} of {last} took {} MiB", more >> 20);
    }
    let others = "select count(*) from trip where ended_at is not null and vehicle_id in \
                  (select vehicle_id from vehicle where vin <> 'HOSTILE')";
    assert_eq!(crate::world::count(&deployment, others).await, 0, "all others are still on");
    assert_eq!(worker.metric("fleet_bindings_lost_total").await, Some(0));
    insist(&client, "off").await;
    until_bound(&deployment, 20, Duration::from_secs(120)).await;
    drop(on);
    let (_, verdict) = finish(&deployment, fleet).await;
    assert_exact(&deployment, &verdict);
    let more = peak(&deployment.workers[0]).saturating_sub(before);
    println!("{} MiB more at the end", more >> 20);
    assert!(more < MORE, "{} MiB", more >> 20);
}
