//! Dead letters: none in line behind another vehicle's, none too large, none for longer than promised.

use std::time::Duration;

use async_nats::jetstream;
use fleet_core::VehicleId;
use fleet_core::nats::{Letters, StoredLetter};
use fleet_worker::deployment::{Deployment, Program};

use crate::world::{Hand, QUICK, deployment, deployment_by, eventually, until_bound};

async fn letters(deployment: &Deployment, vehicle: &VehicleId) -> Vec<StoredLetter> {
    let letters =
        Letters::connect(&deployment.config.nats.options(), &deployment.config.names().next().unwrap())
            .await
            .unwrap();
    let mut found = Vec::new();
    letters.read(std::slice::from_ref(vehicle), |letter| found.push(letter)).await.unwrap();
    found
}

/// How many letters of a worker came to this end.
async fn outcome(worker: &Program, outcome: &str) -> u64 {
    let name = format!("fleet_source_dead_letters_total{{outcome=\"{outcome}\"");
    worker.metric(&name).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn large_garbage_keeps_nobody_elses_letters_out() {
    let deployment = deployment(1).await;
    let (loud, other) = (Hand::new(&deployment, "LOUD").await, Hand::new(&deployment, "OTHER").await);
    loud.send("on", "").await;
    other.send("on", "").await;
    until_bound(&deployment, 2, Duration::from_secs(30)).await;
    let worker = &deployment.workers[0];
    // The stream of samples takes none so large, and the worker hears them all the same. It hears a vehicle
    // from a moment after its binding on.
    let client = async_nats::connect(deployment.nats.url()).await.unwrap();
    eventually("it is heard", Duration::from_secs(20), async || {
        client.publish("fleet.0.LOUD.speed", "{".into()).await.unwrap();
        outcome(worker, "stored").await > 0
    })
    .await;
    for n in 0..60_u8 {
        let garbage: Vec<u8> =
            (0..9_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8 ^ n).collect();
        client.publish("fleet.0.LOUD.speed", garbage.into()).await.unwrap();
    }
    client.flush().await.unwrap();
    for n in 0..5 {
        other.send("speed", format!("bad {n}")).await;
    }
    eventually("the other's are there", Duration::from_secs(30), async || {
        letters(&deployment, &other.vehicle).await.len() == 5
    })
    .await;
    // Each has its end, and those that are stored are there.
    eventually("all are told", Duration::from_secs(30), async || {
        let mut told = 0;
        for end in ["stored", "rate_limited"] {
            told += outcome(worker, end).await;
        }
        told >= 66
    })
    .await;
    for end in ["refused", "failed", "queue_full"] {
        assert_eq!(outcome(worker, end).await, 0, "{end}");
    }
    let kept = letters(&deployment, &loud.vehicle).await;
    let cut: Vec<_> = kept.iter().filter(|letter| letter.cut_from == Some(9_000)).collect();
    assert!(!cut.is_empty() && cut.len() < 60, "{}", cut.len());
    assert!(cut.iter().all(|letter| letter.payload.len() > 4_096 && letter.payload.len() < 8_192));
    assert!(letters(&deployment, &other.vehicle).await.iter().all(|letter| letter.cut_from.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_reaches_dead_letters() {
    let config = format!("retention = \"2d\"\n{QUICK}");
    let deployment = deployment_by(&config, 0).await;
    let js = jetstream::new(async_nats::connect(deployment.nats.url()).await.unwrap());
    let stream = js.get_stream("DEADLETTER_0").await.unwrap();
    assert_eq!(stream.cached_info().config.max_age, Duration::from_secs(2 * 24 * 3600));
}
