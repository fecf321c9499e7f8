//! A vehicle that has to be forgotten.

use std::time::Duration;

use async_nats::jetstream;
use fleet_core::time::SECOND;
use fleet_sinks::parquet::Archive;
use fleet_worker::clock::now;
use fleet_worker::commands::erase::{Erased, erase_vehicle};
use fleet_worker::deployment::Deployment;
use futures_util::TryStreamExt;
use tokio::time::sleep;

use crate::archive::held_back_by;
use crate::world::{Hand, QUICK, count, deployment, deployment_by, eventually, until_bound};

/// How many stored messages have the vehicle's id in their subject, over all streams.
pub(crate) async fn messages_of(deployment: &Deployment, vehicle: &str) -> usize {
    let client = async_nats::connect(deployment.nats.url()).await.unwrap();
    let js = jetstream::new(client);
    let mut found = 0;
    for stream in js.streams().try_collect::<Vec<_>>().await.unwrap() {
        let stream = js.get_stream(stream.config.name).await.unwrap();
        let subjects = stream.info_with_subjects(">").await.unwrap().try_collect::<Vec<_>>().await.unwrap();
        let of_it = subjects.iter().filter(|(subject, _)| subject.split('.').any(|token| token == vehicle));
        found += of_it.map(|(_, count)| count).sum::<usize>();
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_a_vehicle_that_is_bound_and_others_keep_all() {
    let root = tempfile::tempdir().unwrap();
    let config = format!("{QUICK}{}", held_back_by(root.path()));
    let deployment = deployment_by(&config, 1).await;
    let (mut gone, mut kept) = (Hand::new(&deployment, "GONE").await, Hand::new(&deployment, "KEPT").await);
    for hand in [&gone, &kept] {
        hand.send("on", "").await;
    }
    until_bound(&deployment, 2, Duration::from_secs(15)).await;
    let start = now() - 8 * SECOND;
    gone.drive(start, 8).await;
    kept.drive(start, 8).await;
    let archived = || -> usize {
        let archive = Archive::open(root.path());
        let days = archive.dates().unwrap().into_iter();
        let records = days.flat_map(|date| archive.read(&deployment.config.schema, &date).unwrap());
        records.filter(|((vehicle, _), _)| vehicle.as_str() == "GONE").count()
    };
    // And what could not be used.
    gone.send("speed", "nonsense").await;
    let of_gone = "select count(*) from telemetry join vehicle using (vehicle_id) where vin = 'GONE'";
    eventually("it has rows", Duration::from_secs(15), || async { count(&deployment, of_gone).await > 0 })
        .await;
    eventually("it has a dead letter", Duration::from_secs(5), || async {
        messages_of(&deployment, "GONE").await == 17 + 1 + 1 + 1 + 1
    })
    .await;

    eventually("it is archived", Duration::from_secs(10), async || archived() > 0).await;

    let erased = erase_vehicle(&deployment.config, &gone.vehicle).await.unwrap();
    let Erased { messages, rows, still_sends, .. } = erased;
    assert_eq!((messages.telemetry, messages.lifecycle), (17 + 1, 1), "{erased:?}");
    assert_eq!((messages.bind_requests, messages.dead_letters), (1, 1), "{erased:?}");
    assert!(rows.records > 0 && rows.trips == 1 && !still_sends, "{erased:?}");
    assert_eq!((messages_of(&deployment, "GONE").await, archived()), (0, 0));
    assert!(erased.archived > 0, "{erased:?}");
    for table in ["vehicle", "vehicle_latest", "trip"] {
        assert_eq!(count(&deployment, &format!("select count(*) from {table}")).await, 1, "{table}");
    }
    // The worker dropped it and stores nothing of it later, not even what was on its way.
    until_bound(&deployment, 1, Duration::from_secs(15)).await;
    sleep(Duration::from_secs(3)).await;
    let vehicles = "select count(distinct vehicle_id) from telemetry";
    assert_eq!((count(&deployment, vehicles).await, archived()), (1, 0));

    kept.send("off", "").await;
    deployment.until_released(Duration::from_secs(30)).await.unwrap();
    kept.assert_exact(&deployment).await;
    let again = erase_vehicle(&deployment.config, &gone.vehicle).await.unwrap();
    assert_eq!(again, Erased::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_unknown_to_the_database_still_leaves_the_streams() {
    let deployment = deployment(0).await;
    let mut hand = Hand::new(&deployment, "NEW").await;
    hand.speed(now(), 50.0).await;
    let erased = erase_vehicle(&deployment.config, &hand.vehicle).await.unwrap();
    assert_eq!(erased.messages.telemetry, 1);
    assert!(!erased.rows.known && !erased.still_sends, "{erased:?}");
    assert_eq!(messages_of(&deployment, "NEW").await, 0);
}
