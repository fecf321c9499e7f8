//! What a vehicle may do, and what it may not.

use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;

use super::guarded::{Guarded, stored};

const OWN: [&str; 6] = ["position", "speed", "fuel", "brake", "on", "off"];

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_publishes_its_own_six_subjects_and_gets_the_acks() {
    let (guarded, js) = Guarded::with_streams(&["CAR-1"]).await;
    let (car, refusals) = guarded.vehicle("CAR-1").await;
    let car = jetstream::new(car);
    for word in OWN {
        let ack = car.publish(format!("fleet.0.CAR-1.{word}"), "x".into()).await.unwrap().await.unwrap();
        let stream = if word.starts_with('o') { "LIFECYCLE_0" } else { "TELEMETRY_0" };
        assert_eq!(ack.stream, stream);
    }
    assert_eq!(stored(&js, "TELEMETRY_0").await.len() + stored(&js, "LIFECYCLE_0").await.len(), 6);
    assert!(refusals.all().is_empty(), "{:?}", refusals.all());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_may_publish_nothing_else() {
    let (guarded, js) = Guarded::with_streams(&["CAR-1", "CAR-2"]).await;
    let mut everything = js.client().subscribe(">").await.unwrap();
    js.client().flush().await.unwrap();
    let (car, refusals) = guarded.vehicle("CAR-1").await;
    let others = OWN.map(|word| format!("fleet.0.CAR-2.{word}"));
    let more = [
        "fleet.1.CAR-1.on",
        "fleet.0.CAR-1.doors",
        "fleet.0.CAR-1.speed.front",
        "fleet.0.CAR-1",
        "bind.0.CAR-1",
        "bind.0.CAR-2",
        "claim.0",
        "fence.0",
        "deadletter.0.CAR-2",
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.TELEMETRY_0",
        "$JS.API.STREAM.PURGE.TELEMETRY_0",
        "$JS.API.STREAM.DELETE.TELEMETRY_0",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.CONSUMER.CREATE.TELEMETRY_0",
        "$JS.API.CONSUMER.MSG.NEXT.BINDINGS_0.workers",
        "$JS.API.DIRECT.GET.TELEMETRY_0.fleet.0.CAR-2.position",
        "$JS.ACK.BINDINGS_0.workers.1.1.1.1.1",
        "$SYS.REQ.SERVER.PING",
        "_INBOX.CAR-2.x",
    ];
    for subject in others.into_iter().chain(more.map(str::to_owned)) {
        car.publish(subject.clone(), "{}".into()).await.unwrap();
        refusals.of("Publish", &subject).await;
    }
    car.publish("fleet.0.CAR-1.speed", "the end".into()).await.unwrap();
    let first = tokio::time::timeout(Duration::from_secs(5), everything.next()).await.unwrap().unwrap();
    assert_eq!((first.subject.as_str(), &first.payload[..]), ("fleet.0.CAR-1.speed", &b"the end"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_reads_its_own_inboxes_only() {
    let (guarded, js) = Guarded::with_streams(&["CAR-1", "CAR-2"]).await;
    let (car, refusals) = guarded.vehicle("CAR-1").await;
    let subjects = [
        ">",
        "*.>",
        "fleet.>",
        "fleet.0.*.*",
        "fleet.0.CAR-1.*",
        "fleet.0.CAR-2.position",
        "bind.>",
        "claim.0",
        "_INBOX.>",
        "_INBOX.*.>",
        "_INBOX.CAR-2.>",
        "_INBOX.fleet-live-0.>",
        "_R_.>",
        "$JS.>",
        "$SYS.>",
    ];
    let mut heard = Vec::new();
    for subject in subjects {
        heard.push(car.subscribe(subject).await.unwrap());
        refusals.of("Subscription", subject).await;
    }
    let mut own = car.subscribe("_INBOX.CAR-1.>").await.unwrap();
    car.flush().await.unwrap();
    let other = jetstream::new(guarded.vehicle("CAR-2").await.0);
    other.publish("fleet.0.CAR-2.position", "there".into()).await.unwrap().await.unwrap();
    js.publish("bind.0.CAR-2", "x".into()).await.unwrap().await.unwrap();
    car.publish_with_reply("fleet.0.CAR-1.speed", "_INBOX.CAR-1.1", "x".into()).await.unwrap();
    let ack = tokio::time::timeout(Duration::from_secs(5), own.next()).await.unwrap().unwrap();
    assert!(ack.payload.starts_with(b"{\"stream\":\"TELEMETRY_0\""));
    for mut subscription in heard {
        let next = tokio::time::timeout(Duration::from_millis(10), subscription.next()).await;
        assert!(!matches!(next, Ok(Some(_))), "{next:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_key_or_without_tls() {
    let (guarded, _) = Guarded::with_streams(&["CAR-1"]).await;
    let stranger = nkeys::KeyPair::new_user().seed().unwrap();
    assert!(guarded.log_in(&stranger, "CAR-1").await.is_err());
    let plain = async_nats::ConnectOptions::with_nkey(guarded.vehicle_seed("CAR-1"));
    let plain = plain.connect(guarded.url().replace("tls://", "nats://")).await;
    assert!(plain.is_err(), "without our CA the server's certificate must not be taken");
}
