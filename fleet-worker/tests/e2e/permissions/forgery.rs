//! The server doesn't check a message's reply subject, and JetStream sends its publish ack there. A
//! vehicle that names somebody else's subject as its reply makes the server write there.

use std::time::Duration;

use async_nats::jetstream;
use async_nats::{Client, ConnectOptions};
use fleet_worker::local::NatsServer;

use super::guarded::{Guarded, connect, stored, streams};
use crate::world::eventually;

/// Subjects of others that an ack is misdirected to.
const FORGED: [&str; 5] = [
    "fleet.0.CAR-2.off",
    "bind.0.CAR-3",
    "fence.0",
    "deadletter.0.CAR-2",
    "$JS.API.STREAM.PURGE.TELEMETRY_0",
];

/// Publishes two speeds and then one with each forged reply, and waits for an ack of its own, where acks come.
pub(super) async fn attack(car: &Client, acks: bool) {
    let publish = |reply: &'static str| car.publish_with_reply("fleet.0.CAR-1.speed", reply, "x".into());
    for reply in ["_INBOX.CAR-1.a", "_INBOX.CAR-1.b"].into_iter().chain(FORGED) {
        publish(reply).await.unwrap();
        car.flush().await.unwrap();
    }
    let js = jetstream::new(car.clone());
    let ack = js.publish("fleet.0.CAR-1.brake", "the end".into()).await.unwrap().await;
    assert_eq!(ack.is_ok(), acks, "{ack:?}");
}

/// What the attack has left behind.
pub(super) async fn harm(js: &jetstream::Context) -> Vec<String> {
    let mut found = Vec::new();
    for stream in ["LIFECYCLE_0", "BINDINGS_0", "DEADLETTER_0"] {
        found.extend(stored(js, stream).await.into_iter().map(|(subject, _)| subject));
    }
    let telemetry = stored(js, "TELEMETRY_0").await;
    found.extend(telemetry.iter().map(|(s, _)| s.clone()).filter(|s| !s.starts_with("fleet.0.CAR-1.")));
    let kept = js.get_stream("TELEMETRY_0").await.unwrap().cached_info().state.messages;
    if kept < 2 + FORGED.len() as u64 {
        found.push("purged".to_owned());
    }
    found.sort();
    found
}

const CAR: &str = r#"{ user: car, password: x, permissions: {
    publish: ["fleet.0.CAR-1.speed", "fleet.0.CAR-1.brake"], subscribe: ["_INBOX.CAR-1.>"] } }"#;

fn user(name: &str) -> ConnectOptions {
    let options = ConnectOptions::with_user_and_password(name.to_owned(), "x".to_owned());
    options.custom_inbox_prefix("_INBOX.CAR-1")
}

/// The harm on a server where the attack works, once all of `wanted` is done: JetStream stores the acks that
/// it misdirects after it has sent the last one.
async fn harm_on(server: &NatsServer, acks: bool, wanted: &[&str]) -> Vec<String> {
    let js = jetstream::new(connect(user("ops"), &server.url()).await.unwrap().0);
    streams(&js).await;
    attack(&connect(user("car"), &server.url()).await.unwrap().0, acks).await;
    let done = async || {
        let found = harm(&js).await;
        wanted.iter().all(|what| found.iter().any(|f| f == what))
    };
    eventually("the attack has worked", Duration::from_secs(10), done).await;
    harm(&js).await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_best_permissions_in_one_account_a_forged_reply_works() {
    let users = format!("authorization {{ users: [ {{ user: ops, password: x }}, {CAR} ] }}");
    let strict = NatsServer::builder().config(&users).start().await.unwrap();
    let all = ["bind.0.CAR-3", "deadletter.0.CAR-2", "fence.0", "fleet.0.CAR-2.off"];
    assert_eq!(harm_on(&strict, true, &all).await, all, "a strict API only saves the stream");
    let lax = NatsServer::builder().config(&users).jetstream("strict: false").start().await.unwrap();
    harm_on(&lax, true, &["purged"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicles_account_whose_stream_is_imported_loses_the_acks_and_prevents_nothing() {
    let accounts = format!(
        "accounts {{ FLEET {{ jetstream: enabled, users: [ {{ user: ops, password: x }} ],
                              imports: [ {{ stream: {{ account: VEHICLES, subject: \"fleet.>\" }} }} ] }}
                     VEHICLES {{ users: [ {CAR} ], exports: [ {{ stream: \"fleet.>\" }} ] }} }}"
    );
    let server = NatsServer::builder().config(&accounts).start().await.unwrap();
    let all = ["bind.0.CAR-3", "deadletter.0.CAR-2", "fence.0", "fleet.0.CAR-2.off"];
    assert_eq!(harm_on(&server, false, &all).await, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_shipped_a_forged_reply_reaches_nobody() {
    let (guarded, js) = Guarded::with_streams(&["CAR-1", "CAR-2"]).await;
    let (car, _) = guarded.vehicle("CAR-1").await;
    attack(&car, true).await;
    assert_eq!(harm(&js).await, [""; 0]);
    // Nor those replies that the server keeps for itself.
    for reply in ["_R_.x", "$JS.ACK.BINDINGS_0.workers.1.1.1.1.1", "_GR_.x.y.z"] {
        car.publish_with_reply("fleet.0.CAR-1.speed", reply, "x".into()).await.unwrap();
    }
    jetstream::new(car).publish("fleet.0.CAR-1.brake", "the end".into()).await.unwrap().await.unwrap();
    assert_eq!(harm(&js).await, [""; 0]);
}
